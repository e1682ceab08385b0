"""Runs commands and tools for the page of examples, and writes down what they print.

What differs from run to run (ids, times, costs, sizes) is replaced by fixed values, so that the
page stays the same as long as the program prints the same.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import anyio
from mcp import Client
from mcp.types import TextContent

from tests.terminals import terminal

RUN_SECONDS: Final = 110
PATIENCE_SECONDS: Final = 60.0
AGAIN_SECONDS: Final = 0.2
SCREEN: Final = (80, 24)

_UUID: Final = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_RULES: Final = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z?", "2026-01-05T09:30:00Z"),
    (r"\b\d+ ms\b|\b\d+\.\d+ s\b", "1.2 s"),
    (r"\bfor (?:\d+ min )?\d+ s\b", "for 0 s"),
    (r"\$\d+\.\d+", "$0.0105"),
    (r"(cancelled), \$[\d.]+:", r"\1:"),
    (r"(respond \w+ )[0-9a-f]{12}\b", r"\g<1>9d2c41f07be5"),
    (r'(requestId ")[0-9a-f]{12}\b', r"\g<1>51ae90c2f6d8"),
    (r"(created at )[0-9a-f]{10}\b", r"\g<1>98b1ff3890"),
    (r"(GiB\t)\d+(?=\t)", r"\g<1>16"),
    (r"(:latest\t)[0-9a-f]{12}\b", r"\g<1>f69f91a37bd3"),
    (r"(http://127\.0\.0\.1:)\d+\b", r"\g<1>40123"),
    (r"(cursor )\d+", r"\g<1>15"),
    (r"(processes )\d+", r"\g<1>16"),
    (r"\b\d+(?:\.\d+)? ?[kKM]?i?B\b", "64 MiB"),
    (r"\b[\d.]+ GiB of memory", "8 GiB of memory"),
    (r"\b\d+(?:\.\d+)?%", "1.5%"),
    (r"\d+ (?:seconds?|minutes?|hours?|days?|weeks?|months?) ago", "2 days ago"),
    (r"\b[Aa]bout an? (?:minute|hour) ago\b", "2 days ago"),
    (r"\bPython 3\.[\d.]+", "Python 3.12.4"),
    (r"\b[\d.]+ \(Claude Code\)", "2.1.330 (Claude Code)"),
    (r"\bmodel claude-[\w.-]+", "model claude-sonnet-5"),
    (r"\b(Docker|Podman) \d[\w.+~-]*", r"\1 28.1.1"),
)
"""What takes the place of what, in order."""
_HEAD: Final = re.compile(r" *[A-Z]+(?: {2,}[A-Z][A-Z /]*)+")
_CELL: Final = "\t"
_SOMETIMES: Final = "PORTS"
"""A column that is there because of other people's sessions."""


class Book:
    """The sections by their names, each with its blocks, in the order in which they came."""

    def __init__(self, environment: Mapping[str, str], directory: Path, part: int) -> None:
        self.environment = dict(environment)
        self.directory = directory
        self._known: dict[str, str] = {}
        self._part = part
        self._uuids: dict[str, str] = {}
        self.sections: dict[str, list[str]] = {}
        self.created: list[str] = []
        """Ids of sessions, to be removed at the end."""

    def know(self, value: str, shown: str) -> str:
        """Show something else instead of this value, from now on."""
        self._known[value] = shown
        return value

    def session(self, identifier: str, shown: str) -> str:
        """The id of a session that was created here."""
        self.created.append(identifier)
        return self.know(identifier, shown)

    def stable(self, text: str) -> str:
        for value in sorted(self._known, key=len, reverse=True):
            text = text.replace(value, self._known[value])
        for pattern, shown in _RULES:
            text = re.sub(pattern, shown, text)
        return _UUID.sub(lambda found: self._uuid(found[0]), text)

    def _uuid(self, value: str) -> str:
        if value not in self._uuids:
            self._uuids[value] = f"7c1e0{self._part:03d}-5d2a-4b1f-9c3e-{len(self._uuids) + 1:012d}"
        return self._uuids[value]

    def run(
        self,
        section: str,
        line: str,
        *,
        keep: Callable[[str], bool] = lambda line: True,
        code: int = 0,
        until: str = "",
    ) -> str:
        """Run a line of shell and note it with its output; the output as it really was.

        Lines of the output that are not to be kept are left out: other people's sessions. The line
        is run again until its output has a text, which a busy machine may leave out at first.

        Raises:
            AssertionError: the exit code is another.
        """
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            done = subprocess.run(
                ["bash", "-c", line],
                env=self.environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=RUN_SECONDS,
            )
            assert done.returncode == code, f"{line}: exit code {done.returncode}\n{done.stdout}"
            lines = [each for each in done.stdout.splitlines() if keep(each)]
            if re.search(until, "\n".join(lines)) or time.monotonic() > end:
                break
            time.sleep(AGAIN_SECONDS)
        if section == "create":
            self.session(done.stdout.split()[-1], "4be2d9f0a713")
        self.note(section, "console", f"$ {line}\n" + "\n".join(lines))
        return done.stdout

    def quietly(self, argv: Sequence[str]) -> str:
        """Run a program and note nothing; its stdout."""
        done = subprocess.run(
            argv,
            env=self.environment,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def screen(
        self,
        section: str,
        line: str,
        keys: Sequence[tuple[str, str]],
        chosen: Callable[[list[str]], list[str]],
    ) -> None:
        """Run a line on a terminal: wait for each text, then type; note the lines
        that are ``chosen`` of the screen before the last keys."""
        columns, rows = SCREEN
        argv = ["env", f"--chdir={self.directory}", "bash", "-c", line]
        with terminal(argv, self.environment, columns=columns, rows=rows) as opened:
            shown = ""
            for waited_for, typed in keys:
                opened.until(waited_for)
                shown = opened.text
                opened.type(typed)
            opened.wait()
        self.note(section, "console", "\n".join([f"$ {line}", *chosen(shown.splitlines())]))

    async def call(
        self,
        client: Client,
        tool: str,
        *,
        keep: Callable[[str], bool] = lambda line: True,
        until: str = "",
        **arguments: Any,
    ) -> dict[str, Any]:
        """Call a tool and note the arguments and the text of the result; the structured result.

        Raises:
            AssertionError: the tool failed.
        """
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            result = await client.call_tool(tool, arguments)
            texts = [part.text for part in result.content if isinstance(part, TextContent)]
            assert not result.is_error, f"{tool}: {texts}"
            text = "\n".join(each for each in "\n".join(texts).splitlines() if keep(each))
            if re.search(until, text) or time.monotonic() > end:
                break
            await anyio.sleep(AGAIN_SECONDS)
        assert result.structured_content is not None
        content: dict[str, Any] = result.structured_content
        if tool == "create_session":
            self.session(content["sessionId"], "83c05be7d14f")
        self.note(tool, "json", json.dumps(arguments, indent=2))
        self.note(tool, "text", text)
        return content

    def note(self, section: str, language: str, text: str) -> None:
        block = joined(self.stable(parted(text))).rstrip().replace("```", "'''")
        self.sections.setdefault(section, []).append(f"```{language}\n{block}\n```\n")


def parted(text: str) -> str:
    """Tables with tabs between their cells instead of blanks; what is no table stays as it is."""
    lines, starts, without = [], list[int](), -1
    for line in text.splitlines():
        if _HEAD.fullmatch(line):
            starts = [found.start() for found in re.finditer(r"(?:(?<=  )|^ *)[A-Z]", line)]
            starts[0] = 0
        if any(line[at - 1 : at] != " " for at in starts[1:]):
            starts = []
        ends = [*starts[1:], None]
        cells = (
            [line[at:end].rstrip() for at, end in zip(starts, ends, strict=True)]
            if starts
            else [line]
        )
        if not starts:
            without = -1
        elif _SOMETIMES in cells:
            without = cells.index(_SOMETIMES)
        lines.append(_CELL.join(each for at, each in enumerate(cells) if at != without))
    return "\n".join(lines)


def joined(text: str) -> str:
    """The tables' columns under each other again, as wide as what they hold now."""
    rows = [line.split(_CELL) for line in text.splitlines()]
    cells = max(map(len, rows), default=1)
    widths = [
        max((len(row[at]) for row in rows if len(row) > at + 1), default=0) for at in range(cells)
    ]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()
        if len(row) > 1
        else row[0].rstrip()
        for row in rows
    )
