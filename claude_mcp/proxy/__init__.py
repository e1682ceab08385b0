"""The proxy of restricted sessions, which runs in its own container.

Standard library only, Python 3.9 or later. The proxy is a security boundary: everything a session
sends is hostile input. It refuses every request that is not allowed by host name or that another
implementation could parse differently.
"""

READY = "ready"
"""The line on stdout that reports that the proxy is listening."""
