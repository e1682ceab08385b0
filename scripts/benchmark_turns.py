"""What scripts/benchmark measures of turns: what we add to Claude Code's own time, and memory."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from benchmark_measuring import (
    Bench,
    BenchmarkError,
    Difference,
    Figure,
    Rows,
    Samples,
    alternate,
    timed,
)
from mcp.client import Client
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.client.stdio import StdioServerParameters
from mcp.types import CallToolResult, Result
from pydantic import Field

from claude_mcp.claude import invocation, protocol, providers
from claude_mcp.sessions.channel import channel, channels
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.providers import resolve as provider
from claude_mcp.sessions.registry import open_sessions
from claude_mcp.sessions.turns import prompts as turns

PROMPT: Final = "hello"
SETTLE_SECONDS: Final = 2.0
SESSIONS: Final = 20
RUNNING: Final = 5
TURNS: Final = 1000
WARM_UP_TURNS: Final = 100
WORKERS: Final = 4
ROUND_TRIP_SECONDS: Final = 0.010
TASK_SECONDS: Final = 0.005
FIRST_TURN_SECONDS: Final = 0.060
MEMORY_MIB: Final = 150
GROWTH_MIB: Final = 8


class Pipe:
    """A live Claude Code in the session's container, on a bare pipe through the engine's exec."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @classmethod
    @contextmanager
    def open(cls, bench: Bench) -> Iterator[Pipe]:
        argv, variables = _invocation(bench)
        command = [bench.engine.program, "exec", "--interactive", *variables, bench.container]
        with subprocess.Popen(
            [*command, *argv],
            env=dict(bench.engine.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            yield cls(process)
            assert process.stdin is not None
            process.stdin.close()

    def initialize(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(
            protocol.control_request_line("benchmark", {"subtype": "initialize"})
        )
        self._process.stdin.flush()
        for line in self._process.stdout:
            if isinstance(protocol.parse_line(line), protocol.ControlResponse):
                return

    def ask(self, prompt: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(protocol.user_line(prompt, str(uuid.uuid4())))
        self._process.stdin.flush()
        for line in self._process.stdout:
            frame = protocol.parse_line(line)
            if isinstance(frame, protocol.Result):
                if frame.is_error:
                    raise BenchmarkError(f"the prompt on the bare pipe failed: {frame.error}")
                return
        raise BenchmarkError("Claude Code on the bare pipe ended")


def _invocation(bench: Bench) -> tuple[tuple[str, ...], list[str]]:
    """What a session's Claude Code is started with, its argv and variables for the engine."""
    credentials = provider.resolve(bench.config, bench.engine.dialect).credentials
    assert credentials.credential is not None
    environment = invocation.claude_environment(
        providers.Anthropic(base_url=credentials.base_url), os.geteuid(), {}
    )
    environment["ANTHROPIC_API_KEY"] = credentials.credential.value
    variables = [f"--env={name}={value}" for name, value in environment.items()]
    return invocation.claude_argv(invocation.Invocation()), variables


class Task(Result):
    """The first answer of a call that has become an MCP task."""

    result_type: Literal["task"] = Field(alias="resultType")


class Tasks(ClientExtension):
    """Declares MCP Tasks. How a task goes on is no matter of this benchmark."""

    identifier = "io.modelcontextprotocol/tasks"

    def claims(self) -> Sequence[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=Task, resolve=self._resolve)]

    @staticmethod
    async def _resolve(task: Task, context: ClaimContext) -> CallToolResult:
        raise BenchmarkError("nobody asked for the task's result")


@asynccontextmanager
async def server(
    bench: Bench, extensions: Sequence[ClientExtension] = ()
) -> AsyncIterator[tuple[Client, int]]:
    """A client over stdio and the pid of its server, with the benchmark's own settings."""
    config = bench.config
    assert config.api_key is not None
    assert config.base_url is not None
    environment = {
        **config.environment,
        "CLAUDE_MCP_CONFIG": os.devnull,
        "CLAUDE_MCP_ENGINE": bench.engine.program,
        "DEFAULT_CLAUDE_IMAGE": config.image,
        "ANTHROPIC_BASE_URL": config.base_url,
        "ANTHROPIC_API_KEY": config.api_key.reveal(),
    }
    before = _children(os.getpid())
    parameters = StdioServerParameters(
        command=sys.executable, args=["-m", "claude_mcp", "serve"], env=environment
    )
    async with Client(parameters, extensions=extensions) as client:
        await client.list_tools()
        [pid] = _children(os.getpid()) - before
        yield client, pid


async def _ask(client: Client, session: str, prompt: str, **arguments: Any) -> dict[str, Any]:
    arguments = {"sessionId": session, "prompt": prompt, **arguments}
    result = await client.call_tool("execute_in_session", arguments)
    content: dict[str, Any] | None = result.structured_content
    if result.is_error or content is None or content["status"] == "failed":
        raise BenchmarkError(f"a prompt failed: {result.content}")
    return content


async def turn(bench: Bench) -> Rows:
    """Warm turns, answered at once by the stand-in for the Messages API."""
    async with server(bench) as (client, _):
        with Pipe.open(bench) as pipe:

            async def by_hand(samples: Samples) -> None:
                with timed(samples, "turn"):
                    await asyncio.to_thread(pipe.ask, PROMPT)

            async def by_us(samples: Samples) -> None:
                with timed(samples, "turn"):
                    await _ask(client, bench.session, PROMPT)

            bare, ours = await alternate(bench.repetitions(25), by_hand, by_us)
    rows: Rows = [
        Difference(
            "execute_in_session over stdio, warm",
            "a line to claude on a pipe",
            bare["turn"],
            ours["turn"],
            ROUND_TRIP_SECONDS,
        )
    ]
    return [*rows, await _first_turn(bench), await asyncio.to_thread(_first_turn_by_hand, bench)]


async def task(bench: Bench) -> Rows:
    """The first answer of a task against that of a call that does not wait."""
    async with server(bench) as (plain, _), server(bench, [Tasks()]) as (client, _):

        async def over(samples: Samples, **arguments: Any) -> None:
            """Asks, and waits for the turn's end outside of the sample."""
            to = plain if arguments else client
            given = {"sessionId": bench.session, "prompt": PROMPT, **arguments}
            with timed(samples, "answer"):
                await to.session.call_tool("execute_in_session", given, allow_claimed=True)
            await plain.call_tool("get_turn", {"sessionId": bench.session})

        async def without(samples: Samples) -> None:
            await over(samples, waitSeconds=0)

        bare, ours = await alternate(bench.repetitions(25), without, over)
    return [
        Difference(
            "first answer of a task",
            "execute_in_session with waitSeconds 0",
            bare["answer"],
            ours["answer"],
            TASK_SECONDS,
        )
    ]


async def _first_turn(bench: Bench) -> Difference:
    """The first turn of a session against a later one, both by way of a new channel."""

    async def warm(samples: Samples) -> None:
        await _by_a_new_channel(bench, samples, bench.session)

    async def first(samples: Samples) -> None:
        name = bench.fresh_name()
        await create(bench.sessions, bench.request(name))
        await asyncio.sleep(SETTLE_SECONDS)
        await _by_a_new_channel(bench, samples, name)
        await bench.sessions.destroy(name)

    bare, ours = await alternate(bench.repetitions(7), warm, first)
    return Difference(
        f"first turn, {SETTLE_SECONDS:.0f} s after create_session",
        "a warm one, channel closed too",
        bare["turn"],
        ours["turn"],
        FIRST_TURN_SECONDS,
    )


def _first_turn_by_hand(bench: Bench) -> Difference:
    """How much of that is Claude Code's own: it does in its first turn what later ones need not."""
    first: Samples = {}
    warm: Samples = {}
    for _ in range(bench.repetitions(7)):
        with Pipe.open(bench) as pipe:
            pipe.initialize()
            time.sleep(SETTLE_SECONDS)
            with timed(first, "turn"):
                pipe.ask(PROMPT)
            pipe.ask(PROMPT)
            with timed(warm, "turn"):
                pipe.ask(PROMPT)
    what = "  of it, Claude Code's own: first on a pipe"
    return Difference(what, "a warm one on that pipe", warm["turn"], first["turn"], None)


async def _by_a_new_channel(bench: Bench, samples: Samples, session: str) -> None:
    async with open_sessions(bench.config) as sessions:
        await sessions.engine()
        with timed(samples, "turn"):
            await turns.prompt(await sessions.open(session), PROMPT)


async def memory(bench: Bench) -> Rows:
    """The server with many sessions and turns; its own memory, not that of the containers."""
    names = [bench.fresh_name() for _ in range(SESSIONS)]
    waiting = iter(names)

    async def work() -> None:
        for name in waiting:
            await create(bench.sessions, bench.request(name))

    await asyncio.gather(*(work() for _ in range(WORKERS)))
    async with server(bench) as (client, pid):
        for name in names:
            await _ask(client, name, PROMPT)
        script = "standin: " + json.dumps([{"wait": 5}, {"say": "done"}])
        running = names[:RUNNING]
        await asyncio.gather(*(_ask(client, name, script, waitSeconds=0) for name in running))
        busy, children = _resident_mib(pid), len(_children(pid))
        await asyncio.gather(
            *(client.call_tool("get_turn", {"sessionId": name}) for name in running)
        )
        await _many_turns(client, names, WARM_UP_TURNS)
        before = _resident_mib(pid)
        await _many_turns(client, names, TURNS)
        growth = _resident_mib(pid) - before
        await asyncio.sleep(channels.IDLE_SECONDS + 2 * channel.EXIT_SECONDS)
        idle = len(_children(pid))
    await asyncio.gather(*(bench.sessions.destroy(name) for name in names))
    what = f"server with {SESSIONS} sessions"
    return [
        Figure(f"{what}, {RUNNING} turns running", busy, "MiB", MEMORY_MIB),
        Figure(f"  its growth over {TURNS} turns", growth, "MiB", GROWTH_MIB),
        Figure("  its processes for a session, channels open", children / SESSIONS, "", 1),
        Figure("  its processes when idle", idle, "", 0),
    ]


async def _many_turns(client: Client, names: Sequence[str], number: int) -> None:
    async def some(name: str) -> None:
        for _ in range(number // len(names)):
            await _ask(client, name, PROMPT)

    await asyncio.gather(*map(some, names))


def _resident_mib(pid: int) -> float:
    line = next(
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS:")
    )
    return int(line.split()[1]) / 1024


def _children(pid: int) -> set[int]:
    """Pids of a process's living children, of all its threads."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        found |= {int(each) for each in (task / "children").read_text().split()}
    return found
