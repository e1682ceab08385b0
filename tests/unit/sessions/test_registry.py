"""Find, list, use and destroy sessions; the engine is the only memory."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from claude_mcp.config import Config
from claude_mcp.engine.docker_cli import DockerCliEngine
from claude_mcp.errors import (
    EngineError,
    EngineNotFound,
    ImageNotFound,
    NotASession,
    SessionAmbiguous,
    SessionNotFound,
    SessionNotReady,
    UsageError,
)
from claude_mcp.sessions import activity, labels, references
from claude_mcp.sessions.activity import Activity
from claude_mcp.sessions.channel import channels as channel_module
from claude_mcp.sessions.network.forwarding import (
    PORTS_LABEL,
    PORTS_OF_LABEL,
    Forwarding,
    Published,
)
from claude_mcp.sessions.outcomes import Destroyed, Listed
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import Session, Status, container_name
from tests.unit.sessions.conftest import PROXY, RESTRICTED, container, proxy_container, request

if TYPE_CHECKING:
    from tests.unit.sessions.conftest import ScriptedEngine, request

ECHO = "for line in sys.stdin:\n    one = json.loads(line); answer(one['id'], ok=one)\n"


def session(id: str, name: str, status: Status = Status.RUNNING) -> Session:
    return Session(
        id=f"{id:0<12}",
        container_id=f"{id:0<64}",
        name=name,
        container_name=f"claude-mcp-{name}",
        project_path=f"/projects/{name}",
        image="image:1",
        provider="anthropic",
        credentials=CredentialSource.SERVER,
        status=status,
        created_at="2026-11-23T06:26:12Z",
    )


def ending(left: list[dict[str, Any]], words: str) -> str:
    """An exec that fails with these words on stdout; afterwards there are these containers."""
    script = (
        "import os, sys\nfor name in os.listdir('containers'): os.unlink(f'containers/{name}')\n"
    )
    for each in left:
        file, text = f"containers/{each['id']}={each['name']}", json.dumps(each)
        script += f"open({file!r}, 'w').write({text!r} + '\\n')\n"
    return script + f"print({words!r}, end='\\r\\n')\nsys.exit(126)\n"


class TestChoose:
    """The last step of finding, on all sessions that there are."""

    THERE = (session("abcd1", "fix-tests"), session("abcd2", "ü"), session("cafe", "abcd"))

    @pytest.mark.parametrize(
        ("reference", "name"), [("abcd", "abcd"), ("abcd1", "fix-tests"), ("ü", "ü")]
    )
    def test_a_name_or_one_fitting_id_is_enough(self, reference: str, name: str) -> None:
        assert references.choose(reference, list(self.THERE)).name == name

    @pytest.mark.parametrize(
        ("reference", "name"), [("Fix-Tests", "fix-tests"), ("Ü", "ü"), ("ABCD", "abcd")]
    )
    def test_a_name_is_found_in_any_case(self, reference: str, name: str) -> None:
        assert references.choose(reference, list(self.THERE)).name == name

    def test_names_that_differ_only_in_case_are_told_apart(self) -> None:
        both = [session("a001", "Fix"), session("a002", "fix")]
        assert references.choose("Fix", both).name == "Fix"
        with pytest.raises(SessionAmbiguous):
            references.choose("FIX", both)

    def test_of_many_sessions_some_are_named_and_the_rest_counted(self) -> None:
        many = [session(f"a{number:03}", f"name-{number:03}") for number in range(13)]
        with pytest.raises(SessionNotFound) as caught:
            references.choose("zzz", many)
        assert str(caught.value).endswith("a00900000000 (name-009) and 3 more.")

    @pytest.mark.parametrize(
        ("reference", "hint"),
        [
            ("fix-test", "Did you mean 'fix-tests'?"),
            (
                "zzz",
                "Existing sessions: abcd10000000 (fix-tests), abcd20000000 (ü), "
                "cafe00000000 (abcd).",
            ),
            ("ABCD1", "Existing sessions: "),
            ("caf", "Existing sessions: "),
            ("x" * 200, "Existing sessions: "),
            ("--all", "Existing sessions: "),
            ("two\nlines", "Existing sessions: "),
        ],
    )
    def test_an_unknown_reference_is_answered_with_the_existing_sessions(
        self, reference: str, hint: str
    ) -> None:
        with pytest.raises(SessionNotFound) as caught:
            references.choose(reference, list(self.THERE))
        assert str(caught.value).startswith(f"There is no session {reference!r}. {hint}")

    def test_a_message_names_a_limited_number_of_sessions(self) -> None:
        many = [session(f"abcd{number:03}", f"s{number}") for number in range(100)]
        with pytest.raises(SessionAmbiguous) as caught:
            references.choose("abcd", many)
        assert str(caught.value).startswith("'abcd' matches 100 sessions: abcd00000000 (s0), ")
        assert str(caught.value).count("(s") == 10


class TestFind:
    async def test_a_session_is_found_by_name_id_and_prefix_with_one_call(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "fix"), container("abcd2", "other"))
        for reference in ("fix", "abcd1", f"{'abcd1':0<12}", f"{'abcd1':0<64}"):
            assert await sessions.find(reference) == session("abcd1", "fix")
        assert scripted.calls == ["version", *["container"] * 4]

    async def test_a_name_wins_over_an_id_that_begins_like_it(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("cafe1", "other"), container("abcd1", "cafe"))
        assert await sessions.find("cafe") == session("abcd1", "cafe")

    async def test_a_prefix_that_other_containers_share_is_enough(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        foreign = container("abcd2", "foreign", labels={})
        scripted.holds(container("abcd1", "fix"), foreign)
        assert await sessions.find("abcd") == session("abcd1", "fix")

    async def test_a_prefix_of_several_sessions_is_ambiguous(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "a"), container("abcd2", "b"), container("ef", "c"))
        with pytest.raises(SessionAmbiguous) as caught:
            await sessions.find("abcd")
        assert str(caught.value) == (
            "'abcd' matches 2 sessions: abcd10000000 (a), abcd20000000 (b)."
        )

    async def test_a_container_of_somebody_else_is_no_session(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "foreign", labels={}))
        for reference in ("foreign", "abcd1", "claude-mcp-foreign"):
            with pytest.raises(SessionNotFound):
                await sessions.find(reference)

    async def test_a_missing_session_is_answered_with_the_existing_ones(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "fix-tests"), container("abcd2", "ü"))
        with pytest.raises(SessionNotFound) as caught:
            await sessions.find("zzz")
        assert str(caught.value) == (
            "There is no session 'zzz'. "
            "Existing sessions: abcd10000000 (fix-tests), abcd20000000 (ü)."
        )

    @pytest.mark.parametrize("reference", ["taken", "beef"])
    async def test_a_container_of_that_name_or_id_that_is_no_session_is_told_of(
        self, scripted: ScriptedEngine, sessions: Sessions, reference: str
    ) -> None:
        other = {**container("beef", "taken"), "labels": {}}
        scripted.holds(other, container("abcd1", "token"))
        with pytest.raises(NotASession) as caught:
            await sessions.find(reference)
        assert str(caught.value) == (
            f"There is no session {reference!r}. The container claude-mcp-taken of image "
            f"{other['image']} is not one of ours. If nobody needs it, remove it with "
            f"'{scripted.engine.program} rm --force claude-mcp-taken'."
        )
        destroyed = await sessions.destroy(reference)
        assert (destroyed.existed, destroyed.warnings) == (False, (str(caught.value),))
        assert len(scripted.held) == 2

    async def test_a_proxy_is_not_offered_for_removal(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        proxy = {**proxy_container(), "id": "cafe", "name": "cafe"}
        scripted.holds(proxy)
        with pytest.raises(NotASession, match="is the proxy of restricted sessions and ends with"):
            await sessions.find("cafe")

    async def test_without_any_session_the_hint_is_to_create_one(self, sessions: Sessions) -> None:
        with pytest.raises(SessionNotFound) as caught:
            await sessions.find("fix")
        assert str(caught.value) == ("There is no session 'fix'. There are no sessions.")

    @pytest.mark.parametrize("reference", ["", " ", "\n", "a\0b", "x" * 201])
    async def test_what_cannot_be_a_reference_is_refused_without_a_call(
        self, scripted: ScriptedEngine, sessions: Sessions, reference: str
    ) -> None:
        with pytest.raises(UsageError, match="A session is named by its id, a prefix of its id"):
            await sessions.find(reference)
        assert scripted.calls == []


class TestList:
    async def test_sessions_are_listed_oldest_first_with_two_calls(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        old = container("ef", "old", "exited", created="2025-01-01T00:00:00Z")
        scripted.holds(
            container("abcd1", "b"), container("abcd2", "a"), old, container("x", "x", labels={})
        )
        listed = await sessions.list()
        assert [(each.session.name, each.session.status, each.engine) for each in listed] == [
            ("old", Status.STOPPED, "docker"),
            ("a", Status.RUNNING, "docker"),
            ("b", Status.RUNNING, "docker"),
        ]
        assert scripted.calls[:3] == ["version", "ps", "container"]
        assert scripted.calls.count("exec") == 2

    async def test_none_is_an_empty_list(self, sessions: Sessions) -> None:
        assert await sessions.list() == []

    async def test_running_sessions_say_what_they_are_doing(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "working"), container("abcd2", "over", "exited"))
        state = {
            "turnRunning": True,
            "lastActivityAt": "2026-11-23T06:27:00Z",
            "costUsd": 0.5,
            "turnId": "6b0b0f3e",
            "turnMs": 61_000,
            "lastStep": "Bash: make\ttest",
            "model": "claude-opus-4-5",
            "questions": 1,
            "background": 2,
        }
        scripted.agent(f"for line in sys.stdin: answer(json.loads(line)['id'], ok={state!r})")
        doing = Activity(
            turn_running=True,
            last_activity_at="2026-11-23T06:27:00Z",
            cost_usd=0.5,
            turn_id="6b0b0f3e",
            turn_ms=61_000,
            last_step="Bash: make test",
            model="claude-opus-4-5",
            questions=1,
            background=2,
        )
        assert await sessions.list() == [
            Listed(session("abcd2", "over", Status.STOPPED), "docker"),
            Listed(session("abcd1", "working"), "docker", doing),
        ]
        assert scripted.calls.count("exec") == 1

    async def test_nobody_is_asked_if_only_the_sessions_are_wanted(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "a"))
        assert await sessions.list(ask=False) == [Listed(session("abcd1", "a"), "docker")]
        assert scripted.calls == ["version", "ps", "container"]

    async def test_a_session_that_does_not_answer_delays_no_other(
        self, scripted: ScriptedEngine, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(activity, "ANSWER_SECONDS", 0.01)
        scripted.holds(container("abcd1", "a"), container("abcd2", "b", "exited"))
        scripted.agent("request()\nrequest()")
        assert await sessions.list() == [
            Listed(session("abcd1", "a"), "docker", problem=activity.SILENT),
            Listed(session("abcd2", "b", Status.STOPPED), "docker"),
        ]

    @pytest.mark.parametrize("left", [["exited"], []], ids=["stopped", "removed"])
    @pytest.mark.parametrize(
        "words",
        [
            "OCI runtime exec failed: exec failed: cannot exec in a stopped state: unknown",
            "OCI runtime exec failed: exec failed: executing setns process: exit status 1: unknown",
        ],
    )
    async def test_a_session_that_ends_while_it_is_asked_is_listed_as_it_is_then(
        self,
        scripted: ScriptedEngine,
        sessions: Sessions,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        left: list[str],
        words: str,
    ) -> None:
        monkeypatch.setattr(channel_module, "SETTLE_SECONDS", 0)
        monkeypatch.setattr(activity, "ANSWER_SECONDS", 60)
        monkeypatch.setattr(activity, "TOTAL_SECONDS", 60)
        scripted.holds(container("abcd1", "a"))
        scripted.on("exec", ending([container("abcd1", "a", each) for each in left], words))
        expected = [Listed(session("abcd1", "a", Status.STOPPED), "docker") for _ in left]
        assert await sessions.list() == expected
        assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []

    async def test_the_whole_list_is_bounded(
        self, scripted: ScriptedEngine, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(activity, "TOTAL_SECONDS", 0.01)
        monkeypatch.setattr(activity, "AT_ONCE", 1)
        scripted.holds(container("abcd1", "a"), container("abcd2", "b"))
        scripted.agent("request()\nrequest()")
        problems = [each.problem for each in await sessions.list()]
        assert sorted(map(str, problems)) == sorted([activity.SILENT, activity.NOT_ASKED])

    @pytest.mark.parametrize(
        ("forged", "told"),
        [
            ({"turnRunning": 1}, None),
            ({"turnRunning": None}, None),
            ({"lastActivityAt": 3}, None),
            ({"costUsd": "much"}, None),
            ({"costUsd": True}, None),
            ({"costUsd": 10**400}, None),
            ({"costUsd": -1}, None),
            ({"lastActivityAt": "x" * 1000}, Activity(True, "x" * 40, 0.5)),
            ({"lastStep": "x" * 1000}, Activity(True, "then", 0.5, last_step="x" * 200)),
            ({"questions": -1, "turnMs": "1", "model": 1}, Activity(True, "then", 0.5)),
        ],
    )
    async def test_a_forged_state_is_ignored(
        self,
        scripted: ScriptedEngine,
        sessions: Sessions,
        forged: dict[str, Any],
        told: Activity | None,
    ) -> None:
        scripted.holds(container("abcd1", "a"))
        state = {"turnRunning": True, "lastActivityAt": "then", "costUsd": 0.5, **forged}
        scripted.agent(f"for line in sys.stdin: answer(json.loads(line)['id'], ok={state!r})")
        await request(sessions, "a", "ping", {})
        [listed] = await sessions.list()
        assert listed.activity == told
        assert (listed.problem is None) == (told is not None)

    async def test_a_session_that_fails_to_answer_hides_no_other(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "a"), container("abcd2", "b"))
        scripted.agent(
            "answer(request()['id'], ok={})\nanswer(request()['id'], error={})\nrequest()"
        )
        await request(sessions, "a", "ping", {})
        listed = await sessions.list()
        assert [each.session.name for each in listed] == ["a", "b"]
        assert None not in [each.problem for each in listed]


class TestDestroy:
    async def test_a_session_is_removed_with_what_belongs_to_it(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "fix"), container("abcd2", "other"))
        assert await sessions.destroy("fix") == Destroyed(
            "fix", session("abcd1", "fix"), existed=True
        )
        assert scripted.calls == ["version", "container", "rm"]
        assert [each.session.name for each in await sessions.list()] == ["other"]

    async def test_destroying_a_missing_session_succeeds(self, sessions: Sessions) -> None:
        assert await sessions.destroy("fix") == Destroyed("fix", None, existed=False)

    async def test_destroying_a_session_that_another_front_end_destroyed_succeeds(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "fix"))
        scripted.agent(ECHO)
        await request(sessions, "fix", "ping", {})
        scripted.holds()
        assert await sessions.destroy("fix") == Destroyed(
            "fix", session("abcd1", "fix"), existed=False
        )

    async def test_destroy_follows_a_name_to_the_session_that_has_it_now(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "fix"))
        scripted.agent(ECHO)
        await request(sessions, "fix", "ping", {})
        scripted.holds(container("abcd2", "fix"))
        assert await sessions.destroy("fix") == Destroyed(
            "fix", session("abcd2", "fix"), existed=True
        )

    async def test_an_ambiguous_reference_destroys_nothing(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "a"), container("abcd2", "b"))
        with pytest.raises(SessionAmbiguous):
            await sessions.destroy("abcd")
        assert "rm" not in scripted.calls

    async def test_a_container_of_somebody_else_is_not_destroyed(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "foreign", labels={}))
        assert (await sessions.destroy("abcd1")).existed is False
        assert "rm" not in scripted.calls

    async def test_of_several_one_that_is_refused_does_not_keep_the_others(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "a"), container("abcd2", "b"))
        first, refused, last = await sessions.destroy_each(["a", "abcd", "b"])
        # It did not come to mean the last one that was left.
        assert [first, last] == [
            Destroyed("a", session("abcd1", "a"), existed=True),
            Destroyed("b", session("abcd2", "b"), existed=True),
        ]
        assert isinstance(refused, SessionAmbiguous)
        assert scripted.held == []

    async def test_the_same_session_twice_is_destroyed_once(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "a"))
        first, second = await sessions.destroy_each(["a", "a"])
        assert first is second
        assert scripted.calls.count("rm") == 1

    async def test_a_clients_sessions_are_found_by_its_name(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        own = container("abcd1", "a")
        own["labels"] = {**own["labels"], labels.CLIENT: "claude-code"}
        scripted.holds(own, container("abcd2", "b"))
        found = await sessions.created_by("claude-code\n")
        assert [each.name for each in found] == ["a"]
        with pytest.raises(UsageError, match="gave no name of its own"):
            await sessions.created_by(" ")


class TestDestroyRestricted:
    """The proxy goes with the last session that needs it."""

    LAST = ("ps", "rm", "volume", "ps")

    def left(self, scripted: ScriptedEngine) -> set[str]:
        return {each["name"] for each in scripted.held}

    async def test_the_last_session_takes_its_proxy_along(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "fix", access=RESTRICTED), proxy_container())
        assert (await sessions.destroy("fix")).existed
        assert scripted.calls == ["version", "container", "rm", *self.LAST]
        assert self.left(scripted) == set()

    async def test_a_proxy_stays_while_another_session_needs_it(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(
            container("abcd1", "fix", access=RESTRICTED),
            container("abcd2", "other", "exited", access=RESTRICTED),
            proxy_container(),
        )
        assert (await sessions.destroy("fix")).existed
        assert scripted.calls == ["version", "container", "rm", "ps"]
        assert self.left(scripted) == {"claude-mcp-other", PROXY.name}

    async def test_a_session_in_use_takes_its_proxy_along(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "fix", access=RESTRICTED), proxy_container())
        scripted.agent(ECHO)
        await request(sessions, "fix", "ping", {})
        assert (await sessions.destroy("fix")).existed
        assert scripted.calls == ["version", "container", "exec", "rm", *self.LAST]

    async def test_the_proxy_of_a_session_removed_elsewhere_is_removed(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "fix", access=RESTRICTED), proxy_container())
        scripted.agent(ECHO)
        await request(sessions, "fix", "ping", {})
        scripted.holds(proxy_container())
        assert (await sessions.destroy("fix")).existed is False
        assert scripted.calls[-4:] == [*self.LAST]
        assert self.left(scripted) == set()

    async def test_a_proxy_that_cannot_be_removed_is_no_failure_of_the_destroy(
        self,
        scripted: ScriptedEngine,
        sessions: Sessions,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        async def ids(self: DockerCliEngine, label: str, value: str | None = None) -> list[str]:
            raise EngineError("Docker could not list containers: what.")

        scripted.holds(container("abcd1", "fix", access=RESTRICTED), proxy_container())
        monkeypatch.setattr(DockerCliEngine, "ids", ids)
        assert (await sessions.destroy("fix")).existed
        assert f"proxy {PROXY.name} could not be removed: Docker could not list" in caplog.text


class TestRestartRestricted:
    """A stopped session finds its proxy running when it starts."""

    async def test_a_stopped_proxy_is_started_first(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(
            container("abcd1", "fix", "exited", access=RESTRICTED), proxy_container("exited")
        )
        scripted.agent(ECHO)
        found, _ = await request(sessions, "fix", "ping", {})
        assert (found.status, found.network, found.proxy) == (Status.RUNNING, "restricted", PROXY)
        assert scripted.calls == ["version", "container", "container", "start", "start", "exec"]

    async def test_a_running_proxy_is_only_inspected(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "fix", "exited", access=RESTRICTED), proxy_container())
        scripted.agent(ECHO)
        await request(sessions, "fix", "ping", {})
        assert scripted.calls == ["version", "container", "container", "start", "exec"]

    async def test_a_session_is_not_started_without_its_proxy(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "fix", "exited", access=RESTRICTED))
        scripted.on("create", "import sys; sys.exit('Error: No such image: image:1')")
        with pytest.raises(ImageNotFound, match="no image image:1 to run the session's proxy from"):
            await request(sessions, "fix", "ping", {})
        assert scripted.calls == ["version", "container", "container", "create"]


class TestPorts:
    """The forwarder to a session's ports comes and goes with its session."""

    FORWARDING = Forwarding("0123456789abcdef", "image:1", (Published(3000, 41000),))

    def holds(self, scripted: ScriptedEngine, status: str, forwarder: str | None) -> None:
        """A session in this state and, unless it is missing, its forwarder in another."""
        one = container("abcd1", "fix", status)
        one["labels"] = {**one["labels"], **self.FORWARDING.labels}
        of = {PORTS_OF_LABEL: self.FORWARDING.id, PORTS_LABEL: self.FORWARDING.to_json()}
        other = container("cafe", "", forwarder or "", labels=of)
        scripted.holds(one, *([{**other, "name": self.FORWARDING.name}] if forwarder else []))

    async def test_a_session_knows_where_its_ports_are(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        self.holds(scripted, "running", "running")
        [listed] = await sessions.list(ask=False)
        assert listed.session.forwarding == self.FORWARDING

    async def test_destroying_a_session_takes_its_forwarder_along(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        self.holds(scripted, "running", "running")
        assert (await sessions.destroy("fix")).existed
        assert scripted.held == []
        assert scripted.calls == ["version", "container", "rm", "rm", "volume"]

    async def test_a_session_that_is_started_again_finds_its_forwarder_running(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        self.holds(scripted, "exited", "exited")
        scripted.agent(ECHO)
        await request(sessions, "fix", "ping", {})
        assert [each["status"] for each in scripted.held] == ["running", "running"]

    async def test_a_port_that_is_in_use_by_then_is_told_and_keeps_nothing_from_working(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        self.holds(scripted, "exited", None)
        scripted.agent(ECHO)
        taken = "cannot listen on the TCP port: listen tcp4 127.0.0.1:41000: address already in use"
        scripted.on("create", f"import sys; sys.exit({taken!r})")
        handle = await sessions.open("fix")
        await handle.request("ping", {})
        assert handle.session.status is Status.RUNNING
        assert handle.notes[1] == (
            "The session's published ports cannot be reached: port 41000 of this host, which leads "
            "to port 3000 of the session, is in use by another program. Stop that program and the "
            "session's container; the next call starts both again."
        )

    async def test_a_session_is_not_called_like_a_forwarder(self) -> None:
        assert container_name("ports-0123456789abcdef").startswith("claude-mcp-ports-0123456789")
        assert container_name("ports-0123456789abcdef") != self.FORWARDING.name

    async def test_a_forwarder_is_not_offered_for_removal(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        self.holds(scripted, "running", "running")
        with pytest.raises(NotASession, match="leads to the ports of a session and ends with it"):
            await sessions.find("cafe")


class TestRequest:
    async def test_while_a_channel_is_open_no_call_is_made(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "fix"))
        scripted.agent(ECHO)
        for reference in ("fix", "fix", f"{'abcd1':0<12}"):
            found, answer = await request(sessions, reference, "command", {"a": 1})
            assert (found, answer["args"]) == (session("abcd1", "fix"), {"a": 1})
        assert scripted.calls == ["version", "container", "exec"]

    async def test_a_stopped_session_is_started_again_once(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "fix", "exited"))
        scripted.agent(ECHO)
        for _ in range(2):
            found, answer = await request(sessions, "fix", "command", {})
            assert (found, answer["op"]) == (session("abcd1", "fix"), "command")
        assert scripted.calls == ["version", "container", "start", "exec"]

    async def test_a_session_that_stopped_meanwhile_is_started_again(
        self,
        scripted: ScriptedEngine,
        sessions: Sessions,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(channel_module, "TRUSTED_QUIET_SECONDS", 0.0)
        scripted.holds(container("abcd1", "fix"))
        scripted.agent("answer(request()['id'], ok={})")
        await request(sessions, "fix", "command", {})
        scripted.holds(container("abcd1", "fix", "exited"))
        scripted.agent(ECHO)
        found, answer = await request(sessions, "fix", "command", {})
        assert (found, answer["op"]) == (session("abcd1", "fix"), "command")
        assert scripted.calls == ["version", "container", "exec", "container", "start", "exec"]

    async def test_a_session_that_cannot_be_used_says_why(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        messages = {}
        states: dict[str, dict[str, Any]] = {
            "paused": {"status": "paused"},
            "new": {"status": "created", "created": "2999-01-01T00:00:00Z"},
            "broken": {"status": "created"},
            "abandoned": {"status": "exited", "exitCode": 78},
            "dead": {"status": "dead"},
        }
        for name, changes in states.items():
            scripted.holds(container("abcd1", name, **changes))
            with pytest.raises(SessionNotReady) as caught:
                await request(sessions, name, "command", {})
            messages[name] = str(caught.value)
        never = (
            "either its creation was interrupted, or its root file system is read-only and "
            "stopping it erased its home. Destroy it and create a new one."
        )
        assert messages == {
            "paused": "The session 'paused' is paused. Unpause its container claude-mcp-paused "
            "first.",
            "new": "The session 'new' is still being created. Try again in a moment.",
            "broken": f"The session 'broken' is broken: {never}",
            "abandoned": f"The session 'abandoned' is broken: {never}",
            "dead": "The session 'dead' is being removed. If it stays so, its removal failed "
            "halfway: destroy it again.",
        }
        assert "exec" not in scripted.calls

    async def test_a_session_that_vanishes_as_it_is_asked_no_longer_exists(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "fix"))
        scripted.on("exec", "import sys; sys.exit('Error: No such container: abcd1')")
        with pytest.raises(SessionNotFound) as caught:
            await request(sessions, "fix", "command", {})
        assert str(caught.value) == "The session 'fix' no longer exists."

    async def test_what_the_agent_refuses_is_not_tried_again(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        scripted.holds(container("abcd1", "fix"))
        scripted.agent("answer(request()['id'], error={'code': 'busy', 'message': 'x'}); request()")
        with pytest.raises(SessionNotReady, match=r"^The session is busy with turn x\."):
            await request(sessions, "fix", "turn", {})
        assert scripted.calls == ["version", "container", "exec"]


class TestOpen:
    async def test_the_engine_is_looked_for_when_it_is_first_needed(self) -> None:
        config = Config(environment={"PATH": "/nowhere"})
        async with open_sessions(config) as sessions:
            with pytest.raises(EngineNotFound):
                await sessions.list()

    async def test_the_engine_is_looked_for_until_it_is_found(
        self, scripted: ScriptedEngine, sessions: Sessions
    ) -> None:
        program = Path(scripted.engine.program)
        program.rename(program.with_name("away"))
        with pytest.raises(EngineNotFound):
            await sessions.list()
        program.with_name("away").rename(program)
        assert await sessions.list() == []

    async def test_an_error_in_the_block_comes_out_as_itself(self) -> None:
        async def use() -> None:
            async with open_sessions(Config(environment={})):
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await use()


async def test_all_who_need_the_engine_share_one_attempt_to_connect(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    (Path(scripted.engine.program).parent / "version.json").write_text("garbage")
    failures: list[EngineError] = []

    async def connect() -> None:
        with pytest.raises(EngineError) as caught:
            await sessions.engine()
        failures.append(caught.value)

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(connect)
    assert len(failures) == 4
    assert scripted.calls == ["version"]
    with pytest.raises(EngineError):
        await sessions.engine()
    assert scripted.calls == ["version", "version"]
