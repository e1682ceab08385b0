"""The stand-in for the Messages API, asked the way Claude Code asks it."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import messages_standin
import pytest
from messages_standin import Standin

MESSAGES = "/v1/messages?beta=true"


@pytest.fixture
def standin() -> Iterator[Standin]:
    with Standin(rules=[{"match": "the magic word", "steps": [{"say": "by rule"}]}]) as running:
        yield running


class Client:
    """One keep-alive connection to the stand-in, and the messages said on it so far."""

    def __init__(self, standin: Standin) -> None:
        self.http = http.client.HTTPConnection("127.0.0.1", standin.port, timeout=30)
        self.messages: list[dict[str, Any]] = []

    def post(self, body: object, path: str = MESSAGES) -> tuple[int, bytes]:
        headers = {"x-api-key": "sk-1", "x-claude-code-session-id": "c1", "x-other": "x"}
        self.http.request("POST", path, json.dumps(body), headers)
        answer = self.http.getresponse()
        return answer.status, answer.read()

    def ask(self, *said: str, role: str = "user") -> dict[str, Any]:
        blocks = [{"type": "text", "text": text} for text in said]
        self.messages.append({"role": role, "content": blocks})
        return self.go_on()

    def give_result(self, text: str) -> dict[str, Any]:
        calls = [b for b in self.messages[-1]["content"] if b["type"] == "tool_use"]
        blocks: list[dict[str, Any]] = [
            {"type": "tool_result", "tool_use_id": c["id"], "content": text} for c in calls
        ]
        reminder = {"type": "text", "text": "<system-reminder>be brief</system-reminder>"}
        self.messages.append({"role": "user", "content": [*blocks, reminder]})
        return self.go_on()

    def go_on(self) -> dict[str, Any]:
        """Call the model without streaming; its answer becomes part of the conversation."""
        status, data = self.post({"model": "m", "messages": self.messages})
        answer: dict[str, Any] = {"status": status, **json.loads(data)}
        if status == 200:
            self.messages.append({"role": "assistant", "content": answer["content"]})
        return answer

    def stream(self, prompt: str) -> list[dict[str, Any]]:
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": prompt}]}
        status, data = self.post(body)
        assert status == 200
        events = [event.split("\n") for event in data.decode().split("\n\n") if event]
        parsed: list[dict[str, Any]] = [json.loads(lines[1][len("data: ") :]) for lines in events]
        assert [f"event: {event['type']}" for event in parsed] == [lines[0] for lines in events]
        return parsed


@pytest.fixture
def client(standin: Standin) -> Iterator[Client]:
    client = Client(standin)
    yield client
    client.http.close()


def script(*steps: dict[str, Any]) -> str:
    return f"standin: {json.dumps(list(steps))}"


def said(answer: dict[str, Any]) -> str:
    return "".join(block["text"] for block in answer["content"] if block["type"] == "text")


def test_a_plain_prompt_gets_a_short_answer(client: Client) -> None:
    answer = client.ask("<system-reminder>context</system-reminder>", "x" * 100)
    assert answer.pop("id").startswith("msg_")
    usage = answer.pop("usage")
    assert answer == {
        "status": 200,
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "ok: " + "x" * 60}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
    }
    assert usage["output_tokens"] == 16


def test_a_text_comes_in_several_deltas(client: Client) -> None:
    events = client.stream(script({"say": "a long answer"}))
    assert [event["type"] for event in events] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 4,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert "".join(e["delta"]["text"] for e in events[2:6]) == "a long answer"
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}


def test_a_tool_call_is_streamed_as_json_in_pieces(client: Client) -> None:
    events = client.stream(script({"tool": "Bash", "input": {"command": "ls -la"}}))
    block = events[1]["content_block"]
    assert (block["type"], block["name"], block["input"]) == ("tool_use", "Bash", {})
    pieces = [e["delta"]["partial_json"] for e in events if e["type"] == "content_block_delta"]
    assert json.loads("".join(pieces)) == {"command": "ls -la"}
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


def test_each_model_call_of_a_turn_takes_the_steps_up_to_its_tool(client: Client) -> None:
    steps = script(
        {"say": "first"},
        {"tool": "Bash", "input": {"command": "ls"}},
        {"tools": [{"tool": "Read"}, {"tool": "Grep"}]},
        {"report": True},
    )
    first = client.ask(steps)
    assert [b["type"] for b in first["content"]] == ["text", "tool_use"]
    second = client.give_result("files")
    assert [b["name"] for b in second["content"]] == ["Read", "Grep"]
    assert said(client.give_result("what was found")) == "what was found"
    assert said(client.go_on()) == "what was found"


def test_a_new_prompt_starts_with_its_own_first_step(client: Client) -> None:
    client.ask(script({"tool": "Bash"}, {"say": "after the tool"}))
    client.give_result("x")
    assert said(client.ask(script({"say": "one"}, {"tool": "Bash"}))) == "one"


def test_a_turn_whose_script_ends_with_a_tool_ends_with_a_word(client: Client) -> None:
    client.ask(script({"tool": "Bash"}))
    assert said(client.give_result("x")) == "done"


def test_recall_says_the_earlier_prompts_and_no_reminder(client: Client) -> None:
    client.ask("remember 42")
    client.ask("<system-reminder>no</system-reminder>", "and 43")
    client.messages.append({"role": "system", "content": "# Environment"})
    assert said(client.ask(script({"recall": True}))) == "remember 42\nand 43"


def test_echo_tells_the_prompt_byte_for_byte(client: Client) -> None:
    prompt = "/clear \r\n 'a' \"b\" `c` $HOME \x00 ünï 😀\n" + script({"echo": True})
    data = prompt.encode()
    assert json.loads(said(client.ask(prompt))) == {
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "head": prompt[:60],
    }


def test_the_first_rule_that_matches_answers_where_there_is_no_directive(client: Client) -> None:
    assert said(client.ask("please say the magic word now")) == "by rule"
    assert said(client.ask("the magic word\n" + script({"say": "directive"}))) == "directive"


@pytest.mark.parametrize(
    "prompt",
    ["standin: [{", "standin: {}", 'standin: [{"sing": "la"}]', 'standin: [{"say":"","wait":1}]'],
)
def test_a_directive_that_cannot_be_followed_is_an_error_that_says_so(
    client: Client, prompt: str
) -> None:
    answer = client.ask(prompt)
    assert (answer["status"], answer["error"]["type"]) == (400, "invalid_request_error")
    assert answer["error"]["message"].startswith("standin directive: ")


def test_the_word_within_a_line_is_no_directive(client: Client) -> None:
    assert said(client.ask("a standin: [x")) == "ok: a standin: [x"


def test_a_failure_is_counted_per_call_and_then_passes(client: Client) -> None:
    client.ask("")
    client.messages = [
        {"role": "user", "content": script({"fail": 529, "times": 2}, {"say": "through"})}
    ]
    answers = [client.go_on() for _ in range(3)]
    assert [a["status"] for a in answers] == [529, 529, 200]
    assert answers[0]["error"]["type"] == "overloaded_error"
    assert said(answers[2]) == "through"


def test_a_failure_may_say_when_to_come_back(client: Client) -> None:
    prompt = script({"fail": 429, "retry_after": 7})
    body = {"messages": [{"role": "user", "content": prompt}]}
    client.http.request("POST", MESSAGES, json.dumps(body))
    answer = client.http.getresponse()
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    answer.read()


def test_a_failure_in_the_midst_of_an_answer_is_an_error_event(client: Client) -> None:
    events = client.stream(script({"say": "half"}, {"fail": 529}))
    assert events[-1] == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "stand-in failure 529"},
    }


def test_a_cut_answer_ends_without_its_end(client: Client) -> None:
    body = {"stream": True, "messages": [{"role": "user", "content": script({"cut": True})}]}
    client.http.request("POST", MESSAGES, json.dumps(body))
    with pytest.raises(http.client.IncompleteRead):
        client.http.getresponse().read()


def test_what_never_answers_lets_go_when_the_standin_stops(standin: Standin) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": script({"never": True})}]})
    request = f"POST {MESSAGES} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    with socket.create_connection(("127.0.0.1", standin.port), timeout=30) as connection:
        connection.sendall(request.encode())
        standin.wait_for(lambda asked: asked.method == "POST")
        standin.stop()
        assert connection.recv(1) == b""


def test_a_request_is_recorded_with_what_a_test_asks_about(
    standin: Standin, client: Client
) -> None:
    client.post(
        {
            "model": "m",
            "stream": False,
            "system": [{"type": "text", "text": "12345"}],
            "tools": [{"name": "Bash"}, {"name": "Edit"}],
            "messages": [
                {"role": "user", "content": "first"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t"}]},
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "content": [{"type": "text", "text": "out"}]},
                        {"type": "text", "text": "<system-reminder>r</system-reminder>"},
                        {"type": "text", "text": "second"},
                    ],
                },
            ],
        }
    )
    (request,) = standin.requests
    assert request == messages_standin.Request(
        number=1,
        time=request.time,
        method="POST",
        path="/v1/messages",
        client="127.0.0.1",
        headers={"x-api-key": "sk-1", "x-claude-code-session-id": "c1"},
        model="m",
        prompts=("first", "second"),
        context=("<system-reminder>r</system-reminder>",),
        tool_results=("out",),
        system_characters=5,
        tools=("Bash", "Edit"),
    )


def test_the_records_are_served_from_a_number_on(standin: Standin, client: Client) -> None:
    client.ask("one")
    client.ask("two")
    client.http.request("GET", "/standin/requests?after=1&wait=30")
    served = json.loads(client.http.getresponse().read())
    assert [(r["number"], r["prompts"]) for r in served] == [(2, ["one", "two"])]


def test_the_records_are_bounded_in_number_and_in_size(
    monkeypatch: pytest.MonkeyPatch, standin: Standin, client: Client
) -> None:
    monkeypatch.setattr(messages_standin, "KEPT_CHARACTERS", 1_000)
    for _ in range(5):
        client.post({"messages": [{"role": "user", "content": "x" * 400}]})
    assert [request.number for request in standin.requests] == [4, 5]
    before = standin.count
    client.ask("after")
    assert [request.number for request in standin.since(before)] == [6]


def test_a_side_call_between_two_calls_of_a_turn_takes_no_step(client: Client) -> None:
    client.ask(script({"tool": "Bash"}, {"say": "second"}))
    client.post({"model": "small", "messages": [{"role": "user", "content": "a title, please"}]})
    assert said(client.give_result("x")) == "second"


def test_other_paths_answer_as_claude_code_expects(client: Client) -> None:
    def status(method: str, path: str) -> int:
        client.http.request(method, path)
        answer = client.http.getresponse()
        answer.read()
        return answer.status

    assert [status("HEAD", "/"), status("GET", "/"), status("GET", "/v1/models")] == [200, 200, 404]
    assert client.post({}, "/api/event_logging")[0] == 404
    tokens = client.post({"messages": []}, "/v1/messages/count_tokens")
    assert tokens == (200, b'{"input_tokens": 4}')


def test_a_prompt_of_megabytes_arrives_whole(standin: Standin, client: Client) -> None:
    prompt = "é" * 2_500_000
    client.ask(prompt)
    assert standin.requests[-1].prompts == (prompt,)


def test_as_a_program_it_prints_its_port_and_ends_with_its_parent(tmp_path: Path) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps([{"match": "hello", "steps": [{"say": "from the file"}]}]))
    argv = [sys.executable, messages_standin.__file__, f"--rules={rules}", "--until-stdin-closes"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        body = json.dumps({"messages": [{"role": "user", "content": "hello"}]})
        connection.request("POST", MESSAGES, body)
        assert said(json.loads(connection.getresponse().read())) == "from the file"
        connection.close()
        process.stdin.close()
        assert process.wait(timeout=30) == 0
