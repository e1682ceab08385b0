"""Which files of a directory a copy takes: without what its ignore files leave out.

Read here and not by git, which need not be installed. A pattern is matched in a time that is
proportional to the product of its length and the path's, because a project may be hostile. Like
git's, patterns are about bytes, so paths and patterns are texts with one character for each byte.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from claude_mcp.contract.wording import named
from claude_mcp.errors import UsageError
from claude_mcp.placing import descriptors

GIT: Final = ".git"
GIT_IGNORE: Final = ".gitignore"
DOCKER_IGNORE: Final = ".dockerignore"
IGNORE_BYTES: Final = 1024 * 1024
"""Of one file with patterns; what follows is not read."""
BLANKS: Final = " \t\r"
MARK: Final = b"\xef\xbb\xbf"
"""What some editors put before a text in UTF-8."""
ANY_DEPTH: Final = "**"
NOTHING: Final = re.compile(r"(?!)")
_CLASSES: Final = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "blank": r" \t", "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9", "graph": r"\x21-\x7e", "lower": "a-z", "print": r"\x20-\x7e",
    "punct": r"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e", "space": r"\t-\r ", "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}  # fmt: skip
_CLASS: Final = re.compile(r"\[([!^]?)(\]?(?:\\.|\[:[a-z]*:\]|[^\]\\])*)\]", re.DOTALL)
_PART: Final = re.compile(rf"(?:\\.|{_CLASS.pattern}|[^/])+|(?<=/)(?=/)", re.DOTALL)
_MEMBER: Final = re.compile(r"\[:(?P<name>[a-z]*):\]|\\(?P<escaped>.)|(?P<plain>.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Pattern:
    """``parts`` match the names of a path; None stands for any number of names."""

    parts: tuple[re.Pattern[str] | None, ...]
    negated: bool
    directories: bool
    """It matches directories only."""
    anywhere: bool
    """It matches the last name alone."""

    def matches(self, names: Sequence[str], is_directory: bool) -> bool:
        if self.directories and not is_directory:
            return False
        return _match(self.parts, names[-1:] if self.anywhere else names)


def _match(parts: Sequence[re.Pattern[str] | None], names: Sequence[str]) -> bool:
    """Only the latest run of any names is ever lengthened: an earlier one can stay as it is."""
    part = name = 0
    again: tuple[int, int] | None = None
    while name < len(names):
        here = parts[part] if part < len(parts) else NOTHING
        if here is None:
            again = part, name
            part += 1
            if part == len(parts):
                return True  # at least one name is left
        elif here.fullmatch(names[name]):
            part, name = part + 1, name + 1
        elif again is not None:
            part, name = again[0] + 1, again[1] + 1
            again = again[0], name
        else:
            return False
    return part == len(parts)


def patterns(text: str) -> list[Pattern]:
    """The patterns of a .gitignore file; see gitignore(5)."""
    found = (pattern(line.removesuffix("\r")) for line in text.split("\n"))
    return [each for each in found if each is not None]


def pattern(line: str) -> Pattern | None:
    """One line of a .gitignore file; None if it has no pattern."""
    if line.startswith("#"):
        return None
    line = _without_trailing_blanks(line)
    negated = line.startswith("!")
    line = line[negated:]
    directories = line.endswith("/")
    line = line.removesuffix("/")
    if not line:
        return None
    anywhere = "/" not in line
    # A slash in brackets is no separator, although it matches nothing.
    parts = [found[0] for found in _PART.finditer(line.removeprefix("/"))]
    return Pattern(_compiled(parts, anywhere), negated, directories, anywhere)


def _without_trailing_blanks(line: str) -> str:
    stripped = line.rstrip(" ")
    backslashes = len(stripped) - len(stripped.rstrip("\\"))
    escapes_one = backslashes % 2 == 1 and len(stripped) < len(line)
    return f"{stripped} " if escapes_one else stripped


def docker_patterns(text: str) -> list[Pattern]:
    """The patterns of a .dockerignore file: relative to its directory, whatever they contain."""
    found = []
    for line in (each.strip(BLANKS) for each in text.split("\n")):
        if not line or line.startswith("#"):
            continue
        negated = line.startswith("!")
        path = os.path.normpath(line[negated:].strip(BLANKS) or ".").lstrip("/")
        if path not in ("", "."):
            found.append(Pattern(_compiled(path.split("/"), False), negated, False, False))
    return found


def _compiled(parts: Sequence[str], anywhere: bool) -> tuple[re.Pattern[str] | None, ...]:
    return tuple(
        None if part == ANY_DEPTH and not anywhere else _name_pattern(part)
        for position, part in enumerate(parts)
        if not (part == ANY_DEPTH and position and parts[position - 1] == ANY_DEPTH)
    )


def _name_pattern(text: str) -> re.Pattern[str]:
    """A pattern for one name. Each run of any characters but the last is as short as it can be."""
    chunks, position = [""], 0
    while position < len(text):
        character = text[position]
        if character == "*":
            if position == 0 or text[position - 1] != "*" or len(chunks) == 1:
                chunks.append("")
        elif character == "?":
            chunks[-1] += "[^/]"
        elif character == "[":
            found = _CLASS.match(text, position)
            if found is None:
                return NOTHING
            chunks[-1] += _class(found[1], found[2])
            position = found.end() - 1
        elif character == "\\":
            position += 1
            if position == len(text):
                return NOTHING
            chunks[-1] += re.escape(text[position])
        else:
            chunks[-1] += re.escape(character)
        position += 1
    first, *rest = chunks
    middle = "".join(f"(?>.*?{each})" for each in rest[:-1])
    last = f".*{rest[-1]}" if rest else ""
    return re.compile(f"{first}{middle}{last}", re.DOTALL)


def _class(negation: str, members: str) -> str:
    found = [*_MEMBER.finditer(members)]
    inside, position = "", 0
    while position < len(found):
        member = found[position]
        if member["name"] is not None:
            if member["name"] not in _CLASSES:
                return NOTHING.pattern
            inside += _CLASSES[member["name"]]
            position += 1
            continue
        first = member["escaped"] or member["plain"]
        inside += re.escape(first)
        if position + 2 < len(found) and found[position + 1]["plain"] == "-":
            last = found[position + 2]["escaped"] or found[position + 2]["plain"] or ""
            # To git, a range whose end comes first has its start only.
            inside += f"-{re.escape(last)}" if first <= last else ""
            position += 2
        position += 1
    return f"(?!/)[{'^' if negation else ''}{inside}]"


@dataclass(frozen=True, slots=True)
class _Rules:
    """``directories`` are the .gitignore files on the way, each with the depth of its directory."""

    exclude: Sequence[Pattern]
    docker: Sequence[Pattern]
    directories: tuple[tuple[int, Sequence[Pattern]], ...] = ()

    def leave_out(self, names: Sequence[str], is_directory: bool) -> bool:
        for depth, found in reversed(self.directories):
            verdict = _verdict(found, names[depth:], is_directory)
            if verdict is not None:
                if verdict:
                    return True
                break
        if _verdict(self.exclude, names, is_directory):
            return True
        if is_directory and any(each.negated for each in self.docker):
            return False  # something in it may be wanted all the same
        return self._docker_ignores(names)

    def _docker_ignores(self, names: Sequence[str]) -> bool:
        """To Docker, a pattern matches everything below what it matches."""
        ignored = False
        for each in self.docker:
            if each.negated == ignored and any(
                each.matches(names[:length], True) for length in range(1, len(names) + 1)
            ):
                ignored = not each.negated
        return ignored


def _verdict(found: Sequence[Pattern], names: Sequence[str], is_directory: bool) -> bool | None:
    """Whether these patterns leave a path out; None if none matches. The last one counts."""
    for each in reversed(found):
        if each.matches(names, is_directory):
            return not each.negated
    return None


def files_of(project: str, exclude: Sequence[str]) -> list[str]:
    """What a copy of a directory takes, as paths relative to it, in order.

    Left out is what .gitignore files, .dockerignore or ``exclude`` (patterns as in .gitignore)
    name, and everything called ``.git``. A directory is listed only if it is empty.

    Raises:
        UsageError: a directory cannot be read.
    """
    with descriptors.opened(project) as root:
        docker = docker_patterns(_content(root, DOCKER_IGNORE))
        excluded = [each for each in map(pattern, map(_bytewise, exclude)) if each is not None]
        return list(_walk(root, (), _Rules(excluded, docker), descriptors.MAX_DEPTH))


def _walk(directory: int, names: tuple[str, ...], rules: _Rules, depth: int) -> Iterator[str]:
    here = _named(names)
    if not depth:
        raise UsageError(f"{here[:200]!r} is nested too deeply to be copied.")
    try:
        reading = os.open(".", descriptors.READ, dir_fd=directory)
    except OSError as error:
        raise UsageError(
            f"{here or '.'!r} cannot be read: {error.strerror}.",
            hint=f"Leave it out with {named('exclude')}.",
        ) from error
    try:
        with os.scandir(reading) as entries:
            found = sorted((each.name, each.is_dir(follow_symlinks=False)) for each in entries)
        if (GIT_IGNORE, False) in found:
            ignored = patterns(_content(reading, GIT_IGNORE))
            rules = _Rules(rules.exclude, rules.docker, (*rules.directories, (len(names), ignored)))
        for name, is_directory in found:
            path = (*names, _bytewise(name))
            if name == GIT or rules.leave_out(path, is_directory):
                continue
            if not is_directory:
                yield _named(path)
                continue
            below = os.open(name, descriptors.SEARCH, dir_fd=reading)
            try:
                yield from _walk(below, path, rules, depth - 1)
            finally:
                os.close(below)
        if not found and names:
            yield here
    finally:
        os.close(reading)


def _content(directory: int, name: str) -> str:
    """The text of a file with patterns; empty if it is none. Git follows no link here either."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with open(os.open(name, flags, dir_fd=directory), "rb") as file:
            return file.read(IGNORE_BYTES).removeprefix(MARK).decode("latin-1")
    except OSError:
        return ""


def _bytewise(text: str) -> str:
    return os.fsencode(text).decode("latin-1")


def _named(names: Sequence[str]) -> str:
    return os.fsdecode("/".join(names).encode("latin-1"))
