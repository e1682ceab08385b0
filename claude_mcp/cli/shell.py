"""The commands for shell commands in a session: exec, command, commands, stop-command."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from typing import TYPE_CHECKING, Final

from claude_mcp.cli import render
from claude_mcp.cli.prompts import RUNNING_EXIT_CODE
from claude_mcp.cli.running import within_session
from claude_mcp.cli.terminal import talk, write, write_json
from claude_mcp.config import Config
from claude_mcp.errors import UsageError

if TYPE_CHECKING:
    from claude_mcp.sessions.command_state import CommandResult
    from claude_mcp.sessions.handle import SessionHandle

EXEC_OUTPUT_BYTES: Final = 4 * 1024 * 1024
"""Kept of each stream: far more than in a tool result, and still within one answer of the agent."""
FOLLOWED_BYTES: Final = 256 * 1024
"""How much output one answer may hold while a command is followed."""
LOST_EXIT_CODE: Final = 7


def execute(arguments: argparse.Namespace, config: Config) -> int:
    import anyio

    from claude_mcp.sessions.turns import commands

    words = arguments.words
    if not words:
        raise UsageError("No command was given.", hint="See 'claude-mcp exec --help'.")
    command_id = commands.new_command_id(arguments.command_id)
    size = shutil.get_terminal_size()
    given = sys.stdin.read() if arguments.stdin else None

    async def work(handle: SessionHandle) -> CommandResult:
        try:
            return await commands.run(
                handle,
                words[0] if len(words) == 1 else shlex.join(words),
                timeout_seconds=arguments.timeout,
                workdir=arguments.workdir,
                output_bytes=EXEC_OUTPUT_BYTES,
                command_id=command_id,
                durable=arguments.command_id is not None,
                wait_seconds=arguments.wait,
                background=arguments.detach,
                input=given,
                tty=commands.Terminal(size.columns, size.lines) if arguments.tty else None,
            )
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await _stop_interrupted(handle, command_id, arguments.json)
            raise

    result = within_session(config, arguments.session, work)
    if arguments.detach and not arguments.json:
        write(f"{result.command_id}\n")
        return 0
    code = _show(result, arguments, f" of {arguments.timeout:g} s" if arguments.timeout else "")
    return 0 if arguments.detach else code


async def _stop_interrupted(handle: SessionHandle, command_id: str, as_json: bool) -> None:
    """End a command after Ctrl-C; it may never have reached the session."""
    from claude_mcp.errors import ClaudeMcpError
    from claude_mcp.sessions.turns import commands

    try:
        result = await commands.stop(handle, command_id)
    except ClaudeMcpError as error:
        talk(f"claude-mcp: the command was abandoned: {error.message}")
        return
    if not as_json:
        _write_output(result)
    talk("claude-mcp: the command is stopped")


def command(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.sessions.turns import commands

    if arguments.follow:
        if arguments.json or arguments.wait is not None:
            raise UsageError("--follow cannot be combined with --json or --wait.")
        return _show_rest(within_session(config, arguments.session, lambda h: _print(h, arguments)))
    result = within_session(
        config,
        arguments.session,
        lambda handle: commands.follow(
            handle,
            arguments.id,
            cursor=arguments.cursor,
            wait_seconds=arguments.wait,
            input=arguments.input,
            end_input=arguments.end_input,
            output_bytes=EXEC_OUTPUT_BYTES,
        ),
    )
    return _show(result, arguments)


async def _print(handle: SessionHandle, arguments: argparse.Namespace) -> CommandResult:
    """Print a command's output as it arrives, until there is no more to come."""
    from claude_mcp.sessions.command_state import CommandStatus
    from claude_mcp.sessions.turns import commands

    result = await commands.follow(
        handle,
        arguments.id,
        cursor=arguments.cursor or 0,
        input=arguments.input,
        end_input=arguments.end_input,
        output_bytes=FOLLOWED_BYTES,
    )
    while True:
        _write_output(result)
        if result.truncated:
            talk(f"claude-mcp: {result.truncated}")
        sys.stdout.flush()
        open_ended = result.status in (CommandStatus.RUNNING, CommandStatus.LEFT_RUNNING)
        if not result.more and not open_ended:
            return result
        result = await commands.follow(
            handle, result.command_id, cursor=result.cursor, output_bytes=FOLLOWED_BYTES
        )


def list_commands(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.sessions.turns import commands

    found = within_session(config, arguments.session, commands.listed)
    if arguments.json:
        from claude_mcp.views.commands import CommandLine

        write_json({"commands": [CommandLine.of(each).wire() for each in found]})
    elif found:
        write(render.commands(found))
    elif sys.stderr.isatty():
        talk("There are no commands.")
    return 0


def stop(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.sessions.turns import commands

    result = within_session(
        config, arguments.session, lambda handle: commands.stop(handle, arguments.id)
    )
    if arguments.json:
        from claude_mcp.views.commands import CommandOutcome

        write_json(CommandOutcome.of(result).wire())
        return 0
    for note in result.notes:
        talk(f"claude-mcp: {note}")
    state = "is stopped" if result.status == "stopped" else f"had ended: {result.status}"
    talk(f"claude-mcp: command {result.command_id} {state}")
    return 0


def _show(result: CommandResult, arguments: argparse.Namespace, limit: str = "") -> int:
    if arguments.json:
        from claude_mcp.views.commands import CommandOutcome

        write_json(CommandOutcome.of(result).wire())
        return _exit_code(result)
    _write_output(result)
    if result.truncated:
        talk(f"claude-mcp: output cut in the middle: {result.truncated}")
    return _show_rest(result, limit)


def _write_output(result: CommandResult) -> None:
    write(result.stdout)
    sys.stdout.flush()
    write(result.stderr, sys.stderr)


def _show_rest(result: CommandResult, limit: str = "") -> int:
    """What a person should know besides the output; returns the exit code."""
    for note in result.notes:
        talk(f"claude-mcp: {note}")
    if result.timed_out:
        talk(f"claude-mcp: killed at its time limit{limit}")
    named = f"{shlex.quote(result.session.name)} {result.command_id}"
    follow, end = f"claude-mcp command {named}", f"claude-mcp stop-command {named}"
    match result.status:
        case "running":
            talk(f"claude-mcp: the command still runs; follow it with '{follow} --follow'")
        case "left_running":
            talk(
                f"claude-mcp: processes that it started still run; '{follow} --follow' shows what "
                f"they say, '{end}' ends them"
            )
    return _exit_code(result)


def _exit_code(result: CommandResult) -> int:
    if result.exit_code is not None:
        return result.exit_code
    return RUNNING_EXIT_CODE if result.status == "running" else LOST_EXIT_CODE
