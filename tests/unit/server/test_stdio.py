from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

from claude_mcp.server.stdio import LINE_BYTES, Lines, Output

pytestmark = pytest.mark.anyio


async def read_all(descriptor: int) -> list[bytes | None]:
    return [line async for line in Lines(descriptor)]


async def test_lines_arrive_whole_however_they_were_written() -> None:
    reader, writer = os.pipe()
    found: list[bytes | None] = []

    async def collect() -> None:
        found.extend(await read_all(reader))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collect)
        for part in (b'{"a', b'":1}\n{"b":', "2\u00e9".encode(), b"}\n\n\xff\nlast"):
            os.write(writer, part)
            await anyio.wait_all_tasks_blocked()
        os.close(writer)
    os.close(reader)
    assert found == [b'{"a":1}\n', b'{"b":2\xc3\xa9}\n', b"\n", b"\xff\n", b"last"]


async def test_a_regular_file_can_be_stdin(tmp_path: Path) -> None:
    file = tmp_path / "requests"
    file.write_text("one\ntwo\n")
    descriptor = os.open(file, os.O_RDONLY)
    assert await read_all(descriptor) == [b"one\n", b"two\n"]
    os.close(descriptor)


async def test_waiting_for_a_silent_client_can_be_cancelled() -> None:
    reader, writer = os.pipe()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_all, reader)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught
    os.close(reader)
    os.close(writer)


async def test_closing_ends_the_lines_like_end_of_file() -> None:
    reader, writer = os.pipe()
    lines = Lines(reader)
    found: list[bytes | None] = []
    read = anyio.Event()

    async def collect() -> None:
        async for line in lines:
            found.append(line)
            read.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collect)
        os.write(writer, b"whole\npart")
        await read.wait()
        lines.close()
    assert found == [b"whole\n"]
    os.write(writer, b"later\n")
    assert [line async for line in lines] == []
    os.close(reader)
    os.close(writer)


async def test_a_line_that_is_too_long_is_skipped_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "requests"
    file.write_bytes(b"one\n" + b"x" * (LINE_BYTES + 1) + b"y" * LINE_BYTES + b"\ntwo\n")
    descriptor = os.open(file, os.O_RDONLY)
    assert await read_all(descriptor) == [b"one\n", None, b"two\n"]
    os.close(descriptor)


async def test_texts_are_written_whole_and_one_after_the_other() -> None:
    reader, writer = os.pipe()
    output = Output(writer)
    texts = [letter * 300_000 for letter in "abc"]
    async with anyio.create_task_group() as tasks:
        for text in texts:
            tasks.start_soon(output.write, text)
        await anyio.wait_all_tasks_blocked()
        written = b""
        while len(written) < 900_000:
            await anyio.wait_readable(reader)
            written += os.read(reader, 65536)
    assert written.decode() == "".join(texts)
    os.close(reader)
    os.close(writer)


async def test_writing_to_a_client_that_does_not_read_can_be_cancelled() -> None:
    reader, writer = os.pipe()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Output(writer).write, "x" * 1_000_000)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught
    os.close(reader)
    os.close(writer)
