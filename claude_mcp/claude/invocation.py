"""How Claude Code is started: its argv, its environment, and how credentials reach it.

Pure functions; runs on Python 3.9. The rule: nothing that comes from a user becomes an option by
itself (`--name=value`), and no secret is in argv; one is in the environment only where Claude Code
has no other way in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

PermissionMode = Literal["bypass", "ask", "deny"]

_PERMISSION_ARGV: Mapping[PermissionMode, tuple[str, ...]] = {
    "bypass": ("--dangerously-skip-permissions",),
    "ask": ("--permission-mode=default", "--permission-prompt-tool=stdio"),
    "deny": ("--permission-mode=default",),
}

# What an image or an outer Claude Code left behind must not mix with a session's provider.
_NOT_INHERITED = frozenset(
    {
        "CLAUDECODE",
        "CLAUDE_CODE_ENTRYPOINT",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_BASE_URL",
        "ANTHROPIC_CUSTOM_HEADERS",
        "ANTHROPIC_MODEL",
        "ANTHROPIC_SMALL_FAST_MODEL",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR",
        "CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_USE_VERTEX",
        "CLAUDE_CODE_USE_FOUNDRY",
    }
)


DEFAULT_MODEL = "default"
"""Claude Code's own choice, as a model's name."""


@dataclass(frozen=True)
class Invocation:
    """One start of Claude Code. None leaves a choice to Claude Code itself.

    `permission_mode`: in `ask` each question comes as a `ControlRequest` and waits for its answer
    on stdin, which must stay open; in `deny` nobody is asked, what needs permission is refused.
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


@dataclass(frozen=True)
class Anthropic:
    """Anthropic's API or a gateway that speaks it; what is None is not passed on."""

    base_url: str | None = None
    model: str | None = None
    small_model: str | None = None
    api_key: str | None = field(default=None, repr=False)
    auth_token: str | None = field(default=None, repr=False)
    oauth_token: str | None = field(default=None, repr=False)


# Bedrock, Vertex and Foundry each become a dataclass like `Anthropic`, with a branch in
# `_provider_environment` and `credentials`.
Provider = Anthropic


@dataclass(frozen=True)
class Credentials:
    """Which secret goes which way.

    `descriptors`: for each variable, the secret to write into a pipe; the variable names the
    descriptor of its reading end. A pipe, closed behind the secret: Claude Code reads it to its
    end and waits until then, keeps the descriptor open but hands it to no child, so that nobody
    can read it a second time from `/proc`, as could be done with a file (all measured).
    `environment`: what has no other way in.
    """

    descriptors: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


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
    provider: Provider, uid: int, inherited: Mapping[str, str], *, trust_project: bool = False
) -> dict[str, str]:
    """Claude Code's whole environment but for its credentials: see `credentials`.

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
    environment.update(_provider_environment(provider))
    return environment


def credentials(provider: Provider) -> Credentials:
    """How the secrets of a provider reach Claude Code."""
    descriptors: dict[str, str] = {}
    environment: dict[str, str] = {}
    if provider.api_key is not None:
        descriptors["CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR"] = provider.api_key
    if provider.oauth_token is not None:
        descriptors["CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR"] = provider.oauth_token
    if provider.auth_token is not None:
        # No descriptor for this one, and apiKeyHelper is refused under PROVIDER_MANAGED_BY_HOST.
        environment["ANTHROPIC_AUTH_TOKEN"] = provider.auth_token
    return Credentials(descriptors, environment)


def _provider_environment(provider: Provider) -> dict[str, str]:
    values = {
        "ANTHROPIC_BASE_URL": provider.base_url,
        "ANTHROPIC_MODEL": provider.model,
        # The new name and the old one of the model for small tasks.
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": provider.small_model,
        "ANTHROPIC_SMALL_FAST_MODEL": provider.small_model,
    }
    return {name: value for name, value in values.items() if value is not None}
