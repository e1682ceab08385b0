"""Holds up a program of the host at its start, so that its caller can be killed right then."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import anyio
import pytest


class Gate:
    """A directory of wrappers at the head of PATH.

    Held up is the first program whose command line has some words, a pattern of the shell.
    """

    def __init__(self, directory: Path, environ: dict[str, str], programs: Iterable[str]) -> None:
        directory.mkdir()
        self._words = directory / "words"
        reached, go = directory / "reached", directory / "go"
        for fifo in (reached, go):
            os.mkfifo(fifo)
        # Both ends are open, so that nobody waits for the other side to open one.
        flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
        self._reached, self._go = os.open(reached, flags), os.open(go, flags)
        for program in programs:
            wrapper = directory / program
            wrapper.write_text(
                "#!/bin/sh\n"
                f"if [ -e '{self._words}' ] && "
                f"IFS= read -r words 2>/dev/null <'{self._words}'; then\n"
                '    case " $* " in *\\ $words*)\n'
                f"        if rm '{self._words}' 2>/dev/null; then\n"
                f"            echo $$ >'{reached}'\n"
                f"            read -r _ <'{go}'\n"
                "        fi ;;\n"
                "    esac\n"
                "fi\n"
                f"exec '{shutil.which(program, path=environ['PATH'])}' \"$@\"\n"
            )
            wrapper.chmod(0o755)
        environ["PATH"] = f"{directory}:{environ['PATH']}"

    def close(self, words: str) -> None:
        new = self._words.with_suffix(".new")
        new.write_text(f"{words}\n")
        new.replace(self._words)  # at once: a program may be starting

    async def reached(self) -> int:
        """Wait until a program is held up; a descriptor of its process."""
        await anyio.wait_readable(self._reached)
        return os.pidfd_open(int(os.read(self._reached, 100)))

    async def reached_before(self, end: Callable[[], Awaitable[object]]) -> int:
        """The same; a failure if ``end`` returns first, with what it returns."""
        held = -1

        async def fail() -> None:
            pytest.fail(f"it ended early: {await end()!r}")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail)
            held = await self.reached()
            tasks.cancel_scope.cancel()
        return held

    async def let_go(self, held: int) -> None:
        """Let it run to its end."""
        os.write(self._go, b"\n")
        await self.ended(held)

    async def ended(self, held: int) -> None:
        """Wait for the end of a program that was held up."""
        await anyio.wait_readable(held)
        os.close(held)
