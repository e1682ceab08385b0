"""Front end for a terminal. stdout is data, stderr is talk.

``--help`` must be quick: what a command needs is imported when it runs.
"""

from __future__ import annotations

import os
import sys

BROKEN_PIPE_EXIT_CODE = 141
"""As a shell reports a program that SIGPIPE ended."""
INTERRUPT_EXIT_CODE = 130
"""As a shell reports a program that SIGINT ended."""


def main(argv: list[str] | None = None) -> int:
    """The program ``claude-mcp``: returns its exit code."""
    _open_closed_streams()
    try:
        try:
            return _run(sys.argv[1:] if argv is None else argv)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPT_EXIT_CODE
    except BrokenPipeError:
        # Nobody reads any more. The interpreter would complain when it flushes again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE_EXIT_CODE


def _open_closed_streams() -> None:
    """A closed one would be None, and its descriptor the next file's that is opened."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def _run(argv: list[str]) -> int:
    from claude_mcp.cli.parser import parse

    arguments = parse(argv)
    if isinstance(arguments, int):
        return arguments
    from claude_mcp.cli.running import run

    return run(arguments)
