"""Paths, exit codes and the lines of the handshake that host and agent agree on."""

WORKSPACE = "/workspace"
"""The project's path, and the working directory of Claude and of every command."""

PAYLOAD_VARIABLES = ("CLAUDE_MCP_AGENT", "CLAUDE_MCP_AGENT_2")
"""The container's environment variables that contain the agent's code, parts of a base64 zip."""

RUN_DIRECTORY = "/dev/shm/claude-mcp"
"""The agent's own directory, mode 0700, in the tmpfs that every container has. Each start empties
it.

A tmpfs of our own would not work: when a container is restarted, runc gives it the mode of the
directory underneath, which is 0755 and root's (measured, Podman 4.3 rootless).
"""

SOCKET_PATH = RUN_DIRECTORY + "/socket"

ARCHIVE_PATH = RUN_DIRECTORY + "/agent.zip"
"""The path of the unpacked ``PAYLOAD_VARIABLES``."""

PROXY_DIRECTORY = "/run/claude-mcp-proxy"
"""The directory of the proxy's socket, in a restricted session and in its proxy."""
PROXY_SOCKET = PROXY_DIRECTORY + "/socket"

PORTS_DIRECTORY = "/run/claude-mcp-ports"
"""The directory of the socket through which published ports lead into a session."""
PORTS_SOCKET = PORTS_DIRECTORY + "/socket"

HOST_HOOKS = "/run/claude-mcp-git/hooks"
"""Where the session sees the hooks of the project's repository as they are on the host."""

PROXY_PORT = 3128
"""The port on the session's loopback where its programs find the proxy."""
ABANDONED_EXIT_CODE = 78
"""The agent's exit code if the creation of the session was never completed."""

EXPIRED_EXIT_CODE = 79
"""The agent's exit code at the end of the session's lifetime or after its idle timeout."""

EXPIRED_WITH_WORK_EXIT_CODE = 80
"""The same, if the session's clone or copy holds work that is nowhere else, or may hold some."""

EXPIRY_GRACE_SECONDS = 60.0
"""How long the result of a turn that outlived the session's lifetime can be fetched, and the work
of a session that is started again after its lifetime."""

NO_AGENT_EXIT_CODE = 97
"""The connector's exit code if no agent answers at the socket."""

NO_ROOM_EXIT_CODE = 98
"""The connector's exit code if the agent cannot start a thread for another channel."""

NO_ROOM = b"!"
"""What the agent sends such a connector."""

REQUIRED_PROGRAMS = ("claude", "ps")
"""What an image must contain besides python3 and sh; without those two, the agent could not even
report what is missing."""

GIT_LFS = "git-lfs"
OPTIONAL_PROGRAMS = (GIT_LFS,)
"""What some projects need; the agent reports these as missing too."""

STATE_DIRECTORY = ".claude-mcp"
"""The agent's directory in the session's home."""
CODE_FILE = "code"
"""The agent's code and settings in that directory, if they came on stdin."""
CODE_SIZE_DIGITS = 10
"""They follow their size in bytes, a decimal number with leading zeros. The first line is the code,
as ``PAYLOAD_VARIABLES`` hold it, and the second one the settings."""
FALLBACK_HOME = "/var/tmp/claude-mcp-home"
"""The session's home if its user may not write to the image's."""
EXIT_FILE_VARIABLE = "CLAUDE_MCP_EXIT_FILE"
"""The variable that names a file for the exit code; see `agent.ending`."""
STATE_FILE = "state.json"

READY = "ready "
"""Followed by ``writable`` or ``read-only``, and by facts of the form ``name=value`` about what the
engine made of the container. Bytes of a path that are not ASCII, and blanks, are escaped."""
MISSING = "missing"
"""A missing program. A name may occur again; each of the others may be missing."""
KERNEL = "kernel"
"""The kernel's boot id."""
PRIVILEGES = ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")
"""As in proc_pid_status(5)."""
MOUNT = "mount"
"""``DEVICE:INODE:PATH`` of a mount outside /proc, /sys and /dev. Image volumes are left out."""
DEVICE = "device"
"""The name of an entry of /dev."""
ENTRIES = "entries"
"""CRC-32 sums, in hexadecimal and separated by commas, of names in the project: of all names, or of
``MOST_ENTRIES`` of them."""
MOST_ENTRIES = 32
PROBE = "probe "
"""Followed by a host and a port. The agent connects, closes, and answers ``PROBED`` and the
outcome: ``PROBED_OK`` or the reason."""
PROBED = "probed "
PROBED_OK = "ok"
PROBE_SECONDS = 3.0
COMMIT = "commit"
COMMITTED = "committed"
SEED = "seed"
"""What the host writes before ``COMMIT`` if the workspace is not a mount; see `workspaces`."""
