"""What is answered about a command, and how a caller waits for it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any, Callable

from claude_mcp.agent.commands.command import Command
from claude_mcp.agent.commands.output import ERR, OUT, Output
from claude_mcp.contract import operations
from claude_mcp.contract.capture import BoundedCapture
from claude_mcp.contract.messages import Malformed, from_json

LONGEST_WAIT_SECONDS = 3600.0
READ_BYTES = 256 * 1024
LOST = "The session was stopped while the command ran, and the command ended with it."


def wait(
    command: Command, args: operations.FollowCommand, is_abandoned: Callable[[], bool]
) -> None:
    """Wait until there is something to answer, the time is up, or the caller is gone."""
    deadline = None if args.wait_seconds is None else time.monotonic() + args.wait_seconds
    with command.changed:
        status = command.status
        while not (command.is_over or is_abandoned() or command.status != status):
            if args.cursor is None and status != operations.RUNNING:
                return
            if args.cursor is not None and command.output.end > args.cursor:
                return
            left = LONGEST_WAIT_SECONDS if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return
            command.changed.wait(min(left, LONGEST_WAIT_SECONDS))


def since(
    result: operations.CommandResult, output: Output, args: operations.FollowCommand
) -> operations.CommandResult:
    """The result with the output after the cursor, if there is one."""
    if args.cursor is None:
        return result
    frames, cursor, missing = output.read(max(0, args.cursor), args.limit_bytes)
    parts = {OUT: b"", ERR: b""}
    for stream, data in frames:
        parts[OUT if args.merge else stream] += data
    out, err = (parts[stream].decode("utf-8", "replace") for stream in (OUT, ERR))
    return result._replace(
        stdout="" if args.merge else out,
        stderr=err,
        stdout_bytes=0 if args.merge else len(parts[OUT]),
        stderr_bytes=len(parts[ERR]),
        cursor=cursor,
        more=cursor < output.end,
        missing=missing,
        output=out if args.merge else None,
    )


def recorded(
    record: Mapping[str, Any], output: Output, limit_bytes: int
) -> operations.CommandResult:
    """The result of a command that is only on disk; raises Malformed."""
    with contextlib.suppress(Malformed):
        return from_json(operations.CommandResult, record.get("answer"))
    entry = from_json(operations.CommandEntry, record["entry"])
    out, err = captures = BoundedCapture(limit_bytes), BoundedCapture(limit_bytes)
    at = missing = 0
    while at < output.end:
        frames, at, gap = output.read(at, READ_BYTES)
        missing += gap
        for stream, data in frames:
            captures[stream - OUT].write(data)
    return operations.CommandResult(
        exit_code=None,
        stdout=out.text(),
        stderr=err.text(),
        stdout_bytes=out.total,
        stderr_bytes=err.total,
        duration_ms=0,
        timed_out=False,
        notes=(LOST,),
        command_id=entry.command_id,
        status=operations.LOST,
        command=entry.command,
        background=entry.background,
        started_at=entry.started_at,
        cursor=output.end,
        missing=missing,
    )
