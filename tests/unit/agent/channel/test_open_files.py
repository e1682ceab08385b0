"""Whatever a session starts in any number leaves the agent descriptors to go on with."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Iterator

import pytest

from claude_mcp.agent.channel.open_files import Room, TooManyOpen

PATIENCE_SECONDS = 60.0


@pytest.fixture
def spare() -> Iterator[int]:
    """How many descriptors may still be opened, at a lowered limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowered = len(os.listdir("/proc/self/fd")) + 40
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowered, hard))
    yield 40
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_room_is_refused_when_only_the_reserve_is_left(spare: int) -> None:
    with Room(10, reserve=20).taken(), pytest.raises(TooManyOpen), Room(20, reserve=20).taken():
        pass  # what the first is about to open counts
    with Room(20, reserve=10).taken():
        pass


def test_room_that_is_given_back_is_taken_by_who_waits(spare: int) -> None:
    room, held = Room(20, reserve=10), threading.Event()

    def hold() -> None:
        with room.taken():
            held.set()
            time.sleep(0.1)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(PATIENCE_SECONDS)
    with room.taken(PATIENCE_SECONDS):
        pass
    thread.join()


def test_room_is_not_refused_because_another_call_is_still_looking(
    spare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine, many channels arrive while one of them counts the open files."""
    room, looking, go_on = Room(4, reserve=10), threading.Event(), threading.Event()
    count = os.listdir

    def slow_at_first(path: str) -> list[str]:
        if not looking.is_set():
            looking.set()
            assert go_on.wait(PATIENCE_SECONDS)
        return count(path)

    def take() -> None:
        with room.taken():
            pass

    monkeypatch.setattr(os, "listdir", slow_at_first)
    first = threading.Thread(target=take)
    first.start()
    assert looking.wait(PATIENCE_SECONDS)
    threading.Timer(0.1, go_on.set).start()
    take()
    first.join()


def test_there_is_no_room_when_not_even_the_open_files_can_be_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(path: str) -> list[str]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "listdir", full)
    with pytest.raises(TooManyOpen), Room(1, reserve=0).taken():
        pass
