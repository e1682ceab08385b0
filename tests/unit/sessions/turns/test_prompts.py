"""Turns: what is refused before, what is asked of the agent, and what it may answer."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from claude_mcp.contract.wording import worded
from claude_mcp.errors import (
    AgentError,
    ClaudeMcpError,
    EngineError,
    SessionNotReady,
    TurnNotFound,
    UsageError,
)
from claude_mcp.sessions.handle import SessionHandle
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.session import Session, Status
from claude_mcp.sessions.turns.options import TurnOptions
from claude_mcp.sessions.turns.prompts import event, follow, interrupt, new_turn_id, prompt
from claude_mcp.sessions.turns.results import (
    MAX_DENIALS,
    MAX_EVENT_CHARS,
    MAX_EVENTS,
    MAX_NOTES,
    MAX_RESULT_CHARS,
    MAX_USAGE_ENTRIES,
    Event,
    PermissionDenial,
    TurnResult,
    TurnStatus,
    parse_result,
)
from tests.unit.sessions.conftest import container, request

if TYPE_CHECKING:
    from tests.unit.sessions.conftest import ScriptedEngine, request

Ask = Callable[[SessionHandle], Awaitable[object]]

TURN = "0b3d3b4e-0000-4000-8000-000000000000"
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
NOTHING = TurnResult(session=SESSION, turn_id=TURN, status=TurnStatus.FAILED)
ANSWER = {
    "turnId": TURN,
    "status": "completed",
    "result": "done with sk-of-the-server",
    "error": None,
    "conversationId": "c-1",
    "numTurns": 2,
    "durationMs": 5,
    "costUsd": 0.25,
    "usage": {"input_tokens": 3},
    "permissionDenials": [{"toolName": "Bash", "toolInput": {"command": "rm x"}}],
    "notes": ["started again with sk-of-the-server"],
    "ahead": 0,
    "events": [
        {
            "number": 7,
            "time": "2026-01-02T03:04:05Z",
            "kind": "tool_call",
            "text": "Bash: echo sk-of-the-server",
            "leftOut": 4,
        }
    ],
    "cursor": 7,
}
RESULT = TurnResult(
    session=SESSION,
    turn_id=TURN,
    status=TurnStatus.COMPLETED,
    result="done with [redacted]",
    error=None,
    conversation_id="c-1",
    num_turns=2,
    duration_ms=5,
    cost_usd=0.25,
    usage={"input_tokens": 3},
    permission_denials=(PermissionDenial("Bash", {"command": "rm x"}),),
    notes=("started again with [redacted]",),
    ahead=0,
    events=(Event(7, "2026-01-02T03:04:05Z", "tool_call", "Bash: echo [redacted]", 4),),
    cursor=7,
)

# Answers every request with what was asked.
ECHO = """\
for line in sys.stdin:
    one = json.loads(line)
    asked = json.dumps({one['op']: one['args']})
    answer(one['id'], ok={'turnId': 'TURN', 'result': asked})
""".replace("TURN", TURN)

ASKS: dict[str, Ask] = {
    "turn": lambda handle: prompt(handle, "do it", turn_id=TURN),
    "follow": lambda handle: follow(handle, TURN),
    "interrupt": lambda handle: interrupt(handle, TURN),
}


def refusing(code: str, message: str) -> str:
    """An agent that says no to everything."""
    error = {"code": code, "message": message}
    return f"for line in sys.stdin:\n    answer(json.loads(line)['id'], error={error!r})"


def asked(result: TurnResult | None) -> Any:
    """What the agent was asked, as ``ECHO`` says it."""
    assert result is not None
    return json.loads(result.result or "")


@pytest.fixture
def engine(scripted: ScriptedEngine, sessions: Sessions) -> ScriptedEngine:
    scripted.holds(container("abcd1", "fix"))
    return scripted


# What is refused here.


@pytest.mark.parametrize(
    ("text", "options", "more", "message"),
    [
        ("", {}, {}, "The prompt is empty."),
        (" \n", {}, {}, "The prompt is empty."),
        ("a\ud800", {}, {}, "The prompt is not valid Unicode: write it in UTF-8."),
        (
            "x" * (8 * 1024 * 1024 + 1),
            {},
            {},
            "The prompt has 8388609 bytes; the maximum is 8388608.",
        ),
        ("a", {"max_turns": 0}, {}, "maxTurns must be at least 1."),
        ("a", {"max_budget_usd": 0}, {}, "maxBudgetUsd must be more than 0."),
        ("a", {"max_budget_usd": float("nan")}, {}, "maxBudgetUsd must be more than 0."),
        ("a", {}, {"turn_id": "one"}, "The turn's id must be a UUID, and 'one' is not."),
        ("a", {}, {"turn_id": ""}, "The turn's id must be a UUID, and '' is not."),
        ("a", {}, {"turn_id": "x" * 99}, f"The turn's id must be a UUID, and {'x' * 60!r} is not."),
        ("a", {}, {"wait_seconds": -1}, "waitSeconds must be at least 0."),
        ("a", {}, {"wait_seconds": float("nan")}, "waitSeconds must be at least 0."),
        ("a", {}, {"wait_seconds": float("inf")}, "waitSeconds must be at least 0."),
    ],
)
async def test_a_prompt_that_cannot_be_sent_does_not_reach_the_session(
    engine: ScriptedEngine,
    sessions: Sessions,
    text: str,
    options: dict[str, Any],
    more: dict[str, Any],
    message: str,
) -> None:
    handle = await sessions.open("fix")
    with pytest.raises(UsageError) as caught:
        await prompt(handle, text, options=TurnOptions(**options), **more)
    assert worded(str(caught.value)) == message
    assert "exec" not in engine.calls


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"turn_id": "latest"}, "The turn's id must be a UUID, and 'latest' is not."),
        ({"cursor": -1}, "cursor must be at least 0."),
        ({"wait_seconds": -0.5}, "waitSeconds must be at least 0."),
        ({"wait_seconds": float("nan")}, "waitSeconds must be at least 0."),
    ],
)
async def test_a_turn_that_cannot_be_followed_does_not_reach_the_session(
    engine: ScriptedEngine, sessions: Sessions, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        await follow(await sessions.open("fix"), **arguments)
    assert worded(str(caught.value)) == message
    assert "exec" not in engine.calls


async def test_only_a_turn_with_a_uuid_can_be_interrupted(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    with pytest.raises(UsageError, match=r"^The turn's id must be a UUID, and '1' is not\.$"):
        await interrupt(await sessions.open("fix"), "1")
    assert "exec" not in engine.calls


@pytest.mark.parametrize(
    "given", [TURN, TURN.upper(), TURN.replace("-", ""), f"{{{TURN}}}", f"urn:uuid:{TURN}"]
)
def test_the_callers_turn_id_gets_its_canonical_form(given: str) -> None:
    assert new_turn_id(given) == TURN


def test_new_turn_ids_are_unique() -> None:
    identifiers = {new_turn_id() for _ in range(3)}
    assert identifiers == {str(uuid.UUID(each)) for each in identifiers}
    assert len(identifiers) == 3


# What is asked of the agent.

OTHER_VERSION = (
    "The session may have been created by another version of claude-mcp; create a new session."
)
LOG = "Read the session's log."


async def test_the_agent_is_asked_with_every_option(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    engine.agent(ECHO)
    first = asked(await prompt(await sessions.open("fix"), "--x"))
    second = asked(await prompt(await sessions.open("fix"), "--x"))
    assert first["turn"]["turnId"] != second["turn"]["turnId"]
    assert first == {
        "turn": {
            "turnId": new_turn_id(first["turn"]["turnId"]),
            "prompt": "--x",
        }
    }
    full = await prompt(
        await sessions.open("fix"),
        "/clear",
        options=TurnOptions((), "big", 3, 0.5, new_conversation=True),
        turn_id=TURN.upper(),
        wait_seconds=0,
        queue=True,
    )
    assert asked(full) == {
        "turn": {
            "turnId": TURN,
            "prompt": "/clear",
            "tools": [],
            "model": "big",
            "maxTurns": 3,
            "maxBudgetUsd": 0.5,
            "newConversation": True,
            "waitSeconds": 0,
            "whenBusy": "wait",
        }
    }


async def test_a_turn_is_followed_by_its_id_or_the_latest_is(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    engine.agent(ECHO)
    latest = await follow(await sessions.open("fix"))
    named = await follow(await sessions.open("fix"), TURN.upper(), cursor=0, wait_seconds=None)
    assert (asked(latest), asked(named)) == (
        {"follow": {}},
        {"follow": {"turnId": TURN, "cursor": 0}},
    )


async def test_a_turn_is_interrupted_by_its_id_or_the_one_that_runs_is(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    engine.agent(ECHO)
    running, named = (
        await interrupt(await sessions.open("fix")),
        await interrupt(await sessions.open("fix"), TURN),
    )
    assert (asked(running), asked(named)) == (
        {"interrupt": {}},
        {"interrupt": {"turnId": TURN}},
    )


async def test_interrupting_an_idle_session_is_no_error(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    engine.agent(refusing("not-running", ""))
    assert await interrupt(await sessions.open("fix")) is None


async def test_an_event_is_read_by_its_number_whole_and_redacted(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    text = "x" * 100_000 + "sk-of-the-server"
    engine.agent(
        "one = request()\n"
        f"assert (one['op'], one['args']) == ('event', {{'number': 3}})\n"
        "made = {'number': 3, 'time': 'then', 'kind': 'message', 'leftOut': 0}\n"
        f"answer(one['id'], ok={{'event': {{**made, 'text': {text!r}}}}})\nrequest()"
    )
    found = Event(3, "then", "message", "x" * 100_000 + "[redacted]", 0)
    assert await event(await sessions.open("fix"), 3) == (SESSION, found)


async def test_a_deleted_event_is_not_found(engine: ScriptedEngine, sessions: Sessions) -> None:
    engine.agent(refusing("no-event", "3"))
    with pytest.raises(TurnNotFound) as caught:
        await event(await sessions.open("fix"), 3)
    assert (caught.value.message, caught.value.hint, caught.value.exit_code) == (
        "Session 'fix' has no event 3.",
        "Old events are removed when the journal is full; results are kept.",
        3,
    )


@pytest.mark.parametrize("answer", [{}, {"event": None}, {"event": "x"}, {"event": [{}]}])
async def test_an_event_that_is_forged_is_damaged(
    engine: ScriptedEngine, sessions: Sessions, answer: dict[str, Any]
) -> None:
    engine.agent(f"answer(request()['id'], ok={answer!r}); request()")
    with pytest.raises(TurnNotFound, match=r"^Event 3 is damaged\.$"):
        await event(await sessions.open("fix"), 3)


async def test_another_refusal_of_an_event_is_an_error_of_its_own(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    engine.agent(refusing("failed", "KeyError: 'number'"))
    with pytest.raises(AgentError, match=r"^The session's agent failed: KeyError: 'number'\."):
        await event(await sessions.open("fix"), 3)


async def test_a_turn_returns_its_result_and_reports_progress(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    engine.agent(
        "for line in sys.stdin:\n"
        "    number = json.loads(line)['id']\n"
        "    for told in ('Bash: echo sk-of-the-server', 3, None, 'Edit: x'):\n"
        "        answer(number, event={'progress': told})\n"
        "    answer(number, event={})\n"
        f"    answer(number, ok={ANSWER!r})"
    )
    told: list[str] = []

    async def progress(line: str, amount: object = None, /) -> None:
        told.append(line)

    assert (
        await prompt(await sessions.open("fix"), "do it", turn_id=TURN, progress=progress) == RESULT
    )
    assert told == ["Bash: echo [redacted]", "Edit: x"]
    assert await follow(await sessions.open("fix"), progress=progress) == RESULT
    assert told == ["Bash: echo [redacted]", "Edit: x"] * 2
    assert await interrupt(await sessions.open("fix")) == RESULT


# What the agent refuses.


@pytest.mark.parametrize(
    ("code", "said", "kind", "message", "hint"),
    [
        (
            "busy",
            TURN,
            SessionNotReady,
            f"The session is busy with turn {TURN}.",
            "Wait for the turn, cancel it, or queue this prompt.",
        ),
        (
            "full",
            "50",
            SessionNotReady,
            "50 prompts are already waiting for this session.",
            "Wait until some of them are done, or use another session.",
        ),
        (
            "other-prompt",
            TURN,
            UsageError,
            f"The id {TURN} was used for another prompt.",
            "Repeat a turn with its own prompt, or leave the id out.",
        ),
        (
            "no-network",
            "the session has no network",
            SessionNotReady,
            "Session 'fix' has no network, so it cannot reach its provider.",
            "Commands and transfers work. For prompts, create a session with network "
            "'restricted' or 'open'.",
        ),
        ("no-turn", TURN, TurnNotFound, f"Session 'fix' has no turn {TURN}.", None),
        ("no-turn", "", TurnNotFound, "Session 'fix' has no turn yet.", None),
        ("bad-turn", "not a UUID", UsageError, "The turn's id must be a UUID.", None),
        ("cancelled", "too late", AgentError, "The request was cancelled.", None),
        (
            "unknown-operation",
            "no such op",
            AgentError,
            "The session's agent cannot do this: no such op.",
            OTHER_VERSION,
        ),
        (
            "malformed",
            "",
            AgentError,
            "The session's agent did not understand the request.",
            OTHER_VERSION,
        ),
        ("failed", "OSError: disk", AgentError, "The session's agent failed: OSError: disk.", LOG),
        ("", "", AgentError, "The session's agent failed: no reason was given.", LOG),
        (
            "no-room",
            "",
            SessionNotReady,
            "The session cannot start another process: it has reached its limit of processes or "
            "of open files.",
            "Wait until something that runs in it has ended, or destroy the session.",
        ),
    ],
)
async def test_a_refusal_of_the_agent_says_what_can_be_done(
    engine: ScriptedEngine,
    sessions: Sessions,
    code: str,
    said: str,
    kind: type[ClaudeMcpError],
    message: str,
    hint: str | None,
) -> None:
    engine.agent(refusing(code, said))
    for ask in ASKS.values():
        with pytest.raises(kind) as caught:
            await ask(await sessions.open("fix"))
        error = caught.value
        told = (worded(error.message), error.hint and worded(error.hint))
        assert (type(error), *told) == (kind, message, hint)


@pytest.mark.parametrize("error", [None, "busy", [], {"code": ["busy"]}, {"message": {}}])
async def test_a_refusal_that_is_forged_is_a_failure_of_the_agent(
    engine: ScriptedEngine, sessions: Sessions, error: object
) -> None:
    engine.agent(f"answer(request()['id'], error={error!r}); request()")
    with pytest.raises(AgentError) as caught:
        await follow(await sessions.open("fix"))
    assert (type(caught.value), caught.value.exit_code) == (AgentError, 7)


# Credentials.


async def test_a_session_that_lost_its_credentials_gets_the_servers_and_is_asked_again(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    engine.agent(
        "first = request()\n"
        "answer(first['id'], error={'code': 'unconfigured', 'message': 'x'})\n"
        "configure = request(); answer(configure['id'], ok={})\n"
        "again = request()\n"
        "answer(again['id'], ok={'result': json.dumps([first, configure, again])})\nrequest()"
    )
    first, configure, again = asked(
        await prompt(await sessions.open("fix"), "do it", wait_seconds=5)
    )
    assert (configure["op"], configure["args"]["secrets"]["credential"]) == (
        "configure",
        {"kind": "apiKey", "value": "[redacted]"},
    )
    assert (again["op"], again["args"]) == (first["op"], first["args"])


async def test_a_session_that_lost_credentials_of_its_own_does_not_get_the_servers(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    own = container("abcd1", "fix")
    own["labels"]["claude-mcp.credentials"] = "session"
    engine.holds(own)
    engine.agent(
        "answer(request()['id'], error={'code': 'unconfigured', 'message': 'x'})\n"
        "sys.exit(99 if sys.stdin.readline() else 0)"
    )
    with pytest.raises(SessionNotReady, match="Give them to it again"):
        await prompt(await sessions.open("fix"), "do it")


async def test_credentials_are_restored_only_once(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    engine.agent(
        "for line in sys.stdin:\n"
        "    one = json.loads(line)\n"
        "    open('ops', 'a').write(one['op'] + ' ')\n"
        "    if one['op'] == 'configure':\n"
        "        answer(one['id'], ok={})\n"
        "    else:\n"
        "        answer(one['id'], error={'code': 'unconfigured', 'message': 'none'})"
    )
    with pytest.raises(SessionNotReady, match=r"^Session 'fix' has no credentials\."):
        await prompt(await sessions.open("fix"), "do it")
    assert engine.noted("ops") == ["turn", "configure", "turn"]


# Lost channels, and callers that go away.

LOSING = """\
one = request()
open('asked', 'a').write(json.dumps([one['op'], one['args'].get('turnId')]) + '\\n')
if len(open('asked').readlines()) <= {losses}:
    sys.exit({code})
answer(one['id'], ok={answer!r})
request()
"""


@pytest.mark.parametrize("code", [0, 137])
@pytest.mark.parametrize("op", ASKS)
async def test_a_turn_is_found_again_by_its_id_when_the_channel_was_lost(
    engine: ScriptedEngine, sessions: Sessions, op: str, code: int
) -> None:
    engine.agent(LOSING.format(losses=1, code=code, answer=ANSWER))
    assert await ASKS[op](await sessions.open("fix")) == RESULT
    assert engine.noted("asked") == [f'["{op}",', f'"{TURN}"]'] * 2


async def test_a_prompt_without_an_id_is_asked_again_under_the_one_it_was_given(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    engine.agent(LOSING.format(losses=1, code=0, answer=ANSWER))
    await prompt(await sessions.open("fix"), "do it")
    first, second = engine.noted("asked")[1::2]
    assert first == second


async def test_an_interrupt_without_an_id_is_not_sent_twice(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    """The first one may have been carried out; then the next turn in line runs by now."""
    engine.agent(LOSING.format(losses=1, code=0, answer=ANSWER))
    with suppress(AgentError):
        await interrupt(await sessions.open("fix"))
    assert " ".join(engine.noted("asked")).count('["interrupt", null]') == 1


@pytest.mark.parametrize("op", ASKS)
async def test_a_channel_that_is_lost_again_and_again_is_an_error(
    engine: ScriptedEngine, sessions: Sessions, op: str
) -> None:
    engine.agent(LOSING.format(losses=9, code=0, answer={}))
    with pytest.raises(AgentError) as caught:
        await ASKS[op](await sessions.open("fix"))
    assert (type(caught.value), caught.value.message) == (
        AgentError,
        "The connection to the session was lost before it answered. Its log ends with: last words",
    )
    assert engine.calls.count("exec") == 2


async def test_a_turn_whose_session_was_killed_has_failed_and_may_have_been_seen(
    engine: ScriptedEngine, sessions: Sessions
) -> None:
    engine.on("logs", "")
    engine.agent("request(); open('asked', 'a').write('once ')")
    handle = await sessions.open("fix")
    held = engine.held[0]
    engine.holds({**held, "status": "exited", "exitCode": 137})
    turn = await prompt(handle, "do it", turn_id=TURN)
    assert (turn.turn_id, turn.status, turn.error) == (
        TURN,
        TurnStatus.FAILED,
        "The session stopped before it answered. The model may have seen the prompt, and it is not "
        "sent again. If the turn had ended by then, its result is kept: ask for the turn again, "
        "which starts the session.",
    )
    assert engine.noted("asked") == ["once"]


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        (
            "sys.stderr.write('the daemon fell over\\n'); sys.exit(1)",
            EngineError,
            "Docker could not reach the session: the daemon fell over.",
        ),
        (
            "sys.exit(97)",
            AgentError,
            "The session's agent does not answer. Its log ends with: last words",
        ),
    ],
)
async def test_only_a_lost_channel_is_retried(
    engine: ScriptedEngine,
    sessions: Sessions,
    script: str,
    kind: type[ClaudeMcpError],
    message: str,
) -> None:
    engine.on("exec", f"import sys; {script}")
    with pytest.raises(kind) as caught:
        await prompt(await sessions.open("fix"), "do it")
    assert (type(caught.value), caught.value.message) == (kind, message)
    assert engine.calls.count("exec") == 1


@pytest.mark.parametrize("ask", [prompt, follow])
async def test_a_cancelled_caller_ends_only_its_waiting(
    engine: ScriptedEngine, sessions: Sessions, ask: Callable[..., Awaitable[TurnResult]]
) -> None:
    engine.agent(
        "one = request()\n"
        "answer(one['id'], event={'progress': 'Bash: ls'})\n"
        "two = request()\n"
        "open('ops', 'w').write(f\"{two['op']} {two['args']['id'] == one['id']}\")\n"
        "answer(one['id'], ok={})\n"
        "last = request()\n"
        "open('ops', 'a').write(' ' + last['op'])\n"
        "answer(last['id'], ok={})\n"
        "request()"
    )

    async def go_away(line: str) -> None:
        scope.cancel()

    with anyio.CancelScope() as scope:
        await ask(await sessions.open("fix"), TURN, progress=go_away)
    assert scope.cancelled_caught
    await request(sessions, "fix", "ping", {})
    assert engine.noted("ops") == ["cancel", "True", "ping"]


# What may be forged.

EVENT = {"number": 1, "time": "then", "kind": "message", "text": "a", "leftOut": 0}


@pytest.mark.parametrize(
    ("answer", "parsed"),
    [
        ({}, {}),
        ({"status": "completed"}, {"status": TurnStatus.COMPLETED}),
        ({"status": "cancelled"}, {"status": TurnStatus.CANCELLED}),
        ({"status": "running"}, {"status": TurnStatus.RUNNING}),
        ({"status": "something else"}, {}),
        ({"status": ["completed"]}, {}),
        ({"turnId": "another"}, {}),
        ({"turnId": 3}, {}),
        ({"turnId": [TURN]}, {}),
        ({"result": 3, "error": {}, "conversationId": []}, {}),
        ({"numTurns": "3", "durationMs": None, "costUsd": "free"}, {}),
        ({"numTurns": True, "durationMs": -1, "costUsd": [0]}, {}),
        ({"numTurns": float("nan"), "durationMs": float("inf"), "costUsd": float("nan")}, {}),
        ({"numTurns": 10**400, "durationMs": 1e300, "costUsd": 10**400}, {}),
        ({"numTurns": 2.0, "costUsd": 1}, {"num_turns": 2, "cost_usd": 1.0}),
        ({"usage": []}, {}),
        ({"usage": {"a": "b", "c": None, "d": True, "e": -1, "f": 7}}, {"usage": {"f": 7}}),
        ({"usage": {"a": float("inf"), "b": 10**400}}, {}),
        ({"permissionDenials": {}}, {}),
        ({"permissionDenials": [3, None, [], {"toolInput": 3}, {"toolInput": [1]}]}, {}),
        (
            {"permissionDenials": [{}, {"toolName": "", "toolInput": {}}, {"toolName": 3}]},
            {"permission_denials": (PermissionDenial("", {}),)},
        ),
        ({"session": "another"}, {}),
        ({"notes": "a note"}, {}),
        ({"notes": {"a": 1}}, {}),
        ({"notes": [3, None, ["a"], "b"]}, {"notes": ("b",)}),
        ({"ahead": "many", "cursor": -1}, {}),
        ({"ahead": True, "cursor": [1]}, {}),
        ({"ahead": float("nan"), "cursor": 2**53 + 1}, {}),
        ({"ahead": 2.0, "cursor": 2**53}, {"ahead": 2, "cursor": 2**53}),
        ({"events": "none"}, {}),
        ({"events": {"0": EVENT}}, {}),
        ({"events": [3, None, "x", [EVENT]]}, {}),
        (
            {"events": [{**EVENT, "time": "t" * 99, "kind": "k" * 99}]},
            {"events": (Event(1, "t" * 40, "k" * 40, "a", 0),)},
        ),
        (
            {"events": [{**EVENT, "number": "1"}, {**EVENT, "text": ["a"]}, {**EVENT, "kind": 3}]},
            {},
        ),
        ({"events": [{**EVENT, "number": 10**400}, {**EVENT, "number": -1}]}, {}),
        (
            {"events": [{**EVENT, "leftOut": float("nan")}, {**EVENT, "leftOut": "all"}]},
            {"events": (Event(1, "then", "message", "a", 0),) * 2},
        ),
    ],
)
def test_an_answer_may_be_forged(answer: dict[str, Any], parsed: dict[str, Any]) -> None:
    expected = {field: getattr(NOTHING, field) for field in NOTHING.__slots__}
    assert parse_result(SESSION, TURN, answer) == TurnResult(**{**expected, **parsed})


@pytest.mark.parametrize("named", [None, "", "$(touch x)", 3, [TURN], f"{TURN}{'x' * 1000}"])
def test_an_answer_about_some_turn_must_name_it(named: object) -> None:
    with pytest.raises(AgentError, match="unusable"):
        parse_result(SESSION, None, {"turnId": named})
    assert parse_result(SESSION, None, {"turnId": TURN}) == NOTHING


def test_what_a_session_says_is_bounded() -> None:
    deep: Any = "end"
    for _ in range(1000):
        deep = {"a": [deep]}
    answer = {
        "notes": ["n" * 10_000] * 1000,
        "events": [{**EVENT, "text": "t" * 10_000}],
        "permissionDenials": [{"toolName": "Bash", "toolInput": deep}] * 1000,
        "result": "r" * 10_000_000,
        "error": "e" * 10_000_000,
        "usage": {f"{number}{'u' * 1000}": 1 for number in range(1000)},
    }
    parsed = parse_result(SESSION, TURN, answer)
    assert parsed.notes == ("n" * 500,) * MAX_NOTES
    assert parsed.events == (Event(1, "then", "message", "t" * MAX_EVENT_CHARS, 0),)
    assert len(json.dumps(parsed.permission_denials[0].tool_input)) < 500
    assert len(parsed.permission_denials) == MAX_DENIALS
    for text in (parsed.result, parsed.error):
        assert text is not None
        assert MAX_RESULT_CHARS < len(text) < MAX_RESULT_CHARS + 100
        assert "characters left out" in text
    assert [len(key) for key in parsed.usage] == [100] * MAX_USAGE_ENTRIES


def test_the_number_of_events_in_an_answer_is_bounded() -> None:
    many = [{**EVENT, "number": number} for number in range(1, 1000)]
    found = parse_result(SESSION, TURN, {"events": many}).events
    assert found == tuple(
        Event(number, "then", "message", "a", 0) for number in range(1, MAX_EVENTS + 1)
    )


@pytest.mark.parametrize("op", ASKS)
async def test_a_turn_has_the_id_that_was_asked_for_whatever_the_session_says(
    engine: ScriptedEngine, sessions: Sessions, op: str
) -> None:
    forged = {**ANSWER, "turnId": "$(touch /tmp/x)"}
    engine.agent(f"answer(request()['id'], ok={forged!r}); request()")
    assert await ASKS[op](await sessions.open("fix")) == RESULT
