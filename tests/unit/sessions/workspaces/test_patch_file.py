"""A patch is on the host completely or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_mcp.config import Config
from claude_mcp.errors import TransferError
from claude_mcp.sessions.workspaces import patch_file


def full_disk() -> Iterator[bytes]:
    yield b"begin\n"
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("before", [None, "mine"])
def test_a_full_disk_leaves_the_directory_as_it_was(tmp_path: Path, before: str | None) -> None:
    target = tmp_path / "fix.patch"
    if before is not None:
        target.write_text(before)
    with pytest.raises(TransferError, match="No space left on device"):
        patch_file.write(str(target), full_disk(), Config({}), overwrite=True)
    assert os.listdir(tmp_path) == ([] if before is None else ["fix.patch"])
    assert before is None or target.read_text() == before


KILLED = """
import os, signal, sys
from claude_mcp.config import Config
from claude_mcp.sessions.workspaces import patch_file
def pieces():
    yield b"begin" * 100_000
    os.kill(os.getpid(), signal.SIGKILL)
patch_file.write(sys.argv[1], pieces(), Config({}), overwrite=True)
"""


def test_a_killed_writer_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "fix.patch"
    target.write_text("mine")
    done = subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_text() == "mine"
    patch_file.write(str(target), [b"new"], Config({}), overwrite=True)
    assert target.read_text() == "new"


def test_the_mode_is_that_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        patch_file.write(str(tmp_path / "x"), [b"new"], Config({}), overwrite=False)
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640
