"""Secrets are taken out of text, in whatever form they stand there."""

from __future__ import annotations

import base64
import itertools
import json
import math
import random
import textwrap
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_mcp.contract.redaction import MASK, MAX_DEPTH, TOO_DEEP, Redactor

KEY = "sk-ant/0+1 2=é"


@pytest.fixture
def knowing() -> Redactor:
    redactor = Redactor()
    redactor.add(KEY)
    return redactor


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


PRIVATE_KEY = (
    "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0\nBAQEFAASCBKcwggSjAgEAAoI\nx\n-----END KEY-----\n"
)


def wrapped(text: str) -> str:
    return "\n".join(text[at : at + 16] for at in range(0, len(text), 16))


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_what_is_broken_into_lines_is_hidden(line_end: str) -> None:
    key = "sk-ant-api03-" + "0123456789abcdef" * 5
    redactor = Redactor()
    redactor.add(key)
    encoded = base64.b64encode(key.encode()).decode()
    text = line_end.join(textwrap.wrap(encoded, 76))
    assert redactor.redact(f"cat\n{text}{line_end}$").startswith(f"cat\n{MASK}")
    assert not any(line in redactor.redact(text) for line in textwrap.wrap(encoded, 30)[:-1])


def test_a_key_of_several_lines_is_hidden_as_a_whole_in_json_and_line_by_line() -> None:
    redactor = Redactor()
    redactor.add(PRIVATE_KEY)
    assert redactor.redact(f"<{PRIVATE_KEY}>") == f"<{MASK}\n>"
    assert redactor.redact(json.dumps({"k": PRIVATE_KEY})) == json.dumps({"k": MASK})
    assert redactor.redact("log: MIIEvQIBADANBgkqhkiG9w0.") == f"log: {MASK}."
    assert redactor.redact("log: x.") == "log: x."


@pytest.mark.parametrize(
    "encode",
    [
        lambda key: urllib.parse.quote(key, safe="/"),
        urllib.parse.quote_plus,
        lambda key: urllib.parse.quote(key, safe="").lower(),
        lambda key: json.dumps(key)[1:-1],
        lambda key: json.dumps(key, ensure_ascii=False)[1:-1],
    ],
)
def test_other_spellings_are_replaced(encode: Callable[[str], str]) -> None:
    redactor = Redactor()
    redactor.add('sk/0+1 2="é\\')
    assert (
        redactor.redact(f"<{encode(chr(115) + 'k/0+1 2=' + chr(34) + 'é' + chr(92))}>")
        == f"<{MASK}>"
    )


def test_a_secret_that_a_cut_went_through_leaves_no_rest(knowing: Redactor) -> None:
    begun, rest = KEY[:9], KEY[4:]
    assert knowing.redact(f"a {begun}", goes_on=True) == f"a {MASK}"
    assert knowing.redact(f"{rest} b", begun_before=True) == f"{MASK} b"
    assert knowing.redact(f"a {begun}") == f"a {begun}"
    assert knowing.redact(f"a {begun}\n", goes_on=True) == f"a {MASK}\n"
    assert knowing.redact(f"a {KEY[:5]}", goes_on=True) == f"a {KEY[:5]}"


def test_all_strings_of_a_value_are_redacted(knowing: Redactor) -> None:
    value = {"a": [KEY, 1, None, True, {KEY: f"x{KEY}"}], "b": 0.5}
    assert knowing.redact_all(value) == {"a": [MASK, 1, None, True, {MASK: f"x{MASK}"}], "b": 0.5}


def test_what_lies_too_deep_is_left_out(knowing: Redactor) -> None:
    deep: object = KEY
    for _ in range(100_000):
        deep = [deep]
    found = knowing.redact_all(deep)
    for _ in range(MAX_DEPTH):
        found = found[0]
    assert found == TOO_DEEP


unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
SECRETS = st.text(min_size=6, max_size=60)
SPELLINGS: list[Callable[[str], str]] = [
    str,
    lambda key: urllib.parse.quote(key, safe="", errors="surrogatepass"),
    lambda key: json.dumps(key)[1:-1],
    wrapped,
]


@unhurried
@given(st.lists(SECRETS, min_size=1, max_size=5), st.lists(st.text(max_size=30)), st.integers())
def test_no_secret_comes_through(keys: list[str], texts: list[str], seed: int) -> None:
    choose = random.Random(seed)
    redactor = Redactor()
    for key in keys:
        redactor.add(key)
    spelled = [encode(key) for key in keys for encode in SPELLINGS]
    words = [*texts, *spelled]
    choose.shuffle(words)
    text = "".join(words)
    shown = redactor.redact(text)
    for form in spelled:
        if len(form.replace("\n", "").replace("\r", "")) >= 6 and form not in MASK:
            assert form not in shown.replace(MASK, "\0")


@unhurried
@given(SECRETS, st.binary(max_size=50), st.binary(max_size=50), st.integers(16, 80))
def test_no_base64_of_a_secret_comes_through(
    key: str, before: bytes, after: bytes, width: int
) -> None:
    """Of what is encoded, nothing but what its neighbours share is left."""
    redactor = Redactor()
    redactor.add(key)
    raw = key.encode("utf-8", "surrogatepass")
    encoded = base64.b64encode(before + raw + after).decode()
    text = "\n".join(encoded[at : at + width] for at in range(0, len(encoded), width))
    start, end = math.ceil(len(before) * 8 / 6), len(before + raw) * 8 // 6
    shown = redactor.redact(text).replace("\n", "")
    assert encoded[start:end] not in shown.replace(MASK, "\0")


@unhurried
@given(st.text(), st.lists(st.text(max_size=20)), st.booleans(), st.booleans())
def test_redacting_is_done_once_and_never_fails(
    text: str, keys: list[str], before: bool, after: bool
) -> None:
    redactor = Redactor()
    for key in keys:
        redactor.add(key)
    redactor.redact(text, begun_before=before, goes_on=after)


@unhurried
@given(SECRETS, st.integers(0, 60), st.text(max_size=20))
def test_no_part_of_a_secret_is_left_where_a_text_was_cut(key: str, at: int, text: str) -> None:
    redactor = Redactor()
    redactor.add(key)
    begun = key[:at]
    shown = redactor.redact(text + begun, goes_on=True)
    if len(begun.replace("\n", "").replace("\r", "")) >= 8 and begun not in MASK:
        assert not shown.endswith(begun)


def test_a_part_of_a_long_secret_is_found_at_both_ends_of_a_text() -> None:
    secret = "ab" * 40_000 + "-end-of-the-secret"
    redactor = Redactor()
    redactor.add(secret)
    for part in (secret[-60_000:], secret[-20:]):
        text = redactor.redact(f"{part} and more", begun_before=True)
        assert text == "[redacted] and more"
    for part in (secret[:60_000], secret[:20]):
        text = redactor.redact(f"before: {part}", goes_on=True)
        assert text == "before: [redacted]"


def test_of_a_growing_text_only_what_cannot_become_a_secret_is_settled() -> None:
    redactor = Redactor()
    assert redactor.settled("anything") == len("anything")
    for secret in ("secret-of-mine", "mine-and-yours"):
        redactor.add(secret)
    whole = "It is secret-of-mine-and-yours, and\nsecret-of-\nmine too"
    shown = ""
    for end in range(len(whole) + 1):
        text = whole[:end]
        settled = redactor.redact(text[: redactor.settled(text)])
        assert settled.startswith(shown), text
        shown = settled
    assert shown == "It is [redacted], and\n[redacted] too"
    assert redactor.settled("a secret-of-min") == 2
    assert redactor.settled("a secret-of-\n") == 2
    assert redactor.settled("no s\n") == 3
    assert redactor.settled("plain\n") == 6
