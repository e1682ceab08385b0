"""One async method per verb of the engine's command line."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from claude_mcp.engine import argv as build
from claude_mcp.engine import process
from claude_mcp.engine.argv import Argv, ContainerSpec
from claude_mcp.engine.dialects import Dialect, detect
from claude_mcp.engine.failures import (
    AMBIGUOUS,
    BUSY,
    HALF_REMOVED,
    NAME_IN_USE,
    NO_SUCH_CONTAINER,
    NO_SUCH_PATH,
    NO_SUCH_VOLUME,
    classify,
    failure,
    ignored_limits,
    last_line,
    matches,
    refused_limit,
)
from claude_mcp.errors import EngineError, EngineNotFound, EngineUnavailable

VERB_TIMEOUT_SECONDS: Final = 60.0
"""No verb that we wait for takes this long on a healthy engine."""


class ContainerNotFound(EngineError):
    """The engine knows no such container."""


class ContainerNameInUse(EngineError):
    """Another container has this name."""


class ReferenceAmbiguous(EngineError):
    """An id prefix fits several containers."""


class PathNotFound(EngineError):
    """The container has no such path."""


@dataclass(frozen=True, slots=True)
class Container:
    """What ``inspect`` says of a container; times are RFC 3339, as the engine writes them."""

    id: str
    name: str
    created: str
    status: str
    exit_code: int
    error: str
    image: str
    labels: Mapping[str, str]
    started: str = ""


@dataclass(frozen=True, slots=True)
class NewContainer:
    id: str
    ignored: tuple[str, ...] = ()
    """What the engine says of limits that it cannot set here."""


class LimitRefused(EngineError):
    """The engine makes or starts no container with the limit ``limit`` of ``argv.Limits``."""

    def __init__(self, message: str, limit: str, reason: str) -> None:
        super().__init__(message)
        self.limit = limit
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Engine:
    """A container engine behind its command line.

    ``environment`` is the whole environment of its processes.
    """

    program: str
    dialect: Dialect
    environment: Mapping[str, str]

    @classmethod
    async def connect(cls, wanted: str | None, environment: Mapping[str, str]) -> Engine:
        """Detect the engine; see ``dialects.detect`` for the errors."""
        found = await detect(wanted, environment)
        return cls(found.program, found.dialect, environment)

    @property
    def title(self) -> str:
        return self.dialect.title

    async def _run(
        self,
        argv: Argv,
        *,
        bounded: bool = True,
        extra_environment: Mapping[str, str] | None = None,
        capture_bytes: int = process.CAPTURE_BYTES,
    ) -> process.Completed:
        environment = {**self.environment, **(extra_environment or {})}
        timeout = VERB_TIMEOUT_SECONDS if bounded else None
        try:
            return await process.run(
                argv, env=environment, timeout=timeout, capture_bytes=capture_bytes
            )
        except process.ProgramNotFound as error:
            raise EngineNotFound(
                f"'{self.program}' can no longer be started: {error}.",
                hint=f"Install {self.title} again, or restart this program to choose anew.",
            ) from error
        except process.ProcessTimeout as error:
            raise EngineUnavailable(
                f"{self.title} did not finish '{argv[1]}' within {VERB_TIMEOUT_SECONDS:g} s.",
                hint="Look at the engine's own log; its storage or daemon may hang.",
            ) from error

    async def create(
        self, spec: ContainerSpec, inherited: Mapping[str, str] | None = None
    ) -> NewContainer:
        """Create a container.

        ``inherited`` gives the values of ``spec.inherited``.

        Raises:
            ContainerNameInUse, ImageNotFound, LimitRefused, EngineError
        """
        completed = await self._run(
            build.create_argv(self.program, spec), extra_environment=inherited
        )
        if completed.returncode == 0:
            id = completed.out.strip().splitlines()[-1]
            return NewContainer(id, ignored_limits(completed.err))
        if matches(NAME_IN_USE, completed):
            raise ContainerNameInUse(f"A container named {spec.name} exists already.")
        raise self.failed(f"create container {spec.name}", completed.err)

    @asynccontextmanager
    async def start_attached(self, ref: str) -> AsyncIterator[process.Stream]:
        """Start a container with its main process's stdin and stdout in our hands.

        Leaving the block ends the attached client at once; the container runs on.
        """
        async with process.open_stream(
            build.start_attached_argv(self.program, ref), env=self.environment, exit_grace=0.0
        ) as stream:
            yield stream

    async def start(self, ref: str) -> None:
        completed = await self._run(build.start_argv(self.program, ref))
        if completed.returncode != 0:
            raise failure(self.title, f"start container {ref}", completed)

    async def remove(self, ref: str) -> bool:
        """Kill and remove a container and its anonymous volumes; False if it was not there."""
        argv = build.remove_argv(self.program, ref)
        completed = await self._run(argv)
        # Of one that is being started, Podman may remove all but a mount point, and fail.
        busy = matches(BUSY, completed)
        if busy:
            completed = await self._run(argv)
        if completed.returncode == 0:
            # `rm --force` of what is not there succeeds; what was removed is on stdout.
            return busy or bool(completed.stdout.strip())
        if matches(NO_SUCH_CONTAINER, completed):
            return busy
        raise failure(self.title, f"remove container {ref}", completed)

    async def remove_volume(self, name: str) -> None:
        """Remove a named volume; it is fine if it was not there."""
        completed = await self._run(build.remove_volume_argv(self.program, name))
        if completed.returncode != 0 and not matches(NO_SUCH_VOLUME, completed):
            raise failure(self.title, f"remove volume {name}", completed)

    async def inspect(self, refs: Sequence[str]) -> list[Container]:
        """Those of ``refs`` that exist, in no promised order.

        Raises:
            ReferenceAmbiguous: one of them is a prefix of several ids.
        """
        return (await self._inspect(refs))[0]

    async def _inspect(self, refs: Sequence[str]) -> tuple[list[Container], list[str]]:
        """Those that exist, and the ids of those that are half removed."""
        if not refs:
            return [], []
        completed = await self._run(build.inspect_argv(self.program, refs))
        found = parse_inspect(completed.out)
        if matches(AMBIGUOUS, completed):
            raise ReferenceAmbiguous(f"{' or '.join(refs)} fits several containers.")
        half_removed = HALF_REMOVED.findall(completed.err)
        if completed.returncode != 0 and not (
            half_removed or matches(NO_SUCH_CONTAINER, completed)
        ):
            raise failure(self.title, "inspect containers", completed)
        return found, half_removed

    async def ids(self, label: str, value: str | None = None) -> list[str]:
        """Those of all containers, running or not, that carry a label, of any value or this one."""
        completed = await self._run(build.list_ids_argv(self.program, label, value))
        if completed.returncode != 0:
            raise failure(self.title, "list containers", completed)
        return completed.out.split()

    async def containers(self, label: str) -> list[Container]:
        """All containers, running or not, that carry a label: two engine calls."""
        left = await self.ids(label)
        broken: list[str] = []
        found, half_removed = await self._inspect(left)
        while half_removed and half_removed[0] in left:  # nothing was said of the others
            broken += half_removed
            left = [id for id in left if id not in half_removed]
            found, half_removed = await self._inspect(left)
        return found + [Container(id, id, "", "removing", 0, "", "", {label: ""}) for id in broken]

    @asynccontextmanager
    async def exec(
        self, ref: str, command: Sequence[str], *, exit_grace: float = process.EXIT_GRACE_SECONDS
    ) -> AsyncIterator[process.Stream]:
        """Run a command in a running container, with its pipes held open."""
        async with process.open_stream(
            build.exec_argv(self.program, ref, command),
            env=self.environment,
            exit_grace=exit_grace,
        ) as stream:
            yield stream

    async def logs(self, ref: str, tail: int, capture_bytes: int) -> process.Completed:
        """The last ``tail`` lines that the container's main process wrote, with times."""
        completed = await self._run(
            build.logs_argv(self.program, ref, tail), capture_bytes=capture_bytes
        )
        if matches(NO_SUCH_CONTAINER, completed):
            raise ContainerNotFound(f"{self.title} knows no container {ref}.")
        if completed.returncode != 0:
            raise failure(self.title, f"read the logs of container {ref}", completed)
        return completed

    async def copy_in(self, ref: str, directory: str, write: Callable[[BinaryIO], None]) -> None:
        """Unpack the tar archive that ``write`` makes (in a thread) into a directory.

        The engine does this as root, so the archive's owners and modes are kept.

        Raises:
            PathNotFound: there is no such directory, or none that the engine sees: it does not
                see what lies in a tmpfs.
        """
        argv = build.copy_in_argv(self.program, ref, directory)
        with self._spool() as environment:
            completed, broken = await process.run_with_pipe(
                argv,
                write,
                feeds=True,
                env=environment,
                ends_by_itself=self.dialect.copies_in_daemon,
            )
        self._check_copy(completed, broken, f"copy into container {ref[:12]}", directory)

    @contextmanager
    def _spool(self) -> Iterator[Mapping[str, str]]:
        """The environment for ``cp -``, with a TMPDIR that takes what the engine leaves behind."""
        if not self.dialect.spools_archives:
            yield self.environment
            return
        where = self.environment.get("TMPDIR", "/var/tmp")  # as Podman has it
        with tempfile.TemporaryDirectory(prefix="claude-mcp-", dir=where) as directory:
            yield {**self.environment, "TMPDIR": directory}

    async def copy_out(self, ref: str, path: str, read: Callable[[BinaryIO], None]) -> None:
        """Let ``read`` (in a thread) take the tar archive of a path in the container.

        Raises:
            PathNotFound: as for ``copy_in``.
        """
        follow_link = self.dialect.copies_links
        argv = build.copy_out_argv(self.program, ref, path, follow_link=follow_link)
        completed, broken = await process.run_with_pipe(
            argv, read, feeds=False, env=self.environment
        )
        self._check_copy(completed, broken, f"copy out of container {ref[:12]}", path)

    def _check_copy(
        self, completed: process.Completed, broken: Exception | None, tried: str, path: str
    ) -> None:
        if matches(NO_SUCH_PATH, completed):
            raise PathNotFound(f"{self.title} finds no {path} in the container.")
        if broken is not None:
            raise broken
        if completed.returncode != 0:
            raise failure(self.title, tried, completed)

    async def image_exists(self, image: str) -> bool:
        completed = await self._run(build.image_id_argv(self.program, image))
        return completed.returncode == 0

    def failed(self, tried: str, stderr: str) -> EngineError:
        """The typed error for a process that failed with this stderr."""
        error = classify(self.title, tried, stderr)
        limit = refused_limit(stderr)
        if limit is not None and type(error) is EngineError:
            return LimitRefused(error.message, limit, last_line(stderr))
        return error


def parse_inspect(stdout: str) -> list[Container]:
    """Read the output of ``inspect`` in ``argv.INSPECT_FORMAT``: one object per line."""
    found = []
    for line in stdout.splitlines():
        if not line.strip():
            continue
        try:
            fields: dict[str, Any] = json.loads(line)
            found.append(
                Container(
                    id=fields["id"],
                    name=fields["name"].lstrip("/"),
                    created=fields["created"],
                    status=fields["status"],
                    exit_code=fields["exitCode"],
                    error=fields["error"] or "",
                    image=fields["image"],
                    labels=fields["labels"] or {},
                    started=fields["started"],
                )
            )
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise EngineError(
                f"The engine's answer to inspect is not understood: {line[:200]}."
            ) from error
    return found
