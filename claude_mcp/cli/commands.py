"""What each command does: typed arguments in, the program's exit code out.

Data goes to stdout; everything said about it goes to stderr.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from claude_mcp.cli import render
from claude_mcp.cli.paths import endpoints, parse_mount, read_mcp_config
from claude_mcp.cli.permissions import respond
from claude_mcp.cli.prompts import cancel, prompt, turn
from claude_mcp.cli.running import follow, report, talk, watched, within
from claude_mcp.config import LIMIT_NAMES, Config
from claude_mcp.contract.numbers import counted
from claude_mcp.errors import UsageError

if TYPE_CHECKING:
    from claude_mcp.sessions.registry import Listed, Sessions

EXEC_OUTPUT_BYTES: Final = 4 * 1024 * 1024
"""Kept of each stream: far more than a tool result holds, and it still fits one answer."""


def serve(arguments: argparse.Namespace, config: Config) -> int:
    import gc

    if sys.stdin.isatty():
        talk("claude-mcp: serving MCP on stdin and stdout, which is for programs; Ctrl-D ends it")
    # The SDK's import makes very many objects that stay; to search them for garbage again and
    # again would take a tenth of the start.
    gc.disable()
    from claude_mcp.server import app

    gc.freeze()
    gc.enable()
    return app.serve(config)


def create(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.cli.providers import parse_provider
    from claude_mcp.sessions.create import plan as creation
    from claude_mcp.sessions.create.request import CreateRequest, Mount

    request = CreateRequest(
        project_path=os.path.abspath(arguments.project),
        session_name=arguments.name,
        provider=parse_provider(arguments),
        image=arguments.image,
        model=arguments.model,
        strict_permissions=arguments.strict_permissions,
        trust_project=arguments.trust_project,
        trust_git=arguments.trust_git,
        mounts=tuple(Mount(*parse_mount(value)) for value in arguments.mount),
        mcp_config=read_mcp_config(arguments.mcp_config),
        limits={
            name: value for name in LIMIT_NAMES if (value := getattr(arguments, name)) is not None
        },
        read_only_root=arguments.read_only,
        runtime=arguments.runtime,
        timeout_seconds=arguments.timeout,
        idle_timeout_seconds=arguments.idle_timeout,
        network=arguments.network,
        allowed_hosts=tuple(arguments.allow),
    )
    created = within(config, lambda sessions: creation.create(sessions, request, follow(arguments)))
    for warning in created.warnings:
        talk(f"warning: {warning}")
    if arguments.json:
        from claude_mcp.views.results import CreateResult

        render.write_json(CreateResult.of(created).wire())
        return 0
    render.write(f"{created.session.id}\n")
    if watched(arguments):
        name = shlex.quote(created.session.name)
        talk(f"Session {created.session.name} is ready. Next: claude-mcp prompt {name} '...'")
    return 0


def credentials(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.cli.providers import parse_options
    from claude_mcp.sessions import handover

    options = parse_options(arguments)
    servers = read_mcp_config(arguments.mcp_config)
    handed = within(
        config,
        lambda sessions: handover.hand_in(sessions, arguments.session, options, servers),
    )
    for warning in handed.warnings:
        talk(f"warning: {warning}")
    if arguments.json:
        from claude_mcp.views.results import CredentialsResult

        render.write_json(CredentialsResult.of(handed).wire())
    else:
        talk(f"Session {handed.session.name} has them from its next prompt on.")
    return 0


def execute(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.sessions.turns import commands

    words = arguments.words
    if not words:
        raise UsageError("There is no command.", hint="See 'claude-mcp exec --help'.")
    completed = within(
        config,
        lambda sessions: commands.execute(
            sessions,
            arguments.session,
            words[0] if len(words) == 1 else shlex.join(words),
            timeout_seconds=arguments.timeout,
            workdir=arguments.workdir,
            output_bytes=EXEC_OUTPUT_BYTES,
        ),
    )
    if arguments.json:
        from claude_mcp.views.results import CommandOutcome

        render.write_json(CommandOutcome.of(completed).wire())
        return completed.exit_code
    render.write(completed.stdout)
    sys.stdout.flush()
    render.write(completed.stderr, sys.stderr)
    for note in completed.notes:
        talk(f"claude-mcp: {note}")
    if completed.truncated:
        talk(f"claude-mcp: cut in the middle: {completed.truncated}")
    if completed.timed_out:
        talk(f"claude-mcp: killed after its time limit of {arguments.timeout:g} s")
    return completed.exit_code


def list_sessions(arguments: argparse.Namespace, config: Config) -> int:
    async def work(sessions: Sessions) -> BrokenPipeError | None:
        listed = await sessions.list()
        try:
            show(listed)
        except BrokenPipeError as error:  # task groups would wrap it
            return error
        return None

    def show(listed: list[Listed]) -> None:
        if arguments.json:
            from claude_mcp.views.results import ListResult

            render.write_json(ListResult.of(listed).wire())
        elif listed:
            render.write(render.table(listed))
        elif sys.stderr.isatty():
            talk("There are no sessions.")
        sys.stdout.flush()  # leaving may take until expired sessions are removed

    broken = within(config, work)
    if broken is not None:
        raise broken
    return 0


def prune(arguments: argparse.Namespace, config: Config) -> int:
    pruned = within(config, lambda sessions: sessions.prune(dry_run=arguments.dry_run))
    if arguments.json:
        from claude_mcp.views.results import PrunedEntry

        render.write_json({"pruned": [PrunedEntry.of(each).wire() for each in pruned]})
    else:
        render.write(render.pruned(pruned))
        if not pruned:
            talk("There is no session to remove.")
    left = [each for each in pruned if not each.removed and not arguments.dry_run]
    for each in left:
        talk(f"claude-mcp: {each.session.name} could not be removed; --debug tells why")
    return 5 if left else 0


def destroy(arguments: argparse.Namespace, config: Config) -> int:
    references = arguments.sessions
    if bool(references) == arguments.all:
        raise UsageError(
            "Name the sessions to destroy, or all of them with --all."
            if not references
            else "--all and names of sessions do not go together."
        )
    if arguments.all:
        listed = within(config, lambda sessions: sessions.list())
        if not listed:
            talk("There are no sessions.")
        elif not arguments.yes:
            talk(render.table(listed).rstrip("\n"))
            _confirm(f"Destroy {'it' if len(listed) == 1 else f'all {len(listed)}'}?")
        references = [each.session.id for each in listed]

    async def work(sessions: Sessions) -> tuple[list[dict[str, Any]], int]:
        from claude_mcp.errors import ClaudeMcpError

        done: list[dict[str, Any]] = []
        code = 0
        for reference in references:
            try:
                destroyed = await sessions.destroy(reference)
            except ClaudeMcpError as error:
                # The others still go; the first failure decides the exit code.
                code = code or report(error)
                continue
            if arguments.json:
                from claude_mcp.views.results import DestroyResult

                done.append(DestroyResult.of(destroyed).wire())
            elif destroyed.session is not None:
                render.write(f"{destroyed.session.id}\n")
            for warning in destroyed.warnings:
                talk(f"warning: {warning}")
            if not destroyed.existed:
                talk(f"There was no session {reference!r} any more.")
        return done, code

    done, code = within(config, work)
    if arguments.json:
        render.write_json({"destroyed": done})
    return code


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError("Nothing was destroyed: nobody can be asked.", hint="Add --yes.")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("Nothing was destroyed.")


def copy(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.sessions.files import transfer

    reference, to_container, source, destination = endpoints(
        arguments.source, arguments.destination
    )
    transferred = within(
        config,
        lambda sessions: transfer.transfer(
            sessions,
            reference,
            transfer.Direction.TO_CONTAINER if to_container else transfer.Direction.FROM_CONTAINER,
            source,
            destination,
            overwrite=arguments.force,
            progress=follow(arguments),
        ),
    )
    for warning in transferred.warnings:
        talk(f"warning: {warning}")
    if arguments.json:
        from claude_mcp.views.results import TransferResult

        render.write_json(TransferResult.of(transferred).wire())
    elif watched(arguments):
        arrived = f"{counted(transferred.files, 'file')}, {transferred.size} bytes"
        talk(f"{arrived}, now at {transferred.path}")
    return 0


def logs(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.sessions.turns import commands

    session, lines = within(
        config, lambda sessions: commands.logs(sessions, arguments.session, arguments.tail)
    )
    if arguments.json:
        from claude_mcp.views.results import LogsResult

        render.write_json(LogsResult.of(session, lines).wire())
    else:
        render.write("".join(f"{render.for_terminal(line)}\n" for line in lines))
    return 0


def doctor(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.cli import doctor as doctors

    findings = within(config, lambda sessions: doctors.examine(sessions, arguments.config))
    if arguments.json:
        render.write_json(doctors.to_json(findings))
    else:
        render.write(doctors.to_text(findings))
    return 0 if doctors.usable(findings) else 1


PERFORM: Final[dict[str, Callable[[argparse.Namespace, Config], int]]] = {
    "serve": serve,
    "create": create,
    "prompt": prompt,
    "turn": turn,
    "cancel": cancel,
    "respond": respond,
    "credentials": credentials,
    "exec": execute,
    "list": list_sessions,
    "destroy": destroy,
    "prune": prune,
    "copy": copy,
    "logs": logs,
    "doctor": doctor,
}
