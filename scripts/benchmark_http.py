"""Fifty clients over HTTP on a warm session, beside as many calls at once over stdio."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Final

import anyio
from benchmark_measuring import Bench, BenchmarkError, Row, Rows, Samples, alternate
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

CLIENTS: Final = 50
CALLS: Final = 4
"""Of each client, one after the other."""
COMMAND: Final = "true"


async def http(bench: Bench) -> Rows:
    """How long a client waits for a command that does nothing, while all others do the same."""
    argv = [sys.executable, "-m", "claude_mcp", f"--engine={bench.engine.program}", "serve"]
    environment = dict(bench.config.environment)
    parameters = StdioServerParameters(command=argv[0], args=argv[1:], env=environment)
    with _serving([*argv, "--port=0"], environment) as url:
        async with AsyncExitStack() as stack:
            one = await stack.enter_async_context(Client(stdio_client(parameters)))
            many = [await stack.enter_async_context(Client(url)) for _ in range(CLIENTS)]

            async def over_stdio(samples: Samples) -> None:
                await _all_at_once(bench, [one] * CLIENTS, samples)

            async def over_http(samples: Samples) -> None:
                await _all_at_once(bench, many, samples)

            bare, ours = await alternate(bench.repetitions(5), over_stdio, over_http)
    by_hand = f"{CLIENTS} calls over stdio"
    return [
        Row(f"{CLIENTS} clients over HTTP, p50", by_hand, bare["p50"], ours["p50"], 2.0),
        Row("  p99", by_hand, bare["p99"], ours["p99"], 2.0),
    ]


@contextmanager
def _serving(argv: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    """The address of a server that runs meanwhile."""
    with subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            words = server.stderr.readline().partition(",")[0].split()
            if not words or not words[-1].startswith("http://"):
                raise BenchmarkError(f"The server over HTTP did not start: {' '.join(words)}")
            yield words[-1]
        finally:
            server.terminate()


async def _all_at_once(bench: Bench, clients: Sequence[Client], samples: Samples) -> None:
    waits: list[float] = []

    async def call(client: Client) -> None:
        for _ in range(CALLS):
            started = time.perf_counter()
            arguments = {"sessionId": bench.session, "command": COMMAND}
            result = await client.call_tool("execute_command", arguments)
            waits.append(time.perf_counter() - started)
            if result.is_error:
                raise BenchmarkError(f"A call failed: {result.content}")

    async with anyio.create_task_group() as tasks:
        for client in clients:
            tasks.start_soon(call, client)
    waits.sort()
    for name, part in (("p50", 0.5), ("p99", 0.99)):
        samples.setdefault(name, []).append(waits[math.ceil(part * len(waits)) - 1])
