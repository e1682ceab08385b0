"""What `doctor` checks of an engine on another machine: the way there, and that machine.

A container of the session image looks around there, because engines do not say all of this.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from claude_mcp.cli.findings import Finding, Verdict
from claude_mcp.engine.address import VARIABLES
from claude_mcp.errors import ClaudeMcpError
from claude_mcp.views.figures import size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_mcp.engine.engine import Engine

WHAT: Final = "far side"
SLOW_SECONDS: Final = 1.5
"""An answer that takes longer makes every first request slow."""
CLOCK_SECONDS: Final = 30.0
"""A difference beyond this spoils certificates and what logs say."""
LEAST_BYTES: Final = 2 * 1024**3
SCRIPT: Final = "date +%s; df -Pk / | tail -n 1"


def address(environment: Mapping[str, str], name: str) -> str:
    """Where the engine is, as the environment of its program says it."""
    found = (environment.get(variable) for variable in VARIABLES[name])
    return next((each for each in found if each), "the default of its program")


async def look(engine: Engine, environment: Mapping[str, str], image: str | None) -> list[Finding]:
    """Check the way and the other machine; ``image`` is the session image, if it is there."""
    where = address(environment, engine.dialect.name)
    findings = [Finding(WHAT, Verdict.OK, f"another machine: {where}")]
    if where.startswith("tcp://") and not environment.get("DOCKER_TLS_VERIFY"):
        findings.append(
            Finding(
                WHAT,
                Verdict.WARNING,
                "the connection is not encrypted, and whoever reaches the address controls the "
                "other machine",
                "Let the daemon demand certificates and set CLAUDE_MCP_ENGINE_TLS, or use ssh://.",
            )
        )
    began = time.monotonic()
    try:
        await engine.check()
        findings.append(_answer(time.monotonic() - began))
        if image is not None:
            findings += await _probed(engine, image)
    except ClaudeMcpError as error:
        findings.append(Finding(WHAT, Verdict.FAILED, error.message, error.hint))
    return findings


def _answer(seconds: float) -> Finding:
    text = f"it answers in {seconds:.2f} s"
    if seconds < SLOW_SECONDS:
        return Finding(WHAT, Verdict.OK, text)
    hint = "Each first request takes several such answers. A faster network or TLS is quicker."
    return Finding(WHAT, Verdict.WARNING, text, hint)


async def _probed(engine: Engine, image: str) -> list[Finding]:
    before = time.time()
    said = await engine.run_in_image(image, SCRIPT)
    return parse_probe(said, before, time.time())


def parse_probe(said: str, before: float, after: float) -> list[Finding]:
    """Read the output of ``SCRIPT``, which ran between two times of this machine's clock."""
    lines = said.splitlines()
    try:
        clock = float(lines[0])
        free = int(lines[1].split()[3]) * 1024
    except (IndexError, ValueError):
        text = f"a container of the session image says something odd: {said[:100]!r}"
        return [Finding(WHAT, Verdict.WARNING, text)]
    off = clock - after if clock > after else min(0.0, clock + 1 - before)
    clocks = f"its clock differs by {abs(off):.0f} s from this machine's"
    findings = [Finding(WHAT, Verdict.OK, f"a container runs there; {clocks}")]
    if abs(off) > CLOCK_SECONDS:
        hint = "Let both machines set their clocks (NTP)."
        findings = [Finding(WHAT, Verdict.WARNING, clocks, hint)]
    room = f"{size(free)} are free for containers there"
    if free < LEAST_BYTES:
        hint = "Free some space there, for example with 'claude-mcp prune'."
        return [*findings, Finding(WHAT, Verdict.WARNING, f"only {room}", hint)]
    return [*findings, Finding(WHAT, Verdict.OK, room)]
