"""Claude Code's stream-json frames, in both directions. No I/O; runs on Python 3.9.

The rule: input may be forged inside the container. Parsing never raises, and a field of the wrong
type counts as absent. Nothing is truncated here; limits are the caller's task.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from claude_mcp.claude import fields
from claude_mcp.contract.numbers import amount

BYPASS = "bypassPermissions"
"""The permission mode in which Claude Code asks for no permission."""


@dataclass(frozen=True)
class McpServer:
    """`status`: `pending`, `connected`, `failed`, `needs-auth`, `disabled`, or something newer."""

    name: str
    status: str
    error: str | None = None


@dataclass(frozen=True)
class ToolUse:
    name: str
    input: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True)
class ToolResult:
    text: str
    is_error: bool = False
    id: str = ""
    """The id of the tool call."""


@dataclass(frozen=True)
class PermissionDenial:
    tool_name: str
    tool_input: Mapping[str, Any] = field(default_factory=dict)
    tool_use_id: str = ""


@dataclass(frozen=True)
class Init:
    """`system/init`: sent at the start of each turn."""

    conversation_id: str
    model: str = ""
    tools: tuple[str, ...] = ()
    mcp_servers: tuple[McpServer, ...] = ()


@dataclass(frozen=True)
class Assistant:
    """The text and the tool calls of the model, or of a subagent's."""

    texts: tuple[str, ...] = ()
    tool_uses: tuple[ToolUse, ...] = ()
    model: str = ""
    """Empty for a subagent, and for what Claude Code says itself."""


@dataclass(frozen=True)
class Partial:
    """The next piece of the text that the model is writing, which an `Assistant` then has whole.

    With `begins`, what came before belongs to something else, or is void: the request is repeated.
    """

    text: str = ""
    begins: bool = False


@dataclass(frozen=True)
class ToolResults:
    results: tuple[ToolResult, ...]


@dataclass(frozen=True)
class Replay:
    """Claude Code has accepted the prompt with this uuid."""

    uuid: str


@dataclass(frozen=True)
class ApiRetry:
    """An API request failed and is retried; without a status there was no response.

    `kind` is Claude Code's word for the failure, such as `overloaded`. `words` are the service's
    own; they come from the debug log, not from the frame.
    """

    attempt: int
    max_retries: int
    status: int | None = None
    kind: str = ""
    delay_seconds: float = 0.0
    words: str = ""


@dataclass(frozen=True)
class RateLimit:
    """The state of a subscription's usage limit. `resets_at` is in seconds since 1970."""

    rejected: bool
    resets_at: float | None = None


@dataclass(frozen=True)
class Result:
    """The end of a turn. `cost_usd` accumulates over the process; other values are per turn.

    A process that resumes a conversation continues from the cost at the last orderly end (end of
    file or TERM). Costs between that and a KILL are lost (measured).
    """

    conversation_id: str
    is_error: bool
    text: str = ""
    error: str | None = None
    num_turns: int = 0
    duration_ms: int = 0
    cost_usd: float = 0.0
    usage: Mapping[str, int] = field(default_factory=dict)
    permission_denials: tuple[PermissionDenial, ...] = ()
    terminal_reason: str | None = None
    prompt_uuids: tuple[str, ...] = ()
    """The prompts that this result answers; empty before Claude Code 2.1.3xx."""
    refused: str = ""
    """`conversation` if the service refuses what the conversation contains, `request` if it calls
    the request invalid, which may be for the same reason."""
    is_structured: bool = False
    """Whether `text` is JSON that follows the schema that was asked for."""

    @property
    def interrupted(self) -> bool:
        return (self.terminal_reason or "").startswith("aborted")


@dataclass(frozen=True)
class ControlRequest:
    """A request from Claude Code, such as `can_use_tool`, that waits for our answer."""

    request_id: str
    subtype: str
    request: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ControlCancel:
    """Withdraws a `ControlRequest`: the turn was interrupted, or a hook decided."""

    request_id: str


@dataclass(frozen=True)
class ControlResponse:
    """The answer to our control request: `response`, or `error` if it was refused."""

    request_id: str
    response: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Lifecycle:
    """A prompt was queued, started or completed (since Claude Code 2.1.3xx)."""

    uuid: str
    state: str


@dataclass(frozen=True)
class TaskStarted:
    """A command or agent started, possibly in the background beyond its tool call."""

    task_id: str


@dataclass(frozen=True)
class BackgroundTasks:
    """The complete list of tasks now running in the background."""

    task_ids: tuple[str, ...]


@dataclass(frozen=True)
class Other:
    """Any other frame; new types appear with nearly every release of Claude Code."""

    type: str
    subtype: str = ""


# Evaluated at run time, where `X | Y` needs Python 3.10.
Frame = Union[
    Init,
    Assistant,
    Partial,
    ToolResults,
    Replay,
    ApiRetry,
    RateLimit,
    Result,
    ControlRequest,
    ControlCancel,
    ControlResponse,
    Lifecycle,
    TaskStarted,
    BackgroundTasks,
    Other,
]


def user_line(prompt: str, uuid: str) -> bytes:
    """One prompt, delivered to the model byte for byte.

    Claude Code interprets the *last* text block: a leading `/` makes it a command, and `@name`
    attaches a file. An empty last block prevents this; it is dropped before the model is called,
    and the prompt before it stays untouched (measured on 2.1.240, 2.1.290, 2.1.330). A prompt that
    is only white space would reach the model as no text, so callers must refuse it.
    """
    blocks = [{"type": "text", "text": prompt}, {"type": "text", "text": ""}]
    return _line(
        {
            "type": "user",
            "uuid": uuid,
            "message": {"role": "user", "content": blocks},
            "parent_tool_use_id": None,
            "session_id": "",
        }
    )


def control_request_line(request_id: str, request: Mapping[str, Any]) -> bytes:
    """A request to Claude Code; its `subtype` is `interrupt`, `initialize`, `set_model`, ..."""
    return _line({"type": "control_request", "request_id": request_id, "request": dict(request)})


def control_response_line(request_id: str, response: Mapping[str, Any]) -> bytes:
    """Answer a `ControlRequest`."""
    answer = {"subtype": "success", "request_id": request_id, "response": dict(response)}
    return _line({"type": "control_response", "response": answer})


def allow_line(request_id: str, tool_input: Mapping[str, Any]) -> bytes:
    """Answer a `can_use_tool`: allow the call with this input."""
    answer = {"behavior": "allow", "updatedInput": dict(tool_input)}
    return control_response_line(request_id, answer)


def deny_line(request_id: str, message: str) -> bytes:
    """Answer a `can_use_tool`: deny it; the model sees a failed call with this message."""
    return control_response_line(request_id, {"behavior": "deny", "message": message})


def control_error_line(request_id: str, error: str) -> bytes:
    """Refuse an unknown `ControlRequest`, so that Claude Code does not wait for an answer."""
    answer = {"subtype": "error", "request_id": request_id, "error": error}
    return _line({"type": "control_response", "response": answer})


def parse_line(line: bytes) -> Frame | None:
    """Parse one line of Claude Code's output; None if it is not a frame."""
    try:
        text = line.decode("utf-8", "replace")
        body = json.loads(text)
        if "\\u" in text:
            body = fields.without_surrogates(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or not isinstance(body.get("type"), str):
        return None
    return _frame(body)


def _frame(body: dict[str, Any]) -> Frame:
    kind, subtype = body["type"], fields.string(body.get("subtype"))
    if kind == "system" and subtype == "init":
        return _init(body)
    if kind == "system" and subtype == "api_retry":
        return ApiRetry(
            attempt=fields.count(body.get("attempt")) or 0,
            max_retries=fields.count(body.get("max_retries")) or 0,
            status=fields.count(body.get("error_status")),
            kind=fields.string(body.get("error")),
            delay_seconds=(amount(body.get("retry_delay_ms")) or 0.0) / 1000,
        )
    if kind == "system" and subtype == "task_started":
        return TaskStarted(fields.string(body.get("task_id")))
    if kind == "system" and subtype == "background_tasks_changed":
        tasks = fields.mappings(body.get("tasks"))
        return BackgroundTasks(tuple(fields.string(task.get("task_id")) for task in tasks))
    if kind == "command_lifecycle":
        return Lifecycle(fields.string(body.get("command_uuid")), fields.string(body.get("state")))
    if kind == "rate_limit_event":
        info = fields.mapping(body.get("rate_limit_info"))
        return RateLimit(info.get("status") == "rejected", amount(info.get("resetsAt")))
    if kind == "assistant":
        return _assistant(body)
    if kind == "stream_event":
        return _partial(body)
    if kind == "user":
        return _user(body)
    if kind == "result":
        return _result(body, subtype)
    if kind == "control_request":
        request = fields.mapping(body.get("request"))
        request_id = fields.string(body.get("request_id"))
        return ControlRequest(request_id, fields.string(request.get("subtype")), request)
    if kind == "control_cancel_request":
        return ControlCancel(fields.string(body.get("request_id")))
    if kind == "control_response":
        answer = fields.mapping(body.get("response"))
        failed = answer.get("subtype") != "success"
        return ControlResponse(
            request_id=fields.string(answer.get("request_id")),
            response=fields.mapping(answer.get("response")),
            error=(fields.string(answer.get("error")) or "refused") if failed else None,
        )
    return Other(kind, subtype)


def _init(body: dict[str, Any]) -> Init:
    return Init(
        conversation_id=fields.string(body.get("session_id")),
        model=fields.string(body.get("model")),
        tools=fields.strings(body.get("tools")),
        mcp_servers=_mcp_servers(body.get("mcp_servers")),
    )


def mcp_servers(answer: ControlResponse) -> tuple[McpServer, ...]:
    """The servers in the answer to `mcp_status`, without their (secret) configuration."""
    return _mcp_servers(answer.response.get("mcpServers"))


def _mcp_servers(value: object) -> tuple[McpServer, ...]:
    return tuple(
        McpServer(
            fields.string(server.get("name")),
            fields.string(server.get("status")),
            fields.string(server.get("error")) or None,
        )
        for server in fields.mappings(value)
    )


def _assistant(body: dict[str, Any]) -> Assistant:
    blocks = _blocks(body)
    return Assistant(
        texts=tuple(fields.string(b.get("text")) for b in blocks if b.get("type") == "text"),
        tool_uses=tuple(
            ToolUse(
                fields.string(b.get("name")),
                fields.mapping(b.get("input")),
                fields.string(b.get("id")),
            )
            for b in blocks
            if b.get("type") == "tool_use"
        ),
        model=_answering_model(body),
    )


def _partial(body: dict[str, Any]) -> Frame:
    event = fields.mapping(body.get("event"))
    if not body.get("parent_tool_use_id"):  # a subagent does not talk to the user
        if event.get("type") == "content_block_start":
            return Partial(begins=True)
        delta = fields.mapping(event.get("delta"))
        if event.get("type") == "content_block_delta" and delta.get("type") == "text_delta":
            return Partial(fields.string(delta.get("text")))
    return Other("stream_event")


def _answering_model(body: dict[str, Any]) -> str:
    model = fields.string(fields.mapping(body.get("message")).get("model"))
    # Claude Code's own words, such as those about a failed request, are "<synthetic>".
    return "" if body.get("parent_tool_use_id") or model.startswith("<") else model


def _user(body: dict[str, Any]) -> Frame:
    if body.get("isReplay") is True:
        return Replay(fields.string(body.get("uuid")))
    results = tuple(
        ToolResult(
            text=_content_text(block.get("content")),
            is_error=block.get("is_error") is True,
            id=fields.string(block.get("tool_use_id")),
        )
        for block in _blocks(body)
        if block.get("type") == "tool_result"
    )
    if not results:
        return Other("user", fields.string(body.get("subtype")))
    return ToolResults(results)


def _result(body: dict[str, Any], subtype: str) -> Result:
    # An API failure has the subtype "success" and is_error, so either one makes an error.
    is_error = body.get("is_error") is not False or subtype != "success"
    text, status = fields.string(body.get("result")), fields.count(body.get("api_error_status"))
    uuids = fields.strings(body.get("user_message_uuids"))
    return Result(
        conversation_id=fields.string(body.get("session_id")),
        is_error=is_error,
        text=text,
        error=_error(body, subtype, status) if is_error else None,
        num_turns=fields.count(body.get("num_turns")) or 0,
        duration_ms=fields.count(body.get("duration_ms")) or 0,
        cost_usd=float(amount(body.get("total_cost_usd")) or 0.0),
        usage={
            name: count
            for name, value in fields.mapping(body.get("usage")).items()
            if (count := fields.count(value)) is not None
        },
        permission_denials=tuple(
            PermissionDenial(
                fields.string(denial.get("tool_name")),
                fields.mapping(denial.get("tool_input")),
                fields.string(denial.get("tool_use_id")),
            )
            for denial in fields.mappings(body.get("permission_denials"))
        ),
        terminal_reason=fields.string(body.get("terminal_reason")) or None,
        is_structured="structured_output" in body,
        prompt_uuids=uuids or fields.strings([body.get("user_message_uuid")]),
        refused=_refused(body, status) if is_error else "",
    )


# Reasons that Claude Code gives (measured, 2.1.330).
_CONVERSATION_REASONS = frozenset({"prompt_too_long", "image_error"})
_CONVERSATION_ERRORS = frozenset({"pdf_too_large", "tool_history_mismatch"})


def _refused(body: dict[str, Any], status: int | None) -> str:
    if (
        fields.string(body.get("terminal_reason")) in _CONVERSATION_REASONS
        or fields.string(body.get("api_error")) in _CONVERSATION_ERRORS
        or status == 413
    ):
        return "conversation"
    about_money = "credit balance" in fields.string(body.get("result")).lower()
    return "request" if status == 400 and not about_money else ""


def _error(body: dict[str, Any], subtype: str, status: int | None) -> str:
    if fields.string(body.get("terminal_reason")).startswith("aborted"):
        return "interrupted"  # Claude Code's own text here is meant for its developers
    reasons = [*fields.strings(body.get("errors")), fields.string(body.get("result"))]
    if subtype != "success":
        reasons.append(subtype.replace("_", " "))
    if status is not None:
        reasons.append(f"HTTP {status}")
    return next(filter(None, map(str.strip, reasons)), "failed without a reason")


def _line(body: Mapping[str, Any]) -> bytes:
    # ASCII only, so neither a Unicode line separator nor a lone surrogate can break the line.
    return json.dumps(body, separators=(",", ":")).encode("ascii") + b"\n"


def _blocks(body: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    content = fields.mapping(body.get("message")).get("content")
    if isinstance(content, str):
        return ({"type": "text", "text": content},)
    return fields.mappings(content)


def _content_text(content: object) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(
        fields.string(b.get("text")) for b in fields.mappings(content) if b.get("type") == "text"
    )
