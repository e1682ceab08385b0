"""The way out of a session whose network is restricted: runs in a container of its own.

Standard library only, Python 3.9 or later; imports nothing of ours but itself. It is a security
boundary: what comes from a session is hostile input, and what is not allowed by name, or cannot be
understood beyond doubt, is refused.
"""

READY = "ready"
"""What its main process says on stdout once it listens."""
