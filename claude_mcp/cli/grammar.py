"""What each command takes.

Each command is declared once, in ``COMMANDS``; the options of a session and of a turn come from
their declarations in ``sessions``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from claude_mcp.cli.flags import Parser


def _nothing(parser: Parser) -> None:
    pass


def _serve(parser: Parser) -> None:
    parser.option("--http", action="store_true", help="serve Streamable HTTP at /mcp")
    parser.option(
        "--host",
        metavar="ADDRESS",
        help="listen there (default: 127.0.0.1); anything but the loopback needs a token",
    )
    parser.option("--port", metavar="N", type=_port, help="listen at this port (default: 8765)")


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError(text)
    return port


def _create(parser: Parser) -> None:
    from claude_mcp.cli.options import add_options
    from claude_mcp.sessions.create.request import CreateRequest

    add_options(parser, CreateRequest, {"provider": _provider, "limits": _limits})
    _verbose(parser)
    _json(parser)


def _provider(parser: Parser) -> None:
    parser.option(
        "--provider",
        metavar="NAME",
        help="anthropic, bedrock, vertex or foundry, instead of the server's",
    )
    _provider_option(parser, "option of that provider, such as region=eu-west-1")


def _limits(parser: Parser) -> None:
    from claude_mcp.cli.options import add_option
    from claude_mcp.sessions.create.request import LIMITS

    for limit in LIMITS.values():
        add_option(parser, limit)


def _credentials(parser: Parser) -> None:
    from claude_mcp.cli.options import add_option
    from claude_mcp.sessions.create.request import CreateRequest
    from claude_mcp.sessions.option import options

    _session(parser)
    _provider_option(parser, "credential, such as apiKey=env:MY_KEY")
    add_option(parser, dict(options(CreateRequest))["mcp_config"])
    _json(parser)


def _prompt(parser: Parser) -> None:
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
    _schema(parser)
    parser.option(
        "--turn-id", metavar="UUID", help="repeating the command with it never sends it twice"
    )
    parser.option("--queue", action="store_true", help="queue the prompt if another turn runs")
    _wait(parser)
    parser.option("--detach", action="store_true", help="print the turn's id and do not wait")
    parser.option(
        "--answerable",
        action="store_true",
        help="Claude may ask questions even if nobody is at the terminal; 'respond' answers them",
    )
    _verbose(parser)
    _json(parser)


def _run(parser: Parser) -> None:
    from claude_mcp.cli.options import add_options
    from claude_mcp.sessions.create.request import CreateRequest
    from claude_mcp.sessions.turns.options import TurnOptions

    add_options(parser, CreateRequest, {"provider": _provider, "limits": _limits})
    parser.add_argument(
        "prompt", metavar="PROMPT", nargs="?", help="the prompt; '-' or none: read from stdin"
    )
    # A session of one prompt has one model and one conversation.
    add_options(parser, TurnOptions, {"model": _nothing, "new_conversation": _nothing})
    _schema(parser)
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
    _verbose(parser)
    parser.set_defaults(json=False)


def _schema(parser: Parser) -> None:
    parser.option("--output-schema", metavar="FILE", help="JSON Schema that the answer must follow")


def _turn(parser: Parser) -> None:
    _session(parser)
    parser.add_argument("turn", metavar="TURN", nargs="?", help="turn id; default: the latest")
    _wait(parser)
    parser.option(
        "--cursor", metavar="N", type=int, help="wait for events after number N and print them"
    )
    parser.option("--event", metavar="N", type=int, help="print only event N, in full")
    parser.option(
        "--follow", "-f", action="store_true", help="print its events as they happen, to its end"
    )
    _verbose(parser)
    _json(parser)


def _turns(parser: Parser) -> None:
    _session(parser)
    parser.option("--cursor", metavar="TURN", help="list the turns that are older than this one")
    parser.option(
        "--limit", metavar="N", type=int, default=20, help="how many at most, up to 100 (20)"
    )
    _json(parser)


def _cancel(parser: Parser) -> None:
    _session(parser)
    parser.add_argument(
        "turn", metavar="TURN", nargs="?", help="turn id; default: the running turn"
    )
    _json(parser)


def _respond(parser: Parser) -> None:
    _session(parser)
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
    _json(parser)


def _exec(parser: Parser) -> None:
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
    _json(parser)
    _session(parser)
    parser.add_argument(
        "words",
        metavar="COMMAND",
        nargs=argparse.REMAINDER,
        help="one word: a shell command; several: a program and its arguments",
    )


def _command(parser: Parser) -> None:
    _session(parser)
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
    _json(parser)


def _commands(parser: Parser) -> None:
    _session(parser)
    _json(parser)


def _stop_command(parser: Parser) -> None:
    _session(parser)
    parser.add_argument("id", metavar="ID", help="command id")
    _json(parser)


def _list(parser: Parser) -> None:
    parser.option(
        "--quick", action="store_true", help="do not ask the sessions what they are doing"
    )
    _json(parser)


def _show(parser: Parser) -> None:
    _session(parser)
    _json(parser)


def _watch(parser: Parser) -> None:
    parser.set_defaults(json=False)


def _stats(parser: Parser) -> None:
    parser.add_argument("sessions", metavar="SESSION", nargs="*", help="default: all sessions")
    parser.option(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=float,
        const=2.0,
        help="measure again after this pause (2), until 'q' or Ctrl-C",
    )
    _json(parser)


def _destroy(parser: Parser) -> None:
    parser.add_argument("sessions", metavar="SESSION", nargs="*")
    parser.option("--all", action="store_true", help="destroy all sessions")
    parser.option("--mine", action="store_true", help="destroy all that the command line created")
    parser.option("--yes", "-y", action="store_true", help="do not ask for confirmation")
    parser.option(
        "--force", "-f", action="store_true", help="also sessions with work that is nowhere else"
    )
    _json(parser)


def _prune(parser: Parser) -> None:
    parser.option("--dry-run", action="store_true", help="only print what would be removed")
    parser.option(
        "--force", "-f", action="store_true", help="also sessions with work that is nowhere else"
    )
    _json(parser)


def _copy(parser: Parser) -> None:
    parser.add_argument("source", metavar="SRC", help="local path, or SESSION:PATH")
    parser.add_argument("destination", metavar="DST", help="the other of the two")
    parser.option("--force", "--overwrite", action="store_true", help="replace existing files")
    parser.option("--parents", action="store_true", help="create missing directories")
    _verbose(parser)
    _json(parser)


def _logs(parser: Parser) -> None:
    _session(parser)
    parser.option("--tail", metavar="N", type=int, default=100, help="number of last lines (100)")
    parser.option(
        "--follow", "-f", action="store_true", help="print further lines as they are written"
    )
    _json(parser)


def _changes(parser: Parser) -> None:
    _session(parser)
    _paths(parser)
    parser.option("--turn", metavar="TURN", help="only what this turn changed")
    parser.option("--full", action="store_true", help="print the diff")
    parser.option("--offset", metavar="N", type=int, help="read on: files from N on, or characters")
    parser.option("--until", metavar="ID", help="of the state that the first part named")
    _json(parser)


def _apply(parser: Parser) -> None:
    _session(parser)
    _paths(parser)
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
    _verbose(parser)
    _json(parser)


def _discard(parser: Parser) -> None:
    _session(parser)
    _paths(parser)
    parser.option("--turn", metavar="TURN", help="back to before this turn")
    _json(parser)


def _paths(parser: Parser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="*", help="relative to /workspace")


def _config(parser: Parser) -> None:
    parser.add_argument("action", metavar="ACTION", nargs="?", help="set or unset; none: show")
    parser.add_argument("name", metavar="NAME", nargs="?", help="such as ANTHROPIC_MODEL")
    parser.add_argument(
        "value", metavar="VALUE", nargs="?", help="a secret: env:VARIABLE, file:PATH or '-' (stdin)"
    )
    parser.option("--all", action="store_true", help="also what has its default")
    _json(parser)


def _completion(parser: Parser) -> None:
    parser.add_argument(
        "shell", metavar="SHELL", help="bash, zsh or fish; 'names' prints the sessions' names"
    )


def _doctor(parser: Parser) -> None:
    _json(parser)


def _image(parser: Parser) -> None:
    parser.add_argument("action", metavar="ACTION", help="build, pull, list or check")
    parser.add_argument(
        "image", metavar="IMAGE", nargs="?", help="default: the image that sessions use"
    )
    parser.option("--base", metavar="IMAGE", help="build: another Debian image to begin with")
    parser.option(
        "--extra-ca",
        metavar="FILE",
        action="append",
        default=[],
        help="build: certificates to trust (PEM); may be repeated",
    )
    parser.option("--rebuild", action="store_true", help="build: from the beginning, without cache")
    parser.option(
        "--target",
        metavar="WHICH",
        choices=("session", "server"),
        default="session",
        help="build: session (default), or server: the image of the MCP server",
    )
    _verbose(parser)
    _json(parser)


def _install(parser: Parser) -> None:
    parser.add_argument(
        "client", metavar="CLIENT", nargs="?", help="none: show the clients and their state"
    )
    parser.option("--print", action="store_true", help="print the entry, for any other client")
    _file_change(parser)


def _uninstall(parser: Parser) -> None:
    parser.add_argument("client", metavar="CLIENT", help="as for install")
    _file_change(parser)


def _file_change(parser: Parser) -> None:
    parser.option("--yes", "-y", action="store_true", help="do not ask for confirmation")
    parser.option("--dry-run", action="store_true", help="only show the change")
    _json(parser)


def _session(parser: Parser) -> None:
    parser.add_argument("session", metavar="SESSION", help="session id, unique prefix, or name")


def _provider_option(parser: Parser, what: str) -> None:
    parser.option(
        "--provider-option",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help=f"{what}; give secrets as env:VARIABLE, file:PATH or '-' (stdin); may be repeated",
    )


def _json(parser: Parser) -> None:
    parser.option("--json", action="store_true", help="print JSON, as the MCP tools return it")


def _wait(parser: Parser) -> None:
    parser.option(
        "--wait",
        metavar="SECONDS",
        type=float,
        help="stop waiting after this time (exit code 8); the turn continues",
    )


def _verbose(parser: Parser) -> None:
    parser.option(
        "--verbose",
        "-v",
        action="store_true",
        help="report progress in rows, even without a terminal",
    )
    parser.option("--quiet", "-q", action="store_true", help="report no progress on a terminal")


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
    "run": (
        "create a session, send one prompt, take the work, destroy the session",
        "claude-mcp run . 'Fix the failing tests' --apply branch\n"
        "  claude-mcp run . 'Which licences do our dependencies have?' --apply none",
        _run,
    ),
    "turn": (
        "wait for a turn, or show its events",
        "claude-mcp turn fix-tests\n  claude-mcp turn fix-tests --cursor 0 --json",
        _turn,
    ),
    "turns": (
        "list a session's turns, newest first",
        "claude-mcp turns fix-tests --limit 5",
        _turns,
    ),
    "cancel": ("interrupt a turn", "claude-mcp cancel fix-tests", _cancel),
    "respond": (
        "answer a permission request or a question of Claude",
        "claude-mcp respond fix-tests 3f0c9a41b27e --deny --message 'Not in that directory'\n"
        "  claude-mcp respond fix-tests 3f0c9a41b27e --answer SQLite --answer 'Only in tests'",
        _respond,
    ),
    "credentials": (
        "set a session's credentials or MCP servers",
        "claude-mcp credentials fix-tests --provider-option apiKey=env:MY_KEY",
        _credentials,
    ),
    "exec": (
        "run a command in a session and return its exit code",
        "claude-mcp exec fix-tests 'make test 2>&1 | tail'\n"
        "  claude-mcp exec --timeout 60 fix-tests -- grep -rn 'to do' src\n"
        "  claude-mcp exec --detach fix-tests 'npm run dev'",
        _exec,
    ),
    "command": (
        "wait for a command, or follow its output",
        "claude-mcp command fix-tests --follow",
        _command,
    ),
    "commands": ("list a session's latest commands", "claude-mcp commands fix-tests", _commands),
    "stop-command": (
        "kill a command and everything that it started",
        "claude-mcp stop-command fix-tests 2b1f6a52-9f0c-4a4e-8a3e-6c5d1a7d1d55",
        _stop_command,
    ),
    "show": (
        "show all that is known of one session",
        "claude-mcp show fix-tests\n  claude-mcp show . --json",
        _show,
    ),
    "watch": (
        "show all sessions live on the whole terminal, and act on one",
        "claude-mcp watch",
        _watch,
    ),
    "stats": (
        "measure what sessions take of the host",
        "claude-mcp stats\n  claude-mcp stats fix-tests --watch",
        _stats,
    ),
    "list": ("list all sessions", "claude-mcp list --json", _list),
    "destroy": (
        "remove sessions with all their data, except the projects",
        "claude-mcp destroy fix-tests 4f2a",
        _destroy,
    ),
    "prune": (
        "remove sessions that have expired or are broken",
        "claude-mcp prune --dry-run",
        _prune,
    ),
    "copy": (
        "copy files into or out of a session",
        "claude-mcp copy data.csv fix-tests:/tmp/\n  claude-mcp copy fix-tests:/tmp/report.html .",
        _copy,
    ),
    "changes": (
        "show what a session changed",
        "claude-mcp changes fix-tests\n  claude-mcp changes fix-tests src --full",
        _changes,
    ),
    "apply": (
        "bring the commits of a session's clone to the project",
        "claude-mcp apply fix-tests --commit 'Fix the tests'\n"
        "  claude-mcp apply fix-tests --mode merge",
        _apply,
    ),
    "discard": (
        "bring a session's files back to an earlier state",
        "claude-mcp discard fix-tests src",
        _discard,
    ),
    "logs": ("print a session's log", "claude-mcp logs fix-tests --tail 20", _logs),
    "doctor": (
        "check engine, image and credentials, and say what to fix",
        "claude-mcp doctor",
        _doctor,
    ),
    "attach": (
        "talk to a session's Claude Code on this terminal",
        "claude-mcp attach fix-tests",
        _session,
    ),
    "shell": ("open a shell in a session on this terminal", "claude-mcp shell .", _session),
    "config": (
        "show what is configured and where it comes from, or change the file",
        "claude-mcp config\n  claude-mcp config set CLAUDE_MCP_MEMORY 4g\n"
        "  claude-mcp config set HTTPS_PROXY file:proxy.txt",
        _config,
    ),
    "completion": (
        "print a script with which a shell completes commands and sessions",
        'eval "$(claude-mcp completion bash)"\n  claude-mcp completion fish | source',
        _completion,
    ),
    "image": (
        "build, fetch, list or check session images",
        "claude-mcp image build\n  claude-mcp image check registry.example.com/claude:2",
        _image,
    ),
    "install": (
        "add the server to an MCP client, such as cursor",
        "claude-mcp install\n  claude-mcp install claude-desktop",
        _install,
    ),
    "uninstall": (
        "take the server out of an MCP client",
        "claude-mcp uninstall claude-desktop",
        _uninstall,
    ),
    "serve": (
        "serve MCP on stdin and stdout, for programs such as Claude Desktop, or over HTTP",
        "claude-mcp --engine podman serve",
        _serve,
    ),
}
ALIASES = {
    "create-session": "create",
    "execute": "prompt",
    "ls": "list",
    "cp": "copy",
    "rm": "destroy",
}
