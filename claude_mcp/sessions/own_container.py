"""Paths of the host, if this program itself runs in a container of the engine.

Everything here works on paths as this program sees them. Only what the engine is to mount is named
as the host names it, and what a caller names may be either.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from claude_mcp.engine import host
from claude_mcp.engine.engine import Engine, OwnMount
from claude_mcp.engine.spec import BindMount, ContainerSpec
from claude_mcp.errors import UsageError


@dataclass(frozen=True, slots=True)
class OwnContainer:
    """The mounts of the container in which this program runs."""

    mounts: tuple[OwnMount, ...]

    def here(self, path: str) -> str:
        """A path that a caller named, as this program sees it.

        Raises:
            UsageError: it is not mounted here, or means two different things.
        """
        if not path.startswith("/"):
            return path  # which is refused with a better reason
        named = PurePosixPath(path)
        if ".." in named.parts:
            raise UsageError(f"{path!r} must not contain '..' here.")
        by_host = _nearest(named, ((each.source, each) for each in self._binds))
        by_us = _nearest(named, ((each.target, each) for each in self.mounts))
        ours = None if by_us is None or not by_us.is_bind else path
        of_host = None
        if by_host is not None:
            of_host = _moved(named, by_host.source, by_host.target)
        if ours is not None and of_host is not None and ours != of_host:
            raise UsageError(
                f"{path!r} means two directories: the host's, which the server has at {of_host}, "
                f"and the server's own, which is {self.on_host(path)} on the host.",
                hint="Mount directories into the server's container under the host's own names.",
            )
        found = of_host or ours
        if found is None:
            raise self._missing(path)
        return found

    def on_host(self, path: str, *, writable: bool = False) -> str:
        """A real path here, as the host names it.

        Raises:
            UsageError: it is in the container itself, or may only be read.
        """
        nearest = _nearest(PurePosixPath(path), ((each.target, each) for each in self.mounts))
        if nearest is None or not nearest.is_bind:
            raise self._missing(path)
        if writable and not nearest.writable:
            raise UsageError(
                f"{path!r} cannot be mounted into a session: the server may only read it itself.",
                hint=f"Mount {nearest.source} into the server's container without ':ro', or use "
                "the workspace clone or copy.",
            )
        return _moved(PurePosixPath(path), nearest.target, nearest.source)

    def for_engine(self, spec: ContainerSpec) -> ContainerSpec:
        """The container with its mounts as the host names them; raises as ``on_host`` does."""
        return replace(spec, mounts=tuple(self._bind(mount) for mount in spec.mounts))

    def _bind(self, mount: BindMount) -> BindMount:
        return replace(mount, source=self.on_host(mount.source, writable=not mount.read_only))

    @property
    def _binds(self) -> Iterable[OwnMount]:
        return (each for each in self.mounts if each.is_bind)

    def _missing(self, path: str) -> UsageError:
        known = ", ".join(each.source for each in self._binds) or "none"
        return UsageError(
            f"The server runs in a container in which {path!r} of the host is missing.",
            hint=f"Start that container with --volume={path}:{path}, or of a directory above. "
            f"Mounted now: {known}.",
        )


async def find(engine: Engine) -> OwnContainer | None:
    """The container of this program; None if it runs on the host, or in another engine's container.

    On the host, this makes no engine call.
    """
    id = host.own_container()
    if id is None:
        return None
    mounts = await engine.own_mounts(id)
    return None if mounts is None else OwnContainer(tuple(mounts))


def _nearest(path: PurePosixPath, candidates: Iterable[tuple[str, OwnMount]]) -> OwnMount | None:
    """The one whose directory is the deepest that contains the path."""
    containing = [
        (len(PurePosixPath(directory).parts), each)
        for directory, each in candidates
        if path.is_relative_to(directory)
    ]
    return max(containing, key=lambda found: found[0])[1] if containing else None


def _moved(path: PurePosixPath, old: str, new: str) -> str:
    return str(PurePosixPath(new, path.relative_to(old)))
