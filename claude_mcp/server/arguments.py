"""What the tools take, as pydantic models; the wire names are these in camelCase.

The names and meanings are the fixed contract of the seven tools. A value is never repeated in
a complaint about it: it may be a secret.
"""

from __future__ import annotations

import difflib
import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from claude_mcp.errors import UsageError


class Arguments(BaseModel):
    """Unknown names are refused: a misspelled option that is ignored does harm unseen."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, allow_inf_nan=False
    )


def _from_text(value: Any) -> Any:
    """Some hosts hand objects and lists over as JSON text."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


SessionId = Annotated[
    str, Field(description="The session's id, an unambiguous prefix of it, or its name.")
]


WAIT_SECONDS = 45.0
"""Many clients give up on a call after 60 s."""
WaitSeconds = Annotated[
    float, Field(ge=0, le=86_400, description="Answer 'running' after this time; work goes on.")
]


OPEN_OBJECT = WithJsonSchema({"type": "object"})
"""Its fields are told in a description, which is shorter, and checked all the same."""


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
    """Claude Code's own format; what it holds besides ``mcpServers`` is passed on."""

    model_config = ConfigDict(extra="allow", frozen=True)

    mcpServers: dict[str, dict[str, Any]]


def _as_text(value: Any) -> Any:
    """A credential that is JSON, handed over as the object that it is."""
    return json.dumps(value) if isinstance(value, dict) else value


class ProviderOptions(Arguments):
    """Which provider takes which of them is told by its description, and checked later on."""

    api_key: str | None = None
    auth_token: str | None = None
    oauth_token: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    bearer_token: str | None = None
    project_id: str | None = None
    credentials: Annotated[
        str | None, BeforeValidator(_as_text), Field(description="JSON of a service account.")
    ] = None
    resource: str | None = None
    base_url: str | None = None
    model: str | None = None
    small_model: str | None = None


class CredentialOptions(Arguments):
    """The secrets among ``ProviderOptions``; a base URL is one when it holds a password."""

    api_key: str | None = None
    auth_token: str | None = None
    oauth_token: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    bearer_token: str | None = None
    credentials: Annotated[str | None, BeforeValidator(_as_text)] = None
    base_url: str | None = None


class CreateArguments(Arguments):
    project_path: Annotated[
        str,
        Field(description="Absolute, on the host; /workspace in the session."),
    ]
    session_name: Annotated[str | None, Field(description="A unique name.")] = None
    image: Annotated[str | None, Field(description="Instead of the server's default image.")] = None
    model: Annotated[
        str | None, Field(description="Default: the server's, else Claude Code's.")
    ] = None
    strict_permissions: Annotated[
        bool,
        Field(description="Ask before what needs a permission."),
    ] = False
    trust_project: Annotated[
        bool, Field(description="Obey the project's hooks, .mcp.json and settings.")
    ] = False
    trust_git: Annotated[
        bool,
        Field(description="Let it write .git/config and .git/hooks, which git on the host obeys."),
    ] = False
    mcp_config: Annotated[
        McpConfig | None,
        BeforeValidator(_from_text),
        Field(description="MCP servers for the Claude inside."),
    ] = None
    mcp_mounts: Annotated[
        list[Annotated[MountArguments, OPEN_OBJECT]] | None,
        BeforeValidator(_from_text),
        Field(description="Further host paths: hostPath, containerPath, readOnly (true)."),
    ] = None
    limits: Annotated[
        LimitArguments | None,
        BeforeValidator(_from_text),
        OPEN_OBJECT,
        Field(description="memory and disk (512m, 4g), cpus, pids; 0: no limit."),
    ] = None
    read_only_rootfs: Annotated[
        bool | None, Field(description="Only the project, and /tmp in memory, can be written.")
    ] = None
    timeout_seconds: Annotated[float | None, Field(ge=0, description="Removed then; 0: never.")] = (
        None
    )
    idle_timeout_seconds: Annotated[
        float | None, Field(ge=0, description="Removed when unused for so long.")
    ] = None
    runtime: Annotated[str | None, Field(description="OCI runtime, such as runsc.")] = None
    network: Annotated[
        Literal["open", "restricted", "none"] | None,
        Field(description="restricted: only its provider and allowedHosts."),
    ] = None
    allowed_hosts: Annotated[
        list[str] | None,
        BeforeValidator(_from_text),
        Field(description="Such as pypi.org, *.example.org, example.org:8443."),
    ] = None
    api_key: Annotated[
        str | None, Field(description="Of Anthropic, instead of the server's credentials.")
    ] = None
    provider: Annotated[
        Literal["anthropic", "bedrock", "vertex", "foundry"] | None,
        Field(description="Default: the server's."),
    ] = None
    provider_options: Annotated[
        ProviderOptions | None,
        BeforeValidator(_from_text),
        OPEN_OBJECT,
        Field(
            description="anthropic: apiKey, authToken or oauthToken; "
            "bedrock: region, and accessKeyId, secretAccessKey, sessionToken or bearerToken; "
            "vertex: projectId, region, credentials (JSON); foundry: resource, apiKey; all: "
            "baseUrl, model, smallModel."
        ),
    ] = None
    use_bedrock: Annotated[
        bool, Field(description="The same as provider bedrock; aws* and bedrock* are its options.")
    ] = False
    aws_region: str | None = None
    aws_access_key_id: str | None = None
    aws_secret_access_key: str | None = None
    aws_session_token: str | None = None
    bedrock_model: str | None = None
    bedrock_small_model: str | None = None


_NESTED: dict[str, type[Arguments]] = {
    "mcpMounts": MountArguments,
    "limits": LimitArguments,
    "providerOptions": ProviderOptions,
}
"""The arguments that hold others, and take nothing but what they know."""


class CredentialsArguments(Arguments):
    session_id: SessionId
    provider_options: Annotated[
        CredentialOptions | None,
        BeforeValidator(_from_text),
        OPEN_OBJECT,
        Field(description="Credentials for the session's provider; default: the server's."),
    ] = None
    mcp_config: Annotated[McpConfig | None, BeforeValidator(_from_text)] = None


class PromptArguments(Arguments):
    session_id: SessionId
    prompt: Annotated[str, Field(description="Sent literally; a leading / is text.")]
    tools: Annotated[
        list[str] | None,
        BeforeValidator(_from_text),
        Field(description="The only Claude Code tools for this turn, such as Read, Edit, Bash."),
    ] = None
    wait_seconds: WaitSeconds = WAIT_SECONDS
    turn_id: Annotated[
        str | None,
        Field(description="A UUID of yours: repeating a call with it never runs the prompt twice."),
    ] = None
    when_busy: Annotated[
        Literal["refuse", "wait"],
        Field(description="While another prompt runs: refuse this one, or stand in line."),
    ] = "refuse"
    model: Annotated[str | None, Field(description="For this turn only.")] = None
    max_turns: Annotated[int | None, Field(ge=1)] = None
    max_budget_usd: Annotated[float | None, Field(gt=0)] = None
    new_conversation: Annotated[
        bool, Field(description="Forget what was said before in this session.")
    ] = False


class TurnArguments(Arguments):
    session_id: SessionId
    turn_id: Annotated[str | None, Field(description="Default: the latest.")] = None
    cursor: Annotated[
        int | None,
        Field(ge=0, description="Return as soon as there are events behind this number (0: all)."),
    ] = None
    wait_seconds: WaitSeconds = WAIT_SECONDS
    event: Annotated[
        int | None, Field(ge=1, description="Instead of all else, this one event, uncut.")
    ] = None


class CancelArguments(Arguments):
    session_id: SessionId
    turn_id: Annotated[str | None, Field(description="Default: the one that runs.")] = None


class PermissionArguments(Arguments):
    session_id: SessionId
    request_id: str
    decision: Literal["allow", "deny"]
    message: Annotated[str | None, Field(description="Why, for Claude.")] = None


class ListArguments(Arguments):
    pass


class DestroyArguments(Arguments):
    session_id: SessionId


class TransferArguments(Arguments):
    session_id: SessionId
    direction: Literal["to_container", "from_container"]
    source_path: Annotated[str, Field(description="A file or directory. Host paths are absolute.")]
    dest_path: Annotated[
        str,
        Field(
            description="Its new name, or an existing directory (or a path ending in /) to put "
            "it in."
        ),
    ]
    overwrite: Annotated[bool, Field(description="Replace files that exist already.")] = False


class CommandArguments(Arguments):
    session_id: SessionId
    command: Annotated[str, Field(description="Run by sh -c in /workspace.")]
    timeout_seconds: Annotated[float, Field(gt=0, description="Killed after this time.")] = 600
    workdir: Annotated[str | None, Field(description="Another directory to run in.")] = None


class LogsArguments(Arguments):
    session_id: SessionId
    tail: Annotated[int, Field(ge=1, le=10_000, description="Lines from the end.")] = 100


A = TypeVar("A", bound=Arguments)


def parse(model: type[A], arguments: dict[str, Any] | None) -> A:
    """Check a tool's arguments.

    Raises:
        UsageError: every problem in one sentence each.
    """
    try:
        return model.model_validate(arguments or {})
    except ValidationError as error:
        problems = [_problem(model, each) for each in error.errors(include_input=False)]
        raise UsageError(
            f"Nothing was done: {'; '.join(problems)}.", hint=f"It takes {_names(model)}."
        ) from None


def _names(model: type[Arguments]) -> str:
    names = [
        f"{field.alias} (required)" if field.is_required() else str(field.alias)
        for field in model.model_fields.values()
    ]
    return ", ".join(names) or "no arguments"


def _problem(model: type[Arguments], error: Any) -> str:
    location = ".".join(str(part) for part in error["loc"])
    match error["type"]:
        case "missing":
            return f"{location} is missing"
        case "extra_forbidden":
            nested = _NESTED.get(error["loc"][0]) if len(error["loc"]) > 1 else None
            fields = (nested or model).model_fields.values()
            name = to_camel(str(error["loc"][-1])[:80])
            near = difflib.get_close_matches(name, [str(field.alias) for field in fields], n=1)
            question = f", did you mean {near[0]}" if near else ""
            return f"there is no argument {location[:120]!r}{question}"
        case _:
            message = str(error["msg"])
            return f"{location}: {message[:1].lower()}{message[1:]}"
