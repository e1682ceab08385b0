"""Tar archives into and out of a pod.

Kubernetes copies nothing itself, so programs of ours pack and unpack, with the image's Python. The
rule: each says at its end that it is complete, because a connection that breaks looks to
``kubectl`` like a program that ended well.
"""

from __future__ import annotations

import re
from typing import Final

from claude_mcp.engine.engine import CopyIncomplete, PathNotFound
from claude_mcp.engine.kubernetes.failures import TITLE
from claude_mcp.errors import EngineError

PYTHON: Final = ("python3", "-I", "-S", "-c")
COMPLETE: Final = "claude-mcp: the copy is complete"
NO_PATH: Final = "claude-mcp: no such path"
DISAPPEARED: Final = "claude-mcp: disappeared: "
UNREADABLE: Final = "claude-mcp: failed: "
KILLED: Final = "command terminated with exit code 137"
"""What ``kubectl`` says when our program was killed; by itself it always ends with 0."""

_BEGIN: Final = """\
import os, sys, tarfile
def end(word):
    sys.stdout.flush()
    sys.stderr.write(word + "\\n")
    sys.exit(0)
"""
# Owners are not kept: an ordinary user cannot give files away. What the archive holds was packed on
# the host.
_IN: Final = f"""\
{_BEGIN}
if not os.path.isdir(sys.argv[1]):
    end({NO_PATH!r})
try:
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
        archive.extraction_filter = lambda member, path: member
        archive.extractall(sys.argv[1])
except (OSError, tarfile.TarError) as error:
    end({UNREADABLE!r} + str(error))
end({COMPLETE!r})
"""
# A tar archive has a file's size before its content, so a file that shrinks meanwhile breaks it.
_OUT: Final = f"""\
{_BEGIN}
top = os.path.realpath(sys.argv[1])
if not os.path.lexists(top):
    end({NO_PATH!r})
gone = []
def add(path, name):
    try:
        archive.add(path, name, recursive=False)
        below = sorted(os.listdir(path)) if os.path.isdir(path) and not os.path.islink(path) else ()
    except FileNotFoundError:
        gone.append(name)
        return
    for each in below:
        add(os.path.join(path, each), name + "/" + each)
try:
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        add(top, os.path.basename(os.path.normpath(sys.argv[1])))
except (OSError, RecursionError, tarfile.TarError) as error:
    end({UNREADABLE!r} + str(error))
for name in gone:
    sys.stderr.write({DISAPPEARED!r} + name + "\\n")
end({COMPLETE!r})
"""


def in_command(directory: str) -> tuple[str, ...]:
    """Unpacks the archive on stdin into a directory."""
    return (*PYTHON, _IN, directory)


def out_command(path: str) -> tuple[str, ...]:
    """Writes the archive of a path to stdout; follows a link at the path itself."""
    return (*PYTHON, _OUT, path)


def failure(said: str, path: str) -> EngineError | None:
    """What a program of ours says that it could not do.

    ``said`` is its stderr, which ``kubectl`` may add to.
    """
    lines = said.splitlines()
    if NO_PATH in lines:
        return PathNotFound(f"{TITLE} cannot find {path} in the container.")
    if KILLED in lines:
        return CopyIncomplete(f"the session ended while {path} was copied.")
    for line in lines:
        if line.startswith(UNREADABLE):
            why = line.removeprefix(UNREADABLE)
            return EngineError(f"{TITLE} could not copy {path}: {why}.")
    return None


def is_complete(said: str) -> bool:
    return COMPLETE in said.splitlines()


def check_disappeared(said: str, path: str) -> None:
    """Raises CopyIncomplete if files disappeared while they were packed."""
    missing = len(re.findall(rf"^{re.escape(DISAPPEARED)}", said, re.MULTILINE))
    if missing:
        raise CopyIncomplete(
            f"{TITLE} left out {missing} or more files of {path}, which disappeared while they "
            "were read."
        )
