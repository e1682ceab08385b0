"""Parses the command line in two steps.

First the global flags and the command's name, then that command's own arguments. So only one
command's parser is built, and a misspelled name gets a suggestion.
"""

from __future__ import annotations

import argparse
import sys

from claude_mcp import __version__
from claude_mcp.cli.flags import Invalid, Parser
from claude_mcp.cli.grammar import ALIASES, COMMANDS

PROGRAM = "claude-mcp"

DESCRIPTION = "Isolated Claude Code sessions in containers, for a terminal and as an MCP server."
EXAMPLE = """\
example:
  id=$(claude-mcp create ~/src/project)
  claude-mcp prompt $id 'Find out why the tests fail, and fix it'
  claude-mcp destroy $id

SESSION is a session's id, a unique prefix of it, or its name. Credentials come from the
environment, files or stdin, never from the command line itself.
"""


def parse(argv: list[str]) -> argparse.Namespace | int:
    """The arguments, including ``command``; or an exit code, if there is nothing left to do."""
    parser: Parser = global_parser()
    try:
        arguments = parser.parse_args(argv)
        if arguments.command is None:
            parser.print_help(sys.stderr)
            return 2
        name = ALIASES.get(arguments.command, arguments.command)
        if name not in COMMANDS:
            raise Invalid(f"there is no command {arguments.command!r}{_suggestion(name)}")
        parser = command_parser(name)
        # Options may stand between a session and its prompt; after SESSION of exec, everything
        # belongs to the command.
        take = parser.parse_known_args if name == "exec" else parser.parse_known_intermixed_args
        rest, unknown = take(arguments.rest, arguments)
        if unknown:
            raise Invalid(f"{unknown[0]!r} was not expected{_near(unknown[0], parser.options)}")
        rest.command = name
        if name == "exec":
            rest.words = _command_words(rest.words)
        return rest
    except Invalid as error:
        sys.stderr.write(f"{PROGRAM}: {error}\nSee '{parser.prog} --help'.\n")
        return 2
    except SystemExit as ending:  # --help and --version have printed
        return int(ending.code or 0)


def _command_words(words: list[str]) -> list[str]:
    if words and words[0] == "--":  # only some versions of argparse remove it
        return words[1:]
    if words and words[0].startswith("--"):
        raise Invalid(f"{words[0]!r} was not expected there: flags go before SESSION")
    return words


def global_parser() -> Parser:
    width = max(map(len, COMMANDS))
    names = "\n".join(f"  {name:{width}}  {text}" for name, (text, _, _) in COMMANDS.items())
    parser = Parser(PROGRAM, DESCRIPTION, f"commands:\n{names}\n\n{EXAMPLE}")
    parser.option("--version", action="version", version=f"{PROGRAM} {__version__}")
    _globals(parser, None, False)
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.usage = (
        f"{PROGRAM} [--engine E] [--engine-host URL] [--config FILE] [--debug] COMMAND ..."
    )
    return parser


def command_parser(name: str) -> Parser:
    description, example, arguments = COMMANDS[name]
    title = f"{description[0].upper()}{description[1:]}."
    parser = Parser(f"{PROGRAM} {name}", title, f"example:\n  {example}")
    arguments(parser)
    # Global flags may also stand after the command's name.
    _globals(parser, argparse.SUPPRESS, argparse.SUPPRESS)
    return parser


def _globals(parser: Parser, text: object, flag: object) -> None:
    parser.option(
        "--engine", default=text, metavar="E", help="docker, podman, a path to one, or kubernetes"
    )
    parser.option(
        "--engine-host",
        default=text,
        metavar="URL",
        help="the engine at unix://, tcp:// or ssh://",
    )
    parser.option(
        "--config",
        default=text,
        metavar="FILE",
        help="another configuration file",
    )
    parser.option("--debug", action="store_true", default=flag, help="log debug messages to stderr")


def _suggestion(name: str) -> str:
    return _near(name, [*COMMANDS, *ALIASES]) or f"; there are {', '.join(COMMANDS)}"


def _near(word: str, words: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word.partition("=")[0], words, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
