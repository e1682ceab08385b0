"""An engine behind Docker's command line, which Podman offers too: one async method per verb."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Final

import anyio
import anyio.to_thread

from claude_mcp.engine import argv as build
from claude_mcp.engine import process, questions, spool
from claude_mcp.engine.described import parse_inspect, parse_mounts, parse_states
from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.engine.engine import (
    CREATE_SECONDS,
    Container,
    ContainerNameInUse,
    ContainerNotFound,
    ContainerNotRunning,
    CopyIncomplete,
    Image,
    LimitRefused,
    Log,
    NewContainer,
    OwnMount,
    PathNotFound,
    PortInUse,
    ProcessLimitReached,
    ReferenceAmbiguous,
    SourceMissing,
)
from claude_mcp.engine.environment import PROXIES, without
from claude_mcp.engine.failures import (
    AMBIGUOUS,
    BEING_REMOVED,
    BUSY,
    CONFIGURED_SOURCE_HINT,
    DISAPPEARED,
    ELSEWHERE_HINT,
    HALF_REMOVED,
    NAME_IN_USE,
    NO_SUCH_CONTAINER,
    NO_SUCH_PATH,
    NO_SUCH_VOLUME,
    NOT_RUNNING,
    PORT_IN_USE,
    PROCESS_LIMIT,
    classify,
    ignored_limits,
    last_line,
    matches,
    missing_source,
    refused_limit,
    without_client_lines,
)
from claude_mcp.engine.info import EngineInfo, parse_info
from claude_mcp.engine.pulse import Pulse, Watched
from claude_mcp.engine.spec import ContainerSpec, Traffic
from claude_mcp.engine.stats import Stats, parse_stats
from claude_mcp.errors import EngineError, EngineNotFound, EngineUnavailable, ungrouped

READ_SECONDS: Final = 20.0
"""How long a verb that changes nothing may take on an engine that answers."""
DESCRIBE_SECONDS: Final = 3.0
"""How long the engine may take to describe containers for a list."""
CHANGE_SECONDS: Final = 60.0
"""The same for a verb that starts, stops or removes something."""
REMOVAL_POLL_SECONDS: Final = 0.1
BUSY_HINT: Final = (
    "Somebody may be copying files of the container, or starting or removing it: try again later. "
    "Otherwise its storage may hang: look at the engine's own log."
)
REMOVING: Final = "removing"
"""The status of a container whose removal failed halfway."""

_STATES: Final = (
    (NO_SUCH_CONTAINER, ContainerNotFound),
    (NOT_RUNNING, ContainerNotRunning),
    (PROCESS_LIMIT, ProcessLimitReached),
)
"""Errors that the state of a container causes, by the engine's wording."""


@dataclass(frozen=True, slots=True)
class DockerCliEngine(Watched):
    """Implements ``Engine``. ``environment`` is the whole environment of its processes."""

    program: str
    version: str
    dialect: Dialect
    environment: Mapping[str, str] = field(repr=False)
    known_info: list[EngineInfo] = field(default_factory=list, compare=False, repr=False)
    """What ``info`` answered, once it was asked."""
    known_own_mounts: list[list[OwnMount] | None] = field(
        default_factory=list, compare=False, repr=False
    )
    """What ``own_mounts`` answered, once it was asked."""
    running: anyio.Semaphore = field(
        default_factory=lambda: anyio.Semaphore(process.runs_at_once()), compare=False, repr=False
    )
    """Bounds the engine processes at a time; further calls wait for their turn."""
    login: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Further variables for what logs in to a registry."""

    pulses: list[Pulse] = field(default_factory=list, compare=False, repr=False)

    async def _ask(self) -> None:
        """The question whether the engine answers, whose answer needs no container."""
        # It does not stand in line with the calls that wait for the same engine.
        completed = await self._run_at_once(questions.version_argv(self.program), math.inf)
        if completed.returncode != 0:
            error = self._failure("report its version", completed)
            if isinstance(error, EngineUnavailable):
                raise error

    async def _run(
        self,
        argv: questions.Argv,
        *,
        capture_bytes: int = process.CAPTURE_BYTES,
        seconds: float | None = None,
    ) -> process.Completed:
        seconds = READ_SECONDS if seconds is None else seconds
        async with self.watching(), self.running:
            return await self._run_at_once(argv, seconds, capture_bytes=capture_bytes)

    async def _run_at_once(
        self,
        argv: questions.Argv,
        seconds: float,
        *,
        extra_environment: Mapping[str, str] | None = None,
        capture_bytes: int = process.CAPTURE_BYTES,
    ) -> process.Completed:
        environment = {**self.environment, **(extra_environment or {})}
        try:
            return await process.run(
                argv, env=environment, timeout=seconds, capture_bytes=capture_bytes
            )
        except process.ProgramNotFound as error:
            raise EngineNotFound(
                f"'{self.program}' can no longer be started: {error}.",
                hint=f"Reinstall {self.title}, or restart this program to detect another engine.",
            ) from error
        except process.ProcessTimeout as error:
            raise EngineUnavailable(
                f"{self.title} answers, but did not finish '{argv[1]}' within {seconds:g} s.",
                hint=BUSY_HINT,
            ) from error

    async def create(
        self,
        spec: ContainerSpec,
        inherited: Mapping[str, str] | None = None,
        *,
        seconds: float = CREATE_SECONDS,
    ) -> NewContainer:
        argv = build.create_argv(self.program, self.dialect, spec)
        # `create --env=NAME` removes a variable from the container only if we have none either.
        plain = replace(self, environment=without(self.environment, PROXIES))
        async with plain.running:
            completed = await plain._run_at_once(argv, seconds, extra_environment=inherited)
        if completed.returncode == 0:
            id = completed.out.strip().splitlines()[-1]
            return NewContainer(id, ignored_limits(completed.err))
        if matches(NAME_IN_USE, completed):
            raise ContainerNameInUse(f"A container named {spec.name} already exists.")
        error = self.failed(f"create container {spec.name}", completed.err)
        source = missing_source(completed.err)
        if source is not None and error.hint is None:
            if any(mount.source == source for mount in spec.mounts):
                raise SourceMissing(error.message, source, hint=ELSEWHERE_HINT)
            error.hint = CONFIGURED_SOURCE_HINT
        raise error

    @asynccontextmanager
    async def start_attached(self, ref: str) -> AsyncIterator[process.Stream]:
        async with process.open_stream(
            build.start_attached_argv(self.program, ref), env=self.environment, exit_grace=0.0
        ) as stream:
            yield stream

    async def start(self, ref: str) -> None:
        completed = await self._run(build.start_argv(self.program, ref), seconds=CHANGE_SECONDS)
        if completed.returncode != 0:
            raise self._failure(f"start container {ref}", completed)

    async def kill(self, ref: str) -> None:
        completed = await self._run(build.kill_argv(self.program, ref), seconds=CHANGE_SECONDS)
        gone = matches(NOT_RUNNING, completed) or matches(NO_SUCH_CONTAINER, completed)
        if completed.returncode != 0 and not gone:
            raise self._failure(f"kill container {ref}", completed)

    async def remove(self, ref: str) -> bool:
        argv = build.remove_argv(self.program, ref)
        completed = await self._run(argv, seconds=CHANGE_SECONDS)
        # Podman may fail on a mount point of a container that is just starting, after it has
        # removed the rest. A second call completes the removal.
        busy = matches(BUSY, completed)
        if busy:
            completed = await self._run(argv, seconds=CHANGE_SECONDS)
        if matches(BEING_REMOVED, completed):
            await self._await_removal(ref)
            return True
        if completed.returncode == 0:
            # `rm --force` of a missing container succeeds; stdout names what was removed.
            return busy or bool(completed.stdout.strip())
        if matches(NO_SUCH_CONTAINER, completed):
            return busy
        raise self._failure(f"remove container {ref}", completed)

    async def _await_removal(self, ref: str) -> None:
        """Wait until the container that another call is removing no longer exists."""
        with anyio.move_on_after(CHANGE_SECONDS):
            while await self.inspect([ref]):  # noqa: ASYNC110 another process removes it
                await anyio.sleep(REMOVAL_POLL_SECONDS)
            return
        raise EngineUnavailable(
            f"{self.title} did not finish the removal of container {ref[:12]} within "
            f"{CHANGE_SECONDS:g} s.",
            hint=BUSY_HINT,
        )

    async def remove_volume(self, name: str) -> None:
        completed = await self._run(
            build.remove_volume_argv(self.program, name), seconds=CHANGE_SECONDS
        )
        if completed.returncode != 0 and not matches(NO_SUCH_VOLUME, completed):
            raise self._failure(f"remove volume {name}", completed)

    async def ensure_traffic(self, ref: str, traffic: Traffic) -> bool:
        """The container's network does it."""
        return True

    async def remove_leftovers(self) -> None:
        """There is nothing else."""

    async def inspect(self, refs: Sequence[str]) -> list[Container]:
        return (await self._inspect(refs))[0]

    async def _inspect(self, refs: Sequence[str]) -> tuple[list[Container], list[str]]:
        """The containers that exist, and the ids of those whose removal failed halfway."""
        if not refs:
            return [], []
        completed = await self._run(questions.inspect_argv(self.program, refs))
        found = parse_inspect(completed.out)
        if matches(AMBIGUOUS, completed):
            raise ReferenceAmbiguous(f"{' or '.join(refs)} matches several containers.")
        half_removed = HALF_REMOVED.findall(completed.err)
        if completed.returncode != 0 and not (
            half_removed or matches(NO_SUCH_CONTAINER, completed)
        ):
            raise self._failure("inspect containers", completed)
        return found, half_removed

    async def stats(self, refs: Sequence[str]) -> list[Stats]:
        completed = await self._run(build.stats_argv(self.program, refs))
        if completed.returncode != 0:
            raise self.failed("measure containers", completed.err)
        return parse_stats(completed.out)

    async def own_mounts(self, id: str) -> list[OwnMount] | None:
        if not self.known_own_mounts:
            completed = await self._run(questions.mounts_argv(self.program, id))
            if completed.returncode == 0:
                self.known_own_mounts.append(parse_mounts(completed.out))
            elif matches(NO_SUCH_CONTAINER, completed):
                self.known_own_mounts.append(None)
            else:
                raise self._failure("inspect the server's own container", completed)
        return self.known_own_mounts[0]

    async def ids(self, label: str, value: str | None = None) -> list[str]:
        completed = await self._run(questions.list_ids_argv(self.program, label, value))
        if completed.returncode != 0:
            raise self._failure("list containers", completed)
        return completed.out.split()

    async def containers(self, label: str) -> list[Container]:
        # Two engine calls; one more for each container that is half removed.
        ids = await self.ids(label)
        with anyio.move_on_after(DESCRIBE_SECONDS):
            return await self._described(ids, label)
        # One container that the engine has locked, as while files are copied, withholds all.
        await self.check()
        return await self._described_singly(ids, label)

    async def _described(self, ids: Sequence[str], label: str) -> list[Container]:
        broken: list[str] = []
        found, half_removed = await self._inspect(ids)
        # Podman stops at the first half-removed container and says nothing of the others.
        while half_removed and half_removed[0] in ids:
            broken += half_removed
            ids = [id for id in ids if id not in half_removed]
            found, half_removed = await self._inspect(ids)
        return found + [Container(id, id, "", REMOVING, 0, "", "", {label: ""}) for id in broken]

    async def _described_singly(self, ids: Sequence[str], label: str) -> list[Container]:
        """Of a container that the engine does not describe in time, what ``ps`` says of it."""
        described: dict[str, list[Container]] = {}

        async def describe(id: str) -> None:
            with anyio.move_on_after(DESCRIBE_SECONDS):
                described[id] = await self._described([id], label)

        with ungrouped():
            async with anyio.create_task_group() as tasks:
                for id in ids:
                    tasks.start_soon(describe, id)
        found = [container for each in described.values() for container in each]
        if len(described) == len(ids):
            return found
        completed = await self._run(questions.list_states_argv(self.program, label))
        if completed.returncode != 0:
            raise self._failure("list containers", completed)
        listed = parse_states(completed.out, label)
        return found + [each for each in listed if each.id in ids and each.id not in described]

    @asynccontextmanager
    async def exec(
        self, ref: str, command: Sequence[str], *, exit_grace: float = process.EXIT_GRACE_SECONDS
    ) -> AsyncIterator[process.Stream]:
        async with process.open_stream(
            build.exec_argv(self.program, ref, command),
            env=self.environment,
            exit_grace=exit_grace,
        ) as stream:
            yield stream

    async def exec_on_terminal(
        self, ref: str, command: Sequence[str], variables: Mapping[str, str]
    ) -> int:
        argv = build.exec_on_terminal_argv(self.program, ref, command, variables)
        return await process.run_attached(argv, env=self.environment)

    async def logs(self, ref: str, tail: int, capture_bytes: int) -> Log:
        completed = await self._run(
            build.logs_argv(self.program, ref, tail), capture_bytes=capture_bytes
        )
        if matches(NO_SUCH_CONTAINER, completed):
            raise ContainerNotFound(f"{self.title} has no container {ref}.")
        if completed.returncode != 0:
            raise self._failure(f"read the logs of container {ref}", completed)
        return Log(completed.out, without_client_lines(completed.err))

    @asynccontextmanager
    async def follow_logs(self, ref: str, tail: int) -> AsyncIterator[process.Stream]:
        argv = build.follow_logs_argv(self.program, ref, tail)
        async with process.open_stream(
            argv, env=self.environment, exit_grace=0, merged=True
        ) as stream:
            yield stream

    async def copy_in(self, ref: str, directory: str, write: Callable[[BinaryIO], None]) -> None:
        argv = build.copy_in_argv(self.program, ref, directory)
        async with self._spool() as environment:
            completed, worker_error = await process.run_with_pipe(
                argv,
                write,
                feeds=True,
                env=environment,
                end_input_first=self.dialect.daemon_unpacks,
            )
        self._check_copy(completed, worker_error, f"copy into container {ref[:12]}", directory)

    @property
    def _temporary(self) -> str:
        return self.environment.get("TMPDIR", "/var/tmp")  # Podman's default

    async def sweep(self) -> None:
        if self.dialect.spools_archives:
            await anyio.to_thread.run_sync(spool.sweep, self._temporary)

    @asynccontextmanager
    async def _spool(self) -> AsyncIterator[Mapping[str, str]]:
        """The environment for ``cp -``, with a TMPDIR of its own if files are left there."""
        if not self.dialect.spools_archives:
            yield self.environment
            return
        where = self._temporary
        made = spool.directory(where)
        try:
            path = await anyio.to_thread.run_sync(made.__enter__)
        except OSError as error:
            raise EngineError(
                f"{self.title} has no directory for temporary files: {where}: {error.strerror}.",
                hint="Set TMPDIR to a directory that you may write to.",
            ) from error
        try:
            yield {**self.environment, "TMPDIR": path}
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(made.__exit__, None, None, None)

    async def copy_out(self, ref: str, path: str, read: Callable[[BinaryIO], None]) -> None:
        argv = build.copy_out_argv(self.program, self.dialect, ref, path)
        completed, worker_error = await process.run_with_pipe(
            argv, read, feeds=False, env=self.environment
        )
        self._check_copy(completed, worker_error, f"copy out of container {ref[:12]}", path)
        if not self.dialect.tells_of_disappeared and not await self.inspect([ref]):
            raise CopyIncomplete(
                f"{self.title} removed the container while it read {path}, so files may be missing."
            )

    def _check_copy(
        self, completed: process.Completed, worker_error: Exception | None, tried: str, path: str
    ) -> None:
        if matches(NO_SUCH_PATH, completed):
            raise PathNotFound(f"{self.title} cannot find {path} in the container.")
        if worker_error is not None:
            raise worker_error
        if completed.returncode != 0:
            raise self._failure(tried, completed)
        missing = len(DISAPPEARED.findall(completed.err))
        if missing:
            raise CopyIncomplete(
                f"{self.title} left out {missing} or more files of {path}, which disappeared "
                "while it read them."
            )

    async def image_exists(self, image: str) -> bool:
        completed = await self._run(build.image_id_argv(self.program, image))
        return completed.returncode == 0

    async def images(self, label: str) -> list[Image]:
        completed = await self._run(build.images_argv(self.program, label))
        if completed.returncode != 0:
            raise self._failure("list images", completed)
        rows = [line.split("\t") for line in completed.out.splitlines()]
        return [
            Image(f"{name}:{tag}", id.removeprefix("sha256:")[:12], size, created)
            for name, tag, id, size, created in (row for row in rows if len(row) == 5)
        ]

    async def pull(self, image: str) -> int:
        return await process.run_attached(
            build.pull_argv(self.program, image), env={**self.environment, **self.login}
        )

    async def run_in_image(self, image: str, script: str) -> str:
        completed = await self._run(
            build.run_in_image_argv(self.program, image, script), seconds=CHANGE_SECONDS
        )
        if completed.returncode != 0:
            raise self._failure(f"run image {image}", completed)
        return completed.out

    async def info(self) -> EngineInfo:
        if not self.known_info:
            completed = await self._run(questions.info_argv(self.program))
            if completed.returncode != 0:
                raise self._failure("describe itself", completed)
            self.known_info.append(parse_info(completed.out))
        return self.known_info[0]

    def _failure(self, tried: str, completed: process.Completed) -> EngineError:
        return self._classified(tried, completed.err)

    def _classified(self, tried: str, stderr: str) -> EngineError:
        error = classify(self.title, tried, stderr)
        taken = PORT_IN_USE.search(stderr)
        if taken is None or type(error) is not EngineError:
            return error
        return PortInUse(error.message, int(taken[1]) if taken[1] else None)

    def failed(self, tried: str, stderr: str) -> EngineError:
        error = self._classified(tried, stderr)
        if type(error) is not EngineError:
            return error
        limit = refused_limit(stderr)
        if limit is not None:
            return LimitRefused(error.message, limit, last_line(stderr))
        return next(
            (kind(error.message) for pattern, kind in _STATES if pattern.search(stderr)), error
        )
