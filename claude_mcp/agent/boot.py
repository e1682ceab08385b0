"""The container's main process until the session is ready; `main` does the rest.

The creation of a session waits for this module only, so it imports nothing but built-in modules:
importing `json` would take as long as everything here.

On the first start the creator writes the secrets to stdin and commits. If it disconnects before
that, the session is abandoned and the agent ends with ``ABANDONED_EXIT_CODE``. On every later
start the agent serves at once, without secrets.
"""

import _signal  # type: ignore[import-not-found]  # `signal` brings enum along
import _socket
import os
import select
import sys
import zlib

from claude_mcp.agent import ending
from claude_mcp.contract import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

FIRST_LINE_SECONDS = 60.0
MOST_FACTS = 100
"""Upper bound on the mounts and on the devices that are reported."""
LONGEST_FACT = 255
"""Longer names are left out, because the creator reads only a line of limited length."""
VOLUME_NAME_CHARS = 64


def prepare_home() -> str:
    """The session's home: the image's if this user may write there, or else a directory of ours."""
    home = os.path.realpath(os.environ.get("HOME", "/"))
    # Podman gives an unknown user the working directory, here the project, as its home.
    in_project = os.path.commonpath((home, os.getcwd())) == os.getcwd()
    if home == "/" or in_project or not os.access(home, os.W_OK | os.X_OK):
        home = places.FALLBACK_HOME
        os.makedirs(home, mode=0o700, exist_ok=True)
    return home


def ensure_user_entry(home: str) -> None:
    """Give the session's user a name if the image permits it; git and ssh require one."""
    import pwd

    uid, gid = os.getuid(), os.getgid()
    try:
        pwd.getpwuid(uid)
    except KeyError:
        if os.access("/etc/passwd", os.W_OK):
            with open("/etc/passwd", "a", encoding="utf-8") as file:
                file.write(f"session:x:{uid}:{gid}:session:{home}:/bin/sh\n")


def listen() -> int:
    """Let channels connect; `main` serves them later. Returns the socket's descriptor."""
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    if os.path.exists(places.SOCKET_PATH):
        os.unlink(places.SOCKET_PATH)
    listener.bind(places.SOCKET_PATH)
    listener.listen(64)
    return listener.detach()


def surroundings() -> "list[str]":
    """What the engine made of this container, as facts for ``places.READY``."""
    facts = []
    for line in lines_of("/proc/self/status"):
        name, _, value = line.decode("ascii", "replace").partition(":")
        if name in places.PRIVILEGES:
            facts.append(f"{name}={value.strip()}")
    for line in lines_of("/proc/sys/kernel/random/boot_id"):
        facts.append(f"{places.KERNEL}={line.decode('ascii', 'replace')}")
    facts += [f"{places.MOUNT}={mount}" for mount in mounts()]
    try:
        devices = [escaped(name) for name in os.listdir(b"/dev")[:MOST_FACTS]]
        facts += [f"{places.DEVICE}={name}" for name in devices if len(name) <= LONGEST_FACT]
        with os.scandir(b".") as entries:
            names = [entry.name for entry, _ in zip(entries, range(places.MOST_ENTRIES))]
    except OSError:
        return facts
    return [*facts, f"{places.ENTRIES}={','.join(f'{zlib.crc32(name):x}' for name in names)}"]


def mounts() -> "list[str]":
    """Mounts outside of what the kernel shows; see ``places.MOUNT``."""
    found = []
    for line in lines_of("/proc/self/mountinfo"):
        _, _, _, shown, point, *_ = line.split(b" ")
        name = point.decode("ascii", "backslashreplace")
        # An image's own volume has a long random name.
        of_image = shown.endswith(b"/_data") and len(shown.split(b"/")[-2]) == VOLUME_NAME_CHARS
        of_kernel = (point + b"/").startswith((b"//", b"/proc/", b"/sys/", b"/dev/"))
        if of_kernel or of_image or len(name) > LONGEST_FACT:
            continue
        try:
            status = os.stat(name.encode().decode("unicode_escape").encode("latin-1"))
        except OSError:  # another mount hides it, or its parents are closed to this user
            continue
        found.append(f"{status.st_dev}:{status.st_ino}:{name}")
    return found[:MOST_FACTS]


def lines_of(path: str) -> "list[bytes]":
    try:
        with open(path, "rb") as file:
            return file.read().splitlines()
    except OSError:
        return []


def escaped(name: bytes) -> str:
    return name.replace(b"\\", b"\\134").replace(b" ", b"\\040").decode("ascii", "backslashreplace")


def is_installed(program: str) -> bool:
    directories = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return any(os.access(os.path.join(each, program), os.X_OK) for each in directories)


def say(line: str) -> None:
    """Write a line to the creator, which is attached to our stdout."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def accept_handover(state_path: str) -> str:
    """Report that the session is ready and wait for the creator's commit.

    Returns the creator's first line, which contains the secrets.
    """
    ready, _, _ = select.select([sys.stdin], [], [], FIRST_LINE_SECONDS)
    # In a container that was started by hand, nobody ever writes to stdin.
    first_line = sys.stdin.readline() if ready else ""
    if not first_line.endswith("\n"):
        abandon(state_path, "no settings arrived")
    programs = (*places.REQUIRED_PROGRAMS, *places.OPTIONAL_PROGRAMS)
    missing = [name for name in programs if not is_installed(name)]
    writable = os.access(".", os.W_OK | os.X_OK)
    access = places.READY + ("writable" if writable else "read-only")
    facts = [f"{places.MISSING}={name}" for name in missing] + surroundings()
    say(" ".join([access, *facts]))
    line = sys.stdin.readline().strip()
    if line.startswith(places.PROBE):
        say(places.PROBED + probe(*line[len(places.PROBE) :].split()[:2]))
        line = sys.stdin.readline().strip()
    if line == places.SEED:
        from claude_mcp.agent.workspace.seed import receive

        receive(os.getcwd(), os.path.dirname(state_path), say)
        line = sys.stdin.readline().strip()
    if line != places.COMMIT:
        abandon(state_path, "the creator disconnected")
    remember(state_path, "committed")
    end_quietly_on_term()
    say(places.COMMITTED)
    return first_line


def probe(host: str, port: str) -> str:
    """Connect to an address and close; ``PROBED_OK`` or why not."""
    try:
        family, _, _, _, address = _socket.getaddrinfo(host, port, 0, _socket.SOCK_STREAM)[0]
        connection = _socket.socket(family, _socket.SOCK_STREAM)
        connection.settimeout(places.PROBE_SECONDS)
        try:
            connection.connect(address)
        finally:
            connection.close()
    except OSError as error:
        return error.strerror or f"no answer within {places.PROBE_SECONDS:g} s"
    return places.PROBED_OK


def end_quietly_on_term() -> None:
    """From here on TERM is an orderly end. `main` installs a handler of its own later."""
    _signal.signal(_signal.SIGTERM, lambda number, frame: os._exit(0))


def remember(state_path: str, fact: str) -> None:
    temporary = state_path + ".new"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(f'{{"{fact}": true}}')
    os.replace(temporary, state_path)


def abandon(state_path: str, why: str) -> "NoReturn":
    remember(state_path, "abandoned")
    try:  # noqa: SIM105 boot imports built-in modules only
        sys.stderr.write(f"the creation of this session was never completed: {why}\n")
    except OSError:
        pass  # the exit code says it too
    ending.end(places.ABANDONED_EXIT_CODE)


def main() -> None:
    home = prepare_home()
    os.umask(0o022)
    ensure_user_entry(home)
    directory = os.path.join(home, places.STATE_DIRECTORY)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    state_path = os.path.join(directory, places.STATE_FILE)
    listener = listen()
    first_line = None if os.path.exists(state_path) else accept_handover(state_path)
    from claude_mcp.agent.main import serve

    serve(listener, home, first_line)
