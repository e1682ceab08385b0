"""Flags and requests that are derived from declared options."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

import pytest

from claude_mcp.cli.dispatch import PERFORM
from claude_mcp.cli.grammar import COMMANDS
from claude_mcp.cli.options import given, typed
from claude_mcp.cli.parser import parse
from claude_mcp.sessions.create.request import LIMITS, CreateRequest
from claude_mcp.sessions.turns.options import TurnOptions


def parsed(*argv: str) -> argparse.Namespace:
    arguments = parse(list(argv))
    assert isinstance(arguments, argparse.Namespace)
    return arguments


def test_each_command_is_performed() -> None:
    assert set(PERFORM) == set(COMMANDS)
    for path in PERFORM.values():
        module, _, name = path.partition(".")
        assert callable(getattr(importlib.import_module(f"claude_mcp.cli.{module}"), name))


def test_options_that_were_not_typed_keep_the_request_s_defaults() -> None:
    words = given(parsed("create", "/p"), CreateRequest, {})
    assert CreateRequest(**words) == CreateRequest("/p")
    assert given(parsed("prompt", "s", "text"), TurnOptions, {}) == {"new_conversation": False}


def test_typed_options_become_the_request_s_fields() -> None:
    flags: dict[str, Any] = {
        "--name=n": ("session_name", "n"),
        "--image=i": ("image", "i"),
        "--model=m": ("model", "m"),
        "--strict-permissions": ("strict_permissions", True),
        "--trust-project": ("trust_project", True),
        "--trust-git": ("trust_git", True),
        "--read-only": ("read_only_root", True),
        "--timeout=5": ("timeout_seconds", 5.0),
        "--idle-timeout=0": ("idle_timeout_seconds", 0.0),
        "--runtime=runsc": ("runtime", "runsc"),
        "--network=none": ("network", "none"),
        "--allow=pypi.org": ("allowed_hosts", ("pypi.org",)),
    }
    words = given(parsed("create", "/p", *flags), CreateRequest, {})
    assert CreateRequest(**words) == CreateRequest("/p", **dict(flags.values()))


def test_typed_options_of_a_prompt_become_the_turn_s() -> None:
    flags = ["--model=m", "--max-turns=2", "--max-budget-usd=0.5", "--new-conversation"]
    assert TurnOptions(**given(parsed("prompt", "s", *flags), TurnOptions, {})) == TurnOptions(
        model="m", max_turns=2, max_budget_usd=0.5, new_conversation=True
    )


def test_words_are_converted_only_where_something_was_typed() -> None:
    convert = {"tools": lambda names: tuple(names.split(","))}
    assert given(parsed("prompt", "s"), TurnOptions, convert).get("tools") is None
    words = given(parsed("prompt", "s", "--tools=Read,Edit"), TurnOptions, convert)
    assert words["tools"] == ("Read", "Edit")


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_text_until_the_session_checks_it(name: str) -> None:
    assert typed(parsed("create", "/p", f"--{name}=4x"), LIMITS[name]) == "4x"
    assert typed(parsed("create", "/p"), LIMITS[name]) is None
