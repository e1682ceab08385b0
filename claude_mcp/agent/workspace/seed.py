"""Makes the workspace of a new session from what the host unpacked into a staging directory.

It runs between ``READY`` and ``COMMIT``: a session whose host disappears meanwhile is abandoned
like any other whose creation did not complete.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress

from claude_mcp.agent.store import files
from claude_mcp.agent.workspace.checkpoints import CREATE, FIRST_TAKE_SECONDS, Checkpoints
from claude_mcp.agent.workspace.git import Deadline, Git, GitFailed, NoGit
from claude_mcp.contract import workspaces
from claude_mcp.contract.messages import Malformed, from_json, to_json
from claude_mcp.contract.operations import Staging
from claude_mcp.contract.workspaces import FILES, PACKS, Seed
from claude_mcp.placing import descriptors, placement
from claude_mcp.placing.staging import staging

SAID_CHARS = 300
SEAL = "seal"
"""What the host made of the tree with which a copy began."""
CLONE_SECONDS = 900.0
TRUSTED = ("-c", "safe.directory=*")
"""The workspace itself belongs to whoever the image says."""


class Unseeded(Exception):
    """The workspace cannot be made."""


def receive(workspace: str, directory: str, say: Callable[[str], None]) -> None:
    """The agent's half of the exchange that ``contract.workspaces`` describes.

    ``directory`` is the agent's own, in the session's home.
    """
    try:
        with descriptors.opened(workspace) as parent, staging(parent) as (name, _):
            path = os.path.join(workspace, name)
            for each in (PACKS, FILES):
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
    repository = os.path.join(workspace, ".git")
    # What files of Git LFS refer to is not there to be fetched.
    environment = {**os.environ, "GIT_LFS_SKIP_SMUDGE": "1"}
    git, deadline = Git.of_user(workspace, environment, *TRUSTED), Deadline(CLONE_SECONDS)
    git.short(
        deadline, "init", "--quiet", "--template=", f"--object-format={seed.object_format}",
        f"--initial-branch={seed.branch}",
    )  # fmt: skip
    if seed.shallow:
        with open(os.path.join(repository, "shallow"), "w", encoding="ascii") as file:
            file.writelines(f"{commit}\n" for commit in seed.shallow)
    if seed.base is None:
        return
    packs = os.path.join(staged, PACKS)
    for name in os.listdir(packs):
        os.rename(os.path.join(packs, name), os.path.join(repository, "objects", "pack", name))
    references = {
        **seed.references,
        f"refs/heads/{seed.branch}": seed.base,
        workspaces.SEED_REF: seed.base,
    }
    lines = "".join(f"create {name} {target}\n" for name, target in references.items())
    git.short(deadline, "update-ref", "--stdin", stdin=lines.encode())
    git.short(deadline, "reset", "--quiet", "--hard")


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
