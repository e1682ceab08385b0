#!/usr/bin/env python3
"""Makes docs/examples.md; scripts/examples prepares and runs it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import anyio
import example_story
from example_book import Book
from mcp import Client, StdioServerParameters
from messages_standin import Standin

from claude_mcp.cli.grammar import COMMANDS
from claude_mcp.server.tools import BY_NAME

CHECKOUT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = CHECKOUT / "docs" / "examples.md"
KEY: Final = "sk-ant-examples-no-real-key"
DATES: Final = ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE")
HEAD: Final = """\
# Examples

Every command and every tool, with what it printed when `scripts/examples` ran it. Claude Code, the
containers and the tools are real; the model's answers are prepared. Ids, times, costs and sizes are
replaced by fixed values. Commands ran in the project's directory, `~/src/shop`.
"""


@contextmanager
def machine(environ: Mapping[str, str], engine: str, scratch: Path, part: str) -> Iterator[Book]:
    """A home with a project in it, and the program on PATH; sessions of it are removed."""
    home, project = scratch / "home", scratch / "home" / "src" / "shop"
    program = home / ".local" / "bin" / "claude-mcp"
    for directory in (project, program.parent, home / ".cursor"):
        directory.mkdir(parents=True)
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(CHECKOUT)!r})\n"
        "from claude_mcp.cli import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    (home / "prices.csv").write_text("tea,2.50\n")
    (project / "greet.py").write_text(example_story.GREETING)
    kept = ("PATH", "LANG", "DOCKER_HOST", "XDG_RUNTIME_DIR")
    environment = {
        **{name: environ[name] for name in kept if name in environ},
        "PATH": f"{program.parent}:{environ['PATH']}",
        "HOME": str(home),
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
        "CLAUDE_MCP_ENGINE": engine,
        "ANTHROPIC_API_KEY": KEY,
    }
    git = ["git", "-C", str(project)]
    for words in (
        ["init", "--quiet", "--initial-branch=main"],
        ["config", "--global", "user.name", "Me"],
        ["config", "--global", "user.email", "me@example.com"],
        ["add", "."],
        ["commit", "--quiet", "--message=A program that greets"],
    ):
        dated = {**environment, **dict.fromkeys(DATES, "2026-01-05T09:00:00Z")}
        subprocess.run([*git, *words], env=dated, check=True, timeout=60)
    # Containers reach the host by another address than its loopback.
    with Standin(host="0.0.0.0", rules=example_story.RULES) as standin:
        environment["ANTHROPIC_BASE_URL"] = f"http://127.0.0.1:{standin.port}"
        book = Book(environment, project, list(PARTS).index(part) + 1)
        book.know(str(home), "/home/me")
        book.know(environment["ANTHROPIC_BASE_URL"], "https://gateway.example.com")
        for name in ("host.docker.internal", "host.containers.internal"):
            book.know(f"http://{name}:{standin.port}", "https://gateway.example.com")
            book.know(f"{name}:{standin.port}", "gateway.example.com:443")
        try:
            yield book
        finally:
            for session in book.created:
                argv = [str(program), "destroy", session, "--force"]
                subprocess.run(argv, env=environment, capture_output=True, check=False, timeout=110)


async def tools(book: Book) -> None:
    environment = {**book.environment, "CLAUDE_MCP_TOOLSETS": "all"}
    server = StdioServerParameters(
        command="claude-mcp", args=["serve"], env=environment, cwd=book.directory
    )
    async with Client(server) as client:
        await example_story.tools(book, client, book.directory)


def _tools(book: Book) -> None:
    anyio.run(tools, book)


PARTS: Final[dict[str, Callable[[Book], None]]] = {
    "session": example_story.session,
    "terminals": example_story.terminals,
    "setting_up": example_story.setting_up,
    "tools": _tools,
}
"""Each makes sections of its own, and can be made without the others."""


def sections(part: str, environ: Mapping[str, str], engine: str) -> dict[str, list[str]]:
    """The sections of one part, made anew on this engine."""
    with (
        tempfile.TemporaryDirectory(prefix="claude-mcp-examples-") as scratch,
        machine(environ, engine, Path(scratch), part) as book,
    ):
        PARTS[part](book)
    return book.sections


def section(name: str, blocks: Sequence[str]) -> str:
    return "\n".join([f"### `{name}`\n", *blocks])


def page(made: Mapping[str, Sequence[str]]) -> str:
    parts = [HEAD]
    for title, names in (("Commands", COMMANDS), ("Tools", BY_NAME)):
        parts.append(f"## {title}\n")
        parts += [section(name, made[name]) for name in names]
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description="Makes docs/examples.md.")
    parser.add_argument("--engine", default="docker", help="docker (default) or podman")
    options = parser.parse_args()
    made: dict[str, list[str]] = {}
    for part in PARTS:
        made.update(sections(part, os.environ, options.engine))
    PAGE.write_text(page(made))
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
