"""Who may stay when several sessions start at once, on an engine that tells of them late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from claude_mcp.config import Config
from claude_mcp.engine.engine import Container, Engine
from claude_mcp.errors import TooManySessions
from claude_mcp.sessions import quota

ONE = Config({}, max_sessions=1)
NEW = "new"


def container(id: str, status: str, started: str = "", created: str = "10:00:00") -> Container:
    at = f"2026-01-01T{started}Z" if started else ""
    return Container(id, id, f"2026-01-01T{created}Z", status, 0, "", "", {}, started=at)


class Answers:
    """An engine that tells of these containers, one answer after the other; the last one stays."""

    def __init__(self, *answers: Sequence[Container]) -> None:
        self.left = list(answers)

    async def containers(self, label: str) -> list[Container]:
        return list(self.left.pop(0) if len(self.left) > 1 else self.left[0])


async def check(*answers: Sequence[Container]) -> Answers:
    engine = Answers(*answers)
    await quota.check_started(cast("Engine", engine), ONE, NEW)
    return engine


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "VISIBLE_SECONDS", 0.0)


MINE = container(NEW, "running", "10:00:02")
STARTING = container("other", "created")


async def test_one_that_started_first_and_is_seen_to_run_only_later_stays() -> None:
    """Podman notes when a container started, and some time later that it runs."""
    other = container("other", "running", "10:00:01")
    with pytest.raises(TooManySessions):
        await check([STARTING, MINE], [STARTING, MINE], [other, MINE])


async def test_one_that_started_later_is_refused_by_itself() -> None:
    other = container("other", "running", "10:00:03")
    engine = await check([STARTING, MINE], [container("other", "initialized"), MINE], [other, MINE])
    assert len(engine.left) == 1


@pytest.mark.parametrize("status", ["exited", "removing"])
async def test_one_that_did_not_come_to_run_is_not_waited_for(status: str) -> None:
    engine = await check([STARTING, MINE], [container("other", status), MINE], [])
    assert len(engine.left) == 1


async def test_one_that_was_not_created_has_not_started() -> None:
    engine = await check([MINE], [STARTING, MINE])
    assert len(engine.left) == 1


async def test_only_where_there_may_be_no_room_is_anything_waited_for() -> None:
    engine = Answers([STARTING, MINE], [])
    await quota.check_started(cast("Engine", engine), Config({}, max_sessions=2), NEW)
    assert engine.left == [[]]


async def test_ones_own_start_is_seen_before_anything_is_decided() -> None:
    other = container("other", "running", "10:00:03")
    engine = await check([other, container(NEW, "created")], [other, MINE], [])
    assert engine.left == [[]]


@pytest.mark.usefixtures("impatient")
async def test_one_that_does_not_start_is_not_waited_for_longer() -> None:
    await check([STARTING, MINE])


@pytest.mark.usefixtures("impatient")
async def test_in_doubt_of_ones_own_start_the_others_stay() -> None:
    with pytest.raises(TooManySessions):
        await check([container("other", "running", "10:00:03"), container(NEW, "created")])


async def test_one_that_was_abandoned_is_not_waited_for() -> None:
    engine = await check([container("other", "created", created="09:00:00"), MINE], [])
    assert engine.left == [[]]
