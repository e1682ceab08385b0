"""What a client's model gets: structure and text of one value, with the same content.

Claude Code gives its model the structure alone; other clients give theirs the text.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from claude_mcp.contract.messages import key
from claude_mcp.server.tool import Declaration
from claude_mcp.server.tools import BY_NAME, DECLARATIONS
from claude_mcp.views.commands import LogsResult
from claude_mcp.views.next_steps import next_step
from claude_mcp.views.results import Result
from claude_mcp.views.sessions import (
    CredentialsResult,
    DestroyEntry,
    DestroyResult,
    ListResult,
    McpServerStatus,
)
from claude_mcp.views.turns import (
    CancelResult,
    PermissionDenial,
    PermissionResult,
    TurnEntry,
    TurnsResult,
)
from claude_mcp.views.usage import StatsResult, UsageEntry
from claude_mcp.views.workspaces import DiscardResult, FileEntry, TransferResult
from tests.unit.server.answers import text as text_of
from tests.unit.views.test_text import (
    COMMAND,
    CREATED,
    ENTRY,
    QUESTION,
    RUNNING,
    TURN,
    event,
    view,
)
from tests.unit.views.test_workspace_text import APPLIED, CHANGES

S = "0123456789ab"
ASKED = f'get_command with sessionId "{S}", commandId "5b1f"'
T = TURN.turn_id
ASK = replace(QUESTION, kind="question", tool_name="AskUserQuestion", tool_input={"questions": []})
FILES = [FileEntry("a", "M", None, 1, 2, False), FileEntry("n", "R", "o", None, None, True)]
WAIT = f'get_turn with sessionId "{S}" and turnId "{T}" waits for the result'
RESPOND = (
    "; if in doubt, ask your user first; then get_turn waits for the result; unanswered requests "
    "are denied after a while."
)
CONTINUE = f'execute_in_session with sessionId "{S}" continues the conversation, which is kept.'
AGAIN = (
    f'fix the cause and send the prompt again with execute_in_session with sessionId "{S}" (the '
    "conversation is kept), or read get_session_logs."
)
GONE = DestroyEntry(S, "fix-tests", True, None)
CUT = "get_turn with event and the number of a cut event returns it in full."

KINDS: dict[str, list[tuple[Any, str | None]]] = {
    "create_session": [
        (
            replace(
                CREATED, warnings=["W"], expires_at="2026-01-03T03:04:05Z", network="restricted"
            ),
            f'execute_in_session with sessionId "{S}" and a prompt; destroy_session when the work '
            "is done.",
        ),
        (
            replace(CREATED, network="none", mcp_servers=[McpServerStatus("m", "failed", "E")]),
            f'execute_command with sessionId "{S}" runs commands, and without a network prompts '
            "do not work; destroy_session when the work is done.",
        ),
    ],
    "execute_in_session": [
        (replace(TURN, notes=["N"]), None),
        (replace(TURN, permission_denials=[PermissionDenial("Bash", {"command": "x"}, "R")]), None),
        (replace(TURN, status="failed", result="R", error="E"), AGAIN),
        (
            replace(TURN, status="failed", error="E", retry_at="L"),
            f'execute_in_session with sessionId "{S}" again after L.',
        ),
        (
            replace(TURN, status="failed", error="E", needs_new_conversation=True),
            f'execute_in_session with sessionId "{S}" and newConversation true begins a new '
            "conversation.",
        ),
        (replace(TURN, status="cancelled", result=None), CONTINUE),
        (replace(RUNNING, last_step="Bash: make"), f"{WAIT}; cancel_turn interrupts it."),
        (replace(RUNNING, status="queued"), f"{WAIT}; cancel_turn interrupts it."),
        (
            replace(RUNNING, status="needs_permission", questions=[QUESTION]),
            f'respond_permission with sessionId "{S}" and each requestId{RESPOND}',
        ),
        (
            replace(RUNNING, status="needs_permission", questions=[ASK]),
            f'respond_permission with sessionId "{S}" and each requestId (answers, where Claude '
            f"asks questions){RESPOND}",
        ),
    ],
    "get_turn": [
        (view(TURN), None),
        (view(RUNNING, event(6)), f"{WAIT}; cancel_turn interrupts it."),
        (view(TURN, event(6), event(7, text="one\ntwo", left_out=9)), CUT),
        (
            view(replace(TURN, next_offset=9)),
            f'get_turn with sessionId "{S}", turnId "{T}" and offset 9 returns the next part.',
        ),
        (
            view(replace(TURN, result=None, next_offset=9), event(7, left_out=5)),
            f'get_turn with sessionId "{S}", turnId "{T}", event 7 and offset 9 returns the next '
            "part.",
        ),
        (view(RUNNING, event(7, left_out=9)), f"{WAIT}; cancel_turn interrupts it; {CUT}"),
    ],
    "list_turns": [
        (TurnsResult(S, [], None), None),
        (
            TurnsResult(S, [TurnEntry(T, "failed", "A", "P", 0.5, 3, "E")], None),
            f'get_turn with sessionId "{S}" and a turnId returns its result.',
        ),
        (
            TurnsResult(S, [TurnEntry(T, "completed", "A", None, 0.0, 3, None)], "c"),
            f'list_turns with sessionId "{S}" and cursor "c" lists older turns.',
        ),
    ],
    "cancel_turn": [
        (
            CancelResult(S, None, None),
            f'no turn was running; execute_in_session with sessionId "{S}" sends a prompt.',
        ),
        (CancelResult(S, T, "cancelled"), CONTINUE),
        (CancelResult(S, T, "running"), f"{WAIT.replace('the result', 'its end')}."),
        (CancelResult(S, T, "completed"), f"{WAIT.replace('waits for the', 'returns its')}."),
    ],
    "respond_permission": [
        (PermissionResult(S, T), f'get_turn with sessionId "{S}" waits for the result.')
    ],
    "set_credentials": [
        (
            CredentialsResult(S, "fix-tests", "server", ["m"], ["W"]),
            f'execute_in_session with sessionId "{S}" and a prompt uses them.',
        )
    ],
    "list_sessions": [
        (ListResult([], None), "create_session creates a session."),
        (ListResult([replace(ENTRY, problem="P"), ENTRY], None), None),
        (ListResult([ENTRY], "c"), 'list_sessions with cursor "c" lists more sessions.'),
        (
            ListResult(
                [
                    replace(
                        ENTRY,
                        turn_running=True,
                        turn_ms=3000,
                        last_step="L",
                        open_questions=1,
                        background_commands=2,
                        model="m",
                        cost_usd=0.5,
                        expires_at="2026-01-03T03:04:05Z",
                        created_by="cli",
                        network="none",
                    )
                ],
                None,
            ),
            f'get_turn with sessionId "{S}" returns what Claude asks.',
        ),
    ],
    "destroy_session": [
        (DestroyResult(S, "fix-tests", True, ["W"], [GONE]), None),
        (DestroyResult("nope", None, False, [], [replace(GONE, session_name=None)]), None),
        (DestroyResult("", None, True, ["W"], [GONE, replace(GONE, error="E")]), None),
    ],
    "transfer_files": [(TransferResult(S, "to_container", "/p", 2, 30, ["W"]), None)],
    "execute_command": [
        (replace(COMMAND, stdout="out", stderr="err", exit_code=3, notes=["N"]), None),
        (
            replace(COMMAND, timed_out=True, exit_code=124, status="stopped"),
            "execute_command with a larger timeoutSeconds, or with background true for a server.",
        ),
        (
            replace(COMMAND, stdout="a", truncated="stdout: 5 of 9 bytes left out"),
            f"{ASKED} and cursor 0 returns what is kept of all its output, in parts.",
        ),
        (
            replace(COMMAND, exit_code=None, status="running", background=True),
            f"{ASKED} waits for its end or returns, with cursor 40, what comes after this output; "
            "stop_command ends it.",
        ),
    ],
    "get_command": [
        (replace(COMMAND, exit_code=None, status="lost"), None),
        (
            replace(COMMAND, output="a\nb\n", more=True, command="make"),
            f"{ASKED} and cursor 40 returns the next part of the output.",
        ),
        (
            replace(COMMAND, exit_code=1, status="left_running"),
            f"{ASKED} returns, with cursor 40, what comes after this output; stop_command ends it.",
        ),
    ],
    "stop_command": [(replace(COMMAND, exit_code=143, status="stopped"), None)],
    "get_session_logs": [
        (LogsResult(S, "fix-tests", "stopped", ["x", "y"], None), None),
        (
            LogsResult(S, "fix-tests", "stopped", ["t x"], "t"),
            f'get_session_logs with sessionId "{S}" and before "t" returns older lines.',
        ),
    ],
    "get_changes": [
        (CHANGES, None),
        (
            replace(CHANGES, files=FILES, left_out=["big"], notes=["N"], branch="b", head="2" * 40),
            f'get_changes with sessionId "{S}" and full true returns the diff.',
        ),
        (
            replace(CHANGES, files=FILES, more=2),
            f'get_changes with sessionId "{S}" and paths lists those of single directories.',
        ),
        (
            replace(CHANGES, diff="+a", next_offset=9, until="u"),
            f'get_changes with sessionId "{S}", full true, offset 9 and until "u" returns the next '
            "part.",
        ),
    ],
    "get_stats": [
        (
            StatsResult([UsageEntry(S, "fix", "running", 1.5, 2, 3, 4, 5, 6, 7, 8, "docker")]),
            None,
        ),
        (StatsResult([]), None),
    ],
    "apply_changes": [(replace(APPLIED, left=["c: why"], warnings=["W"]), None)],
    "discard_changes": [(DiscardResult(S, ["a"], ["b"], ["d: why"], "b"), None)],
}
CASES = [
    pytest.param(BY_NAME[name], result, step, id=f"{name}-{number}")
    for name, cases in KINDS.items()
    for number, (result, step) in enumerate(cases)
]

NOT_IN_TEXT = {
    "conversationId", "cursor", "model", "turnId", "sessionId", "containerName", "engine", "kind",
    "provider", "status", "mode", "outcome", "createdAt", "lastActivityAt", "credentials",
    "direction", "files", "restored", "removed", "branch", "commit", "head", "until", "network",
    "image", "commandId", "startedAt", "endedAt",
}  # fmt: skip
"""Identifiers, and values that the text says in words or as a number."""


def test_each_kind_of_result_is_looked_at() -> None:
    assert set(KINDS) <= set(BY_NAME)
    assert {each.result for each in DECLARATIONS} == {
        type(result) for cases in KINDS.values() for result, _ in cases
    }


@pytest.mark.parametrize(("declaration", "result", "step"), CASES)
def test_structure_and_text_name_the_same_next_step(
    declaration: Declaration, result: Result, step: str | None
) -> None:
    answer = declaration.answer(result)
    assert next_step(result) == step
    assert answer.structured_content["next"] == step
    lines = text_of(answer).splitlines()
    assert [line for line in lines if line.startswith("Next: ")] == (
        [f"Next: {step}"] if step else []
    )


@pytest.mark.parametrize(("declaration", "result", "step"), CASES)
def test_the_text_says_nothing_that_is_not_in_the_structure(
    declaration: Declaration, result: Result, step: str | None
) -> None:
    answer = declaration.answer(result)
    sent = json.loads(json.dumps(answer.structured_content))
    read = from_json(type(result), {name: sent[name] for name in sent if name != "next"})
    made = declaration.text(read)
    assert text_of(answer) == (f"{made}\nNext: {sent['next']}" if sent["next"] else made)
    # What to do is said in the next step only.
    assert [name for name in BY_NAME if name in made] == []


@pytest.mark.parametrize(("declaration", "result", "step"), CASES)
def test_the_text_holds_every_string_of_the_structure(
    declaration: Declaration, result: Result, step: str | None
) -> None:
    answer = declaration.answer(result)
    text = "\n".join(line.strip() for line in text_of(answer).splitlines())
    missing = [
        (name, value)
        for name, value in strings(answer.structured_content)
        if name not in NOT_IN_TEXT and value not in text
    ]
    assert missing == []


@pytest.mark.parametrize("declaration", DECLARATIONS, ids=lambda each: str(each.name))
def test_every_result_declares_its_next_step(declaration: Declaration) -> None:
    schema = declaration.tool().output_schema
    assert schema is not None
    assert schema["properties"]["next"] == {"type": ["string", "null"]}
    assert "next" in schema["required"]
    # A new kind of result has to say what comes next, even if that is nothing.
    assert next_step.dispatch(declaration.result) is not next_step.dispatch(Result)


def strings(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict):
        for inner, each in value.items():
            yield from strings(each, inner)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each, name)


def from_json(hint: Any, value: Any) -> Any:
    """The view that became this JSON value."""
    if get_origin(hint) in (Union, types.UnionType):
        [hint] = [each for each in get_args(hint) if each is not type(None)]
        return None if value is None else from_json(hint, value)
    if get_origin(hint) is list:
        return [from_json(get_args(hint)[0], each) for each in value]
    if isinstance(hint, type) and is_dataclass(hint):
        hints = get_type_hints(hint)
        return hint(
            **{
                each.name: from_json(hints[each.name], value[key(each.name)])
                for each in fields(hint)
            }
        )
    assert get_origin(hint) in (dict, Literal) or isinstance(value, hint | int)
    return value
