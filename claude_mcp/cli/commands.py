"""What each command does: typed arguments in, the program's exit code out.

Data goes to stdout, messages about it go to stderr.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from claude_mcp.cli import render
from claude_mcp.cli.here import named
from claude_mcp.cli.options import given, typed
from claude_mcp.cli.paths import endpoints, parse_mount, read_mcp_config
from claude_mcp.cli.running import follow, report, watched, within, within_session
from claude_mcp.cli.terminal import for_terminal, talk, write, write_json
from claude_mcp.config import Config
from claude_mcp.contract.numbers import counted
from claude_mcp.errors import UsageError

if TYPE_CHECKING:
    from claude_mcp.errors import ClaudeMcpError
    from claude_mcp.sessions.create.request import CreateRequest
    from claude_mcp.sessions.handle import SessionHandle
    from claude_mcp.sessions.outcomes import Answers, Destroyed, Listed, Unreachable
    from claude_mcp.sessions.pruning import Pruned
    from claude_mcp.sessions.registry import Sessions
    from claude_mcp.sessions.session import Session

CLIENT: Final = "cli"
"""The command line's name as the creator of sessions."""
_ID: Final = re.compile(r"[0-9a-f]{12,64}")
"""A session's id, which is not mistyped: a script may destroy it twice."""


def serve(arguments: argparse.Namespace, config: Config) -> int:
    import gc

    http = arguments.http or arguments.host is not None or arguments.port is not None
    if not http and sys.stdin.isatty():
        talk("claude-mcp: serving MCP on stdin and stdout, for programs to talk to; Ctrl-D ends it")
    # Importing the SDK creates many permanent objects; collecting garbage among them repeatedly
    # would take a tenth of the start-up time.
    gc.disable()
    if http:
        from claude_mcp.server.http import serving, sockets
    else:
        from claude_mcp.server import app
    gc.freeze()
    gc.enable()
    if not http:
        return app.serve(config)

    def ready(where: str) -> None:
        talk(f"claude-mcp: serving MCP at {where}")

    host = sockets.DEFAULT_HOST if arguments.host is None else arguments.host
    port = sockets.DEFAULT_PORT if arguments.port is None else arguments.port
    return serving.serve(config, host, port, ready)


def create_request(arguments: argparse.Namespace) -> CreateRequest:
    """The session that the options of ``create`` describe."""
    from claude_mcp.cli.providers import parse_provider
    from claude_mcp.sessions.create.request import LIMITS, CreateRequest, Mount

    return CreateRequest(
        **given(
            arguments,
            CreateRequest,
            {
                "project_path": os.path.abspath,
                "mounts": lambda texts: tuple(Mount(*parse_mount(text)) for text in texts),
                "mcp_config": read_mcp_config,
            },
        ),
        provider=parse_provider(arguments),
        client=CLIENT,
        limits={
            name: value
            for name, option in LIMITS.items()
            if (value := typed(arguments, option)) is not None
        },
    )


def create(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.sessions.create import start

    request = create_request(arguments)
    created = within(
        config,
        lambda sessions: start.create(sessions, request, follow(arguments)),
        interrupted="interrupted; no session was created",
    )
    for warning in created.warnings:
        talk(f"warning: {warning}")
    if arguments.json:
        from claude_mcp.views.sessions import CreateResult

        write_json(CreateResult.of(created).wire())
        return 0
    write(f"{created.session.id}\n")
    tell_ports(created.session)
    if watched(arguments):
        name = shlex.quote(created.session.name)
        if created.reason is not None:
            talk(f"Engine: {created.reason}")
        talk(f"Session {created.session.name} is ready. Next: claude-mcp prompt {name} '...'")
    return 0


def tell_ports(session: Session) -> None:
    """Say where the session's published ports are."""
    for each in session.forwarding.ports if session.forwarding else ():
        talk(f"Port {each.port} of session {session.name} is {each.url}")


def credentials(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.cli.providers import parse_options
    from claude_mcp.sessions import handover

    options = parse_options(arguments)
    servers = None if arguments.mcp_config is None else read_mcp_config(arguments.mcp_config)
    handed = within_session(
        config, arguments.session, lambda handle: handover.give(handle, options, servers)
    )
    for warning in handed.warnings:
        talk(f"warning: {warning}")
    from claude_mcp.views.sessions import CredentialsResult

    if arguments.json:
        write_json(CredentialsResult.of(handed).wire())
    else:
        from claude_mcp.views import text

        talk(text.credentials(CredentialsResult.of(handed)).splitlines()[0])
    return 0


def list_sessions(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.sessions import glance

    async def work(sessions: Sessions) -> BrokenPipeError | None:
        answers = await sessions.survey(ask=not arguments.quick)
        try:
            show(answers.found, answers.unreachable)
        except BrokenPipeError as error:  # task groups would wrap it
            return error
        return None

    def show(listed: Sequence[Listed], unreachable: Sequence[Unreachable] = ()) -> None:
        if arguments.json:
            from claude_mcp.views.sessions import ListResult

            write_json(ListResult.of(listed, unreachable).wire())
        elif listed:
            write(render.table(listed, with_engines=bool(config.engines)))
        elif sys.stderr.isatty():
            talk("There are no sessions.")
        sys.stdout.flush()  # leaving this block may wait for the removal of expired sessions
        tell_unreachable(unreachable)

    try:
        if not config.engines:
            found = glance.sessions(config, ask=not arguments.quick)
            if found is not None:
                show(found)
                return 0
        broken = within(config, work)
    finally:
        glance.end()
    if broken is not None:
        raise broken
    return 0


def tell_unreachable(engines: Sequence[Unreachable]) -> None:
    for each in engines:
        talk(f"claude-mcp: {each}")


def prune(arguments: argparse.Namespace, config: Config) -> int:
    async def work(sessions: Sessions) -> Answers[list[Pruned]]:
        return await sessions.everywhere(
            lambda each: each.prune(dry_run=arguments.dry_run, discard=arguments.force)
        )

    answers = within(config, work)
    pruned = [each for part in answers.found for each in part]
    if arguments.json:
        from claude_mcp.views.sessions import PrunedEntry, unreachable_engines

        entries = [PrunedEntry.of(each).wire() for each in pruned]
        silent = {"unreachable": unreachable_engines(answers.unreachable)} if config.engines else {}
        write_json({"pruned": entries, **silent})
    else:
        write(render.pruned(pruned))
        if not pruned:
            talk("There are no sessions to remove.")
    for each in (each for each in pruned if each.kept):
        talk(f"claude-mcp: {each.session.name} is kept: {each.kept} --force removes it.")
    left = [each for each in pruned if not (each.removed or each.kept or arguments.dry_run)]
    for each in left:
        talk(f"claude-mcp: {each.session.name} could not be removed; --debug shows why")
    tell_unreachable(answers.unreachable)
    return 5 if left else 0


def destroy(arguments: argparse.Namespace, config: Config) -> int:
    references = arguments.sessions
    if [bool(references), arguments.all, arguments.mine].count(True) != 1:
        raise UsageError(
            "--all, --mine and session names cannot be combined."
            if references or arguments.all
            else "Name the sessions to destroy, or pass --all or --mine."
        )
    if not references:
        references = _chosen(arguments, config)

    async def work(sessions: Sessions) -> Sequence[Destroyed | ClaudeMcpError]:
        found = [await named(sessions, reference) for reference in references]
        return await sessions.destroy_each(found, discard=arguments.force)

    outcomes = within(config, work)
    if arguments.json:
        from claude_mcp.views.sessions import DestroyResult

        done = [each for each in outcomes if not isinstance(each, Exception)]
        write_json({"destroyed": [DestroyResult.of(each).wire() for each in done]})
    # The first failure gives the exit code.
    codes = [
        _tell_destroyed(reference, outcome, arguments)
        for reference, outcome in zip(references, outcomes, strict=True)
    ]
    return next(filter(None, codes), 0)


def _chosen(arguments: argparse.Namespace, config: Config) -> list[str]:
    """The ids of all sessions, or of those of the command line, once that is confirmed."""
    answers = within(config, lambda sessions: sessions.survey(ask=False))
    tell_unreachable(answers.unreachable)
    listed = list(answers.found)
    if arguments.mine:
        listed = [each for each in listed if each.session.client == CLIENT]
    if not listed:
        talk("There are no sessions." if arguments.all else "No session was created here.")
    elif not arguments.yes:
        talk(render.table(listed, with_engines=bool(config.engines)).rstrip("\n"))
        _confirm(f"Destroy {'it' if len(listed) == 1 else f'all {len(listed)}'}?")
    return [each.session.id for each in listed]


def _tell_destroyed(
    reference: str, outcome: Destroyed | ClaudeMcpError, arguments: argparse.Namespace
) -> int:
    """Say what became of one session; returns its part of the exit code."""
    if isinstance(outcome, Exception):
        return report(outcome)
    if outcome.session is not None and not arguments.json:
        write(f"{outcome.session.id}\n")
    missing = outcome.not_found
    # An id may be destroyed twice, but a container of that id is another mistake.
    if missing is not None and (outcome.warnings or not _ID.fullmatch(reference)):
        return report(missing)
    for warning in outcome.warnings:
        talk(f"warning: {warning}")
    if not outcome.existed:
        talk(f"Session {reference!r} does not exist (any more).")
    return 0


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError("Nothing was destroyed: confirmation needs a terminal.", hint="Add --yes.")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("Nothing was destroyed.")


def copy(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.sessions.files import transfer

    reference, to_container, source, destination = endpoints(
        arguments.source, arguments.destination
    )
    transferred = within_session(
        config,
        reference,
        lambda handle: transfer.transfer(
            handle,
            transfer.Direction.TO_CONTAINER if to_container else transfer.Direction.FROM_CONTAINER,
            source,
            destination,
            overwrite=arguments.force,
            create_parents=arguments.parents,
            progress=follow(arguments),
        ),
        interrupted="interrupted; nothing was copied",
    )
    for warning in transferred.warnings:
        talk(f"warning: {warning}")
    if arguments.json:
        from claude_mcp.views.workspaces import TransferResult

        write_json(TransferResult.of(transferred).wire())
    elif watched(arguments):
        from claude_mcp.views.figures import size

        arrived = f"{counted(transferred.files, 'file')}, {size(transferred.size)}"
        talk(f"{arrived}, now at {transferred.path}")
    return 0


def logs(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.sessions.turns import commands

    if arguments.follow:
        return _follow_logs(arguments, config)
    session, lines = within_session(
        config, arguments.session, lambda handle: commands.logs(handle, arguments.tail)
    )
    if arguments.json:
        from claude_mcp.views.commands import LogsResult

        write_json(LogsResult.of(session, lines).wire())
    else:
        write("".join(f"{for_terminal(line)}\n" for line in lines))
    return 0


def _follow_logs(arguments: argparse.Namespace, config: Config) -> int:
    """Print lines as they come; with ``--json``, one JSON string per line."""
    import json

    from claude_mcp.sessions.turns import commands

    def line(text: str) -> None:
        shown = json.dumps(text, ensure_ascii=False) if arguments.json else for_terminal(text)
        write(f"{shown}\n")
        sys.stdout.flush()

    async def work(handle: SessionHandle) -> BrokenPipeError | None:
        try:
            await commands.follow_logs(handle, line, arguments.tail)
        except BrokenPipeError as error:  # task groups would wrap it
            return error
        return None

    broken = within_session(config, arguments.session, work)
    if broken is not None:
        raise broken
    return 0


def doctor(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.cli.doctor import examine, to_json, to_text, usable

    findings = within(config, lambda sessions: examine(sessions, arguments.config))
    if arguments.json:
        write_json(to_json(findings))
    else:
        write(to_text(findings))
    return 0 if usable(findings) else 1
