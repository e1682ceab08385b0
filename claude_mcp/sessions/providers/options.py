"""What a caller may say about a session's provider, and how it is put together.

`create_session` has arguments of its own for some options; here they become those options.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from claude_mcp.config import SWITCHES, Config
from claude_mcp.contract.redaction import redactor

ANTHROPIC: Final = "anthropic"
BEDROCK: Final = "bedrock"
VERTEX: Final = "vertex"
FOUNDRY: Final = "foundry"
TITLES: Final = {
    ANTHROPIC: "the Anthropic API",
    BEDROCK: "Bedrock",
    VERTEX: "Vertex",
    FOUNDRY: "Foundry",
}

_EVERYWHERE: Final = ("baseUrl", "model", "smallModel")
OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    ANTHROPIC: ("apiKey", "authToken", "oauthToken", *_EVERYWHERE),
    BEDROCK: (
        "region",
        "accessKeyId",
        "secretAccessKey",
        "sessionToken",
        "bearerToken",
        *_EVERYWHERE,
    ),
    VERTEX: ("projectId", "region", "credentials", *_EVERYWHERE),
    FOUNDRY: ("apiKey", "resource", *_EVERYWHERE),
}
SECRET_OPTIONS: Final = frozenset(
    {
        "apiKey",
        "authToken",
        "oauthToken",
        "accessKeyId",
        "secretAccessKey",
        "sessionToken",
        "bearerToken",
        "credentials",
    }
)
ARGUMENTS: Final = {
    "apiKey": (ANTHROPIC, "apiKey"),
    "awsRegion": (BEDROCK, "region"),
    "awsAccessKeyId": (BEDROCK, "accessKeyId"),
    "awsSecretAccessKey": (BEDROCK, "secretAccessKey"),
    "awsSessionToken": (BEDROCK, "sessionToken"),
    "bedrockModel": (BEDROCK, "model"),
    "bedrockSmallModel": (BEDROCK, "smallModel"),
}
"""Arguments that stand for an option of one provider."""


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """What a caller asks for; nothing of it means the server's provider, as it is set up.

    ``arguments`` are those of ``ARGUMENTS``, ``model`` is for whatever provider it becomes.
    """

    provider: str | None = None
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    use_bedrock: bool = False
    arguments: Mapping[str, str] = field(default_factory=dict, repr=False)
    model: str | None = None

    def __post_init__(self) -> None:
        for name, value in (*self.options.items(), *self.arguments.items()):
            option = ARGUMENTS[name][1] if name in ARGUMENTS else name
            if option == "credentials":
                for secret in google_secrets(value):
                    redactor.add(secret)
            elif option in SECRET_OPTIONS:
                redactor.add(value.strip())


@dataclass(frozen=True, slots=True)
class Settled:
    """The provider, and its options by their names; ``told_as`` is what the caller called them."""

    provider: str
    options: Mapping[str, str] = field(repr=False)
    told_as: Mapping[str, str]


def settle(config: Config, request: ProviderRequest, problems: list[str]) -> Settled:
    """Which provider it is, with which options; contradictions are added to ``problems``."""
    provider = _provider(config, request, problems)
    if provider is None:
        return Settled(ANTHROPIC, {}, {})
    options: dict[str, str] = {}
    told_as: dict[str, str] = {}

    def put(option: str, value: str, told: str) -> None:
        if option in options:
            problems.append(f"{told_as[option]} and {told} mean the same: give one of them.")
        elif not value.strip():
            problems.append(f"{told} is empty.")
        elif option not in SECRET_OPTIONS and not value.strip().isprintable():
            problems.append(f"{told} holds characters that cannot be passed on.")
        options[option], told_as[option] = value.strip(), told

    for name, value in request.options.items():
        if name in OPTIONS[provider]:
            put(name, value, name)
        else:
            problems.append(_unknown(name, provider))
    for name, value in request.arguments.items():
        owner, option = ARGUMENTS[name]
        if owner == provider:
            put(option, value, name)
        else:
            problems.append(
                f"{name} is for {TITLES[owner]}, and the session's provider is {provider}."
            )
    if request.model:
        if options.get("model", request.model) != request.model:
            problems.append(f"model and {told_as['model']} contradict each other: give one.")
        options.setdefault("model", request.model)
    return Settled(provider, options, told_as)


def _provider(config: Config, request: ProviderRequest, problems: list[str]) -> str | None:
    """Its name, or None when there is none such, which leaves its options without a meaning."""
    asked = request.provider
    if asked is not None and asked not in OPTIONS:
        near = difflib.get_close_matches(asked.lower(), OPTIONS, n=1)
        question = f"; did you mean {near[0]}?" if near else "."
        problems.append(f"There is no such provider; there are {', '.join(OPTIONS)}{question}")
        return None
    if request.use_bedrock and asked not in (None, BEDROCK):
        problems.append(f"useBedrock and provider {asked} contradict each other.")
    if asked is not None:
        return asked
    if request.use_bedrock:
        return BEDROCK
    if "apiKey" in request.arguments:
        return ANTHROPIC
    if len(config.clouds) > 1:
        names = " and ".join(SWITCHES[cloud] for cloud in config.clouds)
        problems.append(f"{names} are set: leave one, or pass provider.")
    return config.clouds[0] if config.clouds else ANTHROPIC


def _unknown(name: str, provider: str) -> str:
    known = OPTIONS[provider]
    near = difflib.get_close_matches(name, known, n=1)
    others = [other for other, names in OPTIONS.items() if name in names]
    # What is not known may be anything, also a secret in the wrong place.
    shown = repr(name[:40]) if name.isidentifier() else "so called"
    if others:
        return f"{name} is an option of {' and '.join(others)}, not of {provider}."
    if near:
        return f"There is no provider option {shown}; did you mean {near[0]}?"
    return f"There is no provider option {shown}; {provider} takes {', '.join(known)}."


def google_secrets(text: str) -> list[str]:
    """The parts of a Google credential that must not be shown, and the whole."""
    try:
        credential = json.loads(text)
    except (ValueError, RecursionError):
        credential = None
    names = ("private_key", "refresh_token", "client_secret")
    parts = [credential.get(name) for name in names] if isinstance(credential, dict) else []
    return [text.strip(), *(part for part in parts if isinstance(part, str))]
