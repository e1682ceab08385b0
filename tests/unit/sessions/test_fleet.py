"""Sessions on several engines are used together, whatever one of the engines does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from claude_mcp.config import Config
from claude_mcp.engine.address import EngineAddress
from claude_mcp.errors import (
    EngineUnavailable,
    NotASession,
    SessionAmbiguous,
    SessionExists,
    SessionNotFound,
    UsageError,
)
from claude_mcp.sessions import fleet as fleets
from claude_mcp.sessions import pruning
from claude_mcp.sessions.details import details
from claude_mcp.sessions.fleet import Fleet, open_fleet
from claude_mcp.sessions.outcomes import Destroyed, Unreachable
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.usage import usage
from tests.unit.sessions.conftest import VERSION, ScriptedEngine, container

HERE, THERE = "a1" * 6, "b2" * 6
GIB = 1024**3
STATUS = """\
answer(request()["id"], ok={
    "turnRunning": False, "lastActivityAt": "2026-11-23T07:00:00Z", "costUsd": 0.0,
})
request()
"""


class World:
    """Two engines, ``here`` and ``there``, each with a session of its own."""

    def __init__(self, directory: Path) -> None:
        self.here = self._engine(directory / "here")
        self.there = self._engine(directory / "there")
        self.here.holds(container(HERE, "near", created="2026-11-23T06:00:00Z"))
        self.there.holds(container(THERE, "far", created="2026-11-23T05:00:00Z"))

    @staticmethod
    def _engine(directory: Path) -> ScriptedEngine:
        directory.mkdir()
        engine = ScriptedEngine(directory)
        engine.agent(STATUS)
        engine.on("image", "pass")
        return engine

    def has_memory(self, engine: ScriptedEngine, gibibytes: int) -> None:
        info = {
            "KernelVersion": "6.1.0",
            "MemoryLimit": True,
            "CpuCfsQuota": True,
            "PidsLimit": True,
            "MemTotal": gibibytes * GIB,
        }
        engine.on("info", f"print({json.dumps(info)!r})")

    @property
    def config(self) -> Config:
        engines = {
            "here": EngineAddress(program=self.here.engine.program),
            "there": EngineAddress(program=self.there.engine.program),
        }
        return replace(self.here.config, engine=None, engines=engines)

    def forget_calls(self) -> None:
        for each in (self.here, self.there):
            each._calls.write_text("")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
async def fleet(world: World) -> AsyncIterator[Sessions]:
    async with open_fleet(world.config) as opened:
        yield opened


def with_broken(world: World, program: str = "/nowhere/docker") -> Config:
    """A third engine, which does not answer."""
    config = world.config
    return replace(config, engines={**config.engines, "broken": EngineAddress(program=program)})


NOWHERE = Unreachable("broken", "'/nowhere/docker' is not installed or not on PATH.")


async def test_the_sessions_of_all_engines_are_listed_together(
    world: World, fleet: Sessions
) -> None:
    answers = await fleet.survey()
    assert [(each.engine, each.session.name) for each in answers.found] == [
        ("there", "far"),
        ("here", "near"),
    ]
    assert all(each.activity is not None for each in answers.found)
    assert answers.unreachable == ()
    # Each engine is asked as often as one alone is.
    for each in (world.here, world.there):
        assert each.calls == ["version", "ps", "container", "exec"]
    assert await fleet.list(ask=False) == [replace(each, activity=None) for each in answers.found]


async def test_an_engine_that_cannot_be_used_is_named_and_the_others_are_listed(
    world: World,
) -> None:
    async with open_fleet(with_broken(world)) as fleet:
        answers = await fleet.survey(ask=False)
    assert [each.session.name for each in answers.found] == ["far", "near"]
    assert answers.unreachable == (NOWHERE,)
    assert str(NOWHERE) == f"Engine broken does not answer: {NOWHERE.problem}"


async def test_a_silent_engine_is_waited_for_once_and_then_no_longer_than_the_others_take(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "silent"
    directory.mkdir()
    silent = ScriptedEngine(directory)
    silent.on("version", "import time; time.sleep(600)")
    async with open_fleet(with_broken(world, silent.engine.program)) as fleet:
        for each in fleet.members[:2]:
            await each.engine()  # so that the time below matters to the silent one alone
        monkeypatch.setattr(fleets, "CONNECT_SECONDS", 0.01)
        for _ in range(3):
            answers = await fleet.survey(ask=False)
            assert [each.session.name for each in answers.found] == ["far", "near"]
            problem = "nothing came within 0.01 s."
            assert answers.unreachable == (Unreachable("broken", problem),)
            monkeypatch.setattr(fleets, "CONNECT_SECONDS", 600.0)
            monkeypatch.setattr(fleets, "SILENT_SECONDS", 600.0)
        with anyio.fail_after(60):
            while not silent.calls:  # its program may only just have been started
                await anyio.sleep(0.01)
        assert silent.calls == ["version"]


async def test_if_all_engines_are_silent_they_are_waited_for_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for engine in (world.here, world.there):
        engine.on("version", "import time; time.sleep(600)")
    monkeypatch.setattr(fleets, "CONNECT_SECONDS", 0.01)
    monkeypatch.setattr(fleets, "SILENT_SECONDS", 0.01)
    async with open_fleet(world.config) as fleet:
        for _ in range(2):
            with pytest.raises(EngineUnavailable, match="Engine here does not answer: nothing"):
                await fleet.survey(ask=False)


async def test_an_engine_that_answers_again_is_used_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleets, "SILENT_SECONDS", 60.0)
    async with open_fleet(world.config) as fleet:
        assert isinstance(fleet, Fleet)
        for each in ("here", "there"):
            fleet._silent[each] = "nothing came within 5 s."
        # All are waited for here, because all were silent.
        with anyio.fail_after(60):
            while fleet._silent:
                await fleet.survey(ask=False)
        assert world.there.calls[:2] == ["version", "version"]
        world.forget_calls()
        answers = await fleet.survey(ask=False)
        assert answers.unreachable == ()
        assert world.there.calls == ["ps", "container"]


async def test_an_engine_that_was_silent_and_now_fails_at_once_is_waited_for(
    world: World,
) -> None:
    async with open_fleet(with_broken(world)) as fleet:
        assert isinstance(fleet, Fleet)
        fleet._silent["broken"] = "nothing came within 5 s."
        with anyio.fail_after(60):
            while fleet._silent:
                await fleet.survey(ask=False)
        assert (await fleet.survey(ask=False)).unreachable == (NOWHERE,)


async def test_work_that_an_engine_does_not_finish_is_not_waited_for(
    world: World, fleet: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in fleet.members:
        await each.engine()
    monkeypatch.setattr(fleets, "ANSWER_SECONDS", 0.01)
    world.there.on("ps", "import time; time.sleep(600)")
    world.here.on("ps", "import time; time.sleep(600)")
    with pytest.raises(EngineUnavailable) as caught:
        await fleet.survey(ask=False)
    assert caught.value.message == (
        "Engine here does not answer: it was not done within 0.01 s. "
        "Engine there does not answer: it was not done within 0.01 s."
    )


async def test_an_engine_that_falls_silent_while_it_works_is_not_waited_for_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_fleet(world.config) as fleet:
        assert isinstance(fleet, Fleet)
        hung = fleet.members[1]

        async def work(member: Sessions) -> str:
            if member is hung:
                raise EngineUnavailable("Docker does not answer.")
            return "done"

        answers = await fleet.everywhere(work)
        assert (answers.found, fleet._silent) == (["done"], {})  # it said so at once
        monkeypatch.setattr(fleets, "SILENT_SECONDS", -1.0)
        await fleet.everywhere(work)
        assert fleet._silent == {"there": "Docker does not answer."}


@pytest.mark.parametrize(
    ("reference", "calls"),
    [
        ("far", ["version", "container"]),
        ("FAR", ["version", "container", "ps", "container"]),
        (THERE, ["version", "container"]),
        (THERE[:5], ["version", "container"]),
        ("there/far", ["version", "container"]),
        (f"there/{THERE[:5]}", ["version", "container"]),
    ],
)
async def test_a_reference_finds_its_engine(
    world: World, fleet: Sessions, reference: str, calls: list[str]
) -> None:
    handle = await fleet.open(reference)
    assert handle.session.name == "far"
    assert handle.engine.program == world.there.engine.program
    assert world.there.calls == calls


async def test_a_session_that_was_seen_costs_no_search(world: World, fleet: Sessions) -> None:
    await fleet.list(ask=False)
    world.forget_calls()
    assert (await fleet.find(THERE)).name == "far"
    assert (world.here.calls, world.there.calls) == ([], ["container"])
    handle = await fleet.open(THERE)
    await handle.request("status", {})
    world.forget_calls()
    assert (await fleet.open("far")).session.id == THERE
    assert (await fleet.at("far"))[1] == "far"
    assert (world.here.calls, world.there.calls) == ([], [])


async def test_a_name_on_several_engines_is_told_in_full(world: World, fleet: Sessions) -> None:
    world.here.holds(container(HERE, "same"))
    world.there.holds(container(THERE, "same"))
    with pytest.raises(SessionAmbiguous) as caught:
        await fleet.open("same")
    assert caught.value.message == (
        f"'same' is a session on 2 engines: here/same ({HERE}), there/same ({THERE})."
    )
    assert caught.value.hint == "Give the engine's name with it, or the id."
    assert (await fleet.open("there/same")).session.id == THERE
    # One that was used by its name may have got a namesake: it is not destroyed by mistake.
    await (await fleet.open("there/same")).request("status", {})
    assert (await fleet.open("same")).session.id == THERE
    with pytest.raises(SessionAmbiguous):
        await fleet.destroy("same")
    (outcome,) = await fleet.destroy_each(["same"])
    assert isinstance(outcome, SessionAmbiguous)


async def test_a_name_counts_more_than_an_id_and_case(world: World, fleet: Sessions) -> None:
    world.here.holds(container("abcd" * 3, "Work"))
    world.there.holds(container(THERE, "abcd"), container("c3" * 6, "work"))
    assert (await fleet.find("abcd")).id == THERE
    assert (await fleet.find("work")).id == "c3" * 6
    assert (await fleet.find("abcda")).name == "Work"


async def test_two_names_of_one_engine_are_one_session(world: World) -> None:
    config = world.config
    engines = {**config.engines, "again": config.engines["there"]}
    async with open_fleet(replace(config, engines=engines)) as fleet:
        assert [(each.engine, each.session.name) for each in await fleet.list(ask=False)] == [
            ("there", "far"),
            ("here", "near"),
        ]
        assert (await fleet.find("far")).id == THERE


async def test_what_no_engine_has_is_told_with_what_they_have(
    world: World, fleet: Sessions
) -> None:
    with pytest.raises(SessionNotFound) as caught:
        await fleet.open("neer")
    assert caught.value.hint == "Did you mean 'near'?"
    with pytest.raises(SessionNotFound) as caught:
        await fleet.open("unlike")
    assert caught.value.hint == f"Existing sessions: {THERE} (far), {HERE} (near)."
    with pytest.raises(UsageError, match="is none of these"):
        await fleet.open("")
    world.there.holds({**container("d4" * 6, "alien"), "labels": {}})
    with pytest.raises(NotASession):
        await fleet.open("alien")
    world.there.holds(container("d4" * 6, "one"), container("d4d4d5", "two"))
    world.here.holds(container("d4d4d6", "three"))
    with pytest.raises(SessionAmbiguous, match="'d4d4' matches 2 sessions"):
        await fleet.open("d4d4")


async def test_a_session_may_be_on_an_engine_that_does_not_answer(world: World) -> None:
    async with open_fleet(with_broken(world)) as fleet:
        assert (await fleet.open("far")).session.id == THERE
        with pytest.raises(EngineUnavailable) as caught:
            await fleet.open("unlike")
        assert caught.value.message == "No engine that answers has a session 'unlike'."
        assert caught.value.hint == str(NOWHERE)
        # It is not told as gone.
        with pytest.raises(EngineUnavailable):
            await fleet.destroy("unlike")
        outcomes = await fleet.destroy_each(["unlike", "far"], discard=True)
        assert isinstance(outcomes[0], EngineUnavailable)
        assert isinstance(outcomes[1], Destroyed)
        assert outcomes[1].existed


async def test_sessions_are_destroyed_where_they_are(world: World, fleet: Sessions) -> None:
    destroyed = await fleet.destroy("far")
    assert (destroyed.reference, destroyed.existed) == ("far", True)
    assert world.there.held == []
    gone = await fleet.destroy("far")
    assert (gone.session, gone.existed, gone.warnings) == (None, False, ())
    assert isinstance(gone.not_found, SessionNotFound)
    world.there.holds(container(THERE, "far"), {**container("d4" * 6, "alien"), "labels": {}})
    outcomes = await fleet.destroy_each(["near", "there/far", "lost", "alien"])
    assert [
        (each.reference, each.existed, len(each.warnings))
        for each in outcomes
        if isinstance(each, Destroyed)
    ] == [("near", True, 0), ("there/far", True, 0), ("lost", False, 0), ("alien", False, 1)]
    assert (world.here.held, len(world.there.held)) == ([], 1)


async def test_a_known_session_that_somebody_else_removed_is_gone(
    world: World, fleet: Sessions
) -> None:
    await (await fleet.open("far")).request("status", {})
    world.there.holds()
    destroyed = await fleet.destroy("far")
    assert destroyed.session is not None
    assert (destroyed.session.id, destroyed.existed) == (THERE, False)


async def test_expired_sessions_of_all_engines_are_pruned(world: World, fleet: Sessions) -> None:
    world.here.holds(container(HERE, "near", status="dead"))
    world.there.holds(container(THERE, "far", status="dead"))
    found = await fleet.prune(dry_run=True)
    assert [(each.session.name, each.reason) for each in found] == [
        ("near", "broken"),
        ("far", "broken"),
    ]
    assert all(isinstance(each, pruning.Pruned) for each in found)


async def test_the_sessions_of_a_client_are_found_everywhere(world: World, fleet: Sessions) -> None:
    for engine, id, name in ((world.here, HERE, "near"), (world.there, THERE, "far")):
        made: dict[str, Any] = container(id, name)
        made["labels"] |= {"claude-mcp.client": "someone"}
        engine.holds(made)
    assert [each.name for each in await fleet.created_by("someone")] == ["near", "far"]


async def test_sessions_are_measured_on_all_engines(world: World, fleet: Sessions) -> None:
    for engine, id in ((world.here, HERE), (world.there, THERE)):
        measured = {
            "ID": f"{id:0<64}", "CPUPerc": "1.50%", "MemUsage": "1MiB / 2MiB", "PIDs": "3",
            "BlockIO": "0B / 0B", "NetIO": "0B / 0B",
        }  # fmt: skip
        engine.on("stats", f"print({json.dumps(measured)!r})")
    answers = await usage(fleet)
    assert [
        (each.engine, each.session.name, each.stats and each.stats.pids) for each in answers.found
    ] == [("here", "near", 3), ("there", "far", 3)]
    world.forget_calls()
    answers = await usage(fleet, ["far", "near"])
    assert [each.session.name for each in answers.found] == ["far", "near"]
    assert (world.here.calls.count("stats"), world.there.calls.count("stats")) == (1, 1)


async def test_what_is_known_of_a_session_names_its_engine(world: World, fleet: Sessions) -> None:
    world.there.holds(container(THERE, "far", status="exited"))
    found = await details(fleet, "far")
    assert (found.listed.engine, found.listed.session.name) == ("there", "far")
    assert (await fleet.at("far"))[1] == THERE


async def test_the_hint_names_the_table_and_no_variable_of_ours(tmp_path: Path) -> None:
    program = tmp_path / "docker"
    program.write_text(
        "#!/bin/sh\necho '" + json.dumps({"Client": VERSION["Client"]}) + "'\n"
        "echo 'Cannot connect to the Docker daemon at tcp://far:1. Is it running?' >&2\nexit 1\n"
    )
    program.chmod(0o755)
    address = EngineAddress(program=str(program), host="tcp://far:1")
    config = Config(environment={"PATH": "/bin"}, engines={"far": address, "farther": address})
    async with open_fleet(config) as fleet:
        with pytest.raises(EngineUnavailable) as caught:
            await fleet.members[0].engine()
    assert caught.value.hint is not None
    start = "The configuration file's [engines.far] names this engine. Start it"
    assert caught.value.hint.startswith(start)


async def test_what_needs_one_engine_says_so(fleet: Sessions) -> None:
    with pytest.raises(UsageError) as caught:
        await fleet.engine()
    assert caught.value.message == (
        "This needs one engine, and several are configured: here, there."
    )


class TestPlacing:
    async def test_a_session_is_created_where_the_caller_says(
        self, world: World, fleet: Sessions
    ) -> None:
        async with fleet.placed("there", "far", None) as (chosen, why):
            assert (await chosen.name(), why) == ("there", None)
        assert (world.here.calls, world.there.calls) == ([], [])
        with pytest.raises(UsageError) as caught:
            async with fleet.placed("thre", None, None):
                raise AssertionError
        assert caught.value.hint == "Did you mean 'there'? Configured: here, there."

    async def test_an_engine_alone_has_its_own_name_only(self, world: World) -> None:
        (one,) = [each for each in [Sessions(world.config.on("here"), None)]]  # type: ignore[arg-type]
        async with one.placed("here", None, None) as (chosen, why):
            assert (chosen, why) == (one, None)
        with pytest.raises(UsageError) as caught:
            async with one.placed("there", None, None):
                raise AssertionError
        assert caught.value.hint is not None
        assert caught.value.hint.endswith("Configured: here.")

    async def test_otherwise_where_the_smallest_part_of_the_memory_is_promised(
        self, world: World
    ) -> None:
        world.has_memory(world.here, 8)
        world.has_memory(world.there, 64)
        world.there.holds(container(THERE, "far"), container("c3" * 6, "more"))
        async with open_fleet(with_broken(world)) as fleet:
            async with fleet.placed(None, "new", None) as (chosen, why):
                assert await chosen.name() == "there"
            assert why == (
                "there has the most room (2 running sessions, 4.0 of 64.0 GiB promised). here: "
                "1 running session, 2.0 of 8.0 GiB promised; broken does not answer."
            )
            assert sorted(world.there.calls) == ["container", "image", "info", "ps", "version"]

    async def test_sessions_that_are_being_created_count(
        self, world: World, fleet: Sessions
    ) -> None:
        for each in (world.here, world.there):
            world.has_memory(each, 8)
            each.holds()
        async with (
            fleet.placed(None, "one", None) as (first, _),
            fleet.placed(None, "two", None) as (second, _),
        ):
            assert [await first.name(), await second.name()] == ["here", "there"]
        async with fleet.placed(None, "three", None) as (third, _):
            assert await third.name() == "here"

    async def test_a_name_is_given_once_unless_the_caller_names_the_engine(
        self, world: World, fleet: Sessions
    ) -> None:
        for each in (world.here, world.there):
            world.has_memory(each, 8)
        with pytest.raises(SessionExists) as caught:
            async with fleet.placed(None, "far", None):
                raise AssertionError
        assert caught.value.message == "A session named 'far' already exists: there/far."
        async with fleet.placed("here", "far", None):
            pass

    async def test_an_owner_hears_nothing_of_other_owners_sessions(self, world: World) -> None:
        for each in (world.here, world.there):
            world.has_memory(each, 8)
        async with (
            open_fleet(replace(world.config, owner="red")) as fleet,
            fleet.placed(None, "far", None) as (_, why),
        ):
            assert why == "here has the most room."
