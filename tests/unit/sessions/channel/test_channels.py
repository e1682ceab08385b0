"""Requests over a held exec: answered, cancelled, lost."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest

from claude_mcp.contract import places
from claude_mcp.engine import pulse
from claude_mcp.errors import (
    AgentError,
    EngineError,
    EngineUnavailable,
    ImageUnfit,
    SessionNotFound,
    SessionNotReady,
)
from claude_mcp.sessions.channel import channel, silence
from claude_mcp.sessions.channel import channels as channel_set
from claude_mcp.sessions.channel.channel import NoContainer, NotRunning
from claude_mcp.sessions.channel.channels import Channels
from claude_mcp.sessions.channel.refusals import AgentRefused
from tests.unit.sessions.conftest import PRELUDE, container

if TYPE_CHECKING:
    from tests.unit.conftest import Lifeline
    from tests.unit.sessions.conftest import ScriptedEngine

ID = "c0ffee"
ECHO = "for line in sys.stdin:\n    one = json.loads(line); answer(one['id'], ok=one)\n"
LOST = "The connection to the session was lost before it answered."
# Docker's words for an exec that it could not start, on the stdout of that exec.
STOPPED_ON_STDOUT = "OCI runtime exec failed: exec failed: cannot exec in a stopped state: unknown"
NO_PYTHON_ON_STDOUT = (
    'OCI runtime exec failed: exec failed: unable to start container process: exec: "python3": '
    "executable file not found in $PATH: unknown"
)

Open = Callable[..., AbstractAsyncContextManager[Channels]]


@pytest.fixture
def opened(scripted: ScriptedEngine) -> Open:
    @asynccontextmanager
    async def make(idle_seconds: float = 30.0) -> AsyncIterator[Channels]:
        if not scripted.held:
            scripted.holds(container(ID, "fix"))
        async with anyio.create_task_group() as tasks:
            yield Channels(scripted.engine, tasks, idle_seconds=idle_seconds)
            tasks.cancel_scope.cancel()

    return make


async def test_a_request_is_answered(scripted: ScriptedEngine, opened: Open) -> None:
    scripted.agent(ECHO)
    async with opened() as channels:
        answer = await channels.request(ID, "command", {"text": "two\nlines \u2028 é \U0001f600"})
    assert answer == {
        "id": 1,
        "op": "command",
        "args": {"text": "two\nlines \u2028 é \U0001f600"},
    }


async def test_all_requests_of_a_session_share_one_exec(
    scripted: ScriptedEngine, opened: Open
) -> None:
    scripted.agent(ECHO)
    async with opened() as channels:
        assert not channels.is_open(ID)
        numbers = [(await channels.request(ID, "x", {}))["id"] for _ in range(3)]
        assert channels.is_open(ID)
        assert await channels.is_alive(ID)
    assert (numbers, scripted.calls) == ([1, 2, 3], ["exec"])


async def test_another_session_has_a_channel_of_its_own(
    scripted: ScriptedEngine, opened: Open
) -> None:
    scripted.agent("answer(request()['id'], ok={'argv': sys.argv[1:4]}); request()")
    async with opened() as channels:
        answers = [await channels.request(each, "x", {}) for each in ("c0ffee", "decade")]
    assert answers == [
        {"argv": ["exec", "--interactive", "c0ffee"]},
        {"argv": ["exec", "--interactive", "decade"]},
    ]


async def test_requests_are_answered_in_any_order(scripted: ScriptedEngine, opened: Open) -> None:
    scripted.agent(
        "waiting = [request() for _ in range(3)]\n"
        "for one in reversed(waiting): answer(one['id'], ok=one['args'])\n"
        "request()"
    )
    answers: dict[int, Any] = {}

    async def ask(number: int) -> None:
        answers[number] = await channels.request(ID, "x", {"number": number})

    async with opened() as channels, anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(ask, number)
    assert answers == {0: {"number": 0}, 1: {"number": 1}, 2: {"number": 2}}


async def test_events_come_in_order_and_before_the_answer(
    scripted: ScriptedEngine, opened: Open
) -> None:
    scripted.agent(
        "number = request()['id']\n"
        "for count in range(3): answer(number, event={'count': count})\n"
        "answer(number, event='not one')\n"
        "answer(number, ok={})\n"
        "answer(number, event={'count': 'late'})\n"
        "request()"
    )
    events: list[Any] = []

    async def on_event(event: dict[str, Any]) -> None:
        await anyio.lowlevel.checkpoint()
        events.append(event["count"])

    async with opened() as channels:
        await channels.request(ID, "x", {}, on_event)
    assert events == [0, 1, 2]


async def test_events_that_come_faster_than_they_are_taken_are_bounded(
    scripted: ScriptedEngine, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "MAX_WAITING_EVENTS", 10)
    scripted.agent(
        "ids = {each['op']: each['id'] for each in (request(), request())}\n"
        "for count in range(10_000): answer(ids['one'], event={'count': count})\n"
        "answer(ids['other'], ok={}); answer(ids['one'], ok={}); request()"
    )
    taken = []
    flooded = anyio.Event()

    async def on_event(event: dict[str, Any]) -> None:
        await flooded.wait()
        taken.append(event["count"])

    async with opened() as channels, anyio.create_task_group() as tasks:
        tasks.start_soon(channels.request, ID, "one", {}, on_event)
        await channels.request(ID, "other", {})
        flooded.set()
    assert taken == sorted(set(taken))
    assert 10 <= len(taken) <= 11  # one is in hand while the others wait


async def test_a_refusal_has_a_code_and_a_message(scripted: ScriptedEngine, opened: Open) -> None:
    malformed = ("failed", "its answer is malformed")
    refusals: list[tuple[dict[str, Any], tuple[str, str]]] = [
        ({"error": {"code": "busy", "message": "later"}}, ("busy", "later")),
        ({"error": {"code": "unheard-of", "message": "x"}}, ("failed", "x")),
        ({"error": {"code": 3, "message": "x"}}, malformed),
        ({"error": {"code": "busy", "message": ["x"]}}, malformed),
        ({"error": {}}, malformed),
        ({"error": "text"}, malformed),
        ({"ok": "text"}, malformed),
        ({"ok": None}, malformed),
        ({}, malformed),
    ]
    answers = [answer for answer, _ in refusals]
    scripted.agent(f"for each in {answers!r}: answer(request()['id'], **each)\nrequest()")
    async with opened() as channels:
        for _, expected in refusals:
            with pytest.raises(AgentRefused) as caught:
                await channels.request(ID, "x", {})
            assert (caught.value.code, str(caught.value)) == expected
    assert scripted.calls == ["exec"]


async def test_a_line_that_is_not_an_answer_is_ignored(
    scripted: ScriptedEngine, opened: Open
) -> None:
    scripted.agent(
        "one = request()\n"
        "for each in ['', 'garbage', '[]', '[1]', '3', 'null', '{}', '[' * 100_000, '9' * 10_000,\n"
        '             \'{"id": 1, "ok": \']: say(each)\n'
        "for each in [99, [], {}, None, 'x', 1.5]: answer(each, ok={'not': 'this'})\n"
        "sys.stdout.buffer.write(b'\\xff\\xfe\\n'); answer(one['id'], ok={'a': 1}); request()"
    )
    async with opened() as channels:
        assert await channels.request(ID, "x", {}) == {"a": 1}


async def test_an_answer_may_be_large_and_come_in_pieces(
    scripted: ScriptedEngine, opened: Open
) -> None:
    scripted.agent("answer(request()['id'], ok={'text': 'x' * 3_000_000}); request()")
    async with opened() as channels:
        answer = await channels.request(ID, "x", {})
    assert answer == {"text": "x" * 3_000_000}


async def test_an_endless_answer_ends_the_channel(
    scripted: ScriptedEngine,
    opened: Open,
    monkeypatch: pytest.MonkeyPatch,
    lifeline: Lifeline,
) -> None:
    monkeypatch.setattr(channel, "MAX_ANSWER_BYTES", 1_000_000)
    monkeypatch.setattr(channel, "EXIT_SECONDS", 0.01)
    scripted.agent(
        f"file = open('{lifeline.path}', 'w')\nwhile True: sys.stdout.write('x' * 65536)"
    )
    async with opened() as channels:
        with pytest.raises(AgentError):
            await channels.request(ID, "x", {})
    lifeline.end()


async def test_a_cancelled_request_waits_until_the_agent_has_stopped_it(
    scripted: ScriptedEngine, opened: Open, tmp_path: Path, lifeline: Lifeline
) -> None:
    note = tmp_path / "cancelled"
    scripted.agent(
        f"first = request()\n"
        f"with open('{lifeline.path}', 'w') as file: file.write('ready\\n')\n"
        f"second = request()\n"
        f"with open('{note}', 'w') as file: json.dump(second, file)\n"
        f"answer(first['id'], ok={{}})\n"
        f"{ECHO}"
    )
    async with opened() as channels:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channels.request, ID, "x", {})
            assert await anyio.to_thread.run_sync(lifeline.line) == "ready"
            tasks.cancel_scope.cancel()
        assert note.read_text() == '{"id": 0, "op": "cancel", "args": {"id": 1}}'
        assert (await channels.request(ID, "next", {}))["op"] == "next"
    assert scripted.calls == ["exec"]


async def test_a_cancelled_request_does_not_wait_for_ever(
    scripted: ScriptedEngine, opened: Open, monkeypatch: pytest.MonkeyPatch, lifeline: Lifeline
) -> None:
    monkeypatch.setattr(channel, "CANCEL_ANSWER_SECONDS", 0.01)
    scripted.agent(
        f"request()\nwith open('{lifeline.path}', 'w') as file: file.write('ready\\n')\n"
        "for line in sys.stdin: pass"
    )
    async with opened() as channels, anyio.create_task_group() as tasks:
        tasks.start_soon(channels.request, ID, "x", {})
        assert await anyio.to_thread.run_sync(lifeline.line) == "ready"
        tasks.cancel_scope.cancel()


async def test_a_request_whose_events_cannot_be_taken_is_cancelled_too(
    scripted: ScriptedEngine, opened: Open, tmp_path: Path
) -> None:
    note = tmp_path / "cancelled"
    scripted.agent(
        "first = request(); answer(first['id'], event={})\n"
        f"with open('{note}', 'w') as file: file.write(request()['op'])\n"
        "answer(first['id'], ok={})\nrequest()"
    )

    async def on_event(event: dict[str, Any]) -> None:
        raise ZeroDivisionError

    async with opened() as channels:
        with pytest.raises(ZeroDivisionError):
            await channels.request(ID, "x", {}, on_event)
    assert note.read_text() == "cancel"


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        ("request()", AgentError, f"{LOST} Its log ends with: last words"),
        ("request(); say('half an ans')", AgentError, f"{LOST} Its log ends with: last words"),
        (
            "request(); os.kill(os.getpid(), 9)",
            AgentError,
            f"{LOST} Its log ends with: last words",
        ),
        (
            "request(); sys.exit('Error response from daemon: Container c0ffee is not running')",
            AgentError,
            f"{LOST} Its log ends with: last words",
        ),
        (
            f"sys.exit({places.NO_AGENT_EXIT_CODE})",
            AgentError,
            "The session's agent does not answer. Its log ends with: last words",
        ),
        (
            f"sys.exit({places.NO_ROOM_EXIT_CODE})",
            SessionNotReady,
            "The session cannot start another process: it has reached its limit of processes or "
            "of open files.",
        ),
        (
            "sys.exit('OCI runtime exec failed: fork/exec: resource temporarily unavailable')",
            SessionNotReady,
            "The session cannot start another process: it has reached its limit of processes or "
            "of open files.",
        ),
        (
            "sys.exit('OCI runtime exec failed: dial unix /run/shim.sock: connect: resource "
            "temporarily unavailable')",
            EngineError,
            "Docker could not reach the session: OCI runtime exec failed: dial unix "
            "/run/shim.sock: connect: resource temporarily unavailable.",
        ),
        (
            "sys.exit('Error response from daemon: No such container: c0ffee')",
            SessionNotFound,
            "The session's container no longer exists.",
        ),
        (
            "sys.exit('Error: no container with name or ID \"c0ffee\" found: no such container')",
            SessionNotFound,
            "The session's container no longer exists.",
        ),
        (
            "sys.exit('Error response from daemon: Container c0ffee is not running')",
            NotRunning,
            "The session's container is not running.",
        ),
        (
            "sys.exit('Error: can only create exec sessions on running containers: container "
            "state improper')",
            NotRunning,
            "The session's container is not running.",
        ),
        (
            f"print({STOPPED_ON_STDOUT!r}, end='\\r\\n'); sys.exit(126)",
            NotRunning,
            "The session's container is not running.",
        ),
        (
            f"print({NO_PYTHON_ON_STDOUT!r}, end='\\r\\n'); sys.exit(126)",
            ImageUnfit,
            f"Docker could not reach the session: {NO_PYTHON_ON_STDOUT}.",
        ),
        (
            "sys.exit('Error response from daemon: something new')",
            EngineError,
            "Docker could not reach the session: something new.",
        ),
    ],
)
async def test_a_channel_that_is_lost_says_why(
    scripted: ScriptedEngine, opened: Open, script: str, kind: type[Exception], message: str
) -> None:
    if script.startswith("request()"):
        scripted.agent(script)
    else:  # the engine fails before the agent has greeted
        scripted.on("exec", f"import sys; {script}")
    async with opened() as channels:
        with pytest.raises(kind) as caught:
            await channels.request(ID, "x", {})
        assert getattr(caught.value, "message", "") == message
        with anyio.fail_after(60):
            while channels.is_open(ID):
                await anyio.lowlevel.checkpoint()


async def test_all_who_wait_learn_that_a_channel_is_lost(
    scripted: ScriptedEngine, opened: Open
) -> None:
    scripted.agent("[request() for _ in range(3)]")
    failures: list[str] = []

    async def ask() -> None:
        with pytest.raises(AgentError) as caught:
            await channels.request(ID, "x", {})
        failures.append(caught.value.message)

    async with opened() as channels, anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(ask)
    assert failures == [f"{LOST} Its log ends with: last words"] * 3


async def test_after_a_loss_the_next_request_opens_another_channel(
    scripted: ScriptedEngine, opened: Open
) -> None:
    scripted.agent("request()")
    async with opened() as channels:
        with pytest.raises(AgentError):
            await channels.request(ID, "x", {})
        assert not await channels.is_alive(ID)
        scripted.agent(ECHO)
        assert (await channels.request(ID, "y", {}))["op"] == "y"
    assert scripted.calls == ["exec", "container", "container", "logs", "exec"]


@pytest.mark.parametrize(
    ("logs", "words"),
    [
        ("sys.stderr.write('T1 one\\n\\nT2 two\\n')", "Its log ends with: one | two"),
        ("sys.stdout.write('T1 talk\\n')", "Its log is empty."),
        (
            "sys.exit('Error response from daemon: what')",
            "Its log cannot be read either: Docker could not read the logs of container c0ffee: "
            "what.",
        ),
    ],
)
async def test_the_error_quotes_the_log_of_an_agent_that_does_not_answer(
    scripted: ScriptedEngine, opened: Open, logs: str, words: str
) -> None:
    scripted.agent("request()")
    scripted.on("logs", f"import sys; {logs}")
    async with opened() as channels:
        with pytest.raises(AgentError) as caught:
            await channels.request(ID, "x", {})
    assert str(caught.value) == (
        f"{LOST} {words} Read the session's log. If the error persists, destroy the session. "
        "The request may have been carried out."
    )


async def test_an_agent_that_does_not_greet_is_not_waited_for(
    scripted: ScriptedEngine, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "GREETING_SECONDS", 0.01)
    monkeypatch.setattr(channel, "EXIT_SECONDS", 0.01)
    scripted.on("exec", "import sys; sys.stdin.read()")
    async with opened() as channels:
        with pytest.raises(AgentError):
            await channels.request(ID, "x", {})


async def test_a_missing_engine_program_is_an_engine_error(
    scripted: ScriptedEngine, opened: Open
) -> None:
    os.unlink(scripted.engine.program)
    async with opened() as channels:
        with pytest.raises(EngineError, match=r"^Docker could not reach the session: "):
            await channels.request(ID, "x", {})


async def test_a_channel_without_use_closes_and_is_opened_again(
    scripted: ScriptedEngine, opened: Open, lifeline: Lifeline
) -> None:
    scripted.agent(f"file = open('{lifeline.path}', 'w')\n{ECHO}")
    async with opened(idle_seconds=0.01) as channels:
        await channels.request(ID, "x", {})
        await anyio.to_thread.run_sync(lifeline.end)
        assert (await channels.request(ID, "y", {}))["op"] == "y"
    assert scripted.calls == ["exec", "exec"]


async def test_a_request_does_not_fall_into_a_channel_that_is_closing(
    scripted: ScriptedEngine, opened: Open, tmp_path: Path, lifeline: Lifeline
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    scripted.agent(
        f"answer(request()['id'], ok={{}})\nsys.stdin.read()\n"
        f"with open('{lifeline.path}', 'w') as file: file.write('closing\\n')\n"
        f"open('{gate}').read()"
    )
    async with opened(idle_seconds=0.01) as channels:
        await channels.request(ID, "x", {})
        assert await anyio.to_thread.run_sync(lifeline.line) == "closing"
        scripted.agent(ECHO)
        assert (await channels.request(ID, "y", {}))["op"] == "y"
        with open(gate, "w"):
            pass


async def test_a_busy_channel_is_not_closed(
    scripted: ScriptedEngine, opened: Open, lifeline: Lifeline
) -> None:
    scripted.agent(
        "number = request()['id']\n"
        "import select\n"
        "ended, _, _ = select.select([sys.stdin], [], [], 0.1)\n"
        "answer(number, ok={'ended': bool(ended)})\n"
    )
    async with opened(idle_seconds=0.01) as channels:
        assert await channels.request(ID, "x", {}) == {"ended": False}


async def test_a_closed_channel_leaves_no_process_and_fails_what_was_under_way(
    scripted: ScriptedEngine, opened: Open, lifeline: Lifeline
) -> None:
    scripted.agent(
        f"file = open('{lifeline.path}', 'w')\nrequest()\n"
        "file.write('ready\\n'); file.flush(); time.sleep(1000)"
    )
    failures: list[str] = []

    async def ask() -> None:
        with pytest.raises(AgentError) as caught:
            await channels.request(ID, "x", {})
        failures.append(caught.value.message)

    async with opened() as channels, anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        assert await anyio.to_thread.run_sync(lifeline.line) == "ready"
        channels.close(ID)
        await anyio.to_thread.run_sync(lifeline.end)
    assert failures == ["The connection to the session was closed. Its log ends with: last words"]


async def test_a_channel_that_no_longer_answers_is_not_alive(
    scripted: ScriptedEngine, opened: Open, monkeypatch: pytest.MonkeyPatch, lifeline: Lifeline
) -> None:
    monkeypatch.setattr(channel_set, "TRUSTED_QUIET_SECONDS", 0.0)
    monkeypatch.setattr(channel_set, "PING_SECONDS", 0.01)
    monkeypatch.setattr(channel, "CANCEL_ANSWER_SECONDS", 0.01)
    scripted.agent(
        f"file = open('{lifeline.path}', 'w')\nanswer(request()['id'], ok={{}})\ntime.sleep(1000)"
    )
    async with opened() as channels:
        await channels.request(ID, "x", {})
        assert channels.is_open(ID)
        assert not await channels.is_alive(ID)
        assert not channels.is_open(ID)
        await anyio.to_thread.run_sync(lifeline.end)


@pytest.mark.parametrize(("reply", "alive"), [("sys.exit()", False), ("time.sleep(1000)", True)])
async def test_a_channel_over_which_others_wait_is_asked_too_and_closed_only_if_it_is_lost(
    scripted: ScriptedEngine,
    opened: Open,
    monkeypatch: pytest.MonkeyPatch,
    reply: str,
    alive: bool,
) -> None:
    monkeypatch.setattr(channel_set, "TRUSTED_QUIET_SECONDS", 0.0)
    monkeypatch.setattr(channel_set, "PING_SECONDS", 60.0 if not alive else 0.2)
    monkeypatch.setattr(channel, "CANCEL_ANSWER_SECONDS", 0.01)
    scripted.agent(f"answer(request()['id'], event={{}}); request(); {reply}")
    heard = anyio.Event()

    async def hear(event: object) -> None:
        heard.set()

    async with opened() as channels, anyio.create_task_group() as tasks:

        async def wait() -> None:
            with suppress(AgentError):
                await channels.request(ID, "command", {}, hear)

        tasks.start_soon(wait)
        await heard.wait()
        assert await channels.is_alive(ID) == alive
        tasks.cancel_scope.cancel()


async def test_leaving_takes_every_exec_along(
    scripted: ScriptedEngine, opened: Open, lifeline: Lifeline
) -> None:
    scripted.agent(f"file = open('{lifeline.path}', 'w')\n{ECHO}")
    async with opened() as channels:
        await channels.request(ID, "x", {})
        await channels.request("decade", "x", {})
    assert lifeline.end() == ""


# A side that says nothing.

SILENT = "request(); time.sleep(1000)"
NEXT = " Read the session's log. If the error persists, destroy the session."
MAYBE = " What was asked of it may still be carried out."


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QUIET_SECONDS", "PONG_SECONDS", "LATE_SECONDS", "EXIT_SECONDS"):
        monkeypatch.setattr(channel, name, 0.05)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (
            "running",
            AgentError,
            # How long that was, the machine decides.
            r"The session's agent has not answered for \d+ s, although its container runs\."
            + re.escape(f"{NEXT}{MAYBE}"),
        ),
        (
            "paused",
            SessionNotReady,
            re.escape(
                "The session's container is paused. Unpause its container claude-mcp-fix first."
                f"{MAYBE}"
            ),
        ),
        ("exited", AgentError, r"The session stopped before it answered\."),
    ],
)
async def test_a_session_that_says_nothing_learns_which_part_is_silent(
    scripted: ScriptedEngine, opened: Open, status: str, kind: type[Exception], message: str
) -> None:
    scripted.agent(SILENT)
    scripted.holds(container(ID, "fix", status))
    async with opened() as channels:
        with pytest.raises(kind, match=f"^{message}"):
            await channels.request(ID, "command", {})


@pytest.mark.usefixtures("impatient")
async def test_an_engine_that_says_nothing_is_named(
    scripted: ScriptedEngine, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "PONG_SECONDS", 60.0)
    monkeypatch.setattr(channel, "ENGINE_QUIET_SECONDS", 0.0)
    monkeypatch.setattr(pulse, "ANSWER_SECONDS", 0.05)
    scripted.on("version", "import time; time.sleep(1000)")
    scripted.agent(SILENT)
    async with opened() as channels:
        with pytest.raises(EngineUnavailable) as caught:
            await channels.request(ID, "command", {})
    assert str(caught.value) == (
        "Docker does not answer. Its daemon may hang: look at the engine's own log, or restart "
        "it. What was asked of it may still be carried out."
    )


async def test_an_engine_that_is_silent_before_the_agent_greets_is_named(
    scripted: ScriptedEngine, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(pulse, "ANSWER_SECONDS", 0.05)
    for verb in ("version", "exec"):
        scripted.on(verb, "import time; time.sleep(1000)")
    async with opened() as channels:
        with pytest.raises(EngineUnavailable) as caught:
            await channels.request(ID, "command", {})
    assert str(caught.value).startswith("Docker does not answer. ")
    assert "carried out" not in str(caught.value)


@pytest.mark.usefixtures("impatient")
async def test_a_container_that_the_engine_does_not_describe_is_not_taken_for_a_silent_engine(
    scripted: ScriptedEngine, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "ENGINE_SECONDS", 0.05)
    scripted.on("container", "import time; time.sleep(1000)")
    scripted.agent(SILENT)
    async with opened() as channels:
        with pytest.raises(EngineUnavailable, match=r"^Docker answers, but does not say what"):
            await channels.request(ID, "command", {})


async def test_an_agent_that_answers_pings_has_all_the_time_that_the_caller_gives(
    scripted: ScriptedEngine, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("QUIET_SECONDS", "LATE_SECONDS"):
        monkeypatch.setattr(channel, name, 0.05)
    monkeypatch.setattr(channel, "PONG_SECONDS", 60.0)
    scripted.agent(
        "one = request()\n"
        "for _ in range(3): answer(request()['id'], ok={})\n"
        "answer(one['id'], ok={'done': True}); request()"
    )
    async with opened() as channels:
        assert await channels.request(ID, "command", {}) == {"done": True}


async def test_a_caller_is_answered_although_the_agent_ignores_its_time_limit(
    scripted: ScriptedEngine, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "GRACE_SECONDS", 0.05)
    monkeypatch.setattr(channel, "LATE_SECONDS", 0.05)
    scripted.agent("one = request()\nfor line in sys.stdin: answer(json.loads(line)['id'], ok={})")
    async with opened() as channels:
        with pytest.raises(AgentError, match=r"^The session's agent has not answered for 0 s"):
            await channels.request(ID, "command", {"timeoutSeconds": 0.05})


async def test_a_call_of_a_few_seconds_learns_that_the_container_is_paused(
    scripted: ScriptedEngine, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "GRACE_SECONDS", 0.05)
    monkeypatch.setattr(channel, "LATE_SECONDS", 0.05)
    scripted.agent("request(); sys.stdin.read()")
    async with opened() as channels:
        scripted.holds(container(ID, "fix", "paused"))
        with pytest.raises(SessionNotReady, match=r"^The session's container is paused"):
            await channels.request(ID, "turn", {"waitSeconds": 0})


async def test_a_request_that_was_not_written_is_sent_over_another_channel(
    scripted: ScriptedEngine, opened: Open, tmp_path: Path
) -> None:
    """The container was restarted while the connector connected."""
    first = tmp_path / "first"
    scripted.on(
        "exec",
        "import os, sys\n"
        f"if not os.path.exists('{first}'):\n"
        f"    open('{first}', 'w').close()\n"
        "    raise ConnectionResetError(104, 'Connection reset by peer')\n"
        f"{PRELUDE}{ECHO}",
    )
    async with opened() as channels:
        assert (await channels.request(ID, "x", {}))["op"] == "x"
    assert scripted.calls == ["exec", "exec"]


@pytest.mark.parametrize(
    ("held", "kind", "message"),
    [
        ([], SessionNotFound, "The session was removed before it answered."),
        (
            [container(ID, "fix", "removing")],
            SessionNotFound,
            "The session was removed before it answered.",
        ),
        ([container(ID, "fix", "exited")], AgentError, "The session stopped before it answered."),
    ],
)
async def test_a_lost_request_learns_what_became_of_the_container(
    scripted: ScriptedEngine,
    opened: Open,
    held: list[dict[str, Any]],
    kind: type[Exception],
    message: str,
) -> None:
    scripted.agent("request()")
    async with opened() as channels:
        scripted.holds(*held)
        with pytest.raises(kind) as caught:
            await channels.request(ID, "command", {})
    assert getattr(caught.value, "message", "") == message
    assert scripted.calls.count("exec") == 1


@pytest.mark.parametrize(
    "failure",
    [
        f"sys.exit({places.NO_AGENT_EXIT_CODE})",
        "os.kill(os.getpid(), 9)",
        "sys.exit('Error: OCI runtime error: unable to join its cgroup')",
    ],
    ids=["no agent", "killed", "the engine's words"],
)
@pytest.mark.parametrize(
    ("held", "kind"),
    [([container(ID, "fix", "exited")], NotRunning), ([], NoContainer)],
    ids=["stopped", "removed"],
)
async def test_a_container_that_ends_while_somebody_connects_is_not_taken_for_a_fault(
    scripted: ScriptedEngine,
    opened: Open,
    failure: str,
    held: list[dict[str, Any]],
    kind: type[Exception],
) -> None:
    scripted.on("exec", f"import os, sys; {failure}")
    async with opened() as channels:
        scripted.holds(*held)
        with pytest.raises(kind):
            await channels.request(ID, "command", {})
