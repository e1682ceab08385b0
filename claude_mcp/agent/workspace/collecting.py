"""Collects what differs between two states into a file, for a host that checks it without git."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from claude_mcp.agent.workspace.changes import encoded
from claude_mcp.agent.workspace.git import Deadline, Git, GitFailed

LISTING_BYTES = 64 * 1024 * 1024
TREE, SUBMODULE = b"040000", b"160000"


def collect(
    git: Git,
    before: str,
    after: str,
    paths: Sequence[str],
    both: bool,
    target: str,
    deadline: Deadline,
) -> None:
    """Write the objects in which two commits or trees differ, each once; see ``Collect``.

    Raises:
        GitFailed, NoGit, OSError
    """
    arguments = (
        "diff-tree", "-r", "-t", "-z", "--raw", "--no-renames", "--no-abbrev", before, after, "--",
    )  # fmt: skip
    output = git.run((*arguments, *encoded(paths)), deadline, limit_bytes=LISTING_BYTES)
    if not output.complete:
        raise GitFailed("too many files changed")
    tops = git.short(deadline, "rev-parse", f"{before}^{{tree}}", f"{after}^{{tree}}")
    wanted = dict.fromkeys([before.encode(), after.encode(), *tops.split()])
    for facts in output.data.split(b"\0")[:-1:2]:
        old_mode, mode, old, new, _ = facts[1:].split(b" ")
        for kind, oid, needed in ((old_mode, old, both), (mode, new, True)):
            if (needed or kind == TREE) and kind != SUBMODULE and oid.strip(b"0"):
                wanted[oid] = None
    lines = b"\n".join(wanted) + b"\n"
    stream = git.stream(("cat-file", "--batch", "--buffer"), deadline, stdin=lines)
    with closing(stream), open(target, "wb") as file:
        for piece in stream:
            file.write(piece)
