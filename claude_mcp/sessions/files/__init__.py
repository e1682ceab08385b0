"""Transfers into and out of a session, and their tar streams."""
