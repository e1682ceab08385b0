"""What both sides of the wall must agree on."""

WORKSPACE = "/workspace"
"""Where the project is; Claude's working directory and that of every command."""

PAYLOAD_VARIABLE = "CLAUDE_MCP_AGENT"
"""The container's variable that holds the agent's code, a base64 zip."""

RUN_DIRECTORY = "/dev/shm/claude-mcp"
"""The agent's own directory, mode 0700, in the tmpfs that every container has, empty at each start.

A tmpfs of ours would not do: when a container starts again, runc gives it the mode of the
directory that the first start left below it, 0755 of root (measured, Podman 4.3 rootless).
"""

SOCKET_PATH = RUN_DIRECTORY + "/socket"

RESTRICTED = "restricted"
NO_NETWORK = "none"
"""What the setting ``network`` may be; without it, the network is open."""

ARCHIVE_PATH = RUN_DIRECTORY + "/agent.zip"
"""Where the code of ``PAYLOAD_VARIABLE`` lies then."""

PROXY_DIRECTORY = "/run/claude-mcp-proxy"
"""Where the socket of its proxy is in a session with a restricted network, and in the proxy."""
PROXY_SOCKET = PROXY_DIRECTORY + "/socket"

PROXY_PORT = 3128
"""Of the session's loopback, where its programs find the proxy."""
PROXY_GONE = {"proxy": "gone"}
"""The event by which a front end is asked to start the proxy again."""

ABANDONED_EXIT_CODE = 78
"""The agent's exit code when the creation of the session was never completed."""

EXPIRED_EXIT_CODE = 79
"""The agent's exit code when the session's time was over, or nobody had used it for long."""

EXPIRY_GRACE_SECONDS = 60.0
"""How long the result of a turn that outlived the session's time can be fetched."""

NO_AGENT_EXIT_CODE = 97
"""The connector's exit code when no agent answers at the socket."""

NO_ROOM_EXIT_CODE = 98
"""The connector's exit code when the agent can serve no further channel."""

NO_ROOM = b"!"
"""What the agent tells a connector then."""

REQUIRED_PROGRAMS = ("claude", "ps")
"""Besides python3 and sh, without which the agent could not even say what is missing."""

STATE_DIRECTORY = ".claude-mcp"
"""In the session's home."""
STATE_FILE = "state.json"

READY = "ready "
"""Then ``writable`` or ``read-only``, and each program that is missing."""
COMMIT = "commit"
COMMITTED = "committed"
