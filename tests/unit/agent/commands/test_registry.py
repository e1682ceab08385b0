"""Commands are found by their ids, outlive their callers, and are known after a restart."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.agent.commands import command, output, records, registry
from claude_mcp.agent.commands.registry import Commands
from claude_mcp.contract import operations
from tests.unit.agent.scripted import until
from tests.unit.conftest import open_files

if TYPE_CHECKING:
    from tests.unit.agent.conftest import Caller, Connect
    from tests.unit.conftest import Lifeline

LIMIT = 10_000
PATIENCE_SECONDS = 60.0


class Session:
    """What is left when its container is stopped is a directory."""

    def __init__(self, connect: Connect, directory: Path) -> None:
        self.directory = directory
        self._connect = connect
        self._started: list[Commands] = []
        self.uses = 0
        self.restart()

    def restart(self) -> None:
        """Another agent; the processes of the one before are still there, as nowhere else."""
        self.commands = Commands(str(self.directory), {"PATH": os.environ["PATH"]}, None, self._use)
        self._started.append(self.commands)
        self.caller = self.connect()

    def connect(self) -> Caller:
        return self._connect(
            {
                operations.COMMAND: self.commands.start,
                operations.FOLLOW_COMMAND: self.commands.follow,
                operations.STOP_COMMAND: self.commands.stop,
                operations.COMMANDS: self.commands.listed,
            }
        )

    @contextlib.contextmanager
    def _use(self) -> Iterator[None]:
        self.uses += 1
        yield
        self.uses -= 1

    def run(self, text: str, **options: Any) -> dict[str, Any]:
        return self.ask("command", command=text, **options)

    def ask(self, op: str, **options: Any) -> dict[str, Any]:
        answer = self.answer(self.caller, op, **options)
        assert "ok" in answer, answer
        found: dict[str, Any] = answer["ok"]
        return found

    def refused(self, op: str, **options: Any) -> tuple[str, str]:
        error = self.answer(self.caller, op, **options)["error"]
        return error["code"], error["message"]

    def answer(self, caller: Caller, op: str, **options: Any) -> dict[str, Any]:
        return caller.answer(caller.send(op, limitBytes=LIMIT, **options))

    def settle(self, left: int = 0) -> None:
        """Wait until all commands, but so many that go on, have ended and are recorded."""
        until(lambda: len(self._running()) <= left)

    def stop_all(self) -> None:
        for each in self._running():
            each.stop()
        self.settle()

    def _running(self) -> list[command.Command]:
        running: list[command.Command] = []
        for commands in self._started:
            with commands._lock:  # which is held while the end of one is recorded
                running += commands._open.values()
        return running


@pytest.fixture
def session(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    # All that is stopped here ends by TERM.
    monkeypatch.setattr(command, "TERM_GRACE_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(registry, "TERM_GRACE_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(registry, "STOP_SECONDS", PATIENCE_SECONDS)
    found = Session(connect, tmp_path / "commands")
    yield found
    found.stop_all()


def new() -> str:
    return str(uuid.uuid4())


def test_a_short_command_is_answered_at_once_and_found_again(session: Session) -> None:
    first = session.run("echo out; echo err >&2; exit 3")
    assert (first["exitCode"], first["stdout"], first["stderr"]) == (3, "out\n", "err\n")
    again = session.ask("follow-command", commandId=first["commandId"])
    assert again == {**first, "command": "echo out; echo err >&2; exit 3"}
    assert session.ask("follow-command") == again
    assert not session.directory.exists()


def test_a_caller_that_waited_long_enough_is_told_and_can_wait_on(
    session: Session, lifeline: Lifeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    clock = SimpleNamespace(**{**vars(time), "monotonic": lambda: now[0]})
    monkeypatch.setattr(command, "time", clock)
    text = f"{lifeline.hold}; echo said; echo ready >&9; read go <{session.directory}-go; exit 4"
    os.mkfifo(f"{session.directory}-go")
    number = session.caller.send("command", command=text, limitBytes=LIMIT, waitSeconds=0.3)
    lifeline.line()
    other = session.connect()

    def said() -> object:
        """At first the agent may not know yet that it has started it."""
        answer = session.answer(other, "follow-command", waitSeconds=0)
        return answer.get("ok", {}).get("stdout")

    until(said)
    now[0] = 0.3
    running = session.caller.answer(number)["ok"]
    assert (running["status"], running["exitCode"], running["stdout"]) == (
        "running",
        None,
        "said\n",
    )
    assert (session.uses, len(session.commands.unattended())) == (1, 1)
    waiting = session.caller.send("follow-command", limitBytes=LIMIT)
    Path(f"{session.directory}-go").write_text("go\n")
    ended = session.caller.answer(waiting)["ok"]
    assert (ended["exitCode"], ended["stdout"]) == (4, "said\n")
    assert lifeline.end() == ""


def test_a_cancelled_request_ends_only_the_waiting(session: Session, lifeline: Lifeline) -> None:
    identifier = new()
    number = session.caller.send(
        "command",
        command=f"{lifeline.hold}; echo ready >&9; sleep 1000",
        commandId=identifier,
        limitBytes=LIMIT,
    )
    lifeline.line()
    session.caller.send("cancel", id=number)
    assert session.caller.answer(number)["ok"]["status"] == "running"
    stopped = session.ask("stop-command", commandId=identifier)
    assert (stopped["status"], stopped["exitCode"]) == ("stopped", 143)
    assert lifeline.end() == ""


def test_what_a_shell_leaves_behind_goes_on_and_its_output_is_kept(
    session: Session, lifeline: Lifeline
) -> None:
    os.mkfifo(f"{session.directory}-go")
    left = session.run(
        f"{lifeline.hold}; (read go <{session.directory}-go; echo later; sleep 1000) & echo now"
    )
    assert (left["status"], left["exitCode"], left["stdout"]) == ("left_running", 0, "now\n")
    assert session.uses == 0  # it does not keep the session from expiring
    [entry] = session.commands.unattended()
    assert entry["status"] == "left_running"
    follow = {"commandId": left["commandId"], "cursor": left["cursor"]}
    number = session.caller.send("follow-command", limitBytes=LIMIT, **follow)
    Path(f"{session.directory}-go").write_text("go\n")
    assert session.caller.answer(number)["ok"]["stdout"] == "later\n"
    stopped = session.ask("stop-command", commandId=left["commandId"])
    assert (stopped["status"], stopped["exitCode"], stopped["stdout"]) == (
        "stopped",
        0,
        "now\nlater\n",
    )
    assert lifeline.end() == ""


def test_stopping_kills_also_what_does_not_hold_the_output(
    session: Session, lifeline: Lifeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It still holds the output when its shell has ended, until it has been redirected.
    monkeypatch.setattr(command, "DRAIN_SECONDS", PATIENCE_SECONDS)
    ended = session.run(f"{lifeline.hold}; setsid sleep 1000 >/dev/null 2>&1 & true")
    assert ended["exitCode"] == 0
    assert lifeline.held
    stopped = session.ask("stop-command", commandId=ended["commandId"])
    assert (stopped["exitCode"], stopped["notes"]) == (0, [registry.LEFT_KILLED])
    assert lifeline.end() == ""


def test_a_background_command_is_answered_at_once_and_takes_input(session: Session) -> None:
    started = session.run("while read x; do echo got $x; done; echo end >&2", background=True)
    assert (started["status"], session.uses) == ("running", 0)
    follow = {"commandId": started["commandId"]}
    one = session.ask("follow-command", cursor=0, input="a\n", **follow)
    assert one["stdout"] == "got a\n"
    two = session.ask("follow-command", cursor=one["cursor"], input="b\n", endInput=True, **follow)
    assert two["stdout"] == "got b\n"
    ended = session.ask("follow-command", **follow)
    assert (ended["exitCode"], ended["stdout"]) == (0, "got a\ngot b\n")
    merged = session.ask("follow-command", cursor=0, merge=True, **follow)
    assert (merged["output"], merged["stdout"]) == ("got a\ngot b\nend\n", "")
    assert session.refused("follow-command", input="c", **follow) == (
        "no-input",
        "the command has ended",
    )


def test_input_is_written_and_ended(session: Session) -> None:
    assert session.run("tr a-z A-Z; echo end", input="é" * 300_000 + "x")["stdoutBytes"] == 600_005
    assert session.run("cat; echo end", input="")["stdout"] == "end\n"
    assert session.run("exec <&-; echo end", input="x" * 1_000_000)["stdout"] == "end\n"
    session.settle()
    assert {each.args.input for each in session.commands._ended.values()} == {None}


def test_a_terminal_has_a_size_and_reads_what_is_typed(session: Session) -> None:
    ended = session.run(
        "test -t 0 && test -t 1 && stty size </dev/tty; read x; echo got $x; exit 5",
        tty=True,
        columns=100,
        rows=30,
        input="word\n",
    )
    assert ended["exitCode"] == 5
    assert set(ended["stdout"].split("\r\n")) == {"30 100", "word", "got word", ""}


def test_a_program_on_a_terminal_can_be_stopped(session: Session, lifeline: Lifeline) -> None:
    text = f"{lifeline.hold}; trap '' HUP; echo ready >&9; sleep 1000"
    running = session.run(text, tty=True, background=True)
    lifeline.line()
    assert session.ask("stop-command", commandId=running["commandId"])["status"] == "stopped"
    assert lifeline.end() == ""


def test_a_long_command_is_not_kept_in_memory(session: Session) -> None:
    text = f"echo x # {'x' * 20_000}"
    identifier = session.run(text)["commandId"]
    session.settle()
    assert list(session.commands._ended) == []
    again = session.ask("follow-command", commandId=identifier)
    assert (again["stdout"], again["command"]) == ("x\n", text[:200])


def test_the_same_id_is_the_same_command(session: Session, tmp_path: Path) -> None:
    identifier = new()
    text = f"echo x >>{tmp_path}/ran; cat {tmp_path}/ran"
    asked = {"commandId": identifier, "durable": True}
    first = session.run(text, **asked)
    assert first["stdout"] == "x\n"
    assert session.run(text, **asked)["stdout"] == "x\n"
    session.settle()
    session.restart()
    again = session.run(text, **asked)
    assert (again["stdout"], again["startedAt"]) == ("x\n", first["startedAt"])
    assert session.refused("command", command="other", **asked) == ("other-command", identifier)


def test_two_callers_with_the_same_id_get_the_same_result(
    session: Session, tmp_path: Path, lifeline: Lifeline
) -> None:
    asked = {
        "command": f"{lifeline.hold}; echo ready >&9; read go <{tmp_path}/go; echo once",
        "commandId": new(),
        "limitBytes": LIMIT,
    }
    os.mkfifo(tmp_path / "go")
    other = session.connect()
    one = session.caller.send("command", **asked)
    lifeline.line()
    two = other.send("command", **asked)
    (tmp_path / "go").write_text("go\n")
    answers = [session.caller.answer(one)["ok"], other.answer(two)["ok"]]
    assert [each["stdout"] for each in answers] == ["once\n", "once\n"]


def test_what_cannot_be_recorded_is_not_started(session: Session, tmp_path: Path) -> None:
    session.directory.write_text("in the way")
    asked = {"command": f"touch {tmp_path}/ran", "commandId": new()}
    for options in ({"durable": True}, {"background": True}):
        code, message = session.refused("command", **asked, **options)
        assert code == "command-not-recorded"
        assert "Not a directory" in message or "File exists" in message
    assert not (tmp_path / "ran").exists()
    # One that nobody has to find again runs all the same.
    assert session.run("echo x", commandId=new())["stdout"] == "x\n"


def test_a_command_that_could_not_start_leaves_its_id_free(
    session: Session, tmp_path: Path
) -> None:
    asked = {"command": "echo x", "commandId": new(), "durable": True}
    assert session.refused("command", workdir=f"{tmp_path}/none", **asked)[0] == "bad-workdir"
    assert session.refused("follow-command", commandId=asked["commandId"])[0] == "no-command"
    assert session.ask("command", **asked)["stdout"] == "x\n"


def test_a_command_that_ran_when_the_session_stopped_is_lost_with_its_output_kept(
    session: Session, lifeline: Lifeline
) -> None:
    running = session.run(
        f"{lifeline.hold}; echo said; echo ready >&9; sleep 1000", background=True
    )
    lifeline.line()
    follow = {"commandId": running["commandId"]}
    assert session.ask("follow-command", cursor=0, **follow)["stdout"] == "said\n"
    session.restart()
    lost = session.ask("follow-command")
    assert (lost["commandId"], lost["status"], lost["exitCode"], lost["stdout"]) == (
        running["commandId"],
        "lost",
        None,
        "said\n",
    )
    assert "was stopped while the command ran" in lost["notes"][0]
    [entry] = session.ask("commands")["commands"]
    assert (entry["status"], entry["commandId"]) == ("lost", running["commandId"])
    assert session.ask("follow-command", cursor=0, **follow)["stdout"] == "said\n"


def test_commands_are_listed_in_the_order_in_which_they_began(
    session: Session, lifeline: Lifeline
) -> None:
    ids = [
        session.run("true")["commandId"],
        session.run(f"{lifeline.hold}; echo ready >&9; sleep 1000", background=True)["commandId"],
        session.run("true")["commandId"],
        session.run("true", background=True)["commandId"],
    ]
    lifeline.line()
    assert [each["commandId"] for each in session.ask("commands")["commands"]] == ids
    session.ask("stop-command", commandId=ids[1])
    assert [each["commandId"] for each in session.ask("commands")["commands"]] == ids


def test_much_output_is_bounded_and_can_be_read_in_parts(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "SEGMENT_BYTES", 100_000)
    ended = session.run("seq 1 200000; echo END >&2")
    assert ended["stdoutBytes"] == 1_288_895
    follow = {"commandId": ended["commandId"]}
    session.settle()
    size = sum(each.stat().st_size for each in session.directory.rglob("*"))
    assert size < 400_000
    said, cursor, missing, more = "", 0, 0, True
    while more:
        part = session.ask("follow-command", cursor=cursor, **follow)
        said, cursor, more = said + part["stdout"], part["cursor"], part.get("more", False)
        missing += part.get("missing", 0)
        assert len(part["stdout"]) <= LIMIT + output.FRAME_BYTES
    assert missing > 1_000_000
    assert said == "".join(f"{number}\n" for number in range(1, 200_001))[-len(said) :]
    session.settle()
    session.restart()
    again = session.ask("follow-command", **follow)
    assert {**again, "command": ""} == {**ended, "command": ""}


def test_old_commands_are_removed_but_never_one_that_runs(
    session: Session, monkeypatch: pytest.MonkeyPatch, lifeline: Lifeline
) -> None:
    monkeypatch.setattr(records, "MAX_KEPT", 3)
    running = session.run(f"{lifeline.hold}; echo ready >&9; sleep 1000", background=True)
    lifeline.line()
    ids = [new() for _ in range(6)]
    for each in ids:
        session.run("true", durable=True, commandId=each)
        session.settle(left=1)
    session.stop_all()
    kept = {each.name for each in session.directory.iterdir()}
    assert kept <= {running["commandId"], *ids[-4:]}
    assert {running["commandId"], ids[-1]} <= kept
    assert lifeline.end() == ""


def test_only_so_many_commands_run_unattended(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "MAX_UNATTENDED", 2)
    ids = [session.run("sleep 1000", background=True)["commandId"] for _ in range(2)]
    assert session.refused("command", command="echo x") == ("too-many-commands", "2")
    session.ask("stop-command", commandId=ids[0])
    assert session.run("echo x")["stdout"] == "x\n"


def test_a_forged_record_is_no_command(session: Session) -> None:
    identifier = session.run("true", durable=True, commandId=new())["commandId"]
    session.settle()
    session.restart()
    path = session.directory / identifier / records.RECORD
    for forged in ("", "[]", "{}", '{"entry": 1}', "[" * 100_000):
        path.write_text(forged)
        assert session.refused("follow-command", commandId=identifier)[0] == "no-command"
        assert session.ask("commands") == {"commands": []}
    for bad in ("../x", "A" * 36, f"../{'a' * 33}"):
        for durable in (True, False):
            asked = {"command": "true", "commandId": bad, "durable": durable}
            refused = "ok" not in session.answer(session.caller, "command", **asked)
            assert refused == (durable or "/" in bad)


def test_nothing_stays_open_or_running_behind_commands(session: Session) -> None:
    session.run("true")
    before = open_files()
    for options in ({}, {"background": True}, {"tty": True}, {"input": "x"}):
        started = session.run("echo x", **options)
        session.ask("follow-command", commandId=started["commandId"])
    session.stop_all()
    assert open_files() <= before
    assert session.uses == 0
