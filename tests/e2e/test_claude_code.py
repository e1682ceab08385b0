"""The real Claude Code as our client: what its model is sent, and tasks in its terminal."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from messages_standin import Request, Standin

from claude_mcp.engine.docker_cli import DockerCliEngine
from tests.claude_terminal import DOWN, ENTER, PATIENCE_SECONDS, RIGHT, ClaudeCode, tool
from tests.engine_fixtures import Bare
from tests.peers import script
from tests.terminals import Terminal

pytestmark = [pytest.mark.once, pytest.mark.timeout(400)]

Run = Callable[..., Any]
COMMAND = "6b0b0f3e-0000-4000-8000-00000000000c"
MOVED = re.compile(r"background as task (\w+)")


@pytest.fixture(scope="module")
def program(engine: DockerCliEngine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Claude Code for this host, out of the session image."""
    copied = tmp_path_factory.mktemp("claude") / "claude"

    def run(*words: str) -> str:
        done = subprocess.run(
            [engine.program, *words], env=dict(engine.environment), capture_output=True, text=True,
            timeout=PATIENCE_SECONDS, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    container = run("create", "claude-code-custom:latest")
    try:
        run("cp", f"{container}:/usr/local/bin/claude", str(copied))
    finally:
        run("rm", container)
    return copied


@pytest.fixture
def client(
    program: Path, engine: DockerCliEngine, tmp_path: Path, environ: dict[str, str]
) -> ClaudeCode:
    server = [sys.executable, "-m", "claude_mcp", f"--engine={engine.program}", "serve"]
    return ClaudeCode(program, tmp_path, server, {**environ, "CLAUDE_MCP_TOOLSETS": "all"})


@pytest.fixture
def run(engine: DockerCliEngine, environ: dict[str, str]) -> Run:
    """Runs our command line: the JSON that it prints."""

    def run(*words: str) -> Any:
        argv = [sys.executable, "-m", "claude_mcp", f"--engine={engine.program}", *words]
        done = subprocess.run(
            argv, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def names(bare: Bare) -> Iterator[list[str]]:
    unique = [f"it-{secrets.token_hex(4)}" for _ in range(3)]
    yield unique
    for each in unique:
        bare.remove_all(each)


def came(standin: Standin, terminal: Terminal, wanted: Callable[[Request], bool]) -> Request:
    """The first request that is wanted; meanwhile, what the terminal shows is read."""
    terminal.until(lambda _: any(map(wanted, standin.requests)))
    return next(filter(wanted, standin.requests))


def notified(standin: Standin, terminal: Terminal, text: str) -> str:
    """The notification of a task whose result holds the text, as the client's model gets it."""

    def found(request: Request) -> list[str]:
        return [each for each in request.context if "<task-notification>" in each and text in each]

    return found(came(standin, terminal, lambda request: bool(found(request))))[-1]


def result_of(notification: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(
        notification.partition("<result>")[2].partition("</result>")[0]
    )
    return told


def until(file: str, said: str) -> str:
    """A prompt whose command waits for a file of the project; the answer is in no prompt."""
    command = f"until [ -e {file} ]; do sleep 0.1; done; echo {said[0]}''{said[1:]}"
    return script({"tool": "Bash", "input": {"command": command}}, {"report": True})


def test_three_prompts_at_once_as_tasks_one_stopped_and_one_fetched_by_another_server(
    client: ClaudeCode, standin: Standin, run: Run, names: list[str], project: Path
) -> None:
    for name in names:
        run("create", str(project), "--name", name, "--json")
    calls = [
        tool("execute_in_session", sessionId=name, prompt=until(f"go-{number}", f"ready-{number}"))
        for number, name in enumerate(names)
    ]
    with client.asked(script({"tools": calls}, {"say": "all are at work"})) as terminal:
        moved = came(
            standin,
            terminal,
            lambda request: len(MOVED.findall(" ".join(request.tool_results))) == 3,
        )
        tasks = [MOVED.findall(each)[0] for each in moved.tool_results]
        (project / "go-0").touch()
        told = result_of(notified(standin, terminal, "ready-0"))
        assert (told["status"], told["result"], told["next"]) == ("completed", "ready-0", None)
        # To the calls and to the notification; what is typed before waits in a queue.
        terminal.until(lambda text: text.count("\u25cf all are at work") == 2)
        stop = script({"tool": "TaskStop", "input": {"task_id": tasks[1]}}, {"say": "stopped it"})
        terminal.type(stop)
        terminal.until("stopped it")  # as it is typed
        terminal.type(ENTER)
        came(
            standin,
            terminal,
            lambda request: request.prompts[-1:] == (stop,) and len(request.tool_results) > 3,
        )
        assert run("turn", names[1], "--json")["status"] == "cancelled"
    # The client was killed, and its server has ended. The turn goes on.
    (project / "go-2").touch()
    with client.terminal("--continue", "hello again") as terminal:
        assert result_of(notified(standin, terminal, "ready-2"))["result"] == "ready-2"


def test_a_permission_is_given_in_the_client_s_form(
    client: ClaudeCode, standin: Standin, run: Run, names: list[str], project: Path
) -> None:
    [name, *_] = names
    run("create", str(project), "--name", name, "--strict-permissions", "--json")
    command = "touch made; echo al''lowed"
    inner = script({"tool": "Bash", "input": {"command": command}}, {"report": True})
    call = tool("execute_in_session", sessionId=name, prompt=inner)
    with client.asked(script(call, {"say": "it is at work"})) as terminal:
        terminal.until("Decision:")
        terminal.type(RIGHT)
        terminal.until("deny")
        terminal.type(ENTER)
        terminal.until("Decision: allow")
        terminal.type(DOWN)

        def left(text: str) -> bool:
            # The form ignores a key that comes too soon after it has changed.
            if "\u276f Accept" in text:
                terminal.type(ENTER)
            return "Decision:" not in text

        terminal.until(left)
        told = result_of(notified(standin, terminal, "allowed"))
    assert (told["status"], told["result"]) == ("completed", "allowed")
    assert (project / "made").exists()


def test_its_model_is_sent_the_next_step_of_every_kind_of_result(
    client: ClaudeCode, standin: Standin, names: list[str], project: Path, tmp_path: Path
) -> None:
    [name, *_] = names
    (tmp_path / "sent").write_text("x")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@a", "-C", str(project)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message=first"], check=True)
    at = {"sessionId": name}
    steps = [
        tool("list_sessions"),
        tool("create_session", projectPath=str(project), sessionName=name),
        tool("execute_command", **at, command="sleep 600", background=True, commandId=COMMAND),
        tool("get_command", **at, commandId=COMMAND, waitSeconds=0),
        tool("stop_command", **at, commandId=COMMAND),
        tool("execute_command", **at, command="exit 3"),
        tool("execute_in_session", **at, prompt=script({"say": "done"})),
        tool("execute_in_session", **at, prompt=until("never", "over"), waitSeconds=0),
        tool("get_turn", **at, waitSeconds=0),
        tool("cancel_turn", **at),
        tool("list_turns", **at),
        tool("execute_command", **at, command="echo x > made"),
        tool("execute_command", **at, command="sleep 600", timeoutSeconds=2),
        tool("get_changes", **at),
        tool("apply_changes", **at, mode="patch", patch=str(tmp_path / "made.patch")),
        tool("discard_changes", **at, paths=["made"]),
        tool("transfer_files", **at, direction="to_container", sourcePath=str(tmp_path / "sent"),
             destPath="/tmp/sent"),
        tool("set_credentials", **at),
        tool("get_session_logs", **at),
        tool("destroy_session", **at),
        tool("get_turn", **at),
    ]  # fmt: skip
    done = subprocess.run(
        client.argv("--print", "go\n" + script(*steps, {"say": "over"})),
        env=client.environ, cwd=client.work, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=5 * PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr
    last = next(each for each in standin.model_calls if len(each.tool_results) == len(steps))
    *told, refused = last.tool_results
    sent = {}
    for step, each in zip(steps, told, strict=False):
        sent[step["tool"].rpartition("__")[2]] = json.loads(each)["next"]
    silent = {name for name, step in sent.items() if step is None} - {"list_sessions"}
    assert silent == {
        "transfer_files",
        "stop_command",
        "apply_changes",
        "discard_changes",
        "get_session_logs",
        "destroy_session",
    }
    assert sent["create_session"].startswith("execute_in_session with sessionId")
    assert sent["execute_command"].startswith("execute_command with a larger timeoutSeconds")
    assert sent["execute_in_session"].startswith("get_turn with sessionId")
    assert refused.startswith(f"There is no session '{name}'.")
    assert os.path.exists(project / "made") is False
