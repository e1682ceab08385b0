"""Sessions with a restricted network, and with none: what works, and what is told of the rest.

What must not work is in the other files here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from messages_standin import Standin

from claude_mcp.config import Config
from claude_mcp.engine.engine import Engine
from claude_mcp.errors import ImageNotFound, SessionNotReady
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.files.transfer import Direction, transfer
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.turns import commands
from claude_mcp.sessions.turns import prompts as turns
from claude_mcp.sessions.turns.results import TurnResult, TurnStatus
from tests.engine_fixtures import log_with
from tests.peers import script
from tests.restricted import bash

pytestmark = pytest.mark.xdist_group("world")
"""One process at a time makes proxies: some of these tests count them."""

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare

MIB = 1 << 20
SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        size = self.path.strip("/")
        if size.isdigit():
            self.send_header("Content-Length", size)
        self.end_headers()
        left = int(size) if size.isdigit() else 1 << 60
        piece = bytes(1 << 18)
        try:
            while left:
                left -= self.wfile.write(piece[:left])
        except OSError:
            pass
    def log_message(self, *args): pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
server = Server(("0.0.0.0", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""
"""`/N` has N bytes, any other path has no end."""


@pytest.fixture(scope="session")
def download_port() -> Iterator[int]:
    """A server in a process of its own, so that it is not what is slow."""
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE)
    assert process.stdout is not None
    yield int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def config(engine: Engine, config: Config, download_port: int) -> Config:
    """The operator lets sessions reach this machine under its alias, and the registries' names."""
    alias = engine.dialect.host_alias
    return replace(config, private_hosts=(f"{alias}:{download_port}",))


def proxies(bare: Bare) -> list[str]:
    names = bare("ps", "-a", "--filter=label=claude-mcp.proxy-of", "--format={{.Names}}")
    return names.split()


def label_of(bare: Bare, proxy: str) -> str:
    """What a proxy is made from; empty if it has just been removed."""
    return bare("container", "inspect", "--format={{json .Config.Labels}}", proxy, check=False)


def volumes(bare: Bare) -> list[str]:
    return bare("volume", "ls", "--filter=name=claude-mcp-proxy-", "--format={{.Name}}").split()


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not condition():
            await anyio.sleep(0.05)


async def test_claude_works_and_what_was_blocked_is_told(
    sessions: Sessions, restricted: Session, standin: Standin
) -> None:
    command = (
        "for i in 1 2 3; do curl -sS https://files.example.net/; done; curl -s http://192.0.2.9/"
    )
    turn = await turns.prompt(await sessions.open(restricted.id), bash(command))
    assert turn.status is TurnStatus.COMPLETED
    assert "CONNECT tunnel failed, response 403" in str(turn.result)
    assert turn.notes == (
        "Blocked: files.example.net (3 times); a new session can allow it with allowedHosts.",
        "Blocked: 192.0.2.9; only host names are allowed, not addresses.",
    )
    said = "blocked: files.example.net: a new session can allow it with allowedHosts"
    # The other host was asked last, so all of the first is written before.
    log = await log_with(sessions, restricted.id, said, "blocked: 192.0.2.9")
    assert [line.partition(" ")[2] for line in log].count(said) == 1
    again = await turns.prompt(await sessions.open(restricted.id), "hello")
    assert (again.status, again.notes) == (TurnStatus.COMPLETED, ())


@pytest.mark.per_engine
async def test_a_command_is_told_what_was_blocked_too(
    sessions: Sessions, restricted: Session
) -> None:
    result = await commands.run(
        await sessions.open(restricted.id), "curl -sS http://a.example.net:81/"
    )
    assert result.stdout == (
        "claude-mcp refused a.example.net:81: this session may not reach it; a new session "
        "can allow it with allowedHosts\n"
    )
    assert result.notes == (
        "Blocked: a.example.net:81; a new session can allow it with allowedHosts.",
    )


async def test_there_is_nothing_but_a_loopback(sessions: Sessions, restricted: Session) -> None:
    devices = await commands.run(
        await sessions.open(restricted.id),
        "tail -n +3 /proc/net/dev | cut -d: -f1; cat /proc/net/route",
    )
    assert devices.stdout.split()[0] == "lo"
    assert len(devices.stdout.strip().splitlines()) == 2  # the second is the routes' heading


@pytest.mark.per_engine
async def test_sessions_with_the_same_rules_share_a_proxy_which_goes_with_the_last(
    sessions: Sessions, project: Path, name: str, bare: Bare
) -> None:
    made = []
    for number, hosts in enumerate(((), (), ("pypi.org",))):
        request = CreateRequest(
            str(project),
            session_name=f"{name}-{number}",
            network="restricted",
            allowed_hosts=hosts,
        )
        made.append((await create(sessions, request)).session)
    first, second, other = (session.proxy for session in made)
    try:
        assert first is not None
        assert other is not None
        assert first == second != other
        assert {first.name, other.name} <= set(proxies(bare))
        assert {first.name, other.name} <= set(volumes(bare))
        await sessions.destroy(made[0].id)
        assert {first.name, other.name} <= set(proxies(bare))
        answer = await commands.run(
            await sessions.open(made[1].id), "curl -s http://x.example.net/"
        )
        assert "claude-mcp refused" in answer.stdout
    finally:
        for session in made:
            await sessions.destroy(session.id)
    assert not {first.name, other.name} & {*proxies(bare), *volumes(bare)}


async def test_a_creation_that_fails_leaves_no_proxy(
    sessions: Sessions, project: Path, name: str, bare: Bare
) -> None:
    before = {*proxies(bare), *volumes(bare)}
    host = f"{name}.example.org"

    def left() -> set[str]:
        """What is new and is not the proxy of another session, which another test may make."""
        of_others = {each for each in proxies(bare) if host not in label_of(bare, each)}
        return {*proxies(bare), *volumes(bare)} - before - of_others

    with pytest.raises(ImageNotFound):
        await create(
            sessions,
            CreateRequest(
                str(project),
                session_name=name,
                network="restricted",
                allowed_hosts=(host,),
                image="no-such-image:1",
            ),
        )
    async with open_sessions(replace(sessions.config, proxy_image="no-such-image:1")) as others:
        with pytest.raises(ImageNotFound, match="proxy"):
            await create(
                others,
                CreateRequest(
                    str(project), session_name=name, network="restricted", allowed_hosts=(host,)
                ),
            )
    with pytest.raises(TimeoutError):  # in the middle of it
        with anyio.fail_after(0.15):
            await create(
                sessions,
                CreateRequest(
                    str(project),
                    session_name=name,
                    network="restricted",
                    allowed_hosts=(host,),
                ),
            )
    assert bare.containers(name) == []
    await until(lambda: not left())


async def test_a_session_without_a_network_refuses_prompts_at_once_and_works_otherwise(
    sessions: Sessions, project: Path, name: str, standin: Standin, tmp_path: Path
) -> None:
    created = await create(sessions, CreateRequest(str(project), session_name=name, network="none"))
    try:
        asked = standin.count
        with pytest.raises(SessionNotReady, match="has no network, so it cannot reach"):
            await turns.prompt(await sessions.open(name), "hello")
        result = await commands.run(
            await sessions.open(name), "echo $HTTP_PROXY; pgrep claude; ls /run/claude*"
        )
        assert result.stdout.strip() == ""
        (tmp_path / "file").write_text("content")
        await transfer(
            await sessions.open(name), Direction.TO_CONTAINER, str(tmp_path / "file"), "/tmp/file"
        )
        assert (await commands.run(await sessions.open(name), "cat /tmp/file")).stdout == "content"
        assert standin.since(asked) == ()
        assert created.session.proxy is None
    finally:
        await sessions.destroy(name)


def kill_process(bare: Bare, proxy: str) -> None:
    os.kill(int(bare("inspect", "--format={{.State.Pid}}", proxy)), signal.SIGKILL)


def kill_container(bare: Bare, proxy: str) -> None:
    bare("kill", proxy)


def remove_container(bare: Bare, proxy: str) -> None:
    bare("rm", "--force", proxy)


@pytest.mark.near("looks into the mounted project")
@pytest.mark.per_engine
@pytest.mark.parametrize("harm", [kill_process, kill_container, remove_container])
async def test_a_proxy_that_is_killed_comes_back_and_the_turn_says_so(
    harm: Callable[[Bare, str], None],
    sessions: Sessions,
    restricted: Session,
    project: Path,
    bare: Bare,
    engine: Engine,
    standin: Standin,
    download_port: int,
) -> None:
    assert restricted.proxy is not None
    alias = engine.dialect.host_alias
    command = (
        f"curl -sS http://{alias}:{download_port}/{1 << 50} -D headers -o /dev/null & "
        "until [ -s headers ]; do sleep 0.05; done; touch started; "
        "until [ -e harmed ]; do sleep 0.05; done; wait $!; echo download: $?; "
        # A request waits 10 s for the proxy; on a busy machine its restart may take longer.
        "for try in 1 2 3; do code=$(curl -s -m 25 -o /dev/null -w '%{http_code}' "
        f"http://{alias}:{standin.port}/); [ $code = 000 ] || break; done; echo then: $code"
    )
    found: list[TurnResult] = []

    async def prompt() -> None:
        found.append(await turns.prompt(await sessions.open(restricted.id), bash(command)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(prompt)
        await until((project / "started").exists)
        harm(bare, restricted.proxy.name)
        (project / "harmed").touch()
    (turn,) = found
    assert turn.status is TurnStatus.COMPLETED
    said = str(turn.result).split("\n")
    # The download broke off, and what came then had to wait for the proxy, and reached its goal.
    assert said[-2].startswith("download: ")
    assert said[-2] != "download: 0"
    assert said[-1] == "then: 200"
    assert any(note.startswith("The session's proxy was not running for ") for note in turn.notes)
    await log_with(
        sessions, restricted.id, "the proxy is not running", "the proxy is running again"
    )
    state = bare("inspect", "--format={{.State.Status}}", restricted.proxy.name)
    assert state.strip() == "running"


@pytest.mark.per_engine
async def test_while_the_proxy_cannot_come_back_nothing_can_be_reached(
    sessions: Sessions, restricted: Session, bare: Bare, engine: Engine, download_port: int
) -> None:
    def signal_proxy(name: str) -> None:
        assert restricted.proxy is not None
        bare("exec", restricted.proxy.name, "sh", "-c", f"kill -{name} $(pgrep -x python3)")

    signal_proxy("STOP")
    try:
        url = f"http://{engine.dialect.host_alias}:{download_port}/10"
        result = await commands.run(
            await sessions.open(restricted.id), f"curl -sS -m 2 {url}; env -i curl -sS -m 20 {url}"
        )
        assert result.stdout == ""
        through, past = result.stderr.strip().splitlines()
        assert "timed out" in through
        assert past.startswith(("curl: (6)", "curl: (7)"))  # no such name, or no way there
    finally:
        signal_proxy("CONT")


@pytest.mark.per_engine
async def test_another_program_starts_what_is_missing_when_the_session_is_used_again(
    config: Config, sessions: Sessions, restricted: Session, bare: Bare, standin: Standin
) -> None:
    assert restricted.proxy is not None
    bare("stop", "--time=0", restricted.container_id)
    bare("rm", "--force", restricted.proxy.name)
    async with open_sessions(config) as others:
        turn = await turns.prompt(await others.open(restricted.name), "hello")
        assert turn.status is TurnStatus.COMPLETED
        found = await others.find(restricted.name)
    assert (found.network, found.proxy) == ("restricted", restricted.proxy)


async def peaks(sessions: Sessions, session: Session, bare: Bare) -> tuple[int, int]:
    """The most memory that the proxy and the forwarder ever had, in bytes."""
    assert session.proxy is not None
    most = "cat /proc/[0-9]*/status | awk '/VmHWM/ {if ($2 > m) m = $2} END {print m}'"
    own = await commands.run(
        await sessions.open(session.id),
        "cat /proc/$(pgrep -f proxy.forwarder | head -1)/status | grep VmHWM",
    )
    proxy = int(bare("exec", session.proxy.name, "sh", "-c", most))
    return proxy * 1024, int(own.stdout.split()[1]) * 1024


@pytest.mark.once
@pytest.mark.parametrize("size", [256 * MIB, pytest.param(1024 * MIB, marks=pytest.mark.stress)])
async def test_many_downloads_leave_the_model_its_turn_and_take_no_memory(
    sessions: Sessions,
    restricted: Session,
    bare: Bare,
    engine: Engine,
    download_port: int,
    size: int,
) -> None:
    url = f"http://{engine.dialect.host_alias}:{download_port}"
    before = await peaks(sessions, restricted, bare)
    whole = await commands.run(
        await sessions.open(restricted.id),
        f"curl -sS -o /dev/null -w '%{{size_download}}' {url}/{size}",
    )
    assert whole.stdout == str(size)
    downloads = (
        f"for i in $(seq 50); do curl -s -o /dev/null {url}/endless & done; "
        f"curl -s --limit-rate 1k -o /dev/null {url}/endless & sleep 300"
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commands.run, await sessions.open(restricted.id), downloads)
        flowing = "test $(pgrep -c curl) = 51 && test $(awk '/lo:/ {print $2}' /proc/net/dev) -gt "
        with anyio.fail_after(60):
            while (
                await commands.run(
                    await sessions.open(restricted.id), flowing + str(size + 276 * MIB)
                )
            ).exit_code:
                await anyio.sleep(0.2)
        steps: list[dict[str, Any]] = [
            {"tool": "Bash", "input": {"command": "true"}},
            {"say": "word ", "repeat": 50},
        ]
        turn = await turns.prompt(await sessions.open(restricted.id), script(*steps * 3))
        assert turn.status is TurnStatus.COMPLETED
        still = await commands.run(await sessions.open(restricted.id), "pgrep -c curl")
        assert still.stdout.strip() == "51"  # all of it went on meanwhile
        tasks.cancel_scope.cancel()
    after = await peaks(sessions, restricted, bare)
    # Two pieces of 64 KiB for each connection, and what the kernel does not count here.
    for grown in (after[0] - before[0], after[1] - before[1]):
        assert grown < 64 * MIB
