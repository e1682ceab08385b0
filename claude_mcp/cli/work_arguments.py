"""What the commands about turns take, and those about shell commands in a session."""

from __future__ import annotations

import argparse

from claude_mcp.cli.flags import Parser
from claude_mcp.cli.shared_arguments import json_output, schema, session, verbose, wait


def prompt(parser: Parser) -> None:
    from claude_mcp.cli.options import add_options
    from claude_mcp.sessions.turns.options import TurnOptions

    parser.add_argument(
        "session",
        metavar="SESSION",
        nargs="?",
        help="session id, unique prefix, or name; default: the only one of this directory",
    )
    parser.add_argument(
        "prompt", metavar="PROMPT", nargs="?", help="the prompt; '-' or none: read from stdin"
    )
    add_options(parser, TurnOptions, {})
    schema(parser)
    parser.option(
        "--turn-id", metavar="UUID", help="repeating the command with it never sends it twice"
    )
    parser.option("--queue", action="store_true", help="queue the prompt if another turn runs")
    wait(parser)
    parser.option("--detach", action="store_true", help="print the turn's id and do not wait")
    parser.option(
        "--answerable",
        action="store_true",
        help="Claude may ask questions even if nobody is at the terminal; 'respond' answers them",
    )
    verbose(parser)
    json_output(parser)


def turn(parser: Parser) -> None:
    session(parser)
    parser.add_argument("turn", metavar="TURN", nargs="?", help="turn id; default: the latest")
    wait(parser)
    parser.option(
        "--cursor", metavar="N", type=int, help="wait for events after number N and print them"
    )
    parser.option("--event", metavar="N", type=int, help="print only event N, in full")
    parser.option(
        "--follow", "-f", action="store_true", help="print its events as they happen, to its end"
    )
    verbose(parser)
    json_output(parser)


def turns(parser: Parser) -> None:
    session(parser)
    parser.option("--cursor", metavar="TURN", help="list the turns that are older than this one")
    parser.option(
        "--limit", metavar="N", type=int, default=20, help="how many at most, up to 100 (20)"
    )
    json_output(parser)


def cancel(parser: Parser) -> None:
    session(parser)
    parser.add_argument(
        "turn", metavar="TURN", nargs="?", help="turn id; default: the running turn"
    )
    json_output(parser)


def respond(parser: Parser) -> None:
    session(parser)
    parser.add_argument("request", metavar="REQUEST", help="id of the request")
    parser.option("--allow", action="store_true", help="allow the action, or approve the plan")
    parser.option("--deny", action="store_true", help="deny it; Claude continues without it")
    parser.option(
        "--answer",
        metavar="TEXT",
        action="append",
        help="the answer to a question; once for each, in order",
    )
    parser.option("--message", metavar="TEXT", help="with --deny: the reason, for Claude")
    json_output(parser)


def execute(parser: Parser) -> None:
    parser.option("--timeout", metavar="SECONDS", type=float, help="kill it after this time")
    parser.option("--workdir", metavar="DIR", help="directory to run in (/workspace)")
    parser.option(
        "--wait",
        metavar="SECONDS",
        type=float,
        help="stop waiting after this time (exit code 8); the command continues",
    )
    parser.option("--detach", action="store_true", help="run it in the background and print its id")
    parser.option(
        "--command-id", metavar="UUID", help="repeating the command with it never runs it twice"
    )
    parser.option("--stdin", action="store_true", help="pass this command's stdin on to it")
    parser.option("--tty", action="store_true", help="give it a terminal of this terminal's size")
    json_output(parser)
    session(parser)
    parser.add_argument(
        "words",
        metavar="COMMAND",
        nargs=argparse.REMAINDER,
        help="one word: a shell command; several: a program and its arguments",
    )


def command(parser: Parser) -> None:
    session(parser)
    parser.add_argument("id", metavar="ID", nargs="?", help="command id; default: the latest")
    parser.option(
        "--wait", metavar="SECONDS", type=float, help="stop waiting after this time (exit code 8)"
    )
    parser.option(
        "--follow", "-f", action="store_true", help="print its output as it comes, until the end"
    )
    parser.option(
        "--cursor", metavar="N", type=int, help="wait for output after position N and print that"
    )
    parser.option("--input", metavar="TEXT", help="first write this to its stdin")
    parser.option("--end-input", action="store_true", help="then close its stdin")
    json_output(parser)


def commands(parser: Parser) -> None:
    session(parser)
    json_output(parser)


def stop_command(parser: Parser) -> None:
    session(parser)
    parser.add_argument("id", metavar="ID", help="command id")
    json_output(parser)
