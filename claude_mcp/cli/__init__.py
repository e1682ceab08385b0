"""Front end for a terminal. stdout is data, stderr is talk.

``--help`` must be fast, so each command imports what it needs when it runs.
"""

from __future__ import annotations

import os
import sys

BROKEN_PIPE_EXIT_CODE = 141
"""The shell's exit code for a program killed by SIGPIPE."""
INTERRUPT_EXIT_CODE = 130
"""The shell's exit code for a program killed by SIGINT."""


def main(argv: list[str] | None = None) -> int:
    """The program ``claude-mcp``: returns its exit code."""
    if argv is None:
        _start_again_in_utf8()
    _open_closed_streams()
    try:
        try:
            return _run(sys.argv[1:] if argv is None else argv)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPT_EXIT_CODE
    except BrokenPipeError:
        # The reader is gone. The interpreter would report an error when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE_EXIT_CODE


def _start_again_in_utf8() -> None:
    """Leave a locale of ASCII, in which texts and paths of the command line are only bytes."""
    if sys.getfilesystemencoding() == "ascii" and sys.executable and sys.orig_argv[1:]:
        os.execv(sys.executable, [sys.orig_argv[0], "-X", "utf8=1", *sys.orig_argv[1:]])


def _open_closed_streams() -> None:
    """A closed stream is None, and the next file opened would get its descriptor."""
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
    from claude_mcp.cli.dispatch import run

    return run(arguments)
