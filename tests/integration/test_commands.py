from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from claude_mcp.config import Config, load
from claude_mcp.contract import operations
from claude_mcp.engine.engine import Engine
from claude_mcp.errors import SessionNotFound, SessionNotReady, UsageError
from claude_mcp.sessions.command_state import CommandStatus
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import Session, Status
from claude_mcp.sessions.turns import commands

pytestmark = pytest.mark.per_engine

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare

pytestmark = pytest.mark.cluster

PATIENCE_SECONDS = 60
AWKWARD = """'single' "double" `backtick` $HOME $(id) \\ --leading -- 🎉 \t tab"""


async def test_streams_are_apart_and_the_exit_code_is_kept(
    sessions: Sessions, shared: Session
) -> None:
    result = await commands.run(await sessions.open(shared.id), "echo out; echo err >&2; exit 3")
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 3)
    assert (result.truncated, result.timed_out) == ("", False)


async def test_command_runs_in_the_workspace_or_the_given_directory(
    sessions: Sessions, shared: Session
) -> None:
    assert (await commands.run(await sessions.open(shared.id), "pwd")).stdout == "/workspace\n"
    inside = await commands.run(await sessions.open(shared.id), "pwd", workdir="/tmp")
    assert inside.stdout == "/tmp\n"
    with pytest.raises(UsageError, match="there is no directory '/nosuch'"):
        await commands.run(await sessions.open(shared.id), "pwd", workdir="/nosuch")


async def test_awkward_command_reaches_the_shell_byte_for_byte(
    sessions: Sessions, shared: Session
) -> None:
    quoted = "'" + AWKWARD.replace("'", "'\\''") + "'"
    result = await commands.run(await sessions.open(shared.id), f"printf %s {quoted}")
    assert result.stdout == AWKWARD
    # A surrogate stands for a byte that is not UTF-8, as in a program's arguments.
    odd = await commands.run(await sessions.open(shared.id), "printf \udcff\u00fc | od -An -tx1")
    assert odd.stdout == " ff c3 bc\n"
    leading = await commands.run(await sessions.open(shared.id), "--help")
    assert leading.exit_code == 127  # a command not found, not an option of anything


async def test_command_of_200_kb_reaches_the_shell_whole(
    sessions: Sessions, shared: Session
) -> None:
    text = "x'\"$`é🎉 " * 20_000
    quoted = "'" + text.replace("'", "'\\''") + "'"
    result = await commands.run(await sessions.open(shared.id), f"printf %s {quoted} | wc -c")
    assert result.stdout.strip() == str(len(text.encode()))


@pytest.mark.parametrize("megabytes", [100, pytest.param(500, marks=pytest.mark.stress)])
async def test_much_output_comes_back_bounded_and_the_server_does_not_grow(
    sessions: Sessions, shared: Session, megabytes: int
) -> None:
    await commands.run(await sessions.open(shared.id), "true")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    some, more = "yes error | head -c 1000000 >&2", f"head -c {megabytes}000000"
    command = f"yes 0123456789abcdef | {more}; {some}; echo END"
    result = await commands.run(await sessions.open(shared.id), command)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if sys.platform == "linux":
        assert grown_kib < 20 * 1024
    assert len(result.stdout) < 70_000
    assert result.stdout.startswith("0123456789abcdef\n")
    assert result.stdout.endswith("END\n")
    assert "bytes left out" in result.stdout
    assert result.truncated.startswith(f"stdout: {megabytes - 1}9")
    assert "stderr: 9" in result.truncated
    assert result.exit_code == 0


@pytest.mark.parametrize(
    "command",
    [
        "sleep 1111",
        "setsid sleep 1111 & sleep 1111",
        "setsid sh -c 'sleep 1111 & sleep 1111' & sleep 1111",
        "trap '' TERM; sleep 1111; sleep 1111",
        "(env -i sleep 1111) & sleep 1111",
        "nohup sleep 1111 >/dev/null 2>&1 & wait",
    ],
)
async def test_timed_out_and_stopped_commands_leave_no_process(
    sessions: Sessions, shared: Session, command: str, bare: Bare
) -> None:
    handle = await sessions.open(shared.id)
    result = await commands.run(handle, command, timeout_seconds=0.3)
    assert (result.timed_out, result.exit_code) == (True, 124)
    assert "1111" not in bare.processes(shared.container_id)
    running = await commands.run(handle, f"echo said; {command}", wait_seconds=0.3)
    assert running.status is CommandStatus.RUNNING
    said, after = running.stdout, running.cursor
    with anyio.fail_after(PATIENCE_SECONDS):
        while said != "said\n":
            more = await commands.follow(handle, running.command_id, cursor=after, wait_seconds=20)
            said, after = said + more.stdout, more.cursor
    assert "1111" in bare.processes(shared.container_id)
    stopped = await commands.stop(handle, running.command_id)
    assert (stopped.status, stopped.stdout) == (CommandStatus.STOPPED, "said\n")
    assert "1111" not in bare.processes(shared.container_id)


async def test_background_child_of_a_finished_command_lives_on(
    sessions: Sessions, shared: Session
) -> None:
    await commands.run(await sessions.open(shared.id), "sleep 2222 & echo $! > /tmp/pid")
    alive = await commands.run(
        await sessions.open(shared.id), "kill $(cat /tmp/pid) && echo was alive"
    )
    assert alive.stdout == "was alive\n"


async def test_commands_run_side_by_side(sessions: Sessions, shared: Session) -> None:
    results: list[str] = []

    async def meet(mine: str, other: str) -> None:
        command = f"touch /tmp/{mine}; while [ ! -e /tmp/{other} ]; do sleep 0.01; done; echo met"
        done = await commands.run(await sessions.open(shared.id), command, timeout_seconds=60)
        results.append(done.stdout)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(meet, "a", "b")
        tasks.start_soon(meet, "b", "a")
    assert results == ["met\n", "met\n"]


async def test_signalled_command_has_the_exit_code_of_a_shell(
    sessions: Sessions, shared: Session
) -> None:
    assert (await commands.run(await sessions.open(shared.id), "kill -9 $$")).exit_code == 137


async def test_agent_survives_what_a_command_can_do_to_its_own_user(
    sessions: Sessions, session: Session
) -> None:
    """A command that kills the agent ends the container; the next request starts it again."""
    with pytest.raises(Exception, match=r"lost|not running|no longer exists|answer|reach"):
        await commands.run(await sessions.open(session.id), "kill -9 $PPID; sleep 5")
    again = await commands.run(await sessions.open(session.id), "echo again")
    assert again.stdout == "again\n"


async def test_command_in_a_session_that_is_gone_says_so(
    sessions: Sessions, session: Session, bare: Bare
) -> None:
    await commands.run(await sessions.open(session.id), "true")
    bare.remove(session.container_id)
    with pytest.raises(SessionNotFound):
        await commands.run(await sessions.open(session.id), "true")


async def test_only_one_engine_process_is_held_while_the_channel_is_open(
    sessions: Sessions, shared: Session, engine: Engine
) -> None:
    for _ in range(3):
        await commands.run(await sessions.open(shared.id), "true")
    with anyio.fail_after(PATIENCE_SECONDS):  # what else the engine was asked ends by itself
        while sum(engine.program in each for each in _children()) > 1:
            await anyio.sleep(0.05)


def _children() -> list[str]:
    import os
    from pathlib import Path

    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
            command = (entry.parent / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z":
            found.append(command)
    return found


async def test_a_long_command_needs_no_temporary_directory_and_no_disk(
    sessions: Sessions, session: Session
) -> None:
    long = f"rm -rf /tmp /var/tmp/* 2>/dev/null; : '{'x' * 150_000}'; ls /tmp; echo done"
    for _ in range(2):
        result = await commands.run(await sessions.open(session.id), long)
        assert (result.stdout, result.exit_code) == ("done\n", 0)


LIMIT_OPEN_FILES = """python3 - {limit} <<'END'
import os, resource, sys
limit = int(sys.argv[1])
for pid in filter(str.isdigit, os.listdir("/proc")):
    with open(f"/proc/{{pid}}/cmdline", "rb") as file:
        if file.read().startswith(b"python3\\0-I\\0-S\\0-c"):
            _, hard = resource.prlimit(int(pid), resource.RLIMIT_NOFILE)
            resource.prlimit(int(pid), resource.RLIMIT_NOFILE, (limit, hard))
END"""
"""Gives the agent a limit that an engine may give to every container."""


@pytest.mark.once
async def test_commands_beyond_the_limit_of_open_files_are_refused_and_the_agent_goes_on(
    config: Config, sessions: Sessions, session: Session, bare: Bare
) -> None:
    run = commands.run
    limited = await run(await sessions.open(session.id), LIMIT_OPEN_FILES.format(limit=250))
    assert (limited.exit_code, limited.stderr) == (0, "")
    said: list[str] = []
    waits = "until [ -e /tmp/go ]; do sleep 1; done; echo ok"

    async def hold() -> None:
        try:
            said.append((await run(await sessions.open(session.id), waits)).stdout)
        except SessionNotReady as error:
            said.append(error.message)

    async with anyio.create_task_group() as tasks:
        for _ in range(250):
            tasks.start_soon(hold)
        while not said:
            await anyio.sleep(0.05)
        async with open_sessions(config) as others:  # another front end, all the same
            listed = {each.session.id: each for each in await others.list()}
            assert listed[session.id].session.status is Status.RUNNING
            await (await others.open(session.id)).request(operations.PING, {})
        bare.exec(session.container_id, "touch", "/tmp/go")
    assert set(said) == {
        "ok\n",
        "The session cannot start another process: it has reached its limit of processes or of "
        "open files.",
    }
    again = await run(await sessions.open(session.id), "echo up")
    assert (again.stdout, again.notes) == ("up\n", ())


@pytest.mark.once
async def test_five_hundred_commands_in_flight_are_all_answered(
    sessions: Sessions, session: Session
) -> None:
    await commands.run(await sessions.open(session.id), LIMIT_OPEN_FILES.format(limit=1024))
    said: list[str] = []

    async def run() -> None:
        said.append((await commands.run(await sessions.open(session.id), "echo ok")).stdout)

    async with anyio.create_task_group() as tasks:
        for _ in range(500):
            tasks.start_soon(run)
    assert said == ["ok\n"] * 500


FILL_THE_RELAY = """
import resource, select, socket
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
with open("/proc/net/tcp") as table:
    listening = [line.split()[1] for line in table if line.split()[3] == "0A"]
port = next(int(each.split(":")[1], 16) for each in listening if each.startswith("0100007F"))
connect = lambda: socket.create_connection(("127.0.0.1", port), 20)
held, refused = [connect() for _ in range(400)], 0
select.select(held, [], [], 20)  # until it has refused one
for each in held:
    each.settimeout(0.01)
    try:
        refused += each.recv(12) == b"HTTP/1.1 503"
    except TimeoutError:
        pass  # it waits for the request
print(0 < refused < 400)
for each in held:
    each.close()
"""


@pytest.mark.once
async def test_connections_beyond_the_limit_of_open_files_do_not_end_the_relay(
    environ: dict[str, str], engine: Engine, project: Path, name: str
) -> None:
    """A proxy with a password is reached through a relay of the agent."""
    environ["HTTPS_PROXY"] = "http://me:secret@proxy.invalid:3128"
    async with open_sessions(load(environ, engine=engine.dialect.name)) as sessions:
        created = await create(sessions, CreateRequest(str(project), session_name=name))
        try:
            handle = await sessions.open(created.session.id)
            await handle.request(operations.STATUS, {})  # Claude Code, and so its relay, is started
            await commands.run(handle, LIMIT_OPEN_FILES.format(limit=250))
            for _ in range(2):  # the relay goes on
                result = await commands.run(handle, f"python3 -c '{FILL_THE_RELAY}'")
                assert (result.stdout, result.stderr, result.exit_code) == ("True\n", "", 0)
        finally:
            await sessions.destroy(created.session.id)
