"""One failing async test leaves the others alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from tests.event_loop import failing_alone

TESTS = """
import anyio
import pytest

@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"

@pytest.fixture(scope="module")
async def kept(anyio_backend):
    yield "kept"

async def test_fails_in_a_task_group(kept):
    async with anyio.create_task_group():
        with pytest.raises(ValueError, match="never raised"):
            pass

async def test_passes(kept):
    await anyio.sleep(0)
"""


@pytest.mark.parametrize(
    ("plugins", "outcome"),
    [((), "2 failed"), (("-p", "tests.event_loop"), "1 failed, 1 passed")],
    ids=["without", "with"],
)
def test_a_failure_in_a_task_group_fails_one_test(
    plugins: tuple[str, ...], outcome: str, tmp_path: Path
) -> None:
    (tmp_path / "test_two.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nanyio_mode = auto\ntimeout = 60\n")
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *plugins, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert outcome in done.stdout


async def test_a_test_that_hangs_is_cancelled() -> None:
    late: list[bool] = []
    with pytest.raises(pytest.fail.Exception, match=r"The test took longer than 0\.01 s\."):
        await failing_alone(anyio.sleep_forever, 0.01, lambda: late.append(True))()
    assert late
