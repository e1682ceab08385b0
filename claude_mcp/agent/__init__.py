"""What runs inside the container: the session's main process.

Standard library only, Python 3.9 or later; of ours it imports only ``claude_mcp.claude``.
Its code travels with the container (see ``sessions/payload.py``), so no image has to bring it.
"""
