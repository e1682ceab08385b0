"""Runs one turn at a time with a live Claude Code, which it starts, resumes and ends.

Two threads meet here: one runs the turns, the other receives Claude Code's frames. The owner's
condition guards everything they share.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Callable

from claude_mcp.agent.processes import cgroup_events, killing
from claude_mcp.agent.store.journal import Journal
from claude_mcp.agent.store.records import NotRecorded, Result
from claude_mcp.agent.store.state import State, log
from claude_mcp.agent.turns import mcp_servers, outcomes, quiet
from claude_mcp.agent.turns.live import Live
from claude_mcp.agent.turns.permissions import Permissions
from claude_mcp.agent.turns.startup import Startup
from claude_mcp.agent.turns.turn import NO_OPTIONS, Turn, TurnOptions
from claude_mcp.claude import protocol
from claude_mcp.claude.events import events_of
from claude_mcp.contract import places
from claude_mcp.contract.handover import Handover
from claude_mcp.contract.numbers import counted
from claude_mcp.contract.operations import McpReport
from claude_mcp.contract.settings import ASK, NO_NETWORK, Settings

if TYPE_CHECKING:
    from claude_mcp.agent.network.egress import Egress

START_SECONDS = 60.0
STARVED_SECONDS = 10.0
"""How long a start may take in which the session reached its process limit."""
START_TRIES = 3
INTERRUPT_SECONDS = 1.0
"""How long Claude Code may take to end an interrupted turn before it is killed."""
FINAL_SECONDS = 5.0
"""How long the result may take after Claude Code has reported the end of a prompt."""
STOP_TASK_SECONDS = 0.3
KILL_GRACE_SECONDS = 0.2
NO_CONVERSATION = "No conversation found"
NOT_SENT_UNRECORDED = (
    "The prompt was not sent, because the session could not record that it was: {}. Free some disk "
    "space in the session, then send it again as a new turn."
)


class StartFailed(Exception):
    """Claude Code did not start; the message says why."""


class Driver:
    def __init__(
        self,
        settings: Settings,
        handover: Handover,
        environment: dict[str, str],
        state: State,
        changed: threading.Condition,
        journal: Journal,
        finish_spontaneous: Callable[[Turn], None],
        egress: Egress | None = None,
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._state = state
        self._changed = changed
        self._journal = journal
        self._finish_spontaneous = finish_spontaneous
        asks = settings.permission_mode == ASK
        self.permissions = Permissions(settings.permission_seconds, asks, journal, changed)
        self._startup = Startup(settings, environment, state, egress)
        self._live: Live | None = None
        self._live_handover = self._startup.handover
        """What the live Claude Code was started with."""
        self._asked: Turn | None = None
        self._mcp_statuses: dict[str, str] = {}
        """The status of each MCP server that was reported last."""
        self._warmed = threading.Event()
        self._not_warmed: str | None = None
        self._ended_before: str | None = None
        """Why the last Claude Code ended, for a note in the turn that starts the next one."""
        self.spontaneous: Turn | None = None
        """The running turn that Claude Code started by itself."""
        self.model = settings.model
        """The model that answered last, or else the session's own."""
        self.background_changed = False
        """Whether background work started or ended since this was last reset."""
        self.configure(handover)

    @property
    def configured(self) -> bool:
        """Whether Claude Code can be started with what was handed in last."""
        return self._startup.configured

    @property
    def live(self) -> bool:
        return self._live is not None

    @property
    def has_background(self) -> bool:
        return self.background_count > 0

    @property
    def background_count(self) -> int:
        """How many commands of Claude Code run in the background."""
        return len(self._live.background) if self._live is not None else 0

    def quiet_notes(self, turn: Turn) -> list[str]:
        """What to say about the silence of Claude Code while it works on this turn."""
        live = self._live
        if live is None or turn not in (self._asked, self.spontaneous):
            return []
        note = quiet.note(live)
        return [] if note is None else [note]

    def configure(self, handover: Handover) -> None:
        """Use new credentials, new MCP servers or both from the next turn on."""
        self._startup.take(handover)
        servers = handover.mcp_servers
        with self._changed:
            if servers is not None:  # remember the names, to report when the servers are lost
                self._state.mcp_servers = mcp_servers.names(servers.mcp_config)

    def mcp_servers(self, wait_seconds: float, abandoned: Callable[[], bool]) -> list[McpReport]:
        """The state of each MCP server, once none is pending or the time is up."""
        deadline = time.monotonic() + wait_seconds
        warmed = self._warmed.wait(wait_seconds)
        config, live = self._startup.mcp_config, self._live
        if live is None and (warmed or not self.configured):
            idle = "Claude Code is not running" if self.configured else "there are no credentials"
            return mcp_servers.unknown(config, self._not_warmed or idle)
        if live is None or not live.ready.wait(max(0.0, deadline - time.monotonic())):
            return mcp_servers.unknown(config, "Claude Code is still starting")
        reports = mcp_servers.settled(live, config, self._environment, deadline, abandoned)
        with self._changed:
            self._mcp_statuses.update((report.name, report.status) for report in reports)
        return reports

    # Called by the thread that runs the turns.

    def warm_up(self) -> None:
        """Start Claude Code before it is needed. If that fails, the next turn says why."""
        self._not_warmed = None
        if self._settings.network == NO_NETWORK:
            self._not_warmed = "the session has no network"
        elif self._live is None and self.configured:
            try:
                self._start(NO_OPTIONS, self._state.conversation_id)
            except Exception as error:  # whatever it is, prompts must be accepted
                self._not_warmed = str(error)
                log(f"could not start Claude Code in advance: {error}")
        self._warmed.set()

    def stop(self, why: str) -> None:
        live = self._live
        if live is not None:
            live.end(why)

    def run(self, turn: Turn, note_sending: Callable[[Turn], None]) -> Result:
        """Run a turn to its end. If it is cancelled, its processes are killed."""
        assert turn.prompt is not None
        line = protocol.user_line(turn.prompt, turn.id)
        try:
            while True:
                live = self._ready(turn)
                turn.before = killing.snapshot()
                with self._changed:
                    if turn.cancelled:
                        return outcomes.CANCELLED_UNSENT
                    if self._live is not live:
                        continue  # Claude Code has just ended
                    note_sending(turn)
                    self._asked = turn
                    turn.posted = live.post(line)
                outcome = self._await(turn, live)
                if outcome is not outcomes.UNREAD:
                    break
                turn.outcome, turn.posted = None, math.inf
        except StartFailed as error:
            return {"status": "failed", "error": f"{error} The prompt was not sent."}
        except NotRecorded as error:
            return {"status": "failed", "error": NOT_SENT_UNRECORDED.format(error)}
        finally:
            with self._changed:
                self._asked = None
        if turn.cancelled or turn.refused:
            self._clear(turn, live)
        if turn.refused:
            outcome = {**outcome, "status": "failed", "error": turn.refused}
        if turn.options.model is not None:
            self._state.other_model = self._state.conversation_id
        if turn.options != NO_OPTIONS:
            self._end(live, "it was started with the options of one turn", turn)
        return outcome

    def _end(self, live: Live, why: str, turn: Turn) -> None:
        """End Claude Code as part of normal operation, which needs no note in the next turn."""
        if live.background:
            ended = counted(len(live.background), "background command")
            turn.notes.append(f"Claude Code was restarted, which ended {ended}.")
        live.end(why)
        self._ended_before = None

    def cancel_spontaneous(self, turn: Turn) -> None:
        """End a turn that Claude Code started by itself; called on the request's own thread."""
        live = self._live
        if live is not None:
            self._interrupt(turn, live)
            self._clear(turn, live)

    def _await(self, turn: Turn, live: Live) -> Result:
        stuck, lost = None, False

        def over() -> object:
            return turn.outcome or turn.cancelled or turn.refused

        with self._changed:
            while not self._changed.wait_for(lambda: over() or turn.finished, quiet.QUIET_SECONDS):
                if stuck is not None or turn.retry is not None:
                    continue
                if (stuck := quiet.seems_stuck(live)) is not None:
                    log(f"turn {turn.id}: {stuck}")
                    self._journal.append(turn.id, "note", stuck)
                    self._changed.notify_all()
            if not self._changed.wait_for(over, FINAL_SECONDS):
                turn.outcome = outcomes.unfinished(turn.said)
                log(f"turn {turn.id}: its final message never came")
                lost = True
        if lost:
            self._end(live, "its final message never came", turn)
        if turn.outcome is None:
            self._interrupt(turn, live)
        assert turn.outcome is not None
        return turn.outcome

    def _interrupt(self, turn: Turn, live: Live) -> None:
        live.interrupt()
        with self._changed:
            if self._changed.wait_for(lambda: turn.outcome, INTERRUPT_SECONDS):
                return
        live.kill("it did not respond to an interrupt")
        with self._changed:
            self._changed.wait_for(lambda: turn.outcome)

    def _clear(self, turn: Turn, live: Live) -> None:
        """End what a cancelled turn leaves running: background commands and detached children."""
        with self._changed:
            tasks = turn.tasks & live.background
        for task in tasks:
            live.stop_task(task)
        with self._changed:
            self._changed.wait_for(lambda: not tasks & live.background, STOP_TASK_SECONDS)
        if not live.ended.is_set():
            killing.kill(live.activity, KILL_GRACE_SECONDS, since=turn.before, parent=live.pid)

    def _ready(self, turn: Turn) -> Live:
        """A Claude Code that can run this turn."""
        if self._live is not None:
            if turn.options != NO_OPTIONS:
                self._end(self._live, "a turn has options of its own", turn)
            elif turn.new_conversation:
                self._end(self._live, "new conversation", turn)
            elif self._live_handover is not self._startup.handover:
                self._end(self._live, "new credentials or MCP servers", turn)
        if self._live is not None:
            return self._live
        if self._state.mcp_servers and not self._startup.mcp_config:
            turn.notes.append(mcp_servers.LOST.format(", ".join(self._state.mcp_servers)))
        if self._ended_before is not None and not turn.new_conversation:
            turn.notes.append(f"Claude Code was restarted: {self._ended_before}.")
        resume = None if turn.new_conversation else self._state.conversation_id
        try:
            return self._start(turn.options, resume)
        except StartFailed as error:
            if resume is None or NO_CONVERSATION not in str(error):
                raise
        turn.notes.append(
            "The earlier conversation was never saved and is lost; this is a new one."
        )
        self._state.conversation_id = None
        return self._start(turn.options, None)

    def _start(self, options: TurnOptions, resume: str | None, tries: int = START_TRIES) -> Live:
        limits_before = cgroup_events.counts()
        live = self._launch(options, resume)
        first = min(STARVED_SECONDS, START_SECONDS)
        late = not live.ready.wait(first)
        if late and tries > 1 and cgroup_events.pids_exhausted(limits_before):
            # Claude Code that cannot start its threads neither gets ready nor ends.
            live.kill("it could not start its threads")
            live.ended.wait()
            return self._start(options, resume, tries - 1)
        if not live.ready.wait(START_SECONDS - first):
            live.kill(f"it was not ready within {START_SECONDS:g} s")
            live.ended.wait()
        if live.ended.is_set():
            if live.code is not None and live.code > 128 and not live.stopping and tries > 1:
                return self._start(options, resume, tries - 1)  # something else killed it
            words = live.last_words.splitlines()
            raise StartFailed(
                f"Claude Code ended while it was starting, exit code {live.code}: "
                f"{words[-1][:500] if words else live.stopping or 'it gave no reason'}."
            )
        log(f"Claude Code {live.pid} started" + (f", resuming {resume}" if resume else ""))
        self._ended_before = None
        return live

    def lend(self) -> dict[str, Any]:
        """What starts Claude Code on a terminal, with the conversation; ours ends first.

        The secrets are among it, for the program's pipes.
        """
        self.stop("somebody was attached to its conversation")
        return self._startup.lent(self._state.conversation_id)

    def _launch(self, options: TurnOptions, resume: str | None) -> Live:
        """Start the process; it is not ready yet."""
        handover = self._startup.handover
        argv, environment, secrets = self._startup.command(options, resume)
        try:
            with self._changed:  # so that it cannot end before it is known here
                live = Live(argv, environment, secrets, self._on_frame, self._on_end)
                live.reported_usd = self._state.saved_cost(resume)
                self._live, self._live_handover = live, handover
        except OSError as error:
            raise StartFailed(f"Claude Code could not be started: {error}.") from error
        return live

    # Called by the thread that receives Claude Code's frames.

    def _on_frame(self, live: Live, frame: protocol.Frame) -> None:
        with self._changed:
            if isinstance(frame, protocol.Lifecycle):
                live.reports_lifecycle = True
                if frame.state == "started":
                    live.answering = frame.uuid
                elif frame.state == "completed" and self._asked and self._asked.id == frame.uuid:
                    self._asked.finished = True
                    self._changed.notify_all()
            elif isinstance(frame, protocol.Init):
                self._begin(live, frame)
            elif isinstance(frame, protocol.Replay):
                live.replayed = frame.uuid
            elif isinstance(frame, protocol.TaskStarted):
                speaker = self._speaker(live)
                if speaker is not None:
                    speaker.tasks.add(frame.task_id)
            elif isinstance(frame, protocol.BackgroundTasks):
                live.background = set(frame.task_ids)
                self.background_changed = True
                self._changed.notify_all()
            elif isinstance(frame, protocol.ControlRequest):
                if frame.subtype == "can_use_tool":
                    self.permissions.ask(live, frame, self._speaker(live))
                else:
                    live.refuse(frame.request_id)
            elif isinstance(frame, protocol.ControlCancel):
                self.permissions.withdraw(live, frame.request_id)
            elif isinstance(frame, protocol.RateLimit):
                speaker = self._speaker(live)
                if speaker is not None:
                    speaker.retry_at = frame.resets_at if frame.rejected else None
            elif isinstance(frame, protocol.Partial):
                self._say(live, frame)
            elif isinstance(frame, protocol.Assistant):
                live.tools.update(tool.id for tool in frame.tool_uses)
            elif isinstance(frame, protocol.ToolResults):
                live.tools.difference_update(result.id for result in frame.results)
            elif isinstance(frame, protocol.Result):
                live.tools.clear()  # those that were interrupted have no result
                self._settle(live, frame)
            speaker = self._speaker(live)
            if speaker is not None and isinstance(frame, protocol.Assistant):
                speaker.have_said(frame.texts)
            if isinstance(frame, (protocol.Init, protocol.Assistant)) and frame.model:
                self.model = frame.model
                if speaker is not None:
                    speaker.model = frame.model
                    if isinstance(frame, protocol.Assistant) and any(frame.texts):
                        speaker.said = "\n".join(frame.texts)
            if speaker is not None and isinstance(frame, (protocol.ApiRetry, protocol.Assistant)):
                speaker.retry = frame if isinstance(frame, protocol.ApiRetry) else None
                speaker.retried = time.monotonic()
            for event in events_of(frame, places.WORKSPACE):
                self._journal.append(speaker.id if speaker else None, event.kind, event.text)
                self._changed.notify_all()

    def _say(self, live: Live, partial: protocol.Partial) -> None:
        speaker = self._speaker(live)
        if speaker is not None:
            speaker.say(partial)
            if speaker.listeners:
                self._changed.notify_all()

    def _speaker(self, live: Live) -> Turn | None:
        """The turn that the current frames belong to."""
        asked = self._asked
        if asked is not None and (not live.reports_lifecycle or live.answering == asked.id):
            return asked
        return self.spontaneous

    def _begin(self, live: Live, frame: protocol.Init) -> None:
        if frame.conversation_id:
            self._state.conversation_id = frame.conversation_id
        asked = self._asked
        if asked is not None:
            names = mcp_servers.names(self._startup.mcp_config)
            asked.notes += mcp_servers.changes(frame.mcp_servers, names, self._mcp_statuses)
        if asked is not None and asked.cancelled:
            live.interrupt()  # the first interrupt came too early: the prompt was still queued
        elif asked is not None and self._speaker(live) is asked:
            asked.refused = outcomes.unknown_tools(asked.options.tools, frame.tools)
            self._changed.notify_all()
        if self._speaker(live) is None:
            self.spontaneous = Turn(
                str(uuid.uuid4()), self._journal.last, before=killing.snapshot()
            )
            self._changed.notify_all()

    def _settle(self, live: Live, result: protocol.Result) -> None:
        cost = result.cost_usd - live.reported_usd
        if cost < 0:  # it started counting again
            cost = result.cost_usd
        live.reported_usd = result.cost_usd
        if cost:
            self._state.add_cost(cost)
        asked, spontaneous = self._asked, self.spontaneous
        speaker = asked or spontaneous
        outcome = outcomes.answered(result, cost, speaker.denied if speaker else {})
        if asked is not None and asked.options.output_schema and not result.is_structured:
            outcome = outcomes.unstructured(outcome)
        unattributed = not live.reports_lifecycle and not result.prompt_uuids
        if asked is not None and (
            asked.id in result.prompt_uuids or (unattributed and live.replayed == asked.id)
        ):
            asked.outcome = outcome
            self.permissions.settle(asked)
            outcome = {"status": "completed"}  # the spontaneous turn became part of this one
        live.answering = ""
        if spontaneous is not None:
            self._end_spontaneous(spontaneous, outcome)
        self._changed.notify_all()

    def _end_spontaneous(self, turn: Turn, outcome: Result) -> None:
        self.spontaneous = None
        turn.outcome = outcome
        self.permissions.settle(turn)
        self._finish_spontaneous(turn)

    def _on_end(self, live: Live) -> None:
        with self._changed:
            if self._live is live:
                self._live = None
            self.permissions.lose(live)
            if live.stopping is not None and not live.killed:
                self._state.save_cost(self._state.conversation_id, live.reported_usd)
            self._ended_before = live.stopping or f"it had ended with exit code {live.code}"
            if self._asked is not None and self._asked.outcome is None:
                read = live.may_have_read(self._asked.posted)
                self._asked.outcome = outcomes.died(live) if read else outcomes.UNREAD
            if self.spontaneous is not None:
                self._end_spontaneous(self.spontaneous, outcomes.died(live))
            self._changed.notify_all()
