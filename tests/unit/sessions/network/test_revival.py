"""A proxy that a session reports missing is started again, once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import anyio
import pytest

from claude_mcp.contract.operations import PROXY_GONE
from claude_mcp.engine.engine import Engine
from claude_mcp.errors import EngineUnavailable
from claude_mcp.sessions.channel.channels import Channels
from claude_mcp.sessions.labels import session_of
from claude_mcp.sessions.network import proxies, revival
from claude_mcp.sessions.network.access import OPEN, Access, Proxy
from claude_mcp.sessions.network.revival import Revival
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.session import Session
from tests.unit.sessions.conftest import (
    PROXY,
    RESTRICTED,
    ScriptedEngine,
    container,
    proxy_container,
    request,
)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revival, "PAUSE_SECONDS", 0.0)


class Reviving:
    """A ``Revival`` whose engine can be made unavailable."""

    def __init__(self, engine: Engine, tasks: anyio.abc.TaskGroup) -> None:
        self._engine = engine
        self.asked = 0
        self.unavailable = False
        self.revival = Revival(self.engine, Channels(engine, tasks), tasks)

    async def engine(self) -> Engine:
        self.asked += 1
        if self.unavailable:
            raise EngineUnavailable("Docker's daemon does not answer.")
        return self._engine

    async def settle(self) -> None:
        with anyio.fail_after(60):
            while self.revival._reviving:
                await anyio.sleep(0.001)


@pytest.fixture
async def reviving(scripted: ScriptedEngine) -> AsyncIterator[Reviving]:
    async with anyio.create_task_group() as tasks:
        yield Reviving(scripted.engine, tasks)


async def session(scripted: ScriptedEngine, access: Access = RESTRICTED) -> Session:
    scripted.holds(container("abcd1", "fix", access=access))
    found = session_of((await scripted.engine.inspect(["abcd1"]))[0])
    assert found is not None
    return found


async def ignore(event: dict[str, Any]) -> None:
    pass


async def test_a_session_without_a_proxy_keeps_its_listener(
    scripted: ScriptedEngine, reviving: Reviving
) -> None:
    found = await session(scripted, OPEN)
    assert reviving.revival.hearing(found.proxy, "", ignore) is ignore
    assert reviving.revival.hearing(found.proxy, "", None) is None


async def test_a_proxy_that_many_sessions_report_is_started_once(
    scripted: ScriptedEngine, reviving: Reviving
) -> None:
    one = await session(scripted)
    scripted.holds(proxy_container("exited"))
    heard: list[dict[str, Any]] = []

    async def on_event(event: dict[str, Any]) -> None:
        heard.append(event)

    for listener in (on_event, None) * 3:
        hear = reviving.revival.hearing(one.proxy, one.container_id, listener)
        assert hear is not None
        await hear(PROXY_GONE)
        await hear({"progress": "x"})
    await reviving.settle()
    assert heard == [{"progress": "x"}] * 3
    assert scripted.calls == ["container", "container", "start"]
    assert [each["status"] for each in scripted.held] == ["running"]


async def test_different_proxies_are_each_started(
    scripted: ScriptedEngine, reviving: Reviving
) -> None:
    one = await session(scripted)
    other = Proxy("other", "image:1", "{}")
    scripted.holds(proxy_container("exited"), proxy_container("exited", other))
    for each in (one.proxy, other):
        hear = reviving.revival.hearing(each, one.container_id, None)
        assert hear is not None
        await hear(PROXY_GONE)
    await reviving.settle()
    assert [each["status"] for each in scripted.held] == ["running", "running"]


async def test_a_session_that_reaches_its_proxy_by_address_is_told_the_new_one(
    scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await session(scripted)
    scripted.holds(container("abcd1", "fix", access=RESTRICTED), proxy_container("exited"))
    scripted.agent(
        "asked = request()\n"
        "open('told', 'w').write(asked['op'] + ' ' + asked['args']['address'])\n"
        "answer(asked['id'], ok={})\n"
    )
    monkeypatch.chdir(scripted._directory)

    async def address(engine: Engine, proxy: Proxy) -> str:
        return "10.0.0.9"

    monkeypatch.setattr(proxies, "address", address)
    dialect = replace(scripted.engine.dialect, network_policies=True)
    async with anyio.create_task_group() as tasks:
        reviving = Reviving(replace(scripted.engine, dialect=dialect), tasks)
        hear = reviving.revival.hearing(one.proxy, one.container_id, None)
        assert hear is not None
        await hear(PROXY_GONE)
        await reviving.settle()
        tasks.cancel_scope.cancel()
    assert scripted.noted("told") == ["proxy", "10.0.0.9"]


async def test_a_failed_start_is_logged_and_can_be_tried_again(
    scripted: ScriptedEngine, reviving: Reviving, caplog: pytest.LogCaptureFixture
) -> None:
    hear = reviving.revival.hearing(PROXY, "", None)
    scripted.holds(proxy_container("exited"))
    assert hear is not None
    reviving.unavailable = True
    await hear(PROXY_GONE)
    await reviving.settle()
    (record,) = caplog.records
    assert record.getMessage() == f"proxy {PROXY.name} could not be started again"
    reviving.unavailable = False
    await hear(PROXY_GONE)
    await reviving.settle()
    assert reviving.asked == 2
    assert [each["status"] for each in scripted.held] == ["running"]


async def test_a_request_to_a_session_starts_its_missing_proxy(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(container("abcd1", "fix", access=RESTRICTED), proxy_container("exited"))
    scripted.agent(
        "for line in sys.stdin:\n"
        "    one = json.loads(line)\n"
        f"    answer(one['id'], event={PROXY_GONE!r})\n"
        "    answer(one['id'], event={'progress': 'x'})\n"
        f"    while 'running' not in open({path(scripted)!r}).read(): pass\n"
        "    answer(one['id'], ok={})\n"
    )
    heard: list[dict[str, Any]] = []

    async def on_event(event: dict[str, Any]) -> None:
        heard.append(event)

    await request(sessions, "fix", "turn", {}, on_event)  # finds the session first
    await request(sessions, "fix", "turn", {}, on_event)  # uses the open channel
    assert heard == [{"progress": "x"}] * 2
    assert "start" in scripted.calls


def path(scripted: ScriptedEngine) -> str:
    """The file that holds the state of the proxy's container."""
    return next(str(f) for f in scripted._containers.iterdir() if f.name.endswith(PROXY.name))
