"""Sessions have an owner: those of another one do not exist, whatever is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from claude_mcp.config import Config
from claude_mcp.contract.wording import worded
from claude_mcp.engine.dialects.docker import DOCKER
from claude_mcp.errors import SessionAmbiguous, SessionNotFound, TooManySessions, UsageError
from claude_mcp.sessions import labels, quota
from claude_mcp.sessions.limits import GIB, contain
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import container_name
from claude_mcp.sessions.usage import usage
from tests.unit.sessions.conftest import container

if TYPE_CHECKING:
    from claude_mcp.engine.engine import Container, Engine
    from tests.unit.sessions.conftest import ScriptedEngine

RED, BLUE = "team-red", "team-blue"


def owned(id: str, name: str, owner: str, **changes: Any) -> dict[str, Any]:
    made = {**container(id, name, **changes), "name": container_name(name, owner)}
    if owner:
        made["labels"][labels.OWNER] = owner
    return made


@asynccontextmanager
async def as_owner(scripted: ScriptedEngine, owner: str, **changes: Any) -> AsyncIterator[Sessions]:
    async with open_sessions(replace(scripted.config, owner=owner, **changes)) as sessions:
        yield sessions


@pytest.fixture
def held(scripted: ScriptedEngine) -> ScriptedEngine:
    scripted.holds(
        owned("aaaa1", "work", RED),
        owned("aaaa2", "work", BLUE),
        owned("bbbb1", "secret-plan", BLUE),
        owned("cccc1", "of-operator", ""),
        owned("dddd1", "half", BLUE, status="exited", exitCode=78),
    )
    return scripted


async def test_each_owner_lists_its_own_sessions_and_the_operator_all(held: ScriptedEngine) -> None:
    async def listed(owner: str) -> list[tuple[str, str]]:
        async with as_owner(held, owner) as sessions:
            found = await sessions.list(ask=False)
            assert [each.session for each in (await usage_of(sessions)).found] == [
                each.session for each in found
            ]
            return [(each.session.name, each.session.owner) for each in found]

    async def usage_of(sessions: Sessions) -> Any:
        held.on("stats", "")
        return await usage(sessions)

    assert await listed(RED) == [("work", RED)]
    assert await listed(BLUE) == [("half", BLUE), ("secret-plan", BLUE), ("work", BLUE)]
    assert len(await listed("")) == 5


async def test_a_name_means_the_owners_own_session(held: ScriptedEngine) -> None:
    for owner, id in ((RED, "aaaa1"), (BLUE, "aaaa2")):
        async with as_owner(held, owner) as sessions:
            assert (await sessions.find("work")).container_id == f"{id:0<64}"
    async with as_owner(held, "") as sessions:
        with pytest.raises(SessionAmbiguous, match="matches 2 sessions"):
            await sessions.find("work")


@pytest.mark.parametrize(
    "reference",
    [
        "secret-plan",
        "bbbb10000000",
        f"{'bbbb1':0<64}",
        "bbbb",
        "of-operator",
        "SECRET-PLAN",
        "half",
    ],
)
async def test_a_foreign_session_is_answered_like_one_that_never_was(
    held: ScriptedEngine, reference: str
) -> None:
    async with as_owner(held, RED) as sessions:
        with pytest.raises(SessionNotFound) as foreign:
            await sessions.find(reference)
        with pytest.raises(SessionNotFound) as nothing:
            await sessions.find("nothing-at-all")
        assert type(foreign.value) is type(nothing.value)
        assert foreign.value.message == f"There is no session {reference!r}."
        assert (
            foreign.value.hint == nothing.value.hint == ("Existing sessions: aaaa10000000 (work).")
        )
        destroyed = await sessions.destroy(reference)
        assert (destroyed.existed, destroyed.warnings) == (False, ())
        assert await sessions.destroy_each([reference]) == [destroyed]
    assert len(held.held) == 5


async def test_an_ambiguous_prefix_counts_only_the_owners_own(held: ScriptedEngine) -> None:
    async with as_owner(held, RED) as sessions:
        assert (await sessions.find("aaaa")).owner == RED


async def test_nothing_is_said_of_containers_that_are_no_sessions(held: ScriptedEngine) -> None:
    other = container("eeee1", "database", labels={}, image="postgres:17")
    held.holds(other)
    async with as_owner(held, RED) as sessions:
        with pytest.raises(SessionNotFound) as caught:
            await sessions.find("eeee1")
        assert caught.value.hint == "There are no sessions."


async def test_an_owner_prunes_its_own_sessions_only(held: ScriptedEngine) -> None:
    async with as_owner(held, RED) as sessions:
        assert await sessions.prune() == []
    async with as_owner(held, BLUE) as sessions:
        assert [each.session.name for each in await sessions.prune()] == ["half"]
    assert len(held.held) == 4


async def test_mine_is_what_the_client_created_with_this_token(held: ScriptedEngine) -> None:
    for each in (mine := owned("ffff1", "one", RED)), (theirs := owned("ffff2", "two", BLUE)):
        each["labels"][labels.CLIENT] = "claude-code"
    held.holds(mine, theirs)
    async with as_owner(held, RED) as sessions:
        assert [each.name for each in await sessions.created_by("claude-code")] == ["one"]


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        (
            {"max_own_sessions": 1},
            "The limit of 1 running session of this token is reached: work (aaaa10000000).",
            "Destroy one that is no longer needed.",
        ),
        (
            {"max_sessions": 4, "max_own_sessions": 2},
            "The limit of 4 running sessions (MAX_CONCURRENT_SESSIONS) is reached: "
            "work (aaaa10000000).",
            "Destroy one that is no longer needed.",
        ),
        ({"max_own_sessions": 2}, None, None),
        ({"owner": "team-new", "max_own_sessions": 1}, None, None),
        (
            {"owner": "team-new", "max_sessions": 4},
            "The limit of 4 running sessions (MAX_CONCURRENT_SESSIONS) is reached.",
            "Try again later.",
        ),
    ],
)
async def test_a_limit_names_no_foreign_session(
    held: ScriptedEngine, changes: dict[str, Any], message: str | None, hint: str | None
) -> None:
    config = replace(held.config, **{"owner": RED, **changes})
    async with open_sessions(config) as sessions:
        engine = await sessions.engine()
        if message is None:
            await quota.check(engine, config)
            return
        with pytest.raises(TooManySessions) as caught:
            await quota.check(engine, config)
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("others", "new", "may"),
    [
        ("10:00:01", "10:00:02", False),
        ("10:00:02", "10:00:01", True),
        # A busy engine may tell little more than the states.
        (None, "10:00:02", False),
        ("10:00:01", None, False),
        ("10:00:02", None, False),
    ],
)
async def test_the_session_that_started_first_stays_and_in_doubt_the_other_one(
    held: ScriptedEngine, others: str | None, new: str | None, may: bool
) -> None:
    held.holds(owned("ffff1", "other", "team-new"), owned("ffff2", "new", "team-new"))
    config = replace(held.config, owner="team-new", max_own_sessions=1)
    async with open_sessions(config) as sessions:
        engine = await sessions.engine()
        whole = engine.containers
        times = {"ffff1": others, "ffff2": new}

        async def containers(label: str) -> list[Container]:
            return [
                replace(each, started=f"2026-01-01T{time}Z" if time else "")
                for each in await whole(label)
                for time in [times.get(each.id[:5], "09:00:00")]
            ]

        asked = SimpleNamespace(containers=containers)
        newcomer = next(each.id for each in await whole(labels.OWNER) if each.id[:5] == "ffff2")
        with nullcontext() if may else pytest.raises(TooManySessions):
            await quota.check_started(cast("Engine", asked), config, newcomer)


def test_the_same_name_gives_each_owner_another_container() -> None:
    names = [container_name("work", owner) for owner in ("", RED, BLUE)]
    assert len(set(names)) == 3
    assert names[0] == "claude-mcp-work"
    assert all(name.startswith("claude-mcp-work") for name in names)


class TestLimits:
    CONFIG = Config({}, limits={"memory": "4g", "pids": "0"}, limits_fixed=True)

    @pytest.mark.parametrize("wanted", [{"memory": "5g"}, {"memory": "0"}])
    def test_a_session_may_not_ask_for_more(self, wanted: dict[str, str]) -> None:
        with pytest.raises(UsageError) as caught:
            contain(self.CONFIG, DOCKER, wanted, None)
        assert worded(caught.value.message) == "limits.memory may be at most 4g with this token."

    @pytest.mark.parametrize("wanted", [{"memory": "1g"}, {"memory": "4g"}, {"pids": "100"}, {}])
    def test_it_may_ask_for_less(self, wanted: dict[str, str]) -> None:
        found = contain(self.CONFIG, DOCKER, wanted, None).limits
        assert found.memory is not None
        assert found.memory <= 4 * GIB

    def test_what_the_operator_left_open_is_open(self) -> None:
        assert contain(self.CONFIG, DOCKER, {"cpus": "64"}, None).limits.cpus == 64
