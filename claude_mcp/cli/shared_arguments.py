"""Arguments that several commands take."""

from __future__ import annotations

from claude_mcp.cli.flags import Parser


def nothing(parser: Parser) -> None:
    pass


def schema(parser: Parser) -> None:
    parser.option("--output-schema", metavar="FILE", help="JSON Schema that the answer must follow")


def paths(parser: Parser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="*", help="relative to /workspace")


def session(parser: Parser) -> None:
    parser.add_argument("session", metavar="SESSION", help="session id, unique prefix, or name")


def provider_option(parser: Parser, what: str) -> None:
    parser.option(
        "--provider-option",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help=f"{what}; give secrets as env:VARIABLE, file:PATH or '-' (stdin); may be repeated",
    )


def json_output(parser: Parser) -> None:
    parser.option("--json", action="store_true", help="print JSON, as the MCP tools return it")


def wait(parser: Parser) -> None:
    parser.option(
        "--wait",
        metavar="SECONDS",
        type=float,
        help="stop waiting after this time (exit code 8); the turn continues",
    )


def verbose(parser: Parser) -> None:
    parser.option(
        "--verbose",
        "-v",
        action="store_true",
        help="report progress in rows, even without a terminal",
    )
    parser.option("--quiet", "-q", action="store_true", help="report no progress on a terminal")
