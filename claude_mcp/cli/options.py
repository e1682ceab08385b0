"""Flags from declared options, and requests from what was typed."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, get_args, get_type_hints

from claude_mcp.cli.flags import Parser
from claude_mcp.sessions.option import Option, options


def add_options(
    parser: Parser, request: type[Any], instead: Mapping[str, Callable[[Parser], None]]
) -> None:
    """Offer the options that ``request`` declares; ``instead`` adds other flags for some fields."""
    declared = dict(options(request))
    hints = get_type_hints(request)
    for field in fields(request):
        if field.name in instead:
            instead[field.name](parser)
        elif field.name in declared and declared[field.name].flag:
            default = None if field.default is MISSING else field.default
            add_option(parser, declared[field.name], hints[field.name], default)


def add_option(parser: Parser, option: Option, hint: Any = str, default: object = None) -> None:
    text = option.terminal or option.text
    kinds = (hint, *get_args(hint))
    if not option.flag.startswith("-"):
        parser.add_argument(option.flag.lower(), metavar=option.flag, help=text)
    elif bool in kinds:
        parser.option(option.flag, action="store_true", default=default, help=text)
    elif option.repeatable:
        text = f"{text}; may be repeated"
        parser.option(option.flag, metavar=option.metavar, action="append", default=[], help=text)
    else:
        number = next((kind for kind in kinds if kind in (int, float)), None)
        parser.option(option.flag, metavar=option.metavar, type=number, help=text)


def typed(arguments: argparse.Namespace, option: Option) -> Any:
    """What was typed for the option; None if it was not given."""
    value = getattr(arguments, option.flag.lstrip("-").replace("-", "_").lower())
    return None if value == [] else value


def given(
    arguments: argparse.Namespace,
    request: type[Any],
    convert: Mapping[str, Callable[[Any], Any]],
) -> dict[str, Any]:
    """The typed options of ``request``; for the rest its own defaults apply.

    ``convert`` turns the words for a field into its value.
    """
    values = {name: typed(arguments, option) for name, option in options(request) if option.flag}
    return {
        name: convert.get(name, _plain)(value)
        for name, value in values.items()
        if value is not None
    }


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
