"""The container's main process up to its readiness; what comes then is in `main`.

The creation of a session waits for this module and for nothing else of ours, so it imports
built-in modules only: `json` alone would take as long as all of this.

On the first start the creator hands over settings and secrets on stdin and commits; if it
vanishes before that, the session was never made and the agent ends with
``ABANDONED_EXIT_CODE``. On any later start the agent serves at once, without secrets, and says
so when they are needed.
"""

import _signal  # type: ignore[import-not-found]  # `signal` brings enum along
import _socket
import os
import select
import sys

from claude_mcp.contract import places as contract

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

TAKE_OVER_SECONDS = 60.0
FALLBACK_HOME = "/var/tmp/claude-mcp-home"


def prepare_home() -> str:
    """The session's home: the image's, if this user may write there, else one of our own."""
    home = os.path.realpath(os.environ.get("HOME", "/"))
    # Podman names the working directory, which is the project, as the home of an unknown user.
    in_project = os.path.commonpath((home, os.getcwd())) == os.getcwd()
    if home == "/" or in_project or not os.access(home, os.W_OK | os.X_OK):
        home = FALLBACK_HOME
        os.makedirs(home, mode=0o700, exist_ok=True)
    return home


def ensure_user_entry(home: str) -> None:
    """Give the session's user a name where the image lets us; git and ssh want one."""
    import pwd

    uid, gid = os.getuid(), os.getgid()
    try:
        pwd.getpwuid(uid)
    except KeyError:
        if os.access("/etc/passwd", os.W_OK):
            with open("/etc/passwd", "a", encoding="utf-8") as file:
                file.write(f"session:x:{uid}:{gid}:session:{home}:/bin/sh\n")


def listen() -> int:
    """The descriptor of a socket where channels can connect, though not be served yet."""
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    if os.path.exists(contract.SOCKET_PATH):
        os.unlink(contract.SOCKET_PATH)
    listener.bind(contract.SOCKET_PATH)
    listener.listen(64)
    return listener.detach()


def present(program: str) -> bool:
    directories = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return any(os.access(os.path.join(each, program), os.X_OK) for each in directories)


def say(line: str) -> None:
    """To the creator, who is attached to our stdout."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def take_over(state_path: str) -> str:
    """The first start: readiness out, and in the creator's commit and what it hands over."""
    ready, _, _ = select.select([sys.stdin], [], [], TAKE_OVER_SECONDS)
    # Started by hand, the container has an open stdin that nobody ever writes to.
    handed = sys.stdin.readline() if ready else ""
    if not handed.endswith("\n"):
        abandon(state_path, "no settings arrived")
    missing = [name for name in contract.REQUIRED_PROGRAMS if not present(name)]
    writable = os.access(".", os.W_OK | os.X_OK)
    say(" ".join([contract.READY + ("writable" if writable else "read-only"), *missing]))
    if sys.stdin.readline().strip() != contract.COMMIT:
        abandon(state_path, "the creator went away")
    remember(state_path, "committed")
    end_quietly_on_term()
    say(contract.COMMITTED)
    return handed


def end_quietly_on_term() -> None:
    """From here on a TERM is an orderly end; `main` takes over when it is imported."""
    _signal.signal(_signal.SIGTERM, lambda number, frame: os._exit(0))


def remember(state_path: str, fact: str) -> None:
    temporary = state_path + ".new"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(f'{{"{fact}": true}}')
    os.replace(temporary, state_path)


def abandon(state_path: str, why: str) -> "NoReturn":
    remember(state_path, "abandoned")
    sys.stderr.write(f"session was never completed: {why}\n")
    sys.exit(contract.ABANDONED_EXIT_CODE)


def main() -> None:
    home = prepare_home()
    os.umask(0o022)
    ensure_user_entry(home)
    directory = os.path.join(home, contract.STATE_DIRECTORY)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    state_path = os.path.join(directory, contract.STATE_FILE)
    listener = listen()
    handed = None if os.path.exists(state_path) else take_over(state_path)
    from claude_mcp.agent.main import serve

    serve(listener, home, handed)
