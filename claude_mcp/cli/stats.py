"""The command `stats`: what sessions take of their host, once or again and again."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Final

from claude_mcp.cli.drawing import columns, table
from claude_mcp.cli.here import named
from claude_mcp.cli.running import within
from claude_mcp.cli.terminal import for_terminal, talk, write, write_json
from claude_mcp.config import Config
from claude_mcp.errors import UsageError
from claude_mcp.views.figures import silent

if TYPE_CHECKING:
    from claude_mcp.sessions.registry import Sessions
    from claude_mcp.views.usage import StatsResult

LEAST_SECONDS: Final = 0.1


def stats(arguments: argparse.Namespace, config: Config) -> int:
    if arguments.watch is not None and arguments.watch < LEAST_SECONDS:
        raise UsageError(f"--watch takes at least {LEAST_SECONDS:g} seconds.")

    async def work(sessions: Sessions) -> int:
        references = [await named(sessions, each) for each in arguments.sessions]
        if arguments.watch is None:
            _print(await _measured(sessions, references), as_json=arguments.json)
            return 0
        if arguments.json or not sys.stdout.isatty() or not sys.stdin.isatty():
            return await _repeated(sessions, references, arguments.watch, arguments.json)
        return await _watched(sessions, references, arguments.watch)

    try:
        return within(config, work)
    except ExceptionGroup as group:  # the reader of a repeated output is gone
        if group.split(BrokenPipeError)[1] is None:
            raise BrokenPipeError from group
        raise


async def _measured(sessions: Sessions, references: list[str]) -> StatsResult:
    from claude_mcp.sessions.usage import usage
    from claude_mcp.views.usage import StatsResult

    return StatsResult.of(await usage(sessions, references))


def _rows(result: StatsResult) -> list[tuple[str, ...]]:
    from claude_mcp.cli.render import one_line
    from claude_mcp.views.usage import HEAD, rows

    return [HEAD, *(tuple(map(one_line, each)) for each in rows(result))]


def _table(result: StatsResult, limit: int | None) -> list[str]:
    return table(_rows(result), limit, drop=("DISK R/W", "NETWORK IN/OUT", "OF"))


def _print(result: StatsResult, *, as_json: bool) -> None:
    if as_json:
        write_json(result.wire())
    elif result.sessions:
        lines = _table(result, columns(sys.stdout))
        write("".join(f"{for_terminal(line)}\n" for line in lines))
    elif sys.stderr.isatty():
        talk("There are no sessions.")
    for line in () if as_json else silent(result.unreachable):
        talk(f"claude-mcp: {line}")


async def _repeated(sessions: Sessions, references: list[str], pause: float, as_json: bool) -> int:
    """One JSON object per line, or one table after the other, until somebody ends it."""
    import anyio

    while True:
        result = await _measured(sessions, references)
        if as_json:
            write(json.dumps(result.wire(), ensure_ascii=False) + "\n")
        else:
            _print(result, as_json=False)
            write("\n")
        sys.stdout.flush()
        await anyio.sleep(pause)


async def _watched(sessions: Sessions, references: list[str], pause: float) -> int:
    from claude_mcp.cli.screen import ENDED, open_screen

    async with open_screen("claude-mcp stats --json") as screen:
        screen.draw(["Measuring ..."])
        while True:
            measured = await _measured(sessions, references)
            while True:
                wide, _ = screen.size
                lines = [*_table(measured, wide), *silent(measured.unreachable)]
                screen.draw([*lines, "", "q: end"])
                event = await screen.event(pause)
                if event in ("q", "escape", ENDED):
                    return 0
                if event is None:
                    break
