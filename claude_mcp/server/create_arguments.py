"""The arguments of `create_session`: the declared options, and the ones that only MCP has."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    create_model,
)

from claude_mcp.server.arguments import FROM_TEXT, Arguments, declared, given
from claude_mcp.sessions.create.request import CreateRequest, Mount
from claude_mcp.sessions.providers.options import (
    ARGUMENTS,
    OPTIONS,
    SECRET_OPTIONS,
    ProviderRequest,
)


class MountArguments(Arguments):
    host_path: str
    container_path: str
    read_only: bool = True


class LimitArguments(Arguments):
    memory: str | None = None
    cpus: float | None = None
    pids: int | None = None
    disk: str | None = None


class McpConfig(BaseModel):
    """Claude Code's own format; other keys than ``mcpServers`` are passed on."""

    model_config = ConfigDict(extra="allow", frozen=True)

    mcpServers: Annotated[
        dict[str, dict[str, Any]],
        FROM_TEXT,
        # An object whose names are free cannot be described to every model.
        WithJsonSchema({"type": "string"}),
        Field(description="JSON, as in .mcp.json: each server by name."),
    ]


McpConfigArgument = Annotated[McpConfig, FROM_TEXT]

_JsonText = Annotated[
    str, BeforeValidator(lambda value: json.dumps(value) if isinstance(value, dict) else value)
]


_PortText = Annotated[
    str, BeforeValidator(lambda value: str(value) if type(value) is int else value)
]


def _provider_options(model: str, names: Iterable[str]) -> Any:
    """A model of optional texts; which provider takes which is checked with the provider.

    Google credentials are JSON and may be passed as an object.
    """
    fields: dict[str, Any] = {
        name: ((_JsonText if name == "credentials" else str) | None, None) for name in names
    }
    return Annotated[create_model(model, __base__=Arguments, **fields), FROM_TEXT]


_NAMES: Final = tuple(dict.fromkeys(name for names in OPTIONS.values() for name in names))
ProviderOptions = _provider_options("ProviderOptions", _NAMES)
# A base URL may contain a password.
CredentialOptions = _provider_options(
    "CredentialOptions",
    (name for name in _NAMES if name in SECRET_OPTIONS or name == "baseUrl"),
)

_PROVIDER_ARGUMENTS: Final[dict[str, Any]] = {
    "provider": (
        Literal["anthropic", "bedrock", "vertex", "foundry"] | None,
        Field(None, description="Default: the server's."),
    ),
    "provider_options": (
        ProviderOptions | None,
        Field(
            None,
            description="anthropic: apiKey, authToken or oauthToken; "
            "bedrock: region, and accessKeyId, secretAccessKey, sessionToken or bearerToken; "
            "vertex: projectId, region, credentials (JSON); foundry: resource, apiKey; all: "
            "baseUrl, model, smallModel.",
        ),
    ),
    "use_bedrock": (
        bool,
        Field(False, description="With aws* and bedrock*."),
    ),
    "apiKey": (
        str | None,
        Field(None, description="Anthropic key, not the server's."),
    ),
    **{name: (str | None, None) for name in ARGUMENTS if name != "apiKey"},
}

CreateArguments: type[Arguments] = create_model(
    "CreateArguments",
    __base__=Arguments,
    **declared(
        CreateRequest,
        {
            "mounts": Annotated[list[MountArguments], FROM_TEXT],
            "mcp_config": McpConfigArgument,
            "ports": Annotated[list[_PortText], FROM_TEXT],
            "limits": Annotated[LimitArguments, FROM_TEXT],
        },
    ),
    **_PROVIDER_ARGUMENTS,
)


def create_request(arguments: Arguments, client: str = "") -> CreateRequest:
    """The request of a client; the provider's secrets are redacted from here on."""
    values = given(arguments, CreateRequest)
    if mounts := values.get("mounts"):
        values["mounts"] = tuple(Mount(**each.model_dump()) for each in mounts)
    if config := values.get("mcp_config"):
        values["mcp_config"] = config.model_dump()
    if limits := values.get("limits"):
        wanted = limits.model_dump(exclude_none=True)
        values["limits"] = {name: str(value) for name, value in wanted.items()}
    return CreateRequest(**values, provider=_provider_request(arguments), client=client)


def _provider_request(arguments: Arguments) -> ProviderRequest:
    wire = arguments.model_dump(by_alias=True, exclude_none=True)
    return ProviderRequest(
        provider=wire.get("provider"),
        options=wire.get("providerOptions", {}),
        use_bedrock=wire["useBedrock"],
        arguments={name: wire[name] for name in ARGUMENTS if name in wire},
    )
