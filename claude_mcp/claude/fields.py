"""Reads fields of JSON that may be forged. A value of the wrong type counts as absent.

Pure functions; runs on Python 3.9.
"""

from __future__ import annotations

from typing import Any

from claude_mcp.contract.numbers import amount


def string(value: object) -> str:
    return value if isinstance(value, str) else ""


def strings(value: object) -> tuple[str, ...]:
    return tuple(s for s in value if isinstance(s, str)) if isinstance(value, list) else ()


def mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def mappings(value: object) -> tuple[dict[str, Any], ...]:
    return tuple(m for m in value if isinstance(m, dict)) if isinstance(value, list) else ()


def count(value: object) -> int | None:
    number = amount(value)
    return None if number is None else int(number)


def without_surrogates(value: Any) -> Any:
    """Replace lone surrogates throughout a value; JSON can contain them, UTF-8 cannot."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_surrogates(k): without_surrogates(v) for k, v in value.items()}
    return value
