"""What scripts/benchmark measures of the command line: whole programs, from start to end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmark_measuring import Bench, Difference, Row, Rows, Samples, alternate, timed

LIST_SECONDS: Final = 0.08
"""What a list of no sessions may take more than the engine's own ``ps``."""

# The engine as it would be without any session. The bare side uses it as well.
WITHOUT_SESSIONS: Final = """\
#!/bin/sh
for word do
    shift
    case $word in --filter=label=*) word=--filter=label=claude-mcp.benchmark=none ;; esac
    set -- "$@" "$word"
done
exec '@PROGRAM@' "$@"
"""


def console_script() -> str:
    return str(Path(sys.executable).with_name("claude-mcp"))


async def help_text(bench: Bench) -> Rows:
    """The command line's own start; what it imports is looked at too.

    An editable install slows the start of both, and so flatters the ratio: 1.2 where an ordinary
    one has 2.6 (measured).
    """
    program = console_script()

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stderr

    async def by_hand(samples: Samples) -> None:
        with timed(samples, "python"):
            run("-c", "pass")

    async def by_us(samples: Samples) -> None:
        with timed(samples, "help"):
            run(program, "--help")

    imported = {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in run("-X", "importtime", program, "--help").splitlines()
        if line.startswith("import time:")
    }
    bare, ours = await alternate(bench.repetitions(15), by_hand, by_us)
    unmet = "it imports mcp" if "mcp" in imported else ""
    return [Row("claude-mcp --help", "python -c pass", bare["python"], ours["help"], 4.0, unmet)]


async def commands(bench: Bench) -> Rows:
    """``list`` and ``exec`` against what the engine's own program needs for the same."""
    engine = bench.engine.program
    empty = bench.directory / "engine-without-sessions"
    empty.write_text(WITHOUT_SESSIONS.replace("@PROGRAM@", bench.program))
    empty.chmod(0o755)
    listing = ("ps", "--all", "--quiet", "--no-trunc", "--filter=label=claude-mcp.session")
    execution = ("exec", bench.container, "true")
    return [
        await _compared(bench, "claude-mcp list, no session", str(empty), ["list"], listing,
                        LIST_SECONDS),
        await _compared(bench, "claude-mcp list --quick", engine, ["list", "--quick"], listing),
        await _compared(bench, "claude-mcp list", engine, ["list"], listing),
        await _compared(bench, "claude-mcp exec true", engine, ["exec", bench.session, "true"],
                        execution),
    ]  # fmt: skip


async def _compared(
    bench: Bench,
    what: str,
    engine: str,
    arguments: Sequence[str],
    bare_arguments: Sequence[str],
    limit: float | None = None,
) -> Difference:
    environment = {**bench.config.environment, "CLAUDE_MCP_ENGINE": engine}

    async def by_hand(samples: Samples) -> None:
        with timed(samples, "engine"):
            _run([engine, *bare_arguments], bench.engine.environment)

    async def by_us(samples: Samples) -> None:
        with timed(samples, "ours"):
            _run([sys.executable, console_script(), *arguments], environment)

    bare, ours = await alternate(bench.repetitions(15), by_hand, by_us)
    by_name = " ".join(bare_arguments[:1])
    return Difference(what, by_name, bare["engine"], ours["ours"], limit)


def _run(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    subprocess.run(
        argv, check=True, capture_output=True, stdin=subprocess.DEVNULL, env=dict(environment)
    )
