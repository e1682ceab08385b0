"""Transfers into and out of a session, and the tar streams that carry them."""
