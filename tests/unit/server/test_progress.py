from __future__ import annotations

import re

import anyio
import pytest

from claude_mcp.errors import EngineError
from claude_mcp.server.progress import Reporter
from claude_mcp.sessions.progress import Amount

pytestmark = pytest.mark.anyio


class Listener:
    """Takes what a client would get."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, str | None]] = []
        self.totals: list[float | None] = []
        self.spoken = anyio.Event()

    async def __call__(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        self.totals.append(total)
        self.heard.append((progress, message))
        self.spoken.set()


async def test_messages_are_numbered_upwards() -> None:
    listener = Listener()
    report = Reporter(listener)
    await report("creating")
    await report("starting\ud800")
    assert listener.heard == [(1.0, "creating"), (2.0, "starting?")]
    assert listener.totals == [None, None]


async def test_amounts_are_the_numbers_and_never_go_back() -> None:
    listener = Listener()
    report = Reporter(listener)
    await report("packing")
    await report("copying", Amount(0, 4096))
    await report("copying", Amount(2048, 4096))
    await report("copying", Amount(2048, 4096))
    await report("copying", Amount(4096, 4096))
    await report("still there")
    await report("building", Amount(1, 2, "step"))
    await report("sorting", Amount(3, None, "file"))
    assert listener.heard == [
        (1.0, "packing"),
        (2.0, "copying: 0 B of 4 KiB"),
        (2049.0, "copying: 2 KiB of 4 KiB"),
        (2050.0, "copying: 2 KiB of 4 KiB"),
        (4097.0, "copying: 4 KiB of 4 KiB"),
        (4098.0, "still there"),
        (4099.0, "building: 1 of 2 steps"),
        (4102.0, "sorting: 3 files"),
    ]
    assert listener.totals == [None, 4097.0, 4097.0, 4097.0, 4097.0, None, 4100.0, None]


async def test_silent_work_sends_heartbeats() -> None:
    listener = Listener()
    report = Reporter(listener, heartbeat_seconds=0.001)

    async def work() -> str:
        await listener.spoken.wait()
        return "done"

    assert await report.follow(work) == "done"
    number, message = listener.heard[0]
    assert number == 1.0
    assert re.fullmatch(r"still running, \d+ s", message or "")


async def test_an_error_in_the_work_is_raised_unchanged() -> None:
    async def work() -> None:
        raise EngineError("It failed.")

    with pytest.raises(EngineError, match=r"^It failed\.$"):
        await Reporter(Listener()).follow(work)


async def test_cancellation_passes_through() -> None:
    cleaned_up = False

    async def work() -> None:
        nonlocal cleaned_up
        try:
            await anyio.sleep_forever()
        finally:
            cleaned_up = True

    with anyio.CancelScope() as scope:
        scope.cancel()
        await Reporter(Listener()).follow(work)
    assert (scope.cancelled_caught, cleaned_up) == (True, True)
