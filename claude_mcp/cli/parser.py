"""The command line's grammar.

Two steps: the global flags and the command's name first, then that command's own arguments.
So only one command's parser is ever built, and a mistyped name gets a suggestion.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from claude_mcp import __version__

PROGRAM = "claude-mcp"

DESCRIPTION = "Isolated Claude Code sessions in containers, for a terminal and as an MCP server."
EXAMPLE = """\
example:
  id=$(claude-mcp create ~/src/project)
  claude-mcp prompt $id 'Find out why the tests fail, and fix it'
  claude-mcp destroy $id

A SESSION is a session's id, the beginning of it, or its name. Credentials come from the
environment, files or stdin, never from a flag itself.
"""


class _Invalid(Exception):
    """What was typed cannot be understood."""


class _Parser(argparse.ArgumentParser):
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
        raise _Invalid(message)


def _formatter(prog: str) -> argparse.HelpFormatter:
    # With a width given, argparse does not import shutil for it.
    try:
        width = os.get_terminal_size(sys.stdout.fileno()).columns - 2
    except (OSError, ValueError):
        width = 88
    return argparse.RawDescriptionHelpFormatter(prog, width=min(width, 98), max_help_position=30)


def _serve(parser: _Parser) -> None:
    pass


def _create(parser: _Parser) -> None:
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


def _credentials(parser: _Parser) -> None:
    _session(parser)
    _provider_option(parser, "a credential, such as apiKey=env:MY_KEY")
    _mcp_config(parser)
    _json(parser)


def _prompt(parser: _Parser) -> None:
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


def _turn(parser: _Parser) -> None:
    _session(parser)
    parser.add_argument("turn", metavar="TURN", nargs="?", help="its id; else the latest")
    _wait(parser)
    parser.option(
        "--cursor", metavar="N", type=int, help="wait only for events behind number N, show those"
    )
    parser.option("--event", metavar="N", type=int, help="print event N, uncut, and nothing else")
    _verbose(parser)
    _json(parser)


def _cancel(parser: _Parser) -> None:
    _session(parser)
    parser.add_argument("turn", metavar="TURN", nargs="?", help="its id; else what runs")
    _json(parser)


def _respond(parser: _Parser) -> None:
    _session(parser)
    parser.add_argument("request", metavar="REQUEST", help="the question's id")
    parser.option("--allow", action="store_true", help="let Claude do it")
    parser.option("--deny", action="store_true", help="do not; Claude goes on without it")
    parser.option("--message", metavar="TEXT", help="with --deny: what Claude is told")
    _json(parser)


def _exec(parser: _Parser) -> None:
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


def _list(parser: _Parser) -> None:
    _json(parser)


def _destroy(parser: _Parser) -> None:
    parser.add_argument("sessions", metavar="SESSION", nargs="*")
    parser.option("--all", action="store_true", help="every session there is")
    parser.option("--yes", "-y", action="store_true", help="do not ask")
    _json(parser)


def _prune(parser: _Parser) -> None:
    parser.option("--dry-run", action="store_true", help="only print what would be removed")
    _json(parser)


def _copy(parser: _Parser) -> None:
    parser.add_argument("source", metavar="SRC", help="a path here, or SESSION:PATH")
    parser.add_argument("destination", metavar="DST", help="the other one of the two")
    parser.option(
        "--force", "--overwrite", action="store_true", help="replace files that exist already"
    )
    _verbose(parser)
    _json(parser)


def _logs(parser: _Parser) -> None:
    _session(parser)
    parser.option("--tail", metavar="N", type=int, default=100, help="lines from the end (100)")
    _json(parser)


def _doctor(parser: _Parser) -> None:
    _json(parser)


def _session(parser: _Parser) -> None:
    parser.add_argument("session", metavar="SESSION", help="id, beginning of the id, or name")


def _provider_option(parser: _Parser, what: str) -> None:
    parser.option(
        "--provider-option",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help=f"{what}; the value of a secret is env:VARIABLE, file:PATH or '-' for stdin; may be "
        "repeated",
    )


def _mcp_config(parser: _Parser) -> None:
    parser.option(
        "--mcp-config",
        metavar="FILE",
        help="a JSON file with mcpServers for the Claude inside; '-' reads stdin",
    )


def _json(parser: _Parser) -> None:
    parser.option("--json", action="store_true", help="print JSON, as the MCP tools return it")


def _wait(parser: _Parser) -> None:
    parser.option(
        "--wait", metavar="SECONDS", type=float, help="stop waiting then (exit code 8); it goes on"
    )


def _verbose(parser: _Parser) -> None:
    parser.option(
        "--verbose", "-v", action="store_true", help="tell what happens, also without a terminal"
    )


COMMANDS: dict[str, tuple[str, str, Callable[[_Parser], None]]] = {
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


def parse(argv: list[str]) -> argparse.Namespace | int:
    """The arguments with ``command`` among them; or an exit code, when all is said already."""
    parser: _Parser = _global_parser()
    try:
        arguments = parser.parse_args(argv)
        if arguments.command is None:
            parser.print_help(sys.stderr)
            return 2
        name = ALIASES.get(arguments.command, arguments.command)
        if name not in COMMANDS:
            raise _Invalid(f"there is no command {arguments.command!r}{_suggestion(name)}")
        parser = _command_parser(name)
        # Options may stand between a session and its prompt, but behind SESSION of exec all is
        # the command's own.
        take = parser.parse_known_args if name == "exec" else parser.parse_known_intermixed_args
        rest, unknown = take(arguments.rest, arguments)
        if unknown:
            raise _Invalid(f"{unknown[0]!r} was not expected{_near(unknown[0], parser.options)}")
        rest.command = name
        if name == "exec":
            rest.words = _command_words(rest.words)
        return rest
    except _Invalid as error:
        sys.stderr.write(f"{PROGRAM}: {error}\nSee '{parser.prog} --help'.\n")
        return 2
    except SystemExit as ending:  # --help and --version have printed
        return int(ending.code or 0)


def _command_words(words: list[str]) -> list[str]:
    if words and words[0] == "--":  # only some versions of argparse take it away
        return words[1:]
    if words and words[0].startswith("--"):
        raise _Invalid(f"{words[0]!r} was not expected there: flags stand before SESSION")
    return words


def _global_parser() -> _Parser:
    width = max(map(len, COMMANDS))
    names = "\n".join(f"  {name:{width}}  {text}" for name, (text, _, _) in COMMANDS.items())
    parser = _Parser(PROGRAM, DESCRIPTION, f"commands:\n{names}\n\n{EXAMPLE}")
    parser.option("--version", action="version", version=f"{PROGRAM} {__version__}")
    _globals(parser, None, False)
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.usage = f"{PROGRAM} [--engine E] [--config FILE] [--debug] COMMAND ..."
    return parser


def _command_parser(name: str) -> _Parser:
    description, example, arguments = COMMANDS[name]
    title = f"{description[0].upper()}{description[1:]}."
    parser = _Parser(f"{PROGRAM} {name}", title, f"example:\n  {example}")
    arguments(parser)
    # They may stand on either side of the command's name.
    _globals(parser, argparse.SUPPRESS, argparse.SUPPRESS)
    return parser


def _globals(parser: _Parser, text: object, flag: object) -> None:
    parser.option("--engine", default=text, metavar="E", help="docker, podman or the path of one")
    parser.option("--config", default=text, metavar="FILE", help="another configuration file")
    parser.option("--debug", action="store_true", default=flag, help="log everything to stderr")


def _suggestion(name: str) -> str:
    return _near(name, [*COMMANDS, *ALIASES]) or f"; there are {', '.join(COMMANDS)}"


def _near(word: str, words: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word.partition("=")[0], words, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
