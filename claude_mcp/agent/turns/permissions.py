"""Claude Code's permission questions, which stay open until they are decided.

Each question is decided once; an unanswered one is denied after a time. The journal and the log
record how each one ended. Any process in the session can ask, so the number and the size of the
questions are bounded. Callers of the public methods hold the owner's lock.
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
from claude_mcp.agent.turns import own_questions
from claude_mcp.claude import protocol
from claude_mcp.claude.events import call_text, headline
from claude_mcp.contract import operations, places
from claude_mcp.contract.codes import Code
from claude_mcp.contract.messages import to_json
from claude_mcp.contract.redaction import redactor

if TYPE_CHECKING:
    from claude_mcp.agent.turns.live import Live
    from claude_mcp.agent.turns.turn import Turn

MAX_OPEN = 32
MAX_INPUT_CHARACTERS = 4 * 1024 * 1024
SHOWN_CHARACTERS = 8_000
"""Maximum length of an input as JSON; the question's event contains all of it."""
SHOWN_TEXT_CHARACTERS = 2_000
SHORTER = (400, 80)
"""Maximum lengths of a text in an input with several long ones."""
NAME_CHARACTERS = 200
DESCRIPTION_CHARACTERS = 1_000
MESSAGE_CHARACTERS = 10_000
KEPT_DECISIONS = 200
MAX_NOTES = 10
"""Maximum number of notes about unanswered questions in one turn."""
DENIED = "The user denied this."


@dataclass(eq=False)
class Question:
    """An open question. ``id`` is ours, because Claude Code's own id may be forged."""

    id: str
    live: Live
    request: protocol.ControlRequest
    turn: Turn | None
    """None if it was asked outside any turn, or its turn is over."""
    tool_name: str
    tool_input: Mapping[str, Any]
    timer: threading.Timer
    shown: operations.Question
    """The question as callers see it."""

    @property
    def is_from_subagent(self) -> bool:
        """Subagents work in the background and may outlive the turn that started them."""
        return bool(_text(self.request.request.get("agent_id")))


class Permissions:
    def __init__(
        self, seconds: float, asks: bool, journal: Journal, changed: threading.Condition
    ) -> None:
        """With ``asks``, the session asks for permissions; Claude's own questions are always put
        to those who can answer them."""
        self._seconds = seconds
        self._asks = asks
        self._journal = journal
        self._changed = changed
        self._open: dict[str, Question] = {}
        self._decided: collections.OrderedDict[str, str] = collections.OrderedDict()

    def ask(self, live: Live, request: protocol.ControlRequest, turn: Turn | None) -> None:
        """Accept a question from Claude Code; it is denied at once if it exceeds a limit."""
        if any(q.live is live and q.request.request_id == request.request_id for q in self.all()):
            return
        tool = protocol.ToolUse(
            name=_text(request.request.get("tool_name"))[:NAME_CHARACTERS],
            input=_mapping(request.request.get("input")),
        )
        reason = _description(request.request) or ""
        told = own_questions.refusal(tool.name, reason, turn, self._asks)
        if told is not None:
            self._answer_at_once(live, request, tool, told, turn)
            return
        if len(_json(tool.input)) > MAX_INPUT_CHARACTERS:
            self._refuse(
                live, request, tool, f"its input has more than {MAX_INPUT_CHARACTERS} characters"
            )
            return
        if len(self._open) >= MAX_OPEN:
            self._refuse(live, request, tool, f"{MAX_OPEN} questions are already open")
            return
        question = uuid.uuid4().hex[:12]
        call = call_text(tool, places.WORKSPACE)
        own = tool.name in (operations.ASK_USER, operations.APPROVE_PLAN)
        event = self._tell(turn, f"asks {'' if own else 'for permission '}{question}: {call}")
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
            shown=operations.Question(
                request_id=question,
                tool_name=tool.name,
                tool_input=shown_input(redactor.redact_all(tool.input), event),
                description=_description(redactor.redact_all(request.request)),
            ),
        )
        try:
            timer.start()
        except RuntimeError:  # without a thread nothing could deny it later
            self._close(self._open[question], "the session's process limit is reached")
            live.post(protocol.deny_line(request.request_id, "The user could not be asked."))
            return
        if turn is not None and turn.cancelled:
            self._close(self._open[question], "the turn was interrupted")

    def _answer_at_once(
        self,
        live: Live,
        request: protocol.ControlRequest,
        tool: protocol.ToolUse,
        told: str,
        turn: Turn | None,
    ) -> None:
        log(f"{headline(call_text(tool, places.WORKSPACE))}: denied at once")
        if told == own_questions.PLAN_MODE_OVER:
            live.set_permission_mode(protocol.BYPASS)
        live.post(protocol.deny_line(request.request_id, told))
        _note_reason(request, turn, told)

    def _refuse(
        self, live: Live, request: protocol.ControlRequest, tool: protocol.ToolUse, why: str
    ) -> None:
        log(f"permission for {headline(tool.name)} denied at once: {why}")
        live.post(protocol.deny_line(request.request_id, f"The user could not be asked: {why}."))

    def all(self) -> list[Question]:
        return list(self._open.values())

    def of(self, turn_id: str) -> list[dict[str, Any]]:
        """The open questions of a turn as JSON, and those of no caller's turn: asked outside any
        turn, or in one that Claude Code started by itself."""
        return [
            to_json(question.shown)
            for question in self.all()
            if question.turn is None or question.turn.prompt is None or question.turn.id == turn_id
        ]

    def decide(
        self, question_id: str, allow: bool, message: str | None, answers: tuple[str, ...] = ()
    ) -> str | None:
        """Answer a question; returns the id of its turn.

        Raises:
            RequestError: it is not open, was never asked, or takes another number of answers.
        """
        question = self._open.get(question_id)
        if question is None and question_id in self._decided:
            raise RequestError(Code.DECIDED, self._decided[question_id])
        if question is None:
            raise RequestError(Code.NO_QUESTION, question_id[:100])
        said, how = (message or "").strip()[:MESSAGE_CHARACTERS], "denied (answered)"
        asked = own_questions.texts(question.tool_name, question.tool_input)
        if allow and len(answers) != len(asked):
            raise RequestError(Code.BAD_ANSWERS, str(len(asked)))
        if allow and asked:
            answers = tuple(answer.strip()[:MESSAGE_CHARACTERS] for answer in answers)
            said, how = "; ".join(answers), "answered"
            tool_input = own_questions.answered(question.tool_input, answers)
            line = protocol.allow_line(question.request.request_id, tool_input)
        elif allow:
            how = "allowed (answered)"
            line = protocol.allow_line(question.request.request_id, question.tool_input)
        else:
            line = protocol.deny_line(question.request.request_id, said or DENIED)
            _note_reason(question.request, question.turn, said)
        self._end(question, how, said, line)
        return question.turn.id if question.turn else None

    def _expire(self, question_id: str) -> None:
        with self._changed:
            question = self._open.get(question_id)
            if question is None:
                return
            why = f"nobody answered within {self._seconds:g} s"
            turn = question.turn
            if turn is not None and turn.unanswered < MAX_NOTES:
                turn.unanswered += 1
                turn.notes.append(f"Permission for {question.tool_name} was denied: {why}.")
            line = protocol.deny_line(question.request.request_id, f"Denied: {why}.")
            _note_reason(question.request, turn, why)
            self._end(question, f"denied ({why})", line=line)

    def withdraw(self, live: Live, request_id: str) -> None:
        """Close a question that Claude Code has withdrawn."""
        for question in self.all():
            if question.live is live and question.request.request_id == request_id:
                self._end(question, "closed (Claude Code withdrew it)")

    def interrupt(self, turn: Turn) -> None:
        """Close the questions of a turn that is about to be interrupted.

        Claude Code gets no answer, because a denial would let it continue before the interrupt.
        """
        for question in self.all():
            if question.turn is turn:
                self._close(question, "the turn was interrupted")

    def settle(self, turn: Turn) -> None:
        """After a turn, its subagents' questions become the session's; the others are closed."""
        for question in self.all():
            if question.turn is turn and question.is_from_subagent:
                question.turn = None
            elif question.turn is turn:
                self._close(question, "the turn ended")

    def _close(self, question: Question, why: str) -> None:
        line = None
        if question.is_from_subagent:  # which would otherwise wait for ever
            line = protocol.deny_line(question.request.request_id, f"Denied: {why}.")
        self._end(question, f"closed ({why})", line=line)

    def lose(self, live: Live) -> None:
        """Close the questions of a Claude Code that has ended."""
        for question in self.all():
            if question.live is live:
                self._end(question, "closed (Claude Code ended)")

    def _end(
        self, question: Question, how: str, message: str = "", line: bytes | None = None
    ) -> None:
        """``line`` is the answer to Claude Code, if there is one."""
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
    """A tool's input within bounds; a note replaces what is missing and names its event."""
    if len(_json(tool_input)) <= SHOWN_CHARACTERS:
        return dict(tool_input)
    for characters in (SHOWN_TEXT_CHARACTERS, *SHORTER):
        shown: dict[str, Any] = _cut(tool_input, characters, event)
        if len(_json(shown)) <= SHOWN_CHARACTERS:
            return shown
    return {"json": _cut(_json(tool_input), SHOWN_TEXT_CHARACTERS, event)}


def _cut(value: Any, characters: int, event: int) -> Any:
    """The value with each text in it cut to this length."""
    if isinstance(value, dict):
        return {name: _cut(each, characters, event) for name, each in value.items()}
    if isinstance(value, list):
        return [_cut(each, characters, event) for each in value]
    if not isinstance(value, str) or len(value) <= characters:
        return value
    left_out = len(value) - characters
    return f"{value[:characters]} [... {left_out} characters more: event {event}]"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _description(request: Mapping[str, Any]) -> str | None:
    """Claude Code's own description of a question."""
    texts = (_text(request.get(name)).strip() for name in ("description", "decision_reason"))
    return "\n".join(filter(None, texts))[:DESCRIPTION_CHARACTERS] or None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _note_reason(request: protocol.ControlRequest, turn: Turn | None, why: str) -> None:
    tool_use_id = _text(request.request.get("tool_use_id"))
    if turn is not None and tool_use_id and why:
        turn.denied[tool_use_id] = why
