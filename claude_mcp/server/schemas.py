"""JSON Schemas as small as possible: every conversation with the server pays for them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter

from claude_mcp.contract.messages import key
from claude_mcp.views.results import Result

Schema = dict[str, Any]

_NULL = {"type": "null"}
_OPEN = ("additionalProperties", True)  # the default
_BOUND = "exclusiveMinimum"
_NOT_PORTABLE = {"additionalProperties", "minLength", "maxLength", "minItems", "maxItems"}


def input_schema(model: type[BaseModel]) -> Schema:
    """What callers may send, in the keywords that every vendor of models accepts.

    Validation is stricter: it refuses unknown names, and a bound itself where only more will do.
    null means "not given" and is not mentioned.
    """
    return _portable(_compact(model.model_json_schema(mode="validation"), nullable=False))


def _portable(schema: Schema) -> Schema:
    """Without keywords for which some vendors refuse the whole list of tools."""
    portable: Schema = {}
    for name, value in schema.items():
        if name == "properties":
            portable[name] = {each: _portable(inner) for each, inner in value.items()}
        elif name == "items":
            portable[name] = _portable(value)
        elif name not in _NOT_PORTABLE:
            portable["minimum" if name == _BOUND else name] = value
    return portable


def output_schema(view: type[Result]) -> Schema:
    """What results contain; every field is always present, and so is ``next``."""
    schema = _compact(TypeAdapter(view).json_schema(mode="serialization"), nullable=True)
    schema["properties"]["next"] = {"type": ["string", "null"]}
    schema["required"].append("next")
    return schema


def _compact(schema: Schema, *, nullable: bool) -> Schema:
    definitions: dict[str, Schema] = schema.pop("$defs", {})

    def visit(node: Schema) -> Schema:
        if "$ref" in node:
            # Most definitions are used once: inlined they are shorter, and every host
            # understands them.
            definition = definitions[node["$ref"].rpartition("/")[2]]
            around = {name: value for name, value in node.items() if name != "$ref"}
            return visit({**_without_docstring(definition), **around})
        if "anyOf" in node and _NULL in node["anyOf"]:
            [other] = [each for each in node["anyOf"] if each != _NULL]
            rest = {name: value for name, value in node.items() if name != "anyOf"}
            merged = visit({**other, **rest})
            return {**merged, "type": [merged["type"], "null"]} if nullable else merged
        return {
            name: _visited(name, value, visit)
            for name, value in node.items()
            if name != "title" and (name, value) not in (("default", None), _OPEN)
        }

    return visit(_without_docstring(schema))


def _visited(name: str, value: Any, visit: Any) -> Any:
    """The value of one keyword. Views name their fields as Python does, arguments as the wire."""
    if name == "properties":
        return {key(each): visit(schema) for each, schema in value.items()}
    if name == "required":
        return [key(each) for each in value]
    if name == "items" or (name == "additionalProperties" and isinstance(value, dict)):
        return visit(value)
    return value


def _without_docstring(definition: Schema) -> Schema:
    """A model's docstring is for those who read the code."""
    return {name: value for name, value in definition.items() if name != "description"}
