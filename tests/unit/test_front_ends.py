"""Holds the fixed contract of the front ends: what people's configurations and scripts use.

``front_ends.json`` is what they offered when the contract was fixed. Names, types and defaults in
it never change; new ones may be added.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from claude_mcp.cli import doctor, grammar, parser
from claude_mcp.server.tools import tools
from claude_mcp.sessions.providers.options import OPTIONS

FIXED = json.loads(Path(__file__).with_name("front_ends.json").read_text())


def without_descriptions(schema: Any) -> Any:
    """Of a JSON Schema, all but its words; the order of required names means nothing."""
    if isinstance(schema, list):
        return [without_descriptions(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: without_descriptions(value) for key, value in schema.items()}
    if isinstance(kept.get("description"), str):
        del kept["description"]
    if "required" in kept:
        kept["required"] = sorted(kept["required"])
    return kept


def offered_tools() -> dict[str, Any]:
    return {
        tool.name: without_descriptions({"input": tool.input_schema, "output": tool.output_schema})
        for tool in tools()
    }


def offered_options() -> dict[str, Any]:
    """Every option and argument of every command, as argparse knows it."""
    return {
        name: {
            " ".join(action.option_strings) or str(action.metavar): [
                str(action.metavar or action.dest),
                str(action.nargs),
                "" if action.default is argparse.SUPPRESS else repr(action.default),
                getattr(action.type, "__name__", ""),
                type(action).__name__,
            ]
            for action in parser.command_parser(name)._actions
            if action.dest != "help"
        }
        for name in grammar.COMMANDS
    }


def missing(fixed: Any, found: Any) -> Any:
    """The part of ``fixed`` that ``found`` does not hold; None if it holds all of it."""
    if isinstance(fixed, dict) and isinstance(found, dict):
        parts = {key: missing(value, found.get(key)) for key, value in fixed.items()}
        return {key: part for key, part in parts.items() if part is not None} or None
    if (
        isinstance(fixed, list)
        and isinstance(found, list)
        and set(map(str, fixed)) <= set(map(str, found))
    ):
        return None
    return None if fixed == found else fixed


def test_every_tool_keeps_its_arguments_and_results() -> None:
    # A required argument may become an optional one.
    fixed = {name: {**tool, "input": {**tool["input"]}} for name, tool in FIXED["tools"].items()}
    for tool in fixed.values():
        tool["input"].pop("required", None)
    assert missing(fixed, offered_tools()) is None


def test_every_command_keeps_its_options() -> None:
    assert missing(FIXED["options"], offered_options()) is None


def test_no_further_argument_is_required() -> None:
    required = {name: tool["input"].get("required", []) for name, tool in offered_tools().items()}
    fixed = {name: tool["input"].get("required", []) for name, tool in FIXED["tools"].items()}
    assert [name for name in fixed if not set(required[name]) <= set(fixed[name])] == []


def test_every_provider_can_be_chosen_in_each_front_end() -> None:
    schema = offered_tools()["create_session"]["input"]["properties"]["provider"]
    assert schema["enum"] == list(OPTIONS)
    actions = parser.command_parser("create")._actions
    help_text = next(str(each.help) for each in actions if "--provider" in each.option_strings)
    assert [name for name in OPTIONS if name not in help_text] == []
    assert list(doctor.CREDENTIALS) == list(OPTIONS)
