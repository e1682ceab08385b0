"""Makes the workspace of a new session from what the host unpacked into a staging directory.

It runs between ``READY`` and ``COMMIT``: a session whose host disappears meanwhile is abandoned
like any other whose creation did not complete.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from claude_mcp.agent.store import files
from claude_mcp.agent.workspace.checkpoints import CREATE, FIRST_TAKE_SECONDS, Checkpoints
from claude_mcp.agent.workspace.git import Deadline, Git, GitFailed, NoGit
from claude_mcp.contract import workspaces
from claude_mcp.contract.messages import Malformed, from_json, to_json
from claude_mcp.contract.operations import Staging
from claude_mcp.contract.workspaces import FILES, LFS, PACKS, Seed, Submodule
from claude_mcp.placing import descriptors, placement
from claude_mcp.placing.staging import staging

SAID_CHARS = 300
SEAL = "seal"
"""What the host made of the tree with which a copy began."""
CLONE_SECONDS = 900.0
TRUSTED = ("-c", "safe.directory=*")
"""The workspace itself belongs to whoever the image says."""
LFS_OPTIONS = (
    "-c", "filter.lfs.clean=git-lfs clean -- %f", "-c", "filter.lfs.smudge=git-lfs smudge -- %f",
    "-c", "filter.lfs.process=git-lfs filter-process",
)  # fmt: skip
"""Without filters, ``git lfs checkout`` does nothing."""


class Unseeded(Exception):
    """The workspace cannot be made."""


def receive(workspace: str, directory: str, say: Callable[[str], None]) -> None:
    """The agent's half of the exchange that ``contract.workspaces`` describes.

    ``directory`` is the agent's own, in the session's home.
    """
    try:
        with descriptors.opened(workspace) as parent, staging(parent) as (name, _):
            path = os.path.join(workspace, name)
            for each in (PACKS, FILES, LFS):
                os.mkdir(os.path.join(path, each))
            say(workspaces.STAGING + _line(Staging(path, os.getuid(), os.getgid())))
            seed = from_json(Seed, json.loads(sys.stdin.readline() or "null"))
            make(workspace, path, seed)
        checkpoints = Checkpoints(directory, workspace, clone=seed.kind == workspaces.CLONE)
        taken = checkpoints.take(CREATE, FIRST_TAKE_SECONDS)
        if taken.checkpoint is None:
            raise Unseeded(f"its first state cannot be kept: {taken.reason}")
        say(workspaces.SEEDED + json.dumps(taken.checkpoint.tree))
        if seed.base is None:
            seal = sys.stdin.readline().strip()
            files.replace(os.path.join(directory, SEAL), seal.encode())
    except (
        Unseeded,
        GitFailed,
        NoGit,
        OSError,
        ValueError,
        Malformed,
        placement.PlaceError,
    ) as error:
        say(workspaces.UNSEEDED + json.dumps(str(error)[:SAID_CHARS]))


def make(workspace: str, staged: str, seed: Seed) -> None:
    """Make the workspace of what is in the directory ``staged``.

    Raises:
        GitFailed, NoGit, OSError, PlaceError
    """
    if seed.kind == workspaces.CLONE:
        _clone(workspace, staged, seed)
        for path in seed.deleted:
            _remove(os.path.join(workspace, path))
    content = os.path.join(staged, FILES)
    with descriptors.opened(workspace) as parent, descriptors.opened(content) as source:
        for name in sorted(os.listdir(content)):
            target = os.path.join(workspace, name)
            placement.place(source, name, parent, target, overwrite=True)


def _clone(workspace: str, staged: str, seed: Seed) -> None:
    # What files of Git LFS refer to is not there to be fetched.
    environment = {**os.environ, "GIT_LFS_SKIP_SMUDGE": "1"}
    git, deadline = Git.of_user(workspace, environment, *TRUSTED), Deadline(CLONE_SECONDS)
    start = ("init", "--quiet", "--template=")
    git.short(
        deadline, *start, f"--object-format={seed.object_format}", f"--initial-branch={seed.branch}"
    )
    if seed.base is None:
        return
    _take_objects(workspace, staged, "", seed.shallow)
    references = {
        **seed.references,
        f"refs/heads/{seed.branch}": seed.base,
        workspaces.SEED_REF: seed.base,
    }
    lines = "".join(f"create {name} {target}\n" for name, target in references.items())
    git.short(deadline, "update-ref", "--stdin", stdin=lines.encode())
    git.short(deadline, "reset", "--quiet", "--hard")
    for module in (from_json(Submodule, each) for each in seed.submodules):
        path = os.path.join(workspace, module.path)
        inner = Git.of_user(path, environment, *TRUSTED)
        inner.short(deadline, *start, f"--object-format={module.object_format}")
        _take_objects(path, staged, module.prefix, module.shallow)
        inner.short(deadline, "update-ref", "--no-deref", "HEAD", module.commit)
        inner.short(deadline, "reset", "--quiet", "--hard")
    if seed.lfs:
        store = os.path.join(workspace, ".git/lfs")
        os.makedirs(store, exist_ok=True)
        with descriptors.opened(store) as parent, descriptors.opened(staged) as source:
            placement.place(source, LFS, parent, os.path.join(store, "objects"), overwrite=True)
        git = Git.of_user(workspace, os.environ, *TRUSTED, *LFS_OPTIONS)
        git.short(deadline, "lfs", "checkout")


def _take_objects(top: str, staged: str, prefix: str, shallow: Sequence[str]) -> None:
    """Move the packs whose names begin like that to the repository at ``top``."""
    repository = os.path.join(top, ".git")
    if shallow:
        with open(os.path.join(repository, "shallow"), "w", encoding="ascii") as file:
            file.writelines(f"{commit}\n" for commit in shallow)
    packs, start = os.path.join(staged, PACKS), f"{prefix}pack-"
    for name in os.listdir(packs):
        if name.startswith(start):
            target = os.path.join(repository, "objects/pack", name[len(prefix) :])
            os.rename(os.path.join(packs, name), target)


def _remove(path: str) -> None:
    with suppress(FileNotFoundError, NotADirectoryError):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    # Like git, leave no directory behind that has become empty.
    directory = os.path.dirname(path)
    with suppress(OSError):
        os.removedirs(directory)


def _line(message: object) -> str:
    return json.dumps(to_json(message), separators=(",", ":"))
