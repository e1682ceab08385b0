"""Permission requests: the client's user is asked, or the result contains them; both eras."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from mcp import Client, MCPError
from mcp.types import (
    INVALID_REQUEST,
    ClientCapabilities,
    ElicitationCapability,
    ElicitRequestFormParams,
    ElicitResult,
    ErrorData,
    InputRequiredResult,
    UrlElicitationCapability,
)

from claude_mcp.config import Config
from claude_mcp.server.app import build
from claude_mcp.server.elicitation import MAX_ROUNDS
from claude_mcp.server.forms import DECISION
from tests.unit import fake_engine, wire
from tests.unit.server.answers import content, text
from tests.unit.server.test_cancellations import connected, connection, noted
from tests.unit.sessions.fake_turns import question
from tests.unit.wire import TURN

pytestmark = pytest.mark.anyio

Era = Literal["legacy", "auto"]

ALLOW = ElicitResult(action="accept", content={"decision": "allow"})
DENY = ElicitResult(action="accept", content={"decision": "deny", "message": "not that"})


@pytest.fixture(params=["legacy", "auto"])
def era(request: pytest.FixtureRequest) -> Era:
    era: Era = request.param
    return era


class User:
    """The client's user: gives the same reply each time, and records the questions."""

    def __init__(self, reply: ElicitResult | ErrorData | None) -> None:
        self._reply = reply
        self.asked: list[str] = []
        self.given_up = 0

    async def __call__(self, context: Any, params: Any) -> ElicitResult | ErrorData:
        assert isinstance(params, ElicitRequestFormParams)
        assert params.requested_schema == DECISION
        self.asked.append(params.message)
        if self._reply is None:
            try:
                await anyio.sleep_forever()
            finally:
                self.given_up += 1
        assert self._reply is not None
        return self._reply


def asking(config: Config, era: Era, user: User) -> Client:
    return Client(build(config), mode=era, elicitation_callback=user)


def prompt(client: Client, session: str, text: str = "ask 1", **more: Any) -> Any:
    arguments = {"sessionId": session, "prompt": text, "turnId": TURN, **more}
    return client.call_tool("execute_in_session", arguments)


def shown(number: int) -> dict[str, Any]:
    return {**question(number), "kind": "permission", "description": None}


def open_turn(session: str, *numbers: int) -> dict[str, Any]:
    questions = [shown(number) for number in numbers]
    return wire.turn(session, status="needs_permission", questions=questions)


def message(number: int) -> str:
    return f"Claude asks for permission: Bash\n  command: rm {number}"


@pytest.mark.parametrize(
    ("reply", "decided"),
    [
        (ALLOW, ["q1", "allow", None]),
        (DENY, ["q1", "deny", "not that"]),
        (ElicitResult(action="decline"), ["q1", "deny", None]),
    ],
)
async def test_the_clients_user_is_asked_and_the_call_continues(
    config: Config, session: str, era: Era, program: Path, reply: ElicitResult, decided: list[Any]
) -> None:
    user = User(reply)
    async with asking(config, era, user) as client:
        done = content(await prompt(client, session))
    assert done["status"] == "completed"
    assert json.loads(done["result"]) == [decided]
    assert user.asked == [message(1)]
    assert fake_engine.calls(program).count("submitted") == 1


@pytest.mark.parametrize(
    "reply",
    [
        ElicitResult(action="cancel"),
        ElicitResult(action="accept"),
        ElicitResult(action="accept", content={"decision": "perhaps"}),
        ElicitResult(action="accept", content={"decision": None}),
    ],
)
async def test_a_form_without_a_decision_leaves_the_question_open(
    config: Config, session: str, era: Era, reply: ElicitResult
) -> None:
    user = User(reply)
    async with asking(config, era, user) as client:
        left = await prompt(client, session)
    assert content(left) == open_turn(session, 1)
    assert text(left).splitlines()[0] == f"[needs_permission: turn {TURN}]"
    assert user.asked == [message(1)]


async def test_a_client_that_cannot_ask_gets_the_question_and_answers_it_by_a_tool(
    config: Config, session: str, era: Era
) -> None:
    async with Client(build(config), mode=era) as client:
        assert content(await prompt(client, session)) == open_turn(session, 1)
        found = content(await client.call_tool("get_turn", {"sessionId": session}))
        assert found == {**open_turn(session, 1), "events": []}
        arguments = {"sessionId": session, "requestId": "q1", "decision": "deny", "message": "no"}
        answered = await client.call_tool("respond_permission", arguments)
        assert content(answered) == {"sessionId": session, "turnId": TURN}
        done = content(await client.call_tool("get_turn", {"sessionId": session}))
        assert json.loads(done["result"]) == [["q1", "deny", "no"]]
        again = await client.call_tool("respond_permission", arguments)
        assert (again.is_error, text(again).splitlines()[0]) == (
            True,
            "The question is no longer open: denied (answered).",
        )


async def test_several_questions_are_all_asked(
    config: Config, session: str, era: Era, program: Path
) -> None:
    user = User(ALLOW)
    async with asking(config, era, user) as client:
        done = content(await prompt(client, session, "ask 2"))
    assert json.loads(done["result"]) == [["q1", "allow", None], ["q2", "allow", None]]
    assert sorted(user.asked) == [message(1), message(2)]
    assert fake_engine.calls(program).count("submitted") == 1


async def test_get_turn_asks_the_user_too(config: Config, session: str, era: Era) -> None:
    user = User(ALLOW)
    async with asking(config, era, user) as client:
        left = content(await prompt(client, session, waitSeconds=0))
        assert (left, user.asked) == (open_turn(session, 1), [])
        arguments = {"sessionId": session, "waitSeconds": 0}
        looked = content(await client.call_tool("get_turn", arguments))
        assert (looked["status"], user.asked) == ("needs_permission", [])
        done = content(await client.call_tool("get_turn", {"sessionId": session}))
        assert json.loads(done["result"]) == [["q1", "allow", None]]
        assert user.asked == [message(1)]


async def test_the_question_is_withdrawn_when_the_wait_ends(config: Config, session: str) -> None:
    user = User(None)
    async with asking(config, "legacy", user) as client:
        left = content(await prompt(client, session, waitSeconds=0.3))
        assert left == open_turn(session, 1)
        with anyio.fail_after(60):
            while len(user.asked) > user.given_up:  # on a slow machine the time was up before
                await anyio.sleep(0.005)


async def test_a_client_that_refuses_to_ask_gets_the_question(config: Config, session: str) -> None:
    user = User(ErrorData(code=INVALID_REQUEST, message="not now"))
    async with asking(config, "legacy", user) as client:
        assert content(await prompt(client, session)) == open_turn(session, 1)
    assert user.asked == [message(1)]


async def test_a_client_that_only_opens_links_is_not_asked(
    config: Config, session: str, era: Era, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = ClientCapabilities(elicitation=ElicitationCapability(url=UrlElicitationCapability()))
    monkeypatch.setattr("mcp.server.session.ServerSession.client_capabilities", links)
    user = User(ALLOW)
    async with asking(config, era, user) as client:
        assert content(await prompt(client, session)) == open_turn(session, 1)
    assert user.asked == []


async def test_a_call_is_repeated_only_so_often(
    config: Config, session: str, program: Path
) -> None:
    user = User(ALLOW)
    async with asking(config, "auto", user) as client:
        left = content(await prompt(client, session, "ask on"))
    assert left == open_turn(session, MAX_ROUNDS + 1)
    assert len(user.asked) == MAX_ROUNDS
    assert fake_engine.calls(program).count("submitted") == 1


async def test_a_repeated_call_with_one_of_two_answers_asks_for_the_other(
    config: Config, session: str
) -> None:
    async with asking(config, "auto", User(ALLOW)) as client:
        arguments = {"sessionId": session, "prompt": "ask 2"}

        async def call(**more: Any) -> Any:
            return await client.session.call_tool(
                "execute_in_session", arguments, allow_input_required=True, **more
            )

        first = await call()
        assert isinstance(first, InputRequiredResult)
        assert sorted(first.input_requests or {}) == ["q1", "q2"]
        second = await call(input_responses={"q2": ALLOW}, request_state=first.request_state)
        assert isinstance(second, InputRequiredResult)
        third = await call(input_responses={"q1": DENY}, request_state=second.request_state)
        done = content(third)
        assert sorted(json.loads(done["result"])) == [
            ["q1", "deny", "not that"], ["q2", "allow", None],
        ]  # fmt: skip


@pytest.mark.parametrize("state", [
    "", "{}", "[]", "3", "null", '{"turnId": "x", "rounds": 1}', '{"turnId": 3, "rounds": 1}',
    json.dumps({"turnId": TURN, "rounds": "x"}), json.dumps({"turnId": TURN}), "[" * 100_000,
    json.dumps({"turnId": TURN, "rounds": 1e999}),
])  # fmt: skip
async def test_a_forged_request_state_is_refused(config: Config, session: str, state: str) -> None:
    async with Client(build(config), mode="auto") as client:
        arguments = {"sessionId": session, "prompt": "ask 1"}
        with pytest.raises(MCPError, match="requestState was not issued by this server"):
            await client.session.call_tool("execute_in_session", arguments, request_state=state)


async def test_a_prompt_cancelled_while_its_user_is_asked_is_interrupted(
    config: Config, session: str, program: Path
) -> None:
    user = User(None)
    async with Client(connection(config), mode="legacy", elicitation_callback=user) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(prompt, client, session)
            with anyio.fail_after(60):
                while not user.asked:
                    await anyio.sleep(0.005)
            tasks.cancel_scope.cancel()
        await noted(program, "interrupted")
        found = content(await client.call_tool("get_turn", {"sessionId": session}))
        assert (found["status"], found["questions"]) == ("cancelled", [])


async def test_a_client_that_goes_away_while_its_user_is_asked_leaves_the_question_open(
    config: Config, session: str, program: Path
) -> None:
    user = User(None)

    async def ask(client: Client) -> None:
        with suppress(MCPError):  # nobody is left to be answered
            await prompt(client, session)

    async with anyio.create_task_group() as tasks:
        async with Client(connection(config), mode="legacy", elicitation_callback=user) as client:
            tasks.start_soon(ask, client)
            with anyio.fail_after(60):
                while not user.asked:
                    await anyio.sleep(0.005)
        assert "interrupted" not in fake_engine.calls(program)
    async with connected(config, "legacy") as client:
        found = content(await client.call_tool("get_turn", {"sessionId": session}))
        assert found == {**open_turn(session, 1), "events": []}
