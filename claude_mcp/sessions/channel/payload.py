"""How the agent gets into a container, and how a channel reaches it.

The agent's code travels as an archive in an environment variable of the container. So it reaches
any image and a remote engine, needs no further engine call, and is there again after a restart.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final

from claude_mcp.contract import places

AGENT_PARTS: Final = ("agent", "claude", "contract", "placing")
AGENT_MODULES: Final = (
    "proxy/__init__.py",
    "proxy/forwarder.py",
    "proxy/connections.py",
    "ports/__init__.py",
    "ports/inside.py",
)
PROXY_PARTS: Final = ("proxy",)
PART_CHARS: Final = 96 * 1024
PORTS_MODULES: Final = (
    "ports/__init__.py",
    "ports/outside.py",
    "proxy/__init__.py",
    "proxy/connections.py",
)

WAIT_SECONDS: Final = 60
"""How long a container without code waits for more of it."""

# With -I and -S, neither the project's directory nor the image's site-packages can change what
# the agent imports.
PYTHON: Final = ("python3", "-I", "-S", "-c")

_BOOT: Final = f"""\
import sys
if sys.version_info < (3, 9):
    sys.exit("claude-mcp: python3 is %d.%d here; 3.9 or later is needed" % sys.version_info[:2])
import binascii, os, zlib
os.makedirs({places.RUN_DIRECTORY!r}, mode=0o700, exist_ok=True)
with open({places.ARCHIVE_PATH!r}, "wb") as file:
    parts = map(os.environ.get, {places.PAYLOAD_VARIABLES!r})
    file.write(zlib.decompress(binascii.a2b_base64("".join(filter(None, parts)))))
sys.path.insert(0, {places.ARCHIVE_PATH!r})
"""
# The code arrives on stdin at the first start, and is kept for the next ones. The bytes behind it
# must stay unread: they are the agent's.
_RECEIVE: Final = f"""\
import sys
if sys.version_info < (3, 9):
    sys.exit("claude-mcp: python3 is %d.%d here; 3.9 or later is needed" % sys.version_info[:2])
import binascii, os, select, zlib
kept = os.path.join(os.environ["HOME"], {places.STATE_DIRECTORY!r}, {places.CODE_FILE!r})
if os.path.exists({places.RUN_DIRECTORY!r}):
    import shutil
    shutil.rmtree({places.RUN_DIRECTORY!r})
os.makedirs({places.RUN_DIRECTORY!r}, mode=0o700)
def read(count):
    data = b""
    while len(data) < count and select.select([0], [], [], {WAIT_SECONDS})[0]:
        piece = os.read(0, count - len(data))
        if not piece:
            break
        data += piece
    return data
if os.path.exists(kept):
    with open(kept, "rb") as file:
        data = file.read()
else:
    size = read({places.CODE_SIZE_DIGITS})
    data = read(int(size)) if size.isdigit() else b""
    if not size.isdigit() or len(data) < int(size):
        sys.stderr.write("the creation of this session was never completed: no code arrived\\n")
        code, path = {places.ABANDONED_EXIT_CODE}, os.environ.get({places.EXIT_FILE_VARIABLE!r})
        if path:
            with open(path, "w") as file:
                file.write(str(code))
            code = 0
        sys.exit(code)
    os.makedirs(os.path.dirname(kept), mode=0o700, exist_ok=True)
    with open(kept + ".new", "wb") as file:
        file.write(data)
    os.rename(kept + ".new", kept)
code, _, settings = data.partition(b"\\n")
with open({places.ARCHIVE_PATH!r}, "wb") as file:
    file.write(zlib.decompress(binascii.a2b_base64(code)))
sys.path.insert(0, {places.ARCHIVE_PATH!r})
sys.argv[1:] = [settings.decode()]
"""
_AGENT: Final = f"{_BOOT}from claude_mcp.agent.boot import main\nmain()\n"
_PORTS: Final = f"{_BOOT}from claude_mcp.ports.outside import main\nmain(*sys.argv[1:])\n"
_PROXY: Final = f"{_BOOT}from claude_mcp.proxy.server import main\nmain(*sys.argv[1:])\n"

# The connector passes its own stdin and stdout to the agent and waits until the agent releases it.
# It imports only built-in modules, because a first command waits for its start. After a restart
# of the container, the socket is missing for a moment.
_CONNECT: Final = f"""\
import _socket, sys, time
control = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
deadline = time.monotonic() + 5
while True:
    try:
        control.connect({places.SOCKET_PATH!r})
        break
    except OSError as error:
        if time.monotonic() > deadline:
            sys.stderr.write("claude-mcp: no agent: %s\\n" % error)
            sys.exit({places.NO_AGENT_EXIT_CODE})
        time.sleep(0.02)
streams = (0).to_bytes(4, sys.byteorder) + (1).to_bytes(4, sys.byteorder)
try:
    control.sendmsg([b"x"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
except BrokenPipeError:
    pass  # refused already
if control.recv(1) == {places.NO_ROOM!r}:
    sys.exit({places.NO_ROOM_EXIT_CODE})
"""

_TERMINAL: Final = f"""\
import sys
sys.path.insert(0, {places.ARCHIVE_PATH!r})
from claude_mcp.agent.terminals import on_terminal
on_terminal(sys.argv[1])
"""


@functools.cache
def archive() -> str:
    """The agent and its imports: what ``PAYLOAD_VARIABLES`` hold. Packed once per process."""
    return _packed(AGENT_PARTS, AGENT_MODULES)


@functools.cache
def proxy_archive() -> str:
    """The same for a proxy's container."""
    return _packed(PROXY_PARTS, ())


@functools.cache
def ports_archive() -> str:
    """The same for the container through which a session's published ports lead."""
    return _packed((), PORTS_MODULES)


def variables(packed: str) -> dict[str, str]:
    """The environment that carries an archive; a part that is not needed is left out.

    The kernel takes no variable over 128 KiB.
    """
    cut = [packed[start : start + PART_CHARS] for start in range(0, len(packed), PART_CHARS)]
    return dict(zip(places.PAYLOAD_VARIABLES, cut, strict=False))


def _packed(parts: tuple[str, ...], modules: tuple[str, ...]) -> str:
    # Only who creates a container packs, and what that imports takes long.
    from claude_mcp.sessions.channel.packing import pack

    return pack(parts, modules)


def agent_command(settings_json: str) -> tuple[str, ...]:
    """The container's command. The settings must hold no secret: argv is public."""
    return (*PYTHON, _AGENT, settings_json)


def receiving_command() -> tuple[str, ...]:
    """The container's command if the code and the settings arrive on its stdin."""
    return (*PYTHON, f"{_RECEIVE}from claude_mcp.agent.boot import main\nmain()\n")


def receiving_proxy_command() -> tuple[str, ...]:
    """The same for a proxy that is reached by address; its settings are the policy."""
    start = "from claude_mcp.proxy.server import main_at_ports\nmain_at_ports(*sys.argv[1:])\n"
    return (*PYTHON, f"{_RECEIVE}{start}")


def delivery(packed: str, settings_json: str) -> bytes:
    """What ``receiving_command`` reads before the agent reads its first line."""
    data = f"{packed}\n{settings_json}".encode()
    return b"%0*d" % (places.CODE_SIZE_DIGITS, len(data)) + data


def proxy_command(policy_json: str) -> tuple[str, ...]:
    """The command of a proxy's container."""
    return (*PYTHON, _PROXY, places.PROXY_SOCKET, policy_json)


def ports_command(ports: Sequence[int]) -> tuple[str, ...]:
    """The command of the container through which these ports of a session are published."""
    return (*PYTHON, _PORTS, places.PORTS_SOCKET, *map(str, ports))


def connect_command() -> tuple[str, ...]:
    """The command that a channel runs with ``exec``."""
    return (*PYTHON, _CONNECT)


def terminal_command(token: str) -> tuple[str, ...]:
    """The command that starts a program on a terminal; see ``agent.terminals``."""
    return (*PYTHON, _TERMINAL, token)
