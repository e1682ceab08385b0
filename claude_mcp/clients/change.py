"""One change of a client's file: planned, shown, and made, or refused with the file untouched."""

from __future__ import annotations

import os
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from claude_mcp.clients import jsonc
from claude_mcp.clients.known import ENTRY, Client
from claude_mcp.errors import ConfigError

_MARK: Final = "\ufeff"
"""What some editors of Windows put at the beginning of a file."""
_OURS: Final = ("type", "command", "args")
"""The members of an entry that are ours to set; the rest is the user's."""
MAX_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be written; ``before`` is None if there is no file."""

    client: Client
    file: Path
    before: bytes | None
    after: bytes
    old: dict[str, Any] | None
    """Our entry as it is, without the members that are not ours."""
    new: dict[str, Any] | None

    @property
    def needed(self) -> bool:
        return (self.before or b"") != self.after


def added(client: Client, file: Path, entry: dict[str, Any]) -> Change:
    """The change that makes ``entry`` ours in the client's file.

    Raises:
        ConfigError: the file cannot be read, or is not what the client writes
    """
    before = _read(file)
    mark, text = _decoded(before, file)
    try:
        old = _entry(text, client) if text.strip() else None
        after = text if text.strip() else "{}\n"
        if old is None:
            after = jsonc.with_member(after, (client.section, ENTRY), entry)
        else:
            for key, value in entry.items():
                if old.get(key) != value:
                    after = jsonc.with_member(after, (client.section, ENTRY, key), value)
        _check(text, after, client, {**(old or {}), **entry})
    except jsonc.Malformed as error:
        raise _refused(client, file, error) from None
    return Change(client, file, before, (mark + after).encode(), _ours(old), entry)


def removed(client: Client, file: Path) -> Change:
    """The change that takes our entry out of the client's file.

    Raises:
        ConfigError: as for ``added``
    """
    before = _read(file)
    mark, text = _decoded(before, file)
    try:
        old = _entry(text, client) if text.strip() else None
        after = jsonc.without_member(text, (client.section, ENTRY)) if old is not None else text
        if old is not None:
            _check(text, after, client, None)
    except jsonc.Malformed as error:
        raise _refused(client, file, error) from None
    return Change(client, file, before, (mark + after).encode(), _ours(old), None)


def make(change: Change) -> Path | None:
    """Write the file, as a whole or not at all; returns the copy of what was there before.

    A link stays, and what it leads to is written. The mode stays; a new file is the user's alone.

    Raises:
        ConfigError: it cannot be written, or has changed since it was read
    """
    file = Path(os.path.realpath(change.file))
    try:
        if change.before is None:
            file.parent.mkdir(parents=True, exist_ok=True)
        if _read(change.file) != change.before:
            raise ConfigError(
                f"{change.file} has changed in the meantime; nothing was written.",
                hint="Run the command again.",
            )
        backup = None
        mode = 0o600
        owner = None
        if change.before is not None:
            found = file.stat()
            mode, owner = stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid)
            if not mode & stat.S_IWUSR:
                raise ConfigError(
                    f"{change.file} is read-only; nothing was written.",
                    hint="Make it writable, or let the program that manages it add the entry.",
                )
            backup = _backup_of(file)
            _write(backup, change.before, mode, owner)
        _write(file, change.after, mode, owner)
    except OSError as error:
        raise ConfigError(
            f"{change.file} cannot be written: {error.strerror}.", hint="Nothing was changed."
        ) from error
    return backup


def _read(file: Path) -> bytes | None:
    try:
        if not file.exists() and not file.is_symlink():
            return None
        if not file.is_file():
            raise ConfigError(f"{file} is not a file; nothing was changed.")
        if file.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{file} is larger than 32 MiB; nothing was changed.")
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}.") from error


def _decoded(content: bytes | None, file: Path) -> tuple[str, str]:
    """The byte order mark, and the rest."""
    try:
        text = (content or b"").decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not UTF-8 text; nothing was changed.") from None
    return (_MARK, text[1:]) if text.startswith(_MARK) else ("", text)


def _entry(text: str, client: Client) -> dict[str, Any] | None:
    root = jsonc.parse(text).data
    if not isinstance(root, dict):
        raise jsonc.Malformed("the whole is not an object")
    section = root.get(client.section, {})
    if not isinstance(section, dict):
        raise jsonc.Malformed(f"{client.section} is not an object")
    entry = section.get(ENTRY)
    if entry is not None and not isinstance(entry, dict):
        raise jsonc.Malformed(f"{client.section}.{ENTRY} is not an object")
    return entry


def _ours(entry: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if entry is None else {key: entry[key] for key in _OURS if key in entry}


def _check(before: str, after: str, client: Client, entry: dict[str, Any] | None) -> None:
    """Nothing but our entry may differ: the last look before a user's file is replaced."""
    expected = jsonc.parse(before).data if before.strip() else {}
    section = expected.setdefault(client.section, {})
    if entry is None:
        del section[ENTRY]
    else:
        section[ENTRY] = entry
    if jsonc.parse(after).data != expected:
        raise jsonc.Malformed("our change would have damaged it")


def _refused(client: Client, file: Path, error: jsonc.Malformed) -> ConfigError:
    return ConfigError(
        f"{file} cannot be understood ({error}); nothing was changed.",
        hint=f"Repair it, or add the entry by hand: 'claude-mcp install --print' "
        f"shows it, and {client.title} keeps it under {client.section!r}.",
    )


def _backup_of(file: Path) -> Path:
    """A name beside the file that is free."""
    stem = f"{file.name}.{time.strftime('%Y-%m-%d')}"
    number = 0
    while True:
        backup = file.with_name(f"{stem}{f'-{number}' if number else ''}.bak")
        if not os.path.lexists(backup):
            return backup
        number += 1


def _write(file: Path, content: bytes, mode: int, owner: tuple[int, int] | None) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            if owner is not None and owner != (os.geteuid(), os.getegid()) and os.geteuid() == 0:
                os.fchown(stream.fileno(), *owner)
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise
