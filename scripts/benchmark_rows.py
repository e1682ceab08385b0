"""What scripts/benchmark measures, one function for each group of rows.

What is ours is called in this process, as the server calls it for a tool.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import benchmark_command_line
import benchmark_http
import benchmark_kubernetes
import benchmark_several
import benchmark_turns
import benchmark_workspaces
from benchmark_command_line import console_script
from benchmark_measuring import (
    Bench,
    BenchmarkError,
    Calls,
    Difference,
    Row,
    Rows,
    Samples,
    alternate,
    timed,
)
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from claude_mcp.sessions import marks
from claude_mcp.sessions.create.request import NetworkName
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.files.transfer import Direction, transfer
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import container_name
from claude_mcp.sessions.turns import commands
from claude_mcp.sessions.turns import prompts as turns

LARGE_FILE_BYTES: Final = 200_000_000
SMALL_FILES: Final = 5_000
SMALL_FILE_BYTES: Final = 1_000
FILES_PER_DIRECTORY: Final = 100
LISTED_SESSIONS: Final = 50
WORKERS: Final = 4
INSIDE: Final = "/var/tmp"
"""A directory of the session's container that is no mount; ``cp`` writes there too."""
PROMPT: Final = "hello"
GATEWAY_SECONDS: Final = 0.01
"""What a connection within a machine, and a line each way, may cost."""

TRIVIAL_SERVER: Final = """\
from mcp.server.mcpserver import MCPServer

server = MCPServer("trivial")


@server.tool()
def ping() -> str:
    return "pong"


server.run("stdio")
"""


async def life(bench: Bench) -> Rows:
    """Two sessions from their creation to their end: one unused, one with a command in between."""

    async def by_hand(samples: Samples) -> None:
        for destroy in ("destroy", "destroy used"):
            name = bench.fresh_name()
            container = container_name(name)
            with timed(samples, "create"):
                bench.bare_create(name)
            if destroy == "destroy used":
                with timed(samples, "command"):
                    bench.bare("exec", container, "true")
            with timed(samples, destroy):
                bench.bare("rm", "--force", container)

    async def by_us(samples: Samples) -> None:
        for destroy in ("destroy", "destroy used"):
            with timed(samples, "create"):
                created = await create(bench.sessions, bench.request(bench.fresh_name()))
            session = created.session.id
            if destroy == "destroy used":
                with timed(samples, "command"):
                    await commands.run(await bench.sessions.open(session), "true")
            with timed(samples, destroy):
                await bench.sessions.destroy(session)

    bare, ours = await alternate(bench.repetitions(7), by_hand, by_us)
    return [
        Row("create_session", "create, start", bare["create"], ours["create"], 1.3),
        Row("execute_command, first", "exec true", bare["command"], ours["command"], 1.3),
        Row("destroy_session", "rm --force", bare["destroy"], ours["destroy"], 1.3),
        # What ours has to end besides is the `exec` that the channel holds.
        Row("  with an open channel", "rm --force", bare["destroy used"], ours["destroy used"]),
    ]


async def gateway(bench: Bench) -> Rows:
    """What it costs to try the gateway once from inside a new session; the stand-in is one."""

    async def life_of(sessions: Sessions, samples: Samples) -> None:
        with timed(samples, "create"):
            created = await create(sessions, bench.request(bench.fresh_name()))
        await sessions.destroy(created.session.id)

    async with open_sessions(replace(bench.config, base_url=None)) as direct:

        async def untried(samples: Samples) -> None:
            await life_of(direct, samples)

        async def tried(samples: Samples) -> None:
            await life_of(bench.sessions, samples)

        bare, ours = await alternate(bench.repetitions(15), untried, tried)
    what = "create_session, with a gateway"
    return [Difference(what, "ours, without", bare["create"], ours["create"], GATEWAY_SECONDS)]


async def network(bench: Bench) -> Rows:
    """A restricted session beside an open one, while the proxy that it needs runs."""

    async def life_in(network: NetworkName, samples: Samples) -> None:
        request = replace(bench.request(bench.fresh_name()), network=network)
        with timed(samples, "create"):
            created = await create(bench.sessions, request)
        with timed(samples, "destroy"):
            await bench.sessions.destroy(created.session.id)

    async def in_the_open(samples: Samples) -> None:
        await life_in("open", samples)

    async def restricted(samples: Samples) -> None:
        await life_in("restricted", samples)

    async def first(samples: Samples) -> None:
        """With its proxy, which goes with it."""
        await life_in("restricted", samples)

    _, alone = await alternate(bench.repetitions(5), in_the_open, first)
    kept = await create(
        bench.sessions, replace(bench.request(bench.fresh_name()), network="restricted")
    )
    try:
        opened, shared = await alternate(bench.repetitions(7), in_the_open, restricted)
    finally:
        await bench.sessions.destroy(kept.session.id)
    return [
        Row("create_session, restricted", "ours, open", opened["create"], shared["create"], 1.5),
        Row("destroy_session, restricted", "ours, open", opened["destroy"], shared["destroy"]),
        Row("  the first, with its proxy", "ours, open", opened["create"], alone["create"]),
        Row("  the last, with its proxy", "ours, open", opened["destroy"], alone["destroy"]),
    ]


async def command(bench: Bench) -> Rows:
    """Commands in a session that is there already, without and with an open channel."""

    async def by_hand(samples: Samples) -> None:
        with timed(samples, "exec"):
            bench.bare("exec", bench.container, "true")

    async def by_a_new_server(samples: Samples) -> None:
        async with open_sessions(bench.config) as sessions:
            await sessions.engine()
            with timed(samples, "command"):
                await commands.run(await sessions.open(bench.session), "true")

    async def by_us(samples: Samples) -> None:
        with timed(samples, "command"):
            await commands.run(await bench.sessions.open(bench.session), "true")

    bare, ours = await alternate(bench.repetitions(15), by_hand, by_a_new_server)
    rows: Rows = [
        Row("  first of a new server", "exec true", bare["exec"], ours["command"], 1.3),
    ]

    async def by_us_in_the_background(samples: Samples) -> None:
        handle = await bench.sessions.open(bench.session)
        with timed(samples, "begun"):
            begun = await commands.run(handle, "true", background=True, timeout_seconds=None)
        ended = await commands.follow(handle, begun.command_id)
        assert ended.exit_code == 0
        with timed(samples, "found"):
            await commands.follow(handle, begun.command_id)

    bare, ours = await alternate(bench.repetitions(15), by_hand, by_us)
    rows.append(
        Row("execute_command, second on", "exec true", bare["exec"], ours["command"], 0.1),
    )
    bare, ours = await alternate(bench.repetitions(15), by_hand, by_us_in_the_background)
    rows.append(Row("  in the background", "exec true", bare["exec"], ours["begun"], 0.1))
    rows.append(Row("get_command, ended", "exec true", bare["exec"], ours["found"], 0.05))
    return rows


async def listing(bench: Bench) -> Rows:
    """Running containers with our labels and flags stand for sessions; theirs run `sleep`."""
    names = [bench.fresh_name() for _ in range(LISTED_SESSIONS)]
    waiting = iter(names)

    def work() -> None:
        for name in waiting:
            bench.bare_create(name)

    async def by_hand(samples: Samples) -> None:
        with timed(samples, "list"):
            label = f"--filter=label={marks.SESSION}"
            found = bench.bare("ps", "--all", "--quiet", "--no-trunc", label).split()
            # Sessions of others are among them, and may be gone by now.
            bench.bare("container", "inspect", *found, must_work=False)

    async def by_us(samples: Samples) -> None:
        with timed(samples, "list"):
            listed = await bench.sessions.list(ask=False)
        if len(listed) < LISTED_SESSIONS:
            raise BenchmarkError(f"only {len(listed)} sessions were listed")

    try:
        await asyncio.gather(*(asyncio.to_thread(work) for _ in range(WORKERS)))
    finally:
        list(waiting)  # threads cannot be cancelled; they find nothing more to do
    bare, ours = await alternate(bench.repetitions(7), by_hand, by_us)
    await asyncio.to_thread(bench.bare, "rm", "--force", "--volumes", *map(container_name, names))
    what = f"list_sessions with {LISTED_SESSIONS}"
    return [Row(what, "ps, inspect", bare["list"], ours["list"], 1.5)]


async def copying(bench: Bench) -> Rows:
    """One large file and many small ones, into the container's own file system and out of it."""
    large, small = bench.directory / "large", bench.directory / "small"
    _write_large(large)
    _write_small(small)
    rows: Rows = []
    for source, what, usual in ((large, "200 MB", 5), (small, f"{SMALL_FILES} files", 3)):
        rows += await _copying(bench, source, what, bench.repetitions(usual))
        shutil.rmtree(source) if source.is_dir() else source.unlink()
    return rows


def _write_large(path: Path) -> None:
    with path.open("wb") as file:
        for _ in range(LARGE_FILE_BYTES // 1_000_000):
            file.write(os.urandom(1_000_000))


def _write_small(root: Path) -> None:
    for number in range(SMALL_FILES):
        directory = root / f"directory-{number // FILES_PER_DIRECTORY}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"file-{number}").write_bytes(random.randbytes(SMALL_FILE_BYTES))


async def _copying(bench: Bench, source: Path, what: str, times: int) -> Rows:
    inside, outside = f"{INSIDE}/benchmark", bench.directory / "fetched"
    kept = f"{INSIDE}/{source.name}"

    async def fresh() -> None:
        bench.remove_inside(inside)
        with suppress(FileNotFoundError):
            shutil.rmtree(outside) if outside.is_dir() else outside.unlink()
        os.sync()

    async def in_by_hand(samples: Samples) -> None:
        await fresh()
        with timed(samples, "in"):
            bench.bare("cp", str(source), f"{bench.container}:{inside}")

    async def in_by_us(samples: Samples) -> None:
        await fresh()
        with timed(samples, "in"):
            await transfer(
                await bench.sessions.open(bench.session),
                Direction.TO_CONTAINER,
                str(source),
                inside,
            )

    async def out_by_hand(samples: Samples) -> None:
        await fresh()
        with timed(samples, "out"):
            bench.bare("cp", f"{bench.container}:{kept}", str(outside))

    async def out_by_us(samples: Samples) -> None:
        await fresh()
        with timed(samples, "out"):
            await transfer(
                await bench.sessions.open(bench.session),
                Direction.FROM_CONTAINER,
                kept,
                str(outside),
            )

    await transfer(
        await bench.sessions.open(bench.session), Direction.TO_CONTAINER, str(source), kept
    )
    bare, ours = await alternate(times, in_by_hand, in_by_us, warm_up=False)
    rows: Rows = [Row(f"transfer {what} in", "cp", bare["in"], ours["in"], 1.3)]
    bare, ours = await alternate(times, out_by_hand, out_by_us, warm_up=False)
    rows.append(Row(f"transfer {what} out", "cp", bare["out"], ours["out"], 1.3))
    await fresh()
    bench.remove_inside(kept)
    return rows


async def tool_list(bench: Bench) -> Rows:
    """From the start of the server's process to the answer that lists its tools."""
    trivial = bench.directory / "trivial_server.py"
    trivial.write_text(TRIVIAL_SERVER)

    async def first_list(samples: Samples, *arguments: str) -> None:
        parameters = StdioServerParameters(
            command=sys.executable, args=list(arguments), env=dict(bench.config.environment)
        )
        async with AsyncExitStack() as stack:
            with timed(samples, "list"):
                client = await stack.enter_async_context(Client(stdio_client(parameters)))
                await client.list_tools()

    async def by_hand(samples: Samples) -> None:
        await first_list(samples, str(trivial))

    async def by_us(samples: Samples) -> None:
        await first_list(samples, console_script(), "serve")

    bare, ours = await alternate(bench.repetitions(7), by_hand, by_us)
    return [Row("first tools/list", "one trivial tool", bare["list"], ours["list"], 1.2)]


async def calls(bench: Bench) -> Rows:
    """Engine calls of each operation, on the way from a server's start to a session's end."""
    rows: Rows = []
    source, name = bench.directory / "called", bench.fresh_name()
    source.write_text("x")
    first, second = bench.fresh_name(), bench.fresh_name()
    bench.calls_made()

    async with bench.watched() as sessions:

        async def restricted(name: str) -> object:
            request = replace(bench.request(name), network="restricted")
            return await create(sessions, request)

        def called(
            work: Callable[..., Awaitable[object]], *arguments: object
        ) -> Callable[[], Awaitable[object]]:
            async def step() -> object:
                return await work(await sessions.open(name), *arguments)

            return step

        steps: list[tuple[str, Callable[[], Awaitable[object]], int | None]] = [
            ("a server's first use of the engine", sessions.engine, None),
            ("create_session", lambda: create(sessions, bench.request(name)), 2),
            (
                "execute_command, first",
                called(commands.run, "true"),
                None,
            ),
            (
                "execute_command, second on",
                called(commands.run, "true"),
                0,
            ),
            ("get_command", called(commands.follow), 0),
            (
                "execute_in_session, channel open",
                called(turns.prompt, PROMPT),
                0,
            ),
            (
                "transfer_files in",
                called(
                    transfer,
                    Direction.TO_CONTAINER,
                    str(source),
                    f"{INSIDE}/called",
                ),
                None,
            ),
            (
                "transfer_files out",
                called(
                    transfer,
                    Direction.FROM_CONTAINER,
                    f"{INSIDE}/called",
                    f"{source}-back",
                ),
                None,
            ),
            ("get_session_logs", called(commands.logs), None),
            ("list_sessions", sessions.list, 2),
            ("destroy_session", lambda: sessions.destroy(name), None),
            ("create_session, restricted, its proxy too", lambda: restricted(first), None),
            ("create_session, restricted", lambda: restricted(second), 3),
            ("destroy_session, restricted", lambda: sessions.destroy(second), 2),
            ("destroy_session, restricted, its proxy too", lambda: sessions.destroy(first), None),
        ]
        for what, step, limit in steps:
            await step()
            made = bench.calls_made()
            # `container inspect` is one verb of two words.
            verbs = tuple(words[1] if words[0] == "container" else words[0] for words in made)
            rows.append(Calls(what, verbs, limit))
    return rows


GROUPS: Final[dict[str, Callable[[Bench], Awaitable[Rows]]]] = {
    "life": life,
    "gateway": gateway,
    "network": network,
    "command": command,
    "list": listing,
    "several": benchmark_several.several,
    "kubernetes": benchmark_kubernetes.kubernetes,
    "transfer": copying,
    "help": benchmark_command_line.help_text,
    "command-line": benchmark_command_line.commands,
    "tools": tool_list,
    "http": benchmark_http.http,
    "workspace": benchmark_workspaces.workspace,
    "turn": benchmark_turns.turn,
    "task": benchmark_turns.task,
    "memory": benchmark_turns.memory,
    "calls": calls,
}
