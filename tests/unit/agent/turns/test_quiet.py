"""A Claude Code that writes nothing is noticed, and what it seems to wait for is said."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.agent.processes import sockets
from claude_mcp.agent.turns import quiet
from tests.unit.agent.scripted import COMPLETED, ask, told, turn_id, until

if TYPE_CHECKING:
    from tests.unit.agent.conftest import Caller, Claude, Gate, Session

CONNECT = "import socket; model = socket.create_connection(('127.0.0.1', {})); "


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "QUIET_SECONDS", 0.1)


def running(caller: Caller, turn: str, begins: str) -> dict[str, Any]:
    """The answer about a turn that runs, once it has a note that begins so."""

    def look() -> dict[str, Any] | None:
        answer: dict[str, Any] = caller.ask("follow", turnId=turn, waitSeconds=0)["ok"]
        assert answer["status"] == "running"
        return answer if any(note.startswith(begins) for note in answer["notes"]) else None

    return until(look)


def test_a_claude_without_connection_and_tool_may_be_stuck(session: Session, gate: Gate) -> None:
    caller = session.start()
    one = turn_id()
    ask(caller, f"begin(); wait_at({gate.path!r}); result()", turnId=one, waitSeconds=0)
    answer = running(caller, one, "Claude Code has written nothing for ")
    assert answer["notes"][0].endswith(quiet.UNCONNECTED.partition(" s, ")[2])
    until(lambda: caller.ask("follow", turnId=one, waitSeconds=0)["ok"]["events"])
    events = told(caller.ask("follow", turnId=one, waitSeconds=0)["ok"])
    assert [kind for _, kind, _, _ in events] == ["note"]
    gate.open()
    ended = caller.ask("follow", turnId=one)["ok"]
    assert ended["status"] == "completed"
    assert ended["notes"] == []


def test_a_connected_claude_may_wait_for_the_model(session: Session, gate: Gate) -> None:
    caller = session.start()
    one = turn_id()
    with socket.create_server(("127.0.0.1", 0)) as model:
        connect = CONNECT.format(model.getsockname()[1])
        program = f"begin(); {connect}text('.'); wait_at({gate.path!r}); result()"
        caller.send("turn", turnId=one, prompt=program)
        assert caller.receive()["event"] == {"progress": "."}  # it is connected
        answer = running(caller, one, "Claude Code has written nothing for ")
    assert answer["notes"][0].endswith("the model may still be answering.")
    gate.open()
    assert caller.ask("follow", turnId=one)["ok"]["status"] == "completed"


def test_a_claude_that_does_not_read_its_input_may_be_stuck(
    session: Session, claude: Claude
) -> None:
    caller = session.start()
    ask(caller, "result()")
    claude.signal(signal.SIGSTOP)
    one = turn_id()
    ask(caller, "result()", turnId=one, waitSeconds=0)
    running(caller, one, "Claude Code has not read its input for ")
    claude.signal(signal.SIGCONT)
    assert caller.ask("follow", turnId=one)["ok"]["status"] == "completed"


def test_nothing_is_said_while_a_tool_runs(session: Session, gate: Gate) -> None:
    caller = session.start()
    one = turn_id()
    program = f"begin(); tool('Bash'); wait_at({gate.path!r}); tool_result('x'); result()"
    caller.send("turn", turnId=one, prompt=program)
    assert caller.receive()["event"] == {"progress": "Bash"}  # it runs
    assert caller.ask("follow", turnId=one, waitSeconds=1)["ok"]["notes"] == []
    gate.open()
    ended = caller.ask("follow", turnId=one)["ok"]
    assert {**COMPLETED, "turnId": one, "cursor": ended["cursor"]} == ended


def test_whether_a_process_is_connected() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = CONNECT.format(server.getsockname()[1]) + "print(flush=True); input()"
        for code, connected in ((program, True), ("print(flush=True); input()", False)):
            with subprocess.Popen(
                [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            ) as process:
                assert process.stdout is not None
                process.stdout.readline()
                assert sockets.has_connection(process.pid) is connected
                process.kill()
    assert sockets.has_connection(process.pid) is None
