"""Each refusal of the agent is one error of ours."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import claude_mcp
from claude_mcp.contract.codes import Code
from claude_mcp.errors import AgentError, SessionNotReady, TurnNotFound
from claude_mcp.sessions.channel.refusals import REFUSALS, code_of, error_of, refused

AGENT = Path(claude_mcp.__file__).parent / "agent"


def test_every_code_has_an_error_of_ours() -> None:
    assert set(REFUSALS) == set(Code)


@pytest.mark.parametrize("code", Code)
def test_every_error_can_be_shown(code: Code) -> None:
    error = error_of(refused(code.value, "{detail} {0} %s"), "fix {session}")
    assert type(error) is REFUSALS[code].error
    assert error.message.endswith(".")
    assert error.exit_code in (2, 3, 4, 6, 7)


def test_the_agent_raises_every_code_and_no_other() -> None:
    raised = set()
    for file in AGENT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Attribute(value=ast.Name(id="Code"), attr=name):
                    raised.add(Code[name])
    assert raised == set(Code)


def test_a_code_that_is_not_declared_is_a_failure_of_the_agent() -> None:
    refusal = refused("of-a-later-version", "something\nwent wrong")
    assert refusal.code is Code.FAILED
    error = error_of(refusal, "fix")
    assert (type(error), error.message) == (
        AgentError,
        "The session's agent failed: something went wrong.",
    )


def test_a_session_without_any_turn_says_so() -> None:
    error = error_of(refused("no-turn", ""), "fix")
    assert (type(error), error.message) == (TurnNotFound, "Session 'fix' has no turn yet.")


def test_an_error_tells_which_refusal_it_comes_from() -> None:
    refusal = refused("busy", "x")
    error = error_of(refusal, "fix")
    assert code_of(error) is None
    error.__cause__ = refusal
    assert code_of(error) is Code.BUSY
    assert code_of(SessionNotReady("stopped")) is None
