"""The session image: how it is built, and what an image has and lacks."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import claude_mcp
from claude_mcp.contract import places
from claude_mcp.engine import process
from claude_mcp.engine.engine import Engine, Image
from claude_mcp.errors import ImageNotFound, ImageUnfit, UsageError
from claude_mcp.sessions.progress import Amount, Progress

LABEL: Final = "claude-mcp.build"
"""What the build puts on our image."""
SCRIPT: Final = Path(claude_mcp.__file__).parent / "session_image/scripts/build-custom-image.sh"
BUILDERS: Final = ("docker", "podman")
REQUIRED: Final = ("sh", "python3", *places.REQUIRED_PROGRAMS)
USEFUL: Final = ("git", *places.OPTIONAL_PROGRAMS, "node", "npx", "uv", "curl", "jq")
MARK: Final = "claude-mcp: "
"""What the build's script begins its own words with, if it is asked to."""
LAST_LINES: Final = 25
"""Of the engine, shown if the build fails."""
_STEP: Final = re.compile(
    # Docker's old builder and Podman; BuildKit.
    r"(?:\[\d+/\d+\] )?STEP (\d{1,4})/(\d{1,4}) ?: (.{1,200})"
    r"|#\d+ \[(?:[\w.-]+ +)?(\d{1,4})/(\d{1,4})\] (.{1,200})",
    re.IGNORECASE,
)
MAX_VERSION_CHARS: Final = 60
_LOOK: Final = """\
for program in {}; do
    command -v "$program" >/dev/null || continue
    version=
    [ "$program" = sh ] || version="$("$program" --version 2>/dev/null | head -n 1)"
    printf '%s\\t%s\\n' "$program" "$version"
done
"""


@dataclass(frozen=True, slots=True)
class Contents:
    """The programs of an image with their versions, as they word them; and what it lacks."""

    image: str
    programs: dict[str, str]
    missing: tuple[str, ...]
    """Without these, no session can run in it."""
    unavailable: tuple[str, ...]
    """Without these, a session runs, and some projects or MCP servers do not work in it."""


async def build(
    engine: Engine,
    environment: dict[str, str],
    image: str,
    *,
    target: str = "session",
    base: str | None = None,
    certificates: Sequence[str] = (),
    rebuild: bool = False,
    verbose: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> int:
    """Build our image, with its words on stderr; returns the exit code of the build.

    The ``target`` is ``session``, or ``server``: the image of the MCP server.

    ``environment`` is the user's: proxies and registries come from there. ``certificates`` are
    absolute paths of files in PEM form. With ``progress``, that hears how far the build is, and
    ``say`` gets the words; if it fails, also the last lines of the engine.

    Raises:
        UsageError: the engine cannot build it
    """
    directory, name = os.path.split(engine.program)
    if name not in BUILDERS:
        raise UsageError(
            f"{engine.program!r} cannot build the image: its name is neither docker nor podman.",
            hint="Build it where one of the two is, and pull it here.",
        )
    environment = dict(environment)
    if directory:
        environment["PATH"] = os.pathsep.join([directory, environment.get("PATH", os.defpath)])
    if base is not None:
        environment["BASE_IMAGE"] = base
    argv = ["bash", str(SCRIPT), "--engine", name, "--tag", image, "--no-install"]
    argv += ["--target", target] if target != "session" else []
    for certificate in certificates:
        argv += ["--extra-ca", certificate]
    watched = verbose or progress is not None
    argv += [*(["--rebuild"] if rebuild else []), *(["--verbose"] if watched else [])]
    if progress is None:
        return await process.run_attached(argv, env=environment)
    environment["SAY_MARK"] = MARK
    watch = _Watch(progress, say)
    code = await process.run_attached(argv, env=environment, on_line=watch.line)
    watch.end(failed=code != 0)
    return code


class _Watch:
    """Reads what the build's script and the engine write."""

    def __init__(self, progress: Progress, say: Callable[[str], None]) -> None:
        self._progress = progress
        self._say = say
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._held: str | None = None
        """The script's latest words: if they are its last ones, they are about the lines above."""

    async def line(self, line: str) -> None:
        if line.startswith(MARK):
            self.end(failed=False)
            self._held = line.removeprefix(MARK)
            return
        self._last.append(line)
        step = _STEP.match(line)
        if step is not None:
            number, total, what = filter(None, step.groups())
            self.end(failed=False)
            done = Amount(int(number) - 1, int(total), "step")
            await self._progress(" ".join(what.split()), done)

    def end(self, *, failed: bool) -> None:
        for line in self._last if failed else ():
            self._say(line)
        if self._held is not None:
            self._say(self._held)
        self._held = None


async def listed(engine: Engine) -> list[Image]:
    """The images that our build made; one engine call.

    Raises:
        EngineError
    """
    return await engine.images(LABEL)


async def check(engine: Engine, image: str) -> Contents:
    """What an image has, from a look inside.

    Raises:
        ImageNotFound, EngineError
        ImageUnfit: it has no shell to look with
    """
    try:
        printed = await engine.run_in_image(image, _LOOK.format(" ".join((*REQUIRED, *USEFUL))))
    except ImageNotFound as error:
        raise ImageNotFound(
            f"{engine.title} has no image {image}.",
            hint="Fetch it with 'claude-mcp image pull', or build it: 'claude-mcp image build'.",
        ) from error
    programs = {}
    for line in printed.splitlines():
        name, separator, version = line.partition("\t")
        if separator and name in (*REQUIRED, *USEFUL):
            programs[name] = version.strip()[:MAX_VERSION_CHARS]
    if not programs:
        raise ImageUnfit(f"Image {image} cannot run a session: it has no usable shell.")
    return Contents(
        image,
        programs,
        missing=tuple(name for name in REQUIRED if name not in programs),
        unavailable=tuple(name for name in USEFUL if name not in programs),
    )
