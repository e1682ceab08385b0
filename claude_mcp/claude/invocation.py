"""Claude Code's argv and environment; `providers` supplies its credentials.

Pure functions; runs on Python 3.9. The rule: user values never become options (they are always
passed as `--name=value`), and argv contains no secret.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from claude_mcp.claude import debug_log, providers

PermissionMode = Literal["bypass", "ask"]

_PROMPT_TOOL = "--permission-prompt-tool=stdio"
"""Without it, Claude has no tool to ask its user a question or to have a plan approved."""

_PERMISSION_ARGV: Mapping[PermissionMode, tuple[str, ...]] = {
    "bypass": ("--dangerously-skip-permissions", _PROMPT_TOOL),
    "ask": ("--permission-mode=default", _PROMPT_TOOL),
}

_NOT_INHERITED = frozenset({"CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", *providers.NOT_INHERITED})


DEFAULT_MODEL = "default"
"""The model name that selects Claude Code's own default."""


@dataclass(frozen=True)
class Invocation:
    """One start of Claude Code; None selects Claude Code's default.

    Each permission request arrives as a `ControlRequest` and waits for an answer on stdin, which
    must stay open. With `permission_mode` `bypass`, there are few: Claude's own questions, and
    what it does in plan mode or Claude Code considers dangerous.
    `tools` lists the built-in tools to offer; () offers none.
    """

    resume: str | None = None
    model: str | None = None
    permission_mode: PermissionMode = "bypass"
    tools: tuple[str, ...] | None = None
    max_turns: int | None = None
    max_budget_usd: float | None = None
    json_schema: str | None = None
    """The result must follow it: it is then JSON, and `protocol.Result.is_structured`."""
    append_system_prompt: str | None = None
    mcp_config_path: str | None = None
    trust_project: bool = False
    interactive: bool = False
    """For a person at a terminal, who is asked whatever Claude Code itself asks."""


def claude_argv(invocation: Invocation, executable: str = "claude") -> tuple[str, ...]:
    """The argv for a process that reads prompts as lines on stdin until end of file.

    An interactive one is for a terminal.
    """
    mode = _PERMISSION_ARGV[invocation.permission_mode]
    if invocation.interactive:
        argv = [executable, *(each for each in mode if each != _PROMPT_TOOL)]
    else:
        argv = [
            executable,
            "--print",
            "--verbose",
            "--input-format=stream-json",
            "--output-format=stream-json",
            "--replay-user-messages",
            "--include-partial-messages",
            debug_log.ARGUMENT,
            *mode,
        ]
    # A project's apiKeyHelper does not run (see PROVIDER_MANAGED_BY_HOST below), but disables an
    # OAuth token ("Not logged in"). An empty value here overrides it (measured).
    settings: dict[str, object] = {"apiKeyHelper": ""}
    if invocation.interactive:
        # Whoever created the session has decided that Claude acts without asking.
        settings["skipDangerousModePermissionPrompt"] = True
    if not invocation.trust_project:
        # Load nothing from the project: the `env` in its settings can run programs (BASH_ENV,
        # PATH, CLAUDE_CODE_SHELL), and skills and commands may contain shell. Its CLAUDE.md is
        # still read, because the project is added as a further directory (measured).
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
    if invocation.json_schema is not None:
        argv.append(f"--json-schema={invocation.json_schema}")
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
    """Claude Code's environment without credentials, which `providers` supplies.

    `inherited` is the agent's environment; variables that could conflict with `provider` are
    removed.
    """
    environment = {n: v for n, v in inherited.items() if n not in _NOT_INHERITED}
    environment.update(
        **debug_log.ENVIRONMENT,
        DISABLE_AUTOUPDATER="1",
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        # Project settings cannot change the provider, and Claude Code removes the credentials in
        # its environment from that of its commands (measured).
        CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST="1",
    )
    if not trust_project:
        environment["CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD"] = "1"
        # Otherwise prompts in the project's .claude/scheduled_tasks.json run (measured).
        environment["CLAUDE_CODE_DISABLE_CRON"] = "1"
    if uid == 0:
        environment["IS_SANDBOX"] = "1"  # otherwise root may not use --dangerously-skip-permissions
    environment.update(providers.environment(provider))
    return environment
