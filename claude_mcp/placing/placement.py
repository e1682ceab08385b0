"""Moves a staged file or directory to its target, completely or not at all.

Source and target are names in open directories. Used on the host and in the session.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence

from claude_mcp.placing import descriptors


class PlaceError(Exception):
    """The target cannot be created or replaced; the message says why."""


class NoDirectory(PlaceError):
    """The target's directory does not exist."""


def target_of(destination: str, name: str, create_parents: bool = False) -> str:
    """The target path of a source called ``name``.

    As with cp, the source goes inside a destination that is a directory or ends with ``/``.
    Otherwise the destination is the target. Its directory must exist, unless it may be created.

    Raises:
        NoDirectory
    """
    inside = destination.endswith("/") or os.path.isdir(destination)
    target = os.path.join(destination, name) if inside else destination
    parent = os.path.dirname(target.rstrip("/"))
    if not os.path.isdir(parent) and not create_parents:
        raise NoDirectory(f"there is no directory {parent}")
    return os.path.join(os.path.realpath(parent), os.path.basename(target))


def nearest_directory(path: str) -> str:
    """The deepest directory on an absolute path that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


@contextlib.contextmanager
def created_parents(directory: str) -> Iterator[None]:
    """Create what is missing of a directory's path. If the body fails, it is removed again.

    As root, what is created belongs to the owner of the directory that existed.

    Raises:
        PlaceError: a directory cannot be created.
        OSError: the path has become a link.
    """
    nearest = nearest_directory(directory)
    names = os.path.relpath(directory, nearest).split("/") if directory != nearest else []
    made: list[tuple[int, str]] = []
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(descriptors.opened(nearest))
        there = os.fstat(here)
        try:
            for name in names:
                try:
                    os.mkdir(name, dir_fd=here)
                except OSError as error:
                    why = f"{directory} cannot be created: {error.strerror}"
                    raise PlaceError(why) from error
                made.append((here, name))
                here = os.open(name, descriptors.READ, dir_fd=here)
                stack.callback(os.close, here)
                if os.geteuid() == 0:
                    os.fchown(here, there.st_uid, there.st_gid)
            yield
        except BaseException:
            for above, name in reversed(made):
                with contextlib.suppress(OSError):  # somebody has put something into it
                    os.rmdir(name, dir_fd=above)
            raise


def check(staged_is_directory: bool, parent: int, target: str, overwrite: bool) -> None:
    """Raise the PlaceError that ``place`` would; ``parent`` is the target's open directory."""
    there = _status(parent, os.path.basename(target))
    if there is None:
        return
    if not overwrite:
        raise PlaceError(f"{target} exists already, and overwrite is off")
    if stat.S_ISDIR(there.st_mode) != staged_is_directory:
        kind = "a directory" if stat.S_ISDIR(there.st_mode) else "not a directory"
        raise PlaceError(f"{target} exists and is {kind}")


def place(staging: int, name: str, parent: int, target: str, overwrite: bool) -> None:
    """Move ``name`` from the staging directory to the target; directories are merged.

    Links at the target are replaced, never followed. If a move fails, all earlier moves are undone.

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


Identity = tuple[int, int]
"""Device and inode."""


class _Moves:
    """The moves of one placement. ``where`` is a path below the target, as names."""

    def __init__(self, staging: int, name: str, parent: int, target: str) -> None:
        self._staging, self._name = staging, name
        self._parent, self._target = parent, target
        self._done: list[tuple[tuple[str, ...], str, bool, Identity]] = []
        # It lies beside the staged name, so it must differ from it.
        self._attic_name = "replaced" if name != "replaced" else "replaced-2"
        os.mkdir(self._attic_name, 0o700, dir_fd=staging)
        self._attic = os.open(self._attic_name, descriptors.READ, dir_fd=staging)

    def place(self, source: int, where: tuple[str, ...], overwrite: bool) -> None:
        """Move the staged entry at this path; ``source`` is its open directory."""
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
            except OSError:  # some file systems and some files do not allow hard links
                os.rename(target, kept, src_dir_fd=destination, dst_dir_fd=self._attic)
        ours = _identity(os.stat(name, dir_fd=source, follow_symlinks=False))
        self._done.append((where, kept, replaces, ours))
        if directory:
            self._move_directory(source, name, destination, where)
        elif replaces:
            os.replace(name, target, src_dir_fd=source, dst_dir_fd=destination)
        else:
            self._move_new(source, name, destination, target, where)

    def _move_directory(
        self, source: int, name: str, destination: int, where: tuple[str, ...]
    ) -> None:
        """Make the target first: otherwise rename replaces an empty directory created meanwhile."""
        shown = os.path.join(self._target, *where)
        target = os.path.basename(shown)
        try:
            os.mkdir(target, 0o700, dir_fd=destination)
        except FileExistsError:
            raise PlaceError(f"{shown} exists already, and overwrite is off") from None
        try:
            _rename_directory(source, name, destination, target)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.rmdir(target, dir_fd=destination)
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise PlaceError(f"{shown} was replaced meanwhile") from error
            raise

    def _move_new(
        self, source: int, name: str, destination: int, target: str, where: tuple[str, ...]
    ) -> None:
        """Prefer a hard link: unlike rename, it never replaces a file created meanwhile."""
        try:
            os.link(name, target, src_dir_fd=source, dst_dir_fd=destination, follow_symlinks=False)
        except FileExistsError:
            shown = os.path.join(self._target, *where)
            raise PlaceError(f"{shown} exists already, and overwrite is off") from None
        except OSError:
            os.rename(name, target, src_dir_fd=source, dst_dir_fd=destination)
        else:
            os.unlink(name, dir_fd=source)

    def undo(self) -> None:
        """Restore replaced entries and remove new ones, in reverse order.

        What somebody else has put in a place meanwhile stays there.
        """
        for where, kept, replaced, ours in reversed(self._done):
            target = where[-1] if where else os.path.basename(self._target)
            try:
                destination = self._directory_of(where)
            except OSError:  # the directory no longer exists, and neither do our files in it
                continue
            try:
                self._undo_move(destination, target, kept, replaced, ours)
            except OSError:
                continue
            finally:
                os.close(destination)

    def _undo_move(
        self, destination: int, target: str, kept: str, replaced: bool, ours: Identity
    ) -> None:
        there = _status(destination, target)
        if there is not None and _identity(there) != ours:
            return
        if replaced:
            os.replace(kept, target, src_dir_fd=self._attic, dst_dir_fd=destination)
            return
        os.rename(target, kept, src_dir_fd=destination, dst_dir_fd=self._attic)
        if _identity(os.stat(kept, dir_fd=self._attic, follow_symlinks=False)) != ours:
            os.rename(kept, target, src_dir_fd=self._attic, dst_dir_fd=destination)

    def forget(self) -> None:
        descriptors.empty(self._attic)
        os.close(self._attic)
        descriptors.remove(self._staging, self._attic_name)


def _status(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def _rename_directory(source: int, name: str, destination: int, target: str) -> None:
    """Rename a directory; moving it to another parent needs write permission on itself."""
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
