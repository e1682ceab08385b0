"""What a cluster takes away: memory, a pod, its node. The caller is told what, and what is lost."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from claude_mcp.config import load
from claude_mcp.engine.engine import ContainerNotFound
from claude_mcp.engine.kubernetes import marks
from claude_mcp.errors import (
    AgentError,
    ClaudeMcpError,
    EngineUnavailable,
    SessionNotFound,
    SessionNotReady,
    TransferError,
)
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.files.transfer import Direction, transfer
from claude_mcp.sessions.outcomes import Listed
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import Session, Status
from claude_mcp.sessions.turns import commands, prompts
from claude_mcp.sessions.turns.results import TurnResult, TurnStatus

if TYPE_CHECKING:
    from tests.cluster import Cluster
    from tests.engine_fixtures import Bare

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(400)]

ANSWER_SECONDS: Final = 60.0
"""A bound; an answer usually comes some seconds after the loss."""
NODE_LOST_SECONDS: Final = 120.0
"""How long the cluster may take to give up a node: it waits for 40 s, and for the toleration."""
HOG: Final = "python3 -c 'x = b\"x\" * (1 << 30)'"
KILLED: Final = "Out of memory: the kernel killed 1 process in the session; its limit is 400 MiB."
SMALL: Final = {"memory": "400m"}


class UnderWay:
    """A turn and a command of a session that end when somebody else ends them."""

    def __init__(self, sessions: Sessions, session: Session) -> None:
        self._sessions = sessions
        self._session = session
        self.turn: TurnResult | ClaudeMcpError | None = None
        self.command: object = None

    async def _prompt(self) -> None:
        steps = [{"tool": "Bash", "input": {"command": "touch /tmp/asked; sleep 300"}}, {"say": ""}]
        try:
            handle = await self._sessions.open(self._session.id)
            self.turn = await prompts.prompt(handle, "standin: " + json.dumps(steps))
        except ClaudeMcpError as error:
            self.turn = error

    async def _command(self) -> None:
        try:
            handle = await self._sessions.open(self._session.id)
            self.command = await commands.run(handle, "touch /tmp/begun; sleep 300")
        except ClaudeMcpError as error:
            self.command = error

    async def lose(self, loss: Callable[[], None], seconds: float = ANSWER_SECONDS) -> None:
        """Returns once both have been answered."""
        with anyio.fail_after(seconds):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._prompt)
                tasks.start_soon(self._command)
                handle = await self._sessions.open(self._session.id)
                while (await commands.run(handle, "test -e /tmp/begun -a -e /tmp/asked")).exit_code:
                    await anyio.sleep(0.2)
                await anyio.to_thread.run_sync(loss)


async def _small(sessions: Sessions, project: Path, name: str) -> Session:
    request = CreateRequest(str(project), session_name=name, limits=SMALL)
    return (await create(sessions, request)).session


def _bash(command: str) -> str:
    return "standin: " + json.dumps(
        [{"tool": "Bash", "input": {"command": command}}, {"say": "ok"}]
    )


async def test_a_command_or_a_turn_that_takes_all_memory_is_told_so_and_the_session_goes_on(
    sessions: Sessions, project: Path, name: str
) -> None:
    handle = await sessions.open((await _small(sessions, project, name)).id)
    done = await commands.run(handle, HOG)
    assert (done.exit_code, done.notes) == (137, (KILLED,))
    turn = await prompts.prompt(handle, _bash(HOG))
    assert (turn.status, turn.result) == (TurnStatus.COMPLETED, "ok")
    assert any(KILLED in each for each in (await commands.logs(handle))[1])


async def test_a_session_that_is_killed_whole_for_memory_says_so_and_goes_on(
    sessions: Sessions, project: Path, name: str, cluster: Cluster
) -> None:
    """Newer kernels kill all of a container at once, the agent too."""
    session = await _small(sessions, project, name)
    handle = await sessions.open(session.id)
    assert (await prompts.prompt(handle, _bash("echo kept >kept"))).result == "ok"
    under_way = UnderWay(sessions, session)
    await under_way.lose(lambda: cluster.take_memory(session.container_id))
    # Which of the two is said depends on how soon the node has started it again.
    said = str(under_way.command)
    assert isinstance(under_way.command, AgentError), under_way.command
    assert "session stopped before it answered" in said or "session restarted" in said
    assert isinstance(under_way.turn, TurnResult), under_way.turn
    assert under_way.turn.status is TurnStatus.FAILED
    with anyio.fail_after(ANSWER_SECONDS):
        done = await commands.run(await sessions.open(session.id), "cat kept")
        assert done.stdout == "kept\n"
        # The API server learns some seconds later that it was killed, and that it runs again.
        while not (now := (await _listed(sessions, session)).session).restarted or (
            now.status is not Status.RUNNING
        ):
            await anyio.sleep(0.5)


async def _listed(sessions: Sessions, session: Session) -> Listed:
    [found] = [each for each in await sessions.list() if each.session.id == session.id]
    return found


async def test_a_pod_that_is_deleted_under_a_turn_is_a_session_that_is_gone(
    sessions: Sessions, session: Session, bare: Bare
) -> None:
    under_way = UnderWay(sessions, session)
    await under_way.lose(lambda: bare.remove(session.container_id))
    assert isinstance(under_way.turn, SessionNotFound), under_way.turn
    assert isinstance(under_way.command, SessionNotFound), under_way.command
    assert session.id not in [each.session.id for each in await sessions.list()]
    assert not (await sessions.destroy(session.id)).existed


@pytest.mark.stress
async def test_a_pod_that_is_deleted_under_a_transfer_leaves_no_half_of_it(
    sessions: Sessions, session: Session, project: Path, bare: Bare
) -> None:
    handle = await sessions.open(session.id)
    await commands.run(handle, "head -c 400000000 /dev/urandom >/tmp/big")
    target = project / "out"
    with anyio.fail_after(ANSWER_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_delete_when_begun, project, bare, session)
            with pytest.raises((ContainerNotFound, SessionNotFound, TransferError)):
                await transfer(handle, Direction.FROM_CONTAINER, "/tmp/big", str(target))
    assert [*project.iterdir()] == []


async def _delete_when_begun(project: Path, bare: Bare, session: Session) -> None:
    while not [*project.iterdir()]:
        await anyio.sleep(0.01)
    await anyio.to_thread.run_sync(bare.remove, session.container_id)


async def test_a_pod_that_is_deleted_during_its_creation_is_not_waited_for(
    environ: dict[str, str], project: Path, name: str, bare: Bare
) -> None:
    """No node is good enough for it, so that it is not there before it is deleted."""
    environ["CLAUDE_MCP_KUBERNETES_NODE_SELECTOR"] = "kubernetes.io/hostname=nowhere"
    errors: list[ClaudeMcpError] = []

    async with open_sessions(load(environ, engine="kubernetes")) as sessions:

        async def begin() -> None:
            try:
                await create(sessions, CreateRequest(str(project), session_name=name))
            except ClaudeMcpError as error:
                errors.append(error)

        with anyio.fail_after(ANSWER_SECONDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(begin)
                while not (made := await anyio.to_thread.run_sync(bare.containers, name)):
                    await anyio.sleep(0.05)
                await anyio.to_thread.run_sync(bare.remove, made[0])
    assert f"has no container {made[0]}" in str(errors), errors
    assert bare.containers(name) == []


@contextmanager
def _without_memory(cluster: Cluster) -> Iterator[None]:
    """The node takes what it has for too little. It is the kubelet that evicts, not the kernel."""
    settings = cluster.state / "kubelet.yaml"
    before = settings.read_text()
    # All but 1 GiB, which the node needs to let its pods exist at all.
    total = int(re.findall(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text())[0])
    short = re.sub(r"memory\.available: \w+", f"memory.available: {total - (1 << 20)}Ki", before)
    assert short != before
    settings.write_text(short + "evictionPressureTransitionPeriod: 1s\n")
    try:
        cluster.kill("kubelet")
        yield
    finally:
        settings.write_text(before)
        cluster.kill("kubelet")
        cluster.wait_for("kubelet")


@pytest.mark.outage
@pytest.mark.stress
async def test_a_session_that_is_evicted_for_memory_says_so_and_is_destroyed_without_its_work(
    sessions: Sessions, session: Session, cluster: Cluster, bare: Bare
) -> None:
    under_way = UnderWay(sessions, session)

    def evict() -> None:
        with _without_memory(cluster):
            bare(
                "wait", "pod", f"--selector=claude-mcp.id={session.container_id}",
                "--for=jsonpath={.status.reason}=Evicted", "--timeout=60s",
            )  # fmt: skip

    await under_way.lose(evict, 3 * ANSWER_SECONDS)
    for answer in (under_way.turn, under_way.command):
        assert isinstance(answer, SessionNotReady), answer
        assert "Evicted: The node was low on resource: memory" in str(answer)
        assert "files and conversation are gone" in str(answer)
    with pytest.raises(SessionNotReady, match="Evicted"):
        await commands.run(await sessions.open(session.id), "true")
    listed = await _listed(sessions, session)
    assert listed.session.status is Status.BROKEN
    assert "low on resource: memory" in listed.session.ended
    assert (await sessions.destroy(session.id)).existed


@pytest.mark.outage
@pytest.mark.stress
async def test_a_session_whose_node_is_lost_says_so_and_is_gone_when_the_cluster_gives_it_up(
    sessions: Sessions, session: Session, cluster: Cluster
) -> None:
    async def look() -> None:
        with pytest.raises(EngineUnavailable, match="dialing backend") as caught:
            await commands.run(await sessions.open(session.id), "true")
        assert "node may be down" in (caught.value.hint or "")
        listed = await _listed(sessions, session)
        assert "dialing backend" in (listed.problem or "")

    def lose() -> None:
        with cluster.outage("kubelet"):
            cluster.admin(
                "wait", "node", "--all", "--for=condition=Ready=Unknown",
                f"--timeout={NODE_LOST_SECONDS:g}s",
            )  # fmt: skip
            anyio.from_thread.run(look)
            # The cluster's controller does this after 300 s, the toleration that pods are given.
            cluster.admin("delete", "pod", marks.pod_name(session.container_id))

    under_way = UnderWay(sessions, session)
    await under_way.lose(lose, 2 * NODE_LOST_SECONDS)
    assert isinstance(under_way.turn, SessionNotFound), under_way.turn
    assert isinstance(under_way.command, SessionNotFound), under_way.command
    with pytest.raises(SessionNotFound):
        await commands.run(await sessions.open(session.id), "true")
