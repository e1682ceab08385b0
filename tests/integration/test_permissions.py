"""What the real Claude Code asks permission for: allowed, denied, left open, interrupted."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from messages_standin import Standin

from claude_mcp.config import Config, load
from claude_mcp.engine.docker_cli import DockerCliEngine
from claude_mcp.errors import QuestionNotOpen
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.turns import commands
from claude_mcp.sessions.turns import prompts as turns
from claude_mcp.sessions.turns.options import TurnOptions
from claude_mcp.sessions.turns.permissions import Answer, Decision, respond
from claude_mcp.sessions.turns.results import Question, TurnResult, TurnStatus
from tests.engine_fixtures import environment_with

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare

pytestmark = [pytest.mark.once, pytest.mark.xdist_group("permissions")]

PATIENCE_SECONDS = 60
ALLOW = Answer(Decision.ALLOW)
DENY = Answer(Decision.DENY, "not in that directory")


def script(*steps: dict[str, Any]) -> str:
    """A prompt that tells the stand-in what the model does."""
    return "standin: " + json.dumps(steps)


def write(name: str) -> dict[str, Any]:
    return {"tool": "Write", "input": {"file_path": f"/workspace/{name}", "content": "x"}}


def bash(command: str) -> dict[str, Any]:
    return {"tool": "Bash", "input": {"command": command}}


def subagent(*steps: dict[str, Any]) -> dict[str, Any]:
    task = {"description": "part", "prompt": script(*steps), "subagent_type": "general-purpose"}
    return {"tool": "Agent", "input": task}


@asynccontextmanager
async def created(sessions: Sessions, project: Path, name: str) -> AsyncIterator[Session]:
    request = CreateRequest(str(project), session_name=name, strict_permissions=True)
    made = await create(sessions, request)
    try:
        yield made.session
    finally:
        await sessions.destroy(name)


@pytest.fixture(scope="module")
async def kept(
    engine: DockerCliEngine, standin: Standin, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Session, Path]]:
    """A session with its project, for all tests that leave no question and no file behind."""
    project = tmp_path_factory.mktemp("strict")
    async with (
        open_sessions(load(environment_with(standin), engine=engine.program)) as sessions,
        created(sessions, project, f"it-{secrets.token_hex(4)}") as session,
    ):
        yield session, project


@pytest.fixture
def strict(kept: tuple[Session, Path]) -> Session:
    return kept[0]


@pytest.fixture
def work(kept: tuple[Session, Path]) -> Iterator[Path]:
    """The project of ``strict``, empty for each test."""
    _, project = kept
    assert list(project.glob("[a-z]*")) == []
    yield project
    for path in project.glob("[a-z]*"):
        path.unlink()


async def ended(sessions: Sessions, turn: TurnResult) -> TurnResult:
    with anyio.fail_after(PATIENCE_SECONDS):
        return await turns.follow(await sessions.open(turn.session.id), turn.turn_id)


def only(turn: TurnResult) -> Question:
    assert turn.status is TurnStatus.NEEDS_PERMISSION
    [question] = turn.questions
    return question


async def logged(
    sessions: Sessions, session: Session, question: Question | None = None
) -> list[str]:
    """What the session's log says of a question, or of the only one, behind its id.

    It is waited for until it is decided: the engine takes a line over after it was written.
    """
    with anyio.fail_after(PATIENCE_SECONDS):
        while True:
            _, lines = await commands.logs(await sessions.open(session.id))
            marked = (line.partition(" permission ")[2].partition(" ") for line in lines)
            told = [
                said
                for request_id, _, said in marked
                if said and (question is None or request_id == question.request_id)
            ]
            if len(told) > 1:
                return told
            await anyio.sleep(0.05)


def sent(standin: Standin, prompt: str) -> int:
    """How often the prompt began a new conversation with the model."""
    return sum(
        request.prompts[-1:] == (prompt,) and not request.tool_results
        for request in standin.model_calls
    )


async def test_what_is_allowed_is_done(
    sessions: Sessions, strict: Session, work: Path, standin: Standin
) -> None:
    prompt = script(write("made"), {"say": "done"})
    fresh = TurnOptions(new_conversation=True)
    asked = await turns.prompt(await sessions.open(strict.id), prompt, options=fresh)
    question = only(asked)
    assert question.tool_name == "Write"
    assert question.tool_input == {"file_path": "/workspace/made", "content": "x"}
    assert not (work / "made").exists()
    decided = await respond(await sessions.open(strict.id), question.request_id, ALLOW)
    assert decided.turn_id == asked.turn_id
    done = await ended(sessions, asked)
    assert (done.status, done.result, done.permission_denials) == (TurnStatus.COMPLETED, "done", ())
    assert (work / "made").read_text() == "x"
    assert await logged(sessions, strict, question) == [
        "asked: Write: made", "allowed (answered)"
    ]  # fmt: skip
    assert sent(standin, prompt) == 1
    with pytest.raises(QuestionNotOpen, match=r"allowed \(answered\)"):
        await respond(await sessions.open(strict.id), question.request_id, DENY)


async def test_what_is_denied_is_not_done_and_the_model_is_told_why(
    sessions: Sessions, strict: Session, work: Path
) -> None:
    asked = await turns.prompt(
        await sessions.open(strict.id), script(bash("touch made"), {"report": True})
    )
    question = only(asked)
    await respond(await sessions.open(strict.id), question.request_id, DENY)
    done = await ended(sessions, asked)
    assert (done.status, done.result) == (TurnStatus.COMPLETED, "not in that directory")
    assert [(denial.tool_name, denial.reason) for denial in done.permission_denials] == [
        ("Bash", "not in that directory")
    ]
    assert not (work / "made").exists()
    assert await logged(sessions, strict, question) == [
        "asked: Bash: touch made", "denied (answered): not in that directory"
    ]  # fmt: skip


async def test_a_projects_own_settings_allow_nothing(
    sessions: Sessions, project: Path, name: str
) -> None:
    rules = {"allow": ["Bash", "Write"], "defaultMode": "bypassPermissions"}
    (project / ".claude").mkdir()
    (project / ".claude" / "settings.json").write_text(json.dumps({"permissions": rules}))
    async with created(sessions, project, name):
        asked = await turns.prompt(await sessions.open(name), script(bash("touch made")))
        assert only(asked).tool_input["command"] == "touch made"
    assert not (project / "made").exists()


async def test_what_nobody_answers_is_denied_after_a_time(
    config: Config, project: Path, name: str
) -> None:
    async with (
        open_sessions(replace(config, permission_seconds=0.5)) as sessions,
        created(sessions, project, name) as session,
    ):
        asked = await turns.prompt(
            await sessions.open(name), script(write("made"), {"say": "went on"})
        )
        with anyio.fail_after(PATIENCE_SECONDS):
            while (done := await ended(sessions, asked)).status is not TurnStatus.COMPLETED:
                await anyio.sleep(0.05)
        assert done.result == "went on"
        why = "nobody answered within 0.5 s"
        assert done.notes == (f"Permission for Write was denied: {why}.",)
        assert not (project / "made").exists()
        # Whether it was still open when the prompt came back is up to the machine.
        told = await logged(sessions, session)
        assert told == ["asked: Write: made", f"denied ({why})"]


async def test_who_can_be_asked_decides_each_question_and_the_prompt_is_sent_once(
    sessions: Sessions, strict: Session, work: Path, standin: Standin
) -> None:
    put: list[str] = []

    async def ask(question: Question) -> Answer:
        put.append(question.tool_name)
        return ALLOW if question.tool_name == "Write" else DENY

    both = {"tools": [write("made"), bash("touch other")]}
    prompt = script(both, {"say": "done"})
    fresh = TurnOptions(new_conversation=True)
    done = await turns.prompt(await sessions.open(strict.id), prompt, options=fresh, ask=ask)
    assert (done.status, put) == (TurnStatus.COMPLETED, ["Write", "Bash"])
    assert (work / "made").exists()
    assert not (work / "other").exists()
    assert sent(standin, prompt) == 1


async def test_questions_of_subagents_are_open_side_by_side_and_outlive_the_turn(
    sessions: Sessions, project: Path, name: str
) -> None:
    async with created(sessions, project, name):
        both = {"tools": [subagent(write("one")), subagent(write("two"))]}
        turn = await turns.prompt(await sessions.open(name), script(both, {"say": "begun"}))
        with anyio.fail_after(PATIENCE_SECONDS):
            while len(turn.questions) < 2 or turn.status is not TurnStatus.COMPLETED:
                await anyio.sleep(0.05)
                turn = await turns.follow(await sessions.open(name), turn.turn_id, wait_seconds=0)
        assert turn.result == "begun"
        by_path = {question.tool_input["file_path"]: question for question in turn.questions}
        await respond(await sessions.open(name), by_path["/workspace/one"].request_id, ALLOW)
        await respond(await sessions.open(name), by_path["/workspace/two"].request_id, DENY)
        with anyio.fail_after(PATIENCE_SECONDS):
            while not (project / "one").exists():
                await anyio.sleep(0.05)
        assert not (project / "two").exists()
        assert (await turns.follow(await sessions.open(name), turn.turn_id)).questions == ()


async def test_interrupting_a_turn_closes_its_question_and_the_conversation_goes_on(
    sessions: Sessions, strict: Session, work: Path
) -> None:
    asked = await turns.prompt(
        await sessions.open(strict.id), script(write("made"), {"say": "never"})
    )
    question = only(asked)
    cancelled = await turns.interrupt(await sessions.open(strict.id), asked.turn_id)
    assert cancelled is not None
    assert (cancelled.status, cancelled.questions) == (TurnStatus.CANCELLED, ())
    with pytest.raises(QuestionNotOpen, match="the turn was interrupted"):
        await respond(await sessions.open(strict.id), question.request_id, ALLOW)
    after = await turns.prompt(await sessions.open(strict.id), "And now?")
    assert (after.status, after.notes) == (TurnStatus.COMPLETED, ())
    assert not (work / "made").exists()
    assert await logged(sessions, strict, question) == [
        "asked: Write: made", "closed (the turn was interrupted)"
    ]  # fmt: skip


async def test_a_claude_that_is_killed_takes_its_question_along(
    sessions: Sessions, strict: Session, bare: Bare
) -> None:
    asked = await turns.prompt(
        await sessions.open(strict.id), script(write("made"), {"say": "never"})
    )
    question = only(asked)
    kill = "for p in /proc/[0-9]*; do case $(tr '\\0' ' ' < $p/cmdline 2>/dev/null) in " \
           "claude\\ *) kill -9 ${p#/proc/};; esac; done"  # fmt: skip
    bare.exec(strict.container_id, "sh", "-c", kill)
    with anyio.fail_after(PATIENCE_SECONDS):
        while (lost := await ended(sessions, asked)).status is not TurnStatus.FAILED:
            await anyio.sleep(0.05)
    assert lost.questions == ()
    told = await logged(sessions, strict, question)
    assert told == ["asked: Write: made", "closed (Claude Code ended)"]


async def test_another_front_end_answers_what_this_one_was_asked(
    config: Config, sessions: Sessions, strict: Session, work: Path
) -> None:
    asked = await turns.prompt(
        await sessions.open(strict.id), script(write("made"), {"say": "decided elsewhere"})
    )
    async with open_sessions(config) as others:
        seen = await turns.follow(await others.open(strict.name), wait_seconds=0)
        assert seen.questions == asked.questions
        await respond(await others.open(strict.name), only(seen).request_id, ALLOW)
    assert (await ended(sessions, asked)).status is TurnStatus.COMPLETED
    assert (work / "made").exists()
