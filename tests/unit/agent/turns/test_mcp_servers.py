"""MCP servers at the agent's end: what Claude Code says of them, and what it leaves out."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from claude_mcp.agent.turns import driver, live, mcp_servers
from claude_mcp.contract import places
from claude_mcp.contract.wording import named
from tests.unit.agent.conftest import Claude, Gate, Session
from tests.unit.agent.scripted import COMPLETED, SECRETS, ask, complete, until

STATUSES = """
real = respond
rounds = {rounds!r}
def respond(message):
    request = message.get("request", {{}})
    if request.get("subtype") != "mcp_status":
        return real(message)
    servers = rounds.pop(0) if len(rounds) > 1 else rounds[0]
    answer = {{"subtype": "success", "request_id": message["request_id"],
               "response": {{"mcpServers": servers}}}}
    frame(type="control_response", response=answer)
"""


def report(name: str, status: str, error: str | None = None) -> dict[str, Any]:
    return {"name": name, "status": status, **({"error": error} if error else {})}


def handed(**servers: dict[str, Any]) -> dict[str, Any]:
    return {**SECRETS, "mcpConfig": {"mcpServers": servers}}


def tells(claude: Claude, *rounds: list[dict[str, Any]]) -> None:
    claude.at_start(STATUSES.format(rounds=list(rounds)))


REMOTE = {"type": "http", "url": "http://a", "headers": {"Authorization": "Bearer sk-remote"}}


def test_the_answer_waits_for_pending_servers_and_repeats_no_configuration(
    session: Session, claude: Claude
) -> None:
    config = {"config": REMOTE}
    tells(
        claude,
        [{"name": "a", "status": "pending", **config}],
        [{"name": "a", "status": "connected", **config}, {"name": "b", "status": "failed"}],
    )
    caller = session.start(handed(a=REMOTE, b={**REMOTE, "url": "http://b"}, c=REMOTE))
    assert caller.ask("mcp", waitSeconds=60) == {
        "ok": {
            "mcpServers": [
                report("a", "connected"),
                report("b", "failed"),
                report("c", "unknown", "Claude Code does not know this server"),
            ]
        }
    }


def test_a_server_that_stays_pending_is_not_waited_for_for_ever(
    session: Session, claude: Claude
) -> None:
    tells(claude, [report("a", "pending")])
    caller = session.start(handed(a=REMOTE))
    session.wait_until_at_rest()
    pending = [report("a", "pending")]
    assert caller.ask("mcp", waitSeconds=0.05)["ok"]["mcpServers"] == pending


@pytest.mark.parametrize("begun", [True, False])
def test_a_claude_that_is_still_starting_is_not_waited_for_for_ever(
    session: Session,
    claude: Claude,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    begun: bool,
) -> None:
    """Also when its process is only about to be started."""
    claude.at_start(f"wait_at({gate.path!r})")
    launch, going_on = driver.Driver._launch, threading.Event()

    def launch_late(*args: Any) -> live.Live:
        assert going_on.wait(60)
        return launch(*args)

    monkeypatch.setattr(driver.Driver, "_launch", launch_late)
    caller = session.start(handed(a=REMOTE))
    if begun:
        going_on.set()
        until(lambda: claude.calls)
    try:
        answer = caller.ask("mcp", waitSeconds=0.05)["ok"]["mcpServers"]
    finally:
        going_on.set()
        gate.open()
    assert answer == [report("a", "unknown", "Claude Code is still starting")]


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("no-such-program", "there is no program 'no-such-program' on the session's PATH"),
        ("/no/such/file", "there is no '/no/such/file' in the session"),
        ("/etc/passwd", "'/etc/passwd' cannot be executed by the session's user"),
        ("/etc", "'/etc' cannot be executed by the session's user"),
        ("${HOME}/server", "Connection closed"),
    ],
)
def test_a_program_that_cannot_be_run_is_named(
    session: Session,
    claude: Claude,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    error: str,
) -> None:
    monkeypatch.setattr(mcp_servers, "STDERR_SECONDS", 0)
    tells(claude, [report("a", "failed", "Connection closed")])
    caller = session.start(handed(a={"command": command}))
    answer = caller.ask("mcp", waitSeconds=60)["ok"]["mcpServers"]
    assert answer == [report("a", "failed", error)]


def test_a_program_is_looked_for_on_the_servers_own_path(
    session: Session, claude: Claude, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_servers, "STDERR_SECONDS", 0)
    (tmp_path / "own-program").touch(mode=0o755)
    tells(claude, [report("a", "failed", "Connection closed")])
    caller = session.start(handed(a={"command": "own-program", "env": {"PATH": str(tmp_path)}}))
    answer = caller.ask("mcp", waitSeconds=60)["ok"]["mcpServers"]
    assert answer == [report("a", "failed", "Connection closed")]


FAILED = {"error": "Connection failed (CONNECTION_CLOSED): Connection closed"}


@pytest.mark.parametrize(
    ("entries", "error"),
    [
        ([{"error": "Server stderr: one\n\ntwo\n"}, FAILED], "Connection closed: one\ntwo"),
        ([{"error": "Server stderr: 1\n2\n3\n4\n5\n6"}, FAILED],
         "Connection closed: 2\n3\n4\n5\n6"),
        ([{"error": "Server stderr: " + "x" * 5000}, FAILED], "Connection closed"),
        ([{"error": "Server stderr: old"}, {"error": "Server stderr: new"}, FAILED],
         "Connection closed: new"),
        ([{"error": ["Server stderr: x"]}, 7, None, FAILED], "Connection closed"),
        ([{"error": "Server stderr: one"}], "Connection closed"),
        ([], "Connection closed"),
    ],
)  # fmt: skip
def test_the_end_of_its_stderr_is_taken_from_claude_codes_own_log(
    session: Session,
    claude: Claude,
    monkeypatch: pytest.MonkeyPatch,
    entries: list[Any],
    error: str,
) -> None:
    monkeypatch.setattr(mcp_servers, "STDERR_SECONDS", 0)
    workspace = places.WORKSPACE.replace("/", "-")
    logs = session.home / ".cache" / "claude-cli-nodejs" / workspace / "mcp-logs-a-b"
    logs.mkdir(parents=True)
    lines = "".join(f"{json.dumps(entry)}\n" for entry in entries)
    (logs / "2026-01-01T00-00-00.jsonl").write_text('{"error": "Server stderr: earlier"}\n')
    (logs / "2026-01-02T00-00-00.jsonl").write_text(f"not JSON\n{lines}")
    tells(claude, [report("a.b", "failed", "Connection closed")])
    caller = session.start(handed(**{"a.b": {"command": "sh"}}))
    answer = caller.ask("mcp", waitSeconds=60)["ok"]["mcpServers"]
    assert answer == [report("a.b", "failed", error)]


def test_without_credentials_nobody_can_be_asked(session: Session) -> None:
    config = {"mcpServers": {"a": REMOTE}}
    caller = session.start({"credential": None, "mcpConfig": config})
    answer = caller.ask("mcp", waitSeconds=60)["ok"]["mcpServers"]
    assert answer == [report("a", "unknown", "there are no credentials")]


def test_a_claude_that_does_not_start_is_told(session: Session, claude: Claude) -> None:
    claude.at_start("sys.stderr.write('bad configuration'); sys.exit(1)")
    caller = session.start(handed(a=REMOTE))
    answer = caller.ask("mcp", waitSeconds=60)["ok"]["mcpServers"]
    error = "Claude Code ended while it was starting, exit code 1: bad configuration."
    assert answer == [report("a", "unknown", error)]


def test_a_claude_that_ends_instead_of_answering_is_told(session: Session, claude: Claude) -> None:
    claude.at_start(
        "real = respond\n"
        "def respond(message):\n"
        "    if message['request']['subtype'] == 'mcp_status': sys.exit(3)\n"
        "    return real(message)"
    )
    caller = session.start(handed(a=REMOTE))
    answer = caller.ask("mcp", waitSeconds=60)["ok"]["mcpServers"]
    assert answer == [report("a", "unknown", "Claude Code did not answer")]


def test_servers_that_are_handed_in_reach_a_claude_that_is_started_anew(
    session: Session, claude: Claude
) -> None:
    caller = session.start(SECRETS)
    assert ask(caller, "begin(); result()") == COMPLETED
    assert caller.ask("configure", secrets=complete(handed(a=REMOTE))) == {"ok": {}}
    assert ask(caller, "begin(); result()")["notes"] == []
    assert [f"--mcp-config={session.home}/mcp.json" in call for call in claude.calls] == [
        False,
        True,
    ]


def test_lost_servers_are_named_in_the_turn_that_starts_claude_without_them(
    session: Session, claude: Claude
) -> None:
    first = session.start(handed(a=REMOTE, b=REMOTE))
    assert ask(first, "begin(); result()") == COMPLETED
    claude.kill()
    again = session.start(None)
    assert again.ask("configure", secrets=SECRETS) == {"ok": {}}
    assert ask(again, "begin(); result()")["notes"] == [
        "The session lost its MCP servers when its container was restarted: a, b. Their "
        "configuration is kept in memory only. Provide it again with "
        f"{named('set_credentials')}."
    ]
    assert ask(again, "begin(); result()")["notes"] == []


def test_what_stands_in_the_way_of_the_configuration_is_replaced(
    session: Session, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / "mcp.json").symlink_to("elsewhere")
    assert ask(session.start(handed(a=REMOTE)), "begin(); result()") == COMPLETED
    assert (tmp_path / "elsewhere").read_text() == "kept"
    assert json.loads((tmp_path / "mcp.json").read_text()) == {"mcpServers": {"a": REMOTE}}
