"""Creating a session: two engine calls, and nothing left behind when it does not work out."""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any, Final

import anyio
import anyio.lowlevel

from claude_mcp.agent import contract
from claude_mcp.config import Config
from claude_mcp.engine import process
from claude_mcp.engine.argv import BindMount, ContainerSpec
from claude_mcp.engine.engine import ContainerNameInUse, Engine, LimitRefused, NewContainer
from claude_mcp.errors import (
    AgentError,
    ClaudeMcpError,
    ImageNotFound,
    ImageUnfit,
    SessionExists,
    UsageError,
)
from claude_mcp.sessions import (
    git_guard,
    labels,
    limits,
    mcp_config,
    mcp_servers,
    payload,
    policy,
    provider,
)
from claude_mcp.sessions.labels import Session, Status
from claude_mcp.sessions.lifecycle import Progress, Sessions, no_progress
from claude_mcp.sessions.provider_options import ProviderRequest

logger = logging.getLogger(__name__)

READY_SECONDS: Final = 30.0
LAST_WORDS_SECONDS: Final = 10.0
"""How long a client whose container did not start may take to say why."""
ALL_LINES: Final = -1
LOG_TIME: Final = re.compile(r"^\d{4}-\d\d-\d\dT\S+", re.MULTILINE)
LAST_WORDS_BYTES: Final = 4096
LOG_SECONDS: Final = 2.0
LOG_POLL_SECONDS: Final = 0.2
KERNEL_PATHS: Final = ("/proc", "/sys", "/dev")
"""Where nothing of ours can be mounted; the agent's own directory is in /dev."""
LONGEST_TIMEOUT_SECONDS: Final = 10 * 365 * 86_400.0
LOG_MAX_SIZE: Final = "10m"
BUILD_HINT: Final = (
    "Build the session image with scripts/build-custom-image.sh, or name another with "
    "DEFAULT_CLAUDE_IMAGE."
)


UNTRUSTED_NOTE_FOR_CLAUDE: Final = (
    "The settings, skills, commands and agents in the project's .claude directory are not loaded "
    "here, nor are CLAUDE.local.md and the CLAUDE.md files of subdirectories: read these when you "
    "work on what they are about."
)


@dataclass(frozen=True, slots=True)
class Mount:
    """A further host path for the session; both paths absolute."""

    host_path: str
    container_path: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """What a caller asks of a new session; None means the server's default."""

    project_path: str
    session_name: str | None = None
    provider: ProviderRequest = provider.NOTHING_ASKED
    image: str | None = None
    model: str | None = None
    strict_permissions: bool = False
    trust_project: bool = False
    """What the project's own settings name may run, inside the session."""
    trust_git: bool = False
    """The session may change what makes the host's git run programs."""
    mounts: tuple[Mount, ...] = ()
    mcp_config: Mapping[str, Any] | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    """See ``limits.contain``."""
    read_only_root: bool | None = None
    runtime: str | None = None
    timeout_seconds: float | None = None
    """The session's time, and how long it may go unused; 0 for no end."""
    idle_timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Created:
    session: Session
    engine: str
    warnings: tuple[str, ...]
    mcp_servers: tuple[mcp_servers.McpServer, ...] = ()


async def create(
    sessions: Sessions, request: CreateRequest, progress: Progress = no_progress
) -> Created:
    """Create a session and wait until its agent is ready.

    Raises:
        UsageError, SessionExists, ImageNotFound, ImageUnfit, AgentError, EngineError:
            in each case, as when cancelled, nothing is left behind.
    """
    project = policy.project(request.project_path, sessions.config)
    name = request.session_name
    name = _default_name(project.path) if name is None else labels.check_name(name)
    mounts = _bind_mounts(request.mounts, sessions.config)
    servers_config = mcp_config.check(request.mcp_config)
    engine = await sessions.engine()
    asked = replace(request.provider, model=request.model)
    chosen = provider.resolve(sessions.config, engine.dialect, asked)
    image = request.image or sessions.config.image
    settings = {
        "model": chosen.model,
        "smallFastModel": chosen.small_model,
        "permissionMode": "ask" if request.strict_permissions else "bypass",
        "idleSeconds": sessions.config.idle_seconds,
        "permissionSeconds": sessions.config.permission_seconds,
    }
    git = git_guard.Protection() if request.trust_git else await sessions.git.protect(project.path)
    notes = []
    if request.trust_project:
        settings["trustProject"] = True
    else:
        notes.append(UNTRUSTED_NOTE_FOR_CLAUDE)
    if git.mounts:
        notes.append(git_guard.NOTE_FOR_CLAUDE)
    if notes:
        settings["appendSystemPrompt"] = "\n".join(notes)
    expires, expiry = _expiry(sessions.config, request)
    settings.update(expiry)
    containment = limits.contain(
        sessions.config,
        engine.dialect,
        request.limits,
        read_only_root=request.read_only_root,
        runtime_name=request.runtime,
    )
    users = engine.dialect.user_options(project.uid, project.gid)
    spec = ContainerSpec(
        name=labels.container_name(name),
        image=image,
        command=payload.agent_command(json.dumps(settings, separators=(",", ":"))),
        labels=labels.session_labels(
            name=name,
            project_path=project.path,
            provider=chosen.name,
            credentials=chosen.source,
            places=chosen.places,
            git_state=git.state,
            expires=expires,
            home_in_memory=containment.read_only_root,
        ),
        inherited=(contract.PAYLOAD_VARIABLE,),
        mounts=(
            BindMount(project.path, contract.WORKSPACE, read_only=False),
            *git.mounts,
            *mounts,
        ),
        workdir=contract.WORKSPACE,
        user=users.get("user"),
        userns=users.get("userns"),
        extra_hosts=engine.dialect.extra_hosts if chosen.needs_host_alias else (),
        limits=containment.limits,
        max_user_processes=containment.max_user_processes,
        runtime=containment.runtime,
        read_only_root=containment.read_only_root,
        implicit_tmpfs=False if engine.dialect.adds_tmpfs else None,
        tmpfs_mounts=containment.tmpfs_mounts,
        security_options=containment.security_options,
        log_driver=engine.dialect.log_driver,
        log_max_size=LOG_MAX_SIZE,
        # They may hold a password; what is configured reaches Claude Code on the agent's stdin.
        http_proxy=False if engine.dialect.hands_on_proxies else None,
    )
    mounted = [mount.source for mount in spec.mounts]
    checked = policy.identities(mounted)
    await progress(f"creating container {spec.name} from image {image}")
    handover = {**chosen.handover, **mcp_config.handover(servers_config)}
    container_id, warnings = await _bring_up(sessions, engine, spec, name, handover, progress)
    session = Session(
        id=container_id[: labels.ID_CHARS],
        container_id=container_id,
        name=name,
        container_name=spec.name,
        project_path=project.path,
        image=image,
        provider=chosen.name,
        credentials=chosen.source,
        status=Status.RUNNING,
        created_at=labels.written_time(datetime.now(UTC)),
        places=chosen.places,
        git_state=git.state,
        expires_at=None if expires is None else labels.written_time(expires),
    )
    sessions.remember(session)
    servers: tuple[mcp_servers.McpServer, ...] = ()
    try:
        # The engine looked the paths up by itself, and another session may write around them.
        if None in checked or policy.identities(mounted) != checked:
            raise UsageError("A path to be mounted became another while it was; try again.")
        if servers_config is not None:
            sessions.keep_mcp_config(session, servers_config)
            await progress("waiting for the MCP servers")
            servers = await mcp_servers.wait(sessions, session, servers_config)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await _roll_back(engine, container_id)
        raise
    warnings = (
        *chosen.warnings,
        *containment.warnings,
        *git.warnings,
        *warnings,
        *_owner_warnings(engine, project),
        *mcp_servers.warnings(servers),
    )
    return Created(session, engine.dialect.name.value, warnings, servers)


def _expiry(config: Config, request: CreateRequest) -> tuple[datetime | None, dict[str, float]]:
    """When the session's time is over, and what the agent must know to end by itself."""
    given = (request.timeout_seconds, request.idle_timeout_seconds)
    if not all(seconds is None or 0 <= seconds <= LONGEST_TIMEOUT_SECONDS for seconds in given):
        raise UsageError("A session's times must be seconds between 0, for no end, and 10 years.")
    lifetime, idle = (
        default if seconds is None else seconds
        for seconds, default in zip(
            given, (config.session_timeout_seconds, config.session_idle_seconds), strict=True
        )
    )
    expires = datetime.now(UTC) + timedelta(seconds=lifetime) if lifetime else None
    expiry = {}
    if expires is not None:
        expiry["expiresAt"] = expires.timestamp()
    if idle:
        expiry["idleTimeoutSeconds"] = idle
    return expires, expiry


async def _bring_up(
    sessions: Sessions,
    engine: Engine,
    spec: ContainerSpec,
    name: str,
    handover: Mapping[str, Any],
    progress: Progress,
) -> tuple[str, tuple[str, ...]]:
    """A session that runs, without the limits that this host cannot set: its id and warnings."""
    left_out: list[str] = []
    while True:
        try:
            created = await _create_container(engine, spec, name)
            try:
                await anyio.lowlevel.checkpoint()  # a cancellation that came while creating
                await progress("starting the session")
                warnings = await _hand_over(sessions, engine, created.id, spec, handover)
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await _roll_back(engine, created.id)
                raise
        except LimitRefused as error:
            if getattr(spec.limits, error.limit) is None:
                raise
            spec = limits.without(spec, error.limit)
            left_out.append(limits.cannot_set(engine.dialect, error.limit, error.reason))
        else:
            return created.id, (*left_out, *created.ignored, *warnings)


def _default_name(project_path: str) -> str:
    slug = re.sub(r"[^a-zA-Z0-9_.-]+", "-", Path(project_path).name)[:40].strip("-.")
    return f"{slug or 'session'}-{secrets.token_hex(2)}"


def _bind_mounts(mounts: tuple[Mount, ...], config: Config) -> tuple[BindMount, ...]:
    bound = tuple(_bind_mount(mount, config) for mount in mounts)
    targets = [mount.target for mount in bound]
    for target in targets:
        if targets.count(target) > 1:
            raise UsageError(f"Two mounts have the same path in the session, {target!r}.")
    return bound


def _bind_mount(mount: Mount, config: Config) -> BindMount:
    source = policy.mount_source(mount.host_path, config)
    # Two slashes at the beginning mean the same as one, but not to pathlib.
    given = policy.absolute(mount.container_path, "A mount's path in the session")
    target = PurePosixPath(f"/{given.lstrip('/')}")
    if ".." in target.parts:
        raise UsageError(f"A mount's path in the session cannot contain '..', as {given!r} does.")
    kernels = any(map(target.is_relative_to, KERNEL_PATHS))
    if kernels or str(target) in ("/", contract.WORKSPACE):
        raise UsageError(f"{given!r} is taken by the session itself; choose another path there.")
    return BindMount(source, str(target), mount.read_only)


def _owner_warnings(engine: Engine, project: policy.Project) -> tuple[str, ...]:
    if engine.dialect.rootless and project.uid != policy.current_uid():
        return (
            f"Rootless {engine.title} runs as your user, who does not own {project.path}: "
            "files that Claude makes will be yours, and it may lack the right to write there.",
        )
    return ()


async def _create_container(engine: Engine, spec: ContainerSpec, name: str) -> NewContainer:
    """The engine's `create`; not interrupted, because a daemon finishes what it began."""
    try:
        with anyio.CancelScope(shield=True):
            created = await engine.create(spec, {contract.PAYLOAD_VARIABLE: payload.archive()})
    except ContainerNameInUse as error:
        raise SessionExists(
            f"A session named {name!r} exists already.",
            hint="Use it, destroy it first, or choose another name.",
        ) from error
    except ImageNotFound as error:
        raise ImageNotFound(
            f"{engine.title} has no image {spec.image}.", hint=BUILD_HINT
        ) from error
    return created


async def _hand_over(
    sessions: Sessions,
    engine: Engine,
    container_id: str,
    spec: ContainerSpec,
    handover: Mapping[str, Any],
) -> tuple[str, ...]:
    """Start the container with the secrets on its stdin; returns warnings once it committed."""
    line = json.dumps({"secrets": handover}, separators=(",", ":")).encode() + b"\n"
    try:
        async with engine.start_attached(container_id) as stream:
            with anyio.fail_after(READY_SECONDS):
                # An agent that has ended reads no more; why is told where its answer is awaited.
                with suppress(anyio.BrokenResourceError):
                    await stream.send(line)
                ready = await _expect(engine, container_id, spec, stream, contract.READY)
                writable, *missing = ready.split()
                if missing:
                    raise ImageUnfit(
                        f"Image {spec.image} is not fit for a session: it lacks "
                        f"{' and '.join(missing)}.",
                        hint=BUILD_HINT,
                    )
                await sessions.check_room(container_id)
                with suppress(anyio.BrokenResourceError):
                    await stream.send(contract.COMMIT.encode() + b"\n")
                await _expect(engine, container_id, spec, stream, contract.COMMITTED)
    except TimeoutError:
        raise AgentError(
            f"The session's agent was not ready within {READY_SECONDS:g} s.",
            hint="The machine may be overloaded; try again.",
        ) from None
    if writable != "writable":
        return ("Claude may not write in the project directory: check its owner and mode.",)
    return ()


async def _expect(
    engine: Engine, container_id: str, spec: ContainerSpec, stream: process.Stream, start: str
) -> str:
    """The rest of the next line that begins with ``start``; other lines are talk."""
    async for line in stream.lines():
        if line.startswith(start):
            return line[len(start) :]
    # stdout has ended, so the client is about to: its stderr tells why.
    with anyio.move_on_after(LAST_WORDS_SECONDS):
        await stream.wait()
    said = stream.stderr_tail or await _logged(engine, container_id)
    error = engine.failed(f"start session container {spec.name}", said)
    if isinstance(error, ImageUnfit):
        raise ImageUnfit(
            f"Image {spec.image} is not fit for a session: it has no python3 on PATH.",
            hint=BUILD_HINT,
        )
    raise error


async def _logged(engine: Engine, container_id: str) -> str:
    """What a container left in its log: Podman's client may attach too late to tell it.

    Read until it does not change any more: it is written piece by piece, a line of its own and a
    time for each.
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


async def _roll_back(engine: Engine, container_id: str) -> None:
    try:
        await engine.remove(container_id)
    except ClaudeMcpError as error:
        # The first error is what the user must see; this one says what is still there.
        logger.error("container %s is left behind: %s", container_id[:12], error)
