"""Looks up a provider's values: the session's own options first, then the server's settings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from claude_mcp.config import Config
from claude_mcp.contract.handover import Credential
from claude_mcp.contract.wording import named
from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.sessions.providers import addresses
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.providers.options import ChosenOptions

MAX_KEY_CHARS: Final = 64 * 1024
"""Longer than any key or token that a service takes."""

_KEY: Final = re.compile(r"[!-~]+")
_NOT_EXPANDED: Final = re.compile(r"\$\{[^{}]*\}|\$[A-Z][A-Z0-9_]*|%[A-Za-z_]\w*%|\{\{.*\}\}")
_PLACEHOLDER: Final = re.compile(
    r"<[^<>]*>|.*(?:\.\.\.|\u2026)|sk-ant-|(?:sk-ant-)?(?:[x*]{3,}|"
    r"your[-_ ](?:\w+[-_ ])*?(?:key|token|secret)\b.*)",
    re.IGNORECASE,
)
_QUOTES: Final = ('""', "''", "\u201c\u201d", "\u2018\u2019", "``")


@dataclass(frozen=True, slots=True)
class Found:
    """A provider's credential, where it comes from, and where requests go."""

    source: CredentialSource
    credential: Credential | None = field(repr=False)
    base_url: str | None = field(default=None, repr=False)
    region: str | None = None
    project_id: str | None = None
    resource: str | None = None
    metadata_host: str | None = None


@dataclass(slots=True)
class Lookup:
    """Collects ``problems`` instead of raising, so that all of them are reported at once."""

    config: Config
    dialect: Dialect
    chosen: ChosenOptions
    problems: list[str]
    warnings: list[str] = field(default_factory=list)
    translated: bool = False
    """A loopback address of the host was replaced by the name the container knows it by."""

    def option(self, name: str) -> str | None:
        return self.chosen.options.get(name)

    def variable(self, *names: str) -> tuple[str, str] | None:
        """Name and value of the first of these cloud variables that is set."""
        return next(((n, self.config.cloud[n]) for n in names if n in self.config.cloud), None)

    def secret(self, name: str) -> str | None:
        secret = self.config.cloud_secrets.get(name)
        return secret.reveal() if secret else None

    def key(self, name: str, value: str) -> str:
        """Check a key: other characters would break a header or a credentials file."""
        if len(value) > MAX_KEY_CHARS:
            self.problems.append(f"{name} is longer than {MAX_KEY_CHARS} characters.")
        elif wrong := value and not_a_value(value):
            self.problems.append(f"{name} {wrong}")
        elif value and not _KEY.fullmatch(value):
            self.problems.append(f"{name} contains spaces or invalid characters.")
        return value

    def address(self, name: str, value: str, *, scheme_optional: bool = False) -> str:
        """The URL to use inside the container."""
        written, differs = addresses.in_container(
            name,
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
        password_allowed: bool = False,
    ) -> str | None:
        """The session's own base URL or the server's.

        The server's credential is never sent to a session's own URL. A password in the URL becomes
        the Authorization header, so it excludes any credential that needs this header as well.
        """
        name, found = "baseUrl", self.option("baseUrl")
        if found is None:
            name = variable
            found = servers if servers is not None else self.config.cloud.get(variable)
        elif source is not CredentialSource.SESSION:
            self.problems.append(needs_own_credential(named("baseUrl")))
        if found is None or (not found and name == "baseUrl"):
            return found
        written = self.address(name, found)
        if addresses.secrets_of(found) and not password_allowed:
            self.problems.append(
                f"{name} contains a password, but requests already carry the credential. "
                "Remove one of them."
            )
        return written

    def place(
        self,
        option: str,
        pattern: re.Pattern[str],
        variables: tuple[str, ...],
        missing: str,
        fallback: tuple[str, str] | None = None,
    ) -> str | None:
        """A region, project or resource; ``fallback`` is a name and a value, like a variable."""
        own = self.option(option)
        given_as = self.chosen.given_as.get(option, option)
        found = (given_as, own) if own is not None else self.variable(*variables) or fallback
        if found is None:
            self.problems.append(missing)
            return None
        name, value = found
        if value and not pattern.fullmatch(value):
            self.problems.append(f"{name} is not a valid {option}.")
        return value

    def read(self, name: str, path: str) -> str | None:
        """The text of a file that the variable ``name`` refers to."""
        try:
            return Path(path).expanduser().read_text(encoding="utf-8")
        except OSError as error:
            self.problems.append(f"{name}: {path} cannot be read: {error.strerror}.")
        except (UnicodeDecodeError, ValueError):
            self.problems.append(f"{name}: {path} is not UTF-8 text.")
        return None


def not_a_value(text: str) -> str | None:
    """What a text is that stands where a value was meant to be; None if it may be a value."""
    if _NOT_EXPANDED.fullmatch(text):
        return (
            "is the name of a variable, not its value: the program that passed it on has not "
            "replaced it. Write the value itself there, or set it in the configuration file."
        )
    if text[:1] + text[-1:] in _QUOTES:
        return "is in quotation marks, which would be sent along. Remove them."
    if _PLACEHOLDER.fullmatch(text):
        return "is a placeholder from an example. Replace it with a real value."
    return None


def needs_own_credential(option: str) -> str:
    return (
        f"A session with its own {option} needs its own credential: the server's credential is "
        "never sent to an address that a caller chose."
    )
