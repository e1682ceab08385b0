"""Asks the host's git who commits in a project.

Git only reads its configuration, so no file of the project can make it run anything.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import anyio

from claude_mcp.errors import GitError, ungrouped
from claude_mcp.sessions.git import program

logger = logging.getLogger(__name__)

MAX_VALUE_CHARS: Final = 256
# A repository of another user is refused; what git knows outside of repositories still counts.
ANYWHERE: Final = "/"
FOUND, NOT_SET = 0, 1
"""Exit codes of ``git config``."""
NAMES: Final = r"^(user|author|committer)\.(name|email)$"
VARIABLES: Final[Mapping[str, str]] = {
    "GIT_AUTHOR_NAME": "author.name",
    "GIT_AUTHOR_EMAIL": "author.email",
    "GIT_COMMITTER_NAME": "committer.name",
    "GIT_COMMITTER_EMAIL": "committer.email",
}
"""Variables that git prefers to its configuration, with the setting that means the same."""

UNKNOWN: Final = (
    "This host's git does not say who commits, so 'git commit' fails in the session: set user.name "
    "and user.email with 'git config --global', here before a session is created or in the session."
)

Identity = tuple[tuple[str, str], ...]
"""Settings of git, such as ``user.name``, with their values."""


class Lookup:
    """A search that runs while the engine works."""

    def __init__(self) -> None:
        self._ended = anyio.Event()
        self._found: Identity = ()

    async def run(self, project: str, environment: Mapping[str, str]) -> None:
        self._found = await look_up(project, environment)
        self._ended.set()

    async def result(self) -> Identity:
        await self._ended.wait()
        return self._found


@asynccontextmanager
async def looking_up(project: str, environment: Mapping[str, str]) -> AsyncIterator[Lookup]:
    """Look up who commits in a project while the block runs."""
    lookup = Lookup()
    with ungrouped():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lookup.run, project, environment)
            yield lookup


async def look_up(project: str, environment: Mapping[str, str]) -> Identity:
    """Who commits in a project on this host: empty if that is unknown, or if there is no git."""
    settings: dict[str, str] = {}
    try:
        for directory in (project, ANYWHERE):
            done = await program.configured(environment, directory, NAMES)
            if done.returncode in (FOUND, NOT_SET):
                settings = _parse(done.out)
                break
            logger.debug("git config in %s: %s", directory, done.err.strip())
    except GitError as error:
        logger.debug("git was not asked who commits: %s", error)
    if environment.get("EMAIL"):
        settings.setdefault("user.email", environment["EMAIL"])
    settings |= {key: environment[name] for name, key in VARIABLES.items() if environment.get(name)}
    return tuple((key, value) for key, value in settings.items() if _usable(value))


def commits(identity: Identity) -> bool:
    """Whether git can commit with this, as an author and as a committer."""
    known = {key for key, _ in identity}
    return all(
        f"user.{what}" in known or {f"author.{what}", f"committer.{what}"} <= known
        for what in ("name", "email")
    )


def _parse(output: str) -> dict[str, str]:
    """``KEY\\nVALUE\\0`` for each value; the last of a key counts."""
    pairs = (entry.partition("\n") for entry in output.split("\0") if entry)
    return {key: value for key, _, value in pairs if value}


def _usable(value: str) -> bool:
    return len(value) <= MAX_VALUE_CHARS and value.isprintable()
