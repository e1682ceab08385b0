"""What a session's tree may hold that the tree it started from did not.

The names and links of a tree become files on the host, so they must neither lead out of the tree
nor into a repository. Pure functions; the old entries of a tree are not judged again.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from claude_mcp.errors import GitError, WorkRefused
from claude_mcp.sessions.git.program import clean, listed

ABSENT: Final = 0
FILE: Final = 0o100644
EXECUTABLE: Final = 0o100755
LINK: Final = 0o120000
GITLINK: Final = 0o160000
"""Modes of entries, as git states them. A gitlink is a submodule."""
KNOWN: Final = frozenset({FILE, EXECUTABLE, LINK, GITLINK})
MAX_PATH_BYTES: Final = 4095
MAX_NAME_BYTES: Final = 255
MAX_TARGET_BYTES: Final = 4095
GITMODULES: Final = ".gitmodules"
_RAW: Final = re.compile(
    rb":(?P<old_mode>[0-7]{6}) (?P<mode>[0-7]{6}) (?P<old>[0-9a-f]+) (?P<new>[0-9a-f]+) ([AMDT])"
)
_SHORT: Final = re.compile(r"git~[0-9]+")
"""The names that NTFS gives to ``.git`` for old programs."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A path that differs between two trees. Modes are ``ABSENT`` where it does not exist."""

    path: str
    """With bytes that are not UTF-8 as surrogates, as ``os.fsdecode`` makes them."""
    old_mode: int
    old_object: str
    mode: int
    object: str

    @property
    def is_new_link(self) -> bool:
        return self.mode == LINK and (self.old_mode != LINK or self.object != self.old_object)


def parse_raw(output: bytes) -> Iterator[Entry]:
    """The entries of ``git diff-tree -r -z --raw --no-abbrev --no-renames``."""
    fields = iter(output.split(b"\0"))
    for head in fields:
        if not head:
            continue
        found, path = _RAW.fullmatch(head), next(fields, None)
        if found is None or path is None:
            raise GitError(f"git diff-tree wrote an unexpected line: {clean(repr(head))}")
        yield Entry(
            path.decode("utf-8", "surrogateescape"),
            int(found["old_mode"], 8),
            found["old"].decode(),
            int(found["mode"], 8),
            found["new"].decode(),
        )


def lies_at(entry: Entry, path: str) -> bool:
    """Whether an entry is this path or in a directory there; ``.`` is the whole tree."""
    wanted = path.rstrip("/")
    return wanted in (entry.path, ".") or entry.path.startswith(f"{wanted}/")


def check(entries: Iterable[Entry], targets: Mapping[str, bytes]) -> None:
    """Check the new sides of these entries; ``targets`` has the target of each new link by object.

    Raises:
        WorkRefused: names the entries that break a rule, and the rules.
    """
    found: dict[str, list[str]] = {}
    for entry in entries:
        reason = objection(entry, targets)
        if reason is not None:
            found.setdefault(reason, []).append(entry.path)
    if found:
        reasons = "; ".join(f"{reason}: {listed(paths)}" for reason, paths in found.items())
        raise WorkRefused(
            f"The session's work has entries that must not reach the host: {reasons}.",
            hint="Have them removed in the session, or take single files.",
        )


def objection(entry: Entry, targets: Mapping[str, bytes]) -> str | None:
    """Why this entry must not be taken over; None if it may."""
    if entry.mode == ABSENT:
        return None
    if entry.mode not in KNOWN:
        return f"unknown mode {entry.mode:o}"
    if entry.mode == GITLINK and entry.old_mode != GITLINK:
        return "new submodule"
    # A path that existed before is not new, whatever its name.
    reason = _path_objection(entry.path) if entry.old_mode == ABSENT else None
    if reason is None and entry.is_new_link:
        target = targets.get(entry.object)
        reason = "unreadable link" if target is None else _link_objection(entry.path, target)
    return reason


def _path_objection(path: str) -> str | None:
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in path:
        return "path that leaves the tree"
    # Some systems read a backslash as a slash.
    if "\\" in path and any(part in (".", "..") for part in path.replace("\\", "/").split("/")):
        return "path that leaves the tree"
    if any(is_git(part) for part in parts):
        return "name that some systems read as .git"
    sizes = [len(part.encode("utf-8", "surrogateescape")) for part in parts]
    if max(sizes) > MAX_NAME_BYTES or sum(sizes) + len(sizes) - 1 > MAX_PATH_BYTES:
        return "path that is too long"
    return None


def _link_objection(path: str, target: bytes) -> str | None:
    """A link may climb at its start only: ``name/..`` leads elsewhere if ``name`` is a link."""
    if not target or b"\0" in target or len(target) > MAX_TARGET_BYTES:
        return "link without a usable target"
    parts = target.decode("utf-8", "surrogateescape").replace("\\", "/").split("/")
    if parts[0] == "" or re.match(r"[A-Za-z]:", parts[0]):
        return "absolute link"
    parts = [part for part in parts if part not in ("", ".")]
    climbs = 0
    while climbs < len(parts) and parts[climbs] == "..":
        climbs += 1
    if climbs > path.count("/") or ".." in parts[climbs:]:
        return "link that leads, or could lead, out of the tree"
    if any(is_git(part) for part in parts):
        return "link into a repository"
    return None


def is_git(name: str) -> bool:
    """Whether any system reads this name as ``.git``.

    macOS ignores case and invisible characters. Windows ignores case, trailing dots and spaces,
    and everything after a colon, and has short names; to it, a backslash separates names.
    """
    visible = "".join(each for each in name if unicodedata.category(each) != "Cf")
    for part in re.split(r"[\\/]", unicodedata.normalize("NFKC", visible)):
        stem = part.partition(":")[0].rstrip(" .").casefold()
        if stem == ".git" or _SHORT.fullmatch(stem):
            return True
    return False
