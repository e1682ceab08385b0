"""A front end for the agent's code over real pipes, and a live Claude Code that is scripted."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from claude_mcp.agent.channel.connections import Connection, Operation
from claude_mcp.agent.store.state import State
from claude_mcp.agent.turns import driver, live, mcp_servers
from claude_mcp.agent.turns import queue as turns_module
from claude_mcp.agent.turns.queue import Turns
from claude_mcp.contract.messages import from_json
from claude_mcp.contract.settings import Settings
from tests.unit.agent import scripted

PATIENCE_SECONDS = 60.0

Message = dict[str, Any]


class Caller:
    """What is at the other end of a channel."""

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        reader, self._requests = os.pipe()
        self._answers, writer = os.pipe()
        self._buffer = b""
        self._kept: list[Message] = []
        self._number = 0

        def serve() -> None:
            Connection(reader, writer, operations).serve()
            os.close(reader)
            os.close(writer)

        self._thread = threading.Thread(target=serve)
        self._thread.start()
        assert self.receive() == {"id": 0, "event": {"greeting": True}}

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._requests, data) :]

    def send(self, op: str, **args: Any) -> int:
        """Send a request and return its number."""
        self._number += 1
        message = {"id": self._number, "op": op, "args": args}
        self.write(json.dumps(message).encode() + b"\n")
        return self._number

    def receive(self) -> Message:
        """The next message, whichever request it belongs to."""
        return self._kept.pop(0) if self._kept else self._read()

    def _read(self) -> Message:
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], PATIENCE_SECONDS)
            assert ready, "no answer came"
            data = os.read(self._answers, 65536)
            assert data, "the connection ended"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: Message = json.loads(line)
        return message

    def answer(self, number: int) -> Message:
        """What a request ends with; its events are dropped, what belongs to others is kept."""
        kept, self._kept = self._kept, []
        while True:
            message = kept.pop(0) if kept else self._read()
            if message["id"] != number:
                self._kept.append(message)
            elif "event" not in message:
                del message["id"]
                self._kept += kept
                return message

    def ask(self, op: str, **args: Any) -> Message:
        return self.answer(self.send(op, **args))

    def rest(self) -> bytes:
        """What comes until the end of the connection."""
        while data := os.read(self._answers, 65536):
            self._buffer += data
        return self._buffer

    def hang_up(self) -> None:
        if self._requests >= 0:
            os.close(self._requests)
            self._requests = -1
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()

    def close(self) -> None:
        self.hang_up()
        os.close(self._answers)


Connect = Callable[[Mapping[str, Operation]], Caller]


@pytest.fixture
def connect() -> Iterator[Connect]:
    callers: list[Caller] = []

    def make(operations: Mapping[str, Operation]) -> Caller:
        callers.append(Caller(operations))
        return callers[-1]

    yield make
    for caller in callers:
        caller.close()


CLAUDE = """\
#!{python} -IS
import json, os, signal, sys

arguments = sys.argv[1:]
tasks, later = [], []

def note(file, what):
    with open(os.path.join({directory!r}, file), "a") as file:
        file.write(json.dumps(what) + "\\n")

def say(line):
    sys.stdout.write(line + "\\n")
    sys.stdout.flush()

def frame(**fields):
    say(json.dumps(fields))

def command_lifecycle(state, uuid=None):
    frame(type="command_lifecycle", state=state, command_uuid=uuid or message["uuid"])

def init(conversation="c-1"):
    frame(type="system", subtype="init", session_id=conversation)

def replay():
    frame(type="user", uuid=message["uuid"], isReplay=True, message={{"content": []}})

def begin(conversation="c-1"):
    command_lifecycle("queued")
    command_lifecycle("started")
    init(conversation)
    replay()

def text(said):
    frame(type="assistant", message={{"content": [{{"type": "text", "text": said}}]}})

def tool(name, **arguments):
    call = {{"type": "tool_use", "id": "t", "name": name, "input": arguments}}
    frame(type="assistant", message={{"content": [call]}})

def tool_result(content, **fields):
    block = {{"type": "tool_result", "tool_use_id": "t", "content": content, **fields}}
    frame(type="user", message={{"content": [block]}})

def can_use(name, request_id="q", agent_id=None, use="t", **arguments):
    request = {{"subtype": "can_use_tool", "tool_name": name, "input": arguments,
               "tool_use_id": use}}
    if agent_id:
        request["agent_id"] = agent_id
    frame(type="control_request", request_id=request_id, request=request)

def withdraw(request_id="q"):
    frame(type="control_cancel_request", request_id=request_id)

def decision():
    while True:
        came = read()
        if came["type"] == "control_response":
            return came["response"]
        respond(came)

def task_started(task):
    frame(type="system", subtype="task_started", task_id=task)

def background_tasks_changed(*now):
    tasks[:] = now
    frame(type="system", subtype="background_tasks_changed", tasks=[{{"task_id": t}} for t in now])

def result(text="done", **fields):
    frame(**{{
        "type": "result", "subtype": "success", "is_error": False, "result": text,
        "session_id": "c-1", "user_message_uuids": [message["uuid"]], "num_turns": 2,
        "duration_ms": 5, "total_cost_usd": 0.25, "usage": {{"input_tokens": 3}}, **fields,
    }})

def aborted(**fields):
    result("", **{{"subtype": "error_during_execution", "is_error": True,
                  "terminal_reason": "aborted_streaming", **fields}})

def shell(script):
    return os.spawnv(os.P_NOWAIT, "/bin/sh", ["sh", "-c", script])

def tell(path, line):
    with open(path, "w") as fifo:
        fifo.write(line + "\\n")

def wait_at(gate):
    os.read(os.open(gate, os.O_RDONLY), 1)

def read():
    line = sys.stdin.readline()
    return json.loads(line) if line else sys.exit(0)

def respond(message):
    request = message.get("request", {{}})
    if message["type"] == "control_request":
        answer = {{"subtype": "success", "request_id": message["request_id"], "response": {{}}}}
        frame(type="control_response", response=answer)
    if request.get("subtype") == "stop_task":
        background_tasks_changed(*(task for task in tasks if task != request["task_id"]))
    return request.get("subtype")

def wait_for_interrupt():
    while True:
        came = read()
        if came["type"] == "user":
            later.append(came)
        elif respond(came) == "interrupt":
            return

note("calls", arguments)
note("pids", os.getpid())
with open(os.path.join({directory!r}, "start.py")) as file:
    exec(file.read())
while True:
    message = later.pop(0) if later else read()
    if message["type"] == "user":
        note("prompts", message["uuid"])
        exec(message["message"]["content"][0]["text"])
    else:
        respond(message)
"""


OF_CLAUDE = ("_follow", "_reap", "drain", "_write")
"""The agent's threads of each Claude that runs."""


def is_stopped(pid: int) -> bool:
    return b") T " in Path(f"/proc/{pid}/stat").read_bytes()


class Claude:
    """A ``claude`` on a PATH of its own: each prompt is the program that says what it does.

    While a prompt's program runs, nothing is read from stdin but by ``read`` and
    ``wait_for_interrupt``: what else comes is worked on when it has ended.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        for name in ("calls", "pids", "prompts", "start.py"):
            (directory / name).touch()
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.path = f"{self.bin}:{os.environ['PATH']}"
        self.program = self.bin / "claude"
        python = os.path.realpath(sys.executable)
        self.program.write_text(CLAUDE.format(python=python, directory=str(directory)))
        self.program.chmod(0o755)

    def at_start(self, program: str) -> None:
        """What it does from now on when it is started, before it reads anything."""
        (self._directory / "start.py").write_text(program)

    def _noted(self, name: str) -> list[Any]:
        return [json.loads(line) for line in (self._directory / name).read_text().splitlines()]

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of each start."""
        return self._noted("calls")

    @property
    def resumed(self) -> list[str | None]:
        """For each start, the conversation that it resumed."""
        marked = ([a[9:] for a in call if a.startswith("--resume=")] for call in self.calls)
        return [found[0] if found else None for found in marked]

    @property
    def prompts(self) -> list[str]:
        """The ids of the prompts that it was sent."""
        return self._noted("prompts")

    def kill(self) -> None:
        """Kill those that run between two turns, and return when the agent knows."""
        # At the end of a turn one is started if none runs, which would be the next turn's already.
        scripted.until(are_at_rest)
        self.signal(signal.SIGKILL)
        self.wait_until_ended()

    def signal(self, number: int) -> None:
        """Send those that run a signal; one that stops them has done so at the end."""
        for pid in self._noted("pids"):
            # Its number may belong to another process by now.
            with contextlib.suppress(OSError):
                if os.fsencode(self.program) in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, number)
                    if number == signal.SIGSTOP:  # until then it may still read its input
                        scripted.until(partial(is_stopped, pid))

    def wait_until_ended(self, number: int = 0) -> None:
        """Until the agent, in this process, knows that no Claude runs.

        Each that runs is sent the signal ``number``, also one that is about to start.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while running := threads(*OF_CLAUDE):
            assert time.monotonic() < deadline, "a Claude runs on"
            self.signal(number)
            with contextlib.suppress(RuntimeError):  # it is about to start
                running[0].join(0.02)

    def close(self) -> None:
        """End all that were started; from now on none can be."""
        self.program.unlink(missing_ok=True)

        def is_over() -> bool:
            self.wait_until_ended(signal.SIGKILL)
            # Only who is not at rest may start one, which has no thread yet.
            return are_at_rest() and not threads(*OF_CLAUDE)

        scripted.until(is_over)


def threads(*targets: str) -> list[threading.Thread]:
    """The agent's threads of some kinds."""
    # Its name has the target too, but only since Python 3.10.
    alive = [(each, getattr(each, "_target", None)) for each in threading.enumerate()]
    return [each for each, target in alive if getattr(target, "__name__", "") in targets]


def waits_for_a_turn(worker: threading.Thread) -> bool:
    frame = sys._current_frames().get(worker.ident or 0)
    names = set()
    while frame is not None:
        names.add(frame.f_code.co_name)
        frame = frame.f_back
    return {"_next", "wait"} <= names


def are_at_rest() -> bool:
    """Whether nothing is left to do for those who work through the turns."""
    return all(map(waits_for_a_turn, threads("_work")))


@pytest.fixture
def claude(tmp_path: Path) -> Iterator[Claude]:
    directory = tmp_path / "claude"
    directory.mkdir()
    made = Claude(directory)
    yield made
    made.close()


class Gate:
    """Where a program waits (``wait_at``) until it is opened, once for each."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self._descriptor = os.open(path, os.O_RDWR)

    def open(self) -> None:
        os.write(self._descriptor, b"x")

    def close(self) -> None:
        os.close(self._descriptor)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = Gate(tmp_path / "gate")
    yield made
    made.close()


class Session:
    """A directory in which the agent's turns are kept, and front ends for them."""

    def __init__(self, connect: Connect, claude: Claude, home: Path) -> None:
        self._connect = connect
        self._claude = claude
        self._operations: dict[str, Operation] = {}
        self.home = home
        self.directory = home / "state"
        self.around_turns: list[str] = []
        """The id of each turn before it runs, and then ``after``."""

    def start(
        self,
        secrets: Mapping[str, Any] | None = scripted.SECRETS,
        *,
        path: str | None = None,
        **settings: Any,
    ) -> Caller:
        """A start of the agent, as after a restart of the container; what ran before goes on."""
        environment = {
            "PATH": path or self._claude.path,
            "HOME": str(self.home),
            "ANTHROPIC_API_KEY": "the image's",
        }
        turns = Turns(
            from_json(Settings, {**scripted.SETTINGS, **settings}),
            scripted.handover(secrets or {}),
            environment,
            State(str(self.directory)),
            str(self.directory),
            before_turn=self.around_turns.append,
            after_turn=lambda: self.around_turns.append("after"),
        )
        self._operations = {
            "turn": turns.submit,
            "follow": turns.follow,
            "event": turns.event,
            "turns": turns.listed,
            "watch": turns.watch,
            "interrupt": turns.interrupt,
            "respond": turns.respond,
            "configure": turns.configure,
            "mcp": turns.mcp_servers,
            "status": lambda request: turns.status(),
        }
        return self.connect()

    def wait_until_at_rest(self) -> None:
        """Until nothing is left to do for those who work through the turns."""
        scripted.until(are_at_rest)

    def connect(self) -> Caller:
        """One more front end of the latest agent."""
        return self._connect(self._operations)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent waits for a Claude of a busy machine, unless a test says otherwise."""
    monkeypatch.setattr(driver, "INTERRUPT_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(driver, "FINAL_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(turns_module, "INTERRUPT_ANSWER_SECONDS", 2 * PATIENCE_SECONDS)
    monkeypatch.setattr(live, "TERM_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(live, "LAST_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(mcp_servers, "ANSWER_SECONDS", PATIENCE_SECONDS)


@pytest.fixture
def impatient(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not react to an interrupt is killed soon."""
    monkeypatch.setattr(driver, "INTERRUPT_SECONDS", 0.05)


@pytest.fixture
def session(
    connect: Connect,
    claude: Claude,
    patient: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Session:
    monkeypatch.setattr(mcp_servers, "CONFIG_PATH", str(tmp_path / "mcp.json"))
    monkeypatch.setattr(live, "SECRETS_DIRECTORY", str(tmp_path))
    return Session(connect, claude, tmp_path)
