"""Where an installation lies, and what is known of it.

Each bundle has a directory of its own below ``versions``, and ``current`` leads to the one in use,
so that a program that runs keeps its own files. The rule: only what we made is changed or removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bundle_installer.refusal import Refused

PROGRAM: Final = "claude-mcp"
RECORD: Final = "installed.json"
"""Written last, so a version without it is one whose installation was interrupted."""


@dataclass(frozen=True, slots=True)
class Places:
    directory: Path
    bin: Path

    @property
    def versions(self) -> Path:
        return self.directory / "versions"

    @property
    def current(self) -> Path:
        return self.directory / "current"

    @property
    def key(self) -> Path:
        """The key that the first installation was checked with, which all later ones must have."""
        return self.directory / "key.pub"

    @property
    def link(self) -> Path:
        return self.bin / PROGRAM

    @property
    def link_target(self) -> Path:
        return self.current / "venv" / "bin" / PROGRAM

    def record(self) -> dict[str, Any] | None:
        """What is installed; None if nothing is."""
        return read_record(self.current)

    def check_link(self) -> None:
        """Raises Refused if something else has the program's name."""
        if os.path.lexists(self.link) and not self._is_ours():
            raise Refused(
                f"{self.link} is there, and not from this installer. Remove it, or choose another "
                "directory with --bin."
            )

    def switch(self, version: str) -> None:
        """Make a version the current one, at once."""
        _link(Path("versions") / version, self.current)
        self.bin.mkdir(parents=True, exist_ok=True)
        if not self._is_ours():
            _link(self.link_target, self.link)

    def remove_link(self) -> None:
        if self._is_ours():
            self.link.unlink()

    def _is_ours(self) -> bool:
        return self.link.is_symlink() and self.link.readlink() == self.link_target

    def remove_unused(self, *kept: str) -> list[str]:
        """Remove versions other than these that no process runs from; the names of those left."""
        left = []
        for path in sorted(self.versions.iterdir()):
            if path.name in kept:
                continue
            if in_use(path):
                left.append(path.name)
            else:
                shutil.rmtree(path)
        return left


def default_places(directory: str | None, bin_directory: str | None) -> Places:
    root = os.geteuid() == 0
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    place = Path(directory).absolute() if directory else Path("/opt") if root else data
    place = place if directory else place / PROGRAM
    if bin_directory:
        return Places(place, Path(bin_directory).absolute())
    if directory:
        return Places(place, place / "bin")
    return Places(place, Path("/usr/local/bin") if root else Path.home() / ".local" / "bin")


def read_record(version: Path) -> dict[str, Any] | None:
    try:
        value = json.loads((version / RECORD).read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_record(version: Path, record: dict[str, Any]) -> None:
    temporary = version / f".{RECORD}"
    temporary.write_text(json.dumps(record, indent=2) + "\n")
    temporary.replace(version / RECORD)


def in_use(version: Path) -> bool:
    """Does a process run that was started from there? Where /proc tells nothing, perhaps."""
    words = os.fsencode(version) + b"/"
    try:
        processes = [each for each in os.listdir("/proc") if each.isdigit()]
    except OSError:
        return True
    for process in processes:
        with contextlib.suppress(OSError):
            if words in Path(f"/proc/{process}/cmdline").read_bytes():
                return True
    return False


@contextmanager
def locked(places: Places) -> Iterator[None]:
    """Keep other installers out of the directory.

    Raises:
        Refused: it is in use, or cannot be written
    """
    try:
        places.directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(
            places.directory / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600
        )
    except OSError as error:
        raise Refused(f"{places.directory} cannot be written: {error.strerror}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise Refused(f"Another installer works in {places.directory}.") from error
    try:
        yield
    finally:
        os.close(descriptor)


def _link(target: Path, link: Path) -> None:
    temporary = link.with_name(f".{link.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
