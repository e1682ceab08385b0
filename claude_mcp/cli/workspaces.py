"""The commands for what a session changed, and for taking it."""

from __future__ import annotations

import argparse
import os
from typing import Any

from claude_mcp.cli.running import follow, within_session
from claude_mcp.cli.terminal import for_terminal, talk, write, write_json
from claude_mcp.config import Config


def changes(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.sessions.workspaces.changes import get_changes
    from claude_mcp.views import text
    from claude_mcp.views.workspaces import ChangesResult

    result = ChangesResult.of(
        within_session(
            config,
            arguments.session,
            lambda handle: get_changes(
                handle,
                turn_id=arguments.turn,
                paths=arguments.paths,
                diff=arguments.full,
                offset=arguments.offset or 0,
                until=arguments.until,
            ),
        )
    )
    if arguments.json:
        write_json(result.wire())
    elif result.diff is not None:
        write(for_terminal(result.diff))
    else:
        write(for_terminal("\n".join(text.changed(result))) + "\n")
    if result.next_offset is not None and not arguments.json:
        talk(f"There is more: --offset {result.next_offset} --until {result.until}")
    return 0


def apply(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.sessions.workspaces.applying import apply_changes
    from claude_mcp.views import text
    from claude_mcp.views.workspaces import ApplyResult

    patch = None if arguments.patch is None else os.path.abspath(arguments.patch)
    implied = "patch" if patch else "files" if arguments.paths else "branch"
    mode: Any = arguments.mode or implied
    result = ApplyResult.of(
        within_session(
            config,
            arguments.session,
            lambda handle: apply_changes(
                handle,
                mode,
                branch=arguments.branch,
                paths=arguments.paths,
                commit=arguments.commit,
                patch=patch,
                overwrite=arguments.force,
                progress=follow(arguments),
            ),
        )
    )
    if arguments.json:
        write_json(result.wire())
    else:
        write(for_terminal(text.apply(result)) + "\n")
    return 6 if result.left else 0


def discard(arguments: argparse.Namespace, config: Config) -> int:
    from claude_mcp.sessions.workspaces.changes import discard_changes
    from claude_mcp.views import text
    from claude_mcp.views.workspaces import DiscardResult

    result = DiscardResult.of(
        within_session(
            config,
            arguments.session,
            lambda handle: discard_changes(handle, turn_id=arguments.turn, paths=arguments.paths),
        )
    )
    if arguments.json:
        write_json(result.wire())
    else:
        write(for_terminal(text.discard(result)) + "\n")
    return 6 if result.left else 0
