"""Every vendor of models takes the list of tools: hosts convert it and send it on.

One schema that a vendor does not accept makes it refuse the whole list. The rules below are the
strictest reading of what each vendor documents; the conversions are what hosts do with a schema.

- Anthropic, https://docs.claude.com/en/docs/agents-and-tools/tool-use/implement-tool-use and the
  API's own validation: names, an object at the top without alternatives, property names.
- OpenAI, https://platform.openai.com/docs/guides/structured-outputs (supported schemas) and
  https://platform.openai.com/docs/guides/function-calling: in strict mode every object lists its
  properties, all of them are required, further ones are excluded, and bounds that exclude their
  own value are not documented.
- Google, https://ai.google.dev/api/caching#Schema and
  https://ai.google.dev/gemini-api/docs/function-calling: a subset of OpenAPI 3.0 in which a schema
  has one type, an object has at least one property, an array says what it holds, and an unknown
  field is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from mcp.types import Tool

from claude_mcp.server.tools import tools

Schema = dict[str, Any]

TYPES = {"string", "number", "integer", "boolean", "array", "object"}


class Refused(Exception):
    pass


def demand(met: bool, what: str) -> None:
    if not met:
        raise Refused(what)


def nested(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """The schema and all schemas in it, with their paths."""
    yield path or "(top)", schema
    for name, inner in schema.get("properties", {}).items():
        yield from nested(inner, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from nested(schema["items"], f"{path}[]")


def anthropic(tool: Tool) -> Schema:
    demand(bool(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", f"mcp__claude-mcp__{tool.name}")), "name")
    schema = tool.input_schema
    demand(schema.get("type") == "object", "the top is no object")
    demand(not {"oneOf", "anyOf", "allOf"} & set(schema), "alternatives at the top")
    for path, each in nested(schema):
        for name in each.get("properties", {}):
            demand(bool(re.fullmatch(r"[a-zA-Z0-9_.-]{1,64}", name)), f"{path}: {name}")
    return {"name": tool.name, "description": tool.description, "input_schema": schema}


OPENAI_KEYWORDS = {
    "type", "description", "enum", "properties", "required", "items", "minimum", "maximum",
    "default",
}  # fmt: skip


def openai_strict(tool: Tool) -> Schema:
    def convert(path: str, schema: Schema) -> Schema:
        demand(set(schema) <= OPENAI_KEYWORDS, f"{path}: {set(schema) - OPENAI_KEYWORDS}")
        demand(str(schema.get("type")) in TYPES, f"{path}: type")
        converted = {name: value for name, value in schema.items() if name != "default"}
        if schema["type"] == "object":
            properties = schema.get("properties", {})
            demand(bool(properties) or path == "(top)", f"{path}: an object without properties")
            converted["properties"] = {
                name: convert(f"{path}.{name}", inner) for name, inner in properties.items()
            }
            converted["required"] = list(properties)
            converted["additionalProperties"] = False
        if schema["type"] == "array":
            demand(isinstance(schema.get("items"), dict), f"{path}: an array without items")
            converted["items"] = convert(f"{path}[]", schema["items"])
        return converted

    demand(bool(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool.name)), "name")
    demand(len(tool.description or "") <= 1024, "description")
    parameters = convert("(top)", tool.input_schema)
    return {"type": "function", "name": tool.name, "strict": True, "parameters": parameters}


GOOGLE_FIELDS = {
    "type", "title", "description", "nullable", "enum", "properties", "required", "items",
    "minItems", "maxItems", "minLength", "maxLength", "pattern", "minimum", "maximum", "default",
}  # fmt: skip


def google(tool: Tool) -> Schema:
    def convert(path: str, schema: Schema) -> Schema:
        demand(set(schema) <= GOOGLE_FIELDS, f"{path}: {set(schema) - GOOGLE_FIELDS}")
        demand(str(schema.get("type")) in TYPES, f"{path}: type")
        kind = schema["type"]
        converted = {**schema, "type": kind.upper()}
        demand("enum" not in schema or kind == "string", f"{path}: choices that are no strings")
        if kind == "object":
            properties = schema.get("properties", {})
            demand(bool(properties), f"{path}: an object without properties")
            demand(set(schema.get("required", [])) <= set(properties), f"{path}: required")
            converted["properties"] = {
                name: convert(f"{path}.{name}", inner) for name, inner in properties.items()
            }
        if kind == "array":
            demand(isinstance(schema.get("items"), dict), f"{path}: an array without items")
            converted["items"] = convert(f"{path}[]", schema["items"])
        return converted

    demand(bool(re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_.-]{0,63}", tool.name)), "name")
    declaration: Schema = {"name": tool.name, "description": tool.description}
    # A function without parameters has none at all.
    if tool.input_schema["properties"]:
        declaration["parameters"] = convert("(top)", tool.input_schema)
    return declaration


VENDORS = [anthropic, openai_strict, google]


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("tool", tools(), ids=lambda tool: str(tool.name))
def test_a_vendor_of_models_accepts_each_tool(tool: Tool, vendor: Any) -> None:
    assert vendor(tool)["name"] == tool.name


@pytest.mark.parametrize(
    ("property", "refusing"),
    [
        ({"type": "object"}, {"openai_strict", "google"}),
        ({"type": "object", "additionalProperties": True}, {"openai_strict", "google"}),
        ({"type": "array"}, {"openai_strict", "google"}),
        ({"type": "array", "items": {}}, {"openai_strict", "google"}),
        ({"type": ["string", "null"]}, {"openai_strict", "google"}),
        ({"anyOf": [{"type": "string"}]}, {"openai_strict", "google"}),
        ({"$ref": "#/$defs/a"}, {"openai_strict", "google"}),
        ({"type": "number", "exclusiveMinimum": 0}, {"openai_strict", "google"}),
        ({"type": "integer", "enum": [1]}, {"google"}),
        ({"type": "string", "format": "uri"}, {"openai_strict", "google"}),
        ({"type": "string", "enum": ["a"], "default": "a"}, set()),
    ],
)
def test_the_rules_refuse_what_a_vendor_refuses(property: Schema, refusing: set[str]) -> None:
    schema = {"type": "object", "properties": {"a": property}}
    tool = Tool(name="tool", description="A tool.", input_schema=schema)
    refused = set()
    for vendor in VENDORS:
        try:
            vendor(tool)
        except Refused:
            refused.add(vendor.__name__)
    assert refused == refusing
