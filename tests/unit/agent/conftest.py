"""A front end for the agent's code, in this process and over real pipes."""

from __future__ import annotations

import json
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from claude_mcp.agent.connections import Connection, Operation

PATIENCE_SECONDS = 20.0

Message = dict[str, Any]


class Caller:
    """What is at the other end of a channel."""

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        reader, self._requests = os.pipe()
        self._answers, writer = os.pipe()
        self._buffer = b""
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
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], PATIENCE_SECONDS)
            assert ready, "no answer came"
            data = os.read(self._answers, 65536)
            assert data, "the connection ended"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: Message = json.loads(line)
        return message

    def ask(self, op: str, **args: Any) -> Message:
        """The answer to a request; it must have no events."""
        number = self.send(op, **args)
        message = self.receive()
        assert message.pop("id") == number
        return message

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
with open({calls!r}, "a") as file:
    file.write(json.dumps(arguments) + "\\n")
line = sys.stdin.readline()
message = json.loads(line)

def say(line):
    sys.stdout.write(line + "\\n")
    sys.stdout.flush()

def frame(**fields):
    say(json.dumps(fields))

def init(conversation="c-1"):
    frame(type="system", subtype="init", session_id=conversation)

def result(text="done", **fields):
    frame(**{{
        "type": "result", "subtype": "success", "is_error": False, "result": text,
        "session_id": "c-1", "user_message_uuids": [message["uuid"]], "num_turns": 2,
        "duration_ms": 5, "total_cost_usd": 0.25, "usage": {{"input_tokens": 3}}, **fields,
    }})

def shell(script):
    os.spawnv(os.P_NOWAIT, "/bin/sh", ["sh", "-c", script])

exec(message["message"]["content"][0]["text"])
"""


class Claude:
    """A ``claude`` on a PATH of its own: each prompt is the program that says what it does."""

    def __init__(self, directory: Path) -> None:
        self._calls = directory / "calls"
        self._calls.touch()
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.path = f"{self.bin}:{os.environ['PATH']}"
        program = self.bin / "claude"
        program.write_text(
            CLAUDE.format(python=os.path.realpath(sys.executable), calls=str(self._calls))
        )
        program.chmod(0o755)

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of each start."""
        return [json.loads(line) for line in self._calls.read_text().splitlines()]


@pytest.fixture
def claude(tmp_path: Path) -> Claude:
    directory = tmp_path / "claude"
    directory.mkdir()
    return Claude(directory)
