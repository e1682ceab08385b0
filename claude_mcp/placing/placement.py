"""Moves what was staged to where it belongs, whole or not at all; used on both sides of the wall.

What is moved, and where to, is a name in an open directory.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from claude_mcp.placing import descriptors


class PlaceError(Exception):
    """Something is there already and may not be replaced; the message names it."""


def target_of(destination: str, name: str) -> str:
    """Where a source called ``name`` ends up.

    As with cp: inside a destination that is a directory or ends with ``/``, else at the
    destination itself, whose directory must exist.

    Raises:
        PlaceError: that directory is missing.
    """
    inside = destination.endswith("/") or os.path.isdir(destination)
    target = os.path.join(destination, name) if inside else destination
    parent = os.path.dirname(target.rstrip("/"))
    if not os.path.isdir(parent):
        raise PlaceError(f"there is no directory {parent}")
    return os.path.join(os.path.realpath(parent), os.path.basename(target))


def check(staged_is_directory: bool, parent: int, target: str, overwrite: bool) -> None:
    """Raise PlaceError if ``place`` would not do its work; ``parent`` is the target's directory."""
    there = _status(parent, os.path.basename(target))
    if there is None:
        return
    if not overwrite:
        raise PlaceError(f"{target} exists already, and overwrite is off")
    if stat.S_ISDIR(there.st_mode) != staged_is_directory:
        kind = "a directory" if stat.S_ISDIR(there.st_mode) else "not a directory"
        raise PlaceError(f"{target} is there and is {kind}")


def place(staging: int, name: str, parent: int, target: str, overwrite: bool) -> None:
    """Make ``name`` of the staging directory the target; a directory is merged into one there.

    Links at the target are replaced, never followed. When it cannot be finished, all that was
    moved so far is put back.

    Raises:
        PlaceError
    """
    moves = _Moves(staging, name, parent, target)
    try:
        moves.place(staging, (), overwrite)
    except BaseException:
        moves.undo()
        raise
    finally:
        moves.forget()


class _Moves:
    """The moves of one placing. ``where`` is a place in the target: the names below it."""

    def __init__(self, staging: int, name: str, parent: int, target: str) -> None:
        self._staging, self._name = staging, name
        self._parent, self._target = parent, target
        self._done: list[tuple[tuple[str, ...], str, bool]] = []
        # Beside what was staged, and so under another name.
        self._attic_name = "replaced" if name != "replaced" else "replaced-2"
        os.mkdir(self._attic_name, 0o700, dir_fd=staging)
        self._attic = os.open(self._attic_name, descriptors.READ, dir_fd=staging)

    def place(self, source: int, where: tuple[str, ...], overwrite: bool) -> None:
        """Move what is at this place of what was staged; it is in ``source``."""
        name = where[-1] if where else self._name
        directory = stat.S_ISDIR(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode)
        destination = self._directory_of(where)
        try:
            shown = os.path.join(self._target, *where)
            check(directory, destination, shown, overwrite)
            there = _status(destination, os.path.basename(shown)) is not None
            if not (directory and there):
                self._move(source, name, destination, where, directory, overwrite and there)
                return
        finally:
            os.close(destination)
        reading = os.open(name, descriptors.READ, dir_fd=source)
        try:
            for child in os.listdir(reading):
                self.place(reading, (*where, child), overwrite)
        finally:
            os.close(reading)

    def _directory_of(self, where: Sequence[str]) -> int:
        names = (os.path.basename(self._target), *where)[:-1]
        return descriptors.walk(self._parent, names)

    def _move(
        self,
        source: int,
        name: str,
        destination: int,
        where: tuple[str, ...],
        directory: bool,
        replaces: bool,
    ) -> None:
        target = where[-1] if where else os.path.basename(self._target)
        kept = str(len(self._done))
        if replaces:
            try:
                os.link(
                    target, kept, src_dir_fd=destination, dst_dir_fd=self._attic,
                    follow_symlinks=False,
                )  # fmt: skip
            except OSError:  # not every file system has links, and not every file may get one
                os.rename(target, kept, src_dir_fd=destination, dst_dir_fd=self._attic)
        self._done.append((where, kept, replaces))
        if directory:
            _move_directory(source, name, destination, target)
        elif replaces:
            os.replace(name, target, src_dir_fd=source, dst_dir_fd=destination)
        else:
            self._move_new(source, name, destination, target, where)

    def _move_new(
        self, source: int, name: str, destination: int, target: str, where: tuple[str, ...]
    ) -> None:
        """Unlike a renaming, a link does not replace what came there since it was looked at."""
        try:
            os.link(name, target, src_dir_fd=source, dst_dir_fd=destination, follow_symlinks=False)
        except FileExistsError:
            self._done.pop()
            shown = os.path.join(self._target, *where)
            raise PlaceError(f"{shown} exists already, and overwrite is off") from None
        except OSError:
            os.rename(name, target, src_dir_fd=source, dst_dir_fd=destination)
        else:
            os.unlink(name, dir_fd=source)

    def undo(self) -> None:
        """Put back what was replaced, and take back what was new; the last first."""
        for where, kept, replaced in reversed(self._done):
            target = where[-1] if where else os.path.basename(self._target)
            try:
                destination = self._directory_of(where)
            except OSError:  # it is not there any more, and so is nothing of ours in it
                continue
            try:
                if replaced:
                    os.replace(kept, target, src_dir_fd=self._attic, dst_dir_fd=destination)
                else:
                    os.rename(target, kept, src_dir_fd=destination, dst_dir_fd=self._attic)
            except OSError:
                continue
            finally:
                os.close(destination)

    def forget(self) -> None:
        descriptors.empty(self._attic)
        os.close(self._attic)
        descriptors.remove(self._staging, self._attic_name)


def _status(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _move_directory(source: int, name: str, destination: int, target: str) -> None:
    """Rename it; who may not write in a directory may not move it to another either."""
    try:
        os.rename(name, target, src_dir_fd=source, dst_dir_fd=destination)
    except PermissionError:
        directory = os.open(name, descriptors.READ, dir_fd=source)
        try:
            mode = stat.S_IMODE(os.fstat(directory).st_mode)
            os.fchmod(directory, mode | 0o700)
            try:
                os.rename(name, target, src_dir_fd=source, dst_dir_fd=destination)
            finally:
                os.fchmod(directory, mode)
        finally:
            os.close(directory)
