"""How a session gets its workspace, and what host and agent say to each other about it.

``bind`` mounts the project. For ``clone`` and ``copy`` the host unpacks files into a staging
directory of the agent between ``READY`` and ``COMMIT`` (see `places`):

1. the host writes ``places.SEED``; the agent answers ``STAGING`` with a ``Staging`` as JSON;
2. the engine unpacks the files there, and the host writes a ``Seed`` as JSON;
3. the agent makes the workspace and answers ``SEEDED`` and the tree of its first state, or
   ``UNSEEDED`` and why;
4. if there is no ``base``, the host writes a seal of that tree, which the session cannot make.

In the staging directory, ``PACKS`` holds git packs with their indexes, ``FILES`` the files with
their paths, and ``LFS`` objects of Git LFS as a repository has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

BIND = "bind"
CLONE = "clone"
COPY = "copy"

STAGING = "staging "
SEEDED = "seeded "
UNSEEDED = "unseeded "

PACKS = "packs"
FILES = "files"
LFS = "lfs"

SEED_REF = "refs/claude-mcp/seed"
"""Keeps the commit that a clone began with."""
REMOTE_PREFIX = "refs/remotes/origin/"


class Submodule(NamedTuple):
    """A repository below a clone; the names of its packs begin with ``prefix``."""

    path: str
    commit: str
    prefix: str
    object_format: str = "sha1"
    shallow: tuple[str, ...] = ()


class Seed(NamedTuple):
    """What to make of the files in the staging directory."""

    kind: str
    branch: str = ""
    """Of a clone: the branch that the session works on."""
    base: str | None = None
    """The commit it begins at; None in a repository without commits."""
    object_format: str = "sha1"
    references: Mapping[str, str] = {}
    """More references of the clone, by their whole names: commits and tags in the pack."""
    shallow: tuple[str, ...] = ()
    """Commits whose parents are missing, because the project is a shallow clone."""
    deleted: tuple[str, ...] = ()
    """Files of ``base`` that the project no longer has."""
    submodules: tuple[Submodule, ...] = ()
    """Outer ones before those in them; on arrival still JSON objects."""
    lfs: bool = False
    """Whether there are files of Git LFS whose content is in ``LFS``."""
