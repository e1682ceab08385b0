"""Creating a session: what is asked for is checked, and becomes a container's specification."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Final

import anyio

from claude_mcp.config import Config
from claude_mcp.contract import places as contract
from claude_mcp.contract.handover import Handover
from claude_mcp.engine.engine import Engine
from claude_mcp.engine.spec import BindMount, ContainerSpec
from claude_mcp.errors import UsageError
from claude_mcp.sessions import labels, limits
from claude_mcp.sessions.channel import payload
from claude_mcp.sessions.create.request import Created, CreateRequest, Mount
from claude_mcp.sessions.create.start import bring_up, roll_back
from claude_mcp.sessions.git import guard as git_guard
from claude_mcp.sessions.mcp import config as mcp_config
from claude_mcp.sessions.mcp import servers as mcp_servers
from claude_mcp.sessions.network import policy as network_policy
from claude_mcp.sessions.network.access import Network
from claude_mcp.sessions.paths import policy
from claude_mcp.sessions.providers import resolve as provider
from claude_mcp.sessions.registry import Progress, Sessions, no_progress
from claude_mcp.sessions.session import (
    ID_CHARS,
    Session,
    Status,
    check_name,
    container_name,
    rfc3339,
)

KERNEL_PATHS: Final = ("/proc", "/sys", "/dev")
"""Where nothing of ours can be mounted; the agent's own directory is in /dev."""
LONGEST_TIMEOUT_SECONDS: Final = 10 * 365 * 86_400.0
LOG_MAX_SIZE: Final = "10m"
UNTRUSTED_NOTE_FOR_CLAUDE: Final = (
    "The settings, skills, commands and agents in the project's .claude directory are not loaded "
    "here, nor are CLAUDE.local.md and the CLAUDE.md files of subdirectories: read these when you "
    "work on what they are about."
)


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
    name = _default_name(project.path) if name is None else check_name(name)
    mounts = _bind_mounts(request.mounts, sessions.config)
    servers_config = mcp_config.check(request.mcp_config)
    engine = await sessions.engine()
    if not engine.dialect.bind_mounts:
        raise UsageError(f"{engine.title} cannot mount a project directory of this host.")
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
    access = network_policy.settle(
        sessions.config,
        request.network,
        request.allowed_hosts,
        chosen,
        f"{project.uid}:{project.gid}",
    )
    if access.network is not Network.OPEN:
        settings.update(network=access.network.value, sessionName=name)
    spec = ContainerSpec(
        name=container_name(name),
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
            access=access,
        ),
        inherited=(contract.PAYLOAD_VARIABLE,),
        mounts=(
            BindMount(project.path, contract.WORKSPACE, read_only=False),
            *git.mounts,
            *mounts,
        ),
        volumes=access.volumes,
        environment=access.environment,
        network=access.engine_network,
        workdir=contract.WORKSPACE,
        user=users.get("user"),
        userns=users.get("userns"),
        extra_hosts=(
            engine.dialect.extra_hosts
            if chosen.needs_host_alias and access.network is Network.OPEN
            else ()
        ),
        limits=containment.limits,
        max_user_processes=containment.max_user_processes,
        runtime=containment.runtime,
        read_only_root=containment.read_only_root,
        tmpfs_mounts=containment.tmpfs_mounts,
        security_options=containment.security_options,
        log_max_size=LOG_MAX_SIZE,
    )
    mounted = [mount.source for mount in spec.mounts]
    checked = policy.identities(mounted)
    await progress(f"creating container {spec.name} from image {image}")
    handover = Handover(chosen.credentials, mcp_config.handover(servers_config)).to_json()
    container_id, warnings = await bring_up(
        sessions, engine, spec, name, access.proxy, handover, progress
    )
    session = Session(
        id=container_id[:ID_CHARS],
        container_id=container_id,
        name=name,
        container_name=spec.name,
        project_path=project.path,
        image=image,
        provider=chosen.name,
        credentials=chosen.source,
        status=Status.RUNNING,
        created_at=rfc3339(datetime.now(UTC)),
        places=chosen.places,
        git_state=git.state,
        expires_at=None if expires is None else rfc3339(expires),
        network=access.network.value,
        proxy=access.proxy,
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
            await roll_back(engine, container_id, access.proxy)
        raise
    warnings = (
        *chosen.warnings,
        *containment.warnings,
        *git.warnings,
        *warnings,
        *_owner_warnings(engine, project),
        *mcp_servers.warnings(servers),
    )
    return Created(session, engine.dialect.name, warnings, servers)


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
    proxys = PurePosixPath(contract.PROXY_DIRECTORY)
    in_the_way = target.is_relative_to(proxys) or proxys.is_relative_to(target)
    if kernels or in_the_way or str(target) == contract.WORKSPACE:
        raise UsageError(f"{given!r} is taken by the session itself; choose another path there.")
    return BindMount(source, str(target), mount.read_only)


def _owner_warnings(engine: Engine, project: policy.Project) -> tuple[str, ...]:
    if engine.dialect.rootless and project.uid != policy.current_uid():
        return (
            f"Rootless {engine.title} runs as your user, who does not own {project.path}: "
            "files that Claude makes will be yours, and it may lack the right to write there.",
        )
    return ()
