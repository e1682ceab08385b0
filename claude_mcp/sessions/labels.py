"""A session is a container with these labels; nothing else remembers it."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from claude_mcp.contract.places import ABANDONED_EXIT_CODE, EXPIRED_EXIT_CODE
from claude_mcp.engine.engine import Container
from claude_mcp.errors import UsageError
from claude_mcp.sessions.network.access import (
    EGRESS_LABEL,
    OPEN,
    PROXY_LABEL,
    Access,
    Network,
    Proxy,
    proxy_from_json,
)
from claude_mcp.sessions.providers.credentials import CredentialSource

SESSION: Final = "claude-mcp.session"
NAME: Final = "claude-mcp.name"
PROJECT: Final = "claude-mcp.project"
PROVIDER: Final = "claude-mcp.provider"
CREDENTIALS: Final = "claude-mcp.credentials"
PLACES: Final = "claude-mcp.places"
"""JSON: the region, project, resource or base URL of the session's own, as far as it has one; an
empty one is a secret."""
GIT: Final = "claude-mcp.git"
EXPIRES: Final = "claude-mcp.expires"
"""RFC 3339; the agent was told the same."""
HOME: Final = "claude-mcp.home"
IN_MEMORY: Final = "memory"
"""The home of a session whose root file system is read-only: a stop takes it away."""

NETWORK: Final = "claude-mcp.network"
"""``restricted`` or ``none``; without it, it is open."""

SCHEMA: Final = "1"
ID_CHARS: Final = 12
MAX_NAME_CHARS: Final = 100
CREATING_SECONDS: Final = 30.0
"""A container that was made but not started for longer than this was abandoned."""

_PLAIN: Final = re.compile(r"(?!proxy-[0-9a-f]{16}$)[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
"""Names that containers can have, but for those of our proxies (``network.Proxy.name``)."""


class Status(StrEnum):
    CREATING = "creating"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    BROKEN = "broken"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Session:
    """A session as the engine's labels tell it."""

    id: str
    container_id: str
    name: str
    container_name: str
    project_path: str
    image: str
    provider: str
    credentials: CredentialSource
    status: Status
    created_at: str
    places: Mapping[str, str] = field(default_factory=dict, hash=False)
    git_state: str = ""
    """How git's files were at create; '' for a session that is trusted with them."""
    expires_at: str | None = None
    network: str = "open"
    proxy: Proxy | None = None
    """Of a restricted session."""


def check_name(name: str) -> str:
    if not name.strip():
        raise UsageError("A session's name cannot be empty.")
    if len(name) > MAX_NAME_CHARS:
        raise UsageError(f"A session's name has at most {MAX_NAME_CHARS} characters.")
    if "\0" in name:
        raise UsageError("A session's name cannot hold a NUL character.")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UsageError("A session's name must be valid Unicode.") from error
    return name


def container_name(name: str) -> str:
    """The name that the engine keeps unique for us; one for each session name."""
    if _PLAIN.fullmatch(name):
        return f"claude-mcp-{name}"
    slug = re.sub(r"[^a-zA-Z0-9_.-]+", "-", name)[:40].strip("-.")
    digest = hashlib.sha256(name.encode()).hexdigest()[:10]
    return f"claude-mcp-{slug}-{digest}" if slug else f"claude-mcp-{digest}"


def session_labels(
    *,
    name: str,
    project_path: str,
    provider: str,
    credentials: CredentialSource,
    places: Mapping[str, str] | None = None,
    git_state: str = "",
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
    if expires is not None:
        labels[EXPIRES] = written_time(expires)
    if home_in_memory:
        labels[HOME] = IN_MEMORY
    if access.network is not Network.OPEN:
        labels[NETWORK] = access.network.value
    if access.proxy is not None:
        labels[EGRESS_LABEL] = access.proxy.id
        labels[PROXY_LABEL] = access.proxy.to_json()
    return labels


def parse_time(value: str) -> datetime | None:
    """RFC 3339 with up to nine digits of seconds, as both engines write it."""
    match = re.fullmatch(
        r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:\.(\d+))? ?(Z|[+-]\d\d:?\d\d)?.*", value
    )
    if match is None:
        return None
    whole, fraction, zone = match.groups()
    text = f"{whole}.{(fraction or '0')[:6]:0<6}{'+00:00' if zone in (None, 'Z') else zone}"
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None


def written_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def format_time(value: str) -> str:
    moment = parse_time(value)
    return value if moment is None else written_time(moment)


def overdue_seconds(session: Session, now: datetime | None = None) -> float:
    """For how long a session's time has been over; negative before, and if it has no end."""
    expires = parse_time(session.expires_at or "")
    if expires is None:
        return -math.inf
    return ((now or datetime.now(UTC)) - expires).total_seconds()


def _status(container: Container, now: datetime) -> Status:
    match container.status:
        case "running":
            return Status.RUNNING
        case "paused":
            return Status.PAUSED
        case "created" | "configured" | "initialized":
            created = parse_time(container.created)
            young = created is not None and (now - created).total_seconds() < CREATING_SECONDS
            return Status.CREATING if young and not container.error else Status.BROKEN
        case "exited" | "stopped" | "restarting" | "stopping":
            expires = parse_time(container.labels.get(EXPIRES, ""))
            over = expires is not None and expires <= now
            if over or container.exit_code == EXPIRED_EXIT_CODE:
                return Status.EXPIRED
            gone = container.labels.get(HOME) == IN_MEMORY
            abandoned = container.exit_code == ABANDONED_EXIT_CODE
            return Status.BROKEN if gone or abandoned else Status.STOPPED
        case _:
            return Status.BROKEN


def _places(label: str | None) -> dict[str, str]:
    try:
        places = json.loads(label or "{}")
    except (ValueError, RecursionError):
        return {}
    fits = isinstance(places, dict) and all(isinstance(each, str) for each in places.values())
    return places if fits else {}


def session_of(container: Container, now: datetime | None = None) -> Session | None:
    """The session that a container is, or None if it is not one of ours."""
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
        name=labels.get(NAME, container.name),
        container_name=container.name,
        project_path=labels.get(PROJECT, ""),
        image=container.image,
        provider=labels.get(PROVIDER, ""),
        credentials=credentials,
        status=_status(container, now or datetime.now(UTC)),
        created_at=format_time(container.created),
        places=_places(labels.get(PLACES)),
        git_state=labels.get(GIT, ""),
        expires_at=labels.get(EXPIRES),
        network=labels.get(NETWORK, Network.OPEN.value),
        proxy=proxy_from_json(labels[PROXY_LABEL]) if PROXY_LABEL in labels else None,
    )
