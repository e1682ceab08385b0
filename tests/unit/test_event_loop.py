"""One failing async test leaves the others alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import anyio
import pytest

@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"

@pytest.fixture(scope="module")
async def kept(anyio_backend):
    yield "kept"

async def test_fails(kept):
    async with anyio.create_task_group():
        with pytest.raises(ValueError, match="never raised"):
            pass

async def test_passes(kept):
    await anyio.sleep(0)
"""


@pytest.mark.parametrize(
    ("plugins", "failed"), [((), 2), (("-p", "tests.event_loop"), 1)], ids=["without", "with"]
)
def test_a_failure_in_a_task_group_fails_one_test(
    plugins: tuple[str, ...], failed: int, tmp_path: Path
) -> None:
    (tmp_path / "test_two.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nanyio_mode = auto\n")
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *plugins, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert f"{failed} failed" in done.stdout
    assert done.returncode == 1
