"""What the page of examples shows: one session from a terminal, and one through the MCP server.

Each call of the book is one example, in the section of its command or tool.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from example_book import Book
from mcp import Client

GREETING: Final = 'def greet(name):\n    return "Hello " + name\n\n\nprint(greet("world"))\n'
CHANGE: Final = "Make the greeting end with an exclamation mark, and run it."
ASK: Final = "Add a store. Ask me which database to use."
ABOUT: Final = "What is in this project?"
LONG: Final = "Wait until the nightly tests are over."
PERMIT: Final = "Commit your work."

_EDIT: Final = {
    "file_path": "/workspace/greet.py",
    "old_string": '"Hello " + name',
    "new_string": '"Hello " + name + "!"',
}
_QUESTION: Final = {
    "question": "Which database?",
    "header": "Database",
    "multiSelect": False,
    "options": [
        {"label": "SQLite", "description": "A file, no server"},
        {"label": "PostgreSQL", "description": "A server of its own"},
    ],
}
RULES: Final[list[dict[str, Any]]] = [
    {
        "match": CHANGE,
        "steps": [
            {"tool": "Read", "input": {"file_path": "/workspace/greet.py"}},
            {"tool": "Edit", "input": _EDIT},
            {"tool": "Bash", "input": {"command": "python3 greet.py"}},
            {"say": "It says Hello world! now."},
        ],
    },
    {
        "match": ASK,
        "steps": [
            {"tool": "AskUserQuestion", "input": {"questions": [_QUESTION]}},
            {"say": "I use SQLite."},
        ],
    },
    {"match": ABOUT, "steps": [{"say": "One program, greet.py, that greets the world."}]},
    {"match": LONG, "steps": [{"say": "Waiting."}, {"never": True}]},
    {
        "match": PERMIT,
        "steps": [
            {"tool": "Bash", "input": {"command": "touch done.txt"}},
            {"say": "Done."},
        ],
    },
]
"""What the prepared model does; the tools are Claude Code's own and really run."""

DEFAULT_IMAGE: Final = "claude-code-custom:latest"
SHOP: Final = "shop"
TILL: Final = "till"
WEB: Final = "web"
"""The sessions' names, of the command line and of the server."""
_REQUEST: Final = re.compile(r"respond \S+ (\w+)")


def _ours(line: str) -> bool:
    """Whether a line of a list is the head or says something of our session."""
    return line.startswith("ID") or SHOP in line.split() or "no sessions" in line


def session(book: Book) -> None:
    """A session from create to destroy, from a terminal in the project's directory."""
    run = book.run
    run("create", "claude-mcp create . --name shop --workspace clone --memory 2g --cpus 1")
    run("list", "claude-mcp list", keep=_ours, until="shop +running +idle")
    run("prompt", f'claude-mcp prompt shop "{CHANGE}"')
    run("prompt", f'echo "{ABOUT}" | claude-mcp execute')
    run("turns", "claude-mcp turns shop")
    run("changes", "claude-mcp changes shop --full")
    run("exec", 'claude-mcp exec shop "python3 greet.py; exit 3"; echo "exit code $?"')
    run("command", "claude-mcp command shop", code=3)
    command = run("exec", "claude-mcp exec --detach shop 'sleep 600'").split()[-1]
    run("commands", "claude-mcp commands shop")
    run("stop-command", f"claude-mcp stop-command shop {command}")
    asked = run("prompt", f'claude-mcp prompt shop "{ASK}" --answerable', code=9)
    found = _REQUEST.search(asked)
    assert found is not None, asked
    request = book.know(found[1], "9d2c41f07be5")
    run("respond", f"claude-mcp respond shop {request} --answer SQLite")
    run("turn", "claude-mcp turn shop")
    turn = run("prompt", f'claude-mcp prompt shop "{LONG}" --detach').split()[-1]
    run("cancel", f"claude-mcp cancel shop {turn}")
    run("show", "claude-mcp show shop", until="idle")
    run("stats", "claude-mcp stats shop")
    run("logs", "claude-mcp logs shop --tail 2")
    run("copy", "claude-mcp copy ~/prices.csv shop:/tmp/")
    run("copy", "claude-mcp copy shop:/workspace/greet.py ~/greet-of-shop.py")
    run("apply", 'claude-mcp apply shop --commit "The greeting ends with an exclamation mark"')
    run("apply", "git diff HEAD claude/shop --stat")
    run("discard", "claude-mcp discard shop greet.py")
    run("credentials", "claude-mcp credentials shop")
    run("destroy", "claude-mcp destroy shop --force")
    run("prune", "claude-mcp prune --dry-run", keep=_ours)


def terminals(book: Book) -> None:
    """What needs a terminal, and a session of a single prompt."""
    book.run("run", f'claude-mcp run . "{ABOUT}" --apply none')
    argv = ["claude-mcp", "create", ".", "--name", SHOP]
    book.session(book.quietly(argv).split()[-1], "4be2d9f0a713")
    book.quietly(["claude-mcp", "prompt", SHOP, CHANGE])
    book.screen(
        "shell",
        "claude-mcp shell shop",
        [("/workspace", "python3 greet.py\r"), ("Hello", "exit\r")],
        lambda lines: lines,
    )
    book.screen(
        "attach",
        "claude-mcp attach shop",
        [("⏵⏵", ABOUT), (ABOUT, "\r"), ("● One program", "/exit\r")],
        lambda lines: [line for line in lines if line.startswith(("❯ W", "●"))],  # noqa: RUF001
    )
    book.quietly(["claude-mcp", "create", ".", "--name", WEB, "--port", "3000"])
    told = book.run("forward", "claude-mcp forward web")
    book.know(told.strip().rpartition(":")[2], "40123")
    book.quietly(["claude-mcp", "destroy", WEB, "--force"])
    wanted = re.compile(r"claude-mcp:|  NAME|. shop |arrows")
    book.screen(
        "watch",
        "claude-mcp watch",
        [("shop", "q")],
        lambda lines: [
            re.sub(r"\d+ sessions?, \d+ working", "1 session, 0 working", line)
            for line in lines
            if wanted.match(line)
        ],
    )


def setting_up(book: Book) -> None:
    """What needs no session."""
    run, image = book.run, DEFAULT_IMAGE
    run("image", "claude-mcp image list", keep=lambda line: line.startswith(("IMAGE", image)))
    run("image", "claude-mcp image check | head -n 3")
    run("config", "claude-mcp config set CLAUDE_MCP_MEMORY 4g")
    run("config", "claude-mcp config")
    run("doctor", "claude-mcp doctor")
    run("install", "claude-mcp install cursor --yes")
    run("install", "claude-mcp install --print")
    run("uninstall", "claude-mcp uninstall cursor --dry-run")
    run("completion", "claude-mcp completion bash | head -n 2")
    asked = json.dumps(
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "me", "version": "1"},
            },
        }
    )
    run("serve", f'echo \'{asked}\' | claude-mcp serve | grep -o \'"name":"[^"]*"\'')


async def tools(book: Book, client: Client, project: Path) -> None:
    """The MCP server's tools, with a session that asks before it acts."""
    made = await book.call(
        client,
        "create_session",
        projectPath=str(project),
        sessionName=TILL,
        workspace="clone",
        strictPermissions=True,
        limits={"memory": "2g", "cpus": 1},
    )
    session = made["sessionId"]

    async def call(tool: str, **arguments: Any) -> dict[str, Any]:
        return await book.call(client, tool, sessionId=session, **arguments)

    await call("execute_in_session", prompt=ABOUT)
    await book.call(
        client,
        "list_sessions",
        keep=lambda line: f" {TILL}:" in line,
        until=f"{TILL}: running, idle",
    )
    asked = await call("execute_in_session", prompt=PERMIT)
    request = book.know(asked["questions"][0]["requestId"], "51ae90c2f6d8")
    await call("respond_permission", requestId=request, decision="allow")
    await call("get_turn", turnId=asked["turnId"])
    await call("list_turns")
    begun = await book.call(
        client, "execute_in_session", sessionId=session, prompt=LONG, waitSeconds=0
    )
    await call("cancel_turn", turnId=begun["turnId"])
    await call("execute_command", command="echo out; echo err >&2; exit 3")
    started = await call("execute_command", command="cat", background=True)
    command = started["commandId"]
    await call("get_command", commandId=command, cursor=0, input="Are you there?\n")
    await call("stop_command", commandId=command)
    await call(
        "transfer_files",
        direction="from_container",
        sourcePath="/workspace/greet.py",
        destPath=str(project.parent / "greet-of-till.py"),
    )
    await call("get_changes")
    await call("apply_changes", commit="Done")
    await call("discard_changes")
    await call("get_session_logs", tail=2)
    await call("get_stats")
    await call("set_credentials")
    await call("destroy_session")
