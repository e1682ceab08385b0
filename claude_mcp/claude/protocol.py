"""Claude Code's stream-json frames, in both directions. No I/O; runs on Python 3.9.

The rule: input may be forged inside the container. Parsing never raises, and a field of the wrong
type counts as absent. Nothing is truncated here; limits are the caller's task.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from claude_mcp.contract.numbers import amount


@dataclass(frozen=True)
class McpServer:
    """`status`: `pending`, `connected`, `failed`, `needs-auth`, `disabled`, or something newer."""

    name: str
    status: str
    error: str | None = None


@dataclass(frozen=True)
class ToolUse:
    id: str
    name: str
    input: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ToolResult:
    tool_use_id: str
    text: str
    is_error: bool = False


@dataclass(frozen=True)
class PermissionDenial:
    tool_name: str
    tool_use_id: str
    tool_input: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Init:
    """`system/init`: sent at the start of each turn."""

    conversation_id: str
    model: str = ""
    version: str = ""
    cwd: str = ""
    permission_mode: str = ""
    tools: tuple[str, ...] = ()
    mcp_servers: tuple[McpServer, ...] = ()


@dataclass(frozen=True)
class Assistant:
    """The model's text and tool calls; `parent_tool_use_id` is set for a subagent's."""

    texts: tuple[str, ...] = ()
    tool_uses: tuple[ToolUse, ...] = ()
    parent_tool_use_id: str | None = None


@dataclass(frozen=True)
class ToolResults:
    results: tuple[ToolResult, ...]
    parent_tool_use_id: str | None = None


@dataclass(frozen=True)
class Replay:
    """Claude Code has accepted the prompt with this uuid."""

    uuid: str


@dataclass(frozen=True)
class ApiRetry:
    """An API request failed and is retried; without a status there was no response."""

    attempt: int
    max_retries: int
    status: int | None = None
    delay_ms: int | None = None


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
    duration_api_ms: int = 0
    cost_usd: float = 0.0
    usage: Mapping[str, int] = field(default_factory=dict)
    permission_denials: tuple[PermissionDenial, ...] = ()
    terminal_reason: str | None = None
    api_error_status: int | None = None
    prompt_uuids: tuple[str, ...] = ()
    """The prompts that this result answers; empty before Claude Code 2.1.3xx."""

    @property
    def ok(self) -> bool:
        return not self.is_error

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
    ToolResults,
    Replay,
    ApiRetry,
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
            body = _without_surrogates(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or not isinstance(body.get("type"), str):
        return None
    return _frame(body)


def _frame(body: dict[str, Any]) -> Frame:
    kind, subtype = body["type"], _string(body.get("subtype"))
    if kind == "system" and subtype == "init":
        return _init(body)
    if kind == "system" and subtype == "api_retry":
        return ApiRetry(
            attempt=_count(body.get("attempt")) or 0,
            max_retries=_count(body.get("max_retries")) or 0,
            status=_count(body.get("error_status")),
            delay_ms=_count(body.get("retry_delay_ms")),
        )
    if kind == "system" and subtype == "task_started":
        return TaskStarted(_string(body.get("task_id")))
    if kind == "system" and subtype == "background_tasks_changed":
        tasks = _mappings(body.get("tasks"))
        return BackgroundTasks(tuple(_string(task.get("task_id")) for task in tasks))
    if kind == "command_lifecycle":
        return Lifecycle(_string(body.get("command_uuid")), _string(body.get("state")))
    if kind == "assistant":
        return _assistant(body)
    if kind == "user":
        return _user(body)
    if kind == "result":
        return _result(body, subtype)
    if kind == "control_request":
        request = _mapping(body.get("request"))
        request_id = _string(body.get("request_id"))
        return ControlRequest(request_id, _string(request.get("subtype")), request)
    if kind == "control_cancel_request":
        return ControlCancel(_string(body.get("request_id")))
    if kind == "control_response":
        answer = _mapping(body.get("response"))
        failed = answer.get("subtype") != "success"
        return ControlResponse(
            request_id=_string(answer.get("request_id")),
            response=_mapping(answer.get("response")),
            error=(_string(answer.get("error")) or "refused") if failed else None,
        )
    return Other(kind, subtype)


def _init(body: dict[str, Any]) -> Init:
    return Init(
        conversation_id=_string(body.get("session_id")),
        model=_string(body.get("model")),
        version=_string(body.get("claude_code_version")),
        cwd=_string(body.get("cwd")),
        permission_mode=_string(body.get("permissionMode")),
        tools=_strings(body.get("tools")),
        mcp_servers=_mcp_servers(body.get("mcp_servers")),
    )


def mcp_servers(answer: ControlResponse) -> tuple[McpServer, ...]:
    """The servers in the answer to `mcp_status`, without their (secret) configuration."""
    return _mcp_servers(answer.response.get("mcpServers"))


def _mcp_servers(value: object) -> tuple[McpServer, ...]:
    return tuple(
        McpServer(
            _string(server.get("name")),
            _string(server.get("status")),
            _string(server.get("error")) or None,
        )
        for server in _mappings(value)
    )


def _assistant(body: dict[str, Any]) -> Assistant:
    blocks = _blocks(body)
    return Assistant(
        texts=tuple(_string(b.get("text")) for b in blocks if b.get("type") == "text"),
        tool_uses=tuple(
            ToolUse(_string(b.get("id")), _string(b.get("name")), _mapping(b.get("input")))
            for b in blocks
            if b.get("type") == "tool_use"
        ),
        parent_tool_use_id=_string(body.get("parent_tool_use_id")) or None,
    )


def _user(body: dict[str, Any]) -> Frame:
    if body.get("isReplay") is True:
        return Replay(_string(body.get("uuid")))
    results = tuple(
        ToolResult(
            tool_use_id=_string(block.get("tool_use_id")),
            text=_content_text(block.get("content")),
            is_error=block.get("is_error") is True,
        )
        for block in _blocks(body)
        if block.get("type") == "tool_result"
    )
    if not results:
        return Other("user", _string(body.get("subtype")))
    return ToolResults(results, _string(body.get("parent_tool_use_id")) or None)


def _result(body: dict[str, Any], subtype: str) -> Result:
    # An API failure has the subtype "success" and is_error, so either one makes an error.
    is_error = body.get("is_error") is not False or subtype != "success"
    text, status = _string(body.get("result")), _count(body.get("api_error_status"))
    uuids = _strings(body.get("user_message_uuids"))
    return Result(
        conversation_id=_string(body.get("session_id")),
        is_error=is_error,
        text=text,
        error=_error(body, subtype, status) if is_error else None,
        num_turns=_count(body.get("num_turns")) or 0,
        duration_ms=_count(body.get("duration_ms")) or 0,
        duration_api_ms=_count(body.get("duration_api_ms")) or 0,
        cost_usd=float(amount(body.get("total_cost_usd")) or 0.0),
        usage={
            name: count
            for name, value in _mapping(body.get("usage")).items()
            if (count := _count(value)) is not None
        },
        permission_denials=tuple(
            PermissionDenial(
                _string(denial.get("tool_name")),
                _string(denial.get("tool_use_id")),
                _mapping(denial.get("tool_input")),
            )
            for denial in _mappings(body.get("permission_denials"))
        ),
        terminal_reason=_string(body.get("terminal_reason")) or None,
        api_error_status=status,
        prompt_uuids=uuids or _strings([body.get("user_message_uuid")]),
    )


def _error(body: dict[str, Any], subtype: str, status: int | None) -> str:
    if _string(body.get("terminal_reason")).startswith("aborted"):
        return "interrupted"  # Claude Code's own text here is meant for its developers
    reasons = [*_strings(body.get("errors")), _string(body.get("result"))]
    if subtype != "success":
        reasons.append(subtype.replace("_", " "))
    if status is not None:
        reasons.append(f"HTTP {status}")
    return next(filter(None, map(str.strip, reasons)), "failed without a reason")


def _line(body: Mapping[str, Any]) -> bytes:
    # ASCII only, so neither a Unicode line separator nor a lone surrogate can break the line.
    return json.dumps(body, separators=(",", ":")).encode("ascii") + b"\n"


def _without_surrogates(value: Any) -> Any:
    """Replace lone surrogates throughout a value; JSON can contain them, UTF-8 cannot."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(k): _without_surrogates(v) for k, v in value.items()}
    return value


def _blocks(body: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    content = _mapping(body.get("message")).get("content")
    if isinstance(content, str):
        return ({"type": "text", "text": content},)
    return _mappings(content)


def _content_text(content: object) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(_string(b.get("text")) for b in _mappings(content) if b.get("type") == "text")


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _strings(value: object) -> tuple[str, ...]:
    return tuple(s for s in value if isinstance(s, str)) if isinstance(value, list) else ()


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _mappings(value: object) -> tuple[dict[str, Any], ...]:
    return tuple(m for m in value if isinstance(m, dict)) if isinstance(value, list) else ()


def _count(value: object) -> int | None:
    number = amount(value)
    return None if number is None else int(number)
