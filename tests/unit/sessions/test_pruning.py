"""Sessions that are over go, whoever looks; those in which a turn may run stay."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.contract.numbers import counted
from claude_mcp.errors import SessionNotReady, TooManySessions
from claude_mcp.sessions import labels, quota
from claude_mcp.sessions.pruning import UNANSWERED_SECONDS
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import OVERDUE_SECONDS, Status, rfc3339
from tests.unit.sessions.conftest import PROXY, RESTRICTED, container, proxy_container, request

if TYPE_CHECKING:
    from tests.unit.sessions.conftest import ScriptedEngine, request

EXPIRED: dict[str, Any] = {"status": "exited", "exitCode": 79}


def expiring(id: str, name: str, seconds_ago: float, **changes: Any) -> dict[str, Any]:
    """A session whose time was over then."""
    made = container(id, name, **changes)
    moment = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    made["labels"][labels.EXPIRES] = rfc3339(moment)
    return made


def state(running: bool) -> str:
    answer = {"turnRunning": running, "lastActivityAt": "then", "costUsd": 0.0}
    return f"for line in sys.stdin: answer(json.loads(line)['id'], ok={answer!r})"


async def pruned(sessions: Sessions, **options: Any) -> list[tuple[str, str, bool]]:
    found = await sessions.prune(**options)
    return sorted((each.session.name, each.reason, each.removed) for each in found)


async def test_expired_and_broken_sessions_are_pruned_and_no_others(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(
        container("a1", "ended", **EXPIRED),
        expiring("a2", "stopped-and-over", 1, status="exited"),
        expiring("a3", "over-just-now", 1),
        expiring("a4", "not-yet", -100, status="exited"),
        container("a5", "stopped", status="exited"),
        container("a6", "abandoned", status="exited", exitCode=78),
        container("a7", "running"),
    )
    over = [("abandoned", "broken"), ("ended", "expired"), ("stopped-and-over", "expired")]
    assert await pruned(sessions, dry_run=True) == [(*each, False) for each in over]
    assert "rm" not in scripted.calls
    assert await pruned(sessions) == [(*each, True) for each in over]
    assert await pruned(sessions) == []


@pytest.mark.parametrize(
    ("running", "seconds_ago", "goes"),
    [
        (True, OVERDUE_SECONDS + 10, False),
        (True, UNANSWERED_SECONDS + 10, False),
        (False, OVERDUE_SECONDS + 10, True),
        (None, OVERDUE_SECONDS + 10, False),
        (None, UNANSWERED_SECONDS + 10, True),
    ],
)
async def test_an_overdue_session_is_removed_unless_a_turn_runs_or_may_run(
    scripted: ScriptedEngine,
    sessions: Sessions,
    running: bool | None,
    seconds_ago: float,
    goes: bool,
) -> None:
    scripted.on("exec", "import sys; sys.exit(1)") if running is None else scripted.agent(
        state(running)
    )
    scripted.holds(expiring("a1", "overdue", seconds_ago))
    assert await pruned(sessions) == ([("overdue", "expired", True)] if goes else [])


async def test_a_session_that_cannot_be_removed_is_reported(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(container("a1", "ended", **EXPIRED))
    await sessions.engine()
    program = scripted.engine.program
    with open(program) as file:
        script = file.read()
    with open(program, "w") as file:
        file.write(script.replace("rm)", "rm) fail busy; exit 1;;\nnever)"))
    assert await pruned(sessions) == [("ended", "expired", False)]


async def test_listing_removes_expired_sessions_in_the_background(
    scripted: ScriptedEngine,
) -> None:
    scripted.holds(
        container("a1", "ended", **EXPIRED),
        container("a2", "broken", status="exited", exitCode=78),
        container("a3", "running"),
    )
    async with open_sessions(scripted.config) as sessions:
        listed = await sessions.list(ask=False)
        assert scripted.calls == ["version", "ps", "container"]
        assert {each.session.name: each.session.status for each in listed} == {
            "ended": Status.EXPIRED,
            "broken": Status.BROKEN,
            "running": Status.RUNNING,
        }
    # Leaving waited for it.
    assert scripted.calls == ["version", "ps", "container", "rm"]


async def test_proxies_go_with_the_sessions_that_are_pruned_and_where_none_is_left(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    def left() -> list[str]:
        return sorted(each["name"] for each in scripted.held)

    orphan, needed = (replace(PROXY, id=id) for id in ("orphan", "needed"))
    scripted.holds(
        container("a1", "ended", access=RESTRICTED, **EXPIRED),
        container("a2", "running", access=replace(RESTRICTED, proxy=needed)),
        *map(proxy_container, ("running", "exited", "running"), (PROXY, orphan, needed)),
    )
    before = left()
    assert await pruned(sessions, dry_run=True) == [("ended", "expired", False)]
    assert left() == before
    assert await pruned(sessions) == [("ended", "expired", True)]
    assert left() == [needed.name, "claude-mcp-running"]


async def test_listing_releases_the_proxies_of_expired_sessions(
    scripted: ScriptedEngine,
) -> None:
    scripted.holds(container("a1", "ended", access=RESTRICTED, **EXPIRED), proxy_container())
    async with open_sessions(scripted.config) as sessions:
        await sessions.list()
    assert scripted.calls == ["version", "ps", "container", "rm", "ps", "rm", "volume", "ps"]
    assert scripted.held == []


async def test_an_expired_session_is_not_started_again(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(container("a1", "ended", **EXPIRED))
    with pytest.raises(SessionNotReady, match="'ended' has expired and is being removed"):
        await request(sessions, "ended", "command", {})
    assert "start" not in scripted.calls


class TestQuota:
    """Who may run, when many have started."""

    THERE = (
        container("b1", "second", started="2026-11-23T06:26:13.000000002Z"),
        container("a1", "third", started="2026-11-23T06:26:14Z"),
        container("c1", "first", "paused", started="2026-11-23T06:26:12Z"),
        container("d1", "stopped", "exited", started="2026-11-23T06:26:11Z"),
        container("e1", "abandoned", "created", created="2026-11-23T06:00:00Z"),
    )

    @pytest.mark.parametrize(
        ("newcomer", "limit", "fits"),
        [
            ("c1", 1, True),
            ("b1", 1, False),
            ("b1", 2, True),
            ("a1", 2, False),
            ("a1", 3, True),
            (None, 3, False),
            (None, 4, True),
        ],
    )
    async def test_those_that_started_first_stay(
        self, scripted: ScriptedEngine, newcomer: str | None, limit: int, fits: bool
    ) -> None:
        scripted.holds(*self.THERE)
        async with open_sessions(replace(scripted.config, max_sessions=limit)) as sessions:
            id = None if newcomer is None else f"{newcomer:0<64}"
            check = quota.check if id is None else partial(quota.check_started, id=id)
            if fits:
                await check(await sessions.engine(), sessions.config)
            else:
                with pytest.raises(TooManySessions) as caught:
                    await check(await sessions.engine(), sessions.config)
                assert caught.value.message.startswith(
                    f"The limit of {counted(limit, 'running session')} (MAX_CONCURRENT_SESSIONS) "
                    "is reached: first (c10000000000)"
                )
        assert scripted.calls == ["version", "ps", "container"]

    async def test_without_a_limit_the_engine_is_not_asked(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        await quota.check(await sessions.engine(), sessions.config)
        assert scripted.calls == ["version"]

    async def test_a_stopped_session_is_not_started_beyond_the_limit(
        self, scripted: ScriptedEngine
    ) -> None:
        scripted.holds(*self.THERE)
        async with open_sessions(replace(scripted.config, max_sessions=3)) as sessions:
            with pytest.raises(TooManySessions):
                await request(sessions, "stopped", "command", {})
        assert "start" not in scripted.calls


def with_clone(made: dict[str, Any], kind: str = "clone") -> dict[str, Any]:
    made["labels"][labels.WORKSPACE] = kind
    return made


HOLDS = "for line in sys.stdin: answer(json.loads(line)['id'], ok={'files': ['a']})"
SAVED = "for line in sys.stdin: answer(json.loads(line)['id'], ok={})"


@pytest.mark.parametrize("kind", ["clone", "copy"])
async def test_an_expired_session_with_work_is_kept_and_can_be_used(
    scripted: ScriptedEngine, sessions: Sessions, kind: str
) -> None:
    held = with_clone(container("a1", "held", status="exited", exitCode=80), kind)
    scripted.holds(held, with_clone(container("a2", "saved", **EXPIRED), kind))
    scripted.agent(HOLDS)
    assert await pruned(sessions, dry_run=True) == [
        ("held", "expired", False), ("saved", "expired", False)
    ]  # fmt: skip
    found = {each.session.name: each for each in await sessions.prune()}
    assert (found["held"].removed, found["held"].kept) == (
        False, "It holds work that is nowhere else."
    )  # fmt: skip
    assert (found["saved"].removed, found["saved"].kept) == (True, "")
    assert "start" not in scripted.calls
    listed = {each.session.name: each.session for each in await sessions.list()}
    await sessions.finish_sweeping()
    assert (listed["held"].status, listed["held"].unsaved) == (Status.EXPIRED, True)
    assert await (await sessions.open("held")).request("unsaved", {}) == {"files": ["a"]}
    scripted.holds(held)
    assert [each.removed for each in await sessions.prune(discard=True)] == [True]


@pytest.mark.parametrize(("agent", "goes"), [(HOLDS, False), (SAVED, True)])
async def test_a_stopped_session_whose_time_is_over_is_asked_by_prune_alone(
    scripted: ScriptedEngine, sessions: Sessions, agent: str, goes: bool
) -> None:
    scripted.holds(with_clone(expiring("a1", "over", 10, status="exited", exitCode=137)))
    scripted.agent(agent)
    await sessions.list()
    await sessions.finish_sweeping()
    assert (len(scripted.held), "start" in scripted.calls) == (1, False)
    [found] = await sessions.prune(dry_run=True)
    assert (found.kept, "start" in scripted.calls) == (
        "It may hold work that is nowhere else.",
        False,
    )
    [found] = await sessions.prune()
    assert (found.removed, "1 changed file (a)" in found.kept) == (goes, not goes)
    assert len(scripted.held) == (0 if goes else 1)


async def test_an_expired_session_without_work_is_gone(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(with_clone(container("a1", "saved", **EXPIRED)))
    with pytest.raises(SessionNotReady, match="has expired"):
        await (await sessions.open("saved")).request("status", {})
    await sessions.list()
    await sessions.finish_sweeping()
    assert scripted.held == []
