"""Claude Code's argv and environment, compared as whole values."""

from __future__ import annotations

import pytest

from claude_mcp.claude.invocation import (
    Invocation,
    PermissionMode,
    claude_argv,
    claude_environment,
)
from claude_mcp.claude.providers import Anthropic

ALWAYS = (
    "claude",
    "--print",
    "--verbose",
    "--input-format=stream-json",
    "--output-format=stream-json",
    "--replay-user-messages",
    "--include-partial-messages",
    "--debug-file=/proc/self/fd/2",
)
PROMPT_TOOL = "--permission-prompt-tool=stdio"
BYPASS = ("--dangerously-skip-permissions", PROMPT_TOOL)
UNTRUSTED = (
    "--strict-mcp-config",
    "--setting-sources=user",
    "--add-dir=.",
    '--settings={"apiKeyHelper":"","disableAllHooks":true}',
)


def test_a_plain_start_bypasses_permissions_and_trusts_no_project() -> None:
    assert claude_argv(Invocation()) == (*ALWAYS, *BYPASS, *UNTRUSTED)


@pytest.mark.parametrize(
    ("mode", "argv"),
    [
        ("bypass", BYPASS),
        ("ask", ("--permission-mode=default", PROMPT_TOOL)),
    ],
)
def test_each_permission_mode_has_its_options(mode: PermissionMode, argv: tuple[str, ...]) -> None:
    assert claude_argv(Invocation(permission_mode=mode)) == (*ALWAYS, *argv, *UNTRUSTED)


def test_every_value_is_joined_to_its_option() -> None:
    invocation = Invocation(
        resume="--help",
        model="-p",
        tools=("Bash", "mcp__x__y"),
        max_turns=3,
        max_budget_usd=0.5,
        append_system_prompt="--version\n'x' $HOME",
        mcp_config_path="/run/claude-mcp/mcp.json",
    )
    assert claude_argv(invocation, "/opt/claude") == (
        "/opt/claude",
        *ALWAYS[1:],
        *BYPASS,
        *UNTRUSTED,
        "--resume=--help",
        "--model=-p",
        "--tools=Bash,mcp__x__y",
        "--max-turns=3",
        "--max-budget-usd=0.5",
        "--append-system-prompt=--version\n'x' $HOME",
        "--mcp-config=/run/claude-mcp/mcp.json",
    )


def test_an_empty_tool_list_differs_from_the_default() -> None:
    assert claude_argv(Invocation(tools=())) == (*ALWAYS, *BYPASS, *UNTRUSTED, "--tools=")


def test_a_trusted_project_keeps_hooks_and_servers_but_cannot_choose_the_key() -> None:
    argv = claude_argv(Invocation(trust_project=True))
    assert argv == (*ALWAYS, *BYPASS, '--settings={"apiKeyHelper":""}')


ENVIRONMENT = {
    "CLAUDE_CODE_DEBUG_LOG_LEVEL": "error",
    "DISABLE_AUTOUPDATER": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST": "1",
    "CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD": "1",
    "CLAUDE_CODE_DISABLE_CRON": "1",
}


def test_the_environment_names_the_provider_and_its_models() -> None:
    provider = Anthropic(base_url="http://gateway", model="big", small_model="small")
    assert claude_environment(provider, 1000, {"PATH": "/bin"}) == {
        **ENVIRONMENT,
        "PATH": "/bin",
        "ANTHROPIC_BASE_URL": "http://gateway",
        "ANTHROPIC_MODEL": "big",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "small",
        "ANTHROPIC_SMALL_FAST_MODEL": "small",
    }


def test_a_trusted_project_s_schedule_runs() -> None:
    trusted = {name: ENVIRONMENT[name] for name in list(ENVIRONMENT)[:4]}
    assert claude_environment(Anthropic(), 1000, {}, trust_project=True) == trusted


def test_root_declares_its_container() -> None:
    assert claude_environment(Anthropic(), 0, {}) == {**ENVIRONMENT, "IS_SANDBOX": "1"}


def test_inherited_variables_do_not_affect_the_provider() -> None:
    inherited = {
        "CLAUDECODE": "1",
        "ANTHROPIC_API_KEY": "of the image",
        "ANTHROPIC_BASE_URL": "of the image",
        "CLAUDE_CODE_OAUTH_TOKEN": "of the image",
        "CLAUDE_CODE_USE_BEDROCK": "1",
        "DISABLE_AUTOUPDATER": "0",
        "LANG": "C.UTF-8",
    }
    assert claude_environment(Anthropic(), 1000, inherited) == {**ENVIRONMENT, "LANG": "C.UTF-8"}
