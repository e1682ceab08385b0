"""The agent of a session whose network is restricted, and of one that has none."""

from __future__ import annotations

import functools
import json
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.agent.main import Agent
from claude_mcp.agent.network import egress, seccomp
from claude_mcp.agent.turns import live, mcp_servers
from claude_mcp.contract import places
from claude_mcp.contract.messages import from_json
from claude_mcp.contract.settings import Settings
from tests.unit.agent.scripted import (
    COMPLETED,
    SECRETS,
    SETTINGS,
    ask,
    complete,
    handover,
    turn_id,
    until,
)
from tests.unit.agent.scripted_proxy import ADVICE, ScriptedProxy, ending, port_of

if TYPE_CHECKING:
    from tests.unit.agent.conftest import Caller, Claude, Connect, Session

NO_NETWORK = {"error": {"code": "no-network", "message": "the session has no network"}}
SERVERS = {"mcpServers": {"files": {"command": "npx"}}}

# What a program in the session does, here on the loopback of this machine.
FETCH = """\
import socket
client = socket.create_connection(("127.0.0.1", {port}))
client.sendall(b"GET http://{host}/ HTTP/1.1\\r\\n\\r\\n")
while client.recv(65536): pass
"""


class TestNone:
    def test_a_prompt_is_refused_at_once_and_nothing_is_started(
        self, session: Session, claude: Claude
    ) -> None:
        for secrets in (SECRETS, None):
            caller = session.start(secrets, network="none")
            session.wait_until_at_rest()
            assert ask(caller, "result()") == NO_NETWORK
            assert caller.ask("configure", secrets=SECRETS) == {"ok": {}}
            assert ask(caller, "result()", whenBusy="wait") == NO_NETWORK
            assert caller.ask("status")["ok"]["turnRunning"] is False
        assert claude.calls == []

    def test_what_was_asked_before_can_be_asked_for_again(self, session: Session) -> None:
        one = turn_id()
        assert ask(session.start(), "result()", turnId=one) == COMPLETED
        assert ask(session.start(network="none"), "result()", turnId=one) == COMPLETED

    def test_its_mcp_servers_are_not_waited_for(self, session: Session) -> None:
        caller = session.start({**SECRETS, "mcpConfig": SERVERS}, network="none")
        began = time.monotonic()
        answer = caller.ask("mcp", waitSeconds=100)
        assert time.monotonic() - began < 60
        report = {"name": "files", "status": "unknown", "error": "the session has no network"}
        assert answer == {"ok": {"mcpServers": [report]}}


class Restricted:
    """The agent of a restricted session, and its way out."""

    def __init__(self, agent: Agent, caller: Caller) -> None:
        assert agent._egress is not None
        self.egress = agent._egress
        self.caller = caller

    def fetch(self, host: str) -> str:
        """The program that asks for a host's page."""
        return FETCH.format(port=port_of(self.egress), host=host)

    def run(self, command: str) -> dict[str, Any]:
        answer = self.caller.ask("command", command=command, limitBytes=1000)
        result: dict[str, Any] = {"notes": [], **answer["ok"]}
        return result

    def run_fetch(self, host: str) -> dict[str, Any]:
        return self.run(shlex.join([sys.executable, "-ISc", self.fetch(host)]))


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedProxy]:
    monkeypatch.setattr(places, "PROXY_SOCKET", str(tmp_path / "socket"))
    made = ScriptedProxy(tmp_path / "socket")
    made.start()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def unfiltered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent is made in this process here, which the filter would bind for all later tests."""
    monkeypatch.setattr(seccomp, "restrict", lambda: "")


@pytest.fixture
def restricted(
    connect: Connect,
    claude: Claude,
    proxy: ScriptedProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Restricted]:
    monkeypatch.setattr(egress, "Egress", functools.partial(egress.Egress, port=0))
    monkeypatch.setattr(mcp_servers, "CONFIG_PATH", str(tmp_path / "mcp.json"))
    monkeypatch.setattr(live, "SECRETS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("PATH", claude.path)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:3128")
    proxies = {"HTTPS_PROXY": "http://me:pass-word@proxy.example:8080", "NO_PROXY": "x"}
    settings = from_json(Settings, {**SETTINGS, "network": "restricted", "sessionName": "fix"})
    agent = Agent(settings, str(tmp_path), handover({"proxies": proxies}))
    assert agent._egress is not None
    with ending(agent._egress):
        yield Restricted(agent, connect(agent.operations))


def test_an_open_session_has_no_forwarder(tmp_path: Path) -> None:
    for network in ("open", "none"):
        settings = from_json(Settings, {**SETTINGS, "network": network, "sessionName": "fix"})
        assert Agent(settings, str(tmp_path))._egress is None


def test_a_command_is_told_what_was_blocked_while_it_ran(restricted: Restricted) -> None:
    assert restricted.run("true")["notes"] == []
    ran = restricted.run_fetch("a.example")
    assert (ran["exitCode"], ran["notes"]) == (0, [f"Blocked: a.example; {ADVICE}."])
    assert restricted.run_fetch("open.example")["notes"] == []


def test_a_turn_is_told_what_was_blocked_while_it_ran(
    restricted: Restricted, proxy: ScriptedProxy
) -> None:
    restricted.run_fetch("before.example")
    program = f"begin()\n{restricted.fetch('a.example') * 2}\nresult()"
    notes = [f"Blocked: a.example (2 times); {ADVICE}."]
    one = turn_id()
    answer = {**COMPLETED, "notes": notes}
    assert ask(restricted.caller, program, turnId=one) == answer
    assert ask(restricted.caller, program, turnId=one) == answer  # as it was kept
    assert ask(restricted.caller, "result()")["notes"] == []
    assert proxy.openings[-1] == {"session": "fix", "https": "Basic bWU6cGFzcy13b3Jk"}


def test_claude_is_told_of_the_sessions_own_proxy_alone(restricted: Restricted) -> None:
    program = (
        "proxies = {k: v for k, v in os.environ.items() if 'PROXY' in k}\n"
        "leaks = [v for v in os.environ.values() if 'pass-word' in v]\n"
        "result(json.dumps([proxies, leaks]))"
    )
    answer = ask(restricted.caller, program)
    assert json.loads(answer["result"]) == [{"HTTPS_PROXY": "http://127.0.0.1:3128"}, []]


def test_proxies_that_are_handed_in_again_hold_from_then_on(
    restricted: Restricted, proxy: ScriptedProxy
) -> None:
    proxies = {"HTTP_PROXY": "http://me:other@proxy.example:8080"}
    restricted.caller.ask("configure", secrets=complete({**SECRETS, "proxies": proxies}))

    def changed() -> bool:
        restricted.run_fetch("a.example")
        return proxy.openings[-1] == {"session": "fix", "http": "Basic bWU6b3RoZXI="}

    until(changed)
    servers = {"mcpConfig": SERVERS, "mcpSecretValues": []}  # without any credentials
    restricted.caller.ask("configure", secrets=servers)
    assert changed()


@pytest.mark.parametrize("operation", ["command", "turn", "follow"])
def test_whoever_waits_is_asked_to_start_the_proxy_again(
    restricted: Restricted, proxy: ScriptedProxy, operation: str
) -> None:
    restricted.run_fetch("a.example")
    one = turn_id()
    ask(restricted.caller, "result()", turnId=one)
    before = restricted.egress.mark()
    proxy.stop()
    until(lambda: restricted.egress.notes(before))
    arguments: dict[str, dict[str, Any]] = {
        "command": {"command": "true", "limitBytes": 10},
        "turn": {"turnId": one, "prompt": "result()"},
        "follow": {"turnId": one},
    }
    number = restricted.caller.send(operation, **arguments[operation])
    assert restricted.caller.receive() == {"id": number, "event": {"proxy": "gone"}}
    answer = restricted.caller.answer(number)["ok"]
    if operation == "command":
        (note,) = answer["notes"]
        assert note.startswith("The session's proxy is not running")
