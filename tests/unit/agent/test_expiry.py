"""When a session is over, from what it was told and when it was last used."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from claude_mcp.agent import ending
from claude_mcp.agent import expiry as module
from claude_mcp.agent.expiry import HELD_SECONDS, Expiry
from claude_mcp.contract.places import EXPIRED_EXIT_CODE, EXPIRY_GRACE_SECONDS
from claude_mcp.contract.settings import BYPASS, Settings

SETTINGS = Settings(BYPASS, idle_seconds=60.0, permission_seconds=60.0)


def unused() -> Any:
    raise AssertionError("the turns are not asked")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of this module alone: other threads of this process have theirs."""
    made = SimpleNamespace(time=lambda: 1000.0, monotonic=lambda: 1000.0)
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def began(clock: SimpleNamespace) -> float:
    return 1000.0


def test_whichever_comes_first_ends_it(began: float) -> None:
    settings = SETTINGS._replace(expires_at=5000.0, idle_timeout_seconds=60.0)
    expiry = Expiry(settings, unused, unused)
    assert expiry._due(began) == (1060.0, "it was unused for 60 s")
    assert expiry._due(4990.0) == (5000.0, "its lifetime is over")


def test_what_outlived_the_time_can_be_fetched_for_a_while_once(began: float) -> None:
    expiry = Expiry(SETTINGS._replace(expires_at=2000.0), unused, unused)
    over = (2500.0 + EXPIRY_GRACE_SECONDS, "its lifetime is over")
    assert expiry._due(2500.0) == over
    assert expiry._due(2550.0) == over


def test_a_session_that_is_started_after_its_time_is_over(began: float) -> None:
    assert Expiry(SETTINGS._replace(expires_at=500.0), unused, unused)._due(began) == (
        500.0,
        "its lifetime is over",
    )


def test_the_work_of_a_session_that_is_started_after_its_time_can_be_taken(began: float) -> None:
    settings = SETTINGS._replace(expires_at=500.0, workspace="clone")
    expiry = Expiry(settings, unused, unused)
    for last in (began, began + 50):
        assert expiry._due(last) == (last + EXPIRY_GRACE_SECONDS, "its lifetime is over")


HOURS = 3 * 3600.0


@pytest.mark.parametrize("jump", [HOURS, -HOURS])
def test_a_clock_that_is_set_changes_no_duration(
    began: float, clock: SimpleNamespace, jump: float
) -> None:
    settings = SETTINGS._replace(idle_timeout_seconds=60.0)
    expiry = Expiry(settings, unused, unused)
    clock.time = lambda: began + jump
    with expiry.use():
        pass
    assert expiry._due(expiry._wait_for_uses()) == (began + 60, "it was unused for 60 s")


@pytest.mark.parametrize("jump", [HOURS, -HOURS])
def test_a_lifetime_ends_by_the_clock(began: float, clock: SimpleNamespace, jump: float) -> None:
    expiry = Expiry(SETTINGS._replace(expires_at=5000.0), unused, unused)
    clock.time = lambda: began + jump
    assert expiry._due(began) == (5000.0 - jump, "its lifetime is over")


def test_a_session_whose_work_would_be_lost_stays_until_it_was_taken(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS._replace(expires_at=500.0, workspace="clone", stays_with_work=True)
    held = [True, True, False]
    slept: list[float] = []
    monkeypatch.setattr(Expiry, "_due", lambda expiry, last: (0.0, "its lifetime is over"))
    clock.sleep = slept.append

    def end(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(ending, "end", end)
    quiet = SimpleNamespace(wait_until_quiet=lambda: 0.0, busy=False)
    turns: Any = lambda: quiet  # noqa: E731
    with pytest.raises(SystemExit) as ended:
        Expiry(settings, turns, lambda: held.pop(0))._watch()
    assert ended.value.code == EXPIRED_EXIT_CODE
    assert slept == [HELD_SECONDS, HELD_SECONDS]
