"""A parser that knows its flags. Every command loads it, so it imports little."""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import Final

_NOT_A_NUMBER: Final = re.compile(r"argument (\S+): invalid (int|float) value: (.*)")
_REQUIRED: Final = "the following arguments are required: "


class Invalid(Exception):
    """The command line cannot be understood."""


class Parser(argparse.ArgumentParser):
    def __init__(self, name: str, description: str, example: str) -> None:
        super().__init__(
            prog=name,
            description=description,
            epilog=example,
            formatter_class=_formatter,
            allow_abbrev=False,
        )
        self.options = ["--help"]

    def option(self, *names: str, **settings: object) -> None:
        self.options += names
        self.add_argument(*names, **settings)  # type: ignore[arg-type]

    def error(self, message: str) -> None:  # type: ignore[override]
        raise Invalid(_plainer(message))


def _plainer(message: str) -> str:
    """A message of argparse in the words of ours."""
    if number := _NOT_A_NUMBER.fullmatch(message):
        kind = "a whole number" if number[2] == "int" else "a number"
        return f"{number[1]} takes {kind}, not {number[3]}"
    if message.startswith(_REQUIRED):
        missing = message.removeprefix(_REQUIRED)
        return f"{missing} {'are' if ', ' in missing else 'is'} missing"
    return message


def _formatter(prog: str) -> argparse.HelpFormatter:
    # Without a width, argparse imports shutil to find it.
    try:
        width = os.get_terminal_size(sys.stdout.fileno()).columns - 2
    except (OSError, ValueError):
        width = 88
    return argparse.RawDescriptionHelpFormatter(prog, width=min(width, 98), max_help_position=30)
