"""The live Claude Code of a session: turns that outlive whoever asked, interrupts, crashes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from messages_standin import Standin

from claude_mcp.config import Config
from claude_mcp.errors import SessionNotReady, TurnNotFound, UsageError
from claude_mcp.sessions.channel.payload import connect_command
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.turns import commands
from claude_mcp.sessions.turns import prompts as turns
from claude_mcp.sessions.turns.options import TurnOptions
from claude_mcp.sessions.turns.results import MAX_RESULT_CHARS, TurnStatus
from tests.engine_fixtures import log_with

pytestmark = pytest.mark.per_engine

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare

PATIENCE_SECONDS = 60
BASH = "echo; "
"""Claude Code refuses a command that is nothing but a sleep."""


def script(*steps: dict[str, Any]) -> str:
    """A prompt that tells the stand-in what the model does."""
    return "standin: " + json.dumps(steps)


def bash(command: str, **more: Any) -> dict[str, Any]:
    return {"tool": "Bash", "input": {"command": BASH + command, **more}}


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while not await condition():
            await anyio.sleep(0.05)


@pytest.fixture
def claude(bare: Bare, session: Session) -> Callable[[], list[str]]:
    """Pids of the session's Claude Code, without its child that is about to become a program."""

    def pids() -> list[str]:
        listed = bare("exec", session.container_id, "ps", "-eo", "pid=,ppid=,args=")
        rows = (line.split(maxsplit=2) for line in listed.splitlines())
        parents = {pid: parent for pid, parent, args in rows if args.startswith("claude ")}
        return [pid for pid, parent in parents.items() if parent not in parents]

    return pids


async def begin(sessions: Sessions, session: Session, prompt: str) -> str:
    """Leave a turn running; returns its id."""
    turn = await turns.prompt(await sessions.open(session.id), prompt, wait_seconds=0)
    assert turn.status is TurnStatus.RUNNING
    return turn.turn_id


def gate() -> str:
    """A file for which a turn waits, so that no clock decides when the turn ends."""
    return f"/tmp/{uuid.uuid4()}"


def waits_at(gate: str, **more: Any) -> dict[str, Any]:
    """A step that ends once the file is there."""
    return bash(f"until [ -e {gate} ]; do sleep 0.05; done", **more)


async def open_gate(sessions: Sessions, session: Session, gate: str) -> None:
    done = await commands.run(await sessions.open(session.id), f"touch {gate}")
    assert done.exit_code == 0, done.stderr


async def running(bare: Bare, session: Session, *marks: str) -> None:
    """Wait until each mark is in the command line of a process in the session."""

    async def there() -> bool:
        processes = bare.processes(session.container_id)
        return all(mark in processes for mark in marks)

    await until(there)


@pytest.mark.once
async def test_one_claude_answers_all_prompts_and_is_there_before_the_first(
    sessions: Sessions, session: Session, claude: Callable[[], list[str]]
) -> None:
    async def there() -> bool:
        return len(claude()) == 1

    await until(there)
    before = claude()
    for number in range(3):
        assert (await turns.prompt(await sessions.open(session.id), f"prompt {number}")).notes == ()
    assert claude() == before


@pytest.mark.once
async def test_killed_claude_is_started_again_and_remembers(
    sessions: Sessions, session: Session, bare: Bare, claude: Callable[[], list[str]]
) -> None:
    await turns.prompt(await sessions.open(session.id), "The word is quokka.")
    bare("exec", session.container_id, "kill", "-KILL", *claude())

    async def gone() -> bool:
        return not claude()

    await until(gone)
    after = await turns.prompt(await sessions.open(session.id), script({"recall": True}))
    assert "The word is quokka." in (after.result or "")
    assert after.notes == ("Claude Code was restarted: it had ended with exit code 137.",)
    await log_with(sessions, session.id, "ended unexpectedly, exit code 137", "started, resuming")


@pytest.mark.once
async def test_turn_whose_claude_died_has_failed_and_is_not_sent_again(
    sessions: Sessions,
    session: Session,
    standin: Standin,
    bare: Bare,
    claude: Callable[[], list[str]],
) -> None:
    await turns.prompt(await sessions.open(session.id), "The word is quokka.")
    prompt = script(bash("sleep 1234"), {"say": f"never {uuid.uuid4()}"})
    turn = await begin(sessions, session, prompt)
    await running(bare, session, "sleep 1234")
    bare("exec", session.container_id, "kill", "-KILL", *claude())
    failed = await turns.follow(await sessions.open(session.id), turn)
    assert failed.status is TurnStatus.FAILED
    assert "exit code 137" in (failed.error or "")
    assert "The model may have seen the prompt" in (failed.error or "")
    assert "sleep 1234" not in bare.processes(session.container_id)
    again = await turns.prompt(await sessions.open(session.id), prompt, turn_id=turn)
    assert again == failed
    after = await turns.prompt(await sessions.open(session.id), script({"recall": True}))
    assert "The word is quokka." in (after.result or "")
    assert len([each for each in standin.model_calls if each.prompts[-1:] == (prompt,)]) == 1


async def test_container_that_was_restarted_in_a_turn_says_so(
    sessions: Sessions, session: Session, bare: Bare
) -> None:
    await turns.prompt(await sessions.open(session.id), "The word is quokka.")
    prompt = script(bash("sleep 1234"))
    turn = await begin(sessions, session, prompt)
    await running(bare, session, "sleep 1234")
    bare("restart", "--time=0", session.container_id)
    failed = await turns.follow(await sessions.open(session.id), turn)
    assert failed.status is TurnStatus.FAILED
    assert "container was stopped while the turn was running" in (failed.error or "")
    after = await turns.prompt(await sessions.open(session.id), script({"recall": True}))
    assert "The word is quokka." in (after.result or "")


async def test_turn_goes_on_when_its_caller_stops_waiting(
    sessions: Sessions, shared: Session, standin: Standin
) -> None:
    go = gate()
    prompt = script(waits_at(go), {"say": f"late {uuid.uuid4()}"})
    turn = await begin(sessions, shared, prompt)
    with pytest.raises(SessionNotReady, match=f"busy with turn {turn}"):
        await turns.prompt(await sessions.open(shared.id), "me too")
    with anyio.move_on_after(0.2):  # a caller that is cancelled
        await turns.follow(await sessions.open(shared.id), turn)
    await open_gate(sessions, shared, go)
    first = await turns.follow(await sessions.open(shared.id))
    assert first.status is TurnStatus.COMPLETED
    assert (first.result or "").startswith("late ")
    assert await turns.follow(await sessions.open(shared.id), turn) == first
    assert await turns.prompt(await sessions.open(shared.id), prompt, turn_id=turn) == first
    # Once, and once more with what its command said.
    assert len([each for each in standin.model_calls if each.prompts[-1:] == (prompt,)]) == 2
    with pytest.raises(UsageError, match="another prompt"):
        await turns.prompt(await sessions.open(shared.id), "something else", turn_id=turn)


@pytest.mark.once
async def test_unknown_turns_are_said(sessions: Sessions, session: Session) -> None:
    with pytest.raises(TurnNotFound, match="has no turn yet"):
        await turns.follow(await sessions.open(session.id))
    unknown = str(uuid.uuid4())
    for ask in (turns.follow, turns.interrupt):
        with pytest.raises(TurnNotFound, match=unknown):
            await ask(await sessions.open(session.id), unknown)
    assert await turns.interrupt(await sessions.open(session.id)) is None


@pytest.mark.once
@pytest.mark.parametrize(
    ("steps", "marks"),
    [
        ((bash("sleep 1111"),), ("sleep 1111",)),
        ((bash("setsid sleep 2222 & sleep 1111"),), ("sleep 1111", "sleep 2222")),
        (
            (
                bash("(setsid sleep 2222 >/dev/null 2>&1 &); sleep 3333", run_in_background=True),
                bash("sleep 1111"),
            ),
            ("sleep 1111", "sleep 2222", "sleep 3333"),
        ),
        ((bash("env -i setsid sleep 2222 & sleep 1111"),), ("sleep 1111", "sleep 2222")),
    ],
    ids=["tool call", "setsid", "background", "cleared environment"],
)
async def test_interrupted_turn_leaves_no_process_and_the_conversation_goes_on(
    sessions: Sessions,
    session: Session,
    bare: Bare,
    standin: Standin,
    claude: Callable[[], list[str]],
    steps: tuple[dict[str, Any], ...],
    marks: tuple[str, ...],
) -> None:
    await turns.prompt(
        await sessions.open(session.id), script(bash("sleep 4444", run_in_background=True))
    )
    turn = await begin(sessions, session, script(*steps))
    await running(bare, session, *marks)
    before = claude()
    cancelled = await turns.interrupt(await sessions.open(session.id))
    left = bare.processes(session.container_id)
    assert cancelled is not None
    assert (cancelled.turn_id, cancelled.status) == (turn, TurnStatus.CANCELLED)
    assert not [mark for mark in marks if mark in left]
    assert "sleep 4444" in left  # it belongs to a turn before
    assert claude() == before
    asked = standin.count
    after = await turns.prompt(await sessions.open(session.id), script({"recall": True}))
    assert "sleep 4444" in (after.result or "")
    assert len([call for call in standin.since(asked) if call.path == "/v1/messages"]) == 1


@pytest.mark.once
async def test_turn_is_interrupted_also_when_it_has_hardly_begun(
    sessions: Sessions, shared: Session
) -> None:
    for _ in range(5):
        turn = await begin(sessions, shared, script({"wait": 30}, {"say": "never"}))
        cancelled = await turns.interrupt(await sessions.open(shared.id), turn)
        assert cancelled is not None
        assert cancelled.status is TurnStatus.CANCELLED
    assert (
        await turns.prompt(await sessions.open(shared.id), "fine")
    ).status is TurnStatus.COMPLETED


@pytest.mark.once
async def test_prompts_stand_in_line_and_are_answered_in_order(
    sessions: Sessions, shared: Session, standin: Standin
) -> None:
    mark, go = str(uuid.uuid4()), gate()
    prompts = [
        script(waits_at(go), {"say": f"{mark} 0"}),
        *(script({"say": f"{mark} {number}"}) for number in range(1, 4)),
    ]
    queued = [
        await turns.prompt(await sessions.open(shared.id), prompt, wait_seconds=0, queue=True)
        for prompt in prompts
    ]
    assert [turn.ahead for turn in queued] == [0, 1, 2, 3]
    given_up = await turns.interrupt(await sessions.open(shared.id), queued[2].turn_id)
    assert given_up is not None
    assert given_up.status is TurnStatus.CANCELLED
    await open_gate(sessions, shared, go)
    ended = [await turns.follow(await sessions.open(shared.id), turn.turn_id) for turn in queued]
    assert [turn.result for turn in ended] == [f"{mark} 0", f"{mark} 1", None, f"{mark} 3"]
    seen = [call.prompts[-1] for call in standin.model_calls if mark in call.prompts[-1]]
    # The first one calls the model again with what its command said.
    assert seen == [prompts[0], prompts[0], prompts[1], prompts[3]]


@pytest.mark.once
async def test_many_front_ends_neither_merge_nor_lose_prompts(
    config: Config, session: Session, standin: Standin
) -> None:
    mark = str(uuid.uuid4())
    answers: dict[str, str | None] = {}

    async def front_end(number: int) -> None:
        async with open_sessions(config) as mine:
            for each in range(5):
                name = f"{mark} {number}.{each} "
                prompt = name + "x" * (1_000_000 if each == 2 else 10)
                turn = await turns.prompt(await mine.open(session.id), prompt, queue=True)
                answers[prompt] = turn.result

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(front_end, number)
    assert len(answers) == 15
    seen = [call.prompts[-1] for call in standin.model_calls if call.prompts[-1].startswith(mark)]
    assert sorted(seen) == sorted(answers)
    assert all(answer for answer in answers.values())


async def test_front_end_that_dies_in_the_middle_of_a_prompt_does_no_harm(
    sessions: Sessions, shared: Session, standin: Standin
) -> None:
    mark = str(uuid.uuid4())
    turn = {"turnId": str(uuid.uuid4()), "prompt": mark + "x" * 1_000_000, "whenBusy": "wait"}
    line = json.dumps({"id": 1, "op": "turn", "args": turn}).encode()
    engine = await sessions.engine()
    async with engine.exec(shared.container_id, connect_command()) as stream:
        assert b"greeting" in await stream.receive()
        await stream.send(line[:700_000])
        after = await turns.prompt(await sessions.open(shared.id), "A whole prompt.", queue=True)
    assert after.status is TurnStatus.COMPLETED
    again = await turns.prompt(await sessions.open(shared.id), "Another one.")
    assert again.status is TurnStatus.COMPLETED
    assert [call for call in standin.model_calls if mark in call.prompts[-1]] == []


@pytest.mark.once
async def test_events_are_read_by_cursor_and_large_ones_in_full(
    sessions: Sessions, session: Session
) -> None:
    steps = script(bash("seq 2000"), {"say": "counted"})
    turn = await turns.prompt(await sessions.open(session.id), steps)
    read = await turns.follow(await sessions.open(session.id), turn.turn_id, cursor=0)
    assert [event.kind for event in read.events] == ["tool_call", "tool_result", "message"]
    call, result, message = read.events
    assert (call.text, message.text) == ("Bash: echo; seq 2000", "counted")
    assert (len(result.text), result.left_out > 5000) == (1000, True)
    _, whole = await turns.event(await sessions.open(session.id), result.number)
    assert (len(whole.text), whole.left_out) == (1000 + result.left_out, 0)
    assert "1999\n2000" in whole.text
    rest = await turns.follow(await sessions.open(session.id), turn.turn_id, cursor=result.number)
    assert rest.events == (message,)
    assert rest.cursor == message.number
    with pytest.raises(TurnNotFound, match="no event 99"):
        await turns.event(await sessions.open(session.id), 99)


@pytest.mark.once
async def test_what_claude_does_unasked_is_told_and_counts_as_busy(
    sessions: Sessions, session: Session, standin: Standin
) -> None:
    go = gate()
    steps = script(waits_at(go, run_in_background=True), {"say": "started"})
    turn = await turns.prompt(await sessions.open(session.id), steps)
    assert turn.result == "started"
    await open_gate(sessions, session, go)
    with anyio.fail_after(PATIENCE_SECONDS):
        read = await turns.follow(await sessions.open(session.id), cursor=turn.cursor)
        while "unasked" not in [event.kind for event in read.events]:
            await anyio.sleep(0.1)
            read = await turns.follow(await sessions.open(session.id), cursor=turn.cursor)
        read = await turns.follow(await sessions.open(session.id), read.turn_id)
    assert read.turn_id != turn.turn_id
    assert read.status is TurnStatus.COMPLETED
    assert (
        await turns.prompt(await sessions.open(session.id), "and now?")
    ).status is TurnStatus.COMPLETED


@pytest.mark.once
@pytest.mark.parametrize(
    ("steps", "status", "error", "told"),
    [
        ([{"fail": 401}], TurnStatus.FAILED, "401", None),
        ([{"fail": 429, "retry_after": 1, "times": 1}, {"say": "ok"}], TurnStatus.COMPLETED, None,
         "API retry 1 of"),
        ([{"fail": 529, "times": 2}, {"say": "ok"}], TurnStatus.COMPLETED, None,
         ": HTTP 529, stand-in failure 529"),
        ([{"say": "half"}, {"cut": True, "times": 1}, {"say": "ok"}], TurnStatus.COMPLETED, None,
         None),
    ],
    ids=["401", "429", "529", "cut"],
)  # fmt: skip
async def test_failures_of_the_api_have_a_clear_end(
    sessions: Sessions,
    shared: Session,
    steps: list[dict[str, Any]],
    status: TurnStatus,
    error: str | None,
    told: str | None,
) -> None:
    lines: list[str] = []

    async def progress(line: str, amount: object = None, /) -> None:
        lines.append(line)

    turn = await turns.prompt(await sessions.open(shared.id), script(*steps), progress=progress)
    assert turn.status is status
    assert (error or "") in (turn.error or "")
    assert told is None or any(told in line for line in lines)
    after = await turns.prompt(await sessions.open(shared.id), "Still there?")
    assert after.status is TurnStatus.COMPLETED


@pytest.mark.once
async def test_api_that_never_answers_leaves_a_turn_that_can_be_interrupted(
    sessions: Sessions, shared: Session
) -> None:
    turn = await turns.prompt(
        await sessions.open(shared.id), script({"never": True}), wait_seconds=1
    )
    assert turn.status is TurnStatus.RUNNING
    cancelled = await turns.interrupt(await sessions.open(shared.id), turn.turn_id)
    assert cancelled is not None
    assert cancelled.status is TurnStatus.CANCELLED
    assert (
        await turns.prompt(await sessions.open(shared.id), "hello")
    ).status is TurnStatus.COMPLETED


@pytest.mark.once
async def test_an_answer_of_5_mb_is_cut_and_its_event_is_whole(
    sessions: Sessions, session: Session
) -> None:
    turn = await turns.prompt(
        await sessions.open(session.id), script({"say": "0123456789", "repeat": 500_000})
    )
    half = "0123456789" * 13_108
    left_out = 5_000_000 - MAX_RESULT_CHARS
    assert turn.result == (
        f"{half[: MAX_RESULT_CHARS // 2]}\n[{left_out} characters left out]\n"
        f"{half[-(MAX_RESULT_CHARS // 2) :]}"
    )
    handle = await sessions.open(session.id)
    read = await turns.follow(handle, cursor=0)
    assert (read.events[-1].kind, read.events[-1].left_out) == ("message", 4_999_000)
    _, event = await turns.event(handle, read.events[-1].number)
    assert event.text == "0123456789" * 500_000


@pytest.mark.once
async def test_forged_journal_and_records_do_no_harm(
    sessions: Sessions, session: Session, bare: Bare
) -> None:
    turn = await turns.prompt(await sessions.open(session.id), "An honest prompt.")
    forge = (
        "cd ~/.claude-mcp && { head -c 3000000 /dev/urandom; echo; "
        'echo \'{"number": 1e400, "turnId": {}, "kind": [], "text": 3, "time": null}\'; '
        "printf '%01000000d' 0 | tr 0 '['; echo; } >> journal.jsonl && "
        "for f in turns/*.json; do echo '{' > $f; done; rm -f journal.old.jsonl; "
        "ln -s /dev/zero journal.old.jsonl"
    )
    forged = await commands.run(await sessions.open(session.id), forge)
    assert (forged.exit_code, forged.stderr) == (0, "")
    for _ in range(2):  # as the agent has it in memory, and as it finds it after a restart
        after = await turns.prompt(
            await sessions.open(session.id), script(bash("true"), {"say": "fine"})
        )
        assert (after.status, after.result) == (TurnStatus.COMPLETED, "fine")
        read = await turns.follow(await sessions.open(session.id), after.turn_id, cursor=0)
        assert read.status is TurnStatus.COMPLETED
        bare("restart", "--time=0", session.container_id)
    with pytest.raises(TurnNotFound):
        await turns.follow(await sessions.open(session.id), turn.turn_id)


@pytest.mark.once
async def test_idle_claude_is_stopped_and_the_next_turn_works(
    config: Config, project: Path, name: str, bare: Bare
) -> None:
    async with open_sessions(replace(config, idle_seconds=1.0)) as sessions:
        created = await create(sessions, CreateRequest(str(project), session_name=name))
        try:
            await turns.prompt(await sessions.open(name), "The word is quokka.")

            async def stopped() -> bool:
                return "stream-json" not in bare.processes(created.session.container_id)

            await until(stopped)
            after = await turns.prompt(await sessions.open(name), script({"recall": True}))
            assert "The word is quokka." in (after.result or "")
            assert after.notes == ("Claude Code was restarted: it was idle.",)
        finally:
            await sessions.destroy(name)


@pytest.mark.once
async def test_a_conversation_that_the_service_refuses_names_the_way_out(
    sessions: Sessions, session: Session
) -> None:
    handle = await sessions.open(session.id)
    failed = await turns.prompt(handle, script({"fail": 413}))
    assert (failed.status, failed.needs_new_conversation) == (TurnStatus.FAILED, True)
    assert "newConversation" in (failed.error or "")
    options = TurnOptions(new_conversation=True)
    after = await turns.prompt(handle, script({"recall": True}), options=options)
    assert after.status is TurnStatus.COMPLETED
