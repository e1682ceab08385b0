"""What a client's user can attach to a conversation: a session's transcript, changes and log.

Each read is bounded and says what was cut. With revision 2026-07-28 a client may listen for
changes of a transcript; what it hears is only that there is something new.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import anyio
from mcp import MCPError
from mcp.server import ServerRequestContext
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated
from mcp.types import (
    INVALID_PARAMS,
    ListResourcesResult,
    ListResourceTemplatesResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    SubscriptionFilter,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    TextResourceContents,
)

from claude_mcp.config import Config
from claude_mcp.contract.workspaces import BIND
from claude_mcp.errors import ClaudeMcpError
from claude_mcp.server.errors import error_text
from claude_mcp.server.session_tools import GET_SESSION_LOGS
from claude_mcp.server.tools import find
from claude_mcp.server.turn_tools import GET_TURN
from claude_mcp.server.workspace_tools import GET_CHANGES
from claude_mcp.views.wire import clean

if TYPE_CHECKING:
    from claude_mcp.sessions.handle import SessionHandle
    from claude_mcp.sessions.registry import Sessions
    from claude_mcp.sessions.session import Session

logger = logging.getLogger(__name__)

Context = ServerRequestContext["Sessions"]

SCHEME: Final = "claude-session"
PAGE_SESSIONS: Final = 50
LOG_LINES: Final = 300
MAX_TEXT_CHARS: Final = 90_000
MAX_STREAMS: Final = 16
"""How many streams of notifications an owner may have open at once."""
MAX_WATCHED: Final = 20
"""How many sessions one stream may watch."""
WATCH_SECONDS: Final = 300.0
PAUSE_SECONDS: Final = 1.0
"""Between two notifications about one session: a turn may have many events in a second, and a
forged answer comes at once."""

TOOLS: Final = {
    "transcript": GET_TURN.name,
    "changes": GET_CHANGES.name,
    "log": GET_SESSION_LOGS.name,
}
"""The tool that tells what a kind of resource does."""

_URI: Final = re.compile(rf"{SCHEME}://([^/?#]+)/(transcript|changes|log)")
_MARKDOWN: Final = "text/markdown"
_PLAIN: Final = "text/plain"


async def list_resources(
    context: Context, params: PaginatedRequestParams | None
) -> ListResourcesResult:
    """The resources of all sessions, of PAGE_SESSIONS sessions at a time."""
    sessions = context.lifespan_context
    listed = [each.session for each in await sessions.list(ask=False)]
    start = 0
    if params is not None and params.cursor is not None:
        ids = [session.id for session in listed]
        if params.cursor not in ids:
            raise MCPError(INVALID_PARAMS, "The cursor's session no longer exists; list again.")
        start = ids.index(params.cursor) + 1
    page = listed[start : start + PAGE_SESSIONS]
    more = len(listed) > start + PAGE_SESSIONS
    return ListResourcesResult(
        resources=[each for session in page for each in _resources(session, sessions.config)],
        next_cursor=page[-1].id if more else None,
    )


def _resources(session: Session, config: Config) -> list[Resource]:
    kinds = [("transcript", "prompts, steps and answers", _MARKDOWN)]
    if session.workspace != BIND:
        kinds.append(("changes", "what it changed in its workspace", _PLAIN))
    kinds.append(("log", "what its container logged", _PLAIN))
    return [
        Resource(
            name=f"{session.name}/{kind}",
            uri=f"{SCHEME}://{session.id}/{kind}",
            description=f"Session {session.name}: {about}.",
            mime_type=mime_type,
        )
        for kind, about, mime_type in kinds
        if find(config, TOOLS[kind]) is not None
    ]


async def list_templates(
    context: Context, params: PaginatedRequestParams | None
) -> ListResourceTemplatesResult:
    return ListResourceTemplatesResult(
        resource_templates=[
            ResourceTemplate(
                name=f"session {kind}",
                uri_template=f"{SCHEME}://{{session}}/{kind}",
                description=f"{about} of a session, by its id or name.",
                mime_type=_MARKDOWN if kind == "transcript" else _PLAIN,
            )
            for kind, about in (
                ("transcript", "The latest turns"),
                ("changes", "The changed files and the beginning of the diff"),
                ("log", "The end of the log"),
            )
        ]
    )


async def read_resource(context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
    reference, kind = _allowed(context, params.uri)
    try:
        text = await _READERS[kind](context.lifespan_context, reference)
    except ClaudeMcpError as error:
        raise MCPError(INVALID_PARAMS, error_text(error, "resources/read")) from None
    if len(text) > MAX_TEXT_CHARS:
        text = f"{text[:MAX_TEXT_CHARS]}\n[{len(text) - MAX_TEXT_CHARS} characters left out]\n"
    mime_type = _MARKDOWN if kind == "transcript" else _PLAIN
    contents = TextResourceContents(uri=params.uri, mime_type=mime_type, text=clean(text))
    return ReadResourceResult(contents=[contents])


def _parsed(uri: str) -> tuple[str, str]:
    """The session's reference and the kind of resource."""
    match = _URI.fullmatch(uri)
    if match is None:
        raise MCPError(
            INVALID_PARAMS,
            f"There is no resource {uri[:200]!r}. Resources are {SCHEME}://SESSION/transcript, "
            "/changes and /log.",
        )
    return match[1], match[2]


def _allowed(context: Context, uri: str) -> tuple[str, str]:
    """As ``_parsed``, if the caller may use the tool that tells the same."""
    reference, kind = _parsed(uri)
    if find(context.lifespan_context.config, TOOLS[kind]) is None:
        raise MCPError(INVALID_PARAMS, f"There is no resource {uri[:200]!r}.")
    return reference, kind


async def _transcript(sessions: Sessions, reference: str) -> str:
    from claude_mcp.sessions.turns.history import history
    from claude_mcp.views.transcript import transcript

    return transcript(await history(await sessions.open(reference)))


async def _changes(sessions: Sessions, reference: str) -> str:
    from claude_mcp.sessions.workspaces.changes import get_changes
    from claude_mcp.views import text
    from claude_mcp.views.workspaces import ChangesResult

    handle = await sessions.open(reference)
    files = ChangesResult.of(await get_changes(handle))
    diff = ChangesResult.of(await get_changes(handle, diff=True))
    cut = []
    if diff.next_offset is not None:
        cut.append(
            f"[The diff goes on: get_changes with full true, offset {diff.next_offset} and until "
            f"{diff.until}.]"
        )
    return "\n".join([text.changes(files), "", *([diff.diff] if diff.diff else []), *cut])


async def _log(sessions: Sessions, reference: str) -> str:
    from claude_mcp.sessions.turns import commands

    _, lines = await commands.logs(await sessions.open(reference), LOG_LINES)
    text = "\n".join(lines)
    older = f"[The last {LOG_LINES} lines; get_session_logs returns more.]\n"
    head = older if len(lines) >= LOG_LINES else ""
    left_out = len(text) - MAX_TEXT_CHARS // 2
    if left_out > 0:
        head, text = f"[{left_out} characters before this are left out.]\n", text[left_out:]
    return head + text


_READERS: Final[dict[str, Callable[[Sessions, str], Awaitable[str]]]] = {
    "transcript": _transcript,
    "changes": _changes,
    "log": _log,
}


class Listening:
    """Serves ``subscriptions/listen``: word of changes in the sessions that a client names."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()
        """By owner."""

    async def __call__(
        self, context: Context, params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """One stream; it lasts until the client ends it."""
        wanted = params.notifications.resource_subscriptions or []
        uris: dict[str, list[str]] = {}
        for uri in wanted:
            uris.setdefault(_allowed(context, uri)[0], []).append(uri)
        if len(uris) > MAX_WATCHED:
            raise MCPError(INVALID_PARAMS, f"One stream watches at most {MAX_WATCHED} sessions.")
        owner = context.lifespan_context.config.owner
        if self._open[owner] >= MAX_STREAMS:
            raise MCPError(INVALID_PARAMS, f"{MAX_STREAMS} streams are open already.")
        self._open[owner] += 1
        try:
            return await _listen(context, params, uris)
        finally:
            self._open[owner] -= 1


async def _listen(
    context: Context, params: SubscriptionsListenRequestParams, uris: Mapping[str, list[str]]
) -> SubscriptionsListenResult:
    from claude_mcp.sessions.turns.history import changed

    # Only these are sent: the list of tools does not change, and the engine does not say when
    # another program creates a session.
    wanted = [uri for named in uris.values() for uri in named]
    honored = SubscriptionFilter(resource_subscriptions=wanted or None)
    bus = InMemorySubscriptionBus()
    try:
        async with anyio.create_task_group() as tasks:
            for reference, named in uris.items():
                handle = await context.lifespan_context.open(reference)
                seen = await changed(handle, None, 0)
                tasks.start_soon(_watch, handle, seen, named, bus)
            result = await ListenHandler(bus)(
                context, params.model_copy(update={"notifications": honored})
            )
            tasks.cancel_scope.cancel()
    except Exception as error:  # a task group wraps it
        raise MCPError(INVALID_PARAMS, error_text(error, "subscriptions/listen")) from None
    return result


async def _watch(
    handle: SessionHandle, seen: int, uris: list[str], bus: InMemorySubscriptionBus
) -> None:
    """Tell of changes until the session cannot be asked any more, which is told as one."""
    from claude_mcp.sessions.turns.history import changed

    async def tell() -> None:
        for uri in uris:
            await bus.publish(ResourceUpdated(uri=uri))

    try:
        while True:
            mark = await changed(handle, seen, WATCH_SECONDS)
            if mark != seen:
                seen = mark
                await tell()
            await anyio.sleep(PAUSE_SECONDS)
    except ClaudeMcpError as error:
        logger.info("session %s is not watched any more: %s", handle.session.id, error)
        await tell()


def handlers() -> dict[str, Any]:
    """The arguments of the SDK's server that serve resources."""
    return {
        "on_list_resources": list_resources,
        "on_list_resource_templates": list_templates,
        "on_read_resource": read_resource,
        "on_subscriptions_listen": Listening(),
    }
