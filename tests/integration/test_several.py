"""Several engines at once: the engine under test, others beside it, and some that are silent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from claude_mcp.config import Config, load
from claude_mcp.engine import detection
from claude_mcp.engine.address import EngineAddress
from claude_mcp.engine.docker_cli import DockerCliEngine
from claude_mcp.errors import ClaudeMcpError, EngineUnavailable, SessionAmbiguous
from claude_mcp.sessions import fleet as fleets
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.fleet import open_fleet
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.turns import commands, prompts
from claude_mcp.sessions.turns.results import TurnStatus
from claude_mcp.sessions.usage import usage
from tests.engine_fixtures import environment_with
from tests.own_daemon import OwnDaemon

if TYPE_CHECKING:
    from messages_standin import Standin

SERVICE_SECONDS: Final = 30.0


@pytest.fixture
def mute(tmp_path: Path) -> Iterator[str]:
    """The address of an engine that accepts connections and never answers."""
    path = tmp_path / "mute.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(64)
        yield f"unix://{path}"


@asynccontextmanager
async def opened(config: Config, engines: dict[str, EngineAddress]) -> AsyncIterator[Sessions]:
    async with open_fleet(replace(config, engine=None, engines=engines)) as fleet:
        yield fleet


@pytest.mark.once
async def test_silent_engines_keep_nobody_from_the_sessions_of_another(
    config: Config, project: Path, name: str, mute: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = {
        "own": EngineAddress(program=config.engine),
        "refused": EngineAddress(program=config.engine, host=f"unix://{project}/nobody.sock"),
        "mute": EngineAddress(program=config.engine, host=mute),
    }
    async with opened(config, engines) as fleet:
        await fleet.members[0].engine()
        with pytest.raises(EngineUnavailable, match=r"nobody\.sock"):
            await fleet.members[1].engine()
        # A busy machine may take as long for an answer as the silent one is waited for.
        monkeypatch.setattr(fleets, "CONNECT_SECONDS", 1.0)
        created = await create(fleet, CreateRequest(str(project), session_name=name))
        assert created.engine == "own"
        assert created.reason is not None
        assert "refused does not answer; mute does not answer" in created.reason
        answers = await fleet.survey(ask=False)
        (found,) = [each for each in answers.found if each.session.name == name]
        assert found.engine == "own"
        assert [each.engine for each in answers.unreachable] == ["refused", "mute"]
        assert answers.unreachable[1].problem.startswith("nothing came within ")
        ran = await commands.run(await fleet.open(f"own/{name}"), "echo yes")
        assert ran.stdout == "yes\n"
        with pytest.raises(EngineUnavailable, match="No engine that answers has a session"):
            await fleet.destroy(f"{name}-not")
        assert (await fleet.destroy(name)).existed


class Three:
    """Docker, Podman and an engine elsewhere, as one front end has them."""

    def __init__(self, config: Config, daemon: OwnDaemon, service: str) -> None:
        self.daemon = daemon
        self.engines = {
            "docker-here": EngineAddress(program="docker"),
            "podman-far": EngineAddress(program="podman", host=service),
            "daemon-far": EngineAddress(program="docker", host=daemon.host),
        }
        self.config = replace(config, engine=None, engines=self.engines)

    def bare(self, name: str, *args: str) -> str:
        config = self.config.on(name)
        done = subprocess.run(
            [config.engine or "docker", *args],
            env=dict(config.environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.stdout


@pytest.fixture
def service(tmp_path: Path) -> Iterator[str]:
    """Podman's API service, on a socket of its own."""
    path = tmp_path / "podman.sock"
    running = subprocess.Popen(["podman", "system", "service", "--time=0", f"unix://{path}"])
    try:
        yield f"unix://{path}"
    finally:
        running.terminate()
        running.wait(SERVICE_SECONDS)


@pytest.fixture
def three(config: Config, standin: Standin, service: str) -> Iterator[Three]:
    daemon = OwnDaemon(load(environment_with(standin)).image)
    try:
        daemon.start()
        yield Three(config, daemon, service)
    finally:
        daemon.end()


async def ready(config: Config) -> None:
    """Wait until an engine answers that has just been started."""
    with anyio.fail_after(SERVICE_SECONDS):
        while True:
            try:
                engine = await detection.connect(config.engine, config.environment, config.login)
            except ClaudeMcpError:
                await anyio.sleep(0.1)
                continue
            assert isinstance(engine, DockerCliEngine)
            return


@pytest.mark.docker
@pytest.mark.stress
@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts a daemon of its own")
async def test_three_engines_are_one_place(three: Three, project: Path, name: str) -> None:
    for each in three.engines:
        await ready(three.config.on(each))
    try:
        async with open_fleet(three.config) as fleet:
            for each in three.engines:
                request = CreateRequest(
                    str(project), session_name=name, engine=each, workspace="copy"
                )
                created = await create(fleet, request)
                assert (created.engine, created.reason) == (each, None)
            answers = await fleet.survey()
            own = [each for each in answers.found if each.session.name == name]
            assert sorted(each.engine for each in own) == sorted(three.engines)
            with pytest.raises(SessionAmbiguous) as caught:
                await fleet.destroy(name)
            for each in three.engines:
                assert f"{each}/{name} (" in caught.value.message
                ran = await commands.run(await fleet.open(f"{each}/{name}"), f"echo {each}")
                assert ran.stdout == f"{each}\n"
            measured = await usage(fleet, [f"{each}/{name}" for each in three.engines])
            assert [each.engine for each in measured.found] == list(three.engines)
            assert all(each.stats is not None for each in measured.found)
            turn = await prompts.prompt(await fleet.open(f"docker-here/{name}"), "hello")
            assert turn.status is TurnStatus.COMPLETED
            another = await create(
                fleet, CreateRequest(str(project), session_name=f"{name}-b", workspace="copy")
            )
            assert another.engine in three.engines
            assert another.reason is not None
            await fleet.destroy(another.session.id)
            ids = [each.session.id for each in own]
            three.daemon.signal(signal.SIGSTOP)
            for _ in range(2):
                answers = await fleet.survey(ask=False)
                assert [each.engine for each in answers.unreachable] == ["daemon-far"]
            three.daemon.signal(signal.SIGCONT)
            with anyio.fail_after(SERVICE_SECONDS):
                while answers.unreachable:
                    answers = await fleet.survey(ask=False)
            assert {each.session.id for each in answers.found} >= set(ids)
            three.daemon.signal(signal.SIGKILL)
            answers = await fleet.survey()
            assert [each.engine for each in answers.unreachable] == ["daemon-far"]
            left = [each.engine for each in answers.found if each.session.id in ids]
            assert sorted(left) == ["docker-here", "podman-far"]
            outcomes = await fleet.destroy_each(
                [f"docker-here/{name}", f"podman-far/{name}", f"daemon-far/{name}"], discard=True
            )
            assert [isinstance(each, ClaudeMcpError) for each in outcomes] == [False, False, True]
    finally:
        for each in three.engines:
            for made in (name, f"{name}-b"):
                three.bare(each, "rm", "--force", "--volumes", f"claude-mcp-{made}")
