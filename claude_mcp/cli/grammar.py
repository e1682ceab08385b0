"""What each command of the command line takes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable


class Invalid(Exception):
    """What was typed cannot be understood."""


class Parser(argparse.ArgumentParser):
    def __init__(self, name: str, description: str, example: str) -> None:
        super().__init__(
            prog=name,
            description=description,
            epilog=example,
            formatter_class=_formatter,
            allow_abbrev=False,
        )
        self.options = ["--help"]

    def option(self, *names: str, **settings: object) -> None:
        self.options += names
        self.add_argument(*names, **settings)  # type: ignore[arg-type]

    def error(self, message: str) -> None:  # type: ignore[override]
        raise Invalid(message)


def _formatter(prog: str) -> argparse.HelpFormatter:
    # With a width given, argparse does not import shutil for it.
    try:
        width = os.get_terminal_size(sys.stdout.fileno()).columns - 2
    except (OSError, ValueError):
        width = 88
    return argparse.RawDescriptionHelpFormatter(prog, width=min(width, 98), max_help_position=30)


def _serve(parser: Parser) -> None:
    pass


def _create(parser: Parser) -> None:
    parser.add_argument("project", metavar="PROJECT", help="the project's directory")
    parser.option("--name", help="a unique name for the session")
    parser.option("--image", help="another image than the default")
    parser.option("--model", help="the Claude model for all its prompts")
    parser.option(
        "--provider",
        metavar="NAME",
        help="anthropic, bedrock, vertex or foundry, instead of the server's",
    )
    _provider_option(parser, "for that provider, such as region=eu-west-1")
    parser.option(
        "--strict-permissions",
        action="store_true",
        help="have Claude ask before what needs a permission, instead of allowing all",
    )
    parser.option(
        "--trust-project",
        action="store_true",
        help="obey the project's hooks, .mcp.json and settings inside the session",
    )
    parser.option(
        "--trust-git",
        action="store_true",
        help="let it write .git/config and .git/hooks, which git on the host obeys",
    )
    parser.option(
        "--mount",
        metavar="HOST:CONTAINER[:rw]",
        action="append",
        default=[],
        help="a further host path, read-only without :rw; may be repeated",
    )
    _mcp_config(parser)
    parser.option("--memory", metavar="SIZE", help="such as 4g; 0 is no limit, as with all four")
    parser.option("--cpus", metavar="N", help="such as 1.5")
    parser.option("--pids", metavar="N", help="how many processes and threads")
    parser.option("--disk", metavar="SIZE", help="for files outside the project")
    parser.option(
        "--read-only",
        action="store_true",
        default=None,
        help="only the project, and /tmp in memory, can be written",
    )
    parser.option(
        "--timeout", metavar="SECONDS", type=float, help="remove it after this time; 0 is never"
    )
    parser.option(
        "--idle-timeout", metavar="SECONDS", type=float, help="remove it when unused for so long"
    )
    parser.option("--runtime", metavar="NAME", help="the OCI runtime, such as runsc")
    parser.option("--network", metavar="NAME", help="open, restricted or none")
    parser.option(
        "--allow",
        metavar="HOST",
        action="append",
        default=[],
        help="what a restricted session may reach, such as pypi.org, *.example.org or "
        "files.example.org:8443; may be repeated",
    )
    _verbose(parser)
    _json(parser)


def _credentials(parser: Parser) -> None:
    _session(parser)
    _provider_option(parser, "a credential, such as apiKey=env:MY_KEY")
    _mcp_config(parser)
    _json(parser)


def _prompt(parser: Parser) -> None:
    _session(parser)
    parser.add_argument(
        "prompt", metavar="PROMPT", nargs="?", help="the prompt; '-' or nothing reads stdin"
    )
    parser.option("--tools", metavar="A,B", help="the only Claude Code tools for this turn")
    parser.option("--model", help="the Claude model for this turn")
    parser.option("--max-turns", metavar="N", type=int, help="stop after so many model calls")
    parser.option("--max-budget-usd", metavar="USD", type=float, help="stop at this cost")
    parser.option(
        "--new-conversation", action="store_true", help="forget what was said in this session"
    )
    parser.option("--turn-id", metavar="UUID", help="makes a repeated call safe")
    parser.option("--queue", action="store_true", help="stand in line while another prompt runs")
    _wait(parser)
    parser.option("--detach", action="store_true", help="do not wait at all")
    _verbose(parser)
    _json(parser)


def _turn(parser: Parser) -> None:
    _session(parser)
    parser.add_argument("turn", metavar="TURN", nargs="?", help="its id; else the latest")
    _wait(parser)
    parser.option(
        "--cursor", metavar="N", type=int, help="wait only for events behind number N, show those"
    )
    parser.option("--event", metavar="N", type=int, help="print event N, uncut, and nothing else")
    _verbose(parser)
    _json(parser)


def _cancel(parser: Parser) -> None:
    _session(parser)
    parser.add_argument("turn", metavar="TURN", nargs="?", help="its id; else what runs")
    _json(parser)


def _respond(parser: Parser) -> None:
    _session(parser)
    parser.add_argument("request", metavar="REQUEST", help="the question's id")
    parser.option("--allow", action="store_true", help="let Claude do it")
    parser.option("--deny", action="store_true", help="do not; Claude goes on without it")
    parser.option("--message", metavar="TEXT", help="with --deny: what Claude is told")
    _json(parser)


def _exec(parser: Parser) -> None:
    parser.option("--timeout", metavar="SECONDS", type=float, help="kill it after this time")
    parser.option("--workdir", metavar="DIR", help="run in this directory, not in /workspace")
    _json(parser)
    _session(parser)
    parser.add_argument(
        "words",
        metavar="COMMAND",
        nargs=argparse.REMAINDER,
        help="one word: a shell command; several: a program and its arguments",
    )


def _list(parser: Parser) -> None:
    _json(parser)


def _destroy(parser: Parser) -> None:
    parser.add_argument("sessions", metavar="SESSION", nargs="*")
    parser.option("--all", action="store_true", help="every session there is")
    parser.option("--yes", "-y", action="store_true", help="do not ask")
    _json(parser)


def _prune(parser: Parser) -> None:
    parser.option("--dry-run", action="store_true", help="only print what would be removed")
    _json(parser)


def _copy(parser: Parser) -> None:
    parser.add_argument("source", metavar="SRC", help="a path here, or SESSION:PATH")
    parser.add_argument("destination", metavar="DST", help="the other one of the two")
    parser.option(
        "--force", "--overwrite", action="store_true", help="replace files that exist already"
    )
    _verbose(parser)
    _json(parser)


def _logs(parser: Parser) -> None:
    _session(parser)
    parser.option("--tail", metavar="N", type=int, default=100, help="lines from the end (100)")
    _json(parser)


def _doctor(parser: Parser) -> None:
    _json(parser)


def _session(parser: Parser) -> None:
    parser.add_argument("session", metavar="SESSION", help="id, beginning of the id, or name")


def _provider_option(parser: Parser, what: str) -> None:
    parser.option(
        "--provider-option",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help=f"{what}; the value of a secret is env:VARIABLE, file:PATH or '-' for stdin; may be "
        "repeated",
    )


def _mcp_config(parser: Parser) -> None:
    parser.option(
        "--mcp-config",
        metavar="FILE",
        help="a JSON file with mcpServers for the Claude inside; '-' reads stdin",
    )


def _json(parser: Parser) -> None:
    parser.option("--json", action="store_true", help="print JSON, as the MCP tools return it")


def _wait(parser: Parser) -> None:
    parser.option(
        "--wait", metavar="SECONDS", type=float, help="stop waiting then (exit code 8); it goes on"
    )


def _verbose(parser: Parser) -> None:
    parser.option(
        "--verbose", "-v", action="store_true", help="tell what happens, also without a terminal"
    )


COMMANDS: dict[str, tuple[str, str, Callable[[Parser], None]]] = {
    "create": (
        "create a session on a project and print its id",
        "claude-mcp create . --name fix-tests --mount ~/data:/data",
        _create,
    ),
    "prompt": (
        "send Claude Code a prompt and print its answer",
        "git diff | claude-mcp prompt fix-tests\n"
        "  claude-mcp prompt fix-tests 'Now add a test for it'",
        _prompt,
    ),
    "turn": (
        "wait for a turn, or see what it does",
        "claude-mcp turn fix-tests\n  claude-mcp turn fix-tests --cursor 0 --json",
        _turn,
    ),
    "cancel": ("interrupt a turn", "claude-mcp cancel fix-tests", _cancel),
    "respond": (
        "answer what Claude asks permission for",
        "claude-mcp respond fix-tests 3f0c9a41b27e --deny --message 'Not in that directory'",
        _respond,
    ),
    "credentials": (
        "hand credentials or MCP servers in to a session",
        "claude-mcp credentials fix-tests --provider-option apiKey=env:MY_KEY",
        _credentials,
    ),
    "exec": (
        "run a command in a session; its exit code is ours",
        "claude-mcp exec fix-tests 'make test 2>&1 | tail'\n"
        "  claude-mcp exec --timeout 60 fix-tests -- grep -rn 'to do' src",
        _exec,
    ),
    "list": ("list all sessions", "claude-mcp list --json", _list),
    "destroy": (
        "remove sessions and all that belongs to them but their projects",
        "claude-mcp destroy fix-tests 4f2a",
        _destroy,
    ),
    "prune": (
        "remove sessions that have expired or were never completed",
        "claude-mcp prune --dry-run",
        _prune,
    ),
    "copy": (
        "copy files into a session or out of it",
        "claude-mcp copy data.csv fix-tests:/tmp/\n  claude-mcp copy fix-tests:/tmp/report.html .",
        _copy,
    ),
    "logs": ("print a session's log", "claude-mcp logs fix-tests --tail 20", _logs),
    "doctor": (
        "check engine, image and credentials, and say what to do",
        "claude-mcp doctor",
        _doctor,
    ),
    "serve": (
        "serve MCP over stdin and stdout, for a program such as Claude Desktop",
        "claude-mcp --engine podman serve",
        _serve,
    ),
}
ALIASES = {"ls": "list", "cp": "copy", "rm": "destroy", "run": "exec"}
