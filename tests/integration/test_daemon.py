"""A daemon that is stopped by a signal, killed or restarted while requests are under way."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
import pytest

from claude_mcp.config import load
from claude_mcp.errors import ClaudeMcpError, EngineUnavailable
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.files.transfer import Direction, transfer
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import Status
from claude_mcp.sessions.turns import commands, prompts
from claude_mcp.sessions.turns.results import TurnStatus
from tests.brakes import Brake, fit_brake
from tests.engine_fixtures import environment_with
from tests.own_daemon import OwnDaemon

if TYPE_CHECKING:
    from messages_standin import Standin

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root starts a daemon of its own"),
]

CALLERS_SECONDS: Final = 3600.0
"""Far longer than a slow machine takes until the intervention: a caller must not give up before."""
IN_TIME: Final = 25.0
"""A daemon's silence is noticed within 15 s; a busy machine has 10 s more."""
SIZE: Final = 200_000_000
SILENT: Final = "Docker does not answer. "
DEAD: Final = "Docker's daemon does not answer: "


@pytest.fixture
def brake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Brake]:
    brake = fit_brake(monkeypatch)
    yield brake
    brake.release()


@pytest.fixture
def daemon(standin: Standin) -> Iterator[OwnDaemon]:
    daemon = OwnDaemon(load(environment_with(standin)).image)
    try:
        yield daemon
    finally:
        daemon.end()


@asynccontextmanager
async def front_end(daemon: OwnDaemon, standin: Standin) -> AsyncIterator[Sessions]:
    environ = {
        **environment_with(standin),
        "DOCKER_HOST": daemon.host,
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{daemon.standin()}",
    }
    async with open_sessions(load(environ, engine="docker")) as sessions:
        yield sessions


@dataclass
class UnderWay:
    """All that a front end can ask for, and the answers.

    A creation goes on after the start of its container once it is ``released``.
    """

    sessions: Sessions
    reference: str
    project: Path
    creating: anyio.Event = field(default_factory=anyio.Event)
    released: anyio.Event = field(default_factory=anyio.Event)
    answers: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    async def ask(self, name: str) -> None:
        began = anyio.current_time()
        try:
            self.answers[name] = await getattr(self, f"_{name}")()
        except ClaudeMcpError as error:
            self.answers[name] = error
        self.seconds[name] = round(anyio.current_time() - began, 1)

    async def _turn(self) -> Any:
        command = "touch /tmp/asked; sleep 1000"
        steps = [{"tool": "Bash", "input": {"command": command}}, {"say": "done"}]
        handle = await self.sessions.open(self.reference)
        prompt = "standin: " + json.dumps(steps)
        return (await prompts.prompt(handle, prompt, wait_seconds=CALLERS_SECONDS)).status

    async def _command(self) -> Any:
        handle = await self.sessions.open(self.reference)
        command = "touch /tmp/begun; sleep 1000"
        return await commands.run(handle, command, timeout_seconds=CALLERS_SECONDS)

    async def _transfer(self) -> Any:
        handle = await self.sessions.open(self.reference)
        target = str(self.project / "out")
        return await transfer(handle, Direction.FROM_CONTAINER, "/tmp/big", target)

    async def _create(self) -> Any:
        async def hold(message: str, amount: object = None, /) -> None:
            if message == "starting the session":
                self.creating.set()
                await self.released.wait()

        request = CreateRequest(str(self.project), session_name="second")
        return await create(self.sessions, request, hold)

    async def _list(self) -> Any:
        return await self.sessions.list()


def _stop(daemon: OwnDaemon) -> None:
    daemon.signal(signal.SIGSTOP)


def _kill(daemon: OwnDaemon) -> None:
    daemon.signal(signal.SIGKILL)


def _restart(daemon: OwnDaemon) -> None:
    daemon.signal(signal.SIGTERM)
    daemon.start()


def _restart_live(daemon: OwnDaemon) -> None:
    daemon.signal(signal.SIGTERM)
    daemon.start("--live-restore")


INTERVENTIONS: Final[dict[str, tuple[tuple[str, ...], Callable[[OwnDaemon], None]]]] = {
    "stopped": ((), _stop),
    "killed": ((), _kill),
    "restarted": ((), _restart),
    "restarted with live-restore": (("--live-restore",), _restart_live),
}
"""The daemon's options, and what happens to it."""
NAMES: Final = [
    pytest.param(name, marks=() if name == "stopped" else pytest.mark.stress)
    for name in INTERVENTIONS
]


@pytest.mark.timeout(200)
@pytest.mark.parametrize("intervention", NAMES)
async def test_all_that_is_under_way_is_answered_when_the_daemon_is(
    daemon: OwnDaemon, standin: Standin, project: Path, brake: Brake, intervention: str
) -> None:
    options, intervene = INTERVENTIONS[intervention]
    daemon.start(*options)
    async with front_end(daemon, standin) as sessions:
        created = await create(sessions, CreateRequest(str(project), session_name="first"))
        handle = await sessions.open(created.session.id)
        await commands.run(handle, f"head -c {SIZE} /dev/zero >/tmp/big")
        under_way = UnderWay(sessions, created.session.id, project)
        async with anyio.create_task_group() as tasks:
            for name in ("turn", "command"):
                tasks.start_soon(under_way.ask, name)
            while (await commands.run(handle, "test -e /tmp/begun -a -e /tmp/asked")).exit_code:
                pass
            for name in ("create", "transfer"):
                tasks.start_soon(under_way.ask, name)
            await under_way.creating.wait()
            await brake.until_reached()
            tasks.cancel_scope.deadline = anyio.current_time() + IN_TIME
            await anyio.to_thread.run_sync(intervene, daemon)
            brake.release()
            under_way.released.set()
            tasks.start_soon(under_way.ask, "list")
        answers = under_way.answers
        print(under_way.seconds, answers)  # noqa: T201 shown if this fails
        assert set(answers) == {"turn", "command", "create", "transfer", "list"}
        if intervention in ("stopped", "killed"):
            for name, answer in answers.items():
                assert isinstance(answer, EngineUnavailable), (name, answer)
                assert str(answer).startswith(SILENT if intervention == "stopped" else DEAD)
        await _works_again(daemon, under_way, intervention)


async def _works_again(daemon: OwnDaemon, under_way: UnderWay, intervention: str) -> None:
    """When the daemon is back, the session can be used, and nothing half made is left."""
    sessions = under_way.sessions
    if intervention == "stopped":
        daemon.signal(signal.SIGCONT)
    if intervention == "killed":
        daemon.start()
    handle = await sessions.open(under_way.reference)
    assert (await commands.run(handle, "test -e /tmp/big")).exit_code == 0
    turn = await prompts.follow(handle, None, wait_seconds=0)
    survived = intervention in ("stopped", "restarted with live-restore")
    assert turn.status is (TurnStatus.RUNNING if survived else TurnStatus.FAILED)
    assert [each.name for each in under_way.project.iterdir() if each.name.startswith(".")] == []
    listed = {each.session.name: each.session.status for each in await sessions.list()}
    assert listed.pop("first") is Status.RUNNING
    if isinstance(under_way.answers["create"], ClaudeMcpError):
        # What a daemon that was away could not remove is none that anybody would use.
        assert set(listed.values()) <= {Status.CREATING, Status.BROKEN}
