"""Parts of a cluster are killed while requests are under way, and pods end behind our back."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
import pytest

from claude_mcp.errors import ClaudeMcpError, SessionNotFound
from claude_mcp.sessions.command_state import CommandStatus
from claude_mcp.sessions.create.request import Created, CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.files.transfer import Direction, transfer
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.session import Session, Status
from claude_mcp.sessions.turns import commands, prompts
from claude_mcp.sessions.turns.results import TurnStatus

if TYPE_CHECKING:
    from messages_standin import Standin

    from tests.cluster import Cluster
    from tests.engine_fixtures import Bare

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(400)]

SIZE: Final = 64_000_000
ANSWER_SECONDS: Final = 240.0
"""A bound; an answer usually comes some seconds after the end of an outage."""
OUTAGE_SECONDS: Final = 3.0
WAIT: Final = "while ! test -e /tmp/go; do sleep 0.2; done"
PROGRAMS: Final = [
    pytest.param("kube-apiserver"),
    pytest.param("kubelet", marks=pytest.mark.stress),
    pytest.param("containerd", marks=pytest.mark.stress),
    pytest.param("etcd", marks=pytest.mark.stress),
]


@dataclass
class UnderWay:
    """All that a front end can ask for, and the answers."""

    sessions: Sessions
    session: str
    project: Path
    second: str
    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    answers: dict[str, Any] = field(default_factory=dict)

    async def ask(self, name: str) -> None:
        try:
            self.answers[name] = await getattr(self, f"_{name}")()
        except ClaudeMcpError as error:
            self.answers[name] = error

    async def _turn(self) -> Any:
        count = f"echo once >>/tmp/turns; touch /tmp/asked; {WAIT}"
        steps = [{"tool": "Bash", "input": {"command": count}}, {"say": self.mark}]
        handle = await self.sessions.open(self.session)
        return await prompts.prompt(handle, "standin: " + json.dumps(steps))

    async def _command(self) -> Any:
        handle = await self.sessions.open(self.session)
        return await commands.run(handle, f"echo once >>/tmp/commands; touch /tmp/begun; {WAIT}")

    async def _transfer(self) -> Any:
        handle = await self.sessions.open(self.session)
        target = str(self.project / "out")
        return await transfer(handle, Direction.FROM_CONTAINER, "/tmp/big", target)

    async def _create(self) -> Any:
        request = CreateRequest(str(self.project), session_name=self.second)
        return await create(self.sessions, request)


def outage(cluster: Cluster, program: str) -> None:
    with cluster.outage(program):
        anyio.run(anyio.sleep, OUTAGE_SECONDS)


@pytest.mark.outage
@pytest.mark.parametrize("program", PROGRAMS)
async def test_an_outage_loses_nothing_and_does_nothing_twice(
    program: str,
    cluster: Cluster,
    sessions: Sessions,
    session: Session,
    project: Path,
    bare: Bare,
    standin: Standin,
) -> None:
    handle = await sessions.open(session.id)
    await commands.run(handle, f"head -c {SIZE} /dev/urandom >/tmp/big")
    second = f"{session.name}-second"
    under_way = UnderWay(sessions, session.id, project, second)
    try:
        with anyio.fail_after(ANSWER_SECONDS):
            async with anyio.create_task_group() as tasks:
                for name in ("turn", "command"):
                    tasks.start_soon(under_way.ask, name)
                while (await commands.run(handle, "test -e /tmp/begun -a -e /tmp/asked")).exit_code:
                    await anyio.sleep(0.2)
                for name in ("transfer", "create"):
                    tasks.start_soon(under_way.ask, name)
                await anyio.to_thread.run_sync(outage, cluster, program)
                await _until(sessions, session.id, "touch /tmp/go")
        print(under_way.answers)  # noqa: T201 shown if this fails
        await _check_answers(under_way, standin)
    finally:
        bare.remove_all(second)


async def _until(sessions: Sessions, session: str, command: str) -> None:
    """A careful caller asks again until the engine answers."""
    while True:
        try:
            await commands.run(await sessions.open(session), command)
            return
        except SessionNotFound:
            raise
        except ClaudeMcpError:
            await anyio.sleep(0.5)


async def _check_answers(under_way: UnderWay, standin: Standin) -> None:
    answers = under_way.answers
    handle = await under_way.sessions.open(under_way.session)
    if isinstance(answers["turn"], ClaudeMcpError):
        answers["turn"] = await prompts.follow(handle, None)
    assert answers["turn"].status is TurnStatus.COMPLETED, answers["turn"]
    assert answers["turn"].result == under_way.mark
    if not isinstance(answers["command"], ClaudeMcpError):
        assert answers["command"].status is CommandStatus.COMPLETED
        assert answers["command"].exit_code == 0
    done = await commands.run(handle, "cat /tmp/turns /tmp/commands")
    assert done.stdout == "once\nonce\n"
    target = under_way.project / "out"
    if isinstance(answers["transfer"], ClaudeMcpError):
        assert not target.exists()
        await transfer(handle, Direction.FROM_CONTAINER, "/tmp/big", str(target))
    assert target.stat().st_size == SIZE
    assert [each.name for each in under_way.project.iterdir() if each.name.startswith(".")] == []
    listed = {each.session.name: each.session.status for each in await under_way.sessions.list()}
    if isinstance(answers["create"], Created):
        assert listed[under_way.second] is Status.RUNNING
    else:
        assert listed.get(under_way.second) in (None, Status.CREATING, Status.BROKEN)


@pytest.mark.stress
async def test_evicted_session_says_that_its_files_are_gone(
    sessions: Sessions, project: Path, name: str, bare: Bare
) -> None:
    """The node evicts a pod that writes more than its limit of the disk."""
    request = CreateRequest(str(project), session_name=name, limits={"disk": "100m"})
    created = await create(sessions, request)
    handle = await sessions.open(created.session.id)
    await commands.run(handle, "head -c 200000000 /dev/zero >/workspace/big")
    reason = ""
    with anyio.fail_after(ANSWER_SECONDS):
        while reason != "Evicted":
            await anyio.sleep(1)
            reason = bare("get", "pods", f"--selector=claude-mcp.id={created.session.container_id}",
                          "--output=jsonpath={.items[*].status.reason}")  # fmt: skip
    with pytest.raises(ClaudeMcpError, match="Evicted"):
        await commands.run(await sessions.open(created.session.id), "true")
