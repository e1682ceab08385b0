"""The lock file: every package with its hashes, for all Pythons and platforms at once.

``scripts/update-pins`` makes it with uv, in the form of pip's requirements. Its environment markers
are evaluated here for another machine than this one, which pip cannot do.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bundle_installer.refusal import Refused

_HEAD: Final = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;\\]+)\s*(?:;\s*(?P<marker>[^\\]+?))?\s*"
)
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_VERSIONS: Final = ("python_version", "python_full_version")
_COMPARE: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


@dataclass(frozen=True, slots=True)
class Locked:
    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]

    @property
    def requirement(self) -> str:
        """A line of requirements for pip, without the marker."""
        return " ".join(
            [f"{self.name}=={self.version}", *(f"--hash=sha256:{each}" for each in self.hashes)]
        )


def read(path: Path) -> list[Locked]:
    """All packages of a lock.

    Raises:
        Refused: a line has another form
    """
    found = []
    for line in path.read_text().replace("\\\n", " ").splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        head, *_ = text.partition("--hash")
        matched = _HEAD.fullmatch(head)
        hashes = tuple(_HASH.findall(text))
        if not matched or not hashes or _HASH.sub("", text[len(head) :]).strip():
            raise Refused(f"{path} has a line that is no package with hashes: {text[:80]!r}.")
        marker = (matched["marker"] or "").strip()
        found.append(Locked(matched["name"], matched["version"], marker, hashes))
    if not found:
        raise Refused(f"{path} has no packages.")
    return found


def wanted(locked: list[Locked], python: str, platform: str) -> list[Locked]:
    """The packages for that Python, such as 3.12, on that platform, such as linux-x86_64."""
    environment = marker_environment(python, platform)
    return [each for each in locked if applies(each.marker, environment)]


def marker_environment(python: str, platform: str) -> dict[str, str]:
    """What markers can ask of a machine, as the specification of dependencies names it."""
    system, _, machine = platform.partition("-")
    return {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": system.capitalize(),
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": system,
        "extra": "",
    }


def applies(marker: str, environment: Mapping[str, str]) -> bool:
    """Evaluate a marker, which has the syntax of a Python expression.

    Raises:
        Refused: it asks what is not known
    """
    if not marker:
        return True
    try:
        return _truth(ast.parse(marker, mode="eval").body, environment)
    except (SyntaxError, KeyError, ValueError) as error:
        raise Refused(
            f"The lock has a marker that is not understood: {marker!r} ({error})."
        ) from error


def _truth(node: ast.expr, environment: Mapping[str, str]) -> bool:
    match node:
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_truth(each, environment) for each in values)
        case ast.BoolOp(op=ast.Or(), values=values):
            return any(_truth(each, environment) for each in values)
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _compared(left, op, right, environment)
    raise ValueError(ast.unparse(node))


def _compared(left: ast.expr, op: ast.cmpop, right: ast.expr, known: Mapping[str, str]) -> bool:
    first, second = _value(left, known), _value(right, known)
    if isinstance(op, ast.In):
        return first in second
    if isinstance(op, ast.NotIn):
        return first not in second
    if any(isinstance(each, ast.Name) and each.id in _VERSIONS for each in (left, right)):
        return _COMPARE[type(op)](_numbers(first), _numbers(second))
    return _COMPARE[type(op)](first, second)


def _value(node: ast.expr, environment: Mapping[str, str]) -> str:
    match node:
        case ast.Name(id=name):
            return environment[name]
        case ast.Constant(value=str(text)):
            return text
    raise ValueError(ast.unparse(node))


def _numbers(version: str) -> tuple[int, ...]:
    """Of a release, with zeros that mean nothing left out: 3.12.0 is 3.12."""
    numbers = [int(part) for part in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
