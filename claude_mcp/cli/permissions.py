"""Claude's permission requests: answered at the terminal, or by the command `respond`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from typing import TYPE_CHECKING, Final

from claude_mcp.cli.running import within_session
from claude_mcp.cli.terminal import talk, write_json
from claude_mcp.config import Config
from claude_mcp.errors import UsageError
from claude_mcp.sessions.turns.questions import question_text

if TYPE_CHECKING:
    from claude_mcp.sessions.turns.permissions import Answer, Ask
    from claude_mcp.sessions.turns.results import Question, TurnResult

PERMISSION_EXIT_CODE: Final = 9
"""The turn waits for an answer to a permission request."""
TERMINAL: Final = "/dev/tty"
"""stdin may be the prompt."""


def asker(arguments: argparse.Namespace) -> Ask | None:
    """Asks the person at the terminal; None if there is no terminal, or with ``--json``."""
    if arguments.json or not sys.stderr.isatty():
        return None
    try:
        terminal = os.open(TERMINAL, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None

    async def ask(question: Question) -> Answer | None:
        import termios

        import anyio

        from claude_mcp.sessions.turns.permissions import Answer, Decision

        talk(f"Claude asks for permission: {_text(question)}")
        sys.stderr.write("Allow it? [y/N] ")
        sys.stderr.flush()
        termios.tcflush(terminal, termios.TCIFLUSH)  # keys typed before the question are no answer
        await anyio.wait_readable(terminal)
        said = os.read(terminal, 4096)
        if not said:  # Ctrl-D
            talk("")
            return None
        allowed = said.strip().lower() in (b"y", b"yes")
        return Answer(Decision.ALLOW if allowed else Decision.DENY)

    return ask


def tell(turn: TurnResult) -> None:
    """Print the open requests, and how to answer them."""
    session = shlex.quote(turn.session.name)
    for question in turn.questions:
        talk(f"Claude asks for permission: {_text(question)}")
        request = shlex.quote(question.request_id)
        talk(f"answer with: claude-mcp respond {session} {request} --allow (or --deny)")
    if turn.status.value == "needs_permission":
        talk(f"then continue with: claude-mcp turn {session} {turn.turn_id}")


def _text(question: Question) -> str:
    return question_text(question.tool_name, question.tool_input, question.description)


def respond(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.sessions.turns import permissions

    if arguments.allow == arguments.deny:
        raise UsageError("Pass either --allow or --deny.")
    decision = permissions.Decision.ALLOW if arguments.allow else permissions.Decision.DENY
    answer = permissions.Answer(decision, arguments.message)
    decided = within_session(
        config,
        arguments.session,
        lambda handle: permissions.respond(handle, arguments.request, answer),
    )
    if arguments.json:
        from claude_mcp.views.results import PermissionResult

        write_json(PermissionResult.of(decided).wire())
    elif decided.turn_id is not None:
        session = shlex.quote(decided.session.name)
        talk(f"Claude has the answer; continue with: claude-mcp turn {session} {decided.turn_id}")
    else:
        talk("Claude has the answer.")
    return 0
