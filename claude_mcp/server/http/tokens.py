"""Tokens of clients, and what each allows.

The operator's token sees all sessions, as the command line does. A named token has sessions of its
own, and may have directories, tools and limits of its own.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from claude_mcp.config import Config
from claude_mcp.config_names import TOKEN_FILE_NAME, TOKENS_FILE_NAME
from claude_mcp.credentials import Secret
from claude_mcp.errors import ConfigError, UsageError
from claude_mcp.server.tools import BY_NAME
from claude_mcp.sessions.create.request import LIMITS
from claude_mcp.sessions.limits import check_configured

MIN_TOKEN_CHARS: Final = 16
MAX_FILE_BYTES: Final = 1024 * 1024

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_KEYS: Final = (
    "token", "sha256", "subject", "roots", "tools", "max_sessions", *LIMITS
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Grant:
    """What a caller may do. Without an owner, it is the operator, who may do anything."""

    owner: str = ""
    roots: tuple[str, ...] = ()
    """Instead of the configured ones, if there are any."""
    tools: frozenset[str] | None = None
    max_sessions: int | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    """Of each session: the default, and the most that it may ask for."""

    def applied_to(self, config: Config) -> Config:
        return replace(
            config,
            owner=self.owner,
            allowed_roots=self.roots or config.allowed_roots,
            tools=self.tools,
            max_own_sessions=self.max_sessions,
            limits={**config.limits, **self.limits},
            limits_fixed=bool(self.limits) or config.limits_fixed,
        )


OPERATOR: Final = Grant()


class Tokens:
    """Tokens by their digests, and the grants of an identity provider's subjects."""

    def __init__(
        self, grants: Sequence[tuple[bytes, Grant]], subjects: Mapping[str, Grant]
    ) -> None:
        self._grants = tuple(grants)
        self.subjects = subjects

    def __len__(self) -> int:
        return len(self._grants)

    def find(self, token: str) -> Grant | None:
        """Takes the same time for each token of a length, whichever it is."""
        given = _digest(token)
        found = None
        for digest, grant in self._grants:
            if hmac.compare_digest(digest, given):
                found = grant
        return found


def load(config: Config) -> Tokens:
    """The tokens of the configuration.

    Raises:
        ConfigError: a file cannot be read, or what it says cannot be used.
    """
    grants = []
    operators = _operators_token(config)
    if operators is not None:
        if len(operators) < MIN_TOKEN_CHARS:
            raise _too_short("The operator's token")
        grants.append((_digest(operators), OPERATOR))
    subjects: dict[str, Grant] = {}
    if TOKENS_FILE_NAME in config.http:
        path = Path(config.http[TOKENS_FILE_NAME]).expanduser()
        for name, entry in _entries(path).items():
            what = f"[{name}] in {path}"
            grant = _grant(what, name, entry, config)
            match entry:
                case {"token": str(token)}:
                    if len(token) < MIN_TOKEN_CHARS:
                        raise _too_short(f"The token of {what}")
                    grants.append((_digest(Secret(token).reveal()), grant))
                case {"sha256": str(digest)} if _SHA256.fullmatch(digest):
                    grants.append((bytes.fromhex(digest), grant))
                case {"subject": str(subject)} if subject and subject not in subjects:
                    subjects[subject] = grant
                case _:
                    raise ConfigError(
                        f"{what} needs a token, the sha256 of one in hexadecimal, or the subject "
                        "of an identity provider that no other entry has."
                    )
    if len({digest for digest, _ in grants}) < len(grants):
        raise ConfigError("Two entries have the same token.", hint="Give each its own.")
    return Tokens(grants, subjects)


def _operators_token(config: Config) -> str | None:
    if config.http_token is not None:
        return config.http_token.reveal()
    if TOKEN_FILE_NAME not in config.http:
        return None
    token = _read(Path(config.http[TOKEN_FILE_NAME]).expanduser()).strip()
    return Secret(token).reveal() if token else ""


def _entries(path: Path) -> dict[str, dict[str, Any]]:
    try:
        entries = tomllib.loads(_read(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"The file of tokens {path} is not valid TOML: {error}.") from error
    for name, entry in entries.items():
        if not isinstance(entry, dict) or not _NAME.fullmatch(name):
            raise ConfigError(
                f"In {path}, each token is a table such as [team-a]; {name[:60]!r} is none.",
                hint="A name has up to 63 small letters, digits, dashes and underscores.",
            )
        if unknown := entry.keys() - set(_KEYS):
            raise ConfigError(
                f"[{name}] in {path} has an unknown name {sorted(unknown)[0][:60]!r}.",
                hint=f"Known: {', '.join(_KEYS)}.",
            )
    return entries


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ConfigError(f"The file of tokens {path} is larger than {MAX_FILE_BYTES} bytes.")
        return content.decode()
    except OSError as error:
        raise ConfigError(f"The file of tokens {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"The file of tokens {path} is not UTF-8 text.") from error


def _grant(what: str, name: str, entry: Mapping[str, Any], config: Config) -> Grant:
    roots, tools = entry.get("roots", []), entry.get("tools")
    if not _is_texts(roots) or not all(root.startswith("/") for root in roots):
        raise ConfigError(f"roots of {what} must be a list of absolute paths.")
    if config.allowed_roots:
        for root in roots:
            if not any(Path(root).is_relative_to(each) for each in config.allowed_roots):
                raise ConfigError(
                    f"The root {root} of {what} is outside the server's own: "
                    f"{', '.join(config.allowed_roots)}."
                )
    if tools is not None:
        if not _is_texts(tools) or not tools:
            raise ConfigError(f"tools of {what} must be a list of names.")
        if unknown := set(tools) - BY_NAME.keys():
            raise ConfigError(
                f"There is no tool {sorted(unknown)[0][:60]!r}, which {what} names.",
                hint=f"Known: {', '.join(BY_NAME)}.",
            )
    most = entry.get("max_sessions")
    if most is not None and (type(most) is not int or most < 1):
        raise ConfigError(f"max_sessions of {what} must be a whole number greater than 0.")
    limits = {key: entry[key] for key in LIMITS if key in entry}
    if not all(type(each) in (str, int, float) for each in limits.values()):
        raise ConfigError(f"Limits of {what} must be numbers or sizes such as '4g'.")
    grant = Grant(
        owner=name,
        roots=tuple(roots),
        tools=None if tools is None else frozenset(tools),
        max_sessions=most,
        limits={key: str(value) for key, value in limits.items()},
    )
    try:
        check_configured(grant.applied_to(config))
    except UsageError as error:
        raise ConfigError(f"A limit of {what} cannot be used: {error.message}") from error
    return grant


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _too_short(what: str) -> ConfigError:
    return ConfigError(
        f"{what} is shorter than {MIN_TOKEN_CHARS} characters.",
        hint="Make one with 'openssl rand -hex 32'.",
    )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
