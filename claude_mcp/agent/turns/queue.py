"""The turns of a session: in line, one at a time, and found again by their ids.

A turn belongs to the session, not to whoever asked for it: requests submit and follow it, and
when they end, it goes on. Only an ``interrupt`` ends it.
"""

from __future__ import annotations

import collections
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from claude_mcp.agent.channel.connections import Answer, Request, RequestError
from claude_mcp.agent.processes import cgroup_events
from claude_mcp.agent.store.journal import Event, Journal
from claude_mcp.agent.store.records import TURN_ID, Record, Records, Result, digest
from claude_mcp.agent.store.state import State, log
from claude_mcp.agent.turns.driver import Driver
from claude_mcp.agent.turns.turn import OPTIONS, Turn
from claude_mcp.claude.events import headline
from claude_mcp.contract import places as contract
from claude_mcp.contract.codes import Code
from claude_mcp.contract.redaction import redactor

if TYPE_CHECKING:
    from claude_mcp.agent.network.egress import Egress

MAX_WAITING = 50
LONGEST_WAIT_SECONDS = 3600.0
MAX_EVENTS = 50
EVENT_CHARACTERS = 1000
TAIL_EVENTS = 10
INTERRUPT_ANSWER_SECONDS = 10.0
PROGRESS_KINDS = frozenset({"message", "tool_call", "api_retry", "note", "permission"})
LOST = (
    "The session's container was stopped while the turn ran. The model may have seen the prompt, "
    "which is not sent again by itself."
)
NOT_SENT = (
    "The session's container was stopped before the prompt was sent; send it again as a new turn."
)


class Turns:
    """All turns, and the thread that works through them."""

    def __init__(
        self,
        settings: dict[str, Any],
        secrets: dict[str, Any] | None,
        environment: dict[str, str],
        state: State,
        directory: str,
        egress: Egress | None = None,
    ) -> None:
        self._egress = egress
        self._has_network = settings.get("network") != contract.NO_NETWORK
        self._state = state
        self._changed = threading.Condition()
        self._journal = Journal(directory)
        self._records = Records(os.path.join(directory, "turns"))
        self._waiting: collections.deque[Turn] = collections.deque()
        self._current: Turn | None = None
        self._idle_seconds = float(settings["idleSeconds"])
        self._last_activity = time.time()
        self._driver = Driver(
            settings,
            secrets,
            environment,
            state,
            self._changed,
            self._journal,
            self._finish_unasked,
            egress,
        )
        threading.Thread(target=self._work, daemon=True).start()

    # Operations: each on a thread of its own.

    def submit(self, request: Request) -> Answer:
        """Take a prompt, or find the turn with this id, and follow it."""
        args = request.args
        turn_id = args["turnId"]
        if not TURN_ID.fullmatch(turn_id):
            raise RequestError(Code.BAD_TURN, "a turn's id must be a UUID")
        prompt = digest(args["prompt"])
        with self._changed:
            turn = self._open(turn_id)
            record = self._records.get(turn_id)
            if record is not None and record.prompt != prompt:
                raise RequestError(Code.OTHER_PROMPT, turn_id)
            if turn is None and record is None:
                turn = self._accept(request, prompt)
            seen = self._journal.last
        return self._follow(request, turn_id, turn, args.get("waitSeconds"), seen)

    def follow(self, request: Request) -> Answer:
        """Wait for a turn, or read its events from a cursor; the latest one without an id."""
        args = request.args
        turn_id = args.get("turnId") or self._latest()
        cursor = args.get("cursor")
        with self._changed:
            turn = self._open(turn_id)
            seen = self._journal.last if cursor is None else cursor
        wait = args.get("waitSeconds")
        return self._follow(request, turn_id, turn, wait, seen, reading=cursor is not None)

    def event(self, request: Request) -> Answer:
        """One event, uncut."""
        with self._changed:
            event = self._journal.get(request.args["number"])
        if event is None:
            raise RequestError(Code.NO_EVENT, str(request.args["number"]))
        return {"event": event}

    def interrupt(self, request: Request) -> Answer:
        """End a turn, the running one without an id, and wait until it has ended."""
        with self._changed:
            turn_id = request.args.get("turnId") or self._running()
            turn = self._open(turn_id)
            if turn is None or turn.cancelled:
                unasked = False
            else:
                turn.cancelled = True
                log(f"turn {turn_id} interrupted")
                self._journal.append(turn_id, "note", "interrupted")
                self._driver.permissions.interrupt(turn)
                unasked = turn is self._driver.unasked
                if turn in self._waiting:
                    self._waiting.remove(turn)
                    never = {"status": "cancelled", "error": "Cancelled before it was sent."}
                    self._finish(turn, never)
                self._changed.notify_all()
            seen = self._journal.last
        if turn is not None and unasked:
            self._driver.cancel_unasked(turn)
        return self._follow(request, turn_id, turn, INTERRUPT_ANSWER_SECONDS, seen)

    def respond(self, request: Request) -> Answer:
        """Decide what Claude Code asks permission for."""
        args = request.args
        with self._changed:
            turn_id = self._driver.permissions.decide(
                args["requestId"], args["decision"] == "allow", args.get("message")
            )
        return {"turnId": turn_id}

    @property
    def busy(self) -> bool:
        """Whether a turn runs or is in line."""
        return bool(self._current or self._driver.unasked or self._waiting)

    def wait_until_quiet(self) -> float:
        """Until no turn runs; when the last one ended, in seconds since 1970."""
        with self._changed:
            while self.busy:
                self._changed.wait()
            return self._last_activity

    def status(self) -> Answer:
        with self._changed:
            running = self._current or self._driver.unasked
            moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._last_activity))
            return {
                "turnRunning": self.busy,
                "turnId": running.id if running else self._state.latest_turn,
                "lastActivityAt": moment,
                "costUsd": self._state.cost_usd,
                "conversationId": self._state.conversation_id,
            }

    def configure(self, request: Request) -> Answer:
        self._driver.configure(request.args["secrets"])
        log("credentials handed in")
        return {}

    def mcp_servers(self, request: Request) -> Answer:
        """What became of each MCP server, once none is pending or ``waitSeconds`` are over."""
        seconds = request.args["waitSeconds"]
        return {"mcpServers": self._driver.mcp_servers(seconds, lambda: request.gone)}

    # In line.

    def _open(self, turn_id: str) -> Turn | None:
        """The turn with this id, if it is not over."""
        turns = (self._current, self._driver.unasked, *self._waiting)
        return next((turn for turn in turns if turn is not None and turn.id == turn_id), None)

    def _latest(self) -> str:
        if self._state.latest_turn is None:
            raise RequestError(Code.NO_TURN, "")
        return self._state.latest_turn

    def _running(self) -> str:
        turn = self._current or self._driver.unasked
        if turn is None:
            raise RequestError(Code.NOT_RUNNING, "")
        return turn.id

    def _accept(self, request: Request, prompt_digest: str) -> Turn:
        args = request.args
        if not self._has_network:
            raise RequestError(Code.NO_NETWORK, "the session has no network")
        if not self._driver.configured:
            raise RequestError(Code.UNCONFIGURED, "the session has no credentials")
        if request.cancelled:
            raise RequestError(Code.CANCELLED, "cancelled before it was taken")
        running = self._current or self._driver.unasked or (self._waiting or [None])[0]
        if running is not None and args.get("whenBusy") != "wait":
            raise RequestError(Code.BUSY, running.id)
        if len(self._waiting) >= MAX_WAITING:
            raise RequestError(Code.FULL, str(MAX_WAITING))
        options = {name: args[name] for name in OPTIONS if args.get(name) is not None}
        turn = Turn(
            id=args["turnId"],
            first=self._journal.last,
            prompt=args["prompt"],
            digest=prompt_digest,
            options=options,
            new_conversation=args.get("newConversation") is True,
        )
        self._records.save(Record(turn.id, turn.digest, turn.first))
        self._state.latest_turn = turn.id
        self._waiting.append(turn)
        self._changed.notify_all()
        return turn

    def _note_sending(self, turn: Turn) -> None:
        with self._changed:
            self._records.save(Record(turn.id, turn.digest, turn.first, sent=True))

    def _work(self) -> None:
        self._driver.warm_up()
        while True:
            turn = self._next()
            if turn is None:
                self._driver.stop("it was idle")
                continue
            try:
                result = self._driver.run(turn, self._note_sending)
            except Exception as error:
                log(f"turn {turn.id}: {type(error).__name__}: {error}")
                result = {"status": "failed", "error": f"The turn could not be run: {error}"}
            with self._changed:
                self._current = None
                self._finish(turn, result)
            self._driver.warm_up()

    def _next(self) -> Turn | None:
        """Wait for the next turn; None when Claude Code has been idle for long."""
        with self._changed:
            while not self._waiting or self._driver.unasked is not None:
                left = self._last_activity + self._idle_seconds - time.time()
                busy = self._driver.unasked is not None or self._driver.has_background
                if self._driver.stirred:  # what is done in the background is no idleness
                    self._driver.stirred = False
                    self._last_activity = time.time()
                elif not self._driver.live or busy:
                    self._changed.wait()
                elif left > 0:
                    self._changed.wait(min(left, LONGEST_WAIT_SECONDS))
                else:
                    return None
            self._current = self._waiting.popleft()
            self._current.exhausted = cgroup_events.counts()
            if self._egress is not None:
                self._current.mark = self._egress.mark()
            return self._current

    def _finish(self, turn: Turn, outcome: Result) -> None:
        """Give a turn its result; with the lock."""
        result = {"durationMs": round((time.monotonic() - turn.started) * 1000), **outcome}
        if turn.cancelled and outcome["status"] != "cancelled":
            result.update(status="cancelled", error="It was interrupted; the conversation is kept.")
        result.setdefault("conversationId", self._state.conversation_id)
        if result["status"] == "failed":
            log(f"turn {turn.id} failed: {result.get('error')}")
        if turn.exhausted is not None:
            for note in cgroup_events.notes(turn.exhausted):
                log(f"turn {turn.id}: {note}")
                turn.notes.append(note)
        if self._egress is not None and turn.mark is not None:
            turn.notes += self._egress.notes(turn.mark)
        result["notes"] = turn.notes
        result = redactor.redact_all(result)
        last = self._journal.last
        self._records.save(Record(turn.id, turn.digest, turn.first, last, sent=True, result=result))
        self._last_activity = time.time()
        self._changed.notify_all()

    def _finish_unasked(self, turn: Turn) -> None:
        """What Claude Code began by itself is over; with the lock."""
        assert turn.outcome is not None
        if turn.outcome.get("numTurns") or turn.cancelled or self._journal.last > turn.first:
            text = turn.outcome.get("result") or turn.outcome.get("error") or turn.outcome["status"]
            self._journal.append(turn.id, "unasked", text)
            if self._current is None and not self._waiting:
                self._state.latest_turn = turn.id
            self._finish(turn, turn.outcome)

    # Following.

    def _follow(
        self,
        request: Request,
        turn_id: str,
        turn: Turn | None,
        wait: float | None,
        seen: int,
        reading: bool = False,
    ) -> Answer:
        """Report what comes behind event ``seen`` until the turn is over or asks for a
        permission, the time is up, or the caller has gone; when ``reading``, until there is an
        event at all."""
        deadline = None if wait is None else time.monotonic() + wait
        cursor = seen if reading else None
        request.on_cancel(self._wake)
        while turn is not None:
            with self._changed:
                left = None if deadline is None else deadline - time.monotonic()
                news, seen = self._journal.read(seen, turn_id, MAX_EVENTS, EVENT_CHARACTERS)
                over = self._open(turn_id) is not turn
                stuck = bool(self._questions(turn))
                done = over or stuck or request.gone or (left is not None and left <= 0)
                if not news and not done:
                    self._changed.wait(left and min(left, LONGEST_WAIT_SECONDS))
                    continue
            for event in news:
                if event["kind"] in PROGRESS_KINDS:
                    request.event({"progress": headline(event["text"])})
            if done or (news and reading):
                break
        if request.gone:
            return {}
        with self._changed:
            return self._answer(turn_id, turn, cursor)

    def _answer(self, turn_id: str, turn: Turn | None, cursor: int | None) -> Answer:
        questions = self._driver.permissions.of(turn_id)
        going = turn is not None and self._open(turn_id) is turn
        if turn is not None and going:
            result: Result = {
                "status": "needs_permission" if self._questions(turn) else "running",
                "ahead": self._ahead(turn),
                "notes": turn.notes,
            }
            first, last = turn.first, self._journal.last
        else:
            record = self._records.get(turn_id)
            if record is None:
                raise RequestError(Code.NO_TURN, turn_id)
            lost = {"status": "failed", "error": LOST if record.sent else NOT_SENT}
            result = record.result or lost
            first, last = record.first, record.last or record.first
        events: list[Event] = []
        behind = last
        if cursor is not None:
            start = max(cursor, first)
            events, behind = self._journal.read(start, turn_id, MAX_EVENTS, EVENT_CHARACTERS)
        elif going:
            start = max(first, last - TAIL_EVENTS)
            events, behind = self._journal.read(start, turn_id, TAIL_EVENTS, EVENT_CHARACTERS)
        if questions:
            result = {**result, "questions": questions}
        return {**result, "turnId": turn_id, "events": events, "cursor": behind}

    def _questions(self, turn: Turn) -> list[dict[str, Any]]:
        """What keeps a turn from going on."""
        return [] if turn.cancelled else self._driver.permissions.of(turn.id)

    def _ahead(self, turn: Turn) -> int:
        """How many turns come before this one."""
        if turn not in self._waiting:
            return 0
        working = [each for each in (self._current, self._driver.unasked) if each is not None]
        return self._waiting.index(turn) + len(working)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
