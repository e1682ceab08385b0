"""Secrets that do not show."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass

import pytest

from claude_mcp.contract.redaction import MASK, redactor
from claude_mcp.credentials import RedactingFormatter, Secret


def test_only_reveal_shows_a_secret() -> None:
    @dataclass
    class Holder:
        key: Secret

    secret = Secret("sk-never-shown")
    shown = [str(secret), repr(secret), f"{secret}", f"{secret!s:>40}", str(Holder(secret))]
    shown += ["%s %r" % (secret, [secret]), "{}".format({"key": secret})]  # noqa: UP031
    assert [text for text in shown if "never" in text] == []
    assert secret.reveal() == "sk-never-shown"
    with pytest.raises(TypeError, match="not JSON serializable"):
        json.dumps(secret)


def test_secrets_are_equal_when_their_values_are() -> None:
    assert Secret("sk-equal-1") == Secret("sk-equal-1")
    assert len({Secret("sk-equal-1"), Secret("sk-equal-1"), Secret("sk-equal-2")}) == 2
    assert Secret("sk-equal-1") != "sk-equal-1"


def test_a_new_secret_is_known_to_the_redactor_of_this_process() -> None:
    Secret("sk-known-at-once")
    assert redactor.redact("key=sk-known-at-once;") == f"key={MASK};"


def test_a_log_record_is_redacted_with_its_arguments_and_its_traceback() -> None:
    Secret("sk-in-the-log")
    formatter = RedactingFormatter("%(levelname)s %(message)s")
    try:
        raise ValueError("sk-in-the-log")
    except ValueError as error:
        record = logging.LogRecord(
            "x",
            logging.ERROR,
            "x.py",
            1,
            "key %s",
            ("sk-in-the-log",),
            (type(error), error, error.__traceback__),
        )
    formatted = formatter.format(record)
    assert formatted.startswith(f"ERROR key {MASK}\nTraceback")
    assert formatted.endswith(f"ValueError: {MASK}")
