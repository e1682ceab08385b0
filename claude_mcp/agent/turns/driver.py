"""Works on one turn at a time with a live Claude Code, which it starts, resumes and ends.

Two threads meet here: the one that works through the turns, and the one on which Claude Code's
frames come. What they share is guarded by one condition, the owner's.
"""

from __future__ import annotations

import math
import os
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Callable

from claude_mcp.agent.network import instance_role
from claude_mcp.agent.network.relay import Relays
from claude_mcp.agent.processes import cgroup_events
from claude_mcp.agent.processes import killing as processes
from claude_mcp.agent.store.journal import Journal
from claude_mcp.agent.store.records import Result
from claude_mcp.agent.store.state import State, log
from claude_mcp.agent.turns import mcp_servers, outcomes
from claude_mcp.agent.turns.live import Live
from claude_mcp.agent.turns.permissions import Permissions
from claude_mcp.agent.turns.turn import Turn
from claude_mcp.claude import invocation, protocol, providers
from claude_mcp.claude.events import events_of
from claude_mcp.contract import places as contract
from claude_mcp.contract.redaction import redactor

if TYPE_CHECKING:
    from claude_mcp.agent.network.egress import Egress

START_SECONDS = 60.0
STARVED_SECONDS = 10.0
"""After so long a start is given up in which the session had used up its processes."""
START_TRIES = 3
INTERRUPT_SECONDS = 1.0
"""How long Claude Code may take to end a turn that was interrupted, before it is killed."""
STOP_TASK_SECONDS = 0.3
KILL_GRACE_SECONDS = 0.2
NO_CONVERSATION = "No conversation found"


class StartFailed(Exception):
    """Claude Code did not come up; the message says why."""


class Driver:
    def __init__(
        self,
        settings: dict[str, Any],
        secrets: dict[str, Any] | None,
        environment: dict[str, str],
        state: State,
        changed: threading.Condition,
        journal: Journal,
        finish_unasked: Callable[[Turn], None],
        egress: Egress | None = None,
    ) -> None:
        self._settings = settings
        self._secrets: dict[str, Any] = {}
        self._environment = environment
        self._state = state
        self._changed = changed
        self._journal = journal
        self._finish_unasked = finish_unasked
        self.permissions = Permissions(float(settings["permissionSeconds"]), journal, changed)
        self._relays = Relays()
        self._egress = egress
        self._live: Live | None = None
        self._live_secrets = self._secrets
        """What the live Claude Code was started with."""
        self._asked: Turn | None = None
        self._warmed = threading.Event()
        self._not_warmed: str | None = None
        self._ended_before: str | None = None
        """Why the last Claude Code is no more, to be told in the turn that starts the next."""
        self.unasked: Turn | None = None
        self.stirred = False
        """Something was done in the background since this was last reset."""
        self.configure(secrets or {})

    @property
    def configured(self) -> bool:
        return bool(self._secrets.get("credential"))

    @property
    def live(self) -> bool:
        return self._live is not None

    @property
    def has_background(self) -> bool:
        return self._live is not None and bool(self._live.background)

    def configure(self, secrets: dict[str, Any]) -> None:
        """Take new credentials or MCP servers, which hold from the next turn on; what else was
        handed over stays."""
        for value in (*secrets.get("secretValues", ()), *secrets.get("mcpSecretValues", ())):
            redactor.add(value)
        self._secrets = {**self._secrets, **secrets}
        if self._egress is not None and "proxies" in secrets:
            self._egress.hand_in(secrets["proxies"])
        with self._changed:
            self._note_mcp_servers()

    @property
    def _mcp_config(self) -> dict[str, Any] | None:
        return self._secrets.get("mcpConfig")

    def _note_mcp_servers(self) -> None:
        """Remember the names, so that it can be told when the servers themselves are lost."""
        if self._mcp_config is not None:
            self._state.mcp_servers = mcp_servers.names(self._mcp_config)

    def mcp_servers(self, wait_seconds: float, gone: Callable[[], bool]) -> list[Result]:
        """What became of each MCP server once none is pending, or the time is up."""
        deadline = time.monotonic() + wait_seconds
        self._warmed.wait(wait_seconds)
        config, live = self._mcp_config, self._live
        if live is None:
            idle = "Claude Code is not running" if self.configured else "there are no credentials"
            return mcp_servers.unasked(config, self._not_warmed or idle)
        if not live.ready.wait(max(0.0, deadline - time.monotonic())):
            return mcp_servers.unasked(config, "Claude Code is still starting")
        return mcp_servers.settled(live, config, self._environment, deadline, gone)

    # Called by the one thread that works through the turns.

    def warm_up(self) -> None:
        """Have Claude Code ready before it is needed; when that fails, the next turn says why."""
        self._not_warmed = None
        if self._settings.get("network") == contract.NO_NETWORK:
            self._not_warmed = "the session has no network"
        elif self._live is None and self.configured:
            try:
                self._start({}, self._state.conversation_id)
            except Exception as error:  # whatever it was, prompts must be taken
                self._not_warmed = str(error)
                log(f"Claude Code could not be started ahead: {error}")
        self._warmed.set()

    def stop(self, why: str) -> None:
        live = self._live
        if live is not None:
            live.end(why)

    def run(self, turn: Turn, note_sending: Callable[[Turn], None]) -> Result:
        """Work on a turn to its end; its processes are gone when it was cancelled."""
        assert turn.prompt is not None
        line = protocol.user_line(turn.prompt, turn.id)
        try:
            while True:
                live = self._ready(turn)
                turn.before = processes.snapshot()
                with self._changed:
                    if turn.cancelled:
                        return {"status": "cancelled", "error": "Cancelled before it was sent."}
                    if self._live is not live:
                        continue  # it has just ended
                    note_sending(turn)
                    self._asked = turn
                    turn.posted = live.post(line)
                outcome = self._await(turn, live)
                if outcome is not outcomes.UNREAD:
                    break
                turn.outcome, turn.posted = None, math.inf
        except StartFailed as error:
            return {"status": "failed", "error": f"{error} The prompt was not sent."}
        finally:
            with self._changed:
                self._asked = None
        if turn.cancelled or turn.refused:
            self._clear(turn, live)
        if turn.refused:
            outcome = {**outcome, "status": "failed", "error": turn.refused}
        if "model" in turn.options:
            self._state.other_model = self._state.conversation_id
        if turn.options:
            self._end(live, "it had the options of one turn", turn)
        return outcome

    def _end(self, live: Live, why: str, turn: Turn) -> None:
        """End it as a matter of course: the turn that starts the next one need not tell."""
        if count := len(live.background):
            commands = "a background command" if count == 1 else f"{count} background commands"
            turn.notes.append(f"Claude Code was started anew, which ended {commands}.")
        live.end(why)
        self._ended_before = None

    def cancel_unasked(self, turn: Turn) -> None:
        """End what Claude Code began by itself; called by whoever asks for it."""
        live = self._live
        if live is not None:
            self._interrupt(turn, live)
            self._clear(turn, live)

    def _await(self, turn: Turn, live: Live) -> Result:
        with self._changed:
            self._changed.wait_for(lambda: turn.outcome or turn.cancelled or turn.refused)
        if turn.outcome is None:
            self._interrupt(turn, live)
        assert turn.outcome is not None
        return turn.outcome

    def _interrupt(self, turn: Turn, live: Live) -> None:
        live.interrupt()
        with self._changed:
            if self._changed.wait_for(lambda: turn.outcome, INTERRUPT_SECONDS):
                return
        live.kill("it did not react to an interrupt")
        with self._changed:
            self._changed.wait_for(lambda: turn.outcome)

    def _clear(self, turn: Turn, live: Live) -> None:
        """End what a cancelled turn leaves: background commands, children that hid."""
        with self._changed:
            tasks = turn.tasks & live.background
        for task in tasks:
            live.stop_task(task)
        with self._changed:
            self._changed.wait_for(lambda: not tasks & live.background, STOP_TASK_SECONDS)
        if not live.ended.is_set():
            processes.kill(live.activity, KILL_GRACE_SECONDS, since=turn.before, parent=live.pid)

    def _ready(self, turn: Turn) -> Live:
        """A Claude Code that can take this turn."""
        if self._live is not None:
            if turn.options:
                self._end(self._live, "a turn has options of its own", turn)
            elif turn.new_conversation:
                self._end(self._live, "new conversation", turn)
            elif self._live_secrets is not self._secrets:
                self._end(self._live, "new credentials", turn)
        if self._live is not None:
            return self._live
        if self._state.mcp_servers and not self._mcp_config:
            turn.notes.append(mcp_servers.LOST.format(", ".join(self._state.mcp_servers)))
        if self._ended_before is not None and not turn.new_conversation:
            turn.notes.append(f"Claude Code was started again: {self._ended_before}.")
        resume = None if turn.new_conversation else self._state.conversation_id
        try:
            return self._start(turn.options, resume)
        except StartFailed as error:
            if resume is None or NO_CONVERSATION not in str(error):
                raise
        turn.notes.append(
            "The earlier conversation is gone (it was never saved); this begins a new one."
        )
        self._state.conversation_id = None
        return self._start(turn.options, None)

    def _start(self, options: dict[str, Any], resume: str | None, tries: int = START_TRIES) -> Live:
        secrets = self._secrets
        settings = self._settings
        provider = providers.handed_over(
            secrets, settings.get("model"), settings.get("smallFastModel"), instance_role.COMMAND
        )
        tools = options.get("tools")
        argv = invocation.claude_argv(
            invocation.Invocation(
                resume=resume,
                model=options.get("model") or self._default_model(resume),
                permission_mode=self._settings["permissionMode"],
                tools=None if tools is None else tuple(tools),
                max_turns=options.get("maxTurns"),
                max_budget_usd=options.get("maxBudgetUsd"),
                trust_project=self._settings.get("trustProject", False),
                append_system_prompt=self._settings.get("appendSystemPrompt"),
                mcp_config_path=mcp_servers.write(secrets.get("mcpConfig")),
            )
        )
        environment = invocation.claude_environment(
            provider,
            os.getuid(),
            self._environment,
            trust_project=self._settings.get("trustProject", False),
        )
        if self._egress is None:
            environment.update(self._relays.without_passwords(secrets.get("proxies") or {}))
        credentials = providers.credentials(provider)
        exhausted = cgroup_events.counts()
        try:
            with self._changed:  # so that it cannot end before we know it
                live = Live(argv, environment, credentials, self._on_frame, self._on_end)
                live.reported_usd = self._state.saved_cost(resume)
                self._live, self._live_secrets = live, secrets
        except OSError as error:
            raise StartFailed(f"Claude Code could not be started: {error}.") from error
        first = min(STARVED_SECONDS, START_SECONDS)
        if not live.ready.wait(first) and tries > 1 and cgroup_events.grown(exhausted):
            # Without room for its threads it neither comes up nor ends.
            live.kill("it found no room for its threads")
            live.ended.wait()
            return self._start(options, resume, tries - 1)
        if not live.ready.wait(START_SECONDS - first):
            live.kill(f"it was not ready within {START_SECONDS:g} s")
            live.ended.wait()
        if live.ended.is_set():
            if live.code is not None and live.code > 128 and not live.stopping and tries > 1:
                return self._start(options, resume, tries - 1)  # somebody else killed it
            said = live.last_words.splitlines()
            raise StartFailed(
                f"Claude Code ended at its start, exit code {live.code}: "
                f"{said[-1][:500] if said else live.stopping or 'it said nothing'}."
            )
        log(f"Claude Code {live.pid} started" + (f", resuming {resume}" if resume else ""))
        self._ended_before = None
        return live

    def _default_model(self, resume: str | None) -> str | None:
        """The session's; None leaves the choice to Claude Code and the project.

        A conversation goes on with the model that it had last, be that one turn's alone.
        """
        model: str | None = self._settings.get("model")
        if model is None and resume is not None and resume == self._state.other_model:
            return invocation.DEFAULT_MODEL
        return model

    # Called by the thread of Claude Code's frames.

    def _on_frame(self, live: Live, frame: protocol.Frame) -> None:
        with self._changed:
            if isinstance(frame, protocol.Lifecycle):
                live.tells_lifecycle = True
                if frame.state == "started":
                    live.answering = frame.uuid
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
                self.stirred = True
                self._changed.notify_all()
            elif isinstance(frame, protocol.ControlRequest):
                if frame.subtype == "can_use_tool":
                    self.permissions.ask(live, frame, self._speaker(live))
                else:
                    live.refuse(frame.request_id)
            elif isinstance(frame, protocol.ControlCancel):
                self.permissions.withdraw(live, frame.request_id)
            elif isinstance(frame, protocol.Result):
                self._settle(live, frame)
            speaker = self._speaker(live)
            for event in events_of(frame, contract.WORKSPACE):
                self._journal.append(speaker.id if speaker else None, event.kind, event.text)
                self._changed.notify_all()

    def _speaker(self, live: Live) -> Turn | None:
        """Whose turn the frames that come now belong to."""
        asked = self._asked
        if asked is not None and (not live.tells_lifecycle or live.answering == asked.id):
            return asked
        return self.unasked

    def _begin(self, live: Live, frame: protocol.Init) -> None:
        if frame.conversation_id:
            self._state.conversation_id = frame.conversation_id
        asked = self._asked
        if asked is not None and asked.cancelled:
            live.interrupt()  # the first one came too early: the prompt was still in line
        elif asked is not None and self._speaker(live) is asked:
            asked.refused = outcomes.unknown_tools(asked.options.get("tools"), frame.tools)
            self._changed.notify_all()
        if self._speaker(live) is None:
            self.unasked = Turn(str(uuid.uuid4()), self._journal.last, before=processes.snapshot())
            self._changed.notify_all()

    def _settle(self, live: Live, result: protocol.Result) -> None:
        cost = result.cost_usd - live.reported_usd
        if cost < 0:  # it began to count anew
            cost = result.cost_usd
        live.reported_usd = result.cost_usd
        if cost:
            self._state.add_cost(cost)
        asked, unasked = self._asked, self.unasked
        outcome = outcomes.answered(result, cost)
        untold = not live.tells_lifecycle and not result.prompt_uuids
        if asked is not None and (
            asked.id in result.prompt_uuids or (untold and live.replayed == asked.id)
        ):
            asked.outcome = outcome
            self.permissions.settle(asked)
            outcome = {"status": "completed"}  # what was begun unasked went into this turn
        live.answering = ""
        if unasked is not None:
            self._end_unasked(unasked, outcome)
        self._changed.notify_all()

    def _end_unasked(self, turn: Turn, outcome: Result) -> None:
        self.unasked = None
        turn.outcome = outcome
        self.permissions.settle(turn)
        self._finish_unasked(turn)

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
            if self.unasked is not None:
                self._end_unasked(self.unasked, outcomes.died(live))
            self._changed.notify_all()
