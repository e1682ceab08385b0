"""The proxy of restricted sessions, which runs in its own container.

Standard library only, Python 3.9 or later. The proxy is a security boundary: everything a session
sends is hostile input. It refuses every request that is not allowed by host name or that another
implementation could parse differently.
"""

PORT = 3128
"""Where the proxy listens if sessions reach it by its address."""
DENIED_PORT = 3129
"""Where it listens then too: that a session cannot reach it shows that its network is limited."""
ADDRESS = "address"
"""The field of a forwarder's opening line with the proxy's address."""
READY = "ready"
"""The line on stdout that reports that the proxy is listening."""
