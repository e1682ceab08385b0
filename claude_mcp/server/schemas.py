"""JSON Schemas as small as they can be: every conversation with the server pays for them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

_NULL = {"type": "null"}
_OPEN = ("additionalProperties", True)  # the default


def input_schema(model: type[BaseModel]) -> Schema:
    """What callers may send. Optional values are left out rather than null, so null is not said."""
    return _compact(model.model_json_schema(mode="validation"), nullable=False)


def output_schema(model: type[BaseModel]) -> Schema:
    """What results hold; every field is always there."""
    return _compact(model.model_json_schema(mode="serialization"), nullable=True)


def _compact(schema: Schema, *, nullable: bool) -> Schema:
    definitions: dict[str, Schema] = schema.pop("$defs", {})

    def visit(node: Schema) -> Schema:
        if "$ref" in node:
            # Each definition is used about once: in its place it is shorter, and every host
            # understands it.
            definition = definitions[node["$ref"].rpartition("/")[2]]
            around = {key: value for key, value in node.items() if key != "$ref"}
            return visit({**_without_docstring(definition), **around})
        if "anyOf" in node and _NULL in node["anyOf"]:
            [other] = [each for each in node["anyOf"] if each != _NULL]
            rest = {key: value for key, value in node.items() if key != "anyOf"}
            merged = visit({**other, **rest})
            return {**merged, "type": [merged["type"], "null"]} if nullable else merged
        kept: Schema = {}
        for key, value in node.items():
            if key == "title" or (key, value) in (("default", None), _OPEN):
                continue
            if key == "properties":
                kept[key] = {name: visit(each) for name, each in value.items()}
            elif key == "items" or (key == "additionalProperties" and isinstance(value, dict)):
                kept[key] = visit(value)
            else:
                kept[key] = value
        return kept

    return visit(_without_docstring(schema))


def _without_docstring(definition: Schema) -> Schema:
    """A model's docstring is for those who read the code."""
    return {key: value for key, value in definition.items() if key != "description"}
