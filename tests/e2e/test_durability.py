"""Turns outlive clients, servers and Claude Code: asked once, answered once, never lost."""

from __future__ import annotations

import os
import random
import signal
import sys
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from messages_standin import Standin

from claude_mcp.agent.turns.quiet import QUIET_SECONDS
from claude_mcp.engine.engine import Engine
from tests.peers import Peer, Wire, children_of, processes, script

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare

Call = Callable[..., Any]
ERAS = ["legacy", "auto"]
ERAS_TESTED = [pytest.param("legacy", marks=pytest.mark.once), "auto"]
PATIENCE_SECONDS = 60
HELD_SECONDS = 90
"""Where an engine does not tell the end of the input, the agent gives up a channel after 60 s."""
SIGNAL_CLAUDE = (
    "for p in /proc/[0-9]*; do case $(tr '\\0' ' ' < $p/cmdline 2>/dev/null) in "
    "claude\\ *) kill -{} ${{p#/proc/}};; esac; done"
)
SESSIONS = 4
# What CI runs is a part of the whole, which CLAUDE_MCP_STRESS=1 runs: 200 turns and 30 kills.
WHOLE = bool(os.environ.get("CLAUDE_MCP_STRESS"))
TURNS_PER_SESSION = 50 if WHOLE else 8
KILLS = 30 if WHOLE else 5


@pytest.fixture
async def session(start: Call, project: Path, name: str) -> Any:
    async with start() as call:
        await call("create_session", projectPath=str(project), sessionName=name)
    yield name
    async with start() as call:
        await call("destroy_session", sessionId=name)


async def begun(call: Peer, name: str, **arguments: Any) -> str:
    turn = await call("execute_in_session", sessionId=name, waitSeconds=0, **arguments)
    assert turn["status"] == "running"
    return str(turn["turnId"])


async def seen(bare: Bare, container: str, mark: str, *, there: bool) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while (mark in bare.processes(container)) is not there:
            await anyio.sleep(0.05)


@pytest.mark.once
@pytest.mark.parametrize("era", ERAS_TESTED)
async def test_long_turn_answers_running_in_time_and_then_its_result(
    start: Call, era: str, session: str
) -> None:
    async with start(era) as call:
        waits = {"tool": "Bash", "input": {"command": "until [ -e go ]; do sleep 0.1; done"}}
        prompt = script(waits, {"say": "took its time"})
        turn = await call("execute_in_session", sessionId=session, prompt=prompt, waitSeconds=1)
        assert (turn["status"], turn["result"]) == ("running", None)
        await call("execute_command", sessionId=session, command="touch go")
        for _ in range(2):
            ended = await call("get_turn", sessionId=session, turnId=turn["turnId"])
            assert (ended["status"], ended["result"]) == ("completed", "took its time")


@pytest.mark.stress
async def test_turn_of_90_s_is_followed_by_a_client_that_gives_up_after_60_s(
    start: Call, session: str
) -> None:
    async with start() as call:
        prompt = script({"wait": 90}, {"say": "took its time"})
        with anyio.fail_after(60):
            turn = await call("execute_in_session", sessionId=session, prompt=prompt)
        assert turn["status"] == "running"
        while turn["status"] == "running":
            with anyio.fail_after(60):
                turn = await call("get_turn", sessionId=session, turnId=turn["turnId"])
        assert (turn["status"], turn["result"]) == ("completed", "took its time")


@pytest.mark.stress
async def test_silent_claude_is_noticed_and_its_turn_can_be_cancelled(
    start: Call, session: str, bare: Bare, standin: Standin
) -> None:
    container = bare.containers(session)[0]
    async with start() as call:
        turn = await begun(call, session, prompt=script({"wait": 50}))
        waiting = await call(
            "get_turn", sessionId=session, turnId=turn, waitSeconds=QUIET_SECONDS + 5
        )
        assert "It is connected, so the model may still be answering." in waiting["notes"][0]
        await call("cancel_turn", sessionId=session)
        bare("exec", container, "sh", "-c", SIGNAL_CLAUDE.format("STOP"))
        turn = await begun(call, session, prompt="unread")
        stuck = await call(
            "get_turn", sessionId=session, turnId=turn, waitSeconds=QUIET_SECONDS + 5
        )
        assert "Claude Code has not read its input for " in stuck["notes"][0]
        cancelled = await call("cancel_turn", sessionId=session)
        assert cancelled["status"] == "cancelled"
        after = await call("execute_in_session", sessionId=session, prompt=script({"say": "back"}))
        assert after["result"] == "back"
    assert [each for each in standin.model_calls if "unread" in each.prompts] == []


@pytest.mark.cluster
@pytest.mark.per_engine
@pytest.mark.parametrize("era", ERAS_TESTED)
async def test_cancelled_call_interrupts_its_turn_and_the_conversation_goes_on(
    start: Call, era: str, session: str, bare: Bare
) -> None:
    container = bare.containers(session)[0]
    async with start(era) as call:
        await call("execute_in_session", sessionId=session, prompt="The word is quokka.")
        steps = script(
            {"tool": "Bash", "input": {"command": "echo; setsid sleep 5555 & sleep 5555"}}
        )

        async def ask() -> None:
            await call("execute_in_session", sessionId=session, prompt=steps)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await seen(bare, container, "sleep 5555", there=True)
            tasks.cancel_scope.cancel()
        await seen(bare, container, "sleep 5555", there=False)
        ended = await call("get_turn", sessionId=session)
        assert ended["status"] == "cancelled"
        after = await call("execute_in_session", sessionId=session, prompt=script({"recall": True}))
        assert "The word is quokka." in after["result"]


@pytest.mark.cluster
@pytest.mark.per_engine
@pytest.mark.parametrize(
    "how",
    [
        pytest.param(None, marks=pytest.mark.once),
        pytest.param(signal.SIGTERM, marks=pytest.mark.once),
        signal.SIGKILL,
    ],
)
async def test_client_or_server_that_vanishes_does_not_stop_the_turn(
    start: Call, engine: Engine, environ: dict[str, str], how: signal.Signals | None, session: str
) -> None:
    turn_id = str(uuid.uuid4())
    steps = script({"tool": "Bash", "input": {"command": "echo; sleep 3"}}, {"say": "not stopped"})
    arguments = {"sessionId": session, "prompt": steps, "turnId": turn_id}
    argv = [sys.executable, "-m", "claude_mcp", f"--engine={engine.dialect.name}", "serve"]
    with anyio.fail_after(PATIENCE_SECONDS):
        async with Wire.open(argv, environ) as wire:
            await wire.begin("tools/call", name="execute_in_session", arguments=arguments)
            await wire.until("Bash: echo; sleep 3")
            await wire.end(how)
    async with start() as call:
        ended = await call("get_turn", sessionId=session, turnId=turn_id)
        assert (ended["status"], ended["result"]) == ("completed", "not stopped")


@pytest.mark.once
async def test_turn_is_cancelled_by_another_client(start: Call, session: str) -> None:
    async with start() as one, start("legacy") as other:
        turn = await begun(one, session, prompt=script({"wait": 60}))
        refused = await other.refused("execute_in_session", sessionId=session, prompt="me too")
        assert f"busy with turn {turn}" in refused
        cancelled = await other("cancel_turn", sessionId=session)
        assert (cancelled["turnId"], cancelled["status"]) == (turn, "cancelled")
        assert (await one("get_turn", sessionId=session))["status"] == "cancelled"
        assert (await one("cancel_turn", sessionId=session))["status"] is None


class Line:
    """The way to whichever server lives at the moment."""

    def __init__(self) -> None:
        self._peer: Peer | None = None
        self._there = anyio.Event()
        self.kills = 0

    def connect(self, peer: Peer) -> None:
        self._peer = peer
        self._there.set()

    def break_off(self) -> None:
        assert self._peer is not None
        os.kill(self._peer.pid, signal.SIGKILL)
        self._there = anyio.Event()
        self.kills += 1

    async def ask(self, **arguments: Any) -> dict[str, Any]:
        """Ask until there is an answer, as a careful caller does."""
        while True:
            await self._there.wait()
            assert self._peer is not None
            try:
                return await self._peer("execute_in_session", **arguments)
            except AssertionError:
                raise
            except Exception:
                await anyio.sleep(0.1)  # the server died; the next one takes up the turn


async def keep_killing(start: Call, line: Line, done: anyio.Event, choose: random.Random) -> None:
    """A server after the other, each killed at a random moment."""
    while not done.is_set():
        try:
            async with start(choose.choice(ERAS)) as peer:
                line.connect(peer)
                with anyio.move_on_after(choose.uniform(0.05, 1.5)):
                    await done.wait()
                if not done.is_set():
                    line.break_off()
        except* Exception:
            assert line.kills  # only a killed server may end badly


@pytest.fixture
async def names(start: Call, tmp_path: Path, name: str, bare: Bare) -> Any:
    """Names of sessions that are there; the first of all begins each of them."""
    there = [f"{name}-{number}" for number in range(SESSIONS)]
    try:
        async with start() as call:
            for each in there:
                project = tmp_path / each
                project.mkdir()
                await call("create_session", projectPath=str(project), sessionName=each)
        yield there
    finally:
        for each in there:
            bare.remove_all(each)


@pytest.mark.timeout(600)
@pytest.mark.once
async def test_every_prompt_is_seen_once_and_answered_once_though_servers_are_killed(
    start: Call, names: list[str], name: str, bare: Bare, standin: Standin
) -> None:
    choose = random.Random()
    line, done = Line(), anyio.Event()
    results: dict[str, list[str | None]] = {}

    async def caller(session: str) -> None:
        number = 0
        while number < TURNS_PER_SESSION or line.kills < KILLS:
            number += 1
            mark = f"{session} {number}"
            prompt = script({"wait": round(choose.uniform(0, 1.2), 2)}, {"say": mark})
            wanted = {"sessionId": session, "prompt": prompt, "turnId": str(uuid.uuid4())}
            answer = await line.ask(**wanted, waitSeconds=20)
            while answer["status"] == "running":  # on a busy machine
                answer = await line.ask(**wanted, waitSeconds=20)
            assert answer["status"] == "completed", answer
            results[prompt + mark] = [answer["result"], mark]

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_killing, start, line, done, choose)
        async with anyio.create_task_group() as callers:
            for session in names:
                callers.start_soon(caller, session)
        done.set()
    assert line.kills >= KILLS
    assert len(results) >= SESSIONS * TURNS_PER_SESSION
    assert [pair for pair in results.values() if pair[0] != pair[1]] == []
    seen_prompts = Counter(each.prompts[-1] for each in standin.model_calls if each.prompts)
    asked = [prompt for prompt in seen_prompts if f'"say": "{name}-' in prompt]
    assert {prompt: seen_prompts[prompt] for prompt in asked if seen_prompts[prompt] != 1} == {}
    assert len(asked) == len(results)
    containers = [bare.containers(session)[0] for session in names]
    held_open = ["something"]
    with anyio.move_on_after(HELD_SECONDS):
        while held_open:
            await anyio.sleep(0.1)
            held_open = [
                f"{pid} (of {parent}): {command[:300]}"
                for pid, (parent, command) in processes().items()
                if "exec" in command and any(each in command for each in containers)
            ]
    assert held_open == []


@pytest.mark.once
@pytest.mark.timeout(600)
async def test_claude_killed_at_random_loses_no_result_and_repeats_no_prompt(
    start: Call, names: list[str], name: str, standin: Standin
) -> None:
    choose = random.Random()
    kill = SIGNAL_CLAUDE.format("KILL")
    outcomes: Counter[str] = Counter()
    all_killed = anyio.Event()

    async def caller(call: Peer, session: str) -> None:
        for number in range(TURNS_PER_SESSION):
            if number == TURNS_PER_SESSION - 1:  # if that meets one that is dying, it may say so
                await all_killed.wait()
            mark = f"{session} {number}"
            prompt = script({"wait": round(choose.uniform(0, 0.6), 2)}, {"say": mark})
            turn_id = str(uuid.uuid4())
            arguments = {"sessionId": session, "prompt": prompt, "turnId": turn_id}
            answer = await call("execute_in_session", **arguments)
            outcomes[answer["status"]] += 1
            if answer["status"] == "failed":
                assert "The model may have seen the prompt" in answer["error"]
            else:
                assert answer["result"] == mark
            assert await call("execute_in_session", **arguments) == answer

    async def killer(call: Peer) -> None:
        for _ in range(KILLS):
            await anyio.sleep(choose.uniform(0, 1.0))
            await call("execute_command", sessionId=choose.choice(names), command=kill)
        all_killed.set()

    async with start() as call, start() as other:
        for session in names:
            await call("execute_in_session", sessionId=session, prompt=f"The word is {session}.")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(killer, other)
            for session in names:
                tasks.start_soon(caller, call, session)
        with anyio.fail_after(PATIENCE_SECONDS):
            while len(children_of(call.pid)) > SESSIONS:
                await anyio.sleep(0.05)
        for session in names:
            recalled = await call(
                "execute_in_session", sessionId=session, prompt=script({"recall": True})
            )
            assert f"The word is {session}." in (recalled["result"] or ""), recalled
    assert outcomes["completed"] + outcomes["failed"] == SESSIONS * TURNS_PER_SESSION
    assert outcomes["failed"] <= KILLS
    times = Counter(each.prompts[-1] for each in standin.model_calls if each.prompts)
    assert {p: n for p, n in times.items() if f'"say": "{name}-' in p and n > 1} == {}
