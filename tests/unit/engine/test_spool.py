"""What Podman leaves on disk is removed, also that of processes that were killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from claude_mcp.engine import spool

HOLD = """
import sys
from claude_mcp.engine import spool
with spool.directory(sys.argv[1]) as path:
    open(f"{path}/archive", "w").close()
    print(path, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process of ours in the midst of a copy."""
    argv = [sys.executable, "-c", HOLD, str(tmp_path)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_directory_is_private_and_removed(tmp_path: Path) -> None:
    with spool.directory(str(tmp_path)) as path:
        assert Path(path).stat().st_mode & 0o777 == 0o700
        (Path(path) / "archive").touch()
    assert list(tmp_path.iterdir()) == []


def test_that_of_a_killed_process_is_removed_and_that_of_a_living_one_kept(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    assert holder.stdout is not None
    held = Path(holder.stdout.readline().strip())
    os.utime(held, (0, 0))
    spool.sweep(str(tmp_path))
    assert (held / "archive").exists()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with spool.directory(str(tmp_path)):
        assert not held.exists()


def test_what_is_young_a_link_or_another_mode_is_kept(tmp_path: Path) -> None:
    young, link, other = (tmp_path / f"{spool.PREFIX}{name}" for name in ("a", "b", "c"))
    young.mkdir(mode=0o700)
    moments_ago = time.time() - 5
    os.utime(young, (moments_ago, moments_ago))
    other.mkdir(mode=0o755)
    os.utime(other, (0, 0))
    link.symlink_to("/etc")
    spool.sweep(str(tmp_path))
    assert sorted(tmp_path.iterdir()) == [young, link, other]
