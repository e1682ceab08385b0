"""The look for a session's provider: its own options first, then the server's settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from claude_mcp.config import Config
from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.sessions.providers import addresses
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.providers.options import Settled

_KEY: Final = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Found:
    """A credential, whose it is, and the provider's own part of the handover."""

    source: CredentialSource
    credential: Mapping[str, Any] | None = field(repr=False)
    handover: Mapping[str, Any]


@dataclass(slots=True)
class Search:
    """What is wrong is gathered in ``problems``, so that all of it can be told at once."""

    config: Config
    dialect: Dialect
    settled: Settled
    problems: list[str]
    warnings: list[str] = field(default_factory=list)
    translated: bool = False
    """An address of this host was written as the container must write it."""

    def option(self, name: str) -> str | None:
        return self.settled.options.get(name)

    def variable(self, *names: str) -> tuple[str, str] | None:
        """The first of the cloud's variables that is set, with its name."""
        return next(((n, self.config.cloud[n]) for n in names if n in self.config.cloud), None)

    def secret(self, name: str) -> str | None:
        secret = self.config.cloud_secrets.get(name)
        return secret.reveal() if secret else None

    def key(self, told: str, value: str) -> str:
        """A key as it was given; what no key can hold would break a header or a file."""
        if value and not _KEY.fullmatch(value):
            self.problems.append(f"{told} holds blanks or characters that no key has.")
        return value

    def address(self, told: str, value: str, *, scheme_optional: bool = False) -> str:
        """An address as the container must write it."""
        written, differs = addresses.in_container(
            told,
            value,
            self.dialect,
            self.problems,
            self.warnings,
            scheme_optional=scheme_optional,
        )
        self.translated |= differs
        return written

    def base_url(
        self,
        variable: str,
        source: CredentialSource,
        servers: str | None = None,
        *,
        holds_password: bool = False,
    ) -> str | None:
        """The session's own, which the server's credential never goes to, or the server's.

        A password in it becomes an Authorization header, of which a request has one.
        """
        told, found = "baseUrl", self.option("baseUrl")
        if found is None:
            told = variable
            found = servers if servers is not None else self.config.cloud.get(variable)
        elif source is not CredentialSource.SESSION:
            self.problems.append(own_credential("baseUrl"))
        if found is None or (not found and told == "baseUrl"):
            return found
        written = self.address(told, found)
        if addresses.secrets_of(found) and not holds_password:
            self.problems.append(
                f"{told} holds a password, and the credential takes its place in each request."
            )
        return written

    def place(
        self,
        option: str,
        form: re.Pattern[str],
        variables: tuple[str, ...],
        missing: str,
        further: tuple[str, str] | None = None,
    ) -> str | None:
        """A region, project or the like; ``further`` is where else it can come from."""
        own = self.option(option)
        told = self.settled.told_as.get(option, option)
        found = (told, own) if own is not None else self.variable(*variables) or further
        if found is None:
            self.problems.append(missing)
            return None
        if found[1] and not form.fullmatch(found[1]):
            self.problems.append(f"{found[0]} has not the form of a {option}.")
        return found[1]


def own_credential(option: str) -> str:
    return (
        f"A session with a {option} of its own needs a credential of its own: the server's goes "
        "to no address that a caller chose."
    )
