"""Changes one name of the user's configuration file and keeps the rest of it, comments included.

The file is written whole or not at all, and only if it can be read afterwards.
"""

from __future__ import annotations

import difflib
import json
import os
import stat
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from claude_mcp.config import ENGINES, load, read_file
from claude_mcp.config_names import ALIASES, KINDS, NOT_USED, Kind
from claude_mcp.errors import ConfigError, UsageError

TRUE: Final = frozenset({"1", "true", "yes", "on"})
FALSE: Final = frozenset({"0", "false", "no", "off"})


def known(name: str) -> str:
    """The name itself, if there is such a setting.

    Raises:
        UsageError
    """
    if name in KINDS:
        return name
    if name in NOT_USED:
        raise UsageError(f"{name} would have no effect.", hint=NOT_USED[name])
    if name.partition(".")[0] == ENGINES:
        raise UsageError(
            f"{name} cannot be changed here.", hint="Edit the file: it has a table for each engine."
        )
    near = difflib.get_close_matches(name.upper(), KINDS, n=1)
    hint = f"Did you mean {near[0]}?" if near else "'claude-mcp config --all' prints every one."
    raise UsageError(f"There is no setting {name!r}.", hint=hint)


def change(file: Path, name: str, value: str | None) -> None:
    """Set a name, or take it out of the file (None).

    Raises:
        UsageError: the value is of another kind.
        ConfigError: the file cannot be read or written. It is as it was.
    """
    read_file(file, required=False)  # a file that is broken already is left alone
    if value is not None and not _is_unicode(value):
        raise UsageError(f"{name} must be valid UTF-8.")
    try:
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        after = _changed(before, name, None if value is None else _toml(KINDS[name], name, value))
        if after == before:
            return
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(file.resolve(), after)
    except OSError as error:
        raise ConfigError(
            f"The configuration file {file} cannot be written: {error.strerror}."
        ) from error


def _is_unicode(text: str) -> bool:
    """False for an argument that has bytes which are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _toml(kind: Kind, name: str, value: str) -> str:
    """A typed value as TOML."""
    match kind:
        case Kind.BOOLEAN if value.lower() in TRUE | FALSE:
            return "true" if value.lower() in TRUE else "false"
        case Kind.BOOLEAN:
            raise UsageError(f"{name} is true or false.")
        case Kind.NUMBER if value.isascii() and value.isdecimal():
            return str(int(value))
        case Kind.WORDS:
            return _list(value.replace(",", " ").split())
        case Kind.PATHS:
            return _list([each for each in value.split(os.pathsep) if each])
    return _string(value)


def _list(values: Sequence[str]) -> str:
    return f"[{', '.join(map(_string, values))}]"


def _string(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _changed(text: str, name: str, value: str | None) -> str:
    """The text with another value; a comment behind the old one stays.

    Raises:
        ConfigError: the text is written in a way that cannot be changed here.
    """
    lines = text.splitlines(keepends=True)
    spellings = {name, *(alias for alias, named in ALIASES.items() if named == name)}
    number = 0
    top = _before_tables(lines)
    while number < top:
        end = number + 1
        while (found := _parsed("".join(lines[number:end]))) is None and end < len(lines):
            end += 1
        if found and spellings & found.keys():
            comment = _comment("".join(lines[number:end]))
            lines[number:end] = [] if value is None else [f"{name} = {value}{comment}\n"]
            break
        number = end
    else:
        if value is not None:
            if top and not lines[top - 1].endswith("\n"):
                lines[top - 1] += "\n"
            lines.insert(top, f"{name} = {value}\n")
    after = "".join(lines)
    expected = {key: each for key, each in tomllib.loads(text).items() if key not in spellings}
    if value is not None:
        expected |= tomllib.loads(f"{name} = {value}")
    if _parsed(after) != expected:
        raise ConfigError(f"{name} cannot be changed here; edit the file by hand.")
    return after


def _before_tables(lines: Sequence[str]) -> int:
    """How many of the lines come before the first table; a name behind that would be in it.

    Blank lines and comments before a table belong to it.
    """
    number = 0
    while number < len(lines) and not lines[number].lstrip().startswith("["):
        end = number + 1
        while _parsed("".join(lines[number:end])) is None and end < len(lines):
            end += 1
        number = end
    if number == len(lines):
        return number
    while number and (not lines[number - 1].strip() or lines[number - 1].lstrip()[0] == "#"):
        number -= 1
    return number


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return None


def _comment(statement: str) -> str:
    """What follows the value in its last line, with the blanks before it."""
    line = statement.rstrip("\r\n").rpartition("\n")[2]
    for place, character in enumerate(line):
        # Without the comment, it must still be a statement; a '#' in a string is none.
        rest = statement.rstrip("\r\n")
        kept = rest[: len(rest) - (len(line) - place)]
        if character == "#" and _parsed(kept) == _parsed(statement):
            return kept[len(kept.rstrip(" \t")) :] + line[place:]
    return ""


def _write(file: Path, text: str) -> None:
    mode, owner = 0o600, None
    if file.exists():
        found = file.stat()
        mode, owner = stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid)
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            if owner is not None and os.geteuid() == 0:
                os.fchown(stream.fileno(), *owner)
            os.fchmod(stream.fileno(), mode)
            stream.write(text.encode())
            stream.flush()
            os.fsync(stream.fileno())
        _check(name, file)
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise


def _check(name: str, file: Path) -> None:
    """Raises ConfigError if the new file could not be used."""
    try:
        load({}, file=name)
    except ConfigError as error:
        message = error.message.replace(name, str(file))
        raise ConfigError(f"{message} Nothing was changed.", hint=error.hint) from None
