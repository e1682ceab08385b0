"""What a caller hears of a turn while it happens."""

from __future__ import annotations

from typing import Any, Final, Protocol

from claude_mcp.contract import operations
from claude_mcp.contract.redaction import redactor
from claude_mcp.sessions.channel.answers import line, read
from claude_mcp.sessions.progress import Progress

MAX_LINE_CHARS: Final = 200
MAX_SAID_CHARS: Final = 512 * 1024
"""Both are more than an honest agent sends."""
NOTHING: Final = operations.Progress("")
SILENCE: Final = operations.Said("")


class Listener(Protocol):
    async def said(self, text: str, *, begins: bool, ends: bool) -> None:
        """The next piece of a message. Another that ``begins`` makes one that has no end void."""

    async def did(self, kind: str, line: str) -> None:
        """A step: the kind of its event, and a headline."""


async def hear(event: dict[str, Any], progress: Progress, listener: Listener | None) -> None:
    """Pass one event of a turn on to who waits for it."""
    if listener is not None and "said" in event:
        said = read(operations.Said, event, SILENCE)
        text = redactor.redact(said.said[:MAX_SAID_CHARS])
        await listener.said(text, begins=said.begins, ends=said.ends)
        return
    step = read(operations.Progress, event, NOTHING)
    text = redactor.redact(line(step.progress, MAX_LINE_CHARS))
    if listener is not None and step.kind:
        await listener.did(step.kind, text)
    elif text:
        await progress(text)
