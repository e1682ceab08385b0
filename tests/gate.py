"""Holds up a program of the host at its start, so that its caller can be killed right then."""

from __future__ import annotations

import os
import select
import shutil
from collections.abc import Iterable
from pathlib import Path

import anyio.to_thread


class Gate:
    """A directory of wrappers at the head of PATH.

    Held up is the first program whose command line has some words, a pattern of the shell.
    """

    def __init__(self, directory: Path, environ: dict[str, str], programs: Iterable[str]) -> None:
        directory.mkdir()
        self._words = directory / "words"
        self._reached, go = directory / "reached", directory / "go"
        for fifo in (self._reached, go):
            os.mkfifo(fifo)
        # Held open, so that nobody waits for the other side to open it.
        self._go = os.open(go, os.O_RDWR | os.O_CLOEXEC)
        for program in programs:
            wrapper = directory / program
            wrapper.write_text(
                "#!/bin/sh\n"
                f"if [ -e '{self._words}' ]; then\n"
                f"    IFS= read -r words <'{self._words}'\n"
                '    case " $* " in *\\ $words*)\n'
                f"        rm '{self._words}' && echo $$ >'{self._reached}'\n"
                f"        read -r _ <'{go}' ;;\n"
                "    esac\n"
                "fi\n"
                f"exec '{shutil.which(program, path=environ['PATH'])}' \"$@\"\n"
            )
            wrapper.chmod(0o755)
        environ["PATH"] = f"{directory}:{environ['PATH']}"

    def close(self, words: str) -> None:
        self._words.write_text(f"{words}\n")

    async def reached(self) -> int:
        """Wait until a program is held up; a descriptor of its process."""
        pid = await anyio.to_thread.run_sync(self._reached.read_text, abandon_on_cancel=True)
        return os.pidfd_open(int(pid))

    async def let_go(self, held: int) -> None:
        """Let it run to its end."""
        os.write(self._go, b"\n")
        await self.ended(held)

    async def ended(self, held: int) -> None:
        """Wait for the end of a program that was held up."""
        await anyio.to_thread.run_sync(select.select, [held], [], [])
        os.close(held)
