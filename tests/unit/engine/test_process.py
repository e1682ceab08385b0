"""Starting processes, with real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

from claude_mcp.engine import process
from claude_mcp.engine.process import (
    Completed,
    ProcessTimeout,
    ProgramNotFound,
    open_stream,
    run,
    run_with_pipe,
)

if TYPE_CHECKING:
    from tests.unit.conftest import Lifeline

PATIENCE_SECONDS = 60.0


def sh(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


def python(script: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", script)


def open_descriptors() -> set[tuple[str, str]]:
    """The number of each and what it leads to; what earlier tests left may be closed any time."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that lists them
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return found


async def be_late(lifeline: Lifeline, forward: Callable[[float], None]) -> None:
    """Let the time of a program be over once it is ready, and what it said until then is read."""
    assert await anyio.to_thread.run_sync(lifeline.line) == "ready"
    await anyio.wait_all_tasks_blocked()
    forward(PATIENCE_SECONDS)


class TestRun:
    async def test_stdout_stderr_and_the_exit_code_are_captured_separately(self) -> None:
        argv = sh("echo out; echo err >&2; exit 3")
        assert await run(argv) == Completed(argv, 3, b"out\n", b"err\n")

    async def test_death_by_a_signal_is_a_negative_exit_code(self) -> None:
        assert (await run(sh("kill -TERM $$"))).returncode == -signal.SIGTERM

    async def test_invalid_utf_8_is_replaced_only_in_the_text(self) -> None:
        completed = await run(sh(r"printf '\377a'; printf '\376b' >&2"))
        assert (completed.stdout, completed.stderr) == (b"\xffa", b"\xfeb")
        assert (completed.out, completed.err) == ("\N{REPLACEMENT CHARACTER}a", "\ufffdb")

    async def test_the_given_environment_is_the_whole_environment(self) -> None:
        completed = await run(("/usr/bin/env",), env={"ONLY": "this = value"})
        assert completed.out == "ONLY=this = value\n"

    async def test_arguments_arrive_unchanged(self) -> None:
        awkward = ("--x", "", "a b", "two\nlines", "$HOME `id`", "'\"", "é")
        script = "import sys; print(sys.argv[1:])"
        assert (await run((*python(script), *awkward))).out == f"{list(awkward)}\n"

    async def test_stdin_is_empty(self) -> None:
        assert (await run(("/bin/cat",))).stdout == b""

    async def test_capture_is_bounded_and_keeps_head_and_tail_of_each_stream(self) -> None:
        script = (
            "import sys; sys.stdout.write('a' * 3_000_000 + 'b' * 3_000_000); "
            "sys.stderr.write('short')"
        )
        argv = python(script)
        assert await run(argv, capture_bytes=10) == Completed(argv, 0, b"aaaaabbbbb", b"short")

    @pytest.mark.parametrize("kind", ["missing", "directory", "not executable", "below a file"])
    async def test_a_program_that_cannot_be_started_is_not_found(
        self, tmp_path: Path, kind: str
    ) -> None:
        path = tmp_path / "program"
        if kind == "directory":
            path.mkdir()
        elif kind != "missing":
            path.write_text("")
        if kind == "below a file":
            path = path / "program"
        with pytest.raises(ProgramNotFound, match=str(path)):
            await run((str(path),))

    async def test_a_timeout_kills_the_whole_group_and_keeps_stderr(
        self, lifeline: Lifeline, forward: Callable[[float], None]
    ) -> None:
        argv = sh(f"{lifeline.hold}; echo why >&2; (sleep 1000; true) & echo ready >&9; wait")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(be_late, lifeline, forward)
            with pytest.raises(ProcessTimeout) as caught:
                await run(argv, timeout=PATIENCE_SECONDS)
        assert (str(caught.value), caught.value.stderr) == (
            "/bin/sh did not end within 60 s",
            "why\n",
        )
        assert lifeline.end() == ""

    async def test_a_timeout_kills_the_group_of_a_program_that_has_ended(
        self, lifeline: Lifeline, forward: Callable[[float], None]
    ) -> None:
        argv = sh(f"{lifeline.hold}; sleep 1000 & echo ready >&9")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(be_late, lifeline, forward)
            with pytest.raises(ProcessTimeout):
                await run(argv, timeout=PATIENCE_SECONDS)
        assert lifeline.end() == ""

    async def test_a_cancelled_call_kills_the_whole_group(self, lifeline: Lifeline) -> None:
        argv = sh(f"trap '' TERM; {lifeline.hold}; (sleep 1000; true) & echo ready >&9; wait")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, argv)
            assert await anyio.to_thread.run_sync(lifeline.line) == "ready"
            tasks.cancel_scope.cancel()
        assert lifeline.end() == ""

    @pytest.mark.parametrize("checkpoints", range(6))
    async def test_a_call_that_is_cancelled_before_it_runs_leaves_no_process(
        self, lifeline: Lifeline, checkpoints: int
    ) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, sh(f"{lifeline.hold}; sleep 1000 & wait"))
            for _ in range(checkpoints):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        lifeline.end()

    async def test_a_program_that_floods_its_output_is_killed_like_any_other(
        self, lifeline: Lifeline
    ) -> None:
        argv = sh(f"{lifeline.hold}; echo ready >&9; exec cat /dev/zero")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, argv)
            assert await anyio.to_thread.run_sync(lifeline.line) == "ready"
            tasks.cancel_scope.cancel()
        assert lifeline.end() == ""

    async def test_a_call_leaves_no_descriptor_open(self, lifeline: Lifeline) -> None:
        await run(sh("exit 0"))
        before = open_descriptors()
        await run(sh("exit 0"))
        with pytest.raises(ProgramNotFound):
            await run(("/no/such/program",))
        with pytest.raises(ProcessTimeout):
            await run(sh("exec sleep 1000"), timeout=0.01)
        assert open_descriptors() - before == set()


class TestRunWithPipe:
    async def test_a_worker_feeds_a_program(self, tmp_path: Path) -> None:
        data = os.urandom(1000) * 3000
        argv = sh(f"cat >'{tmp_path}/out'; echo done >&2; exit 5")

        def write(pipe: BinaryIO) -> None:
            view = memoryview(data)
            while view:
                view = view[pipe.write(view) :]

        completed, failure = await run_with_pipe(argv, write, feeds=True)
        assert (completed, failure) == (Completed(argv, 5, b"", b"done\n"), None)
        assert (tmp_path / "out").read_bytes() == data

    async def test_a_worker_reads_a_program(self) -> None:
        read: list[bytes] = []
        argv = python("import sys; sys.stdout.write('x' * 3_000_000); sys.stderr.write('done')")

        def take(pipe: BinaryIO) -> None:
            while data := pipe.read(100_000):
                read.append(data)

        completed, failure = await run_with_pipe(argv, take, feeds=False)
        assert (completed, failure) == (Completed(argv, 0, b"", b"done"), None)
        assert b"".join(read) == b"x" * 3_000_000

    async def test_the_program_has_the_given_environment(self) -> None:
        read: list[bytes] = []
        await run_with_pipe(
            ("/usr/bin/env",), lambda pipe: read.append(pipe.read()), feeds=False, env={"A": "b"}
        )
        assert read == [b"A=b\n"]

    async def test_a_failing_feeder_ends_the_input_and_its_error_is_returned(self) -> None:
        broken = ValueError("cannot read the source")

        def fail(pipe: BinaryIO) -> None:
            pipe.write(b"half")
            raise broken

        argv = sh('test "$(cat)" = half && exit 6')
        assert await run_with_pipe(argv, fail, feeds=True) == (
            Completed(argv, 6, b"", b""),
            broken,
        )

    async def test_a_failing_reader_ends_the_program_and_its_error_is_returned(self) -> None:
        broken = ValueError("a hostile archive")

        def fail(pipe: BinaryIO) -> None:
            pipe.read(1)
            raise broken

        argv = sh("exec cat /dev/zero")
        assert await run_with_pipe(argv, fail, feeds=False) == (
            Completed(argv, -signal.SIGPIPE, b"", b""),
            broken,
        )

    async def test_a_program_that_ignores_the_end_of_its_pipe_is_killed(
        self, monkeypatch: pytest.MonkeyPatch, lifeline: Lifeline
    ) -> None:
        monkeypatch.setattr(process, "PIPE_GRACE_SECONDS", 0.01)
        broken = ValueError("x")

        def fail(pipe: BinaryIO) -> None:
            assert lifeline.line() == "ready"
            raise broken

        argv = sh(f"{lifeline.hold}; echo ready >&9; sleep 1000")
        assert await run_with_pipe(argv, fail, feeds=False) == (
            Completed(argv, -signal.SIGKILL, b"", b""),
            broken,
        )
        assert lifeline.end() == ""

    async def test_a_program_that_ends_before_its_input_fails_with_its_own_stderr(self) -> None:
        def endless(pipe: BinaryIO) -> None:
            while True:
                pipe.write(bytes(65536))

        argv = sh("exec <&-; echo 'no such container' >&2; exit 1")
        assert await run_with_pipe(argv, endless, feeds=True) == (
            Completed(argv, 1, b"", b"no such container\n"),
            None,
        )

    @pytest.mark.parametrize("feeds", [True, False])
    async def test_a_cancelled_call_kills_the_program_and_ends_the_worker(
        self, lifeline: Lifeline, feeds: bool
    ) -> None:
        ended = threading.Event()

        started, ended = anyio.Event(), threading.Event()

        def work(pipe: BinaryIO) -> None:
            assert lifeline.line() == "ready"
            anyio.from_thread.run_sync(started.set)
            try:
                while pipe.write(bytes(65536)) if feeds else pipe.read(65536):
                    pass
            finally:
                ended.set()

        argv = sh(f"{lifeline.hold}; echo ready >&9; sleep 1000")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(run_with_pipe, argv, work, feeds=feeds))
            await started.wait()
            tasks.cancel_scope.cancel()
        assert ended.is_set()
        assert lifeline.end() == ""

    async def test_a_cancelled_call_kills_the_group_of_a_program_that_has_ended(
        self, lifeline: Lifeline
    ) -> None:
        ready = anyio.Event()

        def read(pipe: BinaryIO) -> None:
            assert lifeline.line() == "ready"
            anyio.from_thread.run_sync(ready.set)
            pipe.read()

        argv = sh(f"{lifeline.hold}; sleep 1000 & echo ready >&9")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(run_with_pipe, argv, read, feeds=False))
            await ready.wait()
            tasks.cancel_scope.cancel()
        assert lifeline.end() == ""

    async def test_on_cancellation_a_program_can_see_the_end_of_its_input_first(
        self, tmp_path: Path
    ) -> None:
        started = anyio.Event()

        def endless(pipe: BinaryIO) -> None:
            pipe.write(b"x")
            anyio.from_thread.run_sync(started.set)
            while pipe.write(bytes(65536)):
                pass

        argv = sh(f"cat >/dev/null; echo ended >'{tmp_path}/end'")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(
                partial(run_with_pipe, argv, endless, feeds=True, end_input_first=True)
            )
            await started.wait()
            tasks.cancel_scope.cancel()
        assert (tmp_path / "end").read_text() == "ended\n"

    async def test_on_cancellation_a_program_that_ignores_the_end_of_its_input_is_killed(
        self, monkeypatch: pytest.MonkeyPatch, lifeline: Lifeline
    ) -> None:
        monkeypatch.setattr(process, "PIPE_GRACE_SECONDS", 0.01)
        started = anyio.Event()

        def endless(pipe: BinaryIO) -> None:
            assert lifeline.line() == "ready"
            anyio.from_thread.run_sync(started.set)
            while pipe.write(bytes(65536)):
                pass

        argv = sh(f"{lifeline.hold}; echo ready >&9; sleep 1000")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(
                partial(run_with_pipe, argv, endless, feeds=True, end_input_first=True)
            )
            await started.wait()
            tasks.cancel_scope.cancel()
        assert lifeline.end() == ""

    @pytest.mark.parametrize("checkpoints", range(6))
    async def test_a_call_that_is_cancelled_before_it_runs_leaves_nothing(
        self, lifeline: Lifeline, checkpoints: int
    ) -> None:
        before = open_descriptors()
        argv = sh(f"{lifeline.hold}; echo ready >&9; sleep 1000")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(run_with_pipe, argv, lambda pipe: None, feeds=False))
            for _ in range(checkpoints):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        lifeline.end()
        assert open_descriptors() - before == set()

    async def test_a_missing_program_leaves_no_pipe_open(self) -> None:
        before = open_descriptors()
        with pytest.raises(ProgramNotFound):
            await run_with_pipe(("/no/such/program",), lambda pipe: None, feeds=True)
        assert open_descriptors() - before == set()


class TestOpenStream:
    async def test_a_program_is_driven_through_its_pipes(self) -> None:
        async with open_stream(("/bin/cat",), env={}, exit_grace=PATIENCE_SECONDS) as stream:
            await stream.send(b"one\ntwo\r\n")
            lines = stream.lines()
            assert [await anext(lines), await anext(lines)] == ["one", "two"]
            await stream.send(memoryview(b"three"))
            assert await stream.receive() == b"three"
            assert stream.returncode is None
        assert stream.returncode == 0

    async def test_closing_its_input_lets_a_program_end_by_itself(self) -> None:
        async with open_stream(sh("cat; echo last; echo words >&2; exit 7")) as stream:
            stream.close_stdin()
            assert [line async for line in stream.lines()] == ["last"]
            assert await stream.wait() == 7
        assert (stream.returncode, stream.stderr_tail) == (7, "words")

    async def test_leaving_the_block_waits_for_a_program_that_ends_in_time(self) -> None:
        async with open_stream(sh("cat >/dev/null; exit 8"), exit_grace=PATIENCE_SECONDS) as stream:
            pass
        assert stream.returncode == 8

    async def test_leaving_the_block_kills_a_program_that_does_not_end(
        self, lifeline: Lifeline
    ) -> None:
        argv = sh(f"trap '' TERM; {lifeline.hold}; (sleep 1000; true) & echo ready; wait")
        async with open_stream(argv, exit_grace=0.0) as stream:
            assert await stream.receive() == b"ready\n"
        assert stream.returncode == -signal.SIGKILL
        assert lifeline.end() == ""

    async def test_a_failing_block_kills_at_once_and_raises_its_own_error(
        self, lifeline: Lifeline
    ) -> None:
        streams = []

        async def fail() -> None:
            argv = sh(f"{lifeline.hold}; sleep 1000 & echo ready; wait")
            async with open_stream(argv, exit_grace=PATIENCE_SECONDS) as stream:
                streams.append(stream)
                await stream.receive()
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert [stream.returncode for stream in streams] == [-signal.SIGKILL]
        assert lifeline.end() == ""

    async def test_a_cancelled_block_kills_at_once(self, lifeline: Lifeline) -> None:
        argv = sh(f"{lifeline.hold}; sleep 1000 & echo ready; wait")
        with anyio.CancelScope() as scope:
            async with open_stream(argv, exit_grace=PATIENCE_SECONDS) as stream:
                await stream.receive()
                scope.cancel()
                await anyio.sleep_forever()
        assert stream.returncode == -signal.SIGKILL
        assert lifeline.end() == ""

    async def test_leaving_the_block_does_not_wait_for_unread_input(
        self, lifeline: Lifeline
    ) -> None:
        argv = sh(f"{lifeline.hold}; echo ready; sleep 1000")
        with anyio.fail_after(PATIENCE_SECONDS):
            async with open_stream(argv, exit_grace=0.01) as stream:
                await stream.receive()
                await stream.send(bytes(100_000))  # more than a pipe takes
        assert stream.returncode == -signal.SIGKILL
        assert lifeline.end() == ""

    async def test_leaving_the_block_does_not_wait_for_a_grandchild_that_left_the_group(
        self, lifeline: Lifeline
    ) -> None:
        argv = sh(f"{lifeline.hold}; setsid sh -c 'echo $$; exec sleep 1000' & wait")
        with anyio.fail_after(PATIENCE_SECONDS):
            async with open_stream(argv, exit_grace=0.01) as stream:
                pid = int(await stream.receive())
        assert stream.returncode == -signal.SIGKILL
        assert lifeline.held
        os.kill(pid, signal.SIGKILL)
        assert lifeline.end() == ""

    async def test_the_end_of_the_output_differs_from_no_output_yet(self) -> None:
        async with open_stream(sh("exit 0")) as stream:
            assert await stream.receive() == b""
            assert [line async for line in stream.lines()] == []

    async def test_a_last_line_without_a_line_break_is_a_line(self) -> None:
        async with open_stream(sh("printf 'a\\nb'")) as stream:
            assert [line async for line in stream.lines()] == ["a", "b"]

    async def test_an_endless_line_ends_the_lines(self) -> None:
        async with open_stream(sh("echo first; exec cat /dev/zero"), exit_grace=0.0) as stream:
            assert [line async for line in stream.lines()] == ["first"]

    async def test_sending_to_a_program_that_has_ended_is_an_error(self) -> None:
        async def send_on(stream: process.Stream) -> None:
            while True:
                await stream.send(bytes(65536))

        async with open_stream(sh("exit 0")) as stream:
            await stream.wait()
            with pytest.raises(anyio.BrokenResourceError):
                await send_on(stream)

    async def test_stderr_is_drained_and_its_ends_are_kept(self) -> None:
        script = "import sys; sys.stderr.write('a' * 200_000 + 'b' * 200_000)"
        async with open_stream(python(script)) as stream:
            await stream.wait()
        assert stream.stderr_tail == "a" * 32768 + "b" * 32768

    async def test_a_missing_program_is_not_found(self) -> None:
        with pytest.raises(ProgramNotFound):
            async with open_stream(("/no/such/program",)):
                pass

    async def test_a_stream_leaves_no_descriptor_open(self) -> None:
        async def use() -> None:
            async with open_stream(("/bin/cat",)) as stream:
                await stream.send(b"x")
                await stream.receive()

        await use()
        before = open_descriptors()
        await use()
        assert open_descriptors() - before == set()


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -KILL $$", 137)])
async def test_a_program_on_our_own_streams_gives_its_exit_code(
    script: str, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert await process.run_attached(["sh", "-c", f"echo seen; {script}"]) == code
    assert capfd.readouterr().out == "seen\n"


@pytest.mark.parametrize("ignores", ["", "trap '' TERM; "])
async def test_a_cancelled_program_on_our_own_streams_is_ended(
    ignores: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "EXIT_GRACE_SECONDS", 0.2)
    # asyncio's watcher alone collects the exit code: whoever else does makes it warn.
    monkeypatch.delattr(subprocess.Popen, "poll")
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    script = f"{ignores}echo $$ >'{fifo}'; while :; do sleep 0.05; done"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(process.run_attached, ["sh", "-c", script])
        pid = int(await anyio.to_thread.run_sync(fifo.read_text))
        tasks.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
