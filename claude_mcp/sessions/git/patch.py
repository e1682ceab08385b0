"""Writes the patch between two states of some files, without git, in the form of ``git diff``.

The time that comparing takes is bounded, because the content may be made to take long: beyond the
bound, all lines between the first and the last change count as changed.
"""

from __future__ import annotations

import base64
import itertools
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import Final

from claude_mcp.sessions.git.rules import ABSENT, GITLINK, LINK, Entry

CONTEXT: Final = 3
BINARY_BYTES: Final = 8000
"""A null byte before this makes a file binary, as for git."""
MAX_TEXT_BYTES: Final = 16 * 1024 * 1024
"""A larger file counts as binary."""
MAX_COMPARED: Final = 1_000_000
"""Upper bound on the product of the numbers of lines to compare in one file."""
MAX_COMPARED_IN_ALL: Final = 20_000_000
LINE_BYTES: Final = 52
_SPECIAL: Final = re.compile(r'[\x00-\x1f"\\\x7f]')
_ESCAPES: Final = {
    "\a": "a", "\b": "b", "\t": "t", "\n": "n", "\v": "v", "\f": "f", "\r": "r", '"': '"',
    "\\": "\\",
}  # fmt: skip

Content = Callable[[str], bytes]
"""The content of a blob, by its name."""


def patch(entries: Iterable[Entry], content: Content) -> Iterator[bytes]:
    """The patch, piece by piece. Submodules have none."""
    left = [MAX_COMPARED_IN_ALL]
    for entry in sorted(entries, key=lambda each: each.path):
        if GITLINK in (entry.mode, entry.old_mode):
            continue
        for part in _parts(entry):
            yield from _file(part, content, left)


def _parts(entry: Entry) -> list[Entry]:
    """A file that becomes a link, or the other way round, is deleted and created."""
    if ABSENT in (entry.mode, entry.old_mode) or (entry.mode == LINK) == (entry.old_mode == LINK):
        return [entry]
    gone = Entry(entry.path, entry.old_mode, entry.old_object, ABSENT, "")
    return [gone, Entry(entry.path, ABSENT, "", entry.mode, entry.object)]


def _file(entry: Entry, content: Content, left: list[int]) -> Iterator[bytes]:
    old, new = _quoted("a/", entry.path), _quoted("b/", entry.path)
    yield b"diff --git %s %s\n" % (old, new)
    if entry.old_mode == ABSENT:
        yield b"new file mode %06o\n" % entry.mode
    elif entry.mode == ABSENT:
        yield b"deleted file mode %06o\n" % entry.old_mode
    elif entry.mode != entry.old_mode:
        yield b"old mode %06o\nnew mode %06o\n" % (entry.old_mode, entry.mode)
    if entry.object == entry.old_object:
        return
    nothing = "0" * len(entry.object or entry.old_object)
    yield f"index {entry.old_object or nothing}..{entry.object or nothing}".encode()
    yield b" %06o\n" % entry.mode if entry.mode == entry.old_mode else b"\n"
    before = b"" if entry.old_mode == ABSENT else content(entry.old_object)
    after = b"" if entry.mode == ABSENT else content(entry.object)
    if _is_binary(before) or _is_binary(after):
        yield b"GIT binary patch\n"
        yield from _literal(after)
        yield from _literal(before)
        return
    hunks = [*_hunks(_lines(before), _lines(after), left)]
    if hunks:
        yield b"--- %s\n" % (b"/dev/null" if entry.old_mode == ABSENT else _tabbed(old))
        yield b"+++ %s\n" % (b"/dev/null" if entry.mode == ABSENT else _tabbed(new))
        yield from hunks


def _quoted(prefix: str, path: str) -> bytes:
    name = f"{prefix}{path}"
    if _SPECIAL.search(name) is None:
        return name.encode("utf-8", "surrogateescape")
    escaped = _SPECIAL.sub(lambda found: "\\" + _escape(found[0]), name)
    return f'"{escaped}"'.encode("utf-8", "surrogateescape")


def _escape(character: str) -> str:
    return _ESCAPES.get(character) or f"{ord(character):03o}"


def _tabbed(name: bytes) -> bytes:
    """A tab ends a name with blanks."""
    return name + b"\t" if b" " in name and not name.startswith(b'"') else name


def _is_binary(content: bytes) -> bool:
    return len(content) > MAX_TEXT_BYTES or b"\0" in content[:BINARY_BYTES]


def _lines(content: bytes) -> list[bytes]:
    lines = content.split(b"\n")
    return [*(line + b"\n" for line in lines[:-1]), *filter(None, lines[-1:])]


def _hunks(old: Sequence[bytes], new: Sequence[bytes], left: list[int]) -> Iterator[bytes]:
    matcher: SequenceMatcher[bytes] = SequenceMatcher(None, (), ())
    matcher.opcodes = _differences(old, new, left)  # type: ignore[attr-defined]
    for group in matcher.get_grouped_opcodes(CONTEXT):
        first, last = group[0], group[-1]
        yield b"@@ -%s +%s @@\n" % (_range(first[1], last[2]), _range(first[3], last[4]))
        for what, i, j, k, m in group:
            if what == "equal":
                yield from (_line(b" ", line) for line in old[i:j])
                continue
            yield from (_line(b"-", line) for line in old[i:j])
            yield from (_line(b"+", line) for line in new[k:m])


def _differences(
    old: Sequence[bytes], new: Sequence[bytes], left: list[int]
) -> list[tuple[str, int, int, int, int]]:
    """As ``SequenceMatcher.get_opcodes`` describes them."""
    most = min(len(old), len(new))
    start = _common(old, new, most)
    end = _common(reversed(old), reversed(new), most - start)
    i, j = len(old) - end, len(new) - end
    cost = (i - start) * (j - start)
    if cost > min(MAX_COMPARED, left[0]):
        middle = [("replace", start, i, start, j)]
    else:
        left[0] -= cost
        found = SequenceMatcher(None, old[start:i], new[start:j]).get_opcodes()
        middle = [(what, a + start, b + start, c + start, d + start) for what, a, b, c, d in found]
    head = [("equal", 0, start, 0, start)] if start else []
    tail = [("equal", i, len(old), j, len(new))] if end else []
    return [*head, *middle, *tail]


def _common(old: Iterable[bytes], new: Iterable[bytes], most: int) -> int:
    pairs = itertools.islice(zip(old, new, strict=False), most)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _range(start: int, end: int) -> bytes:
    length = end - start
    if length == 1:
        return b"%d" % (start + 1)
    return b"%d,%d" % (start + 1 if length else start, length)


def _line(mark: bytes, line: bytes) -> bytes:
    return (
        mark + line if line.endswith(b"\n") else mark + line + b"\n\\ No newline at end of file\n"
    )


def _literal(content: bytes) -> Iterator[bytes]:
    """The content of a binary file; each line begins with its length: A is 1, a is 27."""
    yield b"literal %d\n" % len(content)
    packed = zlib.compress(content)
    for start in range(0, len(packed), LINE_BYTES):
        piece = packed[start : start + LINE_BYTES]
        length = len(piece) + (ord("A") - 1 if len(piece) <= 26 else ord("a") - 27)
        yield bytes([length]) + base64.b85encode(piece, pad=True) + b"\n"
    yield b"\n"
