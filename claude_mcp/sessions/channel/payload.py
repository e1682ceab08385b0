"""How the agent gets into a container, and how a channel reaches it.

The agent's code travels as an archive in an environment variable of the container: any image
will do, a remote engine too, no further engine call is needed, and it is there again after a
restart.
"""

from __future__ import annotations

import base64
import functools
import importlib.resources
import io
import zipfile
import zlib
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from typing import Final

from claude_mcp.contract import places as contract

PACKAGE: Final = "claude_mcp"
AGENT_PARTS: Final = ("agent", "claude", "contract", "placing")
AGENT_MODULES: Final = (
    "proxy/__init__.py",
    "proxy/forwarder.py",
    "proxy/copying.py",
)
PROXY_PARTS: Final = ("proxy",)

# -I and -S: neither the project's directory nor the image's site-packages can change what the
# agent imports.
PYTHON: Final = ("python3", "-I", "-S", "-c")

_BOOT: Final = f"""\
import sys
if sys.version_info < (3, 9):
    sys.exit("claude-mcp: python3 is %d.%d here; 3.9 or later is needed" % sys.version_info[:2])
import binascii, os, zlib
os.makedirs({contract.RUN_DIRECTORY!r}, mode=0o700, exist_ok=True)
with open({contract.ARCHIVE_PATH!r}, "wb") as file:
    file.write(zlib.decompress(binascii.a2b_base64(os.environ[{contract.PAYLOAD_VARIABLE!r}])))
sys.path.insert(0, {contract.ARCHIVE_PATH!r})
"""
_AGENT: Final = f"{_BOOT}from claude_mcp.agent.boot import main\nmain()\n"
_PROXY: Final = f"{_BOOT}from claude_mcp.proxy.server import main\nmain(*sys.argv[1:])\n"

# The connector hands its own stdin and stdout to the agent and waits until it is let go; only
# built-in modules, because its start is what a first command waits for. The socket is missing
# for a moment after the container was started again.
_CONNECT: Final = f"""\
import _socket, sys, time
control = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
deadline = time.monotonic() + 5
while True:
    try:
        control.connect({contract.SOCKET_PATH!r})
        break
    except OSError as error:
        if time.monotonic() > deadline:
            sys.stderr.write("claude-mcp: no agent: %s\\n" % error)
            sys.exit({contract.NO_AGENT_EXIT_CODE})
        time.sleep(0.02)
streams = (0).to_bytes(4, sys.byteorder) + (1).to_bytes(4, sys.byteorder)
try:
    control.sendmsg([b"x"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
except BrokenPipeError:
    pass  # turned away already
if control.recv(1) == {contract.NO_ROOM!r}:
    sys.exit({contract.NO_ROOM_EXIT_CODE})
"""


@functools.cache
def archive() -> str:
    """The agent and what it imports: the value of ``contract.PAYLOAD_VARIABLE``."""
    return _archive(AGENT_PARTS, AGENT_MODULES)


@functools.cache
def proxy_archive() -> str:
    """The same for the container of a proxy."""
    return _archive(PROXY_PARTS, ())


def _archive(parts: tuple[str, ...], modules: tuple[str, ...]) -> str:
    """A zip, deflated as a whole (a quarter less than file by file), in base64."""
    # Only the name of the package is needed inside; what the host has in it is not.
    files = {f"{PACKAGE}/__init__.py": b""}
    for name in modules:
        files[f"{PACKAGE}/{name}"] = importlib.resources.files(PACKAGE).joinpath(name).read_bytes()
    for part in parts:
        root = importlib.resources.files(f"{PACKAGE}.{part}")
        for name, file in _modules(root):
            files[f"{PACKAGE}/{part}/{name}"] = file.read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name in sorted(files):
            # An entry's time is a constant, so that the same code makes the same archive.
            bundle.writestr(zipfile.ZipInfo(name), files[name])
    return base64.b64encode(zlib.compress(buffer.getvalue(), 9)).decode()


def _modules(directory: Traversable, within: str = "") -> Iterator[tuple[str, Traversable]]:
    """The modules in a directory and below it, by their paths in it."""
    for entry in directory.iterdir():
        name = f"{within}{entry.name}"
        if entry.is_dir():
            yield from _modules(entry, f"{name}/")
        elif name.endswith(".py"):
            yield name, entry


def agent_command(settings_json: str) -> tuple[str, ...]:
    """The container's command; the settings hold no secret."""
    return (*PYTHON, _AGENT, settings_json)


def proxy_command(policy_json: str) -> tuple[str, ...]:
    """The command of a proxy's container."""
    return (*PYTHON, _PROXY, contract.PROXY_SOCKET, policy_json)


def connect_command() -> tuple[str, ...]:
    """What a channel execs."""
    return (*PYTHON, _CONNECT)
