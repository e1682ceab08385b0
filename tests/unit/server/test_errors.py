from __future__ import annotations

import logging

import pytest

from claude_mcp.credentials import Secret
from claude_mcp.errors import EngineError, SessionNotFound
from claude_mcp.server.errors import error_text


def test_a_domain_error_is_its_message_and_its_hint() -> None:
    error = SessionNotFound("There is no session 'x'.", hint="Did you mean 'y'?")
    assert error_text(error, "execute_command") == "There is no session 'x'.\nDid you mean 'y'?"


def test_a_domain_error_in_a_task_group_is_the_same_error() -> None:
    error = ExceptionGroup("tasks", [ExceptionGroup("tasks", [EngineError("It failed.")])])
    assert error_text(error, "list_sessions") == "It failed."


def test_an_unexpected_error_is_named_and_its_traceback_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        text = error_text(KeyError("exitCode"), "execute_command")
    assert text == "Internal error: KeyError: 'exitCode'; see the server's log."
    [record] = caplog.records
    assert record.getMessage() == "execute_command failed unexpectedly"
    assert record.exc_info is not None


def test_an_error_holds_no_secret_and_no_broken_text() -> None:
    Secret("sk-ant-in-an-error-0123")
    error = EngineError("It said sk-ant-in-an-error-0123 \ud800.")
    assert error_text(error, "list_sessions") == "It said [redacted] ?."
