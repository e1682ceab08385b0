"""The commands for turns: prompt, turn, cancel."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from claude_mcp.cli import render
from claude_mcp.cli.drawing import columns, is_plain
from claude_mcp.cli.here import HERE
from claude_mcp.cli.line import LINE
from claude_mcp.cli.options import given
from claude_mcp.cli.paths import read_schema
from claude_mcp.cli.permissions import PERMISSION_EXIT_CODE, asker, tell
from claude_mcp.cli.running import follow, watched, within_session
from claude_mcp.cli.terminal import for_terminal, talk, visible, write, write_json
from claude_mcp.config import Config
from claude_mcp.errors import UsageError
from claude_mcp.sessions.progress import no_progress
from claude_mcp.views.figures import turn_figures

if TYPE_CHECKING:
    from claude_mcp.cli import live
    from claude_mcp.sessions.handle import SessionHandle
    from claude_mcp.sessions.turns.results import Event, TurnResult

RUNNING_EXIT_CODE: Final = 8
"""Waiting ended before the turn did."""
GOES_ON: Final = "interrupted; the turn, if it runs, goes on"


def prompt(arguments: argparse.Namespace, config: Config) -> int:
    import anyio

    from claude_mcp.sessions.turns import prompts
    from claude_mcp.sessions.turns.options import TurnOptions

    text, schema = _addressed(arguments), read_schema(arguments.output_schema)
    split = {"tools": lambda names: tuple(name for name in names.split(",") if name)}
    options = TurnOptions(**given(arguments, TurnOptions, split))
    turn_id = prompts.new_turn_id(arguments.turn_id)
    ask = None if arguments.detach else asker(arguments)
    shown = None if arguments.detach else listener(arguments, arguments.json)

    async def work(handle: SessionHandle) -> TurnResult:
        try:
            return await prompts.prompt(
                handle,
                text,
                options=options,
                turn_id=turn_id,
                wait_seconds=0 if arguments.detach else arguments.wait,
                queue=arguments.queue,
                answerable=arguments.answerable or ask is not None,
                output_schema=schema,
                progress=no_progress if shown else follow(arguments),
                listener=shown,
                ask=ask,
            )
        except anyio.get_cancelled_exc_class():
            if shown is not None:
                shown.end()
            with anyio.CancelScope(shield=True):
                await interrupt(handle, turn_id)
            raise

    turn = within_session(config, arguments.session, work)
    if arguments.json:
        from claude_mcp.views.turns import PromptResult

        write_json(PromptResult.of(turn).wire())
    elif arguments.detach:
        write(f"{turn.turn_id}\n")
    code = show(turn, arguments.json, watched(arguments), shown)
    going = code in (RUNNING_EXIT_CODE, PERMISSION_EXIT_CODE)
    return 0 if arguments.detach and going else code


def _addressed(arguments: argparse.Namespace) -> str:
    """The prompt's text; a session that was left out is the one of this directory."""
    if arguments.session is None:
        arguments.session = HERE
    elif arguments.prompt is None and len(arguments.session.split()) > 1:
        # No reference of a session has a blank, so this is the prompt.
        arguments.session, arguments.prompt = HERE, arguments.session
    return prompt_text(arguments.prompt, arguments.session)


async def interrupt(handle: SessionHandle, turn_id: str) -> None:
    """End a prompt after Ctrl-C; it may never have reached the session."""
    from claude_mcp.errors import ClaudeMcpError
    from claude_mcp.sessions.turns import prompts

    try:
        turn = await prompts.interrupt(handle, turn_id)
    except ClaudeMcpError as error:
        talk(f"claude-mcp: the prompt was abandoned: {error.message}")
        return
    match turn.status.value if turn else "cancelled":
        case "cancelled":
            talk(f"claude-mcp: turn {turn_id} is cancelled; the conversation is kept")
        case "running" | "queued":
            talk(f"claude-mcp: turn {turn_id} is being cancelled")
        case status:
            talk(f"claude-mcp: turn {turn_id} had already ended: {status}")


def turn(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.sessions.turns import prompts

    if arguments.event is not None:
        return _show_event(arguments, config)
    if arguments.follow:
        return _follow(arguments, config)
    shown = listener(arguments, arguments.json) if arguments.cursor is None else None
    found = within_session(
        config,
        arguments.session,
        lambda handle: prompts.follow(
            handle,
            arguments.turn,
            cursor=arguments.cursor,
            wait_seconds=arguments.wait,
            progress=no_progress if shown else follow(arguments),
            listener=shown,
            ask=asker(arguments),
        ),
        interrupted=GOES_ON,
    )
    if arguments.json:
        from claude_mcp.views.turns import TurnView

        write_json(TurnView.of(found).wire())
    elif arguments.cursor is not None:
        write("".join(f"{render.event(event)}\n" for event in found.events))
    return show(found, arguments.json, watched(arguments), shown)


def _follow(arguments: argparse.Namespace, config: Config) -> int:
    """Print the turn's events as they come, and its result; with ``--json`` one object per line."""
    from claude_mcp.sessions.turns.events import stream
    from claude_mcp.views.turns import EventEntry, PromptResult

    def line(kind: str, value: dict[str, Any]) -> None:
        write(json.dumps({"type": kind, **value}, ensure_ascii=False) + "\n")

    async def on_events(events: Sequence[Event]) -> None:
        for event in events:
            if arguments.json:
                line("event", EventEntry.of(event).wire())
            else:
                write(f"{render.event(event)}\n")
        sys.stdout.flush()

    found = within_session(
        config,
        arguments.session,
        lambda handle: stream(
            handle,
            arguments.turn,
            on_events,
            cursor=arguments.cursor or 0,
            wait_seconds=arguments.wait,
            ask=asker(arguments),
        ),
        interrupted=GOES_ON,
    )
    if arguments.json:
        line("result", PromptResult.of(found).wire())
    return show(found, arguments.json, watched(arguments))


def _show_event(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.sessions.turns import prompts

    _, event = within_session(
        config, arguments.session, lambda handle: prompts.event(handle, arguments.event)
    )
    if arguments.json:
        from claude_mcp.views.turns import EventEntry

        write_json(EventEntry.of(event).wire())
    else:
        write(for_terminal(event.text).rstrip("\n") + "\n")
    return 0


def cancel(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.sessions.turns import prompts

    cancelled = within_session(
        config, arguments.session, lambda handle: prompts.interrupt(handle, arguments.turn)
    )
    if arguments.json:
        from claude_mcp.views.turns import CancelResult

        write_json(CancelResult.of(arguments.session, cancelled).wire())
    elif cancelled is None:
        talk("No turn was running.")
    else:
        talk(f"Turn {cancelled.turn_id}: {cancelled.status.value}")
    return 0


def listener(arguments: argparse.Namespace, as_json: bool) -> live.Turn | None:
    """Shows a turn while it happens, if there is a terminal for that."""
    from claude_mcp.cli import live

    if not (watched(arguments) and LINE.possible()) or arguments.verbose:
        return None
    return live.Turn(words=live.shares_terminal() and not as_json)


def show(turn: TurnResult, as_json: bool, figures: bool, listened: live.Turn | None = None) -> int:
    """Print the answer, unless JSON was, and return the exit code: 0 for a completed turn."""
    said = listened is not None and listened.end(turn.result)
    if not (as_json or said) and turn.result and turn.result != turn.error:
        write(_rendered(turn.result).rstrip("\n") + "\n")
    for note in turn.notes:
        talk(f"note: {note}")
    if turn.permission_denials:
        from claude_mcp.sessions.turns.questions import denial_text
    for denial in turn.permission_denials:
        talk(denial_text(denial.tool_name, denial.tool_input, denial.reason))
    tell(turn)
    match turn.status.value:
        case "needs_permission":
            return PERMISSION_EXIT_CODE
        case "completed":
            if figures:
                talk(f"[{turn_figures(turn.duration_ms, turn.num_turns, turn.cost_usd)}]")
            return 0
        case "running" | "queued":
            session = shlex.quote(turn.session.name)
            state = f"is queued behind {turn.ahead}" if turn.ahead else "is running"
            talk(
                f"Turn {turn.turn_id} {state}; continue with: "
                f"claude-mcp turn {session} {turn.turn_id}"
            )
            return RUNNING_EXIT_CODE
        case status:
            talk(f"claude-mcp: turn {status}: {turn.error or 'Claude Code gave no reason'}")
            if turn.retry_at is not None:
                talk(f"the usage limit ends at {turn.retry_at}")
            return 1


def _rendered(text: str) -> str:
    """Claude's Markdown, with colors where a terminal has them."""
    if is_plain(sys.stdout):
        return for_terminal(text)
    from claude_mcp.cli import markdown

    return markdown.render(visible(text), columns(sys.stdout))


def prompt_text(given: str | None, word: str = HERE) -> str:
    """The prompt as it was given, or from stdin; ``word`` stood alone before it.

    Raises:
        UsageError: there is none
    """
    if given is not None and given != "-":
        return given
    if given is None and sys.stdin.isatty():
        hint = "Pass it as an argument, or on stdin with '-'."
        if word != HERE:
            hint += f" If {word!r} is the prompt, put '.' before it."
        raise UsageError("No prompt was given.", hint=hint)
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError("The prompt on stdin is not valid UTF-8.") from error
