"""What is typed about a session's provider: never a secret, which others could read in ``ps``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from claude_mcp import config
from claude_mcp.errors import UsageError
from claude_mcp.sessions.providers.options import SECRET_OPTIONS, ProviderRequest


def parse_provider(arguments: argparse.Namespace) -> ProviderRequest:
    """What ``--provider`` and ``--provider-option`` say; see ``parse_options``."""
    return ProviderRequest(provider=arguments.provider, options=parse_options(arguments))


def parse_options(arguments: argparse.Namespace) -> dict[str, str]:
    """What ``--provider-option`` says, with the secrets read from where it says that they are.

    Raises:
        UsageError: an option is given twice or has no value, or a secret is not where it is said.
    """
    options: dict[str, str] = {}
    for typed in arguments.provider_option:
        name, equals, value = typed.partition("=")
        if not equals:
            raise UsageError("--provider-option takes NAME=VALUE.")
        if name in options:
            raise UsageError(f"--provider-option {name} is given twice.")
        options[name] = _secret(name, value) if name in SECRET_OPTIONS else value
    return options


def _secret(name: str, where: str) -> str:
    kind, _, place = where.partition(":")
    if where == "-":
        return sys.stdin.read()
    if kind == "env" and place:
        value = config.variable(place)
        if value is None:
            raise UsageError(f"{name}: there is no variable {place}.")
        return value
    if kind == "file" and place:
        try:
            return Path(place).expanduser().read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{name}: {place} cannot be read: {error.strerror}.") from error
        except ValueError as error:
            raise UsageError(f"{name}: {place} is not UTF-8 text.") from error
    raise UsageError(
        f"{name} is a secret, and everybody on this machine can read a command line.",
        hint=f"Give --provider-option {name}=env:VARIABLE, {name}=file:PATH or {name}=- (stdin).",
    )
