"""What begins a thread or a process waits a little where a session has no room for one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from claude_mcp.agent.channel import threads


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "POLL_SECONDS", 0.001)


@pytest.mark.parametrize("error", [BlockingIOError, RuntimeError])
def test_it_is_tried_until_there_is_room(error: type[Exception]) -> None:
    """A process that was killed counts until its parent has asked for it."""
    left = [error(), error()]

    def begin() -> str:
        if left:
            raise left.pop()
        return "begun"

    assert threads.retry_at_limit(begin) == "begun"


@pytest.mark.parametrize("error", [BlockingIOError, RuntimeError])
def test_without_any_room_it_is_told(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    monkeypatch.setattr(threads, "time", clock)
    monkeypatch.setattr(threads, "POLL_SECONDS", 0.75 * threads.RETRY_SECONDS)
    tries = []

    def begin() -> None:
        tries.append(1)
        raise error

    with pytest.raises(error):
        threads.retry_at_limit(begin)
    assert len(tries) == 3


def test_other_failures_are_not_waited_out() -> None:
    tries = []

    def begin() -> None:
        tries.append(1)
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        threads.retry_at_limit(begin)
    assert len(tries) == 1
