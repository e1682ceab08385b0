"""The engine with the most room gets the next session."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from claude_mcp.sessions import capacity
from claude_mcp.sessions.capacity import Capacity, measure, roomiest
from tests.unit.sessions.conftest import ScriptedEngine, container

GIB = 1024**3
EMPTY = Capacity(0, 0, 16 * GIB, has_image=True)


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        (EMPTY, EMPTY, "first"),
        (replace(EMPTY, promised_bytes=GIB), EMPTY, "second"),
        (replace(EMPTY, promised_bytes=GIB), replace(EMPTY, memory_bytes=4 * GIB), "second"),
        # More in all, but a smaller part.
        (
            replace(EMPTY, running=1, promised_bytes=2 * GIB, memory_bytes=4 * GIB),
            replace(EMPTY, running=3, promised_bytes=6 * GIB, memory_bytes=64 * GIB),
            "second",
        ),
        (replace(EMPTY, running=1), EMPTY, "second"),
        (replace(EMPTY, coming=1), EMPTY, "second"),
        (replace(EMPTY, is_full=True), replace(EMPTY, promised_bytes=GIB), "second"),
        (replace(EMPTY, has_image=False), replace(EMPTY, is_full=True), "second"),
        # One that does not say what it has counts as a small one.
        (replace(EMPTY, memory_bytes=None, promised_bytes=GIB),
         replace(EMPTY, promised_bytes=GIB), "second"),
    ],
)  # fmt: skip
def test_the_roomiest_engine(first: Capacity, second: Capacity, chosen: str) -> None:
    assert roomiest({"first": first, "second": second}) == chosen


def test_what_must_be_mounted_needs_an_engine_that_can() -> None:
    measured = {
        "far": replace(EMPTY, mounts=False),
        "near": replace(EMPTY, promised_bytes=GIB, is_full=True),
    }
    assert roomiest(measured) == "far"
    assert roomiest(measured, mounting=True) == "near"


def test_an_engine_without_figures_is_told_so() -> None:
    one = Capacity(1, 2 * GIB, None, has_image=False)
    assert str(one) == "1 running session, 2.0 GiB promised, without the image"


async def test_an_engine_is_asked_for_what_is_taken(scripted: ScriptedEngine) -> None:
    info = {"KernelVersion": "6", "MemoryLimit": True, "CpuCfsQuota": True, "PidsLimit": True}
    scripted.on("info", f"print({json.dumps({**info, 'MemTotal': 8 * GIB})!r})")
    scripted.on("image", "import sys; sys.exit(sys.argv[-1] != 'image:2')")
    small = container("a1" * 6, "small", host={"Memory": GIB})
    scripted.holds(
        small,
        container("b2" * 6, "unlimited"),
        container("c3" * 6, "stopped", status="exited"),
        container("d4" * 6, "paused", status="paused"),
    )
    config = replace(scripted.config, max_sessions=3)
    measured = await measure(scripted.engine, config, "image:2")
    assert measured == Capacity(
        running=3,
        promised_bytes=5 * GIB,
        memory_bytes=8 * GIB,
        has_image=True,
        is_full=True,
        names=frozenset({"small", "unlimited", "stopped", "paused"}),
    )
    assert sorted(scripted.calls) == ["container", "image", "info", "ps"]
    again = await measure(scripted.engine, replace(config, max_sessions=None, image="other"), None)
    assert (again.has_image, again.is_full) == (False, False)
    assert capacity.reason("one", {"one": measured}, []).startswith("one has the most room (3 ")
