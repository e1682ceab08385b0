"""Values as text for a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from claude_mcp.cli import drawing
from claude_mcp.cli.drawing import columns
from claude_mcp.cli.terminal import for_terminal, visible
from claude_mcp.contract.numbers import counted
from claude_mcp.views.figures import elapsed, usd

if TYPE_CHECKING:
    from claude_mcp.engine.engine import Image
    from claude_mcp.sessions.command_state import Entry
    from claude_mcp.sessions.images import Contents
    from claude_mcp.sessions.outcomes import Listed
    from claude_mcp.sessions.pruning import Pruned
    from claude_mcp.sessions.turns.listing import Listing
    from claude_mcp.sessions.turns.results import Event

PORTS, ENGINE = "PORTS", "ENGINE"
HEAD = ("ID", "NAME", ENGINE, "STATUS", "TURN", "CREATED", "EXPIRES", PORTS, "IMAGE", "PROJECT")
TURNS_HEAD = ("TURN", "AT", "STATUS", "COST", "PROMPT")
TIMES = ("CREATED", "EXPIRES", "AT", "STARTED")
WHOLE = ("ID", "TURN")
UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
COMMANDS_HEAD = ("ID", "STATUS", "EXIT", "STARTED", "COMMAND")


def table(listed: Sequence[Listed], *, with_engines: bool = False) -> str:
    """One session per line, columns aligned; ports only if there are any."""
    left_out = set() if with_engines else {HEAD.index(ENGINE)}
    if not any(each.session.forwarding for each in listed):
        left_out.add(HEAD.index(PORTS))
    rows = [
        tuple(cell for at, cell in enumerate(row) if at not in left_out)
        for row in (HEAD, *map(_row, listed))
    ]
    return _aligned(rows, drop=("IMAGE", "EXPIRES", "CREATED", "ID", PORTS))


def commands(entries: list[Entry]) -> str:
    """One command per line, columns aligned."""
    return _aligned([COMMANDS_HEAD, *(_command_row(each) for each in entries)], drop=("STARTED",))


def _command_row(entry: Entry) -> tuple[str, ...]:
    code = "-" if entry.exit_code is None else str(entry.exit_code)
    cells = (entry.command_id, entry.status.value, code, entry.started_at, entry.command)
    return tuple(one_line(cell) for cell in cells)


def _aligned(rows: list[tuple[str, ...]], drop: Sequence[str] = ()) -> str:
    """The rows as lines. On a terminal they fit it, without the columns ``drop`` if need be, and
    times are told from now."""
    limit = columns(sys.stdout)
    if limit is not None:
        times = [number for number, head in enumerate(rows[0]) if head in TIMES]
        rows = [
            rows[0],
            *(
                tuple(relative(cell) if at in times else cell for at, cell in enumerate(row))
                for row in rows[1:]
            ),
        ]
    lines = drawing.table(rows, limit, drop=drop, whole=WHOLE)
    return "".join(f"{line}\n" for line in lines)


def relative(time: str, now: datetime | None = None) -> str:
    """An RFC 3339 time as a person says it, ``5 min ago``; anything else unchanged."""
    from claude_mcp.sessions.session import parse_time  # with it comes much else

    moment = parse_time(time)
    if moment is None:
        return time
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    size, unit = next(
        (size, unit) for size, unit in UNITS if abs(seconds) >= size or unit == UNITS[-1][1]
    )
    amount = f"{int(abs(seconds) // size)} {unit}"
    return f"{amount} ago" if seconds >= 0 else f"in {amount}"


def _row(listed: Listed) -> tuple[str, ...]:
    session = listed.session
    published = session.forwarding.ports if session.forwarding else ()
    cells = (
        session.id,
        session.name,
        listed.engine,
        session.status.value,
        _turn(listed),
        session.created_at,
        session.expires_at or "-",
        " ".join(f"{each.host_port}:{each.port}" for each in published) or "-",
        session.image,
        session.project_path,
    )
    return tuple(one_line(cell) for cell in cells)


def _turn(listed: Listed) -> str:
    """What the session is doing."""
    activity = listed.activity
    if listed.session.unsaved:
        return "holds work"
    if activity is None:
        return "no answer" if listed.problem else listed.session.ended or "-"
    if activity.questions:
        return counted(activity.questions, "question")
    return f"running {elapsed(activity.turn_ms or 0)}" if activity.turn_running else "idle"


def turns(listing: Listing) -> str:
    """One turn per line, columns aligned: id, time, status, cost, first line of the prompt."""
    rows = [
        (
            each.turn_id,
            each.at or "-",
            each.status,
            usd(each.cost_usd) if each.cost_usd else "-",
            each.prompt or "(begun by Claude Code itself)",
        )
        for each in listing.turns
    ]
    return _aligned([tuple(map(one_line, row)) for row in (TURNS_HEAD, *rows)], drop=("COST", "AT"))


def images(found: list[Image]) -> str:
    """One image per line."""
    rows = [("IMAGE", "ID", "SIZE", "CREATED")]
    rows += [(each.name, each.id, each.size, each.created) for each in found]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "".join("  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows)


def contents(found: Contents) -> str:
    """One program per line, with its version."""
    lines = [f"{name:8} {version}".rstrip() for name, version in found.programs.items()]
    lines += [f"{name:8} MISSING: no session can run without it" for name in found.missing]
    lines += [f"{name:8} missing; some projects need it" for name in found.unavailable]
    return "\n".join(lines) + "\n"


def pruned(pruned: list[Pruned]) -> str:
    """One session per line: its id, why it is removed, its name."""
    return "".join(
        f"{each.session.id}  {each.reason}  {one_line(each.session.name)}\n"
        for each in pruned
        if not each.kept
    )


def one_line(text: str) -> str:
    """A name may contain line breaks; here each session takes one line."""
    return " ".join(visible(text).split())


def event(event: Event) -> str:
    """One line, or as many as the event's text has."""
    more = counted(event.left_out, "more character")
    cut = f" [... {more}: --event {event.number}]" if event.left_out else ""
    return for_terminal(f"{event.number} {event.time} {event.kind}: {event.text}{cut}")
