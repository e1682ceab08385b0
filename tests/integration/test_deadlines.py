"""A session that stops answering: paused, or its agent stopped by a signal."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest

from claude_mcp.contract import operations
from claude_mcp.errors import AgentError, ClaudeMcpError, SessionNotReady
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.turns import commands, prompts
from claude_mcp.sessions.turns.results import TurnStatus

pytestmark = pytest.mark.per_engine

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare

SLOW = "standin: " + json.dumps([{"wait": 200}, {"say": "done"}])
TIME_LIMIT = 60.0
"""Far above what the host needs, and far below for ever."""


async def _command(sessions: Sessions, reference: str) -> Any:
    return await commands.run(
        await sessions.open(reference), "touch /tmp/begun; sleep 300", timeout_seconds=200
    )


async def _prompt(sessions: Sessions, reference: str) -> Any:
    return await prompts.prompt(await sessions.open(reference), SLOW, wait_seconds=200)


async def _follow(sessions: Sessions, reference: str) -> Any:
    handle = await sessions.open(reference)
    turn = await prompts.prompt(handle, SLOW, wait_seconds=0)
    return await prompts.follow(handle, turn.turn_id, wait_seconds=200)


async def _is_under_way(sessions: Sessions, session: Session) -> bool:
    handle = await sessions.open(session.id)
    status = await handle.request(operations.STATUS, {})
    looked = await commands.run(handle, "test -e /tmp/begun")
    return bool(status["turnRunning"]) or looked.exit_code == 0


REQUESTS = {"command": _command, "prompt": _prompt, "follow": _follow}
Ask = Callable[[Sessions, str], Awaitable[Any]]


@pytest.fixture
def paused(bare: Bare, session: Session) -> Iterator[Callable[[], None]]:
    """Pauses the session's container until the test ends."""

    def pause() -> None:
        bare.pause(session.container_id)

    yield pause
    bare("unpause", session.container_id)


async def _failure(ask: Ask, sessions: Sessions, session: Session) -> ClaudeMcpError:
    with anyio.fail_after(TIME_LIMIT), pytest.raises(ClaudeMcpError) as caught:
        await ask(sessions, session.id)
    return caught.value


@pytest.mark.cgroups
@pytest.mark.parametrize(
    "request_name",
    [
        each if each == "command" else pytest.param(each, marks=pytest.mark.once)
        for each in REQUESTS
    ],
)
async def test_a_request_under_way_learns_that_the_container_was_paused(
    sessions: Sessions,
    session: Session,
    paused: Callable[[], None],
    request_name: str,
) -> None:
    async def pause_when_it_runs() -> None:
        while not await _is_under_way(sessions, session):
            await anyio.sleep(0.05)
        await anyio.to_thread.run_sync(paused)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pause_when_it_runs)
        error = await _failure(REQUESTS[request_name], sessions, session)
    assert isinstance(error, SessionNotReady)
    assert "is paused" in error.message


@pytest.mark.cgroups
@pytest.mark.once
async def test_an_interrupt_of_a_paused_session_says_so(
    sessions: Sessions, session: Session, paused: Callable[[], None]
) -> None:
    turn = await prompts.prompt(await sessions.open(session.id), SLOW, wait_seconds=0)
    await anyio.to_thread.run_sync(paused)

    async def interrupt(sessions: Sessions, reference: str) -> Any:
        return await prompts.interrupt(await sessions.open(reference), turn.turn_id)

    error = await _failure(interrupt, sessions, session)
    assert isinstance(error, SessionNotReady)
    assert "is paused" in error.message


@pytest.mark.once
async def test_a_stopped_agent_is_named_as_the_part_that_does_not_answer(
    sessions: Sessions, session: Session
) -> None:
    async def stop_the_agent(sessions: Sessions, reference: str) -> Any:
        command = (
            "for each in /proc/[0-9]*; do case $(tr '\\0' ' ' <$each/cmdline) in "
            "'python3 -I -S -c'*) kill -STOP ${each#/proc/};; esac; done; sleep 300"
        )
        return await commands.run(await sessions.open(reference), command, timeout_seconds=200)

    error = await _failure(stop_the_agent, sessions, session)
    assert isinstance(error, AgentError)
    assert error.message.startswith("The session's agent has not answered for ")
    assert error.message.endswith("although its container runs.")


async def test_a_prompt_whose_container_was_killed_has_failed_and_may_have_been_seen(
    sessions: Sessions, session: Session, bare: Bare
) -> None:
    async def kill_when_it_runs() -> None:
        while not await _is_under_way(sessions, session):
            await anyio.sleep(0.05)
        await anyio.to_thread.run_sync(bare, "kill", session.container_id)

    with anyio.fail_after(TIME_LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill_when_it_runs)
            turn = await _prompt(sessions, session.id)
    assert turn.status is TurnStatus.FAILED
    assert "The model may have seen the prompt" in turn.error
