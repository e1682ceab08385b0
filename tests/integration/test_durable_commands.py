"""Commands outlive their caller, the program that started them, and what their shell leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import anyio
import pytest

from claude_mcp.config import Config
from claude_mcp.engine.engine import Engine
from claude_mcp.errors import UsageError
from claude_mcp.sessions.command_state import CommandResult, CommandStatus
from claude_mcp.sessions.handle import SessionHandle
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.turns import commands

pytestmark = pytest.mark.per_engine

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare

pytestmark = pytest.mark.cluster

STRESS = pytest.mark.stress
MIB = 1024 * 1024
SERVER = "mkfifo /tmp/go; (while read line; do echo heard $line; done </tmp/go) & echo started"


async def read_on(handle: SessionHandle, after: CommandResult, words: str) -> CommandResult:
    """Read a command's output after a result until it holds these words."""
    said = ""
    with anyio.fail_after(60):
        while words not in said:
            after = await commands.follow(
                handle, after.command_id, cursor=after.cursor, wait_seconds=20
            )
            said += after.stdout
    return after


async def test_a_killed_program_s_command_goes_on_and_any_other_program_finds_it(
    config: Config, sessions: Sessions, session: Session, engine: Engine
) -> None:
    identifier = str(uuid.uuid4())
    words = "echo begun; until test -e /tmp/finish; do sleep 0.05; done; echo ended; exit 7"
    program = [sys.executable, "-m", "claude_mcp", "--engine", engine.dialect.name, "exec"]
    caller = subprocess.Popen([*program, "--command-id", identifier, session.id, words])
    try:
        handle = await sessions.open(session.id)
        with anyio.fail_after(60):
            while not any(each.command_id == identifier for each in await commands.listed(handle)):
                await anyio.sleep(0.05)
    finally:
        os.kill(caller.pid, signal.SIGKILL)
        caller.wait()
    async with open_sessions(config) as others:
        handle = await others.open(session.id)
        running = await commands.follow(handle, identifier, cursor=0, wait_seconds=60)
        assert (running.status, running.stdout) == (CommandStatus.RUNNING, "begun\n")
        [listed] = [each for each in await others.list() if each.session.id == session.id]
        assert listed.activity is not None
        assert [each.command_id for each in listed.activity.commands] == [identifier]
        await commands.run(handle, "touch /tmp/finish")
        for _ in range(2):
            ended = await commands.follow(handle, identifier)
            assert (ended.exit_code, ended.stdout) == (7, "begun\nended\n")
        again = await commands.run(handle, words, command_id=identifier, durable=True)
        assert (again.started_at, again.exit_code) == (ended.started_at, 7)
        with pytest.raises(UsageError, match="was used for another command"):
            await commands.run(handle, "echo other", command_id=identifier)


async def test_what_a_command_leaves_running_keeps_its_output(
    sessions: Sessions, shared: Session, bare: Bare
) -> None:
    handle = await sessions.open(shared.id)
    for start in (SERVER, f"nohup setsid sh -c '{SERVER.replace('& echo', '; echo')}' & true"):
        left = await commands.run(handle, start)
        assert (left.status, left.exit_code) == (CommandStatus.LEFT_RUNNING, 0)
        await commands.run(handle, "until test -p /tmp/go; do :; done; echo one >/tmp/go")
        await read_on(handle, left, "heard one\n")
        await commands.stop(handle, left.command_id)
        await commands.run(handle, "rm /tmp/go")
    assert "heard" not in bare.processes(shared.container_id)


async def test_a_restart_of_the_container_is_told_with_the_output_until_then(
    sessions: Sessions, session: Session, bare: Bare
) -> None:
    handle = await sessions.open(session.id)
    running = await commands.run(
        handle, "echo said; sleep 1111", background=True, timeout_seconds=None
    )
    await read_on(handle, running, "said\n")
    bare.restart(session.container_id)
    lost = await commands.follow(await sessions.open(session.id), running.command_id)
    assert (lost.status, lost.exit_code, lost.stdout) == (CommandStatus.LOST, None, "said\n")
    assert any("was stopped while the command ran" in note for note in lost.notes)


async def test_a_terminal_has_a_size_and_input_arrives(sessions: Sessions, shared: Session) -> None:
    handle = await sessions.open(shared.id)
    size = commands.Terminal(columns=100, rows=30)
    ended = await commands.run(
        handle, "stty size; tty; read word; echo got $word", tty=size, input="it\n"
    )
    # What was typed is echoed among it.
    assert {"30 100", "it", "got it"} < set(ended.stdout.splitlines())
    assert "/dev/pts/" in ended.stdout
    assert (await commands.run(handle, "tr a-z A-Z", input="text")).stdout == "TEXT"


@pytest.mark.parametrize("size", [20 * MIB, pytest.param(200 * MIB, marks=STRESS)])
async def test_the_output_of_a_background_command_is_bounded_on_disk(
    sessions: Sessions, session: Session, size: int
) -> None:
    handle = await sessions.open(session.id)
    words = f"yes abcdefghijklmno | head -c {size}; echo END"
    started = await commands.run(handle, words, background=True, timeout_seconds=None)
    ended = await commands.follow(handle, started.command_id)
    assert ended.stdout.startswith("abcdefghijklmno\n")
    assert ended.stdout.endswith("END\n")
    assert ended.truncated.startswith(f"stdout: {size + 4 - 65536} of {size + 4} bytes left out")
    used = await commands.run(handle, "du -sm ~/.claude-mcp/commands | cut -f1")
    assert int(used.stdout) <= 10
    part = await commands.follow(handle, started.command_id, cursor=0)
    assert "bytes before this are no longer kept" in part.truncated
    kept = 0
    while part.more:
        assert set(part.stdout.splitlines()[1:-1]) == {"abcdefghijklmno"}
        kept += len(part.stdout)
        part = await commands.follow(handle, started.command_id, cursor=part.cursor)
    assert part.stdout.endswith("END\n")
    assert 3 * MIB < kept < 9 * MIB
