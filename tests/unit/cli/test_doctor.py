from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from claude_mcp import __version__
from claude_mcp.cli import doctor
from claude_mcp.config import Config
from claude_mcp.config_names import NOT_USED
from claude_mcp.credentials import Secret
from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.engine.dialects.docker import DOCKER, ROOTLESS_DOCKER
from claude_mcp.engine.dialects.kubernetes import KUBERNETES
from claude_mcp.engine.kubernetes.kubectl import KubectlEngine
from claude_mcp.sessions.providers.resolve import resolve
from tests.unit.cli.conftest import Run

PYTHON = ".".join(str(number) for number in sys.version_info[:3])
BUILD = (
    "Build the session image with 'claude-mcp image build', or name another with "
    "DEFAULT_CLAUDE_IMAGE."
)


LIMITS = {"CLAUDE_MCP_MEMORY": "4g", "CLAUDE_MCP_CPUS": "1.5", "CLAUDE_MCP_PIDS": "512"}
NETWORK_LINE = "ok       network: open; a restricted session reaches api.anthropic.com:443"
LIMITS_LINE = "ok       limits: 4.0 GiB of memory, 1.5 CPUs, 512 processes"


@pytest.fixture(autouse=True)
def limits(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those that follow from this machine."""
    for name, value in LIMITS.items():
        monkeypatch.setenv(name, value)


def test_a_complete_setup_passes_every_check(run: Run, program: Path) -> None:
    assert run("doctor") == (
        0,
        f"ok       program: claude-mcp {__version__}, Python {PYTHON}\n"
        "ok       configuration: /dev/null\n"
        f"ok       engine: Docker 24.0.0 ({program}), as root\n"
        "ok       image: claude-code-custom:latest exists\n"
        f"{LIMITS_LINE}\n"
        "ok       provider: anthropic, Claude Code's default model\n"
        "ok       credentials: ANTHROPIC_API_KEY is set\n"
        f"{NETWORK_LINE}\n",
        "",
    )


def test_without_an_engine_the_remaining_checks_are_skipped(run: Run, program: Path) -> None:
    program.unlink()
    code, out, _ = run("doctor", "--json")
    assert (code, json.loads(out)) == (
        1,
        {
            "usable": False,
            "findings": [
                {
                    "what": "program",
                    "verdict": "ok",
                    "message": f"claude-mcp {__version__}, Python {PYTHON}",
                    "hint": None,
                },
                {
                    "what": "configuration",
                    "verdict": "ok",
                    "message": "/dev/null",
                    "hint": None,
                },
                {
                    "what": "engine",
                    "verdict": "failed",
                    "message": f"'{program}' is not installed or not on PATH.",
                    "hint": "Install it, or choose another engine with CLAUDE_MCP_ENGINE.",
                },
            ],
        },
    )


def test_a_failed_check_says_what_to_do(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('DEFAULT_CLAUDE_IMAGE = "missing:latest"\n')
    file.chmod(0o644)
    monkeypatch.setenv("CLAUDE_MCP_CONFIG", str(file))
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    code, out, _ = run("doctor")
    lines = out.splitlines()
    assert (code, lines[1:3], lines[4:]) == (
        1,
        [
            f"warning  configuration: {file} is readable by other users of this machine",
            f"         If it contains secrets, run: chmod 600 {file}",
        ],
        [
            "failed   image: Docker has no image missing:latest",
            f"         {BUILD}",
            LIMITS_LINE,
            "ok       provider: anthropic, Claude Code's default model",
            "warning  credentials: No credentials were found, so prompts will fail. Set "
            "ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN or CLAUDE_CODE_OAUTH_TOKEN, or give the "
            "session its own with --provider-option apiKey=env:VARIABLE.",
            NETWORK_LINE,
        ],
    )


def test_a_daemon_without_a_seccomp_filter_is_a_warning(run: Run, program: Path) -> None:
    (program.parent / "unconfined").touch()
    code, out, _ = run("doctor")
    assert code == 0
    assert (
        "warning  engine: Docker gives sessions no seccomp filter\n"
        "         Remove seccomp-profile from the daemon's configuration (daemon.json).\n"
    ) in out


def test_an_invalid_limit_is_a_failed_check(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_MCP_MEMORY", "lots")
    code, out, _ = run("doctor")
    said = "CLAUDE_MCP_MEMORY must be a size such as 512m or 4g, or 0 for no limit."
    assert (code, f"failed   limits: {said}" in out) == (1, True)


def test_of_several_credentials_the_one_in_use_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat-0123456789")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "sk-gateway-0123456789")
    _, out, _ = run("doctor")
    assert out.splitlines()[-2] == (
        "ok       credentials: ANTHROPIC_AUTH_TOKEN is set; not used: ANTHROPIC_API_KEY, "
        "CLAUDE_CODE_OAUTH_TOKEN"
    )
    assert "0123456789" not in out


def test_a_cloud_is_shown_with_place_model_and_unused_credentials(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "CLAUDE_CODE_USE_BEDROCK": "1",
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "AKIADOCTOR",
        "AWS_SECRET_ACCESS_KEY": "secret-of-the-doctor",
        "AWS_PROFILE": "unused",
        "ANTHROPIC_MODEL": "a-model",
    }.items():
        monkeypatch.setenv(name, value)
    code, out, _ = run("doctor")
    assert (code, out.splitlines()[-3:]) == (
        0,
        [
            "ok       provider: bedrock, region eu-west-1, model a-model",
            "ok       credentials: AWS_ACCESS_KEY_ID is set; not used: AWS_PROFILE",
            "ok       network: open; a restricted session reaches "
            "bedrock-runtime.eu-west-1.amazonaws.com:443, bedrock.eu-west-1.amazonaws.com:443",
        ],
    )


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {
                "CLAUDE_MCP_NETWORK": "restricted",
                "CLAUDE_MCP_ALLOWED_HOSTS": "pypi.org, *.b.org:81",
            },
            "ok       network: restricted; a restricted session reaches api.anthropic.com:443, "
            "*.b.org:81, pypi.org",
        ),
        (
            {"CLAUDE_MCP_NETWORK": "closed"},
            "failed   network: CLAUDE_MCP_NETWORK must be open, restricted or none.",
        ),
        (
            {"CLAUDE_MCP_PRIVATE_HOSTS": "https://mirror.example.org"},
            "failed   network: CLAUDE_MCP_PRIVATE_HOSTS: 'https://mirror.example.org' is not a "
            "valid host.",
        ),
    ],
)
def test_the_network_is_shown(
    run: Run, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], line: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    code, out, _ = run("doctor")
    assert line in out.splitlines()
    assert code == line.startswith("failed")


@pytest.mark.parametrize(("network", "verdict"), [("open", "ok"), ("restricted", "failed")])
def test_an_instance_role_cannot_be_used_in_a_restricted_network(
    run: Run, monkeypatch: pytest.MonkeyPatch, network: str, verdict: str
) -> None:
    monkeypatch.setenv("CLAUDE_CODE_USE_BEDROCK", "1")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("CLAUDE_MCP_NETWORK", network)
    _, out, _ = run("doctor")
    (line,) = [line for line in out.splitlines() if " network: " in line]
    assert line.startswith(verdict)
    assert "A restricted session cannot use this machine's role" in line


def test_an_incomplete_cloud_is_a_failed_check(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_CODE_USE_FOUNDRY", "true")
    code, out, _ = run("doctor")
    assert code == 1
    assert out.splitlines()[-1].startswith("failed   provider: Foundry needs a key")


def test_an_unknown_variable_is_named_with_the_nearest_known_one(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_MCP_NETWROK", "none")
    said = run("doctor")[1]
    assert "warning  configuration: the variable CLAUDE_MCP_NETWROK is unknown" in said
    assert "Did you mean CLAUDE_MCP_NETWORK?" in said


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("DEFAULT_CLAUDE_IMGE", "DEFAULT_CLAUDE_IMAGE"),
        ("DEFAULT_IMAGE", "DEFAULT_CLAUDE_IMAGE"),
        ("MAX_SESSIONS", "MAX_CONCURRENT_SESSIONS"),
        ("DEFAULT_TIMEOUT", "DEFAULT_SESSION_TIMEOUT"),
        ("MCP_DEBUG", "MCP_CLAUDE_DEBUG"),
        ("ANTROPIC_API_KEY", "ANTHROPIC_API_KEY"),
        ("AWS_SECRET_ACCES_KEY", "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_a_misspelt_variable_of_any_prefix_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "x")
    said = run("doctor")[1]
    assert f"warning  configuration: the variable {name} is unknown and has no effect" in said
    assert f"Did you mean {meant}?" in said


@pytest.mark.parametrize("name", ["MAX_THREADS", "DEFAULT_PATH", "AWS_PAGER", "TIMEOUT", "_"])
def test_variables_of_other_programs_are_not_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "x")
    assert f"the variable {name} is" not in run("doctor")[1]


@pytest.mark.parametrize("name", NOT_USED)
def test_a_variable_of_claude_code_that_sessions_do_not_get_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "x")
    said = run("doctor")[1]
    assert f"warning  configuration: the variable {name} is not used" in said
    assert NOT_USED[name] in said


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("${ANTHROPIC_API_KEY}", "is the name of a variable, not its value"),
        ("$ANTHROPIC_API_KEY", "is the name of a variable, not its value"),
        ("%ANTHROPIC_API_KEY%", "is the name of a variable, not its value"),
        ("<your key>", "is a placeholder from an example"),
        ("sk-ant-...", "is a placeholder from an example"),
        ("your-api-key-here", "is a placeholder from an example"),
        ("'sk-ant-0123456789'", "is in quotation marks"),
        ('"sk-ant-0123456789"', "is in quotation marks"),
        ("sk-ant 0123456789", "contains spaces"),
    ],
)
def test_a_key_that_is_no_key_is_not_called_set(
    run: Run, monkeypatch: pytest.MonkeyPatch, value: str, why: str
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", value)
    said = run("doctor")[1]
    assert f"failed   provider: ANTHROPIC_API_KEY {why}" in said
    assert "is set" not in said


def test_an_engine_that_limits_networks_by_policies_is_told() -> None:
    engine = KubectlEngine("1.32.4", {})
    config = Config(environment={}, api_key=Secret("sk-of-the-server"))
    provider = resolve(config, engine.dialect)
    assert doctor._network(config, engine, provider).message.endswith(
        "api.anthropic.com:443, if the cluster enforces NetworkPolicies; each creation proves that "
        "it does"
    )


@pytest.mark.parametrize(
    ("dialect", "kind"),
    [
        (DOCKER, "as root"),
        (ROOTLESS_DOCKER, "rootless"),
        (KUBERNETES, "whose sessions meet the Pod Security Standard 'restricted'"),
    ],
)
def test_as_whom_an_engine_runs_sessions(dialect: Dialect, kind: str) -> None:
    assert doctor._kind(dialect) == kind
