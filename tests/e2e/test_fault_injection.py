"""Servers, agents and Claude Code are killed at random: nothing is lost, and nothing done twice.

`CLAUDE_MCP_FAULTS` chooses another extent than the whole one, for example
`sessions=6 turns=40 servers=8 agents=5 claudes=8 seed=1`.
"""

from __future__ import annotations

import os
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
from messages_standin import Standin

from tests.e2e.test_durability import SIGNAL_CLAUDE
from tests.peers import Peer, script, text_of

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare

Call = Callable[..., Any]
EXTENT = {"sessions": 20, "turns": 200, "servers": 38, "agents": 25, "claudes": 39, "seed": 0}
EXTENT |= {
    name: int(value)
    for name, value in (pair.split("=") for pair in os.environ.get("CLAUDE_MCP_FAULTS", "").split())
}
SEED = EXTENT["seed"] or random.randrange(1, 1_000_000)
SESSIONS_PER_SERVER = 5
ANSWER_SECONDS = 30
"""Within this time after the last kill, each caller has its answer."""
PAUSE_SECONDS = (0.1, 1.5)
KILL_AGENT = (
    "for p in /proc/[0-9]*; do case $(tr '\\0' ' ' < $p/cmdline 2>/dev/null) in "
    "'python3 -I -S -c'*) kill -KILL ${p#/proc/};; esac; done"
)
OVER = ("completed", "failed", "cancelled")
NOT_SENT = ("was not sent", "before the prompt was sent", "before it was sent")
MAYBE_ENDED = "If the turn had ended by then, its result is kept"
MAYBE_SENT = "The model may have seen the prompt"


class Line:
    """The way to whichever server of its own lives at the moment."""

    def __init__(self) -> None:
        self.peer: Peer | None = None
        self._there = anyio.Event()
        self._ending = anyio.Event()

    async def serve(self, start: Call, starting: anyio.Lock, done: anyio.Event) -> None:
        """One server after the other, until it is done."""
        while not done.is_set():
            try:
                async with AsyncExitStack() as stack:
                    async with starting:  # the fixture finds its server among new processes
                        self.peer = await stack.enter_async_context(start())
                    self._ending = anyio.Event()
                    self._there.set()
                    await self._ending.wait()
            except* Exception:
                assert self.peer is None, "a server ended that was not killed"

    def kill(self) -> bool:
        if self.peer is None:
            return False
        os.kill(self.peer.pid, signal.SIGKILL)
        self.peer, self._there = None, anyio.Event()
        self._ending.set()
        return True

    def end(self) -> None:
        self._ending.set()

    async def ask(self, tool: str, refusals: Counter[str], **arguments: Any) -> dict[str, Any]:
        """Ask until there is an answer, as a careful caller does: always with the same id."""
        while True:
            await self._there.wait()
            peer = self.peer
            if peer is None:
                continue
            try:
                result = await peer.client.call_tool(tool, arguments)
            except Exception:  # its server was killed
                await anyio.sleep(0.1)
                continue
            content: dict[str, Any] | None = result.structured_content
            if not result.is_error and content is not None and content["status"] in OVER:
                return content
            if result.is_error:
                refusals[text_of(result)[:300]] += 1
                await anyio.sleep(0.2)


@dataclass
class Asked:
    """One turn, and what is known about it."""

    session: str
    prompt: str
    mark: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    begun: float = field(default_factory=time.monotonic)
    ended: float = 0.0
    answer: dict[str, Any] = field(default_factory=dict)


class Faults:
    def __init__(self, names: list[str], bare: Bare) -> None:
        self.choose = random.Random(SEED)
        self.names, self.bare = names, bare
        self.lines = [Line() for _ in names[::SESSIONS_PER_SERVER]]
        self.asked: list[Asked] = []
        self.refusals: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()
        self.last_kill = 0.0
        self.all_killed = anyio.Event()

    def line_of(self, session: str) -> Line:
        return self.lines[self.names.index(session) % len(self.lines)]

    async def call(self, session: str, turns: int) -> None:
        """Ask one turn after the other, until there were enough of them and all was killed."""
        number = 0
        while number < turns or not self.all_killed.is_set():
            number += 1
            mark = f"{session} {number}"
            prompt = script({"wait": round(self.choose.uniform(0, 1.2), 2)}, {"say": mark})
            turn = Asked(session, prompt, mark)
            self.asked.append(turn)
            turn.answer = await self.line_of(session).ask(
                "execute_in_session",
                self.refusals,
                sessionId=session,
                prompt=prompt,
                turnId=turn.id,
                waitSeconds=20,
            )
            turn.ended = time.monotonic()

    async def kill_all(self) -> None:
        wanted = [kind for kind in ("servers", "agents", "claudes") for _ in range(EXTENT[kind])]
        self.choose.shuffle(wanted)
        for kind in wanted:
            while not await self._kill(kind):
                await anyio.sleep(0.1)
            self.kills[kind] += 1
            self.last_kill = time.monotonic()
            await anyio.sleep(self.choose.uniform(*PAUSE_SECONDS))
        self.all_killed.set()

    async def _kill(self, kind: str) -> bool:
        if kind == "servers":
            return self.choose.choice(self.lines).kill()
        container = self.bare.containers(self.choose.choice(self.names))[0]
        command = KILL_AGENT if kind == "agents" else SIGNAL_CLAUDE.format("KILL")
        said = await anyio.to_thread.run_sync(
            lambda: self.bare("exec", container, "sh", "-c", f"echo there; {command}", check=False)
        )
        return "there" in said


@pytest.fixture
async def names(start: Call, tmp_path: Path, name: str, bare: Bare) -> AsyncIterator[list[str]]:
    there = [f"{name}-{number}" for number in range(EXTENT["sessions"])]
    try:
        async with start() as call:
            for each in there:
                (tmp_path / each).mkdir()
                await call("create_session", projectPath=str(tmp_path / each), sessionName=each)
        yield there
    finally:
        for each in there:
            bare.remove_all(each)


def check_answer(turn: Asked, times: int) -> None:
    """That the answer is true: ``times`` is how often the model was asked."""
    assert times <= 1, f"{turn} reached the model {times} times"
    if turn.answer["status"] == "completed":
        assert (turn.answer["result"], times) == (turn.mark, 1), turn
        return
    error = turn.answer["error"]
    assert turn.answer["status"] == "failed", turn
    if any(words in error for words in NOT_SENT):
        assert times == 0, turn
    else:
        assert MAYBE_SENT in error, turn


@pytest.mark.stress
@pytest.mark.timeout(1800)
async def test_nothing_is_lost_or_doubled_though_all_parts_are_killed(
    start: Call, names: list[str], bare: Bare, standin: Standin, capsys: pytest.CaptureFixture[str]
) -> None:
    faults, done = Faults(names, bare), anyio.Event()
    starting = anyio.Lock()
    with capsys.disabled():
        print(f"\nCLAUDE_MCP_FAULTS=seed={SEED}")  # noqa: T201 to repeat a failure
    async with anyio.create_task_group() as servers:
        for line in faults.lines:
            servers.start_soon(line.serve, start, starting, done)
        async with anyio.create_task_group() as callers:
            callers.start_soon(faults.kill_all)
            for session in names:
                callers.start_soon(faults.call, session, EXTENT["turns"] // len(names))
        for turn in faults.asked:
            again = await faults.line_of(turn.session).ask(
                "get_turn", faults.refusals, sessionId=turn.session, turnId=turn.id
            )
            if MAYBE_ENDED in (turn.answer["error"] or ""):
                turn.answer = again  # the session itself knows what became of the turn
            assert (again["status"], again["result"]) == (
                turn.answer["status"],
                turn.answer["result"],
            ), turn
        done.set()
        for line in faults.lines:
            line.end()
    times = Counter(
        each.prompts[-1]
        for each in standin.model_calls
        if each.prompts and each.headers.get("x-stainless-retry-count", "0") == "0"
    )
    for turn in faults.asked:
        check_answer(turn, times[turn.prompt])
    late = [turn.ended - faults.last_kill for turn in faults.asked]
    with capsys.disabled():
        statuses = Counter(turn.answer["status"] for turn in faults.asked)
        print(f"{statuses} {faults.kills}, last answer {max(late):.1f} s later")  # noqa: T201
        print(*faults.refusals.items(), sep="\n")  # noqa: T201
    overdue = [
        turn
        for turn in faults.asked
        if turn.begun < faults.last_kill and turn.ended - faults.last_kill > ANSWER_SECONDS
    ]
    assert overdue == []
