"""Changes JSON text where it stands: comments, spacing and everything else stay as they are.

The text may have comments (``//``, ``/* */``) and a comma before a closing bracket, as editors
allow in their settings.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final, NoReturn

_BLANK: Final = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_STRING: Final = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_WORD: Final = re.compile(r"[-+.\w]+")
_REST_OF_LINE: Final = re.compile(r"[ \t]*(?://[^\n]*?)?(?=\r?\n)")
_DEPTH: Final = 200
"""Nesting that is read: deeper text is refused before it meets Python's own limit."""


class Malformed(Exception):
    """The text is not JSON; ``str`` says where and why."""


@dataclass(frozen=True, slots=True)
class Node:
    """A value, and the characters of the text that it takes."""

    start: int
    end: int
    data: Any
    """What ``json.loads`` would return."""
    members: tuple[Member, ...] = ()
    """Of an object."""

    def find(self, key: str) -> int | None:
        """The index of that member; of several the last, which is the one that counts."""
        found = [index for index, member in enumerate(self.members) if member.key == key]
        return found[-1] if found else None


@dataclass(frozen=True, slots=True)
class Member:
    """One ``"key": value`` of an object."""

    key: str
    start: int
    value: Node
    comma: int | None
    """Where the comma behind it stands."""


def parse(text: str) -> Node:
    """The value of the whole text.

    Raises:
        Malformed
    """
    reader = _Reader(text)
    node = reader.value(reader.blank(0), 0)
    after = reader.blank(node.end)
    if after < len(text):
        reader.fail(after, "something follows the end")
    return node


def with_member(text: str, path: tuple[str, ...], value: object) -> str:
    """The text with the value at the path; objects that are missing on the way are made.

    Raises:
        Malformed: also if something on the way is not an object
    """
    target = parse(text)
    for depth, key in enumerate(path):
        if not isinstance(target.data, dict):
            raise Malformed(f"{'.'.join(path[:depth]) or 'the whole'} is not an object")
        index = target.find(key)
        if index is None:
            for missing in reversed(path[depth + 1 :]):
                value = {missing: value}
            return _with_new_member(text, target, key, value)
        target = target.members[index].value
    style = _Style(text)
    return (
        text[: target.start]
        + style.written(value, style.indentation(target.start))
        + text[target.end :]
    )


def without_member(text: str, path: tuple[str, ...]) -> str:
    """The text without the member at the path, however often it is there.

    Raises:
        Malformed
    """
    while True:
        target = parse(text)
        for key in path[:-1]:
            index = target.find(key)
            if index is None:
                return text
            target = target.members[index].value
        index = target.find(path[-1])
        if index is None:
            return text
        text = _without(text, target, index)


def _with_new_member(text: str, target: Node, key: str, value: object) -> str:
    style = _Style(text)
    content = text[target.start + 1 : target.end - 1]
    end = target.start + 1 + len(content.rstrip())  # behind the last member or comment
    last = target.members[-1] if target.members else None
    if "\n" not in content and (last is not None or not style.spread):
        member = f"{json.dumps(key)}: {style.flat(value)}"
        space = " " if last is not None else ""
        end_of_line = ""
        trailing = ""
    else:
        outer = style.indentation(target.start)
        inner = outer + style.unit
        member = f"{json.dumps(key)}: {style.written(value, inner)}"
        space = style.newline + inner
        end_of_line = "" if "\n" in content[len(content.rstrip()) :] else style.newline + outer
        trailing = "," if last is not None and last.comma is not None else ""
    text = text[:end] + space + member + trailing + end_of_line + text[end:]
    if last is not None and last.comma is None:
        text = text[: last.value.end] + "," + text[last.value.end :]
    return text


def _without(text: str, target: Node, index: int) -> str:
    member = target.members[index]
    start, end = member.start, member.value.end
    if member.comma is not None:
        end = member.comma + 1
    before = text[:start].rstrip(" \t")
    rest = _REST_OF_LINE.match(text, end)
    if before.endswith("\n") and rest is not None:
        # It has its lines for itself: they go whole, with the line break before them.
        start = len(before) - (2 if before.endswith("\r\n") else 1)
        end = rest.end()
    elif text[end : end + 1] == " ":
        end += 1
    shortened = text[:start] + text[end:]
    only = len(target.members) == 1
    if (
        only
        and not text[target.start + 1 : start].strip()
        and not text[end : target.end - 1].strip()
    ):
        return text[: target.start] + "{}" + text[target.end :]
    if not only and index == len(target.members) - 1 and member.comma is None:
        previous = target.members[index - 1].comma
        assert previous is not None
        shortened = shortened[:previous] + shortened[previous + 1 :]
        if start == member.start:  # on one line: the space behind that comma goes too
            shortened = shortened[:previous] + shortened[previous:].lstrip(" ")
    return shortened


class _Style:
    """How the text is laid out."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.newline = "\r\n" if "\r\n" in text else "\n"
        self.spread = "\n" in text.strip() or text.strip() == "{}"
        found = re.search(r'\n([ \t]+)"', text)
        self.unit = found[1] if found else "  "

    def indentation(self, position: int) -> str:
        """The blanks at the start of that position's line."""
        line = self._text[self._text.rfind("\n", 0, position) + 1 : position]
        return line[: len(line) - len(line.lstrip(" \t"))]

    def written(self, value: object, indentation: str) -> str:
        """The value as it is written at that indentation; short lists take one line."""
        if not self.spread or not isinstance(value, dict):
            return self.flat(value)
        inner = indentation + self.unit
        lines = [
            f"{inner}{json.dumps(key)}: {self.written(each, inner)}" for key, each in value.items()
        ]
        return self.newline.join(["{", f",{self.newline}".join(lines), indentation + "}"])

    def flat(self, value: object) -> str:
        return json.dumps(value, ensure_ascii=False)


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text

    def fail(self, position: int, what: str) -> NoReturn:
        line = self._text.count("\n", 0, position) + 1
        column = position - self._text.rfind("\n", 0, position)
        raise Malformed(f"line {line}, column {column}: {what}")

    def blank(self, position: int) -> int:
        """The position after spaces and comments."""
        match = _BLANK.match(self._text, position)
        return match.end() if match else position

    def value(self, start: int, depth: int) -> Node:
        if depth > _DEPTH:
            self.fail(start, "it is nested too deep")
        opening = self._text[start : start + 1]
        if opening == "{":
            return self._object(start, depth)
        if opening == "[":
            return self._list(start, depth)
        match = (_STRING if opening == '"' else _WORD).match(self._text, start)
        if match is None:
            self.fail(start, "a value is missing" if opening else "the text ends too early")
        try:
            return Node(start, match.end(), json.loads(match[0]))
        except ValueError:
            self.fail(start, f"{match[0][:20]!r} is no value")

    def _object(self, start: int, depth: int) -> Node:
        members: list[Member] = []
        position = self.blank(start + 1)
        while self._text[position : position + 1] != "}":
            match = _STRING.match(self._text, position)
            if match is None:
                self.fail(position, "a name in quotation marks or '}' is missing")
            try:
                key = json.loads(match[0])
            except ValueError:
                self.fail(position, "this name cannot be read")
            colon = self.blank(match.end())
            if self._text[colon : colon + 1] != ":":
                self.fail(colon, "':' is missing")
            value = self.value(self.blank(colon + 1), depth + 1)
            comma, position = self._comma(value.end, "}")
            members.append(Member(key, match.start(), value, comma))
        data = {member.key: member.value.data for member in members}
        return Node(start, position + 1, data, tuple(members))

    def _list(self, start: int, depth: int) -> Node:
        items: list[Any] = []
        position = self.blank(start + 1)
        while self._text[position : position + 1] != "]":
            value = self.value(position, depth + 1)
            items.append(value.data)
            _, position = self._comma(value.end, "]")
        return Node(start, position + 1, items)

    def _comma(self, end: int, closing: str) -> tuple[int | None, int]:
        """Where the comma behind a value stands, and where the next thing begins."""
        position = self.blank(end)
        if self._text[position : position + 1] == ",":
            return position, self.blank(position + 1)
        if self._text[position : position + 1] != closing:
            self.fail(position, f"',' or {closing!r} is missing")
        return None, position
