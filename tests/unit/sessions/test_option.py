"""Every declared option has what front ends and documentation need of it."""

from __future__ import annotations

import pytest

from claude_mcp.config_names import KINDS
from claude_mcp.sessions.create.request import LIMITS, CreateRequest
from claude_mcp.sessions.option import Option, options
from claude_mcp.sessions.turns.options import TurnOptions

DECLARED = {**dict(options(CreateRequest)), **LIMITS, **dict(options(TurnOptions))}


@pytest.mark.parametrize("option", DECLARED.values(), ids=DECLARED)
def test_an_option_is_a_phrase_that_front_ends_can_complete(option: Option) -> None:
    for text in filter(None, (option.text, option.terminal)):
        assert text.strip() == text
        assert not text.endswith(".")
    assert option.text


@pytest.mark.parametrize("option", DECLARED.values(), ids=DECLARED)
def test_the_default_of_an_option_comes_from_a_name_of_the_configuration(option: Option) -> None:
    assert option.configured in {"", *KINDS}


def test_flags_are_unique_within_a_request() -> None:
    for request, more in ((CreateRequest, LIMITS), (TurnOptions, {})):
        flags = [each.flag for _, each in options(request) if each.flag]
        flags += [each.flag for each in more.values()]
        assert len(flags) == len(set(flags))
