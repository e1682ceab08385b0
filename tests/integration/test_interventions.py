"""A container that somebody pauses, stops, restarts or removes while requests are under way."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
import pytest

from claude_mcp.errors import (
    AgentError,
    ClaudeMcpError,
    EngineError,
    SessionNotFound,
    SessionNotReady,
    TransferError,
)
from claude_mcp.sessions import labels
from claude_mcp.sessions.channel.silence import StoppedMeanwhile
from claude_mcp.sessions.create.request import Created, CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.files.transfer import Direction, transfer
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.session import Session, Status
from claude_mcp.sessions.turns import commands, prompts
from claude_mcp.sessions.turns.results import TurnStatus
from tests.brakes import Brake, fit_brake

pytestmark = pytest.mark.per_engine

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare

Intervene = Callable[[Sessions, "Bare", str], Awaitable[None]]
CALLERS_SECONDS = 3600.0
"""Far longer than a slow machine takes until the intervention: a caller must not give up before."""
TIME_LIMIT = 60.0
"""Far above what the host needs after an intervention."""
BLINK_SECONDS = 2.0
SIZE = 32_000_000
"""More than fits into the pipes between the engine and us."""
WAIT = "while ! test -e /tmp/go; do sleep 1; done"
SEEN = "The model may have seen the prompt"


@pytest.fixture
def brake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Brake]:
    brake = fit_brake(monkeypatch)
    yield brake
    brake.release()


async def _pause(sessions: Sessions, bare: Bare, container: str) -> None:
    await anyio.to_thread.run_sync(bare.pause, container)


async def _blink(sessions: Sessions, bare: Bare, container: str) -> None:
    await _pause(sessions, bare, container)
    await anyio.sleep(BLINK_SECONDS)  # shorter than a silence that is noticed
    await anyio.to_thread.run_sync(bare, "unpause", container)


async def _stop(sessions: Sessions, bare: Bare, container: str) -> None:
    def stop() -> None:
        while "true" in bare("inspect", "--format={{.State.Running}}", container):
            # On a busy machine, Podman gives up before the container has ended.
            bare("stop", "--time=1", container, check=False)

    await anyio.to_thread.run_sync(stop)


def _by_engine(*args: str) -> Intervene:
    async def intervene(sessions: Sessions, bare: Bare, container: str) -> None:
        await anyio.to_thread.run_sync(lambda: bare(*args, container))

    return intervene


INTERVENTIONS: Final[dict[str, Intervene]] = {
    "pause": _pause,
    "unpause": _blink,
    "restart": _by_engine("restart", "--time=1"),
    "stop": _stop,
    "kill": _by_engine("kill"),
    "rm": _by_engine("rm", "--force"),
}
PAUSES = pytest.mark.cgroups
STRESS = pytest.mark.stress
MARKS: Final = {"pause": (PAUSES,), "unpause": (PAUSES, STRESS), "kill": (STRESS,)}
NAMES: Final = [pytest.param(name, marks=MARKS.get(name, ())) for name in INTERVENTIONS]

PAUSED = (SessionNotReady, "is paused")
STOPPED = (StoppedMeanwhile, "The session stopped before it answered.")
REMOVED = (SessionNotFound, "The session was removed before it answered.")
WANTED: Final[dict[str, dict[str, Any]]] = {
    "pause": {"turn": PAUSED, "command": PAUSED, "list": Status.PAUSED},
    "unpause": {"turn": TurnStatus.COMPLETED, "command": 0, "list": Status.RUNNING},
    "restart": {
        "turn": TurnStatus.FAILED,
        "command": (AgentError, "before it answered"),
        "list": Status.RUNNING,
    },
    "stop": {"turn": TurnStatus.FAILED, "command": STOPPED, "list": Status.STOPPED},
    "kill": {"turn": TurnStatus.FAILED, "command": STOPPED, "list": Status.STOPPED},
    "rm": {"turn": REMOVED, "command": REMOVED, "list": None},
}
"""What each answers: its value, or the error's class and words."""
TRANSFER_ERRORS = (TransferError, SessionNotFound, SessionNotReady, AgentError, EngineError)


class UnderWay:
    """A turn, a command and two transfers in one session, and the answers that they have."""

    def __init__(self, sessions: Sessions, session: Session, directory: Path) -> None:
        self._sessions, self._session = sessions, session
        self.source, self.target = directory / "source", directory / "target"
        self.answers: dict[str, Any] = {}

    async def ask(self, name: str) -> None:
        handle = await self._sessions.open(self._session.id)
        try:
            self.answers[name] = await getattr(self, f"_{name}")(handle)
        except ClaudeMcpError as error:
            self.answers[name] = error

    async def _turn(self, handle: Any) -> Any:
        command = f"touch /tmp/asked; {WAIT}"
        steps = [{"tool": "Bash", "input": {"command": command}}, {"say": "done"}]
        prompt = "standin: " + json.dumps(steps)
        turn = await prompts.prompt(handle, prompt, wait_seconds=CALLERS_SECONDS)
        if turn.status is TurnStatus.FAILED:
            assert SEEN in (turn.error or "")
        return turn.status

    async def _command(self, handle: Any) -> Any:
        command = f"touch /tmp/begun; {WAIT}"
        result = await commands.run(handle, command, timeout_seconds=CALLERS_SECONDS)
        return result.exit_code

    async def _into(self, handle: Any) -> Any:
        return await transfer(handle, Direction.TO_CONTAINER, str(self.source), "/tmp/arrived")

    async def _out(self, handle: Any) -> Any:
        return await transfer(handle, Direction.FROM_CONTAINER, "/tmp/big", str(self.target))

    async def until_begun(self) -> None:
        handle = await self._sessions.open(self._session.id)
        while True:
            begun = await commands.run(handle, "test -e /tmp/begun -a -e /tmp/asked")
            if begun.exit_code == 0:
                return


async def _listed(sessions: Sessions, session: Session) -> Status | None:
    listed = [each.session for each in await sessions.list()]
    return next((each.status for each in listed if each.id == session.id), None)


def _check(answer: Any, wanted: Any) -> None:
    if not isinstance(wanted, tuple):
        assert answer == wanted
        return
    kind, words = wanted
    assert isinstance(answer, kind), answer
    assert words in str(answer)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("transferred", ["out", pytest.param("into", marks=STRESS)])
@pytest.mark.parametrize("intervention", NAMES)
async def test_all_that_is_under_way_is_answered_rightly_and_in_time(
    sessions: Sessions,
    session: Session,
    bare: Bare,
    brake: Brake,
    tmp_path: Path,
    intervention: str,
    transferred: str,
) -> None:
    under_way = UnderWay(sessions, session, tmp_path)
    under_way.source.write_bytes(bytes(SIZE))
    await commands.run(await sessions.open(session.id), f"head -c {SIZE} /dev/zero >/tmp/big")

    async def intervene() -> None:
        await INTERVENTIONS[intervention](sessions, bare, session.container_id)
        if intervention == "unpause":
            await commands.run(await sessions.open(session.id), "touch /tmp/go")

    async with anyio.create_task_group() as tasks:
        for name in ("turn", "command"):
            tasks.start_soon(under_way.ask, name)
        await under_way.until_begun()
        tasks.start_soon(under_way.ask, transferred)
        await brake.until_reached()
        tasks.cancel_scope.deadline = anyio.current_time() + TIME_LIMIT
        tasks.start_soon(intervene)
        await anyio.sleep(0.5)  # Docker lets nobody touch a container while it copies
        brake.release()
    answers = under_way.answers
    assert len(answers) == 3, f"no answer in time but of {answers}"
    answers["list"] = await _listed(sessions, session)
    for name, wanted in WANTED[intervention].items():
        _check(answers[name], wanted)
    complete = not isinstance(answers[transferred], ClaudeMcpError)
    assert complete or isinstance(answers[transferred], TRANSFER_ERRORS)
    if transferred == "out":
        assert under_way.target.exists() == complete
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []
    if intervention == "pause":
        bare("unpause", session.container_id)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "intervention",
    [pytest.param(each, marks=() if each == "rm" else STRESS) for each in INTERVENTIONS],
)
async def test_a_session_that_is_being_created_is_whole_or_nothing_is_left(
    sessions: Sessions, project: Path, name: str, bare: Bare, intervention: str
) -> None:
    outcome: list[Created | ClaudeMcpError] = []

    async def ask() -> None:
        try:
            outcome.append(await create(sessions, CreateRequest(str(project), session_name=name)))
        except ClaudeMcpError as error:
            outcome.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.cancel_scope.deadline = anyio.current_time() + TIME_LIMIT
        tasks.start_soon(ask)
        filters: tuple[str, ...] = ("ps", "-q", f"--filter=label={labels.NAME}={name}")
        if intervention == "rm":
            filters = (*filters, "-a")
        while not (found := (await anyio.to_thread.run_sync(lambda: bare(*filters))).split()):
            await anyio.sleep(0)
        args = {"pause": "pause", "unpause": "pause", "rm": "rm --force"}
        verb = args.get(intervention, intervention).split()
        bare(*verb, found[0], check=False)
        if intervention == "unpause":
            bare("unpause", found[0], check=False)
    assert outcome, "create did not answer in time"
    left = bare.containers(name)
    if isinstance(outcome[0], ClaudeMcpError):
        assert left == []
        assert intervention != "pause" or "paused" in outcome[0].message
    elif intervention == "pause":
        bare("unpause", found[0], check=False)


@pytest.mark.docker
@pytest.mark.stress
async def test_a_container_that_docker_has_locked_hides_no_other_session(
    sessions: Sessions, session: Session, bare: Bare, project: Path
) -> None:
    """Docker describes no container while files of it are copied out."""
    handle = await sessions.open(session.id)
    await commands.run(handle, f"head -c {SIZE} /dev/zero >/tmp/big")
    other = await create(sessions, CreateRequest(str(project)))
    copying = bare.popen("cp", f"{session.container_id}:/tmp/big", "-")
    assert copying.stdout is not None
    try:
        await anyio.to_thread.run_sync(copying.stdout.read, 1)
        with anyio.fail_after(TIME_LIMIT):
            listed = {each.session.id: each.session for each in await sessions.list()}
        assert listed[other.session.id].project_path == str(project)
        locked = listed[session.id]
        assert (locked.name, locked.status) == (session.name, Status.RUNNING)
        assert locked.project_path == labels.NOT_DESCRIBED
    finally:
        copying.kill()
        copying.communicate()
        await sessions.destroy(other.session.id)
