"""How Claude Code is started: its argv and its environment; its credentials are in `providers`.

Pure functions; runs on Python 3.9. The rule: nothing that comes from a user becomes an option by
itself (`--name=value`), and no secret is in argv.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from claude_mcp.claude import providers

PermissionMode = Literal["bypass", "ask"]

_PERMISSION_ARGV: Mapping[PermissionMode, tuple[str, ...]] = {
    "bypass": ("--dangerously-skip-permissions",),
    "ask": ("--permission-mode=default", "--permission-prompt-tool=stdio"),
}

_NOT_INHERITED = frozenset({"CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", *providers.NOT_INHERITED})


DEFAULT_MODEL = "default"
"""Claude Code's own choice, as a model's name."""


@dataclass(frozen=True)
class Invocation:
    """One start of Claude Code. None leaves a choice to Claude Code itself.

    `permission_mode`: in `ask` each question comes as a `ControlRequest` and waits for its answer
    on stdin, which must stay open; in `bypass` none is asked.
    `tools` are the built-in ones to offer; () offers none.
    """

    resume: str | None = None
    model: str | None = None
    permission_mode: PermissionMode = "bypass"
    tools: tuple[str, ...] | None = None
    max_turns: int | None = None
    max_budget_usd: float | None = None
    append_system_prompt: str | None = None
    mcp_config_path: str | None = None
    trust_project: bool = False


def claude_argv(invocation: Invocation, executable: str = "claude") -> tuple[str, ...]:
    """The argv for one or more prompts as lines on stdin; the turns end with end of file there."""
    argv = [
        executable,
        "--print",
        "--verbose",
        "--input-format=stream-json",
        "--output-format=stream-json",
        "--replay-user-messages",
        *_PERMISSION_ARGV[invocation.permission_mode],
    ]
    # An apiKeyHelper of the project would not run (see PROVIDER_MANAGED_BY_HOST below) and yet
    # switch an OAuth token off: "Not logged in". An empty one here stands before it (measured).
    settings: dict[str, object] = {"apiKeyHelper": ""}
    if not invocation.trust_project:
        # Nothing is loaded from the project: neither its settings, whose `env` alone runs programs
        # (BASH_ENV, PATH, CLAUDE_CODE_SHELL), nor skills and commands, which may hold shell. Named
        # as a further directory, its CLAUDE.md is read nevertheless (measured).
        settings["disableAllHooks"] = True
        argv += ["--strict-mcp-config", "--setting-sources=user", "--add-dir=."]
    argv.append(f"--settings={json.dumps(settings, separators=(',', ':'))}")
    if invocation.resume is not None:
        argv.append(f"--resume={invocation.resume}")
    if invocation.model is not None:
        argv.append(f"--model={invocation.model}")
    if invocation.tools is not None:
        argv.append(f"--tools={','.join(invocation.tools)}")
    if invocation.max_turns is not None:
        argv.append(f"--max-turns={invocation.max_turns}")
    if invocation.max_budget_usd is not None:
        argv.append(f"--max-budget-usd={invocation.max_budget_usd}")
    if invocation.append_system_prompt is not None:
        argv.append(f"--append-system-prompt={invocation.append_system_prompt}")
    if invocation.mcp_config_path is not None:
        argv.append(f"--mcp-config={invocation.mcp_config_path}")
    return tuple(argv)


def claude_environment(
    provider: providers.Provider,
    uid: int,
    inherited: Mapping[str, str],
    *,
    trust_project: bool = False,
) -> dict[str, str]:
    """Claude Code's whole environment but for its credentials: see `providers`.

    `inherited` is the environment of the agent; what could mix with `provider` is left out.
    """
    environment = {n: v for n, v in inherited.items() if n not in _NOT_INHERITED}
    environment.update(
        DISABLE_AUTOUPDATER="1",
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        # The provider is ours to choose: settings of a project cannot change it, and credentials
        # that are in this environment are taken out of that of Claude's commands (measured).
        CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST="1",
    )
    if not trust_project:
        environment["CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD"] = "1"
        # Else prompts of the project's .claude/scheduled_tasks.json run unasked (measured).
        environment["CLAUDE_CODE_DISABLE_CRON"] = "1"
    if uid == 0:
        environment["IS_SANDBOX"] = "1"  # else root is refused --dangerously-skip-permissions
    environment.update(providers.environment(provider))
    return environment
