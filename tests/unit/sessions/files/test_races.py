"""A process that swaps links in, as fast as it can, while the host reads and writes.

It has what a session has: the right to write in the project. Around the project lies what it
must not reach.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from claude_mcp.config import Config
from claude_mcp.errors import ClaudeMcpError
from claude_mcp.placing import descriptors
from claude_mcp.placing import placement as placing
from claude_mcp.placing.staging import staging
from claude_mcp.sessions.files.archive import Tally, write_archive
from claude_mcp.sessions.files.unpacking import Limits, read_archive
from claude_mcp.sessions.paths import policy
from tests.unit.sessions.files.test_archive import tar

SECRET = b"what no session may have"
SECONDS = [1.0, pytest.param(30.0, marks=[pytest.mark.stress, pytest.mark.timeout(120)])]
ENOUGH = 10
"""So often at least; on a busy machine, that takes longer."""
MANY = Limits(10**9, 10**6)

# Each name is by turns a directory, with a file of its own, and a link to where the secret is.
# What is found of a staging directory gets links in the places of its directories.
SWAPPER = """\
import os, sys
project, outside = sys.argv[1:]
project = os.path.realpath(project)
os.chdir(project)
names = ["a", "a.real/b", "file", "out"]
made = 0
def quietly(call, *arguments):
    try:
        call(*arguments)
    except OSError:
        return False
    return True
print("ready", flush=True)
while True:
    for name in names:
        made += 1
        link = f".link-{made}"
        os.symlink(outside + ("/file" if name == "file" else ""), link)
        real = f"{name}.real" if name in ("a", "file", "out") else "b.real"
        if quietly(os.rename, name, real):
            quietly(os.rename, link, name)
        else:
            quietly(os.unlink, link)
        quietly(os.unlink, name)
        quietly(os.rename, real, name)
    for entry in os.listdir("."):
        if entry.startswith(".claude-mcp-transfer-"):
            for inner in ("tree", "tree/sub", "replaced"):
                path = f"{entry}/{inner}"
                # A session cannot go over its own links: what they lead to is not in it.
                own = os.path.realpath(os.path.dirname(path)).startswith(project)
                if own and quietly(os.rename, path, f"{path}.moved"):
                    quietly(os.symlink, outside, path)
            quietly(os.rename, entry, f".moved-{made}")
            quietly(os.symlink, outside, entry)
"""


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Where the project does not reach; the same names are there."""
    path = tmp_path / "outside"
    for directory in (path, path / "b", path / "sub", path / "tree"):
        directory.mkdir()
    for file in (path / "file", path / "b" / "file", path / "sub" / "file"):
        file.write_bytes(SECRET)
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    (path / "a" / "b").mkdir(parents=True)
    (path / "out").mkdir()
    for file in ("file", "a/file", "a/b/file"):
        (path / file).write_bytes(b"the project's own")
    return path


@contextmanager
def swapping(project: Path, outside: Path) -> Iterator[None]:
    command = [sys.executable, "-IS", "-c", SWAPPER, str(project), str(outside)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as swapper:
        try:
            assert swapper.stdout is not None
            assert swapper.stdout.readline() == b"ready\n"
            yield
            assert swapper.poll() is None
        finally:
            swapper.kill()


def state(directory: Path) -> dict[str, tuple[int, bytes]]:
    """All that is there: mode, and content."""
    return {
        str(path.relative_to(directory)): (
            path.lstat().st_mode,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [directory, *directory.rglob("*")]
    }


@pytest.mark.parametrize("seconds", SECONDS)
def test_nothing_outside_is_read(
    project: Path, outside: Path, tmp_path: Path, seconds: float
) -> None:
    config = Config(environment={"HOME": str(tmp_path)}, allowed_roots=(str(project),))
    read = 0
    with swapping(project, outside):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline or read < ENOUGH:
            for name in (".", "a", "a/b", "file", "a/file", "a/b/file"):
                pipe = io.BytesIO()
                with suppress(ClaudeMcpError, OSError):
                    path = (project / name).resolve(strict=True)
                    policy.check(str(path), name, config, os.getuid())
                    with descriptors.opened(str(path.parent)) as parent:
                        write_archive(parent, str(path), "x", (0, 0), pipe, Tally())
                    read += 1
                assert SECRET not in pipe.getvalue()


@pytest.mark.parametrize("seconds", SECONDS)
def test_nothing_outside_is_written(
    project: Path, outside: Path, tmp_path: Path, seconds: float
) -> None:
    config = Config(environment={"HOME": str(tmp_path)}, allowed_roots=(str(project),))
    before = state(outside)
    owner = (1234, 1234) if os.geteuid() == 0 else None
    data = tar("tree/", "tree/file", "tree/sub/", "tree/sub/file", "tree/b/", "tree/b/file")
    written = 0
    with swapping(project, outside):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline or written < ENOUGH:
            for destination in ("new", "out", "out/", "a", "a/b", "a/b/new"):
                with suppress(ClaudeMcpError, OSError, placing.PlaceError):
                    target = placing.target_of(f"{project}/{destination}", "tree")
                    policy.check(target, destination, config, os.getuid())
                    with (
                        descriptors.opened(os.path.dirname(target)) as parent,
                        staging(parent) as (_, directory),
                    ):
                        unpacked = read_archive(io.BytesIO(data), directory, owner, Tally(), MANY)
                        placing.place(directory, unpacked.name, parent, target, True)
                        unpacked.set_modes(parent, os.path.basename(target))
                    written += 1
            assert state(outside) == before
    assert state(outside) == before
