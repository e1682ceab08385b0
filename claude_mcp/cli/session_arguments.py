"""What the commands about whole sessions take, and those about their files and changes."""

from __future__ import annotations

from claude_mcp.cli.flags import Parser
from claude_mcp.cli.shared_arguments import (
    json_output,
    nothing,
    paths,
    provider_option,
    schema,
    session,
    verbose,
)


def create(parser: Parser) -> None:
    from claude_mcp.cli.options import add_options
    from claude_mcp.sessions.create.request import CreateRequest

    add_options(parser, CreateRequest, {"provider": _provider, "limits": _limits})
    verbose(parser)
    json_output(parser)


def _provider(parser: Parser) -> None:
    parser.option(
        "--provider",
        metavar="NAME",
        help="anthropic, bedrock, vertex or foundry, instead of the server's",
    )
    provider_option(parser, "option of that provider, such as region=eu-west-1")


def _limits(parser: Parser) -> None:
    from claude_mcp.cli.options import add_option
    from claude_mcp.sessions.create.request import LIMITS

    for limit in LIMITS.values():
        add_option(parser, limit)


def credentials(parser: Parser) -> None:
    from claude_mcp.cli.options import add_option
    from claude_mcp.sessions.create.request import CreateRequest
    from claude_mcp.sessions.option import options

    session(parser)
    provider_option(parser, "credential, such as apiKey=env:MY_KEY")
    add_option(parser, dict(options(CreateRequest))["mcp_config"])
    json_output(parser)


def run(parser: Parser) -> None:
    from claude_mcp.cli.options import add_options
    from claude_mcp.sessions.create.request import CreateRequest
    from claude_mcp.sessions.turns.options import TurnOptions

    add_options(parser, CreateRequest, {"provider": _provider, "limits": _limits})
    parser.add_argument(
        "prompt", metavar="PROMPT", nargs="?", help="the prompt; '-' or none: read from stdin"
    )
    # A session of one prompt has one model and one conversation.
    add_options(parser, TurnOptions, {"model": nothing, "new_conversation": nothing})
    schema(parser)
    parser.option(
        "--apply",
        metavar="HOW",
        help="work on a clone, and take the work as branch, merge or patch; none: take nothing",
    )
    parser.option("--patch", metavar="FILE", help="with --apply patch: the file to write")
    parser.option(
        "--commit",
        metavar="MESSAGE",
        help="with --apply: for what Claude left uncommitted; default: the prompt's first line",
    )
    parser.option("--force", action="store_true", help="with --patch: replace the file")
    parser.option("--keep", action="store_true", help="do not destroy the session")
    parser.option(
        "--output",
        metavar="FORM",
        default="text",
        help="text (default), json, or stream-json: one line for each event, then the result",
    )
    verbose(parser)
    parser.set_defaults(json=False)


def list_sessions(parser: Parser) -> None:
    parser.option(
        "--quick", action="store_true", help="do not ask the sessions what they are doing"
    )
    json_output(parser)


def show(parser: Parser) -> None:
    session(parser)
    json_output(parser)


def watch(parser: Parser) -> None:
    parser.set_defaults(json=False)


def stats(parser: Parser) -> None:
    parser.add_argument("sessions", metavar="SESSION", nargs="*", help="default: all sessions")
    parser.option(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=float,
        const=2.0,
        help="measure again after this pause (2), until 'q' or Ctrl-C",
    )
    json_output(parser)


def destroy(parser: Parser) -> None:
    parser.add_argument("sessions", metavar="SESSION", nargs="*")
    parser.option("--all", action="store_true", help="destroy all sessions")
    parser.option("--mine", action="store_true", help="destroy all that the command line created")
    parser.option("--yes", "-y", action="store_true", help="do not ask for confirmation")
    parser.option(
        "--force", "-f", action="store_true", help="also sessions with work that is nowhere else"
    )
    json_output(parser)


def prune(parser: Parser) -> None:
    parser.option("--dry-run", action="store_true", help="only print what would be removed")
    parser.option(
        "--force", "-f", action="store_true", help="also sessions with work that is nowhere else"
    )
    json_output(parser)


def copy(parser: Parser) -> None:
    parser.add_argument("source", metavar="SRC", help="local path, or SESSION:PATH")
    parser.add_argument("destination", metavar="DST", help="the other of the two")
    parser.option("--force", "--overwrite", action="store_true", help="replace existing files")
    parser.option("--parents", action="store_true", help="create missing directories")
    verbose(parser)
    json_output(parser)


def logs(parser: Parser) -> None:
    session(parser)
    parser.option("--tail", metavar="N", type=int, default=100, help="number of last lines (100)")
    parser.option(
        "--follow", "-f", action="store_true", help="print further lines as they are written"
    )
    json_output(parser)


def changes(parser: Parser) -> None:
    session(parser)
    paths(parser)
    parser.option("--turn", metavar="TURN", help="only what this turn changed")
    parser.option("--full", action="store_true", help="print the diff")
    parser.option("--offset", metavar="N", type=int, help="read on: files from N on, or characters")
    parser.option("--until", metavar="ID", help="of the state that the first part named")
    json_output(parser)


def apply(parser: Parser) -> None:
    session(parser)
    paths(parser)
    parser.option(
        "--mode",
        metavar="MODE",
        help="branch (default), merge, patch or files; --patch and PATH imply theirs",
    )
    parser.option("--branch", metavar="NAME", help="the branch on the host (claude/SESSION)")
    parser.option(
        "--commit", metavar="MESSAGE", help="first commit all that is uncommitted in the session"
    )
    parser.option("--patch", metavar="FILE", help="write a patch")
    parser.option("--force", action="store_true", help="replace the patch, or changed files")
    verbose(parser)
    json_output(parser)


def discard(parser: Parser) -> None:
    session(parser)
    paths(parser)
    parser.option("--turn", metavar="TURN", help="back to before this turn")
    json_output(parser)
