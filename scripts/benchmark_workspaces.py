"""The rows of scripts/benchmark about a session's own clone: making it, and telling changes."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmark_measuring import Bench, Difference, Figure, Row, Rows, Samples, alternate, timed

from claude_mcp.contract import places
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.session import container_name
from claude_mcp.sessions.turns import commands
from claude_mcp.sessions.workspaces.changes import get_changes

LARGE: Final = (50_000, 300_000_000)
"""Files, and bytes in all of them."""
SMALL: Final = (5_000, 5_000_000)
FILES_PER_DIRECTORY: Final = 100
STATUS: Final = "git status --porcelain >/dev/null && git diff --numstat >/dev/null"
CHECKPOINTS: Final = 15
TAKE: Final = f"""\
import json, os, sys, time
sys.path.insert(0, {places.ARCHIVE_PATH!r})
from claude_mcp.agent.workspace.checkpoints import Checkpoints
directory = os.path.join(os.path.expanduser("~"), {places.STATE_DIRECTORY!r})
checkpoints = Checkpoints(directory, {places.WORKSPACE!r}, clone=True)
samples = []
for number in range({CHECKPOINTS + 1}):
    started = time.perf_counter()
    taken = checkpoints.take("00000000-0000-4000-8000-%012d" % number)
    assert taken.checkpoint, taken.reason
    samples.append(time.perf_counter() - started)
print(json.dumps(samples[1:]))
"""


def _git(*arguments: str) -> None:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    who = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")
    subprocess.run(["git", *who, *arguments], check=True, env=environment, capture_output=True)


def _repository(path: Path, files: int, size: int) -> None:
    content = random.Random(1)
    for number in range(files):
        directory = path / str(number // FILES_PER_DIRECTORY)
        if number % FILES_PER_DIRECTORY == 0:
            directory.mkdir(parents=True)
        (directory / str(number)).write_bytes(content.randbytes(size // files))
    _git("init", "--quiet", str(path))
    _git("-C", str(path), "add", ".")
    _git("-C", str(path), "commit", "--quiet", "-m", "first")


async def workspace(bench: Bench) -> Rows:
    large, small = bench.directory / "large", bench.directory / "small"
    _repository(large, *LARGE)
    _repository(small, *SMALL)
    try:
        return [*await _seeding(bench, large), *await _telling(bench, small)]
    finally:
        for path in (large, small):
            shutil.rmtree(path)


async def _seeding(bench: Bench, repository: Path) -> Rows:
    """A clone of a large repository, against git's own clone and the engine's copy of that."""

    async def by_hand(samples: Samples) -> None:
        name, clone = bench.fresh_name(), bench.directory / "clone"
        with timed(samples, "seed"):
            bench.bare_create(name)
            _git("clone", "--quiet", "--no-local", str(repository), str(clone))
            bench.bare("cp", str(clone), f"{container_name(name)}:/var/tmp/clone")
        bench.bare("rm", "--force", container_name(name))
        shutil.rmtree(clone)

    async def by_us(samples: Samples) -> None:
        request = replace(
            bench.request(bench.fresh_name()), project_path=str(repository), workspace="clone"
        )
        with timed(samples, "seed"):
            created = await create(bench.sessions, request)
        await bench.sessions.destroy(created.session.id, discard=True)

    bare, ours = await alternate(bench.repetitions(3), by_hand, by_us, warm_up=False)
    return [Row("create_session, a large clone", "clone, cp", bare["seed"], ours["seed"], 1.5)]


async def _telling(bench: Bench, repository: Path) -> Rows:
    """Changes of a clone, against what git needs inside; and a checkpoint of it."""
    request = replace(
        bench.request(bench.fresh_name()), project_path=str(repository), workspace="clone"
    )
    created = await create(bench.sessions, request)
    handle = await bench.sessions.open(created.session.id)
    await commands.run(handle, "echo changed >0/0 && echo new >new")

    async def by_hand(samples: Samples) -> None:
        with timed(samples, "changes"):
            await commands.run(handle, STATUS)

    async def by_us(samples: Samples) -> None:
        with timed(samples, "changes"):
            await get_changes(handle)

    bare, ours = await alternate(bench.repetitions(15), by_hand, by_us)
    await commands.run(handle, "git checkout -q . && rm new")
    container = created.session.container_id
    taken = json.loads(bench.bare("exec", container, "python3", "-c", TAKE))
    await bench.sessions.destroy(created.session.id, discard=True)
    middle = sorted(taken)[len(taken) // 2]
    return [
        Difference("get_changes, 5000 files", "git status, diff", bare["changes"],
                   ours["changes"], 0.03),
        Figure("checkpoint of 5000 unchanged files", middle * 1000, "ms", 15.0),
    ]  # fmt: skip
