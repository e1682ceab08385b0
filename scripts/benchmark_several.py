"""What scripts/benchmark measures of several engines at once.

Docker, Podman and Podman's API service (which stands for an engine elsewhere), as far as they are
here. What one engine takes alone is measured in the same run, by the same code.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import anyio
from benchmark_measuring import (
    Bench,
    BenchmarkError,
    Difference,
    Rows,
    Samples,
    alternate,
    timed,
)

from claude_mcp.engine.address import EngineAddress
from claude_mcp.engine.docker_cli import DockerCliEngine
from claude_mcp.errors import EngineError
from claude_mcp.sessions.fleet import open_fleet
from claude_mcp.sessions.registry import Sessions

MORE_SECONDS: Final = 0.02
"""How much longer a list of all engines may take than that of the slowest of them."""
SERVICE_SECONDS: Final = 20.0


@contextmanager
def podman_service(directory: Path) -> Iterator[str]:
    path = directory / "podman.sock"
    running = subprocess.Popen(["podman", "system", "service", "--time=0", f"unix://{path}"])
    try:
        yield f"unix://{path}"
    finally:
        running.terminate()
        running.wait(SERVICE_SECONDS)


@contextmanager
def mute_socket(directory: Path) -> Iterator[str]:
    """Accepts connections and never answers."""
    path = directory / "mute.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(64)
        yield f"unix://{path}"
    path.unlink()


async def _connected(sessions: Sessions) -> None:
    with anyio.fail_after(SERVICE_SECONDS):
        while True:
            try:
                await sessions.engine()
            except EngineError:
                await anyio.sleep(0.1)
            else:
                return


async def several(bench: Bench) -> Rows:
    """Lists of all engines together, beside the slowest of them alone."""
    programs = [each for each in ("docker", "podman") if shutil.which(each)]
    engines = {f"{each}-here": EngineAddress(program=each) for each in programs}
    if "podman" not in programs:
        return await _listing(bench, engines)
    with podman_service(bench.directory) as service:
        engines["podman-far"] = EngineAddress(program="podman", host=service)
        return await _listing(bench, engines)


async def _listing(bench: Bench, engines: Mapping[str, EngineAddress]) -> Rows:
    rows: Rows = [
        await _bare(bench, engines),
        await _compared(bench, engines, None, MORE_SECONDS),
    ]
    program = next(iter(engines.values())).program
    nobody = EngineAddress(program=program, host=f"unix://{bench.directory}/nobody.sock")
    rows.append(await _compared(bench, engines, ("nobody listens at", nobody), MORE_SECONDS))
    with mute_socket(bench.directory) as address:
        mute = EngineAddress(program=program, host=address)
        rows.append(await _compared(bench, engines, ("is silent", mute), MORE_SECONDS))
    return rows


async def _bare(bench: Bench, engines: Mapping[str, EngineAddress]) -> Difference:
    """What it takes this machine to run the engines' command lines at once, without us."""
    async with open_fleet(replace(bench.config, engine=None, engines=engines)) as sessions:
        for each in sessions.members:
            await _connected(each)
        engines_here = [await each.engine() for each in sessions.members]
    connected = [each for each in engines_here if isinstance(each, DockerCliEngine)]

    def start(engine: DockerCliEngine) -> subprocess.Popen[bytes]:
        argv = [engine.program, "ps", "--all", "--no-trunc"]
        return subprocess.Popen(argv, env=engine.environment, stdout=subprocess.DEVNULL)

    async def alone(samples: Samples) -> None:
        taken = []
        for each in connected:
            started = time.perf_counter()
            start(each).wait(SERVICE_SECONDS)
            taken.append(time.perf_counter() - started)
        samples.setdefault("ps", []).append(max(taken))

    async def together(samples: Samples) -> None:
        with timed(samples, "ps"):
            for each in [start(each) for each in connected]:
                each.wait(SERVICE_SECONDS)

    slowest, everything = await alternate(bench.repetitions(9), alone, together)
    what = f"ps of {len(engines)} engines at once"
    return Difference(what, "the slowest of them", slowest["ps"], everything["ps"], None)


async def _compared(
    bench: Bench,
    engines: Mapping[str, EngineAddress],
    broken: tuple[str, EngineAddress] | None,
    limit: float,
) -> Difference:
    further = {} if broken is None else {"broken": broken[1]}
    config = replace(bench.config, engine=None, engines={**engines, **further})
    async with open_fleet(config) as sessions:
        members = sessions.members[: len(engines)]
        for each in members:
            await _connected(each)
        await sessions.survey(ask=False)  # the only one that waits long for a silent engine

        async def alone(samples: Samples) -> None:
            taken = []
            for each in members:
                started = time.perf_counter()
                await each.list(ask=False)
                taken.append(time.perf_counter() - started)
            samples.setdefault("list", []).append(max(taken))

        async def together(samples: Samples) -> None:
            with timed(samples, "list"):
                answers = await sessions.survey(ask=False)
            if len(answers.unreachable) != len(further):
                raise BenchmarkError(" ".join(map(str, answers.unreachable)) or "all answered")

        bare, ours = await alternate(bench.repetitions(9), alone, together)
    what = f"list of {len(engines)} engines"
    if broken is not None:
        what += f", and one that {broken[0]}"
    return Difference(what, "the slowest of them", bare["list"], ours["list"], limit)
