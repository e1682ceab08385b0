"""Turns a view into JSON: keys in camelCase, text that is safe to send.

Every string passes through ``clean``. What comes out of a session may contain our secrets, or
text that is not valid Unicode and would break the connection. What a message names is named here
as the tools do.
"""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

from claude_mcp.contract.messages import key
from claude_mcp.contract.redaction import redactor
from claude_mcp.contract.wording import worded


def clean(text: str) -> str:
    """The text without known secrets; lone surrogates become question marks."""
    return worded(redactor.redact(text)).encode("utf-8", "replace").decode()


def to_json(value: Any) -> Any:
    """The JSON value of a view, or of anything in one; NaN and infinity become null."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case str():
            return clean(value)
        case dict():
            return {clean(str(name)): to_json(each) for name, each in value.items()}
        case list() | tuple():
            return [to_json(each) for each in value]
        case _ if is_dataclass(value):
            return {key(field.name): to_json(getattr(value, field.name)) for field in fields(value)}
        case _:
            return value
