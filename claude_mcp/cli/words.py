"""The command line's words for what messages name as the tools do."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Final

OTHERS: Final[Mapping[str, str]] = {
    "engine": "--engine",
    "provider": "--provider",
    "waitSeconds": "--wait",
    "sourcePath": "SRC",
    "destPath": "DST",
    "commit": "--commit",
    "set_credentials": "'claude-mcp credentials'",
}
"""What neither a request nor a provider declares."""


def word(name: str) -> str:
    """What a terminal calls an argument, a provider's option or a tool."""
    return _words().get(name, name)


@functools.cache
def _words() -> Mapping[str, str]:
    return {**dict(_of_providers()), **dict(_of_requests()), **OTHERS}


def _of_providers() -> Iterator[tuple[str, str]]:
    from claude_mcp.sessions.providers.options import ARGUMENTS, OPTIONS

    for options in OPTIONS.values():
        yield from ((name, _provider_option(name)) for name in options)
    yield from ((name, _provider_option(option)) for name, (_, option) in ARGUMENTS.items())


def _provider_option(name: str) -> str:
    from claude_mcp.sessions.providers.options import SECRET_OPTIONS

    return f"--provider-option {name}={'env:VARIABLE' if name in SECRET_OPTIONS else 'VALUE'}"


def _of_requests() -> Iterator[tuple[str, str]]:
    from claude_mcp.contract.messages import key
    from claude_mcp.sessions.create.request import LIMITS, CreateRequest
    from claude_mcp.sessions.option import options
    from claude_mcp.sessions.turns.options import TurnOptions

    yield from ((f"limits.{name}", option.flag) for name, option in LIMITS.items())
    for request in (CreateRequest, TurnOptions):
        for name, option in options(request):
            if option.flag:
                yield option.argument or key(name), option.flag
