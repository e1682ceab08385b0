"""Prompts: each turn is one run of Claude Code, one at a time.

A turn lives on its own thread. Requests follow it: one that is cancelled stops it, one whose
channel merely vanished does not, and the same turn id asked again gets the same result.
"""

from __future__ import annotations

import collections
import json
import os
import subprocess
import threading
import time
from typing import Any

from claude_mcp.agent import contract, processes
from claude_mcp.agent.commands import Capture, exit_code
from claude_mcp.agent.connections import Answer, Request, RequestError
from claude_mcp.agent.state import State, log
from claude_mcp.claude import invocation, protocol

KEPT_RESULTS = 100
MAX_EVENTS = 1000
STDERR_BYTES = 16 * 1024
CANCEL_GRACE_SECONDS = 0.5
EXIT_SECONDS = 1.0
MCP_CONFIG_PATH = contract.RUN_DIRECTORY + "/mcp.json"


class Turn:
    """One prompt under way; ``follow`` and ``cancel`` may be called from any thread."""

    def __init__(self, turn_id: str, activity: str) -> None:
        self.id = turn_id
        self._activity = activity
        self._changed = threading.Condition()
        self._events: collections.deque[tuple[int, Answer]] = collections.deque(maxlen=MAX_EVENTS)
        self._count = 0
        self.cancelled = False
        self.result: Answer | None = None

    def add_event(self, event: Answer) -> None:
        with self._changed:
            self._count += 1
            self._events.append((self._count, event))
            self._changed.notify_all()

    def finish(self, result: Answer) -> None:
        with self._changed:
            self.result = result
            self._changed.notify_all()

    def cancel(self) -> None:
        with self._changed:
            if self.result is not None or self.cancelled:
                return
            self.cancelled = True
        log(f"turn {self.id} cancelled")
        processes.kill(self._activity, CANCEL_GRACE_SECONDS)

    def follow(self, request: Request) -> Answer:
        """Hand every event to the request, then give the result."""
        seen = 0
        while True:
            with self._changed:
                while self._count == seen and self.result is None and not request.vanished:
                    self._changed.wait()
                news = [event for number, event in self._events if number > seen]
                seen = self._count
                result = self.result
            for event in news:
                request.event(event)
            if result is not None:
                return result
            if request.vanished:
                return {}

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


class Turns:
    """The turns of one session and what they share: settings, secrets, the conversation."""

    def __init__(
        self,
        settings: dict[str, Any],
        secrets: dict[str, Any] | None,
        environment: dict[str, str],
        state: State,
    ) -> None:
        self._settings = settings
        self._secrets = secrets
        self._environment = environment
        self._state = state
        self._lock = threading.Lock()
        self._current: Turn | None = None
        self._results: collections.OrderedDict[str, Answer] = collections.OrderedDict()
        self._last_activity = time.time()

    def configure(self, secrets: dict[str, Any]) -> None:
        """Take new credentials; what else was handed over stays."""
        self._secrets = {**(self._secrets or {}), **secrets}

    def status(self) -> Answer:
        with self._lock:
            running = self._current is not None
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._last_activity))
        return {
            "turnRunning": running,
            "lastActivityAt": moment,
            "costUsd": self._state.cost_usd,
            "conversationId": self._state.conversation_id,
        }

    def perform(self, request: Request) -> Answer:
        """Start a turn, or attach to the one with this id, and follow it to its end."""
        turn_id = request.args["turnId"]
        with self._lock:
            if turn_id in self._results:
                return self._results[turn_id]
            turn = self._current
            if turn is not None and turn.id != turn_id:
                raise RequestError("busy", turn.id)
            if turn is None:
                if self._secrets is None or not self._secrets.get("credential"):
                    raise RequestError("unconfigured", "the session has no credentials")
                turn = self._current = Turn(turn_id, f"turn-{turn_id}")
                threading.Thread(
                    target=self._run, args=(turn, request.args, self._secrets), daemon=True
                ).start()
        request.on_cancel(turn.cancel, on_vanish=turn.wake)
        return turn.follow(request)

    def _run(self, turn: Turn, args: dict[str, Any], secrets: dict[str, Any]) -> None:
        started = time.monotonic()
        try:
            result = self._ask(turn, args, secrets)
        except Exception as error:
            log(f"turn {turn.id}: {type(error).__name__}: {error}")
            result = {"status": "failed", "error": f"The turn could not be run: {error}"}
        result.setdefault("durationMs", round((time.monotonic() - started) * 1000))
        if turn.cancelled:
            result["status"] = "cancelled"
            result["error"] = "The turn was cancelled."
        processes.kill(f"turn-{turn.id}", CANCEL_GRACE_SECONDS)
        with self._lock:
            self._current = None
            self._last_activity = time.time()
            self._results[turn.id] = result
            while len(self._results) > KEPT_RESULTS:
                self._results.popitem(last=False)
        turn.finish(result)

    def _ask(self, turn: Turn, args: dict[str, Any], secrets: dict[str, Any]) -> Answer:
        """Run Claude Code for one prompt and read its frames up to the result."""
        provider = _provider(self._settings, secrets)
        resume = None if args.get("newConversation") else self._state.conversation_id
        argv = invocation.claude_argv(
            invocation.Invocation(
                resume=resume,
                model=args.get("model") or self._settings.get("model"),
                permission_mode=self._settings["permissionMode"],
                tools=None if args.get("tools") is None else tuple(args["tools"]),
                max_turns=args.get("maxTurns"),
                max_budget_usd=args.get("maxBudgetUsd"),
                mcp_config_path=_write_mcp_config(secrets.get("mcpConfig")),
            )
        )
        environment = invocation.claude_environment(provider, os.getuid(), self._environment)
        environment.update(secrets.get("proxies") or {})
        environment.update(processes.marker_environment(f"turn-{turn.id}"))
        process = _start(argv, environment, invocation.credentials(provider))
        assert process.stdin is not None
        assert process.stdout is not None
        stderr = Capture(STDERR_BYTES)
        reader = threading.Thread(target=_drain, args=(process, stderr), daemon=True)
        reader.start()
        threading.Thread(target=_reap, args=(process, f"turn-{turn.id}"), daemon=True).start()
        if turn.cancelled:  # before there was anything to kill
            process.kill()
        try:
            with process.stdin:
                process.stdin.write(protocol.user_line(args["prompt"], turn.id))
        except OSError:
            pass  # it ended early; its exit code and stderr say why
        result: protocol.Result | None = None
        for line in process.stdout:
            frame = protocol.parse_line(line)
            if isinstance(frame, protocol.Init):
                self._state.conversation_id = frame.conversation_id or self._state.conversation_id
            elif isinstance(frame, protocol.Result):
                result = frame
                if turn.id in frame.prompt_uuids:
                    break  # what a background command still has to say is no part of the turn
            elif frame is not None:
                description = protocol.describe(frame)
                if description:
                    turn.add_event({"progress": description})
        code = exit_code(_end(process))
        process.stdout.close()
        if result is None:
            reader.join(timeout=1.0)
            said = stderr.text().strip()
            if not turn.cancelled:
                log(f"turn {turn.id}: Claude Code exited with {code}: {said[-2000:]}")
            if resume is not None and "No conversation found" in said:
                self._state.conversation_id = None
            last = said.splitlines()[-1] if said else "it said nothing"
            return {
                "status": "failed",
                "error": f"Claude Code ended with exit code {code} and no result: {last[:500]}",
                "conversationId": self._state.conversation_id,
            }
        if result.is_error:
            log(f"turn {turn.id} failed: {result.error}")
        cost = self._state.add_reported_cost(result.conversation_id, result.cost_usd)
        return _answer(result, cost)


def _provider(settings: dict[str, Any], secrets: dict[str, Any]) -> invocation.Provider:
    credential = secrets.get("credential") or {}
    kind, value = credential.get("kind"), credential.get("value")
    return invocation.Anthropic(
        base_url=secrets.get("baseUrl"),
        model=settings.get("model"),
        small_model=settings.get("smallFastModel"),
        api_key=value if kind == "apiKey" else None,
        auth_token=value if kind == "authToken" else None,
        oauth_token=value if kind == "oauthToken" else None,
    )


def _write_mcp_config(config: dict[str, Any] | None) -> str | None:
    """The servers for Claude, in the tmpfs: their environment may hold secrets."""
    if not config:
        return None
    with open(MCP_CONFIG_PATH, "w", encoding="utf-8", opener=_private) as file:
        json.dump(config, file)
    return MCP_CONFIG_PATH


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _start(
    argv: tuple[str, ...], environment: dict[str, str], credentials: invocation.Credentials
) -> subprocess.Popen[bytes]:
    """Start Claude Code with its secrets in pipes that are full and closed behind them."""
    descriptors = []
    try:
        for variable, secret in credentials.descriptors.items():
            reading, writing = os.pipe()
            descriptors.append(reading)
            environment[variable] = str(reading)
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(secret.encode())
        environment.update(credentials.environment)
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            pass_fds=descriptors,
            start_new_session=True,
        )
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _end(process: subprocess.Popen[bytes]) -> int:
    """Let Claude Code end by itself, which saves the conversation, and else make it."""
    for make_it in (process.terminate, process.kill):
        try:
            return process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            make_it()
    return process.wait()


def _reap(process: subprocess.Popen[bytes], activity: str) -> None:
    """Take along what Claude Code leaves: a child of it that holds its stdout holds up the turn."""
    process.wait()
    processes.kill(activity, CANCEL_GRACE_SECONDS)


def _drain(process: subprocess.Popen[bytes], capture: Capture) -> None:
    assert process.stderr is not None
    with process.stderr as pipe:
        while data := pipe.read1(STDERR_BYTES):  # type: ignore[attr-defined]
            capture.write(data)


def _answer(result: protocol.Result, cost_usd: float) -> Answer:
    return {
        "status": "failed" if result.is_error else "completed",
        "result": result.text or None,
        "error": result.error,
        "conversationId": result.conversation_id,
        "numTurns": result.num_turns,
        "durationMs": result.duration_ms,
        "costUsd": cost_usd,
        "usage": dict(result.usage),
        "permissionDenials": [
            {"toolName": denial.tool_name, "toolInput": dict(denial.tool_input)}
            for denial in result.permission_denials
        ],
    }
