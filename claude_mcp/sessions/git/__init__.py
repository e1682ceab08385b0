"""Protects the host's git from what a session writes into a repository."""
