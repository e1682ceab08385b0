"""A session as a value: its state, its name, and the times that belong to it.

Nothing here asks the engine; ``labels`` builds a ``Session`` from a container.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from claude_mcp.contract.places import EXPIRY_GRACE_SECONDS
from claude_mcp.contract.workspaces import BIND
from claude_mcp.errors import UsageError
from claude_mcp.sessions.network.access import Proxy
from claude_mcp.sessions.network.forwarding import Forwarding
from claude_mcp.sessions.providers.credentials import CredentialSource

ID_CHARS: Final = 12
MAX_NAME_CHARS: Final = 100
OVERDUE_SECONDS: Final = EXPIRY_GRACE_SECONDS + 60.0
"""How long after expiry an idle session should have ended itself."""

_PLAIN: Final = re.compile(r"(?!(?:proxy|ports)-[0-9a-f]{16}$)[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
"""Names that a container can have, except those of our proxies and forwarders; see ``Proxy.name``
and ``Forwarding.name`` in ``network``."""


class Status(StrEnum):
    CREATING = "creating"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    BROKEN = "broken"
    EXPIRED = "expired"
    REMOVING = "removing"


@dataclass(frozen=True, slots=True)
class Session:
    """A session as its container's labels and state describe it."""

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
    """RFC 3339, like ``expires_at``."""
    places: Mapping[str, str] = field(default_factory=dict, hash=False)
    """See ``providers.resolve.Provider.places``."""
    git_state: str = ""
    """A digest of git's files at creation; empty if the session is trusted with them."""
    mounted: str = ""
    """The mounted host paths and their identities; see ``sessions.mounted``."""
    ended: str = ""
    """Why its container has ended, if the engine says so."""
    restarted: bool = False
    """Whether its container is not in its first run, or has ended."""
    expires_at: str | None = None
    workspace: str = BIND
    """``bind``, ``clone`` or ``copy``; see ``contract.workspaces``."""
    unsaved: bool | None = None
    """Whether its clone or copy held work that is nowhere else when it expired; None if it has not
    expired, or did not say."""
    base: str | None = None
    """The commit that a clone began with."""
    directory: str = ""
    """Where the project is in a clone of the repository that it lies in."""
    seal: str = field(default="", repr=False)
    """The key of the seal on what a copy began with; see ``sessions.git.sealing``."""
    client: str = ""
    """The name of the client that created it, such as ``cli``; empty if it gave none."""
    owner: str = ""
    """See ``Config.owner``."""
    network: str = "open"
    proxy: Proxy | None = None
    """The proxy of a restricted session."""
    egress: str = ""
    """The id of the only proxy that its container may reach; see ``network.access``."""
    memory_bytes: int | None = None
    """A limit that the engine reports, like ``cpus`` and ``pids``; None is no limit."""
    cpus: float | None = None
    pids: int | None = None
    forwarding: Forwarding | None = None
    """The forwarder to its published ports."""

    @property
    def top(self) -> str:
        """The directory of the host that /workspace stands for."""
        return self.project_path.removesuffix(f"/{self.directory}")

    def is_visible_to(self, owner: str) -> bool:
        """Whether it exists for this owner; everything exists for the operator."""
        return not owner or self.owner == owner

    @property
    def may_hold_work(self) -> bool:
        """Whether work may be lost with it: only its agent knows, while it runs."""
        return self.workspace != BIND and self.unsaved is not False


def check_name(name: str) -> str:
    """The name itself, if a session can have it.

    Raises:
        UsageError: it cannot.
    """
    if not name.strip():
        raise UsageError("A session's name cannot be empty.")
    if len(name) > MAX_NAME_CHARS:
        raise UsageError(f"A session's name has at most {MAX_NAME_CHARS} characters.")
    if "\0" in name:
        raise UsageError("A session's name cannot contain a NUL character.")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UsageError("A session's name must be valid Unicode.") from error
    return name


def client_name(name: str) -> str:
    """A client's own name as it is remembered: one short line of printable characters."""
    printable = "".join(c if c.isprintable() else " " for c in name[:MAX_NAME_CHARS])
    return " ".join(printable.encode(errors="replace").decode().split())


CONTAINER_PREFIX: Final = "claude-mcp-"


def container_name(name: str, owner: str = "") -> str:
    """The container's name, derived from the session's: the engine then keeps both unique.

    Each owner has names of its own, so a name that is taken says nothing of other owners.
    """
    if _PLAIN.fullmatch(name) and not owner:
        return f"{CONTAINER_PREFIX}{name}"
    slug = re.sub(r"[^a-zA-Z0-9_.-]+", "-", name)[:40].strip("-.")
    # A name has no NUL.
    whole = f"{owner}\0{name}" if owner else name
    digest = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"{CONTAINER_PREFIX}{slug}-{digest}" if slug else f"{CONTAINER_PREFIX}{digest}"


def branch_name(name: str) -> str:
    """The branch of a session's clone: its name, without what git does not allow there."""
    plain = re.sub(r"[^a-zA-Z0-9_.-]+|\.\.+|^\.|\.$|\.lock$", "-", name).strip("-")
    return f"claude/{plain or 'session'}"


def parse_time(value: str) -> datetime | None:
    """RFC 3339 with up to nine digits of fractional seconds, as both engines write it."""
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


def age_seconds(created: str) -> float:
    """Seconds since a container was created; infinity if the engine's time cannot be parsed."""
    moment = parse_time(created)
    return math.inf if moment is None else (datetime.now(UTC) - moment).total_seconds()


def rfc3339(moment: datetime) -> str:
    """A UTC time to the second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def normalized_time(value: str) -> str:
    """An engine's time in our own form; unchanged if it cannot be parsed."""
    moment = parse_time(value)
    return value if moment is None else rfc3339(moment)


def overdue_seconds(session: Session, now: datetime | None = None) -> float:
    """Seconds since the session expired; negative before that, and if it never expires."""
    expires = parse_time(session.expires_at or "")
    if expires is None:
        return -math.inf
    return ((now or datetime.now(UTC)) - expires).total_seconds()


def is_over(session: Session) -> bool:
    """Whether it has expired and has stopped, or should have."""
    return session.status is Status.EXPIRED or overdue_seconds(session) > OVERDUE_SECONDS


def oldest_first(sessions: Iterable[Session]) -> list[Session]:
    return sorted(sessions, key=lambda session: (session.created_at, session.name))
