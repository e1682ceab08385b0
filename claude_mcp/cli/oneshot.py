"""``run``: a session for one prompt, from its creation to its removal."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from claude_mcp.cli.commands import create_request, tell_ports
from claude_mcp.cli.paths import read_schema
from claude_mcp.cli.permissions import PERMISSION_EXIT_CODE, asker
from claude_mcp.cli.prompts import interrupt, listener, prompt_text, show
from claude_mcp.cli.running import follow, report, watched, within
from claude_mcp.cli.terminal import for_terminal, talk, write, write_json
from claude_mcp.config import Config
from claude_mcp.errors import AgentError, ClaudeMcpError, UsageError, WorkUnsaved
from claude_mcp.sessions.progress import no_progress

if TYPE_CHECKING:
    from claude_mcp.cli import live
    from claude_mcp.sessions.handle import SessionHandle
    from claude_mcp.sessions.registry import Sessions
    from claude_mcp.sessions.session import Session
    from claude_mcp.sessions.turns.options import TurnOptions
    from claude_mcp.sessions.turns.results import Event, TurnResult
    from claude_mcp.sessions.workspaces.applying import Applied

TAKE: Final = ("none", "branch", "merge", "patch")
OUTPUTS: Final = ("text", "json", "stream-json")
CLEAN_UP_SECONDS: Final = 60.0
SUBJECT_CHARS: Final = 72


@dataclass
class _Run:
    """What has happened so far."""

    session: Session | None = None
    handle: SessionHandle | None = None
    turn_id: str | None = None
    structured: Any = None
    """The answer, if it had to follow a schema."""
    turn: TurnResult | None = None
    applied: Applied | None = None
    kept: str | None = None
    """Why the session is still there, if it is."""


def run(arguments: argparse.Namespace, config: Config) -> int:
    take, patch = _taking(arguments)
    if arguments.output not in OUTPUTS:
        raise UsageError(f"--output takes {', '.join(OUTPUTS)}, not {arguments.output!r}.")
    if not os.path.isdir(arguments.project):
        words = shlex.join([arguments.project, *filter(None, [arguments.prompt])])
        raise UsageError(
            f"{arguments.project!r} is not a directory.",
            hint=f"To run a command in a session: claude-mcp exec {words}",
        )
    text, schema = prompt_text(arguments.prompt), read_schema(arguments.output_schema)
    request = create_request(arguments)
    if take is not None and request.workspace is None:
        request = replace(request, workspace="clone")
    done = _Run()

    async def work(sessions: Sessions) -> int:
        import anyio

        try:
            code = await _perform(sessions, arguments, request, text, schema, take, patch, done)
        except BaseException:
            with anyio.move_on_after(CLEAN_UP_SECONDS, shield=True):
                await _leave(sessions, arguments, take, done)
            raise
        await _leave(sessions, arguments, take, done)
        return code

    code = within(config, work)
    if arguments.output != "text":
        final = _final(done)
        if arguments.output == "json":
            write_json(final)
        else:
            _write_line({"type": "result", **final})
    return code


def _taking(arguments: argparse.Namespace) -> tuple[str | None, str | None]:
    """How the work is taken, and the patch to write."""
    take = arguments.apply
    if arguments.patch is not None and take not in (None, "patch"):
        raise UsageError("--patch goes with '--apply patch' only.")
    if arguments.patch is not None:
        take = "patch"
    if take is not None and take not in TAKE:
        raise UsageError(f"--apply takes {', '.join(TAKE)}, not {take!r}.")
    if take == "patch" and arguments.patch is None:
        raise UsageError("'--apply patch' needs --patch FILE, the file to write.")
    return take, None if arguments.patch is None else os.path.abspath(arguments.patch)


async def _perform(
    sessions: Sessions,
    arguments: argparse.Namespace,
    request: Any,
    text: str,
    schema: str | None,
    take: str | None,
    patch: str | None,
    done: _Run,
) -> int:
    from claude_mcp.sessions.create import start
    from claude_mcp.sessions.turns.options import TurnOptions
    from claude_mcp.sessions.turns.prompts import new_turn_id
    from claude_mcp.sessions.workspaces.applying import Mode, apply_changes
    from claude_mcp.sessions.workspaces.changes import get_changes
    from claude_mcp.views import text as texts
    from claude_mcp.views.workspaces import ApplyResult

    created = await start.create(sessions, request, follow(arguments))
    done.session = created.session
    for warning in created.warnings:
        talk(f"warning: {warning}")
    tell_ports(created.session)
    handle = await sessions.open(created.session.id)
    options = TurnOptions(
        tools=tuple(filter(None, arguments.tools.split(","))) if arguments.tools else None,
        max_turns=arguments.max_turns,
        max_budget_usd=arguments.max_budget_usd,
    )
    done.handle, done.turn_id = handle, new_turn_id()
    as_json = arguments.output != "text"
    shown = None if arguments.output == "stream-json" else listener(arguments, as_json)
    done.turn = turn = await _turn(handle, arguments, text, options, schema, done.turn_id, shown)
    if turn.status.value == "needs_permission" and not arguments.keep:
        talk("Claude asks for a permission, and nobody is there to answer: the turn ends here.")
        return PERMISSION_EXIT_CODE
    if schema is not None and turn.status.value == "completed":
        done.structured = structured(turn)
    code = show(turn, as_json, watched(arguments), shown)
    if code != 0 or take in (None, "none"):
        return code
    changes = await get_changes(handle)
    if not changes.ahead and not changes.files and changes.complete:
        talk("Claude changed nothing, so there is nothing to take.")
        return code
    mode: Mode = take  # type: ignore[assignment]
    done.applied = await apply_changes(
        handle,
        mode,
        commit=arguments.commit or text.strip().split("\n")[0][:SUBJECT_CHARS],
        patch=patch,
        overwrite=arguments.force,
        progress=follow(arguments),
    )
    talk(for_terminal(texts.apply(ApplyResult.of(done.applied))))
    return code


def structured(turn: TurnResult) -> Any:
    """The answer that follows a schema.

    Raises:
        AgentError: it is no JSON, for example because it was too long and was cut.
    """
    try:
        return json.loads(turn.result or "")
    except (ValueError, RecursionError) as error:
        raise AgentError("The structured answer is no valid JSON, or too long.") from error


async def _turn(
    handle: SessionHandle,
    arguments: argparse.Namespace,
    text: str,
    options: TurnOptions,
    schema: str | None,
    turn_id: str,
    shown: live.Turn | None,
) -> TurnResult:
    """The turn, whose events are printed as they come if the output is a stream."""
    from claude_mcp.sessions.turns import prompts
    from claude_mcp.sessions.turns.events import stream

    ask = asker(arguments)
    if arguments.output != "stream-json":
        return await prompts.prompt(
            handle,
            text,
            options=options,
            turn_id=turn_id,
            answerable=ask is not None,
            output_schema=schema,
            progress=no_progress if shown else follow(arguments),
            listener=shown,
            ask=ask,
        )
    await prompts.prompt(
        handle,
        text,
        options=options,
        turn_id=turn_id,
        wait_seconds=0,
        answerable=ask is not None,
        output_schema=schema,
    )
    return await stream(handle, turn_id, _print_events, ask=ask)


async def _print_events(events: Sequence[Event]) -> None:
    from claude_mcp.views.turns import EventEntry

    for event in events:
        _write_line({"type": "event", **EventEntry.of(event).wire()})


def _write_line(value: dict[str, Any]) -> None:
    write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


async def _leave(
    sessions: Sessions, arguments: argparse.Namespace, take: str | None, done: _Run
) -> None:
    """Destroy the session, unless it is to stay or holds work that is nowhere else."""
    if done.session is None:
        return
    name = shlex.quote(done.session.name)
    going = done.turn is None or done.turn.status.value == "needs_permission"
    if done.handle is not None and going and done.turn_id is not None:
        await interrupt(done.handle, done.turn_id)
    if arguments.keep:
        done.kept = "--keep"
        talk(f"Session {name} is kept; remove it with: claude-mcp destroy {name}")
        return
    discard = take == "none" or done.applied is not None
    try:
        await sessions.destroy(done.session.id, discard=discard)
    except WorkUnsaved as error:
        done.kept = error.message
        talk(f"claude-mcp: {error.message}")
        talk(
            f"Take the work with: claude-mcp apply {name} --commit MESSAGE\n"
            f"Or remove the session with it: claude-mcp destroy {name} --force"
        )
    except ClaudeMcpError as error:
        done.kept = error.message
        report(error)
        talk(f"Session {name} may still be there; remove it with: claude-mcp destroy {name}")


def _final(done: _Run) -> dict[str, Any]:
    """What ``--output json`` prints: the turn, what was taken, and whether the session stays."""
    from claude_mcp.views.turns import PromptResult
    from claude_mcp.views.workspaces import ApplyResult

    turn = None if done.turn is None else PromptResult.of(done.turn).wire()
    applied = None if done.applied is None else ApplyResult.of(done.applied).wire()
    name = None if done.session is None else done.session.name
    return {
        "sessionName": name,
        "turn": turn,
        "structuredOutput": done.structured,
        "applied": applied,
        "kept": done.kept,
    }
