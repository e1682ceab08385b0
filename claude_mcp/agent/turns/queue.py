"""The queue of a session's turns, which run one at a time and are found again by their ids.

A turn belongs to the session, not to the request that submitted it: the turn continues when that
request ends. Only ``interrupt`` ends a turn.
"""

from __future__ import annotations

import collections
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from claude_mcp.agent.channel.connections import Answer, Request, RequestError
from claude_mcp.agent.processes import cgroup_events
from claude_mcp.agent.store.journal import Journal
from claude_mcp.agent.store.records import (
    TEXT_CHARACTERS,
    TURN_ID,
    NotRecorded,
    Record,
    Records,
    Result,
    digest,
)
from claude_mcp.agent.store.state import State, log
from claude_mcp.agent.turns import interactive, listing, outcomes
from claude_mcp.agent.turns.driver import Driver
from claude_mcp.agent.turns.following import LONGEST_WAIT_SECONDS, Following
from claude_mcp.agent.turns.turn import Turn, TurnOptions, rfc3339
from claude_mcp.claude.events import headline
from claude_mcp.contract import operations
from claude_mcp.contract.codes import Code
from claude_mcp.contract.handover import Handover
from claude_mcp.contract.messages import to_json
from claude_mcp.contract.redaction import redactor
from claude_mcp.contract.settings import NO_NETWORK, Settings

if TYPE_CHECKING:
    from claude_mcp.agent.network.egress import Egress

MAX_WAITING = 50
INTERRUPT_ANSWER_SECONDS = 10.0


class Turns:
    """All turns, and the thread that runs them."""

    def __init__(
        self,
        settings: Settings,
        handover: Handover,
        environment: dict[str, str],
        state: State,
        directory: str,
        egress: Egress | None = None,
        before_turn: Callable[[str], None] = lambda turn_id: None,
        after_turn: Callable[[], None] = lambda: None,
    ) -> None:
        self._before_turn, self._after_turn = before_turn, after_turn
        self._egress = egress
        self._has_network = settings.network != NO_NETWORK
        self._state = state
        self._changed = threading.Condition()
        self._journal = Journal(directory)
        self._records = Records(os.path.join(directory, "turns"))
        self._waiting: collections.deque[Turn] = collections.deque()
        self._current: Turn | None = None
        self._lent: float | None = None
        """Since when somebody has the conversation on a terminal."""
        self._resting = False
        """Whether the thread that runs the turns has nothing to do."""
        self._environment = environment
        self._ended = 0
        """How many turns have ended since the start."""
        self._idle_seconds = settings.idle_seconds
        self._last_activity = time.monotonic()
        self._driver = Driver(
            settings,
            handover,
            environment,
            state,
            self._changed,
            self._journal,
            self._finish_spontaneous,
            egress,
        )
        self._following = Following(
            self._changed, self._journal, self._records, self._driver, self._going, self._ahead
        )
        threading.Thread(target=self._work, daemon=True).start()

    # Operations, each on its own thread.

    def submit(self, request: Request) -> Answer:
        """Queue a prompt, or find the turn that already has this id, and follow it."""
        args = request.read(operations.SubmitTurn)
        turn_id = args.turn_id
        if not TURN_ID.fullmatch(turn_id):
            raise RequestError(Code.BAD_TURN, "a turn's id must be a UUID")
        prompt = digest(args.prompt)
        with self._changed:
            turn = self._open(turn_id)
            record = self._records.get(turn_id)
            if record is not None and record.prompt != prompt:
                raise RequestError(Code.OTHER_PROMPT, turn_id)
            if turn is None and record is None:
                turn = self._accept(args, prompt, request)
            seen = self._journal.last
        wait, live = args.wait_seconds, args.live
        return self._following.follow(request, turn_id, turn, wait, seen, live=live)

    def follow(self, request: Request) -> Answer:
        """Wait for a turn, or read its events from a cursor; without an id, the latest turn."""
        args = request.read(operations.FollowTurn)
        turn_id = args.turn_id or self._latest()
        cursor = args.cursor
        with self._changed:
            turn = self._open(turn_id)
            seen = self._journal.last if cursor is None else cursor
        reading = cursor is not None
        return self._following.follow(
            request, turn_id, turn, args.wait_seconds, seen, reading, args.with_prompt, args.live
        )

    def event(self, request: Request) -> Answer:
        """One event with its whole text."""
        number = request.read(operations.ReadEvent).number
        with self._changed:
            event = self._journal.get(number)
        if event is None:
            raise RequestError(Code.NO_EVENT, str(number))
        return {"event": event}

    def interrupt(self, request: Request) -> Answer:
        """End a turn, by default the running one, and wait until it has ended."""
        with self._changed:
            turn_id = request.read(operations.InterruptTurn).turn_id or self._running()
            turn = self._open(turn_id)
            if turn is None or turn.cancelled:
                spontaneous = False
            else:
                turn.cancelled = True
                log(f"turn {turn_id} interrupted")
                self._journal.append(turn_id, "note", "interrupted")
                self._driver.permissions.interrupt(turn)
                spontaneous = turn is self._driver.spontaneous
                if turn in self._waiting:
                    self._waiting.remove(turn)
                    self._finish(turn, outcomes.CANCELLED_UNSENT)
                self._changed.notify_all()
            seen = self._journal.last
        if turn is not None and spontaneous:
            self._driver.cancel_spontaneous(turn)
        return self._following.follow(request, turn_id, turn, INTERRUPT_ANSWER_SECONDS, seen)

    def respond(self, request: Request) -> Answer:
        """Answer a permission question."""
        args = request.read(operations.Respond)
        allow = args.decision == operations.ALLOW
        with self._changed:
            turn_id = self._driver.permissions.decide(
                args.request_id, allow, args.message, args.answers
            )
        return to_json(operations.Responded(turn_id))

    def listed(self, request: Request) -> Answer:
        """A part of the list of all turns, newest first."""
        args = request.read(operations.ListTurns)
        with self._changed:
            going = {turn.id: self._following.status(turn) for turn in self._going()}
            return to_json(listing.page(self._records, going, args))

    def lend(self) -> Answer:
        """Give the conversation to a terminal; see ``Driver.lend``. No prompt is accepted then."""
        with self._changed:
            if not self._has_network:
                raise RequestError(Code.NO_NETWORK, "the session has no network")
            if not self._driver.configured:
                raise RequestError(Code.UNCONFIGURED, "the session has no credentials")
            if self._lent is not None:
                raise RequestError(Code.ATTACHED, "")
            if self.busy:
                raise RequestError(Code.BUSY, self._running())
            self._lent = time.time()
            while not self._resting:  # it may be starting Claude Code in advance
                self._changed.wait()
        try:
            return self._driver.lend()
        except BaseException:
            self._lent = None
            raise

    def take_back(self) -> None:
        """Go on with the conversation that the terminal has left."""
        with self._changed:
            assert self._lent is not None
            conversation = interactive.latest(self._environment, self._lent)
            if conversation is not None:
                self._state.conversation_id = conversation
            self._lent = None
            self._last_activity = time.monotonic()

    def watch(self, request: Request) -> Answer:
        """Wait until there is an event, or a turn begins or ends."""
        args = request.read(operations.Watch)
        deadline = time.monotonic() + args.wait_seconds
        request.on_cancel(self._following.wake)
        with self._changed:
            while (mark := self._journal.last + self._ended) == args.seen:
                left = deadline - time.monotonic()
                if left <= 0 or request.abandoned:
                    break
                self._changed.wait(min(left, LONGEST_WAIT_SECONDS))
            return to_json(operations.Watched(mark))

    @property
    def busy(self) -> bool:
        """Whether a turn is running or waiting."""
        return bool(self._current or self._driver.spontaneous or self._waiting)

    def wait_until_quiet(self) -> float:
        """Wait until no turn runs; returns when the last one ended, as ``time.monotonic``."""
        with self._changed:
            while self.busy:
                self._changed.wait()
            return self._last_activity

    def status(self) -> Answer:
        with self._changed:
            last = time.time() - (time.monotonic() - self._last_activity)
            moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(last))
            running = self._current or self._driver.spontaneous
            going = running or (self._waiting[0] if self._waiting else None)
            status = operations.Status(
                turn_running=self.busy,
                last_activity_at=moment,
                cost_usd=self._state.cost_usd,
                turn_id=running.id if running else self._state.latest_turn,
                turn_ms=None if going is None else going.elapsed_ms,
                last_step=headline(self._journal.step()) or None,
                model=self._driver.model,
                questions=len(self._driver.permissions.all()),
                background=self._driver.background_count,
            )
            return to_json(status)

    def configure(self, request: Request) -> Answer:
        args = request.read(operations.Configure)
        self._driver.configure(Handover.from_json(args.secrets))
        log("received new credentials or MCP servers")
        return {}

    def mcp_servers(self, request: Request) -> Answer:
        """The state of each MCP server, once none is pending or the time is up."""
        seconds = request.read(operations.WaitForMcp).wait_seconds
        reports = self._driver.mcp_servers(seconds, lambda: request.abandoned)
        return to_json(operations.McpReports(tuple(reports)))

    # The queue.

    def _open(self, turn_id: str) -> Turn | None:
        """The turn with this id, unless it is over."""
        return next((turn for turn in self._going() if turn.id == turn_id), None)

    def _going(self) -> Sequence[Turn]:
        """The turns that are not over, in their order."""
        turns = (self._current, self._driver.spontaneous, *self._waiting)
        return [turn for turn in turns if turn is not None]

    def _latest(self) -> str:
        if self._state.latest_turn is None:
            raise RequestError(Code.NO_TURN, "")
        return self._state.latest_turn

    def _running(self) -> str:
        """The turn that runs, or that runs as soon as Claude Code has started."""
        waiting = self._waiting[0] if self._waiting else None
        turn = self._current or self._driver.spontaneous or waiting
        if turn is None:
            raise RequestError(Code.NOT_RUNNING, "")
        return turn.id

    def _accept(self, args: operations.SubmitTurn, prompt_digest: str, request: Request) -> Turn:
        if not self._has_network:
            raise RequestError(Code.NO_NETWORK, "the session has no network")
        if not self._driver.configured:
            raise RequestError(Code.UNCONFIGURED, "the session has no credentials")
        if request.cancelled:
            raise RequestError(Code.CANCELLED, "cancelled before it was queued")
        if self._lent is not None:
            raise RequestError(Code.ATTACHED, "")
        running = self._current or self._driver.spontaneous or (self._waiting or [None])[0]
        if running is not None and args.when_busy != operations.WAIT:
            raise RequestError(Code.BUSY, running.id)
        if len(self._waiting) >= MAX_WAITING:
            raise RequestError(Code.FULL, str(MAX_WAITING))
        turn = Turn(
            id=args.turn_id,
            first=self._journal.last,
            prompt=args.prompt,
            digest=prompt_digest,
            text=redactor.redact(args.prompt)[:TEXT_CHARACTERS],
            options=TurnOptions(
                args.tools, args.model, args.max_turns, args.max_budget_usd, args.output_schema
            ),
            new_conversation=args.new_conversation,
            answerable=args.answerable,
        )
        try:
            self._records.save(_record(turn))
        except NotRecorded as error:
            raise RequestError(Code.NOT_RECORDED, str(error)) from error
        self._state.latest_turn = turn.id
        self._waiting.append(turn)
        self._changed.notify_all()
        return turn

    def _note_sending(self, turn: Turn) -> None:
        with self._changed:
            self._records.save(_record(turn, sent=True))

    def _work(self) -> None:
        self._driver.warm_up()
        while True:
            turn = self._next()
            if turn is None:
                self._driver.stop("it was idle")
                continue
            try:
                self._before_turn(turn.id)
                result = self._driver.run(turn, self._note_sending)
                self._after_turn()
            except Exception as error:
                log(f"turn {turn.id}: {type(error).__name__}: {error}")
                result = {"status": "failed", "error": f"The turn could not be run: {error}"}
            with self._changed:
                self._current = None
                self._finish(turn, result)
            self._driver.warm_up()

    def _next(self) -> Turn | None:
        """Wait for the next turn; None if Claude Code has been idle for too long."""
        with self._changed:
            self._resting = True
            self._changed.notify_all()
            while not self._waiting or self._driver.spontaneous is not None:
                left = self._last_activity + self._idle_seconds - time.monotonic()
                busy = self._driver.spontaneous is not None or self._driver.has_background
                if self._driver.background_changed:  # background work is not idleness
                    self._driver.background_changed = False
                    self._last_activity = time.monotonic()
                elif not self._driver.live or busy:
                    self._changed.wait()
                elif left > 0:
                    self._changed.wait(min(left, LONGEST_WAIT_SECONDS))
                else:
                    self._resting = False
                    return None
            self._resting = False
            self._current = self._waiting.popleft()
            self._current.limits_before = cgroup_events.counts()
            if self._egress is not None:
                self._current.mark = self._egress.mark()
            return self._current

    def _finish(self, turn: Turn, outcome: Result) -> None:
        """Give a turn its result. The caller holds the lock."""
        result = {"durationMs": turn.elapsed_ms, **outcome}
        if turn.model is not None:
            result["model"] = turn.model
        if turn.cancelled and outcome["status"] != "cancelled":
            result.update(
                status="cancelled", error="The turn was interrupted; the conversation is kept."
            )
        if turn.retry_at is not None and result["status"] == "failed":
            result["retryAt"] = rfc3339(turn.retry_at)
        result.setdefault("conversationId", self._state.conversation_id)
        if result["status"] == "failed":
            log(f"turn {turn.id} failed: {result.get('error')}")
        if turn.limits_before is not None:
            for note in cgroup_events.notes(turn.limits_before):
                log(f"turn {turn.id}: {note}")
                turn.notes.append(note)
        if self._egress is not None and turn.mark is not None:
            turn.notes += self._egress.notes(turn.mark)
        result["notes"] = turn.notes
        result = redactor.redact_all(result)
        last = self._journal.last
        self._records.keep(_record(turn, last=last, sent=True, result=result))
        self._last_activity = time.monotonic()
        self._ended += 1
        self._changed.notify_all()

    def _finish_spontaneous(self, turn: Turn) -> None:
        """Record the end of Claude Code's spontaneous turn. The caller holds the lock."""
        assert turn.outcome is not None
        if turn.outcome.get("numTurns") or turn.cancelled or self._journal.last > turn.first:
            text = turn.outcome.get("result") or turn.outcome.get("error") or turn.outcome["status"]
            self._journal.append(turn.id, "unasked", text)
            if self._current is None and not self._waiting:
                self._state.latest_turn = turn.id
            self._finish(turn, turn.outcome)

    def _ahead(self, turn: Turn) -> int:
        """How many turns are ahead of this one."""
        if turn not in self._waiting:
            return 0
        working = [each for each in (self._current, self._driver.spontaneous) if each is not None]
        return self._waiting.index(turn) + len(working)


def _record(turn: Turn, **more: Any) -> Record:
    return Record(turn.id, turn.digest, turn.first, text=turn.text, at=turn.accepted, **more)
