"""What a session may take: programs that want all of it, and the host and its other sessions.

Each test sees sessions of its own alone: others may run on this machine.
"""

from __future__ import annotations

import os
import secrets
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from messages_standin import Standin

from claude_mcp.config import Config
from claude_mcp.engine.engine import Engine
from claude_mcp.errors import SessionNotReady, TooManySessions
from claude_mcp.sessions import labels, marks, pruning
from claude_mcp.sessions.command_state import CommandResult
from claude_mcp.sessions.create import start
from claude_mcp.sessions.create.request import Created, CreateRequest
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import Session, Status
from claude_mcp.sessions.turns import commands
from claude_mcp.sessions.turns import prompts as turns
from tests.engine_fixtures import EXPIRED_SECONDS, LIFETIME_SECONDS, Bare, log_with, own_warnings
from tests.restricted import of_engine

PATIENCE_SECONDS = 60
LOG_BYTES = 20 << 20
"""Twice the limit, for what is written before the engine looks at the size again."""

Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    label = f"claude-mcp-test-{secrets.token_hex(4)}.session"
    for module in (marks, labels):  # the one that declares it, and the one that writes and reads it
        monkeypatch.setattr(module, "SESSION", label)


@pytest.fixture
async def make(sessions: Sessions, project: Path, name: str, bare: Bare) -> AsyncIterator[Make]:
    """Creates sessions, the first under the test's name; what is left of them is removed."""
    made: list[str] = []

    async def create(within: Sessions = sessions, **request: Any) -> Created:
        made.append(f"{name}-{len(made)}" if made else name)
        return await start.create(
            within, CreateRequest(str(project), session_name=made[-1], **request)
        )

    yield create
    for each in made:
        bare.remove_all(each)


@pytest.fixture
async def limits_memory(engine: Engine) -> bool:
    """Whether this engine can limit memory here."""
    return "memory" not in (await engine.info()).ignored_limits


async def run(
    sessions: Sessions, created: Created, command: str, **options: Any
) -> tuple[int | None, str]:
    done = await commands.run(await sessions.open(created.session.id), command, **options)
    return done.exit_code, done.stdout


async def is_well(sessions: Sessions, created: Created) -> bool:
    """A command is answered, and Claude Code lives."""
    with anyio.fail_after(PATIENCE_SECONDS):
        done = await run(sessions, created, "echo well")
        turn = await turns.prompt(
            await sessions.open(created.session.id), "Say hello.", turn_id=None
        )
    assert turn.status == "completed", (turn.error, turn.notes)
    return done == (0, "well\n")


async def test_limits_reach_the_kernel(sessions: Sessions, make: Make, limits_memory: bool) -> None:
    wanted = {"memory": "512m", "cpus": "1", "pids": "300"}
    created = await make(limits=wanted)
    if not limits_memory:
        assert [each.partition(" here")[0] for each in own_warnings(created)] == [
            "Podman cannot limit this session's memory",
            "Podman cannot limit this session's CPU",
        ]
        assert await run(
            sessions,
            created,
            "python3 -c 'import resource as r; print(r.getrlimit(r.RLIMIT_NPROC))'",
        ) == (0, "(300, 300)\n")
        return
    assert own_warnings(created) == []
    read = (
        "cd /sys/fs/cgroup; cat memory.max memory/memory.limit_in_bytes pids.max pids/pids.max "
        "cpu.max cpu/cpu.cfs_quota_us 2>/dev/null; "
        # The agent sets this one right after the start.
        "until grep 700 /proc/$$/oom_score_adj; do :; done"
    )
    _, out = await run(sessions, created, read, timeout_seconds=PATIENCE_SECONDS)
    assert out.replace("\n", " ").split() in (
        [str(512 << 20), "300", "100000", "700"],
        [str(512 << 20), "300", "100000", "100000", "700"],
    )


async def test_a_memory_hog_is_killed_and_its_session_says_so(
    sessions: Sessions, make: Make, limits_memory: bool
) -> None:
    hungry, other = await make(limits={"memory": "400m"}), await make()
    if not limits_memory:  # then it is said, and no hog is let loose on this machine
        assert "cannot limit this session's memory here" in own_warnings(hungry)[0]
        return
    hog = "python3 -c 'x = b\"x\" * (1 << 30)'"
    done = await commands.run(await sessions.open(hungry.session.id), hog)
    note = "Out of memory: the kernel killed 1 process in the session; its limit is 400 MiB."
    assert (done.exit_code, done.notes) == (137, (note,))
    assert await is_well(sessions, hungry)
    assert await is_well(sessions, other)
    await log_with(sessions, hungry.session.id, note)


async def test_a_fork_bomb_is_bounded_and_killed_whole(
    sessions: Sessions, make: Make, limits_memory: bool
) -> None:
    bombed, other = await make(limits={"pids": "300"}), await make()
    bomb = "b() { b | b & b; }; b; sleep 60"
    async with anyio.create_task_group() as tasks:
        results: list[CommandResult] = []

        async def explode() -> None:
            results.append(
                await commands.run(await sessions.open(bombed.session.id), bomb, timeout_seconds=5)
            )

        tasks.start_soon(explode)
        await anyio.sleep(2)
        with anyio.fail_after(PATIENCE_SECONDS):
            assert await run(sessions, other, "echo well") == (0, "well\n")
    [done] = results
    assert await is_well(sessions, bombed)
    assert await is_well(sessions, other)
    if limits_memory:
        assert any(note.startswith("Out of processes: ") for note in done.notes), done
        await log_with(sessions, bombed.session.id, "its limit is 300 processes and threads")


@pytest.mark.near("a read-only root needs a mounted project")
async def test_a_disk_filler_fills_what_a_read_only_root_leaves_it(
    sessions: Sessions, make: Make
) -> None:
    created = await make(limits={"disk": "32m"}, read_only_root=True)
    for directory in ("/tmp", "/var/tmp", "$HOME"):
        fill = f"head -c 100000000 /dev/zero >{directory}/x; stat -c %s {directory}/x"
        done = await commands.run(await sessions.open(created.session.id), fill)
        assert "No space left on device" in done.stderr
        assert int(done.stdout) <= 32 << 20
    for directory in ("/", "/usr/local/bin", "/home/session", "/run"):
        done = await commands.run(await sessions.open(created.session.id), f"touch {directory}/x")
        assert "Read-only file system" in done.stderr or "Permission denied" in done.stderr
    await run(sessions, created, "rm /tmp/x /var/tmp/x ~/x")
    assert await is_well(sessions, created)


@pytest.mark.near("a read-only root needs a mounted project")
async def test_a_prompt_that_a_full_disk_cannot_record_is_not_sent(
    sessions: Sessions, make: Make, standin: Standin
) -> None:
    created = await make(limits={"disk": "32m"}, read_only_root=True)
    handle = await sessions.open(created.session.id)
    assert (await turns.prompt(handle, "Say hello.")).status == "completed"
    await commands.run(handle, "head -c 100000000 /dev/zero >~/x")
    before = standin.count
    text = f"Say that {created.session.name} is full."
    turn_id = str(uuid.uuid4())
    with pytest.raises(SessionNotReady, match=r"could not record it: .*No space left"):
        await turns.prompt(handle, text, turn_id=turn_id)
    assert standin.since(before) == ()
    await run(sessions, created, "rm ~/x")
    assert (await turns.prompt(handle, text, turn_id=turn_id)).status == "completed"
    assert (await turns.prompt(handle, text, turn_id=turn_id)).turn_id == turn_id
    asked = [each for each in standin.since(before) if text in str(each)]
    assert len(asked) == 1


@pytest.mark.once
async def test_a_command_with_an_id_runs_once_though_the_disk_is_full(
    sessions: Sessions, make: Make, project: Path
) -> None:
    created = await make(limits={"disk": "32m"}, read_only_root=True)
    handle = await sessions.open(created.session.id)
    fill = "head -c 100000000 /dev/zero >~/x"
    await commands.run(handle, fill)
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    with pytest.raises(SessionNotReady, match=r"could not record it: .*No space left"):
        await commands.run(handle, "echo first >>ran", command_id=first)
    await run(sessions, created, "rm ~/x")
    for _ in range(2):
        await commands.run(handle, "echo first >>ran", command_id=first)
    filling = f"echo second >>ran; {fill}; seq 3"
    for _ in range(2):
        assert (await commands.run(handle, filling, command_id=second)).stdout == "1\n2\n3\n"
    await run(sessions, created, "rm ~/x")
    assert (await commands.run(handle, filling, command_id=second)).stdout == "1\n2\n3\n"
    assert (project / "ran").read_text() == "first\nsecond\n"


@pytest.mark.near("a read-only root needs a mounted project")
async def test_a_session_with_a_read_only_root_ends_with_its_home(
    sessions: Sessions, make: Make, bare: Bare
) -> None:
    created = await make(read_only_root=True)
    bare("stop", "--time=5", created.session.container_id)
    assert (await sessions.find(created.session.id)).status is Status.BROKEN


async def test_a_disk_limit_that_cannot_be_set_is_a_warning(sessions: Sessions, make: Make) -> None:
    created = await make(limits={"disk": "1g"})
    assert await run(sessions, created, "echo well") == (0, "well\n")
    for warning in own_warnings(created):  # this storage may be one that can
        assert "cannot limit this session's " in warning


@pytest.mark.per_engine
async def test_a_flood_of_output_is_bounded_where_the_engine_keeps_it(
    engine: Engine, sessions: Sessions, make: Make, bare: Bare
) -> None:
    created = await make()
    # The engine reads what the main process's stderr is, and so may a process of its user.
    flood = "head -c 40000000 /dev/zero | tr '\\0' x | fold -w 1000 >/proc/1/fd/2"
    with anyio.fail_after(PATIENCE_SECONDS):
        done = await run(sessions, created, flood)
    assert done == (0, "")
    where = {"docker": "{{.LogPath}}", "podman": "{{.HostConfig.LogConfig.Path}}"}
    path = of_engine(
        bare(
            "inspect", f"--format={where[engine.dialect.name]}", created.session.container_id
        ).strip()
    )
    if os.access(path, os.R_OK):  # rootless Docker and Podman keep it from their user
        kept = sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*"))
        assert kept < LOG_BYTES
    _, lines = await commands.logs(await sessions.open(created.session.id), 10)
    assert len(lines) == 10
    assert await is_well(sessions, created)


@pytest.mark.per_engine
async def test_of_sessions_created_at_once_as_many_stay_as_may(
    config: Config, make: Make, bare: Bare, name: str
) -> None:
    limited = replace(config, max_sessions=2)
    outcomes: list[Created | TooManySessions] = []
    async with open_sessions(limited) as one, open_sessions(limited) as two:

        async def attempt(within: Sessions) -> None:
            try:
                outcomes.append(await make(within))
            except TooManySessions as error:
                outcomes.append(error)

        async with anyio.create_task_group() as tasks:
            for within in (one, two, one, two):
                tasks.start_soon(attempt, within)
        created = [each.session for each in outcomes if isinstance(each, Created)]
        refused = [each for each in outcomes if isinstance(each, TooManySessions)]
        assert (len(created), len(refused)) == (2, 2)
        running = [each.session.id for each in await one.list()]
        assert sorted(running) == sorted(each.id for each in created)
        for error in refused:
            assert (
                "The limit of 2 running sessions (MAX_CONCURRENT_SESSIONS) is reached: "
                in error.message
            )
            assert f"{name}" in error.message

        # A stopped session takes no room, and gets none while there is none.
        bare("stop", "--time=5", created[0].container_id)
        third = await make(one)
        with pytest.raises(TooManySessions):
            await commands.run(await two.open(created[0].id), "true")
        await one.destroy(third.session.id)
        assert (await commands.run(await two.open(created[0].id), "echo again")).stdout == "again\n"

        # The same for two that are started again at once.
        for each in created:
            bare("stop", "--time=5", each.container_id)
        await make(one)
        outcomes.clear()

        async def start_again(within: Sessions, session: Session) -> None:
            try:
                await commands.run(await within.open(session.id), "true")
            except TooManySessions as error:
                outcomes.append(error)

        async with anyio.create_task_group() as tasks:
            for within, session in zip((one, two), created, strict=True):
                tasks.start_soon(start_again, within, session)
        assert len(outcomes) == 1
        states = [each.session.status for each in await one.list()]
        assert states.count(Status.RUNNING) == 2


async def until_expired(sessions: Sessions, created: Created) -> None:
    with anyio.fail_after(EXPIRED_SECONDS):
        while (await sessions.find(created.session.id)).status is not Status.EXPIRED:
            await anyio.sleep(0.1)


@pytest.mark.per_engine
@pytest.mark.timeout(240)
async def test_an_expired_session_ends_itself_and_is_removed_by_whoever_looks(
    config: Config, sessions: Sessions, make: Make, bare: Bare, name: str
) -> None:
    created = await make(timeout_seconds=LIFETIME_SECONDS)
    assert created.session.expires_at is not None
    await until_expired(sessions, created)
    with pytest.raises(SessionNotReady, match="has expired"):
        await commands.run(await sessions.open(created.session.name), "true")
    await log_with(sessions, created.session.id, "session expired: its lifetime is over")
    async with open_sessions(config) as another:
        [listed] = await another.list()
        assert (listed.session.status, listed.session.expires_at) == (
            Status.EXPIRED,
            created.session.expires_at,
        )
    assert bare.containers(name) == []


@pytest.mark.per_engine
async def test_a_session_without_use_expires_and_one_in_use_does_not(
    sessions: Sessions, make: Make
) -> None:
    created = await make(idle_timeout_seconds=6)  # a busy machine needs some for the first command
    assert await run(sessions, created, "sleep 8; echo used") == (0, "used\n")
    await until_expired(sessions, created)
    await log_with(sessions, created.session.id, "session expired: it was unused for 6 s")


@pytest.mark.near("a read-only root needs a mounted project")
@pytest.mark.per_engine
@pytest.mark.timeout(240)
async def test_pruning_removes_what_is_over_and_nothing_else(
    sessions: Sessions, make: Make, bare: Bare
) -> None:
    well, expired, broken = (
        await make(),
        await make(timeout_seconds=LIFETIME_SECONDS),
        await make(read_only_root=True),
    )
    bare("stop", "--time=5", broken.session.container_id)
    await until_expired(sessions, expired)
    over = {(expired.session.id, "expired"), (broken.session.id, "broken")}

    def told(pruned: list[pruning.Pruned], removed: bool) -> set[tuple[str, str]]:
        assert all(each.removed is removed for each in pruned)
        return {(each.session.id, each.reason) for each in pruned}

    assert told(await sessions.prune(dry_run=True), False) == over
    assert told(await sessions.prune(), True) == over
    assert await sessions.prune() == []
    assert [each.session.id for each in await sessions.list()] == [well.session.id]
