"""What Claude Code asks permission for: questions that are open until somebody decides them.

Each is decided once, and what nobody decides is denied after a time. The journal and the log say
of every question how it ended. Whatever runs in the session can ask as well, so their number and
size are bounded. The lock is the owner's; every public method is called with it.
"""

from __future__ import annotations

import collections
import json
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from claude_mcp.agent.channel.connections import RequestError
from claude_mcp.agent.store.journal import Journal
from claude_mcp.agent.store.state import log
from claude_mcp.claude import protocol
from claude_mcp.claude.events import call_text, headline
from claude_mcp.contract import places as contract
from claude_mcp.contract.codes import Code
from claude_mcp.contract.redaction import redactor

if TYPE_CHECKING:
    from claude_mcp.agent.turns.live import Live
    from claude_mcp.agent.turns.turn import Turn

MAX_OPEN = 32
MAX_INPUT_CHARACTERS = 4 * 1024 * 1024
SHOWN_CHARACTERS = 8_000
"""Of an input as JSON; the event that the question made has all of it."""
SHOWN_TEXT_CHARACTERS = 2_000
NAME_CHARACTERS = 200
DESCRIPTION_CHARACTERS = 1_000
MESSAGE_CHARACTERS = 10_000
KEPT_DECISIONS = 200
MAX_NOTES = 10
"""Of questions that nobody answered, in one turn."""
DENIED = "The user denied this."


@dataclass(eq=False)
class Question:
    """An open one. ``id`` is ours, because Claude Code's own is whatever a forger likes."""

    id: str
    live: Live
    request: protocol.ControlRequest
    turn: Turn | None
    """None when it came outside any turn, or has outlived its own."""
    tool_name: str
    tool_input: Mapping[str, Any]
    timer: threading.Timer
    shown: dict[str, Any]
    """As callers see it."""

    @property
    def of_a_subagent(self) -> bool:
        """Those work in the background, and go on when the turn that started them has ended."""
        return bool(_text(self.request.request.get("agent_id")))


class Permissions:
    def __init__(self, seconds: float, journal: Journal, changed: threading.Condition) -> None:
        self._seconds = seconds
        self._journal = journal
        self._changed = changed
        self._open: dict[str, Question] = {}
        self._decided: collections.OrderedDict[str, str] = collections.OrderedDict()

    def ask(self, live: Live, request: protocol.ControlRequest, turn: Turn | None) -> None:
        """Take a question of Claude Code's; one too many or too large is denied at once."""
        if any(q.live is live and q.request.request_id == request.request_id for q in self.all()):
            return
        tool = protocol.ToolUse(
            name=_text(request.request.get("tool_name"))[:NAME_CHARACTERS],
            input=_mapping(request.request.get("input")),
        )
        if len(_json(tool.input)) > MAX_INPUT_CHARACTERS:
            self._refuse(live, request, tool, f"it has more than {MAX_INPUT_CHARACTERS} characters")
            return
        if len(self._open) >= MAX_OPEN:
            self._refuse(live, request, tool, f"{MAX_OPEN} questions are open already")
            return
        question = uuid.uuid4().hex[:12]
        call = call_text(tool, contract.WORKSPACE)
        event = self._tell(turn, f"asks for permission {question}: {call}")
        log(f"permission {question} asked: {headline(call)}")
        timer = threading.Timer(
            min(self._seconds, threading.TIMEOUT_MAX), self._expire, args=(question,)
        )
        timer.daemon = True
        self._open[question] = Question(
            id=question,
            live=live,
            request=request,
            turn=turn,
            tool_name=tool.name,
            tool_input=tool.input,
            timer=timer,
            shown={
                "requestId": question,
                "toolName": tool.name,
                "toolInput": shown_input(redactor.redact_all(tool.input), event),
                "description": _description(redactor.redact_all(request.request)),
            },
        )
        try:
            timer.start()
        except RuntimeError:  # no process is left; nobody could deny it later
            self._close(self._open[question], "the session has no room for another process")
            live.post(protocol.deny_line(request.request_id, "It could not be asked."))
            return
        if turn is not None and turn.cancelled:
            self._close(self._open[question], "the turn was interrupted")

    def _refuse(
        self, live: Live, request: protocol.ControlRequest, tool: protocol.ToolUse, why: str
    ) -> None:
        log(f"permission for {headline(tool.name)} denied at once: {why}")
        live.post(protocol.deny_line(request.request_id, f"It could not be asked: {why}."))

    def all(self) -> list[Question]:
        return list(self._open.values())

    def of(self, turn_id: str) -> list[dict[str, Any]]:
        """What is asked in a turn, as callers see it; and what nobody waits for who might answer
        it, because it is asked in a turn that nobody began, or outside any."""
        return [
            question.shown
            for question in self.all()
            if question.turn is None or question.turn.prompt is None or question.turn.id == turn_id
        ]

    def decide(self, question_id: str, allow: bool, message: str | None) -> str | None:
        """Answer a question; returns its turn's id.

        Raises:
            RequestError: it is not open, and was perhaps never asked.
        """
        question = self._open.get(question_id)
        if question is None and question_id in self._decided:
            raise RequestError(Code.DECIDED, self._decided[question_id])
        if question is None:
            raise RequestError(Code.NO_QUESTION, question_id[:100])
        said = (message or "").strip()[:MESSAGE_CHARACTERS]
        if allow:
            line = protocol.allow_line(question.request.request_id, question.tool_input)
        else:
            line = protocol.deny_line(question.request.request_id, said or DENIED)
        self._end(question, f"{'allowed' if allow else 'denied'} (answered)", said, line)
        return question.turn.id if question.turn else None

    def _expire(self, question_id: str) -> None:
        with self._changed:
            question = self._open.get(question_id)
            if question is None:
                return
            why = f"nobody answered within {self._seconds:g} s"
            turn = question.turn
            if turn is not None and turn.expired < MAX_NOTES:
                turn.expired += 1
                turn.notes.append(f"Permission for {question.tool_name} was denied: {why}.")
            line = protocol.deny_line(question.request.request_id, f"Denied: {why}.")
            self._end(question, f"denied ({why})", line=line)

    def withdraw(self, live: Live, request_id: str) -> None:
        """Claude Code does not ask any more."""
        for question in self.all():
            if question.live is live and question.request.request_id == request_id:
                self._end(question, "closed (Claude Code withdrew it)")

    def interrupt(self, turn: Turn) -> None:
        """Close what is asked in a turn that is about to be interrupted.

        Claude Code itself is not told: a denial would have it go on before the interrupt comes.
        """
        for question in self.all():
            if question.turn is turn:
                self._close(question, "the turn was interrupted")

    def settle(self, turn: Turn) -> None:
        """A turn has ended: what its subagents ask becomes the session's, the rest is closed."""
        for question in self.all():
            if question.turn is turn and question.of_a_subagent:
                question.turn = None
            elif question.turn is turn:
                self._close(question, "the turn ended")

    def _close(self, question: Question, why: str) -> None:
        line = None
        if question.of_a_subagent:  # so that it does not wait for ever
            line = protocol.deny_line(question.request.request_id, f"Denied: {why}.")
        self._end(question, f"closed ({why})", line=line)

    def lose(self, live: Live) -> None:
        """Close what was asked by a Claude Code that has ended."""
        for question in self.all():
            if question.live is live:
                self._end(question, "closed (Claude Code ended)")

    def _end(
        self, question: Question, how: str, message: str = "", line: bytes | None = None
    ) -> None:
        """``line`` is what Claude Code is told."""
        del self._open[question.id]
        question.timer.cancel()
        self._decided[question.id] = how
        while len(self._decided) > KEPT_DECISIONS:
            self._decided.popitem(last=False)
        if line is not None:
            question.live.post(line)
        text = f"permission {question.id} {how}"
        self._tell(question.turn, f"{text}: {message}" if message else text)
        log(f"{text}: {headline(message)}" if message else text)

    def _tell(self, turn: Turn | None, text: str) -> int:
        self._changed.notify_all()
        return self._journal.append(turn.id if turn else None, "permission", text)


def shown_input(tool_input: Mapping[str, Any], event: int) -> dict[str, Any]:
    """A tool's input, bounded; a note stands for what is missing and names the event with it."""
    if len(_json(tool_input)) <= SHOWN_CHARACTERS:
        return dict(tool_input)
    shown = {name: _cut(value, SHOWN_TEXT_CHARACTERS, event) for name, value in tool_input.items()}
    if len(_json(shown)) <= SHOWN_CHARACTERS:
        return shown
    return {"json": _cut(_json(tool_input), SHOWN_TEXT_CHARACTERS, event)}


def _cut(value: Any, characters: int, event: int) -> Any:
    if not isinstance(value, str) or len(value) <= characters:
        return value
    left_out = len(value) - characters
    return f"{value[:characters]} [... {left_out} characters more: event {event}]"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _description(request: Mapping[str, Any]) -> str | None:
    """What Claude Code says about a question, beside the tool's input."""
    said = (_text(request.get(name)).strip() for name in ("description", "decision_reason"))
    return "\n".join(filter(None, said))[:DESCRIPTION_CHARACTERS] or None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
