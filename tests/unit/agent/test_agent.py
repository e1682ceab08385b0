"""The agent as a process of its own, started and reached as in a container.

The code is the one that travels into a container; only its directory is another.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.agent import boot
from claude_mcp.agent.turns.listing import LOST
from claude_mcp.contract import places
from claude_mcp.sessions.channel import payload
from tests.unit.agent.scripted import COMPLETED, SETTINGS, complete, turn_id

if TYPE_CHECKING:
    from tests.unit.agent.conftest import Claude, Gate
    from tests.unit.conftest import Lifeline

PATIENCE_SECONDS = 60.0
HANDOVER = json.dumps(
    {"secrets": complete({"credential": {"kind": "apiKey", "value": "sk-agent-0123"}})}
)
READY = "ready writable "
UNCONFIGURED = {"code": "unconfigured", "message": "the session has no credentials"}


def elsewhere(text: str, directory: Path) -> str:
    return text.replace(places.RUN_DIRECTORY, str(directory))


def payload_for(directory: Path, clock: Path | None = None) -> str:
    """The agent's code, with ``places.RUN_DIRECTORY`` moved; ``clock`` tells when it expires."""
    moved = io.BytesIO()
    with (
        zipfile.ZipFile(
            io.BytesIO(zlib.decompress(base64.b64decode(payload.archive())))
        ) as original,
        zipfile.ZipFile(moved, "w") as bundle,
    ):
        for name in original.namelist():
            text = elsewhere(original.read(name).decode(), directory)
            if clock is not None and name.endswith("agent/expiry.py"):
                assert "time.time()" in text
                text = text.replace("time.time()", f"float(open({str(clock)!r}).read())")
            bundle.writestr(name, text)
    return base64.b64encode(zlib.compress(moved.getvalue())).decode()


class Container:
    """What an engine gives the agent: an environment, a working directory, a main process."""

    def __init__(self, root: Path, path: str) -> None:
        self.run = root / "run"
        self.home = root / "home"
        self.project = root / "project"
        self.programs = root / "programs"
        self.exit_file = root / "exit-code"
        for directory in (self.home, self.project, self.programs):
            directory.mkdir()
        (self.programs / "python3").symlink_to(os.path.realpath(sys.executable))
        (self.programs / places.GIT_LFS).write_text("#!/bin/sh\n")
        (self.programs / places.GIT_LFS).chmod(0o755)
        self.environment = {
            "PATH": f"{self.programs}:{path}",
            "HOME": str(self.home),
            **payload.variables(payload_for(self.run)),
        }
        self.settings = dict(SETTINGS)
        self._processes: list[subprocess.Popen[str]] = []

    def _start(self, command: tuple[str, ...], environment: dict[str, str]) -> Any:
        program, *arguments = (elsewhere(each, self.run) for each in command)
        process = subprocess.Popen(
            [program, *arguments],
            executable=self.programs / program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.project,
            env=environment,
            text=True,
        )
        self._processes.append(process)
        return process

    def start(self) -> Any:
        """Start the main process, as the engine does, also again."""
        return self._start(payload.agent_command(json.dumps(self.settings)), self.environment)

    def start_receiving(self, handed: bytes | None = None) -> Any:
        """The same where the code arrives on stdin, which is written if it is the first start."""
        environment = {
            name: value
            for name, value in self.environment.items()
            if name not in places.PAYLOAD_VARIABLES
        }
        environment[places.EXIT_FILE_VARIABLE] = str(self.exit_file)
        process = self._start(payload.receiving_command(), environment)
        if handed is not None:
            process.stdin.write(handed.decode())
            process.stdin.flush()
        return process

    @property
    def delivery(self) -> bytes:
        return payload.delivery(payload_for(self.run), json.dumps(self.settings))

    def started(self) -> Any:
        """A main process whose session is complete."""
        process = self.start()
        process.stdin.write(f"{HANDOVER}\ncommit\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith(READY)
        assert process.stdout.readline() == "committed\n"
        return process

    def connect(self) -> Channel:
        patient = f"+ {PATIENCE_SECONDS}"
        command = tuple(each.replace("+ 5", patient) for each in payload.connect_command())
        return Channel(self.connector(command))

    def connector(self, command: tuple[str, ...]) -> Any:
        return self._start(command, {"PATH": str(self.programs)})

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


class Channel:
    """A front end behind a connector."""

    def __init__(self, process: Any) -> None:
        self.process = process
        self._number = 0
        assert self.receive() == {"id": 0, "event": {"greeting": True}}

    def send(self, op: str, **args: Any) -> int:
        self._number += 1
        message = {"id": self._number, "op": op, "args": args}
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        return self._number

    def receive(self) -> Any:
        return json.loads(self.process.stdout.readline())

    def ask(self, op: str, **args: Any) -> Any:
        """The ``ok`` or the ``error`` of the answer."""
        number = self.send(op, **args)
        while "event" in (message := self.receive()):
            pass
        assert message.pop("id") == number
        return message.get("ok", message.get("error"))

    def run(self, command: str) -> tuple[int, str, str]:
        answer = self.ask("command", command=command, limitBytes=100_000)
        return answer["exitCode"], answer["stdout"], answer["stderr"]


@pytest.fixture
def container(tmp_path: Path, claude: Claude) -> Iterator[Container]:
    made = Container(tmp_path, claude.path)
    yield made
    made.close()


def end_of(process: Any, handed: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of an agent that gets this on stdin and nothing more."""
    stdout, stderr = process.communicate(handed, timeout=PATIENCE_SECONDS)
    # When Claude Code starts and ends beside all this is not told here.
    lines = stderr.splitlines(keepends=True)
    return process.returncode, stdout, "".join(x for x in lines if not x.startswith("Claude Code"))


def test_a_session_is_ready_committed_and_then_serves(container: Container) -> None:
    container.started()
    channel = container.connect()
    assert channel.run("echo out; echo err >&2; exit 3") == (3, "out\n", "err\n")
    one = turn_id()
    completed = {**COMPLETED, "turnId": one}
    assert channel.ask("turn", turnId=one, prompt="begin(); result()") == completed
    assert channel.ask("follow", turnId=one) == completed
    assert channel.ask("event", number=1) == {"code": "no-event", "message": "1"}
    assert channel.ask("interrupt") == {"code": "not-running", "message": ""}
    assert channel.ask("status")["turnId"] == one
    assert channel.ask("ping") == {}


def test_the_agents_files_are_for_its_user_alone(container: Container) -> None:
    container.started()
    assert container.run.stat().st_mode & 0o777 == 0o700
    assert (container.home / ".claude-mcp").stat().st_mode & 0o777 == 0o700


def test_what_the_image_lacks_is_named(container: Container) -> None:
    container.environment["PATH"] = str(container.programs)
    (container.programs / places.GIT_LFS).unlink()
    container.project.chmod(0o555)
    process = container.start()
    process.stdin.write(f"{HANDOVER}\n")
    process.stdin.flush()
    access = "writable" if os.geteuid() == 0 else "read-only"
    ready = process.stdout.readline()
    assert ready.startswith(f"ready {access} missing=claude missing=ps missing=git-lfs ")


def test_what_the_engine_made_of_the_container_is_reported(container: Container) -> None:
    for name in ("a b", "caf\u00e9"):
        (container.project / name).touch()
    devices = {*os.listdir("/dev")}  # of which one may come or go meanwhile
    process = container.start()
    process.stdin.write(f"{HANDOVER}\n")
    process.stdin.flush()
    _, _, *facts = process.stdout.readline().split()
    found: dict[str, list[str]] = {}
    for fact in facts:
        name, _, value = fact.partition("=")
        found.setdefault(name, []).append(value)
    assert {*found} >= {*places.PRIVILEGES, "kernel", "device", "entries"}
    assert {*found["device"]} <= devices | {*os.listdir("/dev")}
    sums = {f"{zlib.crc32(name.encode()):x}" for name in ("a b", "caf\u00e9")}
    assert {*found["entries"][0].split(",")} == sums
    # This machine's mounts may change at any time.
    for mount in found.get("mount", []):
        assert re.fullmatch(r"\d+:\d+:/[!-~]+", mount)


@pytest.mark.parametrize(
    ("handed", "said", "why"),
    [
        ("", "", "no settings arrived"),
        (HANDOVER[:20], "", "no settings arrived"),
        (f"{HANDOVER}\n", READY, "the creator disconnected"),
        (f"{HANDOVER}\nwhat\n", READY, "the creator disconnected"),
    ],
)
def test_a_session_that_is_never_completed_ends_for_good(
    container: Container, handed: str, said: str, why: str
) -> None:
    log = f"the creation of this session was never completed: {why}\n"
    code, out, err = end_of(container.start(), handed)
    assert (code, err) == (places.ABANDONED_EXIT_CODE, log)
    assert out.startswith(said)
    assert out.count("\n") == bool(said)
    log = "the creation of this session was never completed\n"
    assert end_of(container.start(), f"{HANDOVER}\ncommit\n") == (
        places.ABANDONED_EXIT_CODE,
        "",
        log,
    )


def seeding(container: Container) -> tuple[Any, Path]:
    """A main process that was asked for a workspace, and its staging directory."""
    process = container.start()
    process.stdin.write(f"{HANDOVER}\n{places.SEED}\n")
    process.stdin.flush()
    assert process.stdout.readline().startswith(READY)
    word, _, value = process.stdout.readline().partition(" ")
    assert word == "staging"
    return process, Path(json.loads(value)["staging"])


def test_a_workspace_is_made_before_the_session_is_complete(container: Container) -> None:
    container.settings["workspace"] = "copy"
    process, staged = seeding(container)
    assert staged.parent == container.project
    (staged / "files/a").write_text("1\n")
    process.stdin.write('{"kind": "copy"}\n')
    process.stdin.flush()
    word, tree = process.stdout.readline().split()
    assert (word, len(json.loads(tree))) == ("seeded", 40)
    process.stdin.write("the seal\n")
    process.stdin.write("commit\n")
    process.stdin.flush()
    assert process.stdout.readline() == "committed\n"
    channel = container.connect()
    assert channel.run("ls -A; echo 2 >b") == (0, "a\n", "")
    one = turn_id()
    prompt = "begin(); open('c', 'w').close(); result()"
    assert channel.ask("turn", turnId=one, prompt=prompt)["status"] == "completed"
    files = channel.ask("changes")["files"]
    assert [(each["path"], each["status"]) for each in files] == [("b", "A"), ("c", "A")]


@pytest.mark.parametrize("answer", ["", "{\n", '{"kind": "copy"}\n'])
def test_a_session_whose_creator_disconnects_while_its_workspace_is_made_ends_for_good(
    container: Container, answer: str
) -> None:
    process, staged = seeding(container)
    code, out, err = end_of(process, answer)
    word = "seeded" if "kind" in answer else "unseeded"
    assert (code, out.split()[0], out.count("\n")) == (places.ABANDONED_EXIT_CODE, word, 1)
    assert err == ("the creation of this session was never completed: the creator disconnected\n")
    assert not staged.exists()


def test_a_session_that_is_started_again_serves_at_once_and_lacks_its_credentials(
    container: Container,
) -> None:
    first = container.started()
    assert first.stderr.readline() == "session started\n"
    first.send_signal(signal.SIGTERM)
    assert end_of(first, "") == (0, "", "stopped by signal 15\n")
    second = container.start()
    channel = container.connect()
    assert channel.run("echo works") == (0, "works\n", "")
    one = turn_id()
    assert channel.ask("turn", turnId=one, prompt="result()") == UNCONFIGURED
    assert channel.ask("configure", **json.loads(HANDOVER)) == {}
    assert channel.ask("turn", turnId=one, prompt="result()")["status"] == "completed"
    second.kill()
    assert end_of(second, "")[2] == (
        "session restarted; its credentials are lost\nreceived new credentials or MCP servers\n"
    )


def test_the_code_may_arrive_on_stdin_and_is_kept_for_later_starts(container: Container) -> None:
    first = container.start_receiving(container.delivery + f"{HANDOVER}\ncommit\n".encode())
    assert first.stdout.readline().startswith(READY)
    assert first.stdout.readline() == "committed\n"
    assert container.connect().run("echo $CLAUDE_MCP_EXIT_FILE works") == (0, "works\n", "")
    first.kill()
    first.communicate()
    (container.run / "left-over").touch()
    container.start_receiving()
    assert container.connect().run("echo works") == (0, "works\n", "")
    assert not (container.run / "left-over").exists()


@pytest.mark.parametrize("handed", [b"", b"12", b"nonsense!!", b"0000000009code"])
def test_a_session_whose_code_does_not_arrive_ends_for_good(
    container: Container, handed: bytes
) -> None:
    code, _, err = end_of(container.start_receiving(), handed.decode())
    assert (code, err) == (
        0,
        "the creation of this session was never completed: no code arrived\n",
    )
    assert container.exit_file.read_text() == str(places.ABANDONED_EXIT_CODE)


def test_an_engine_that_restarts_failures_finds_the_exit_code_in_a_file(
    container: Container,
) -> None:
    container.settings["idleTimeoutSeconds"] = 0.1
    process = container.start_receiving(container.delivery + f"{HANDOVER}\ncommit\n".encode())
    assert end_of(process, "")[0] == 0
    assert container.exit_file.read_text() == str(places.EXPIRED_EXIT_CODE)


def test_claude_is_started_as_soon_as_the_session_is_complete(
    container: Container, claude: Claude, lifeline: Lifeline
) -> None:
    claude.at_start(f"tell('{lifeline.path}', 'up')")
    container.started()
    assert lifeline.line() == "up"


def test_a_turn_that_ran_when_the_agent_was_killed_has_failed_and_is_not_sent_again(
    container: Container, claude: Claude, gate: Gate
) -> None:
    first = container.started()
    channel = container.connect()
    one, program = turn_id(), f"begin(); text('working'); wait_at({gate.path!r}); result()"
    channel.send("turn", turnId=one, prompt=program)
    assert channel.receive()["event"] == {"progress": "working"}
    first.kill()
    first.wait()
    container.start()
    channel = container.connect()
    lost = channel.ask("turn", turnId=one, prompt=program)
    assert lost == {
        "status": "failed",
        "error": LOST,
        "turnId": one,
        "events": [],
        "cursor": 0,
    }
    (event,) = channel.ask("follow", turnId=one, cursor=0)["events"]
    assert (event["number"], event["text"]) == (1, "working")
    channel.ask("configure", **json.loads(HANDOVER))
    assert channel.ask("turn", turnId=turn_id(), prompt="result()")["status"] == "completed"
    assert claude.resumed == [None, "c-1"]
    assert claude.prompts.count(one) == 1


def test_many_channels_are_served_side_by_side(container: Container) -> None:
    container.started()
    channels = [container.connect() for _ in range(3)]
    gate = container.project / "gate"
    os.mkfifo(gate)
    slow = channels[0].send("command", command=f"cat '{gate}'", limitBytes=100)
    assert [each.run("echo here")[1] for each in channels[1:]] == ["here\n", "here\n"]
    gate.write_text("opened")
    assert channels[0].receive()["ok"]["stdout"] == "opened"
    assert slow == 1


def test_a_channel_ends_when_its_input_does_and_its_commands_go_on(
    container: Container, lifeline: Lifeline
) -> None:
    container.started()
    channel = container.connect()
    identifier = turn_id()
    channel.send(
        "command",
        command=f"{lifeline.hold}; setsid sleep 1000 & echo said; echo ready >&9; wait",
        commandId=identifier,
        limitBytes=100,
    )
    assert lifeline.line() == "ready"
    assert end_of(channel.process, "") == (0, "", "")
    again = container.connect()
    [running] = again.ask("status")["commands"]
    assert (running["commandId"], running["status"]) == (identifier, "running")
    stopped = again.ask("stop-command", commandId=identifier, limitBytes=100)
    assert (stopped["status"], stopped["stdout"]) == ("stopped", "said\n")
    assert lifeline.end() == ""


def test_without_an_agent_the_connector_gives_up(container: Container) -> None:
    connector = payload.connect_command()
    impatient = tuple(each.replace("+ 5", "+ 0") for each in connector)
    assert impatient != connector
    code, stdout, stderr = end_of(container.connector(impatient), "")
    assert (code, stdout) == (places.NO_AGENT_EXIT_CODE, "")
    assert stderr == "claude-mcp: no agent: [Errno 2] No such file or directory\n"


def test_a_command_sees_neither_the_agents_code_nor_its_secrets(container: Container) -> None:
    agent = container.started()
    channel = container.connect()
    _, environment, _ = channel.run("env")
    names = {line.partition("=")[0] for line in environment.splitlines()}
    usual = {"PWD", "SHLVL", "_", "OLDPWD", "LC_CTYPE"}
    assert names - usual == {"PATH", "HOME", "CLAUDE_MCP_ACTIVITY"}
    own = f"/proc/{agent.pid}"
    look = f"cat {own}/environ {own}/cmdline; grep -r 'sk-[a]gent' '{{}}'; true"
    for directory in (container.run, container.home):
        assert "sk-agent" not in channel.run(look.format(directory))[1]


def test_the_project_cannot_change_what_the_agent_imports(container: Container) -> None:
    for name in ("json", "os", "threading", "claude_mcp", "sitecustomize"):
        (container.project / f"{name}.py").write_text("raise SystemExit('from the project')")
    container.environment["PYTHONPATH"] = str(container.project)
    container.started()
    assert container.connect().run("echo works") == (0, "works\n", "")


@pytest.mark.parametrize(
    ("workdir", "message"),
    [
        ("missing", "there is no directory 'missing'"),
        ("file", "there is no directory 'file'"),
    ],
)
def test_a_working_directory_that_is_none_is_refused(
    container: Container, workdir: str, message: str
) -> None:
    (container.project / "file").write_text("")
    (container.project / "sub").mkdir()
    container.started()
    channel = container.connect()
    args = {"command": "pwd", "limitBytes": 100}
    assert channel.ask("command", workdir=workdir, **args) == {
        "code": "bad-workdir",
        "message": message,
    }
    assert channel.ask("command", workdir="sub", **args)["stdout"] == f"{container.project}/sub\n"


def test_why_a_command_was_killed_is_in_the_log(container: Container) -> None:
    agent = container.started()
    channel = container.connect()
    answer = channel.ask("command", command="sleep 1000", limitBytes=100, timeoutSeconds=0.01)
    assert (answer["exitCode"], answer["timedOut"]) == (124, True)
    agent.kill()
    _, _, log = end_of(agent, "")
    assert re.match(
        r"session started\ncommand-[0-9a-f-]{36} killed \(time limit, after \d+ ms\)", log
    )


Homes = Callable[[str], str]


class TestHome:
    @pytest.fixture
    def home_of(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Homes:
        """The home of a session whose image says HOME=..., its project at ``tmp_path/project``."""
        (tmp_path / "project" / "sub").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / "project")
        monkeypatch.setattr(places, "FALLBACK_HOME", str(tmp_path / "fallback"))

        def prepare(home: str) -> str:
            monkeypatch.setenv("HOME", home)
            return boot.prepare_home()

        return prepare

    def test_a_home_that_can_be_used_is_used(self, tmp_path: Path, home_of: Homes) -> None:
        (tmp_path / "home").mkdir()
        (tmp_path / "link").symlink_to("home")
        assert home_of(f"{tmp_path}/link") == f"{tmp_path}/home"
        assert not (tmp_path / "fallback").exists()

    @pytest.mark.parametrize("home", ["/", "missing", "project", "project/sub", "file"])
    def test_another_one_is_made_for_this_user_alone(
        self, tmp_path: Path, home_of: Homes, home: str
    ) -> None:
        (tmp_path / "file").write_text("")
        assert home_of(str(tmp_path / home)) == f"{tmp_path}/fallback"
        assert (tmp_path / "fallback").stat().st_mode & 0o777 == 0o700
        assert home_of("/") == f"{tmp_path}/fallback"


def test_a_session_whose_time_is_over_ends_itself_and_at_once_when_started_again(
    container: Container,
) -> None:
    container.settings["expiresAt"] = 0
    container.started().wait(PATIENCE_SECONDS)
    again = container.start()
    said = "session restarted; its credentials are lost\nsession expired: its lifetime is over\n"
    assert end_of(again, "") == (places.EXPIRED_EXIT_CODE, "", said)


def test_a_session_that_nobody_uses_ends_itself(container: Container) -> None:
    container.settings["idleTimeoutSeconds"] = 0.1
    process = container.started()
    said = "session started\nsession expired: it was unused for 0.1 s\n"
    assert end_of(process, "") == (places.EXPIRED_EXIT_CODE, "", said)


def test_no_session_ends_while_a_turn_or_a_command_runs(container: Container, gate: Gate) -> None:
    clock = container.home.with_name("clock")
    clock.write_text("1000")
    container.environment.update(payload.variables(payload_for(container.run, clock)))
    container.settings["expiresAt"] = 1000.1  # it looks that often whether the time is over
    container.started()
    channel = container.connect()
    one = turn_id()
    prompt = f"begin(); text('working'); wait_at({gate.path!r}); result()"
    channel.send("turn", turnId=one, prompt=prompt)
    channel.receive()
    another = container.connect()
    go = container.home.with_name("go")
    os.mkfifo(go)
    number = another.send("command", command=f"read x <'{go}'; sleep 0.5; echo out", limitBytes=99)
    with go.open("w") as pipe:  # as soon as the command runs
        clock.with_name("later").write_text("2000")
        clock.with_name("later").replace(clock)
        pipe.write("x\n")
    answer = another.receive()
    assert (answer["id"], answer["ok"]["stdout"]) == (number, "out\n")
    gate.open()
    # What outlived the session's time can still be asked for.
    assert channel.receive()["ok"]["status"] == "completed"
    assert another.ask("follow", turnId=one)["status"] == "completed"
