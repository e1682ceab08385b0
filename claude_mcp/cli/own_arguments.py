"""What the commands about this program itself take: its server, configuration and images."""

from __future__ import annotations

from claude_mcp.cli.flags import Parser
from claude_mcp.cli.shared_arguments import json_output, verbose


def serve(parser: Parser) -> None:
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


def config(parser: Parser) -> None:
    parser.add_argument("action", metavar="ACTION", nargs="?", help="set or unset; none: show")
    parser.add_argument("name", metavar="NAME", nargs="?", help="such as ANTHROPIC_MODEL")
    parser.add_argument(
        "value", metavar="VALUE", nargs="?", help="a secret: env:VARIABLE, file:PATH or '-' (stdin)"
    )
    parser.option("--all", action="store_true", help="also what has its default")
    json_output(parser)


def completion(parser: Parser) -> None:
    parser.add_argument(
        "shell", metavar="SHELL", help="bash, zsh or fish; 'names' prints the sessions' names"
    )


def doctor(parser: Parser) -> None:
    json_output(parser)


def image(parser: Parser) -> None:
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
    verbose(parser)
    json_output(parser)


def install(parser: Parser) -> None:
    parser.add_argument(
        "client", metavar="CLIENT", nargs="?", help="none: show the clients and their state"
    )
    parser.option("--print", action="store_true", help="print the entry, for any other client")
    _file_change(parser)


def uninstall(parser: Parser) -> None:
    parser.add_argument("client", metavar="CLIENT", help="as for install")
    _file_change(parser)


def _file_change(parser: Parser) -> None:
    parser.option("--yes", "-y", action="store_true", help="do not ask for confirmation")
    parser.option("--dry-run", action="store_true", help="only show the change")
    json_output(parser)
