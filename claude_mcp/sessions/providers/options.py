"""The provider options that a caller may pass, merged into one set.

Some options also have an argument of their own in `create_session`; it is mapped to the option
here.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from claude_mcp.config import Config
from claude_mcp.config_names import SWITCHES
from claude_mcp.contract.redaction import redactor
from claude_mcp.contract.wording import named

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
"""Arguments of `create_session` that stand for an option of one provider."""


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """What a caller asks for. An empty request means the server's configured provider.

    The keys of ``arguments`` are those of ``ARGUMENTS``. ``model`` applies to any provider.
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
class ChosenOptions:
    """A provider and its options.

    ``given_as`` maps an option to the name that the caller used, for error messages.
    """

    provider: str
    options: Mapping[str, str] = field(repr=False)
    given_as: Mapping[str, str]


def choose(config: Config, request: ProviderRequest, problems: list[str]) -> ChosenOptions:
    """Select the provider and merge its options; contradictions are appended to ``problems``."""
    provider = _provider(config, request, problems)
    if provider is None:
        return ChosenOptions(ANTHROPIC, {}, {})
    options: dict[str, str] = {}
    given_as: dict[str, str] = {}

    def put(option: str, value: str, name: str) -> None:
        if option in options:
            problems.append(f"{given_as[option]} and {name} are the same option: pass only one.")
        elif not value.strip():
            problems.append(f"{name} is empty.")
        elif option not in SECRET_OPTIONS and not value.strip().isprintable():
            problems.append(f"{name} contains unprintable characters.")
        options[option], given_as[option] = value.strip(), name

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
                f"{name} is for {TITLES[owner]}, but the session's provider is {provider}."
            )
    if request.model:
        if options.get("model", request.model) != request.model:
            problems.append(f"model and {given_as['model']} differ: pass only one.")
        options.setdefault("model", request.model)
    return ChosenOptions(provider, options, given_as)


def _provider(config: Config, request: ProviderRequest, problems: list[str]) -> str | None:
    """The provider's name; None if it is unknown, because its options cannot be checked then."""
    asked = request.provider
    if asked is not None and asked not in OPTIONS:
        near = difflib.get_close_matches(asked.lower(), OPTIONS, n=1)
        question = f" Did you mean {near[0]}?" if near else ""
        problems.append(f"No such provider; choose one of {', '.join(OPTIONS)}.{question}")
        return None
    if request.use_bedrock and asked not in (None, BEDROCK):
        problems.append(f"{named('useBedrock')} contradicts {named('provider')} {asked}.")
    if asked is not None:
        return asked
    if request.use_bedrock:
        return BEDROCK
    if "apiKey" in request.arguments:
        return ANTHROPIC
    if len(config.clouds) > 1:
        names = " and ".join(SWITCHES[cloud] for cloud in config.clouds)
        problems.append(f"{names} are both set: keep one of them, or pass {named('provider')}.")
    return config.clouds[0] if config.clouds else ANTHROPIC


def _unknown(name: str, provider: str) -> str:
    known = OPTIONS[provider]
    near = difflib.get_close_matches(name, known, n=1)
    others = [other for other, names in OPTIONS.items() if name in names]
    if others:
        return f"{name} is an option of {' and '.join(others)}, not of {provider}."
    # An unknown name may be a misplaced secret, so only an identifier is repeated.
    shown = f" {name[:40]!r}" if name.isidentifier() else ""
    if near:
        return f"No such provider option{shown}. Did you mean {near[0]}?"
    return f"No such provider option{shown}; {provider} takes {', '.join(known)}."


def google_secrets(text: str) -> list[str]:
    """A Google credential as a whole, and the secret values in it."""
    try:
        credential = json.loads(text)
    except (ValueError, RecursionError):
        credential = None
    names = ("private_key", "refresh_token", "client_secret")
    parts = [credential.get(name) for name in names] if isinstance(credential, dict) else []
    return [text.strip(), *(part for part in parts if isinstance(part, str))]
