"""Marked names in messages, and what each front end makes of them."""

from __future__ import annotations

import pytest

from claude_mcp.contract.wording import named, worded

TEXT = f"Pass {named('apiKey')} or use {named('set_credentials')}."


def test_marked_names_are_replaced() -> None:
    assert worded(TEXT, str.upper) == "Pass APIKEY or use SET_CREDENTIALS."


def test_a_marked_name_stands_for_itself_by_default() -> None:
    assert worded(TEXT) == "Pass apiKey or use set_credentials."


@pytest.mark.parametrize("text", ["", "apiKey", "⟨apiKey⟩ and {apiKey}", named("apiKey")[:-1]])
def test_other_text_is_unchanged(text: str) -> None:
    assert worded(text, str.upper) == text
