"""Turns a request for a session into a plan: everything is checked before a container exists."""

from __future__ import annotations

import functools
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import anyio.to_thread

from claude_mcp.config import Config
from claude_mcp.contract import places
from claude_mcp.contract.handover import Handover
from claude_mcp.contract.messages import to_json
from claude_mcp.contract.settings import ASK, BYPASS, Settings
from claude_mcp.contract.workspaces import BIND, CLONE
from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.engine.engine import Engine
from claude_mcp.engine.spec import BindMount, ContainerSpec, TmpfsMount
from claude_mcp.errors import UsageError
from claude_mcp.sessions import limits, mounted
from claude_mcp.sessions.channel import payload
from claude_mcp.sessions.channel.answers import listed
from claude_mcp.sessions.create import gateway
from claude_mcp.sessions.create.mounts import (
    bind_mounts,
    file_systems_below,
    repository_refusal,
    with_file_systems_below,
)
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.workspace import Workspace, settle
from claude_mcp.sessions.git import guard, sealing
from claude_mcp.sessions.git.seed import SeedPlan
from claude_mcp.sessions.labels import MOUNTED, SEAL, session_labels
from claude_mcp.sessions.mcp import config as mcp_config
from claude_mcp.sessions.mcp import hosts as mcp_hosts
from claude_mcp.sessions.network import policy as network_policy
from claude_mcp.sessions.network import ports
from claude_mcp.sessions.network.access import EGRESS_LABEL, Access, Network
from claude_mcp.sessions.network.forwarding import Forwarding
from claude_mcp.sessions.paths import identity, policy, sockets
from claude_mcp.sessions.providers.resolve import Provider, resolve
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.session import (
    Session,
    Status,
    check_name,
    client_name,
    container_name,
    rfc3339,
)

LONGEST_TIMEOUT_SECONDS: Final = 10 * 365 * 86_400.0
LOG_MAX_SIZE: Final = "10m"
HOOKS_BYTES: Final = 16 * 1024 * 1024
"""Upper bound on the git hooks that a session installs; they are in memory."""
UNTRUSTED_NOTE_FOR_CLAUDE: Final = (
    "The settings, skills, commands and agents in the project's .claude directory are not loaded "
    "here, nor are CLAUDE.local.md and the CLAUDE.md files of subdirectories: read these when you "
    "work on what they are about."
)
PORTS_NOTE_FOR_CLAUDE: Final = (
    "The user can open servers that listen at these ports of the loopback here: {}. The user knows "
    "the URL; it has another port."
)
DIRECTORY_NOTE_FOR_CLAUDE: Final = (
    "The project is the directory {directory} of the repository in /workspace: work there."
)


@dataclass(frozen=True, slots=True)
class Plan:
    """A session that can be started as it is: nothing is left to decide."""

    spec: ContainerSpec
    access: Access
    session: Session
    """As it will be; it has no id until its container exists."""
    settings: str
    """JSON for the agent; public."""
    handover: Handover
    mcp_config: Mapping[str, Any] | None = field(repr=False)
    gateway: gateway.Gateway | None
    """The address to try from inside."""
    mounted: tuple[mounted.Identity | None, ...]
    """The identities of the mounted host paths when they were checked."""
    git: guard.Protection
    seed: SeedPlan | None
    """What the workspace is made of, if it is not a mount."""
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Lifetime:
    expires: datetime | None
    idle_seconds: float | None
    """None if the session may stay unused for any time."""


@dataclass(frozen=True, slots=True)
class _Checked:
    """A request whose every part passed its check."""

    request: CreateRequest
    engine: Engine
    name: str
    client: str
    image: str
    project: policy.Project
    mounts: tuple[BindMount, ...]
    provider: Provider
    lifetime: _Lifetime
    containment: limits.Containment
    kept_bytes: int | None
    access: Access
    forwarding: Forwarding | None
    git: guard.Protection
    workspace: Workspace


async def plan_session(sessions: Sessions, request: CreateRequest) -> Plan:
    """Check everything in a request, and decide what it leaves open.

    Raises:
        UsageError, ConfigError: the request or a setting cannot be used.
        EngineError: there is no engine.
    """
    mcp_servers = mcp_config.check(request.mcp_config)
    own = await sessions.own_container()
    if own is not None:
        mounts = tuple(replace(each, host_path=own.here(each.host_path)) for each in request.mounts)
        request = replace(request, project_path=own.here(request.project_path), mounts=mounts)
    checked = await _check(sessions, request)
    servers = mcp_hosts.translate(mcp_servers, checked.engine.dialect)
    settings = json.dumps(to_json(_settings(sessions.config, checked)), separators=(",", ":"))
    spec = _spec(sessions.config, checked, settings, servers.needs_alias)
    alone = checked.engine.dialect.mount_alone is not None
    spec, identities = await anyio.to_thread.run_sync(
        functools.partial(_settle_mounts, spec, alone=alone), abandon_on_cancel=True
    )
    if own is not None:
        own.for_engine(spec)  # refuses what cannot be mounted, before anything is made
    return Plan(
        spec=spec,
        access=checked.access,
        session=_session(sessions.config, spec, checked),
        settings=settings,
        handover=Handover(checked.provider.credentials, mcp_config.handover(servers.config)),
        mcp_config=servers.config,
        gateway=gateway.to_try(
            checked.provider.credentials, checked.engine.dialect, checked.access.network
        ),
        mounted=identities,
        git=checked.git,
        seed=checked.workspace.seed,
        warnings=(
            *checked.workspace.warnings,
            *checked.provider.warnings,
            *servers.warnings,
            *checked.containment.warnings,
            *checked.git.warnings,
            *_owner_warnings(checked),
            *await _socket_warnings(spec, checked.access.network),
        ),
    )


async def _check(sessions: Sessions, request: CreateRequest) -> _Checked:
    config = sessions.config
    project, mounts = await anyio.to_thread.run_sync(
        _check_paths, request, config, abandon_on_cancel=True
    )
    name = request.session_name
    name = default_name(project.path) if name is None else check_name(name)
    lifetime = _lifetime(config, request)
    engine = await sessions.engine()
    provider = resolve(config, engine.dialect, replace(request.provider, model=request.model))
    return _Checked(
        request=request,
        engine=engine,
        name=name,
        client=client_name(request.client),
        image=request.image or config.image,
        project=project,
        mounts=mounts,
        provider=provider,
        lifetime=lifetime,
        containment=limits.contain(
            config,
            engine.dialect,
            request.limits,
            await limits.info_for(engine, config, request.limits, request.read_only_root),
            read_only_root=request.read_only_root,
            runtime_name=request.runtime,
        ),
        kept_bytes=limits.kept_bytes(config, engine.dialect, request.persistent_volume),
        access=network_policy.settle(
            config,
            engine.dialect,
            request.network,
            request.allowed_hosts,
            provider,
            f"{project.uid}:{project.gid}",
        ),
        forwarding=ports.settle(
            config,
            network_policy.network_of(config, request.network),
            request.ports,
        ),
        workspace=(
            workspace := await settle(
                config, engine, request, project, name, project.path in sessions.unmountable
            )
        ),
        # Last, because it may create a directory for hooks in the project.
        git=await _protection(sessions, request, workspace.kind, project),
    )


async def _protection(
    sessions: Sessions, request: CreateRequest, kind: str, project: policy.Project
) -> guard.Protection:
    if kind != BIND:
        return guard.Protection(works=kind == CLONE)
    refusal = functools.partial(repository_refusal, sessions.config)
    return await sessions.git.protect(project.path, refusal, trusted=request.trust_git)


def _check_paths(
    request: CreateRequest, config: Config
) -> tuple[policy.Project, tuple[BindMount, ...]]:
    """In a thread: a file system or a directory of users may take long to answer."""
    return policy.project(request.project_path, config), bind_mounts(request.mounts, config)


def with_forwarding(plan: Plan, forwarding: Forwarding | None) -> Plan:
    """The plan, once it is known at which ports of the host the session's are published."""
    if forwarding is None:
        return plan
    return replace(
        plan,
        spec=replace(plan.spec, labels={**plan.spec.labels, **forwarding.labels}),
        session=replace(plan.session, forwarding=forwarding),
    )


def _settle_mounts(
    spec: ContainerSpec, *, alone: bool
) -> tuple[ContainerSpec, tuple[mounted.Identity | None, ...]]:
    """The spec with all mounts, and the identities of their sources; in a thread, likewise.

    ``alone`` says whether the engine can mount a directory without what is mounted below it.
    """
    below = {} if alone else file_systems_below(spec)
    mounts = with_file_systems_below(spec)
    paths = [mount.source for mount in mounts]
    identities = tuple(identity.identities(paths))
    labels = {**spec.labels, MOUNTED: mounted.to_label(paths, identities, below)}
    return replace(spec, mounts=mounts, labels=labels), identities


def _lifetime(config: Config, request: CreateRequest) -> _Lifetime:
    given = (request.timeout_seconds, request.idle_timeout_seconds)
    if not all(seconds is None or 0 <= seconds <= LONGEST_TIMEOUT_SECONDS for seconds in given):
        raise UsageError("A session's times must be between 0 (no limit) and 10 years, in seconds.")
    defaults = (config.session_timeout_seconds, config.session_idle_seconds)
    lifetime, idle = (
        default if seconds is None else seconds
        for seconds, default in zip(given, defaults, strict=True)
    )
    expires = datetime.now(UTC) + timedelta(seconds=lifetime) if lifetime else None
    return _Lifetime(expires, idle or None)


def default_name(project_path: str) -> str:
    slug = re.sub(r"[^a-zA-Z0-9_.-]+", "-", Path(project_path).name)[:40].strip("-.")
    return f"{slug or 'session'}-{secrets.token_hex(2)}"


def _spec(config: Config, checked: _Checked, settings: str, needs_alias: bool) -> ContainerSpec:
    project, provider, access = checked.project, checked.provider, checked.access
    containment, dialect = checked.containment, checked.engine.dialect
    forwarding = checked.forwarding
    carried = dialect.environment_carries_code
    user = dialect.user_options(project.uid, project.gid)
    reaches_host = (provider.needs_host_alias or needs_alias) and access.network is Network.OPEN
    return ContainerSpec(
        name=container_name(checked.name, config.owner),
        image=checked.image,
        command=payload.agent_command(settings) if carried else payload.receiving_command(),
        labels=session_labels(
            name=checked.name,
            project_path=project.path,
            provider=provider.name,
            credentials=provider.source,
            places=provider.places,
            git_state=checked.git.state,
            workspace=checked.workspace.kind,
            base=checked.workspace.base,
            directory=checked.workspace.directory,
            seal=sealing.new_key() if checked.workspace.is_without_base else "",
            client=checked.client,
            owner=config.owner,
            expires=checked.lifetime.expires,
            home_in_memory=containment.read_only_root,
            access=access,
        ),
        inherited=places.PAYLOAD_VARIABLES if carried else (),
        mounts=(*_workspace_mounts(checked), *checked.mounts),
        volumes=(
            *access.volumes,
            *(forwarding.volumes if forwarding and dialect.companions else ()),
        ),
        environment={**access.environment, **_environment(dialect)},
        network=access.engine_network,
        traffic=access.traffic,
        workdir=places.WORKSPACE,
        user=user.get("user"),
        userns=user.get("userns"),
        extra_hosts=dialect.extra_hosts if reaches_host else (),
        # What has ended cannot be started again there by us, so the engine does it.
        restart=None if dialect.keeps_files else "on-failure",
        limits=containment.limits,
        max_user_processes=containment.max_user_processes,
        runtime=containment.runtime,
        read_only_root=containment.read_only_root,
        tmpfs_mounts=(*containment.tmpfs_mounts, *_hooks(checked)),
        kept_directories=() if dialect.keeps_files else (places.WORKSPACE, places.FALLBACK_HOME),
        kept_bytes=checked.kept_bytes,
        security_options=containment.security_options,
        log_max_size=LOG_MAX_SIZE,
    )


def _environment(dialect: Dialect) -> dict[str, str]:
    found = {} if dialect.exit_file is None else {places.EXIT_FILE_VARIABLE: dialect.exit_file}
    return found if dialect.keeps_files else {**found, "HOME": places.FALLBACK_HOME}


def _workspace_mounts(checked: _Checked) -> Iterator[BindMount]:
    """Without a repository that the caller mounts too: two mounts at one path are refused."""
    if checked.workspace.kind != BIND:
        return
    yield BindMount(checked.project.path, places.WORKSPACE, read_only=False)
    taken = {mount.target for mount in checked.mounts}
    for mount in checked.git.mounts:
        in_project = mount.target.startswith(f"{places.WORKSPACE}/")
        if in_project or mount.target not in taken:
            yield mount


def _hooks(checked: _Checked) -> Iterator[TmpfsMount]:
    if checked.git.hooks is not None:
        yield TmpfsMount(checked.git.hooks, HOOKS_BYTES, owned=True)


def _settings(config: Config, checked: _Checked) -> Settings:
    request = checked.request
    notes = [] if request.trust_project else [UNTRUSTED_NOTE_FOR_CLAUDE]
    if directory := checked.workspace.directory:
        notes.append(DIRECTORY_NOTE_FOR_CLAUDE.format(directory=f"{places.WORKSPACE}/{directory}"))
    notes += checked.git.notes
    published = tuple(each.port for each in checked.forwarding.ports) if checked.forwarding else ()
    if published:
        notes.append(PORTS_NOTE_FOR_CLAUDE.format(", ".join(map(str, published))))
    network, expires = checked.access.network, checked.lifetime.expires
    return Settings(
        permission_mode=ASK if request.strict_permissions else BYPASS,
        idle_seconds=config.idle_seconds,
        permission_seconds=config.permission_seconds,
        model=checked.provider.model,
        small_fast_model=checked.provider.small_model,
        trust_project=request.trust_project,
        append_system_prompt="\n".join(notes) or None,
        expires_at=None if expires is None else expires.timestamp(),
        idle_timeout_seconds=checked.lifetime.idle_seconds,
        workspace=checked.workspace.kind,
        base=checked.workspace.base,
        network=network.value,
        session_name=None if network is Network.OPEN else checked.name,
        stays_with_work=not checked.engine.dialect.keeps_files and checked.kept_bytes is None,
        ports=published if checked.engine.dialect.companions else (),
        git_hooks=checked.git.hooks,
    )


def _session(config: Config, spec: ContainerSpec, checked: _Checked) -> Session:
    expires, access = checked.lifetime.expires, checked.access
    return Session(
        id="",
        container_id="",
        name=checked.name,
        container_name=spec.name,
        project_path=checked.project.path,
        image=checked.image,
        provider=checked.provider.name,
        credentials=checked.provider.source,
        status=Status.CREATING,
        created_at="",
        places=checked.provider.places,
        git_state=checked.git.state,
        mounted=spec.labels[MOUNTED],
        workspace=checked.workspace.kind,
        base=checked.workspace.base,
        directory=checked.workspace.directory,
        seal=spec.labels.get(SEAL, ""),
        client=checked.client,
        owner=config.owner,
        expires_at=None if expires is None else rfc3339(expires),
        network=access.network.value,
        proxy=access.proxy,
        egress=spec.labels.get(EGRESS_LABEL, ""),
        forwarding=checked.forwarding,
    )


def _owner_warnings(checked: _Checked) -> tuple[str, ...]:
    engine, project = checked.engine, checked.project
    is_other = engine.dialect.rootless and project.uid != policy.current_uid()
    if checked.workspace.kind == BIND and is_other:
        return (
            f"Rootless {engine.title} runs as your user, who does not own {project.path}: "
            "you will own the files that Claude creates, and Claude may not be allowed to write "
            "there.",
        )
    return ()


async def _socket_warnings(spec: ContainerSpec, network: Network) -> tuple[str, ...]:
    """About sockets by which a session with a restricted network reaches programs of the host."""
    if network is Network.OPEN:
        return ()
    found = await anyio.to_thread.run_sync(
        sockets.found_in, [mount.source for mount in spec.mounts], abandon_on_cancel=True
    )
    if not found:
        return ()
    return (
        "The session can reach programs of this host through their Unix sockets, in spite of its "
        f"network: {listed(found)}. Stop these programs, or let them keep their sockets elsewhere.",
    )
