"""The way into a session: from a port of the host to a server on the session's loopback.

Standard library only, Python 3.9 or later. ``outside`` runs in a container of its own, whose ports
the engine publishes; ``inside`` runs in the session, which needs no network for it. The session
connects to the outside through a Unix socket on a shared volume, and each of its connections waits
there for one visitor:

1. The outside writes the session's port that the visitor wants, and a line break.
2. The inside answers ``OPEN`` once it has connected to that port, or ``REFUSED``.
3. Bytes pass both ways until the server ends the connection.
"""

OPEN = b"+"
REFUSED = b"-"
FIRST_PORT = 20000
"""The outside listens at this port for the first of the session's ports, and so on."""
READY = "ready"
"""The line on stdout that reports that the outside is listening."""
