"""A session's turns as one Markdown text of bounded size: prompts, tools, answers, costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from claude_mcp.sessions.turns.questions import request_text
from claude_mcp.views.figures import turn_figures

if TYPE_CHECKING:
    from claude_mcp.sessions.turns.history import History, Told
    from claude_mcp.sessions.turns.results import Event

MAX_CHARS: Final = 80_000
"""About 20,000 tokens."""
MAX_PROMPT_CHARS: Final = 4_000
MAX_ANSWER_CHARS: Final = 20_000
MAX_STEP_CHARS: Final = 300
EVENTS_AT_ONCE: Final = 50
"""How many events of a turn the session tells at once."""
OLDER: Final = (
    "_Older turns are left out. list_turns finds them; get_turn with turnId, and cursor 0 for its "
    "events, returns one._"
)
FURTHER: Final = "_Further events: get_turn with turnId {} and cursor {}._"
STEPS: Final = frozenset({"tool_call", "tool_error", "permission", "note", "message"})


def transcript(history: History) -> str:
    """What the session's own text says is quoted, so that it cannot be taken for ours."""
    head = f"# Session {history.session.name} ({history.session.id})"
    parts: list[str] = []
    room = MAX_CHARS
    left_out = history.more
    for told in reversed(history.turns):
        part = "\n".join(_turn(told))
        if parts and len(part) > room:
            left_out = True
            break
        parts.insert(0, part[:MAX_CHARS])
        room -= len(part)
    if not parts:
        return f"{head}\n\nThere was no turn yet.\n"
    return "\n\n".join([head, *([OLDER] if left_out else []), *parts]) + "\n"


def _turn(told: Told) -> Iterator[str]:
    listed, turn = told.listed, told.turn
    figures = turn_figures(turn.duration_ms, turn.num_turns, turn.cost_usd)
    model = f", {turn.model}" if turn.model else ""
    yield f"## Turn {listed.turn_id}, {listed.at or 'time unknown'}"
    yield f"\n{turn.status.value}: {figures}{model}"
    prompt = turn.prompt or ""
    yield "\n### Prompt\n"
    yield _quoted(prompt, MAX_PROMPT_CHARS) if prompt else "_Claude Code began this turn itself._"
    steps = [
        _step(event)
        for event in turn.events
        if event.kind in STEPS and event.text != turn.result  # which follows as the answer
    ]
    if steps:
        yield "\n### Steps\n"
        yield from steps
    if len(turn.events) >= EVENTS_AT_ONCE:
        yield FURTHER.format(turn.turn_id, turn.events[-1].number)
    for question in turn.questions:
        asked = request_text(question.tool_name, question.tool_input, question.description)
        yield f"\n### Open\n\n{_quoted(asked, MAX_PROMPT_CHARS)}"
    if turn.result:
        yield "\n### Answer\n"
        yield _quoted(turn.result, MAX_ANSWER_CHARS)
    if turn.error and turn.error != turn.result:
        yield "\n### Error\n"
        yield _quoted(turn.error, MAX_PROMPT_CHARS)
    yield from (f"\nNote: {note}" for note in turn.notes)


def _step(event: Event) -> str:
    text = " ".join(event.text.split())
    left_out = max(0, len(text) - MAX_STEP_CHARS) + event.left_out
    cut = f" [... {left_out} characters more]" if left_out else ""
    return f"- {event.kind}: {text[:MAX_STEP_CHARS]}{cut} (event {event.number})"


def _quoted(text: str, characters: int) -> str:
    left_out = len(text) - characters
    cut = f"\n[... {left_out} characters more ...]" if left_out > 0 else ""
    return "\n".join(f"> {line}".rstrip() for line in (text[:characters] + cut).splitlines())
