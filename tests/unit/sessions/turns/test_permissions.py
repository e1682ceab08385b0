"""Questions for permission: how they are read, put to somebody, and answered."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from claude_mcp.errors import QuestionNotOpen, UsageError
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.session import Session, Status
from claude_mcp.sessions.turns.permissions import Answer, Decided, Decision, respond
from claude_mcp.sessions.turns.prompts import follow, prompt
from claude_mcp.sessions.turns.results import (
    MAX_INPUT_CHARS,
    MAX_QUESTIONS,
    Question,
    TurnStatus,
    parse_result,
)
from tests.unit.sessions.conftest import container

if TYPE_CHECKING:
    from tests.unit.sessions.conftest import ScriptedEngine

pytestmark = pytest.mark.anyio

TURN = "0b3d3b4e-0000-4000-8000-000000000000"
ALLOW = Answer(Decision.ALLOW)
DENY = Answer(Decision.DENY, "not that one")
SESSION = Session(
    id="abcd10000000",
    container_id=f"{'abcd1':0<64}",
    name="fix",
    container_name="claude-mcp-fix",
    project_path="/projects/fix",
    image="image:1",
    provider="anthropic",
    credentials=CredentialSource.SERVER,
    status=Status.RUNNING,
    created_at="2026-11-23T06:26:12Z",
)
FIRST = Question("q1", "Bash", {"command": "rm x"}, "why")
SECOND = Question("q2", "Write", {"content": "x"})

# Has two questions at first, and is done when both are answered; notes what it is asked.
ASKING = """\
open_questions = {
    'q1': {'requestId': 'q1', 'toolName': 'Bash', 'toolInput': {'command': 'rm x'},
           'description': 'why'},
    'q2': {'requestId': 'q2', 'toolName': 'Write', 'toolInput': {'content': 'x'}},
}
for line in sys.stdin:
    one = json.loads(line)
    op, args = one['op'], one['args']
    with open('asked', 'a') as file:
        file.write(json.dumps([op, args.get('decision') or args.get('cursor')]) + '\\n')
    if op == 'respond':
        if open_questions.pop(args['requestId'], None) is None:
            answer(one['id'], error={'code': 'decided', 'message': 'denied (too late)'})
        else:
            answer(one['id'], ok={'turnId': 'TURN'})
    elif open_questions:
        answer(one['id'], ok={'turnId': 'TURN', 'status': 'needs_permission',
                              'questions': list(open_questions.values())})
    else:
        answer(one['id'], ok={'turnId': 'TURN', 'status': 'completed'})
""".replace("TURN", TURN)


@pytest.fixture
def asking(scripted: ScriptedEngine) -> ScriptedEngine:
    scripted.holds(container("abcd1", "fix"))
    scripted.agent(ASKING)
    return scripted


def asked(scripted: ScriptedEngine) -> list[list[str | int | None]]:
    """Which operations the agent was asked for, with what was decided or the cursor."""
    return [json.loads(line) for line in scripted.noted_lines("asked")]


async def test_without_anybody_to_ask_a_prompt_returns_its_questions(
    sessions: Sessions, asking: ScriptedEngine
) -> None:
    turn = await prompt(await sessions.open("fix"), "do it", turn_id=TURN)
    assert (turn.status, turn.questions) == (TurnStatus.NEEDS_PERMISSION, (FIRST, SECOND))
    assert asked(asking) == [["turn", None]]


async def test_questions_are_put_one_by_one_and_the_prompt_is_sent_once(
    sessions: Sessions, asking: ScriptedEngine
) -> None:
    put: list[Question] = []

    async def ask(question: Question) -> Answer:
        put.append(question)
        return ALLOW if question.request_id == "q1" else DENY

    turn = await prompt(await sessions.open("fix"), "do it", turn_id=TURN, ask=ask)
    assert turn.status is TurnStatus.COMPLETED
    assert put == [FIRST, SECOND]
    assert asked(asking) == [
        ["turn", None], ["respond", "allow"], ["respond", "deny"], ["follow", None],
    ]  # fmt: skip


async def test_a_follower_can_be_asked_and_reads_on_from_the_same_cursor(
    sessions: Sessions, asking: ScriptedEngine
) -> None:
    async def ask(question: Question) -> Answer:
        return ALLOW

    turn = await follow(await sessions.open("fix"), cursor=7, ask=ask)
    assert turn.status is TurnStatus.COMPLETED
    assert asked(asking) == [
        ["follow", 7], ["respond", "allow"], ["respond", "allow"], ["follow", 7],
    ]  # fmt: skip


@pytest.mark.parametrize(("answered", "left"), [(FIRST, SECOND), (SECOND, FIRST)])
async def test_an_unanswered_question_stays_open_and_an_answered_one_does_not(
    sessions: Sessions, asking: ScriptedEngine, answered: Question, left: Question
) -> None:
    async def ask(question: Question) -> Answer | None:
        return DENY if question == answered else None

    turn = await prompt(await sessions.open("fix"), "do it", turn_id=TURN, ask=ask)
    assert (turn.status, turn.questions) == (TurnStatus.NEEDS_PERMISSION, (left,))


async def test_a_question_waits_no_longer_than_the_caller(
    sessions: Sessions, asking: ScriptedEngine
) -> None:
    async def ask(question: Question) -> Answer | None:
        await anyio.sleep_forever()
        return ALLOW

    turn = await prompt(
        await sessions.open("fix"), "do it", turn_id=TURN, wait_seconds=0.1, ask=ask
    )
    assert turn.questions == (FIRST, SECOND)
    requests = [each for each in asked(asking) if each[0] != "ping"]  # of a slow machine
    assert requests == [["turn", None], ["follow", None]]


async def test_a_late_answer_is_reported_and_the_waiting_continues(
    sessions: Sessions, asking: ScriptedEngine
) -> None:
    told: list[str] = []

    async def progress(message: str, amount: object = None, /) -> None:
        told.append(message)

    async def ask(question: Question) -> Answer:
        await respond(await sessions.open("fix"), question.request_id, DENY)
        return ALLOW

    turn = await prompt(
        await sessions.open("fix"), "do it", turn_id=TURN, ask=ask, progress=progress
    )
    assert turn.status is TurnStatus.COMPLETED
    assert told == ["The question is no longer open: denied (too late)."] * 2


async def test_a_session_that_repeats_a_question_is_not_answered_twice(
    sessions: Sessions, scripted: ScriptedEngine
) -> None:
    scripted.holds(container("abcd1", "fix"))
    scripted.agent(ASKING.replace("open_questions.pop(", "open_questions.get("))
    put: list[str] = []

    async def ask(question: Question) -> Answer:
        put.append(question.request_id)
        return ALLOW

    turn = await prompt(await sessions.open("fix"), "do it", turn_id=TURN, ask=ask)
    assert turn.status is TurnStatus.NEEDS_PERMISSION
    assert put == ["q1", "q2"]


async def test_an_answer_says_what_it_decided(sessions: Sessions, asking: ScriptedEngine) -> None:
    decided = await respond(await sessions.open("fix"), "q1", DENY)
    session = await sessions.find("fix")
    assert decided == Decided(session, "q1", Decision.DENY, TURN)
    with pytest.raises(QuestionNotOpen, match=r"^The question is no longer open: denied \(too"):
        await respond(await sessions.open("fix"), "q1", ALLOW)


async def test_an_unknown_question_is_distinguished_from_a_closed_one(
    sessions: Sessions, scripted: ScriptedEngine
) -> None:
    scripted.holds(container("abcd1", "fix"))
    error = {"code": "no-question", "message": "nosuch"}
    scripted.agent(f"for line in sys.stdin: answer(json.loads(line)['id'], error={error})")
    with pytest.raises(QuestionNotOpen, match=r"^Session 'fix' has no open question 'nosuch'"):
        await respond(await sessions.open("fix"), "nosuch", ALLOW)


async def test_a_message_that_is_too_long_is_refused(
    sessions: Sessions, scripted: ScriptedEngine
) -> None:
    scripted.holds(container("abcd1", "fix"))
    with pytest.raises(UsageError, match="at most 10000 characters"):
        await respond(await sessions.open("fix"), "q1", Answer(Decision.DENY, "x" * 10_001))


async def test_an_answer_is_given_again_when_the_channel_was_lost(
    sessions: Sessions, scripted: ScriptedEngine
) -> None:
    scripted.holds(container("abcd1", "fix"))
    scripted.agent(
        "first = not os.path.exists('asked')\n"
        "for line in sys.stdin:\n"
        "    open('asked', 'a').write('x\\n')\n"
        "    if first: sys.exit()\n"
        "    answer(json.loads(line)['id'], ok={'turnId': None})\n"
    )
    decided = await respond(await sessions.open("fix"), "q1", ALLOW)
    assert (decided.turn_id, scripted.noted("asked")) == (None, ["x", "x"])


# Questions as hostile input.


def read(*questions: object) -> tuple[Question, ...]:
    answer = {"status": "needs_permission", "questions": list(questions)}
    return parse_result(SESSION, TURN, answer).questions


HONEST = {"requestId": "q1", "toolName": "Bash", "toolInput": {}}


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "x",
        3,
        [],
        {},
        {**HONEST, "requestId": ""},
        {**HONEST, "requestId": 3},
        {**HONEST, "toolName": ["Bash"]},
        {**HONEST, "toolInput": "x"},
    ],
)
def test_a_malformed_question_is_left_out(bad: Any) -> None:
    assert read(bad, HONEST) == (Question("q1", "Bash", {}),)


def test_questions_are_bounded() -> None:
    hostile = {
        "requestId": "x\n" * 1000,
        "toolName": "x" * 1000,
        "toolInput": {"command": "x" * (2 * MAX_INPUT_CHARS)},
        "description": {"a": 1},
    }
    found = read(*[hostile] * (MAX_QUESTIONS + 1))
    assert len(found) == MAX_QUESTIONS
    [question] = set(map(repr, found))
    assert len(question) < MAX_INPUT_CHARS + 1000
    assert found[0].request_id == " ".join("x" * 50)
