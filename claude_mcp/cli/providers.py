"""The provider's options as typed; never a secret, which other users could read in ``ps``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from claude_mcp import config
from claude_mcp.errors import UsageError
from claude_mcp.sessions.providers.options import SECRET_OPTIONS, ProviderRequest


def parse_provider(arguments: argparse.Namespace) -> ProviderRequest:
    """``--provider`` and ``--provider-option``; see ``parse_options``."""
    return ProviderRequest(provider=arguments.provider, options=parse_options(arguments))


def parse_options(arguments: argparse.Namespace) -> dict[str, str]:
    """``--provider-option``, with secrets read from the variable, file or stdin that it names.

    Raises:
        UsageError: an option is given twice or has no value, or a secret cannot be read.
    """
    options: dict[str, str] = {}
    for typed in arguments.provider_option:
        name, equals, value = typed.partition("=")
        if not equals:
            raise UsageError("--provider-option takes NAME=VALUE.")
        if name in options:
            raise UsageError(f"--provider-option {name} is given twice.")
        options[name] = _value(name, value)
    return options


def _value(name: str, typed: str) -> str:
    """The value of one option. An address may be typed, unless it contains a password."""
    if name == "baseUrl" and not typed.startswith(("env:", "file:")) and typed != "-":
        if "@" not in typed:
            return typed
        raise UsageError(
            "baseUrl with a user or password is a secret, and other users of this machine can "
            "read the command line.",
            hint="Pass --provider-option baseUrl=env:VARIABLE, baseUrl=file:PATH or baseUrl=- "
            "(stdin).",
        )
    if name not in (*SECRET_OPTIONS, "baseUrl"):
        return typed
    forms = f"--provider-option {name}=env:VARIABLE, {name}=file:PATH or {name}=- (stdin)"
    return secret(name, typed, forms)


def secret(name: str, where: str, forms: str) -> str:
    """The secret in a variable, a file or stdin; ``forms`` says how to pass it.

    Raises:
        UsageError: it was typed itself, or cannot be read.
    """
    kind, _, place = where.partition(":")
    if where == "-":
        return sys.stdin.read()
    if kind == "env" and place:
        value = config.variable(place)
        if value is None:
            raise UsageError(f"{name}: the environment variable {place} is not set.")
        return value
    if kind == "file" and place:
        try:
            return Path(place).expanduser().read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{name}: {place} cannot be read: {error.strerror}.") from error
        except ValueError as error:
            raise UsageError(f"{name}: {place} is not valid UTF-8.") from error
    raise UsageError(
        f"{name} is a secret, and other users of this machine can read the command line.",
        hint=f"Pass {forms}.",
    )
