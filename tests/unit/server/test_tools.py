from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from mcp.types import Tool

from claude_mcp.config_names import Toolset
from claude_mcp.server.tools import INSTRUCTIONS, tools

TOOLS = {tool.name: tool for tool in tools()}

PROTOCOL_DEFAULTS = {"destructive": True, "idempotent": False, "openWorld": True}
HINTS = {
    "create_session": {"destructive": False, "idempotent": False, "openWorld": True},
    "execute_in_session": {"destructive": True, "idempotent": False, "openWorld": True},
    "get_turn": {"readOnly": True, "openWorld": False},
    "list_turns": {"readOnly": True, "openWorld": False},
    "get_stats": {"readOnly": True, "openWorld": False},
    "cancel_turn": {"destructive": True, "idempotent": True, "openWorld": False},
    "respond_permission": {"destructive": True, "idempotent": False, "openWorld": True},
    "set_credentials": {"destructive": False, "idempotent": True, "openWorld": False},
    "list_sessions": {"readOnly": True, "openWorld": False},
    "destroy_session": {"destructive": True, "idempotent": True, "openWorld": False},
    "transfer_files": {"destructive": True, "idempotent": False, "openWorld": False},
    "execute_command": {"destructive": True, "idempotent": False, "openWorld": True},
    "get_command": {"destructive": False, "idempotent": False, "openWorld": True},
    "stop_command": {"destructive": True, "idempotent": True, "openWorld": False},
    "get_session_logs": {"readOnly": True, "openWorld": False},
    "get_changes": {"readOnly": True, "openWorld": False},
    "apply_changes": {"destructive": True, "idempotent": True, "openWorld": False},
    "discard_changes": {"destructive": True, "idempotent": True, "openWorld": False},
}


def wire(tool: Tool) -> dict[str, Any]:
    return tool.model_dump(mode="json", by_alias=True, exclude_none=True)


def size(names: Iterable[str]) -> int:
    """Of a ``tools/list`` with these tools."""
    text = json.dumps({"tools": [wire(TOOLS[name]) for name in names]}, separators=(",", ":"))
    return len(text)


def sent(tool: Tool) -> int:
    """Bytes of what a host gives to its model."""
    wanted = {"name": tool.name, "description": tool.description, "inputSchema": tool.input_schema}
    return len(json.dumps(wanted, separators=(",", ":")).encode())


def test_the_whole_list_with_output_schemas_is_limited() -> None:
    assert size(TOOLS) < 32_200


def test_what_a_model_gets_of_the_default_list_is_under_14_kb() -> None:
    assert sum(map(sent, tools(frozenset({Toolset.CORE})))) < 14 * 1024


def test_a_set_adds_its_tools_to_the_core() -> None:
    core = {each.name for each in tools(frozenset({Toolset.CORE}))}
    history = {each.name for each in tools(frozenset({Toolset.CORE, Toolset.HISTORY}))}
    assert history - core == {"list_turns"}
    assert core < history


@pytest.mark.parametrize("name", TOOLS)
def test_a_description_is_short_and_every_tool_has_a_title(name: str) -> None:
    tool = TOOLS[name]
    assert tool.title
    assert tool.description
    assert len(tool.description.encode()) < 2_000
    assert tool.annotations is not None


def test_annotations_say_which_tools_change_something() -> None:
    found = {}
    for name, tool in TOOLS.items():
        hints = {key.removesuffix("Hint"): each for key, each in wire(tool)["annotations"].items()}
        found[name] = hints if "readOnly" in hints else {**PROTOCOL_DEFAULTS, **hints}
    assert found == HINTS


@pytest.mark.parametrize("name", TOOLS)
def test_schemas_contain_no_references_titles_or_nullable_inputs(name: str) -> None:
    def keywords(schema: Any) -> set[str]:
        found: set[str] = set()
        if isinstance(schema, dict):
            for key, value in schema.items():
                found |= {key}
                nested = value.values() if key == "properties" else [value]
                for each in nested:
                    found |= keywords(each)
        return found

    tool = TOOLS[name]
    assert not keywords(tool.input_schema) & {"$ref", "$defs", "title", "anyOf"}
    assert not keywords(tool.output_schema) & {"$ref", "$defs", "title", "anyOf"}


def test_a_schema_in_full() -> None:
    assert (TOOLS["execute_command"].input_schema, TOOLS["execute_command"].output_schema) == (
        {
            "type": "object",
            "required": ["sessionId", "command"],
            "properties": {
                "sessionId": {
                    "type": "string",
                    "description": "Session id, prefix or name.",
                },
                "command": {"type": "string", "description": "Run by sh -c in /workspace."},
                "timeoutSeconds": {
                    "type": "number",
                    "default": 600,
                    "minimum": 0,
                    "description": "Kill it then; no limit in the background.",
                },
                "workdir": {"type": "string", "description": "Run in this directory."},
                "waitSeconds": {
                    "type": "number",
                    "default": 45,
                    "minimum": 0,
                    "description": "Then answer 'running'; the command continues.",
                },
                "background": {
                    "type": "boolean",
                    "default": False,
                    "description": "Return at once: for servers, watchers.",
                },
                "commandId": {
                    "type": "string",
                    "description": "A UUID of yours, for a safe repetition.",
                },
                "input": {"type": "string", "description": "For its stdin."},
                "tty": {
                    "type": "boolean",
                    "default": False,
                    "description": "Give it a terminal.",
                },
                "columns": {"type": "integer", "default": 80},
                "rows": {"type": "integer", "default": 24},
            },
        },
        {
            "type": "object",
            "required": [
                "sessionId", "exitCode", "stdout", "stderr", "truncated", "durationMs", "timedOut",
                "notes", "commandId", "command", "status", "background", "startedAt", "endedAt",
                "cursor", "more", "output", "next",
            ],
            "properties": {
                "sessionId": {"type": "string"},
                "exitCode": {"type": ["integer", "null"]},
                "stdout": {"type": "string"},
                "stderr": {"type": "string"},
                "truncated": {"type": ["string", "null"]},
                "durationMs": {"type": "integer"},
                "timedOut": {"type": "boolean"},
                "notes": {"type": "array", "items": {"type": "string"}},
                "commandId": {"type": "string"},
                "command": {"type": "string"},
                "status": {
                    "type": "string",
                    "enum": ["running", "left_running", "completed", "stopped", "lost"],
                },
                "background": {"type": "boolean"},
                "startedAt": {"type": "string"},
                "endedAt": {"type": ["string", "null"]},
                "cursor": {"type": "integer"},
                "more": {"type": "boolean"},
                "output": {"type": ["string", "null"]},
                "next": {"type": ["string", "null"]},
            },
        },
    )  # fmt: skip


def test_nested_arguments_are_described() -> None:
    properties = TOOLS["create_session"].input_schema["properties"]
    assert properties["mcpMounts"] == {
        "type": "array",
        "description": "Additional host paths.",
        "items": {
            "type": "object",
            "required": ["hostPath", "containerPath"],
            "properties": {
                "hostPath": {"type": "string"},
                "containerPath": {"type": "string"},
                "readOnly": {"type": "boolean", "default": True},
            },
        },
    }
    assert properties["mcpConfig"] == {
        "type": "object",
        "description": "MCP servers for the Claude inside.",
        "required": ["mcpServers"],
        "properties": {
            "mcpServers": {
                "type": "string",
                "description": "JSON, as in .mcp.json: each server by name.",
            }
        },
    }


def test_schemas_state_bounds_choices_and_defaults() -> None:
    prompt = TOOLS["execute_in_session"].input_schema["properties"]
    turn = TOOLS["get_turn"].input_schema["properties"]
    seconds = {
        "type": "number",
        "minimum": 0,
        "maximum": 86_400,
        "default": 45,
        "description": "Then answer 'running'; the turn continues.",
    }
    assert (prompt["waitSeconds"], turn["waitSeconds"]) == (seconds, seconds)
    assert prompt["whenBusy"] == {
        "type": "string",
        "enum": ["refuse", "wait"],
        "default": "refuse",
        "description": "If another turn runs: refuse this prompt, or queue it.",
    }


def test_a_turn_s_result_is_the_prompt_s_and_the_events() -> None:
    prompt = TOOLS["execute_in_session"].output_schema
    turn = TOOLS["get_turn"].output_schema
    assert prompt is not None
    assert turn is not None
    assert prompt["properties"]["status"] == {
        "type": "string",
        "enum": ["completed", "running", "queued", "failed", "cancelled", "needs_permission"],
    }
    events = {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["number", "time", "kind", "text", "leftOut"],
            "properties": {
                "number": {"type": "integer"},
                "time": {"type": "string"},
                "kind": {"type": "string"},
                "text": {"type": "string"},
                "leftOut": {"type": "integer"},
            },
        },
    }
    assert turn == {
        **prompt,
        "properties": {**prompt["properties"], "events": events},
        "required": [*prompt["required"][:-1], "events", "next"],
    }


def test_execute_in_session_and_get_turn_point_to_each_other() -> None:
    assert "get_turn" in (TOOLS["execute_in_session"].description or "")
    assert "execute_in_session" in (TOOLS["get_turn"].description or "")


def test_instructions_are_short() -> None:
    assert len(INSTRUCTIONS) < 600
