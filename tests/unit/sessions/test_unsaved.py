"""Work that is only in a session is not destroyed with it unless the caller wants that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.errors import EngineUnavailable, NextStep, WorkUnsaved
from claude_mcp.sessions import labels
from claude_mcp.sessions.registry import Sessions
from tests.unit.sessions.conftest import container

if TYPE_CHECKING:
    from tests.unit.sessions.conftest import ScriptedEngine

pytestmark = pytest.mark.anyio

ANSWER = """
for line in sys.stdin:
    answer(json.loads(line)["id"], **json.loads({answer!r}))
"""
WORK = {"commits": ["0123456789 Fix it"], "files": ["a", "b"]}


def workspace(
    id: str = "abcd1", status: str = "running", kind: str = "clone", **changes: Any
) -> dict[str, Any]:
    made = container(id, "fix", status, **changes)
    made["labels"][labels.WORKSPACE] = kind
    return made


def says(scripted: ScriptedEngine, **answer: Any) -> None:
    scripted.agent(ANSWER.format(answer=json.dumps(answer)))


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ({"commits": ["0123456789 Fix it"]}, "1 commit (0123456789 Fix it)"),
        (WORK, "1 commit (0123456789 Fix it), 2 changed files (a, b)"),
        ({"files": ["a\nb"], "more": 4}, "5 changed files (a b and 4 more)"),
        (
            {"commits": ["1"], "files": list("abcdefghijklmn"), "more": 5, "moreCommits": 2},
            "3 commits (1 and 2 more), 17 changed files (a, b, c, d, e, f, g, h, i, j and 7 more)",
        ),
        ({"more": 1}, "1 changed file"),
        ({"reason": "git failed"}, "perhaps more: git failed"),
    ],
)
@pytest.mark.parametrize("kind", ["clone", "copy"])
async def test_work_is_named_and_kept(
    scripted: ScriptedEngine, sessions: Sessions, answer: dict[str, Any], what: str, kind: str
) -> None:
    scripted.holds(workspace(kind=kind))
    says(scripted, ok=answer)
    with pytest.raises(WorkUnsaved) as caught:
        await sessions.destroy("fix")
    assert caught.value.message == f"Session 'fix' was not destroyed: only there are {what}."
    assert caught.value.hint == "Take them, or destroy the session with them."
    assert caught.value.steps == (NextStep.APPLY, NextStep.DISCARD_WORK)
    assert len(scripted.held) == 1


async def test_nothing_unsaved_is_destroyed(scripted: ScriptedEngine, sessions: Sessions) -> None:
    scripted.holds(workspace())
    says(scripted, ok={})
    assert (await sessions.destroy("fix")).existed
    assert scripted.held == []


async def test_work_is_destroyed_without_a_question_where_that_is_wanted(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(workspace())
    says(scripted, ok=WORK)
    assert (await sessions.destroy("fix", discard=True)).existed
    assert scripted.held == []
    assert "exec" not in scripted.calls


async def test_a_mounted_project_is_not_asked_about(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(container("abcd1", "fix"))
    says(scripted, ok=WORK)
    assert (await sessions.destroy("fix")).existed
    assert "exec" not in scripted.calls


async def test_a_stopped_session_is_started_to_be_asked(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(workspace(status="exited"))
    says(scripted, ok=WORK)
    with pytest.raises(WorkUnsaved, match="1 commit"):
        await sessions.destroy("fix")
    assert "start" in scripted.calls


async def test_a_broken_session_cannot_be_asked_and_is_destroyed(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(workspace(status="created"))
    says(scripted, ok=WORK)
    assert (await sessions.destroy("fix")).existed
    assert "exec" not in scripted.calls


@pytest.mark.parametrize(
    ("status", "answer", "why"),
    [
        ("paused", {"ok": {}}, "The session 'fix' is paused."),
        (
            "running",
            {"error": {"code": "no-changes", "message": "git is gone"}},
            "What session 'fix' changed cannot be told: git is gone.",
        ),
    ],
)
async def test_work_that_cannot_be_told_is_kept(
    scripted: ScriptedEngine, sessions: Sessions, status: str, answer: dict[str, Any], why: str
) -> None:
    scripted.holds(workspace(status=status))
    says(scripted, **answer)
    with pytest.raises(WorkUnsaved) as caught:
        await sessions.destroy("fix")
    assert caught.value.message == (
        f"Whether session 'fix' holds work that is nowhere else cannot be told: {why}"
    )
    assert len(scripted.held) == 1
    assert (await sessions.destroy("fix", discard=True)).existed


async def test_a_session_in_use_is_asked_before_it_is_destroyed(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(workspace())
    says(scripted, ok=WORK)
    await (await sessions.open("fix")).request("status", {})
    with pytest.raises(WorkUnsaved):
        await sessions.destroy("fix")
    assert scripted.calls == ["version", "container", "exec"]


async def test_a_session_that_replaced_a_known_one_is_asked_too(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(workspace())
    scripted.agent("answer(request()['id'], ok={})")
    await (await sessions.open("fix")).request("status", {})
    scripted.holds(workspace("abcd2"))
    says(scripted, ok=WORK)
    with pytest.raises(WorkUnsaved):
        await sessions.destroy("fix")
    assert len(scripted.held) == 1


async def test_a_session_that_somebody_else_removed_is_gone(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(workspace())
    scripted.agent("answer(request()['id'], ok={})")
    await (await sessions.open("fix")).request("status", {})
    scripted.holds()
    scripted.on("exec", "sys_exit = __import__('sys'); "
                "sys_exit.stderr.write('Error response from daemon: No such container: fix\\n'); "
                "sys_exit.exit(1)")  # fmt: skip
    assert not (await sessions.destroy("fix")).existed


async def test_an_engine_that_died_is_told_as_such(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(workspace())
    scripted.agent("answer(request()['id'], ok={})")
    await (await sessions.open("fix")).request("status", {})
    died = "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?"
    for verb in ("exec", "container", "version", "inspect"):
        scripted.on(verb, f"import sys; sys.stderr.write({died!r}); sys.exit(1)")
    with pytest.raises(EngineUnavailable):
        await sessions.destroy("fix")
