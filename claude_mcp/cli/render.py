"""What is printed: values in, text out; and the two functions that write it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, TextIO

from claude_mcp.cli.running import visible
from claude_mcp.contract.redaction import redactor

if TYPE_CHECKING:
    from claude_mcp.sessions.pruning import Pruned
    from claude_mcp.sessions.registry import Listed
    from claude_mcp.sessions.turns.results import Event

HEAD = ("ID", "NAME", "STATUS", "TURN", "CREATED", "EXPIRES", "IMAGE", "PROJECT")


def write(text: str, stream: TextIO | None = None) -> None:
    """Print data as it is; what the stream's encoding lacks becomes a question mark."""
    stream = stream or sys.stdout
    stream.flush()
    data = memoryview(redactor.redact(text).encode(stream.encoding or "utf-8", "replace"))
    while data:
        # Unbuffered streams (PYTHONUNBUFFERED) write a part and say how much.
        data = data[stream.buffer.write(data) :]


def write_json(value: Any) -> None:
    write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def for_terminal(text: str) -> str:
    """On a terminal, a session's words must not steer it."""
    return visible(text) if sys.stdout.isatty() else text


def table(listed: list[Listed]) -> str:
    """One session per line, columns aligned."""
    rows = [HEAD, *(_row(each) for each in listed)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD) - 1)]
    return "".join(
        "  ".join([*map(str.ljust, row, widths), row[-1]]).rstrip() + "\n" for row in rows
    )


def _row(listed: Listed) -> tuple[str, ...]:
    session = listed.session
    turn = {True: "running", False: "idle", None: "-"}[listed.turn_running]
    cells = (
        session.id,
        session.name,
        session.status.value,
        turn,
        session.created_at,
        session.expires_at or "-",
        session.image,
        session.project_path,
    )
    # A name can hold a line's end; here one line is one session.
    return tuple(" ".join(visible(cell).split()) for cell in cells)


def pruned(pruned: list[Pruned]) -> str:
    """One session per line: its id, why it is over, its name."""
    return "".join(
        f"{each.session.id}  {each.reason}  {' '.join(visible(each.session.name).split())}\n"
        for each in pruned
    )


def event(event: Event) -> str:
    """One line, or as many as its text has."""
    cut = f" [... {event.left_out} characters more: --event {event.number}]"
    text = f"{event.number} {event.time} {event.kind}: {event.text}"
    return for_terminal(text + (cut if event.left_out else ""))
