"""Secrets that do not show, and the redactor that knows them."""

from __future__ import annotations

import base64
import itertools
import json
import logging
import math
import urllib.parse
from dataclasses import dataclass

import pytest

from claude_mcp.credentials import MASK, RedactingFormatter, Redactor, Secret, redactor

KEY = "sk-ant/0+1 2=é"


@pytest.fixture
def knowing() -> Redactor:
    redactor = Redactor()
    redactor.add(KEY)
    return redactor


def test_a_secret_shows_only_when_it_is_revealed() -> None:
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


def test_every_occurrence_is_replaced(knowing: Redactor) -> None:
    assert knowing.redact(f"{KEY},{KEY}\n{KEY}") == f"{MASK},{MASK}\n{MASK}"


def test_the_form_in_a_url_is_replaced(knowing: Redactor) -> None:
    assert knowing.redact(f"?k={urllib.parse.quote(KEY, safe='')}&b") == f"?k={MASK}&b"


@pytest.mark.parametrize("key", ["sk-a/?b", "sk-a/?bc", "sk-a/?bcd"])
def test_base64_is_replaced_wherever_in_the_encoded_text_the_secret_stands(key: str) -> None:
    redactor = Redactor()
    redactor.add(key)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before, after in itertools.product(["", "u", "me", "you:"], ["", "\n", ";a", ";ab"]):
            encoded = encode(f"{before}{key}{after}".encode()).decode()
            # Characters that the secret shares with its neighbours tell less than one byte.
            start, end = math.ceil(len(before) * 8 / 6), len(before + key) * 8 // 6
            assert redactor.redact(encoded) == encoded[:start] + MASK + encoded[end:]


def test_a_secret_inside_another_is_hidden_with_it() -> None:
    redactor = Redactor()
    redactor.add("secret")
    redactor.add("my-secret-key")
    assert redactor.redact("my-secret-key, secret") == f"{MASK}, {MASK}"


def test_secrets_that_overlap_leave_no_rest() -> None:
    redactor = Redactor()
    redactor.add("abcdef-")
    redactor.add("def-ghi")
    assert redactor.redact("abcdef-ghi") == MASK
    assert redactor.redact("abcdef-def-ghi") == MASK * 2


def test_a_short_secret_would_mask_innocent_words() -> None:
    redactor = Redactor()
    redactor.add("abcde")
    assert redactor.redact("abcde") == "abcde"


def test_a_secret_may_hold_bytes_that_are_not_text() -> None:
    redactor = Redactor()
    redactor.add("key-\udcff-\udcfe")
    assert redactor.redact("key-\udcff-\udcfe!") == f"{MASK}!"


def test_text_without_a_secret_stays_as_it_is(knowing: Redactor) -> None:
    assert knowing.redact("nothing\nhere") == "nothing\nhere"


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
