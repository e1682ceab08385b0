"""Starts a planned session: two engine calls, and nothing is left behind if it fails."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import anyio
import anyio.lowlevel
import anyio.to_thread

from claude_mcp.config import Config
from claude_mcp.contract.messages import to_json
from claude_mcp.contract.operations import Configure
from claude_mcp.contract.places import (
    COMMIT,
    COMMITTED,
    GIT_LFS,
    PROBE,
    PROBED,
    READY,
    REQUIRED_PROGRAMS,
)
from claude_mcp.contract.workspaces import BIND
from claude_mcp.engine import process
from claude_mcp.engine.engine import (
    ContainerNameInUse,
    Engine,
    LimitRefused,
    NewContainer,
    SourceMissing,
)
from claude_mcp.engine.spec import ContainerSpec
from claude_mcp.errors import (
    AgentError,
    ClaudeMcpError,
    EngineError,
    ImageNotFound,
    ImageUnfit,
    SessionExists,
    SessionNotReady,
    UsageError,
)
from claude_mcp.sessions import limits, mounted, quota, references
from claude_mcp.sessions.channel import payload, silence
from claude_mcp.sessions.create import access, creation, gateway, readiness, seeding, workspace
from claude_mcp.sessions.create.plan import Plan, plan_session, with_forwarding
from claude_mcp.sessions.create.request import Created, CreateRequest
from claude_mcp.sessions.git import identity
from claude_mcp.sessions.git.identity import Identity, Lookup
from claude_mcp.sessions.git.program import Git
from claude_mcp.sessions.labels import session_of
from claude_mcp.sessions.mcp import servers as mcp_servers
from claude_mcp.sessions.mcp.servers import McpServer
from claude_mcp.sessions.network import enforcement, forwarders, proxies, tunnels
from claude_mcp.sessions.network.access import Proxy
from claude_mcp.sessions.progress import Progress, no_progress
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.session import ID_CHARS, Status, rfc3339

logger = logging.getLogger(__name__)

READY_SECONDS: Final = 30.0
LAST_WORDS_SECONDS: Final = 10.0
"""How long the engine's client may take to say why the container did not start."""
ALL_LINES: Final = -1
LOG_TIME: Final = re.compile(r"^\d{4}-\d\d-\d\dT\S+", re.MULTILINE)
LAST_WORDS_BYTES: Final = 4096
LOG_SECONDS: Final = 2.0
LOG_POLL_SECONDS: Final = 0.2
NO_GIT_LFS: Final = (
    "Files in Git LFS are pointers in the session, because image {image} has no git-lfs. Install "
    "it there to work on them."
)
BUILD_HINT: Final = (
    "Build the session image with 'claude-mcp image build', or name another with "
    "DEFAULT_CLAUDE_IMAGE."
)


async def create(
    sessions: Sessions, request: CreateRequest, progress: Progress = no_progress
) -> Created:
    """Plan a session and start it, on the engine that the request names or that has the most room.

    A project that turns out not to be visible to the engine is cloned or copied instead, unless the
    caller asked for a mount.

    Raises:
        UsageError, ConfigError: the request or a setting cannot be used.
        SessionExists, ImageNotFound, ImageUnfit, TooManySessions, AgentError, EngineError:
            see ``start``.
    """
    wanted = request.engine, request.session_name, request.image
    mounting = request.workspace == BIND or bool(request.mounts)
    async with sessions.placed(*wanted, mounting=mounting) as (chosen, reason):
        created = await _create(chosen, request, progress)
    return created if reason is None else replace(created, reason=reason)


async def _create(sessions: Sessions, request: CreateRequest, progress: Progress) -> Created:
    plan = await plan_session(sessions, request)
    try:
        return await start(sessions, plan, progress)
    except (readiness.Elsewhere, SourceMissing) as error:
        project = plan.session.project_path
        if error.path != project or not workspace.is_open(sessions.config, request):
            raise
        sessions.unmountable.add(project)
        try:
            plan = await plan_session(sessions, request)
        except UsageError:  # for example, an option asks for a mounted project
            sessions.unmountable.discard(project)
            raise error from None
    await progress(f"the engine does not see {plan.session.project_path}")
    return await start(sessions, plan, progress)


async def start(sessions: Sessions, plan: Plan, progress: Progress = no_progress) -> Created:
    """Start a planned session and wait until its agent is ready.

    Raises:
        UsageError: a path to mount was replaced after it was checked.
        SessionExists, ImageNotFound, ImageUnfit, TooManySessions, AgentError, EngineError
            In each case, and if this is cancelled, nothing is left behind.
    """
    engine = await sessions.engine()
    if plan.session.forwarding is not None:
        await progress("publishing its ports")
    async with (
        enforcement.prepared(engine, plan.access),
        forwarders.opened(engine, plan.session.forwarding) as forwarding,
    ):
        return await _start(sessions, engine, with_forwarding(plan, forwarding), progress)


async def _start(sessions: Sessions, engine: Engine, plan: Plan, progress: Progress) -> Created:
    await progress(f"creating container {plan.spec.name} from image {plan.spec.image}")
    config = sessions.config
    async with identity.looking_up(plan.session.project_path, config.environment) as who:
        container_id, warnings = await _start_within_limits(sessions, engine, plan, who, progress)
    servers: tuple[McpServer, ...] = ()
    try:
        await _check_mounted(plan)
        handle = await sessions.opened(
            replace(
                plan.session,
                id=container_id[:ID_CHARS],
                container_id=container_id,
                status=Status.RUNNING,
                created_at=rfc3339(datetime.now(UTC)),
            )
        )
        if plan.mcp_config is not None:
            handle.keep_mcp_config(plan.mcp_config)
            await progress("waiting for the MCP servers")
            servers = await mcp_servers.wait(handle, plan.mcp_config)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await _roll_back(engine, container_id, plan.session.proxy)
        raise
    return Created(
        handle.session,
        await sessions.name(),
        (*plan.warnings, *warnings, *_far_ports(engine, plan), *mcp_servers.warnings(servers)),
        servers,
    )


def _far_ports(engine: Engine, plan: Plan) -> tuple[str, ...]:
    far = plan.session.forwarding is not None and engine.dialect.over_network
    return (tunnels.FAR,) if far else ()


async def _check_mounted(plan: Plan) -> None:
    """The engine resolved the paths again, and another session may write around them."""
    found = await mounted.identities([mount.source for mount in plan.spec.mounts])
    if None in plan.mounted or found != plan.mounted:
        raise readiness.replaced()


async def _start_within_limits(
    sessions: Sessions, engine: Engine, plan: Plan, who: Lookup, progress: Progress
) -> tuple[str, tuple[str, ...]]:
    """Start the container without the limits that this host refuses: its id and warnings."""
    spec = plan.spec
    left_out: list[str] = []
    while True:
        try:
            created = await _create_container(sessions, engine, spec, plan.session.name)
            warnings = await _start_or_remove(
                engine, sessions.config, replace(plan, spec=spec), created.id, who, progress
            )
        except LimitRefused as error:
            if getattr(spec.limits, error.limit) is None:
                raise
            spec = limits.without(spec, error.limit)
            left_out.append(limits.cannot_set(engine.dialect, error.limit, error.reason))
        else:
            return created.id, (*left_out, *created.ignored, *warnings)


async def _start_or_remove(
    engine: Engine,
    config: Config,
    plan: Plan,
    container_id: str,
    who: Lookup,
    progress: Progress,
) -> tuple[str, ...]:
    proxy = plan.session.proxy
    try:
        await anyio.lowlevel.checkpoint()  # a cancellation that arrived during the creation
        if proxy is not None:
            # The session's label keeps its proxy from being removed from here on.
            await progress("starting its proxy")
            await proxies.ensure(engine, proxy)
        address = await enforcement.prove(engine, container_id, plan.access)
        await progress("starting the session")
        committer = await who.result()
        first = Configure(plan.handover.to_json(), committer, address)
        return await _hand_over(engine, config, plan, container_id, first, progress)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await _roll_back(engine, container_id, proxy)
        raise


async def _create_container(
    sessions: Sessions, engine: Engine, spec: ContainerSpec, name: str
) -> NewContainer:
    own = await sessions.own_container()
    named = spec if own is None else own.for_engine(spec)
    carried = engine.dialect.environment_carries_code
    try:
        created = await creation.create(
            sessions, engine, named, payload.variables(payload.archive()) if carried else {}
        )
    except ContainerNameInUse as error:
        raise await _name_in_use(engine, spec, name) from error
    except ImageNotFound as error:
        raise ImageNotFound(
            f"{engine.title} has no image {spec.image}.", hint=BUILD_HINT
        ) from error
    except EngineError as error:
        access.explain(error, engine, spec)
        raise
    return created


async def _name_in_use(engine: Engine, spec: ContainerSpec, name: str) -> SessionExists:
    """What has the name: one engine call."""
    found = await engine.inspect([spec.name])
    if not found:
        return SessionExists(
            f"The name {spec.name} is taken in {engine.title}, but no container has it.",
            hint="It may just be removed: try again. Otherwise choose another name.",
        )
    if session_of(found[0]) is None:
        return SessionExists(
            f"The session cannot be called {name!r}: its container's name is taken.",
            hint=f"{references.foreign(engine, found[0])} Otherwise choose another name.",
        )
    return SessionExists(
        f"A session named {name!r} already exists.",
        hint="Use it, destroy it first, or choose another name.",
    )


async def _hand_over(
    engine: Engine,
    config: Config,
    plan: Plan,
    container_id: str,
    first: Configure,
    progress: Progress,
) -> tuple[str, ...]:
    """Start the container with the secrets on its stdin; returns warnings once it committed."""
    spec = plan.spec
    line = json.dumps(to_json(first), separators=(",", ":")).encode() + b"\n"
    if not engine.dialect.environment_carries_code:
        line = payload.delivery(payload.archive(), plan.settings) + line
    if plan.gateway is not None:  # tried while we check what the agent reports before
        line += f"{PROBE}{plan.gateway.host} {plan.gateway.port}\n".encode()
    async with engine.start_attached(container_id) as stream:
        async with _ready_in_time(engine, container_id):
            # An agent that has ended no longer reads; ``_expect`` finds out why it ended.
            with suppress(anyio.BrokenResourceError):
                await stream.send(line)
            report = await _expect(engine, container_id, spec, stream, READY)
            ready = readiness.parse(report)
            warnings = await _check_ready(plan, ready, first.git_identity)
            await quota.check_started(engine, config, container_id)
            if plan.gateway is not None:
                outcome = await _expect(engine, container_id, spec, stream, PROBED)
                warnings += gateway.warnings(plan.gateway, outcome, engine.dialect)
        if plan.seed is not None:
            git = Git(config.environment)
            seed = plan.seed
            if seed.seed.lfs and GIT_LFS in ready.missing:
                seed = replace(seed, seed=seed.seed._replace(lfs=False))
                warnings += (NO_GIT_LFS.format(image=spec.image),)
            warnings += await seeding.hand_in(
                engine, git, container_id, stream, seed, plan.session.seal, progress
            )
        async with _ready_in_time(engine, container_id):
            with suppress(anyio.BrokenResourceError):
                await stream.send(COMMIT.encode() + b"\n")
            await _expect(engine, container_id, spec, stream, COMMITTED)
    return warnings


@asynccontextmanager
async def _ready_in_time(engine: Engine, container_id: str) -> AsyncIterator[None]:
    try:
        with anyio.fail_after(READY_SECONDS):
            async with engine.watching():
                yield
    except TimeoutError:
        raise await _not_ready(engine, container_id) from None


async def _not_ready(engine: Engine, container_id: str) -> ClaudeMcpError:
    container = await silence.container_now(engine, container_id)
    if container is not None and container.status == "paused":
        return SessionNotReady(
            "The session's container was paused while it was created.",
            hint="Create the session again.",
        )
    return AgentError(
        f"The session's agent was not ready within {READY_SECONDS:g} s.",
        hint="The machine may be overloaded; try again.",
    )


async def _check_ready(
    plan: Plan, ready: readiness.Readiness, committer: Identity
) -> tuple[str, ...]:
    if lacking := [name for name in ready.missing if name in REQUIRED_PROGRAMS]:
        raise ImageUnfit(
            f"Image {plan.spec.image} cannot run a session: it lacks {' and '.join(lacking)}.",
            hint=BUILD_HINT,
        )
    checked = dict(zip((mount.source for mount in plan.spec.mounts), plan.mounted, strict=True))
    warnings = await anyio.to_thread.run_sync(
        readiness.check, ready, plan.spec, checked, abandon_on_cancel=True
    )
    return (*warnings, *_git_warnings(plan, ready, committer))


def _git_warnings(plan: Plan, ready: readiness.Readiness, committer: Identity) -> Iterator[str]:
    if plan.git.works and not identity.commits(committer):
        yield identity.UNKNOWN
    if plan.git.lfs and GIT_LFS in ready.missing:
        yield (
            f"The project keeps files in Git LFS, but image {plan.spec.image} has no git-lfs: git "
            "refuses to add these files there. Install git-lfs in the image to work on them."
        )


async def _expect(
    engine: Engine, container_id: str, spec: ContainerSpec, stream: process.Stream, start: str
) -> str:
    """The rest of the next line that begins with ``start``; other lines are ignored."""
    async for line in stream.lines():
        if line.startswith(start):
            return line[len(start) :]
    # stdout has ended, so the client is about to end, and its stderr says why.
    with anyio.move_on_after(LAST_WORDS_SECONDS):
        await stream.wait()
    said = stream.stderr_tail or await _logged(engine, container_id)
    error = engine.failed(f"start session container {spec.name}", said)
    if isinstance(error, ImageUnfit):
        raise ImageUnfit(
            f"Image {spec.image} cannot run a session: it has no python3 on PATH.",
            hint=BUILD_HINT,
        )
    access.explain(error, engine, spec)
    raise error


async def _logged(engine: Engine, container_id: str) -> str:
    """What the container wrote to its log: Podman's client may attach too late to see it.

    The engine writes the log piece by piece, one line with a time for each piece, so it is read
    until it stops changing.
    """
    said = ""
    with anyio.move_on_after(LOG_SECONDS):
        while True:
            try:
                log = await engine.logs(container_id, ALL_LINES, LAST_WORDS_BYTES)
            except ClaudeMcpError as error:
                logger.debug("container %s has no log: %s", container_id[:12], error)
                break
            if log.err and log.err == said:
                break
            said = log.err
            await anyio.sleep(LOG_POLL_SECONDS)
    return " ".join(LOG_TIME.sub("", said).split())


async def _roll_back(engine: Engine, container_id: str, proxy: Proxy | None) -> None:
    try:
        await engine.remove(container_id)
    except ClaudeMcpError as error:
        # The user must see the first error; this one is for the log.
        logger.error("container %s is left behind: %s", container_id[:12], error)
    await proxies.release_or_log(engine, proxy)
