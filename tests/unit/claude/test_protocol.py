"""What we send Claude Code, and how its frames, forged ones too, are read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from claude_mcp.claude import protocol
from claude_mcp.claude.events import events_of
from claude_mcp.claude.protocol import (
    ApiRetry,
    Assistant,
    BackgroundTasks,
    ControlCancel,
    ControlRequest,
    ControlResponse,
    Init,
    Lifecycle,
    McpServer,
    Other,
    Partial,
    PermissionDenial,
    RateLimit,
    Replay,
    Result,
    TaskStarted,
    ToolResult,
    ToolResults,
    ToolUse,
    parse_line,
)

UUID = "11111111-1111-4111-8111-111111111111"
AWKWARD = "/clear --help 'a' \"b\" `c` $HOME ${x}\n\r\n\t\x00\x1b[31m \u2028 ünï 😀 @file \\n "


def line(**body: Any) -> bytes:
    return json.dumps(body).encode()


def result_line(**body: Any) -> bytes:
    known = {"type": "result", "subtype": "success", "is_error": False, "session_id": "c1"}
    return line(**{**known, **body})


@pytest.mark.parametrize("prompt", [AWKWARD, "x" * 200_000, "/help", " lead and trail \n"])
def test_a_prompt_is_one_line_whose_last_block_is_empty(prompt: str) -> None:
    sent = protocol.user_line(prompt, UUID)
    assert sent.endswith(b"\n")
    assert len(sent.splitlines()) == 1
    assert json.loads(sent) == {
        "type": "user",
        "uuid": UUID,
        "message": {
            "role": "user",
            "content": [{"type": "text", "text": prompt}, {"type": "text", "text": ""}],
        },
        "parent_tool_use_id": None,
        "session_id": "",
    }


def test_a_control_request_carries_its_id_and_subtype() -> None:
    sent = protocol.control_request_line("r1", {"subtype": "interrupt"})
    assert sent == (
        b'{"type":"control_request","request_id":"r1","request":{"subtype":"interrupt"}}\n'
    )


def test_the_status_of_mcp_servers_omits_their_configuration() -> None:
    config = {"type": "http", "url": "http://a", "headers": {"Authorization": "Bearer secret"}}
    servers = [
        {"name": "a", "status": "connected", "config": config, "tools": []},
        {"name": "b", "status": "failed", "error": "refused", "config": config},
        "forged",
    ]
    answer = ControlResponse("r1", {"mcpServers": servers})
    assert protocol.mcp_servers(answer) == (
        McpServer("a", "connected"),
        McpServer("b", "failed", "refused"),
    )


@pytest.mark.parametrize(("line", "response"), [
    (protocol.allow_line("r1", {"command": "ls"}),
     {"behavior": "allow", "updatedInput": {"command": "ls"}}),
    (protocol.deny_line("r1", "no"), {"behavior": "deny", "message": "no"}),
])  # fmt: skip
def test_a_permission_request_is_answered(line: bytes, response: dict[str, str]) -> None:
    answer = {"subtype": "success", "request_id": "r1", "response": response}
    assert json.loads(line) == {"type": "control_response", "response": answer}


def test_a_control_request_of_claude_is_answered_or_refused() -> None:
    assert json.loads(protocol.control_response_line("r1", {"behavior": "allow"})) == {
        "type": "control_response",
        "response": {
            "subtype": "success",
            "request_id": "r1",
            "response": {"behavior": "allow"},
        },
    }
    assert json.loads(protocol.control_error_line("r1", "not supported")) == {
        "type": "control_response",
        "response": {"subtype": "error", "request_id": "r1", "error": "not supported"},
    }


@pytest.mark.parametrize(
    ("frame_line", "frame"),
    [
        (
            line(
                type="system",
                subtype="init",
                session_id="c1",
                model="m",
                claude_code_version="2.1.330",
                cwd="/workspace",
                permissionMode="bypassPermissions",
                tools=["Bash", "Edit"],
                mcp_servers=[{"name": "x", "status": "failed", "error": "e"}, {"name": "y"}],
            ),
            Init(
                conversation_id="c1",
                model="m",
                tools=("Bash", "Edit"),
                mcp_servers=(McpServer("x", "failed", "e"), McpServer("y", "")),
            ),
        ),
        (
            line(
                type="assistant",
                message={
                    "content": [
                        {"type": "thinking", "thinking": "hm"},
                        {"type": "text", "text": "I look"},
                        {
                            "type": "tool_use",
                            "id": "t1",
                            "name": "Bash",
                            "input": {"command": "ls"},
                        },
                    ]
                },
                parent_tool_use_id=None,
            ),
            Assistant(("I look",), (ToolUse("Bash", {"command": "ls"}, "t1"),)),
        ),
        (
            line(
                type="user",
                message={
                    "content": [
                        {"type": "tool_result", "tool_use_id": "t1", "content": "out"},
                        {
                            "type": "tool_result",
                            "tool_use_id": "t2",
                            "content": [{"type": "text", "text": "a"}, {"type": "image"}],
                            "is_error": True,
                        },
                    ]
                },
                parent_tool_use_id="t0",
            ),
            ToolResults((ToolResult("out", id="t1"), ToolResult("a", is_error=True, id="t2"))),
        ),
        (line(type="user", uuid=UUID, isReplay=True, message={"content": "hi"}), Replay(UUID)),
        (line(type="user", message={"content": "said by itself"}), Other("user")),
        (
            line(
                type="system",
                subtype="api_retry",
                attempt=2,
                max_retries=10,
                retry_delay_ms=1064.5,
                error_status=429,
                error="rate_limit",
            ),
            ApiRetry(
                attempt=2, max_retries=10, status=429, kind="rate_limit", delay_seconds=1.0645
            ),
        ),
        (
            line(
                type="control_request",
                request_id="r1",
                request={"subtype": "can_use_tool", "tool_name": "Bash"},
            ),
            ControlRequest("r1", "can_use_tool", {"subtype": "can_use_tool", "tool_name": "Bash"}),
        ),
        (line(type="control_cancel_request", request_id="r1"), ControlCancel("r1")),
        (
            line(
                type="control_response",
                response={"subtype": "success", "request_id": "r1", "response": {"pid": 1}},
            ),
            ControlResponse("r1", {"pid": 1}),
        ),
        (
            line(
                type="control_response",
                response={"subtype": "error", "request_id": "r1", "error": "no"},
            ),
            ControlResponse("r1", error="no"),
        ),
        (
            line(type="command_lifecycle", command_uuid=UUID, state="started"),
            Lifecycle(UUID, "started"),
        ),
        (line(type="system", subtype="task_started", task_id="b1"), TaskStarted("b1")),
        (
            line(
                type="system",
                subtype="background_tasks_changed",
                tasks=[{"task_id": "b1", "task_type": "local_bash"}, {"task_id": "b2"}],
            ),
            BackgroundTasks(("b1", "b2")),
        ),
        (line(type="system", subtype="background_tasks_changed", tasks=[]), BackgroundTasks(())),
        (line(type="rate_limit_event"), RateLimit(rejected=False)),
        (
            line(
                type="rate_limit_event",
                rate_limit_info={"status": "rejected", "resetsAt": 1795969074},
            ),
            RateLimit(rejected=True, resets_at=1795969074),
        ),
        (line(type="auth_status"), Other("auth_status")),
        (line(type="system", subtype="new_thing"), Other("system", "new_thing")),
    ],
)
def test_each_kind_of_frame_is_parsed(frame_line: bytes, frame: object) -> None:
    assert parse_line(frame_line) == frame


def test_every_field_of_a_result_is_parsed() -> None:
    read = parse_line(
        result_line(
            result="done",
            num_turns=3,
            duration_ms=160,
            duration_api_ms=31.7,
            total_cost_usd=0.25,
            usage={"input_tokens": 10, "output_tokens": 2, "service_tier": "x", "cache": {"a": 1}},
            permission_denials=[{"tool_name": "Bash", "tool_use_id": "t1", "tool_input": {"a": 1}}],
            terminal_reason="completed",
            api_error_status=None,
            user_message_uuids=[UUID],
        )
    )
    assert read == Result(
        conversation_id="c1",
        is_error=False,
        text="done",
        num_turns=3,
        duration_ms=160,
        cost_usd=0.25,
        usage={"input_tokens": 10, "output_tokens": 2},
        permission_denials=(PermissionDenial("Bash", {"a": 1}, "t1"),),
        terminal_reason="completed",
        prompt_uuids=(UUID,),
    )


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"is_error": True, "result": "API Error: 529", "api_error_status": 529}, "API Error: 529"),
        ({"is_error": True, "errors": ["first", "second"], "result": "text"}, "first"),
        ({"is_error": True, "subtype": "error_max_turns"}, "error max turns"),
        ({"is_error": False, "subtype": "error_during_execution"}, "error during execution"),
        ({"is_error": True, "errors": ["", 5], "result": " ", "api_error_status": 401}, "HTTP 401"),
        ({"is_error": True}, "failed without a reason"),
        ({"is_error": None}, "failed without a reason"),
        ({"is_error": True, "errors": ["[x]"], "terminal_reason": "aborted_tools"}, "interrupted"),
    ],
)
def test_a_failed_turn_has_an_error_for_every_subtype(body: dict[str, Any], error: str) -> None:
    read = parse_line(result_line(**body))
    assert isinstance(read, Result)
    assert (read.is_error, read.error) == (True, error)


@pytest.mark.parametrize(
    ("body", "uuids"),
    [
        ({"user_message_uuids": ["a", "b"]}, ("a", "b")),
        ({"user_message_uuid": "a"}, ("a",)),
        ({"user_message_uuids": ["b"], "user_message_uuid": "a"}, ("b",)),
        ({"user_message_uuids": [], "user_message_uuid": "a"}, ("a",)),
        ({"user_message_uuids": [3, "b", None]}, ("b",)),
        ({"user_message_uuids": "a"}, ()),
        ({"user_message_uuid": ["a"]}, ()),
        ({}, ()),
    ],
)
def test_a_result_names_the_prompts_that_it_answers(
    body: dict[str, Any], uuids: tuple[str, ...]
) -> None:
    read = parse_line(result_line(**body))
    assert isinstance(read, Result)
    assert read.prompt_uuids == uuids


def test_an_interrupted_turn_is_recognized_by_its_terminal_reason() -> None:
    reasons = ("aborted_streaming", "completed", None)
    read = [parse_line(result_line(terminal_reason=reason)) for reason in reasons]
    assert [r.interrupted for r in read if isinstance(r, Result)] == [True, False, False]


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"\n",
        b"not json",
        b'{"type":"result"',
        b"[1,2]",
        b"null",
        b'"result"',
        b'{"no":"type"}',
        b'{"type":7}',
        b"\xff\xfe\x00",
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"type":"a","x":' + b'{"a":' * 50_000,
        b'{"type":"assistant","n":' + b"9" * 10_000 + b"}",
    ],
)
def test_a_line_that_is_not_a_frame_is_none(junk: bytes) -> None:
    assert parse_line(junk) is None


@pytest.mark.parametrize("wrong", [None, True, -1, 1.5, 1e400, "", "x", [], ["x"], {}, [[{}]]])
@pytest.mark.parametrize(
    ("kind", "subtype", "names"),
    [
        ("system", "init", "session_id model cwd tools mcp_servers"),
        ("system", "api_retry", "attempt max_retries error_status retry_delay_ms"),
        ("system", "task_started", "task_id"),
        ("system", "background_tasks_changed", "tasks"),
        ("command_lifecycle", None, "command_uuid state"),
        ("assistant", None, "message parent_tool_use_id"),
        ("user", None, "message isReplay uuid parent_tool_use_id"),
        (
            "result",
            "success",
            "session_id is_error result errors num_turns duration_ms usage total_cost_usd subtype "
            "permission_denials terminal_reason api_error_status user_message_uuids "
            "user_message_uuid",
        ),
        ("control_request", None, "request_id request"),
        ("control_cancel_request", None, "request_id"),
        ("control_response", None, "response"),
    ],
)
def test_a_field_of_the_wrong_type_never_raises(
    kind: str, subtype: str | None, names: str, wrong: object
) -> None:
    for name in names.split():
        body = {"type": kind, "subtype": subtype, "message": {"content": [{}, 1]}, name: wrong}
        frame = parse_line(line(**body))
        assert frame is not None
        assert all(isinstance(event.text, str) for event in events_of(frame))
        nested = {"type": kind, "message": {"content": [{"type": wrong, "text": wrong}, wrong]}}
        assert parse_line(line(**nested)) is not None


def test_unrepresentable_numbers_count_as_absent() -> None:
    body = b'{"type":"result","total_cost_usd":NaN,"num_turns":Infinity,"duration_ms":1e300}'
    read = parse_line(body)
    assert isinstance(read, Result)
    assert (read.cost_usd, read.num_turns, read.duration_ms) == (0.0, 0, 0)


@pytest.mark.parametrize("lone", [b"\\ud800", b"\xed\xa0\x80"])
def test_lone_surrogates_are_replaced_everywhere(lone: bytes) -> None:
    content = b'[{"type":"tool_use","id":"t","name":"Bash","input":{"k":["%b"]}}]' % lone
    read = parse_line(b'{"type":"assistant","message":{"content":%b}}' % content)
    assert isinstance(read, Assistant)
    replaced = read.tool_uses[0].input["k"][0]
    assert set(replaced.encode().decode()) <= {"?", "\ufffd"}


def test_a_frame_of_several_megabytes_is_parsed() -> None:
    text = "é" * 3_000_000
    body = line(type="assistant", message={"content": [{"type": "text", "text": text}]})
    assert parse_line(body) == Assistant((text,))


@pytest.mark.parametrize(
    ("event", "parent", "frame"),
    [
        (
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hel"}},
            None,
            Partial("Hel"),
        ),
        ({"type": "content_block_start", "content_block": {}}, None, Partial(begins=True)),
        ({"type": "content_block_start"}, "toolu_1", Other("stream_event")),
        (
            {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "x"}},
            None,
            Other("stream_event"),
        ),
        ({"type": "content_block_delta", "delta": {"type": "text_delta"}}, None, Partial()),
        ({"type": "content_block_delta", "delta": 3}, None, Other("stream_event")),
        (["content_block_start"], None, Other("stream_event")),
    ],
)
def test_pieces_of_a_text_are_told_from_other_pieces(
    event: object, parent: str | None, frame: object
) -> None:
    body = {"type": "stream_event", "event": event, "parent_tool_use_id": parent}
    assert parse_line(json.dumps(body).encode()) == frame
