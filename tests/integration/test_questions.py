"""Questions and plans of the real Claude Code: answered, approved, and with nobody to answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from claude_mcp.errors import UsageError
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.turns import prompts as turns
from claude_mcp.sessions.turns.permissions import Answer, Decision, respond
from claude_mcp.sessions.turns.questions import Choice, asked
from claude_mcp.sessions.turns.results import TurnStatus
from tests.peers import script

pytestmark = pytest.mark.once

COLORS = [{"label": "Red", "description": "warm"}, {"label": "Blue", "description": "cold"}]
FRUITS = [{"label": "Apple", "description": "a"}, {"label": "Pear", "description": "p"}]
CHOOSE = {
    "tool": "AskUserQuestion",
    "input": {
        "questions": [
            {"question": "Color?", "header": "Color", "multiSelect": False, "options": COLORS},
            {"question": "Fruits?", "header": "Fruit", "multiSelect": True, "options": FRUITS},
        ]
    },
}
PLAN: list[dict[str, Any]] = [
    {"tool": "EnterPlanMode", "input": {}},
    {"tool": "ExitPlanMode", "input": {}},
]
TOUCH = {"tool": "Bash", "input": {"command": "touch made"}}
REPORT = {"report": True}


@asynccontextmanager
async def created(
    sessions: Sessions, project: Path, name: str, *, strict: bool
) -> AsyncIterator[Session]:
    request = CreateRequest(str(project), session_name=name, strict_permissions=strict)
    made = await create(sessions, request)
    try:
        yield made.session
    finally:
        await sessions.destroy(name)


@pytest.mark.parametrize("strict", [False, True])
async def test_claude_asks_and_hears_answers_or_that_nobody_is_there(
    sessions: Sessions, project: Path, name: str, strict: bool
) -> None:
    async with created(sessions, project, name, strict=strict):
        handle = await sessions.open(name)
        turn = await turns.prompt(handle, script(CHOOSE, REPORT), answerable=True)
        assert turn.status is TurnStatus.NEEDS_PERMISSION
        [question] = turn.questions
        color, fruits = asked(question.tool_name, question.tool_input)
        assert (color.header, color.text, color.several) == ("Color", "Color?", False)
        assert color.choices == (Choice("Red", "warm"), Choice("Blue", "cold"))
        assert fruits.several
        with pytest.raises(UsageError, match="takes 2 answers"):
            await respond(handle, question.request_id, Answer(Decision.ALLOW))
        answer = Answer(Decision.ALLOW, answers=("Blue", "Apple, and a fig"))
        await respond(handle, question.request_id, answer)
        done = await turns.follow(handle, turn.turn_id)
        assert done.status is TurnStatus.COMPLETED
        assert '"Color?"="Blue"' in (done.result or "")
        assert '"Fruits?"="Apple, and a fig"' in (done.result or "")

        async def less(question: Any) -> Answer:
            return Answer(Decision.DENY, "do less")

        denied = await turns.prompt(handle, script(*PLAN, REPORT), answerable=True, ask=less)
        assert (denied.status, denied.result) == (TurnStatus.COMPLETED, "do less")

        async def yes(question: Any) -> Answer:
            return Answer(Decision.ALLOW)

        approved = await turns.prompt(
            handle, script(PLAN[1], TOUCH, {"say": "made"}), answerable=True, ask=yes
        )
        assert (approved.status, approved.result) == (TurnStatus.COMPLETED, "made")
        assert (project / "made").exists()
        (project / "made").unlink()

        # The same with nobody to answer.
        alone = await turns.prompt(handle, script(CHOOSE, REPORT))
        assert alone.status is TurnStatus.COMPLETED
        assert "Nobody is there to answer questions." in (alone.result or "")
        assert [each.tool_name for each in alone.permission_denials] == ["AskUserQuestion"]
        planned = await turns.prompt(handle, script(*PLAN, REPORT))
        assert "Nobody is there to approve the plan" in (planned.result or "")
        if not strict:  # it goes on without approval
            await turns.prompt(handle, script(TOUCH, REPORT))
            assert (project / "made").exists()
