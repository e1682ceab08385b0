"""An engine whose containers are pods, driven by ``kubectl``: one async method per verb.

A container is created and started at once here. What its first start waits for comes on the stdin
of its main process.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Final

import anyio

from claude_mcp.engine import process
from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.engine.dialects.kubernetes import KUBERNETES
from claude_mcp.engine.engine import (
    CREATE_SECONDS,
    LOST,
    Container,
    ContainerNameInUse,
    ContainerNotFound,
    ContainerNotRunning,
    Image,
    Log,
    NewContainer,
    OwnMount,
    ReferenceAmbiguous,
)
from claude_mcp.engine.info import EngineInfo
from claude_mcp.engine.kubernetes import argv as build
from claude_mcp.engine.kubernetes import (
    claims,
    copying,
    described,
    failures,
    manifest,
    marks,
    policy,
    usage,
)
from claude_mcp.engine.kubernetes.argv import PROGRAM, Place
from claude_mcp.engine.kubernetes.policies import LIMIT, PodPolicies
from claude_mcp.engine.kubernetes.watch import PodWatch, over
from claude_mcp.engine.missing import not_found
from claude_mcp.engine.pod_options import PodOptions
from claude_mcp.engine.pulse import Pulse, Watched
from claude_mcp.engine.spec import ContainerSpec, Traffic
from claude_mcp.engine.stats import Stats
from claude_mcp.errors import EngineError, EngineUnavailable, ungrouped

READ_SECONDS: Final = 30.0
CHANGE_SECONDS: Final = 60.0
REACH_SECONDS: Final = 30.0
REACH_AGAIN_SECONDS: Final = 0.2
REACHED_TIMES: Final = 5
"""In a row: measured, an exec that led to the last pod was followed by one that did not."""
LIST_BYTES: Final = 256 * 1024 * 1024
"""Upper bound on a list; a session's pod takes about 11 KB (measured)."""
NODE_LIMIT: Final = (
    "a pod has no such limit. The cluster's administrator sets one for each node (podPidsLimit)."
)
NO_IMAGES: Final = "The nodes of a cluster fetch an image when a session first needs it."
REMOVED: Final = ("pod/", "persistentvolumeclaim/")
"""How ``kubectl`` names what was a container."""
KILL_ALL: Final = ("/bin/sh", "-c", "kill -KILL -1")


@dataclass(frozen=True, slots=True)
class KubectlEngine(Watched):
    """Implements ``Engine``. ``environment`` is the whole environment of its processes."""

    version: str
    environment: Mapping[str, str] = field(repr=False)
    place: Place = field(default_factory=Place)
    program: str = PROGRAM
    dialect: Dialect = KUBERNETES
    options: PodOptions = field(default_factory=PodOptions)
    running: anyio.Semaphore = field(
        default_factory=lambda: anyio.Semaphore(process.runs_at_once()), compare=False, repr=False
    )
    """Bounds the processes at a time; further calls wait for their turn."""
    pulses: list[Pulse] = field(default_factory=list, compare=False, repr=False)

    @property
    def _watch(self) -> PodWatch:
        return PodWatch(self.place, self.environment, self._get)

    async def _ask(self) -> None:
        """The question whether the API server answers, which needs no right."""
        # It does not stand in line with the calls that wait for the same engine.
        completed = await self._run_at_once(build.version_argv(self.place), math.inf)
        if completed.returncode != 0:
            error = failures.classify("report its version", completed.err)
            if isinstance(error, EngineUnavailable):
                raise error

    async def _run(
        self,
        argv: build.Argv,
        tried: str,
        *,
        seconds: float = READ_SECONDS,
        capture_bytes: int = process.CAPTURE_BYTES,
    ) -> str:
        """The stdout of a call that succeeded. ``tried`` completes "Kubernetes could not ..."."""
        async with self.watching(), self.running:
            completed = await self._run_at_once(argv, seconds, capture_bytes)
        if completed.returncode != 0:
            raise self.failed(tried, completed.err)
        return completed.out

    async def _run_at_once(
        self,
        argv: build.Argv,
        seconds: float,
        capture_bytes: int = process.CAPTURE_BYTES,
    ) -> process.Completed:
        try:
            return await process.run(
                argv, env=self.environment, timeout=seconds, capture_bytes=capture_bytes
            )
        except process.ProgramNotFound as error:
            raise not_found(self.program, self.environment) from error
        except process.ProcessTimeout as error:
            raise EngineUnavailable(
                f"{self.title} did not finish '{argv[0]}' within {seconds:g} s.",
                hint="The API server or a node may be overloaded: try again later.",
            ) from error

    async def create(
        self,
        spec: ContainerSpec,
        inherited: Mapping[str, str] | None = None,
        *,
        seconds: float = CREATE_SECONDS,
    ) -> NewContainer:
        id = marks.new_id(spec.name)
        pod = manifest.pod(spec, id, inherited or {}, self.options)
        tried = f"create container {spec.name}"
        async with self._removed_on_failure(id):
            if spec.traffic is not None:
                # It exists before the pod, so that no process of the pod ever runs without it.
                await self._create(policy.policy(id, spec.traffic), LIMIT, seconds)
            if spec.kept_bytes is None:
                await self._create_unclaimed(pod, spec.name, seconds)
            else:
                claim = claims.claim(pod, spec.kept_bytes, self.options.storage_class)
                await self._create(claim, tried, seconds)
                await self._create(pod, tried, seconds)
        return NewContainer(id)

    @asynccontextmanager
    async def _removed_on_failure(self, id: str) -> AsyncIterator[None]:
        try:
            yield
        except BaseException:
            with anyio.CancelScope(shield=True), suppress(EngineError):
                await self.remove(id)
            raise

    async def _create_unclaimed(self, pod: manifest.Manifest, name: str, seconds: float) -> None:
        """Create a pod, unless its name belongs to a container of which only a claim is left."""
        claimed: list[str] = []

        async def look() -> None:
            # Whoever may not read claims has none.
            with suppress(EngineError):
                argv = build.claimed_argv(self.place, pod["metadata"]["name"])
                claimed.extend((await self._run(argv, "look for a claim")).split())

        with ungrouped():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(look)
                await self._create(pod, f"create container {name}", seconds)
        if claimed:
            raise _name_in_use(name)

    async def _create(self, described: manifest.Manifest, tried: str, seconds: float) -> None:
        text = json.dumps(described, separators=(",", ":")).encode()

        def write(pipe: BinaryIO) -> None:
            pipe.write(text)

        try:
            async with self.running:
                with anyio.fail_after(seconds):
                    completed, problem = await process.run_with_pipe(
                        build.create_argv(self.place), write, feeds=True, env=self.environment
                    )
        except process.ProgramNotFound as error:
            raise not_found(self.program, self.environment) from error
        except TimeoutError as error:
            raise EngineUnavailable(
                f"{self.title} did not {tried} within {seconds:g} s.",
                hint="The API server may be overloaded. What it created all the same is listed.",
            ) from error
        if completed.returncode != 0:
            failure = self.failed(tried, completed.err)
            if isinstance(failure, ContainerNameInUse):
                name = described["metadata"]["annotations"].get(marks.CONTAINER, "")
                raise _name_in_use(name)
            raise failure
        if problem is not None:
            raise problem

    @asynccontextmanager
    async def start_attached(self, ref: str) -> AsyncIterator[process.Stream]:
        await self._watch.until_running(ref, f"start container {ref[:12]}")
        argv = build.attach_argv(self.place, marks.pod_name(ref))
        async with process.open_stream(argv, env=self.environment, exit_grace=0.0) as stream:
            yield stream

    async def start(self, ref: str) -> None:
        tried = f"start container {ref[:12]}"
        is_kept = False
        for each in await self._get([marks.pod_name(ref)], tried):
            if each.container.id != ref and marks.is_id(ref):
                continue
            is_kept |= each.keeps_files
            if each.record and each.container.status == "exited":
                await self._create_again(each, tried)
        await self._watch.until_running(ref, tried)
        if is_kept:
            await self._until_reached(ref, tried)

    async def _until_reached(self, ref: str, tried: str) -> None:
        """Wait until every exec leads to the pod that was created last.

        While a node still removes earlier pods of the same name, it takes any of them.
        """
        reached = 0
        with anyio.move_on_after(REACH_SECONDS):  # whatever is wrong, the next request says
            while reached < REACHED_TIMES:
                found = await self._get([marks.pod_name(ref)], tried)
                uids = [each.uid for each in found if each.exists]
                argv = build.exec_argv(self.place, ref, build.TELL_UID)
                async with self.watching(), self.running:
                    completed = await self._run_at_once(argv, REACH_SECONDS)
                is_last = completed.returncode == 0 and completed.out in uids
                reached = reached + 1 if is_last else 0
                await anyio.sleep(REACH_AGAIN_SECONDS)

    async def _create_again(self, found: described.Pod, tried: str) -> None:
        """A pod from the record of its claim, in place of one that has ended."""
        if found.exists:
            argv = build.remove_pod_argv(self.place, found.container.id, ended=found.has_ended)
            await self._run(argv, tried, seconds=CHANGE_SECONDS)
        with suppress(ContainerNameInUse):  # another front end was faster
            await self._create(claims.pod(found.record), tried, CREATE_SECONDS)

    async def kill(self, ref: str) -> None:
        """The node starts the container again; a pod can be ended only by its removal."""
        argv = build.exec_argv(self.place, ref, KILL_ALL)
        async with self.watching(), self.running:
            completed = await self._run_at_once(argv, CHANGE_SECONDS)
        error = self.failed(f"kill container {ref[:12]}", completed.err)
        if completed.returncode != 0 and isinstance(error, EngineUnavailable):
            raise error

    async def remove(self, ref: str) -> bool:
        tried = f"remove container {ref[:12]}"
        if not marks.is_id(ref):
            found = await self._get([marks.pod_name(ref)], tried)
            if not found:
                return False
            ref = found[0].container.id
        said = await self._run(build.remove_argv(self.place, ref), tried, seconds=CHANGE_SECONDS)
        return any(line.startswith(REMOVED) for line in said.splitlines())

    @property
    def _policies(self) -> PodPolicies:
        async def run(argv: build.Argv) -> str:
            return await self._run(argv, LIMIT, capture_bytes=LIST_BYTES)

        async def create(described: policy.Manifest) -> None:
            await self._create(described, LIMIT, CHANGE_SECONDS)

        return PodPolicies(self.place, run, create, self._get)

    async def ensure_traffic(self, ref: str, traffic: Traffic) -> bool:
        return await self._policies.ensure(ref, traffic)

    async def remove_leftovers(self) -> None:
        await self._policies.remove_leftovers(lambda: self.ids(marks.OURS))

    async def remove_volume(self, name: str) -> None:
        """A container has no volume but its own."""

    async def _get(self, pods: Sequence[str], tried: str) -> list[described.Pod]:
        return described.parse(await self._run(build.get_argv(self.place, pods), tried))

    async def inspect(self, refs: Sequence[str]) -> list[Container]:
        found: dict[str, Container] = {}

        async def by_name(names: Sequence[str]) -> None:
            for each in await self._get(names, "inspect containers"):
                if {each.container.id, each.container.name} & set(refs):
                    found[each.container.id] = each.container

        async def by_prefix(prefix: str) -> None:
            short = prefix[: marks.RANDOM_CHARS]
            whole = len(short) == marks.RANDOM_CHARS
            label, value = (marks.SHORT, short) if whole else (marks.OURS, None)
            listed = await self._listed(label, value)
            matching = [each for each in listed if each.id.startswith(prefix)]
            if len(matching) > 1:
                raise ReferenceAmbiguous(f"{prefix} matches several containers.")
            found.update({each.id: each for each in matching})

        prefixes = [ref for ref in refs if marks.may_be_prefix(ref) and not marks.is_id(ref)]
        names = [marks.pod_name(ref) for ref in refs if ref not in prefixes]
        with ungrouped():
            async with anyio.create_task_group() as tasks:
                if names:
                    tasks.start_soon(by_name, names)
                for prefix in prefixes:
                    tasks.start_soon(by_prefix, prefix)
        return [*found.values()]

    async def _listed(self, label: str, value: str | None = None) -> list[Container]:
        argv = build.list_argv(self.place, label, value)
        said = await self._run(argv, "list containers", capture_bytes=LIST_BYTES)
        found = described.parse(said)
        return [each.container for each in found]

    async def stats(self, refs: Sequence[str]) -> list[Stats]:
        argv = build.stats_argv(self.place, refs)
        return usage.parse(await self._run(argv, "measure containers"), refs)

    async def own_mounts(self, id: str) -> list[OwnMount] | None:
        return None

    async def ids(self, label: str, value: str | None = None) -> list[str]:
        listed = await self._listed(label, value)
        return [each.id for each in listed if value is None or each.labels.get(label) == value]

    async def containers(self, label: str) -> list[Container]:
        return await self._listed(label)

    @asynccontextmanager
    async def exec(
        self, ref: str, command: Sequence[str], *, exit_grace: float = process.EXIT_GRACE_SECONDS
    ) -> AsyncIterator[process.Stream]:
        argv = build.exec_argv(self.place, ref, command)
        async with process.open_stream(argv, env=self.environment, exit_grace=exit_grace) as stream:
            yield stream

    async def exec_on_terminal(
        self, ref: str, command: Sequence[str], variables: Mapping[str, str]
    ) -> int:
        argv = build.exec_argv(self.place, ref, command, variables, terminal=True)
        code = await process.run_attached(argv, env=self.environment)
        if code == 0:
            # A connection that broke looks like a program that ended well.
            await self._check_runs(ref)
        return code

    async def _check_runs(self, ref: str) -> None:
        found = await self.inspect([ref])
        if not found:
            raise ContainerNotFound(f"{self.title} has no container {ref}.")
        if found[0].status != "running":
            raise ContainerNotRunning(f"The container {found[0].name} ended meanwhile.")

    async def logs(self, ref: str, tail: int, capture_bytes: int) -> Log:
        argv = build.logs_argv(self.place, marks.pod_name(ref), tail)
        try:
            said = await self._run(
                argv, f"read the logs of container {ref[:12]}", capture_bytes=capture_bytes
            )
        except ContainerNotRunning:
            found = await self._get([marks.pod_name(ref)], "read its state")
            if found and found[0].container.status == LOST:
                raise over(found[0]) from None
            return Log("", "")  # it has not started yet
        return Log("", said)

    @asynccontextmanager
    async def follow_logs(self, ref: str, tail: int) -> AsyncIterator[process.Stream]:
        argv = build.logs_argv(self.place, marks.pod_name(ref), tail, follow=True)
        async with process.open_stream(
            argv, env=self.environment, exit_grace=0, merged=True
        ) as stream:
            yield stream

    async def copy_in(self, ref: str, directory: str, write: Callable[[BinaryIO], None]) -> None:
        await self._copy(ref, copying.in_command(directory), directory, write, feeds=True)

    async def copy_out(self, ref: str, path: str, read: Callable[[BinaryIO], None]) -> None:
        said = await self._copy(ref, copying.out_command(path), path, read, feeds=False)
        copying.check_disappeared(said, path)

    async def _copy(
        self,
        ref: str,
        command: Sequence[str],
        path: str,
        worker: Callable[[BinaryIO], None],
        *,
        feeds: bool,
    ) -> str:
        """What the program wrote to stderr, once it is complete."""
        completed, problem = await process.run_with_pipe(
            build.exec_argv(self.place, ref, command), worker, feeds=feeds, env=self.environment
        )
        said = completed.err
        failure = copying.failure(said, path)
        if failure is not None:
            raise failure
        if completed.returncode != 0:
            raise self.failed(f"copy {path}", said)
        if problem is not None:
            raise problem
        if not copying.is_complete(said):
            raise EngineUnavailable(
                f"The connection to the container broke while {path} was copied.",
                hint="Check that the cluster answers, and try again.",
            )
        return said

    async def sweep(self) -> None:
        """No copy leaves anything on this host."""

    async def image_exists(self, image: str) -> bool:
        """Only a node knows, and it fetches what it lacks."""
        return True

    async def images(self, label: str) -> list[Image]:
        raise EngineError(
            f"{self.title} does not list images.",
            hint=f"{NO_IMAGES} Look into your registry.",
        )

    async def pull(self, image: str) -> int:
        raise EngineError(
            f"{self.title} does not fetch an image beforehand.",
            hint=f"{NO_IMAGES} 'claude-mcp image check' tries one.",
        )

    async def run_in_image(self, image: str, script: str) -> str:
        spec = ContainerSpec(
            name=f"look-{time.monotonic_ns()}", image=image, command=("/bin/sh", "-c", script),
            user=self.dialect.user_options(0, 0)["user"],
        )  # fmt: skip
        id = marks.new_id(spec.name)
        described = manifest.pod(spec, id, {}, self.options)
        tried = f"run image {image}"
        await self._create(described, tried, CREATE_SECONDS)
        try:
            await self._watch.until_ended(id, tried)
            return await self._run(build.plain_logs_argv(self.place, marks.pod_name(id)), tried)
        finally:
            with anyio.CancelScope(shield=True):
                await self.remove(id)

    async def info(self) -> EngineInfo:
        return EngineInfo(rootless=False, kernel="", ignored_limits={"pids": NODE_LIMIT})

    def failed(self, tried: str, stderr: str) -> EngineError:
        return failures.classify(tried, stderr)


def _name_in_use(name: str) -> ContainerNameInUse:
    return ContainerNameInUse(f"A container named {name} already exists.")


async def connect(
    environment: Mapping[str, str], place: Place, options: PodOptions
) -> KubectlEngine:
    """The cluster that the environment and ``place`` lead to.

    Raises:
        EngineNotFound: there is no ``kubectl``.
        EngineUnavailable: the API server does not answer.
        EngineError: it is too old.
    """
    engine = KubectlEngine(version="", environment=environment, place=place, options=options)
    said = await engine._run(build.version_argv(place), "report its version")
    return replace(engine, version=server_version(said))


def server_version(said: str) -> str:
    """The server's version from the output of ``version``.

    Raises:
        EngineError: it is malformed, or too old.
    """
    try:
        server = json.loads(said)["serverVersion"]
        version = str(server["gitVersion"]).removeprefix("v")
        numbers = tuple(
            int("".join(filter(str.isdigit, server[each]))) for each in ("major", "minor")
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise EngineError(f"The answer of kubectl is malformed: {said[:200]!r}.") from error
    if numbers < KUBERNETES.minimum_version:
        minimum = ".".join(map(str, KUBERNETES.minimum_version))
        raise EngineError(
            f"Kubernetes {version} is too old: {minimum} or later is needed.",
            hint="Use another cluster, or choose another engine with CLAUDE_MCP_ENGINE.",
        )
    return version
