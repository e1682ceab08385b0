"""Maps a session to the labels of its container, and a container back to its session.

Nothing else remembers a session. The labels of its network are in ``network.access``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from claude_mcp.contract.places import (
    ABANDONED_EXIT_CODE,
    EXPIRED_EXIT_CODE,
    EXPIRED_WITH_WORK_EXIT_CODE,
)
from claude_mcp.contract.workspaces import BIND
from claude_mcp.engine.engine import BEING_REMOVED, LOST, Container
from claude_mcp.sessions.marks import SCHEMA, SESSION
from claude_mcp.sessions.network.access import (
    EGRESS_LABEL,
    NETWORK_LABEL,
    OPEN,
    PROXY_LABEL,
    Access,
    Network,
    proxy_from_json,
)
from claude_mcp.sessions.network.forwarding import PORTS_LABEL, forwarding_from_json
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.session import (
    CONTAINER_PREFIX,
    ID_CHARS,
    Session,
    Status,
    normalized_time,
    parse_time,
    rfc3339,
)

NAME: Final = "claude-mcp.name"
PROJECT: Final = "claude-mcp.project"
PROVIDER: Final = "claude-mcp.provider"
CREDENTIALS: Final = "claude-mcp.credentials"
PLACES: Final = "claude-mcp.places"
"""JSON; see ``Session.places``."""
GIT: Final = "claude-mcp.git"
MOUNTED: Final = "claude-mcp.mounted"
"""JSON; see ``sessions.mounted``."""
WORKSPACE: Final = "claude-mcp.workspace"
"""``clone`` or ``copy``; absent for ``bind``."""
BASE: Final = "claude-mcp.base"
DIRECTORY: Final = "claude-mcp.directory"
SEAL: Final = "claude-mcp.seal"
"""The commit that a clone began with."""
CLIENT: Final = "claude-mcp.client"
"""See ``Session.client``."""
OWNER: Final = "claude-mcp.owner"
"""See ``Session.owner``."""
EXPIRES: Final = "claude-mcp.expires"
"""RFC 3339; the agent's settings have the same time."""
HOME: Final = "claude-mcp.home"
IN_MEMORY: Final = "memory"
"""The value of ``HOME`` if the root file system is read-only: stopping destroys that home."""

NOT_DESCRIBED: Final = "(the engine does not describe this container now)"
"""In place of a project, as while somebody copies files of the container."""

RUNNING: Final = ("running", "paused")
NOT_STARTED: Final = ("created", "configured", "initialized")
CREATING_SECONDS: Final = 30.0
"""A container that was created but not started within this time was abandoned."""

_UNSAVED: Final = {EXPIRED_EXIT_CODE: False, EXPIRED_WITH_WORK_EXIT_CODE: True}
"""By the exit code of an agent that expired: whether work is left."""


def session_labels(
    *,
    name: str,
    project_path: str,
    provider: str,
    credentials: CredentialSource,
    places: Mapping[str, str] | None = None,
    git_state: str = "",
    workspace: str = BIND,
    base: str | None = None,
    directory: str = "",
    seal: str = "",
    client: str = "",
    owner: str = "",
    expires: datetime | None = None,
    home_in_memory: bool = False,
    access: Access = OPEN,
) -> dict[str, str]:
    labels = {
        SESSION: SCHEMA,
        NAME: name,
        PROJECT: project_path,
        PROVIDER: provider,
        CREDENTIALS: credentials.value,
    }
    if places:
        labels[PLACES] = json.dumps(dict(places), separators=(",", ":"))
    if git_state:
        labels[GIT] = git_state
    if workspace != BIND:
        labels[WORKSPACE] = workspace
    if base:
        labels[BASE] = base
    if directory:
        labels[DIRECTORY] = directory
    if seal:
        labels[SEAL] = seal
    if client:
        labels[CLIENT] = client
    if owner:
        labels[OWNER] = owner
    if expires is not None:
        labels[EXPIRES] = rfc3339(expires)
    if home_in_memory:
        labels[HOME] = IN_MEMORY
    return {**labels, **access.labels}


def sessions_of(containers: Iterable[Container], owner: str) -> list[Session]:
    """The sessions among containers that exist for an owner."""
    found = [session for each in containers if (session := session_of(each))]
    return [session for session in found if session.is_visible_to(owner)]


def session_of(container: Container, now: datetime | None = None) -> Session | None:
    """The session of a container, or None if the container is not one of ours."""
    labels: Mapping[str, str] = container.labels
    if SESSION not in labels:
        return None
    try:
        credentials = CredentialSource(labels.get(CREDENTIALS, "none"))
    except ValueError:
        credentials = CredentialSource.NONE
    return Session(
        id=container.id[:ID_CHARS],
        container_id=container.id,
        name=labels.get(NAME, container.name.removeprefix(CONTAINER_PREFIX)),
        container_name=container.name,
        project_path=labels.get(PROJECT, NOT_DESCRIBED),
        image=container.image,
        provider=labels.get(PROVIDER, ""),
        credentials=credentials,
        unsaved=_UNSAVED.get(container.exit_code) if _is_stopped(container) else None,
        status=_status(container, now or datetime.now(UTC)),
        created_at=normalized_time(container.created),
        places=_places(labels.get(PLACES)),
        git_state=labels.get(GIT, ""),
        mounted=labels.get(MOUNTED, ""),
        ended=container.error if _is_stopped(container) or container.status == LOST else "",
        restarted=_has_ended(container),
        workspace=labels.get(WORKSPACE, BIND),
        base=labels.get(BASE),
        directory=labels.get(DIRECTORY, ""),
        seal=labels.get(SEAL, ""),
        client=labels.get(CLIENT, ""),
        owner=labels.get(OWNER, ""),
        expires_at=labels.get(EXPIRES),
        network=labels.get(NETWORK_LABEL, Network.OPEN.value),
        proxy=proxy_from_json(labels[PROXY_LABEL]) if PROXY_LABEL in labels else None,
        egress=labels.get(EGRESS_LABEL, ""),
        memory_bytes=container.limits.memory,
        cpus=container.limits.cpus,
        pids=container.limits.pids,
        forwarding=forwarding_from_json(labels[PORTS_LABEL]) if PORTS_LABEL in labels else None,
    )


def _status(container: Container, now: datetime) -> Status:
    match container.status:
        case "running":
            return Status.RUNNING
        case "paused":
            return Status.PAUSED
        case status if status in NOT_STARTED:
            created = parse_time(container.created)
            young = created is not None and (now - created).total_seconds() < CREATING_SECONDS
            return Status.CREATING if young and not container.error else Status.BROKEN
        case _ if _is_stopped(container):
            return _stopped_status(container, now)
        case status if status in BEING_REMOVED:
            return Status.REMOVING
        case _:
            return Status.BROKEN


def _is_stopped(container: Container) -> bool:
    return container.status in ("exited", "stopped", "restarting", "stopping")


def _stopped_status(container: Container, now: datetime) -> Status:
    expires = parse_time(container.labels.get(EXPIRES, ""))
    if container.exit_code in _UNSAVED or (expires is not None and expires <= now):
        return Status.EXPIRED
    home_lost = container.labels.get(HOME) == IN_MEMORY
    abandoned = container.exit_code == ABANDONED_EXIT_CODE
    return Status.BROKEN if home_lost or abandoned else Status.STOPPED


def _has_ended(container: Container) -> bool:
    """Whether its main process has ended before; engines then keep the time of the latest end."""
    finished = parse_time(container.finished)
    return finished is not None and finished.year > 1


def _places(label: str | None) -> dict[str, str]:
    try:
        places = json.loads(label or "{}")
    except (ValueError, RecursionError):
        return {}
    fits = isinstance(places, dict) and all(isinstance(each, str) for each in places.values())
    return places if fits else {}
