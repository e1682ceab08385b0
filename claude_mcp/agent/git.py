"""Prepares git for the session: who commits, which repository it trusts, and its hooks.

Settings go where git looks last, below those of the project and of the session's own user.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence

from claude_mcp.agent.store import files
from claude_mcp.agent.store.state import log
from claude_mcp.contract import places

MAX_HOOKS = 1_000
MAX_HOOK_BYTES = 1024 * 1024
SAMPLE = ".sample"

# A repository that belongs to somebody else is no trap: nobody else works in a session.
# To 'git gc', worktrees on the host look as if they had been removed.
GENERAL = f"""\
[safe]
\tdirectory = {places.WORKSPACE}
[gc]
\tworktreePruneExpire = never
"""
LFS = """\
[filter "lfs"]
\tclean = git-lfs clean -- %f
\tsmudge = git-lfs smudge -- %f
\tprocess = git-lfs filter-process
\trequired = true
"""
# What is checked out is the pointer then, and a whole file is not added in its place.
LFS_MISSING = """\
[filter "lfs"]
\tclean = git-lfs clean -- %f
\tsmudge = cat
\trequired = true
"""


def prepare(
    hooks: str | None, identity: Sequence[Sequence[str]] | None, environment: Mapping[str, str]
) -> None:
    """Copy the host's hooks to ``hooks``, and at the first start write git's settings.

    ``identity`` is what says who commits; None if the container was started again.
    """
    try:
        if identity is not None:
            _configure(identity, environment)
        if hooks is not None:
            _copy_hooks(places.HOST_HOOKS, hooks)
    except (OSError, ValueError) as error:
        log(f"git could not be prepared: {error}")


def _configure(identity: Sequence[Sequence[str]], environment: Mapping[str, str]) -> None:
    base = environment.get("XDG_CONFIG_HOME") or os.path.join(environment["HOME"], ".config")
    path = os.path.join(base, "git", "config")
    known = b""
    with contextlib.suppress(FileNotFoundError):
        known = files.read(path)
    programs = (os.path.join(each, places.GIT_LFS) for each in os.get_exec_path(environment))
    lfs = LFS if any(os.access(each, os.X_OK) for each in programs) else LFS_MISSING
    text = "".join((GENERAL, lfs, *_sections(identity)))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # What the image says comes later, and therefore wins.
    files.replace(path, text.encode("utf-8", "surrogateescape") + known)


def _sections(identity: Sequence[Sequence[str]]) -> Iterator[str]:
    for name, value in identity:
        section, _, key = name.partition(".")
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        yield f'[{section}]\n\t{key} = "{quoted}"\n'


def _copy_hooks(source: str, target: str) -> None:
    """Copy what git may run, with the scripts and links beside it."""
    left = MAX_HOOKS
    waiting = [""]
    while waiting:
        directory = waiting.pop()
        with os.scandir(os.path.join(source, directory)) as entries:
            for entry in entries:
                name = os.path.join(directory, entry.name)
                destination = os.path.join(target, name)
                left -= 1
                if left < 0:
                    raise OSError(f"there are more than {MAX_HOOKS} hooks")
                if entry.is_symlink():
                    os.symlink(os.readlink(entry.path), destination)
                elif entry.is_dir():
                    os.mkdir(destination)
                    waiting.append(name)
                elif entry.is_file() and not name.endswith(SAMPLE):
                    _copy_hook(entry, destination)


def _copy_hook(entry: os.DirEntry[str], destination: str) -> None:
    status = entry.stat()
    if status.st_size > MAX_HOOK_BYTES:
        raise OSError(f"the hook {entry.name} is larger than {MAX_HOOK_BYTES} bytes")
    with open(entry.path, "rb") as file:
        content = file.read(MAX_HOOK_BYTES)
    with open(destination, "xb") as file:
        file.write(content)
    os.chmod(destination, status.st_mode & 0o777)
