#!/usr/bin/env python3
"""The main job, as a client of the MCP server does it; scripts/quickstart prepares and runs it.

A sample project, a session on it, two prompts of one conversation, a command, a file each
way, the list, the log, and the end of the session. Each step is printed with its time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from messages_standin import Standin

CREDENTIALS = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
)
STANDIN_KEY = "sk-ant-standin-no-real-key"

GREETING = 'def greet(name):\n    return "Hello " + name\n\n\nprint(greet("world"))\n'
FIRST_PROMPT = "In greet.py, make the greeting end with an exclamation mark, then run it."
SECOND_PROMPT = "What did I ask you to change a moment ago? Answer in one sentence."

# What the stand-in's model does: the tools are Claude Code's own and really run.
STANDIN_RULES: list[dict[str, Any]] = [
    {
        "match": FIRST_PROMPT,
        "steps": [
            {"tool": "Read", "input": {"file_path": "/workspace/greet.py"}},
            {
                "tool": "Edit",
                "input": {
                    "file_path": "/workspace/greet.py",
                    "old_string": '"Hello " + name',
                    "new_string": '"Hello " + name + "!"',
                },
            },
            {"tool": "Bash", "input": {"command": "python3 greet.py"}},
            {"say": "Done: greet.py now prints Hello world!"},
        ],
    },
    {"match": SECOND_PROMPT, "steps": [{"recall": True}]},
]


class Steps:
    """Calls tools and prints what came of it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def __call__(self, tool: str, **arguments: Any) -> dict[str, Any]:
        async def progress(
            progress: float, total: float | None = None, message: str | None = None
        ) -> None:
            print(f"      {message}", flush=True)

        started = time.monotonic()
        result = await self._client.call_tool(tool, arguments, progress_callback=progress)
        seconds = time.monotonic() - started
        text = "\n".join(getattr(part, "text", "") for part in result.content)
        print(f"  {tool:<20} {seconds:6.2f} s", flush=True)
        for line in text.splitlines():
            print(f"      {line}", flush=True)
        if result.is_error:
            raise SystemExit(f"quickstart: {tool} failed; see above.")
        content: dict[str, Any] | None = result.structured_content
        assert content is not None
        return content


async def main_job(environment: dict[str, str], arguments: list[str], project: Path) -> None:
    scratch = project.parent
    (project / "greet.py").write_text(GREETING)
    (scratch / "note.txt").write_text("A note from the host.\n")
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "claude_mcp", *arguments, "serve"],
        env=environment,
    )
    started = time.monotonic()
    async with Client(server) as client:
        call = Steps(client)
        names = [tool.name for tool in (await client.list_tools()).tools]
        print(f"  MCP server started   {time.monotonic() - started:6.2f} s")
        print(f"      {len(names)} tools: {', '.join(names)}")
        session = (await call("create_session", projectPath=str(project)))["sessionId"]
        try:
            for prompt in (FIRST_PROMPT, SECOND_PROMPT):
                turn = await call("execute_in_session", sessionId=session, prompt=prompt)
                while turn["status"] == "running":
                    turn = await call("get_turn", sessionId=session, turnId=turn["turnId"])
            await call("execute_command", sessionId=session, command="python3 greet.py; ls -l")
            await call(
                "transfer_files",
                sessionId=session,
                direction="to_container",
                sourcePath=str(scratch / "note.txt"),
                destPath="/tmp/note.txt",
            )
            await call(
                "transfer_files",
                sessionId=session,
                direction="from_container",
                sourcePath="/tmp/note.txt",
                destPath=str(scratch / "back.txt"),
            )
            await call("list_sessions")
            await call("get_session_logs", sessionId=session)
        finally:
            with anyio.CancelScope(shield=True):
                await call("destroy_session", sessionId=session)
    edited = (project / "greet.py").read_text()
    print("\nThe sample project's greet.py is now:\n")
    print("".join(f"    {line}\n" for line in edited.splitlines()))
    if edited == GREETING:
        raise SystemExit("quickstart: Claude did not change greet.py.")


@asynccontextmanager
async def provider() -> AsyncIterator[dict[str, str]]:
    """The server's environment: the real service with a credential, else the stand-in."""
    environment = dict(os.environ)
    found = [name for name in CREDENTIALS if environment.get(name)]
    if found:
        print(f"Claude Code talks to the real service, with {' and '.join(found)}.")
        yield environment
        return
    print(
        f"No credential in the environment ({', '.join(CREDENTIALS)}): Claude Code talks to a\n"
        "local stand-in for the Messages API, which plays a prepared model. Claude Code itself,\n"
        "its tools and the container are real."
    )
    # Containers reach the host by another address than its loopback.
    with Standin(host="0.0.0.0", rules=STANDIN_RULES) as standin:
        environment["ANTHROPIC_BASE_URL"] = f"http://127.0.0.1:{standin.port}"
        environment["ANTHROPIC_API_KEY"] = STANDIN_KEY
        yield environment


async def run(arguments: list[str]) -> None:
    async with provider() as environment:
        with tempfile.TemporaryDirectory(prefix="claude-mcp-quickstart-") as scratch:
            project = Path(scratch) / "sample"
            project.mkdir()
            await main_job(environment, arguments, project)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--engine", help="docker, podman or a path; default: what is found")
    parsed = parser.parse_args()
    started = time.monotonic()
    try:
        anyio.run(run, ["--engine", parsed.engine] if parsed.engine else [])
    except* KeyboardInterrupt:
        raise SystemExit(130) from None
    except* SystemExit as group:
        raise group.exceptions[0] from None
    print(f"All of it took {time.monotonic() - started:.1f} s. Next: docs/getting-started.md says")
    print("how to install the program and to add it to Claude Desktop, Claude Code or Cursor.")


if __name__ == "__main__":
    main()
