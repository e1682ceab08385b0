"""Turns that fail for what the conversation contains, for a usage limit, or without a last word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.agent.turns import driver, outcomes
from tests.unit.agent.scripted import COMPLETED, SECRETS, ask

if TYPE_CHECKING:
    from tests.unit.agent.conftest import Claude, Session

LIMITED = "frame(type='rate_limit_event', rate_limit_info=dict(status={!r}, resetsAt={}))"


def failing(**fields: Any) -> str:
    return f"begin(); result('no', is_error=True, **{fields!r})"


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"terminal_reason": "prompt_too_long", "api_error_status": 400}, "conversation"),
        ({"terminal_reason": "image_error", "api_error_status": 400}, "conversation"),
        ({"api_error": "tool_history_mismatch", "api_error_status": 400}, "conversation"),
        ({"api_error_status": 413}, "conversation"),
        ({"api_error_status": 400}, "request"),
        ({"api_error_status": 529}, None),
        ({"api_error_status": 401}, None),
        ({}, None),
    ],
)
def test_an_error_of_the_conversation_names_the_way_out(
    session: Session, fields: dict[str, Any], kind: str | None
) -> None:
    failed = ask(session.start(), failing(**fields))
    assert failed["status"] == "failed"
    assert failed["error"] == ("no" if kind is None else f"no\n{outcomes.REFUSED[kind]}")
    assert failed.get("needsNewConversation", False) == (kind == "conversation")


def test_a_lack_of_money_is_no_fault_of_the_conversation(session: Session) -> None:
    program = "begin(); result('Credit balance is too low', is_error=True, api_error_status=400)"
    assert ask(session.start(), program)["error"] == "Credit balance is too low"


@pytest.mark.parametrize(
    ("reset", "moment"),
    [("1795969074", "2026-11-29T16:17:54Z"), ("9e15", "2242-03-16T12:56:32Z"), ("None", None),
     ("'x'", None)],
)  # fmt: skip
def test_a_usage_limit_says_when_it_ends(session: Session, reset: str, moment: str | None) -> None:
    caller = session.start()
    failed = ask(caller, f"begin(); {LIMITED.format('rejected', reset)}; {failing()[9:]}")
    assert (failed["status"], failed.get("retryAt")) == ("failed", moment)
    warned = f"begin(); {LIMITED.format('allowed_warning', 1795969074)}; {failing()[9:]}"
    assert "retryAt" not in ask(caller, warned)


def test_a_limit_that_did_not_stop_the_turn_is_not_told(session: Session) -> None:
    program = f"begin(); {LIMITED.format('rejected', 1795969074)}; result()"
    assert ask(session.start(), program) == COMPLETED


def test_a_turn_whose_final_message_never_comes_fails_with_what_was_said(
    session: Session, claude: Claude, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "FINAL_SECONDS", 0.1)
    caller = session.start()
    said = "frame(type='assistant', message=dict(model='m', content=[{block}]))"
    blocks = ("dict(type='text', text='first')", "dict(type='text', text='last')")
    says = "; ".join(said.format(block=block) for block in blocks)
    program = f"begin(); {says}; command_lifecycle('completed')"
    failed = ask(caller, program)
    assert (failed["status"], failed["result"]) == ("failed", "last")
    assert failed["error"] == outcomes.UNFINISHED
    after = ask(caller, "begin(); result()")
    assert (after["status"], after["notes"]) == ("completed", [])
    assert claude.resumed == [None, "c-1"]


def test_a_result_before_the_end_of_its_prompt_counts(session: Session) -> None:
    program = "begin(); result(); command_lifecycle('completed')"
    assert ask(session.start(), program) == COMPLETED


SERVERS = (
    "frame(type='system', subtype='init', session_id='c-1', "
    "mcp_servers=[dict(name='slow', status={!r}), dict(name='other', status='failed')])"
)


def test_an_mcp_server_that_connects_later_or_fails_is_noted_once(session: Session) -> None:
    config = {"mcpServers": {"slow": {"command": "x"}}}
    caller = session.start({**SECRETS, "mcpConfig": config})
    assert caller.ask("mcp", waitSeconds=60)["ok"]["mcpServers"][0]["status"] == "unknown"
    notes = [
        ask(caller, f"command_lifecycle('started'); {SERVERS.format(status)}; result()")["notes"]
        for status in ("pending", "connected", "connected", "failed")
    ]
    assert notes == [
        [], ["MCP server slow is now connected."], [], ["MCP server slow is now failed."]
    ]  # fmt: skip
