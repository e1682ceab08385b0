"""Moves what was staged to where it belongs; used on both sides of the wall."""

from __future__ import annotations

import os
import stat


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


def check(staged_is_directory: bool, target: str, overwrite: bool) -> None:
    """Raise PlaceError if ``place`` would not do its work."""
    try:
        there = os.lstat(target)
    except FileNotFoundError:
        return
    if not overwrite:
        raise PlaceError(f"{target} exists already, and overwrite is off")
    if stat.S_ISDIR(there.st_mode) != staged_is_directory:
        kind = "a directory" if stat.S_ISDIR(there.st_mode) else "not a directory"
        raise PlaceError(f"{target} is there and is {kind}")


def place(staged: str, target: str, overwrite: bool) -> None:
    """Rename ``staged`` to ``target``; a directory is merged into one that is there.

    Links at the target are replaced, never followed.
    """
    directory = os.path.isdir(staged) and not os.path.islink(staged)
    check(directory, target, overwrite)
    if directory and os.path.lexists(target):
        for name in os.listdir(staged):
            place(os.path.join(staged, name), os.path.join(target, name), overwrite)
    else:
        os.replace(staged, target)
