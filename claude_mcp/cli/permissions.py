"""What Claude asks: answered at the terminal, or by the command `respond`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from typing import TYPE_CHECKING, Final

from claude_mcp.cli.line import LINE
from claude_mcp.cli.running import within_session
from claude_mcp.cli.terminal import talk, write_json
from claude_mcp.config import Config
from claude_mcp.errors import UsageError
from claude_mcp.sessions.turns.questions import (
    Asked,
    asked,
    asked_text,
    kind_of,
    request_text,
)

if TYPE_CHECKING:
    from claude_mcp.sessions.turns.permissions import Answer, Ask
    from claude_mcp.sessions.turns.results import Question, TurnResult

PERMISSION_EXIT_CODE: Final = 9
"""The turn waits for an answer to what Claude asks."""
TERMINAL: Final = "/dev/tty"
"""stdin may be the prompt."""
MAX_LINE_BYTES: Final = 4096
"""The longest line that a terminal passes on at once."""


def asker(arguments: argparse.Namespace) -> Ask | None:
    """Asks the person at the terminal; None if there is no terminal, or with ``--json``."""
    if arguments.json or not sys.stderr.isatty():
        return None
    try:
        terminal = os.open(TERMINAL, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return None

    async def ask(question: Question) -> Answer | None:
        import termios

        termios.tcflush(terminal, termios.TCIFLUSH)  # keys typed before the question are no answer
        questions = asked(question.tool_name, question.tool_input)
        if questions:
            return await _ask_questions(terminal, questions)
        return await _ask_decision(terminal, question)

    return ask


async def _ask_decision(terminal: int, question: Question) -> Answer | None:
    from claude_mcp.sessions.turns.permissions import Answer, Decision

    talk(_text(question))
    plan = kind_of(question.tool_name) == "plan"
    said = await _line(
        terminal, "Approve it? [y/N, or what to change] " if plan else "Allow it? [y/N] "
    )
    if said is None:
        return None
    if said.lower() in ("y", "yes"):
        return Answer(Decision.ALLOW)
    reason = said if plan and said.lower() not in ("", "n", "no") else None
    return Answer(Decision.DENY, reason)


async def _ask_questions(terminal: int, questions: tuple[Asked, ...]) -> Answer | None:
    """One line for each question; None if the person ends the input, or answers none of them."""
    from claude_mcp.sessions.turns.permissions import Answer, Decision

    talk("Claude asks:")
    answers = []
    for number, question in enumerate(questions, 1):
        talk(asked_text(question, number if len(questions) > 1 else 0, numbered=True))
        numbers = "Numbers, separated by commas," if question.several else "A number"
        said = await _line(
            terminal, f"{numbers} or your own answer: " if question.choices else "> "
        )
        if said is None:
            return None
        answers.append(_chosen(question, said))
    return Answer(Decision.ALLOW, answers=tuple(answers)) if any(answers) else None


def _chosen(question: Asked, said: str) -> str:
    """The labels that the numbers in a line stand for, or else the line."""
    parts = [part.strip() for part in said.split(",")] if question.several else [said]
    if not all(part.isdecimal() and 0 < int(part) <= len(question.choices) for part in parts):
        return said
    return ", ".join(question.choices[int(part) - 1].label for part in parts)


async def _line(terminal: int, prompt: str) -> str | None:
    """What the person types in one line; None at the end of the input, which is Ctrl-D."""
    import anyio

    with LINE.away():
        sys.stderr.write(prompt)
        sys.stderr.flush()
        try:
            await anyio.wait_readable(terminal)
        except anyio.get_cancelled_exc_class():
            talk("")
            raise
        said = os.read(terminal, MAX_LINE_BYTES)
    if not said:
        talk("")
        return None
    return said.decode(errors="replace").strip()


def tell(turn: TurnResult) -> None:
    """Print what is asked, and how to answer it."""
    session = shlex.quote(turn.session.name)
    for question in turn.questions:
        talk(_text(question))
        respond = f"claude-mcp respond {session} {shlex.quote(question.request_id)}"
        questions = asked(question.tool_name, question.tool_input)
        if questions:
            talk(f"answer with: {respond}{' --answer TEXT' * len(questions)} (or --deny)")
        else:
            talk(f"answer with: {respond} --allow (or --deny)")
    if turn.status.value == "needs_permission":
        talk(f"then continue with: claude-mcp turn {session} {turn.turn_id}")


def _text(question: Question) -> str:
    return request_text(question.tool_name, question.tool_input, question.description)


def respond(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.sessions.turns import permissions

    answers = tuple(arguments.answer or ())
    if [bool(answers), arguments.allow, arguments.deny].count(True) != 1:
        raise UsageError("Pass either --allow, --deny or --answer.")
    decision = permissions.Decision.DENY if arguments.deny else permissions.Decision.ALLOW
    answer = permissions.Answer(decision, arguments.message, answers)
    decided = within_session(
        config,
        arguments.session,
        lambda handle: permissions.respond(handle, arguments.request, answer),
    )
    if arguments.json:
        from claude_mcp.views.turns import PermissionResult

        write_json(PermissionResult.of(decided).wire())
    elif decided.turn_id is not None:
        session = shlex.quote(decided.session.name)
        talk(f"Claude has the answer; continue with: claude-mcp turn {session} {decided.turn_id}")
    else:
        talk("Claude has the answer.")
    return 0
