"""What is configured, where it comes from, and what is hidden."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import API_KEY, Input, Run

SECRET = "sk-ant-of-the-file-4567"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text('HTTPS_PROXY = "http://me:hush@proxy:3128"\nANTHROPIC_MODEL = "small"\n')
    return path


def test_each_value_is_told_with_its_origin_and_secrets_are_hidden(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_MODEL", "big")
    code, out, err = run("--engine", "podman", "config", "--config", str(file), "--json")
    rows = {row["name"]: row for row in json.loads(out)["settings"]}
    assert (code, err) == (0, "")
    assert {name: (row["value"], row["source"]) for name, row in rows.items() if row["source"]} == {
        "ANTHROPIC_API_KEY": ("(secret, set)", "environment"),
        "ANTHROPIC_MODEL": ("big", "environment"),
        "CLAUDE_MCP_ENGINE": ("podman", "flag"),
        "HTTPS_PROXY": ("http://***@proxy:3128", "file"),
    }
    assert rows["DEFAULT_CLAUDE_IMAGE"]["default"] == "claude-code-custom:latest"
    shown = run("config", "--config", str(file), "--all")[1]
    assert "hush" not in out + shown
    assert API_KEY not in out + shown
    assert ["ANTHROPIC_MODEL", "big", "environment"] in [
        each.split() for each in shown.splitlines()
    ]


def test_set_and_unset_change_the_file(run: Run, file: Path) -> None:
    words = ["--config", str(file), "config"]
    code, out, err = run(*words, "set", "CLAUDE_MCP_MEMORY", "4g")
    assert (code, out, err) == (0, "", f"CLAUDE_MCP_MEMORY is set in {file}.\n")
    assert 'CLAUDE_MCP_MEMORY = "4g"\n' in file.read_text()
    assert run(*words, "unset", "CLAUDE_MCP_MEMORY")[0] == 0
    assert "CLAUDE_MCP_MEMORY" not in file.read_text()


def test_a_secret_comes_from_elsewhere_and_an_overriding_variable_is_told(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--config", str(file), "config", "set", "ANTHROPIC_API_KEY"]
    code, out, err = run(*words, SECRET)
    assert (code, out) == (2, "")
    assert "can read the command line" in err
    assert SECRET not in err
    monkeypatch.setattr("sys.stdin", Input(f"{SECRET}\n".encode()))
    code, out, err = run(*words, "-")
    assert (code, out) == (0, "")
    assert "ANTHROPIC_API_KEY is set, and is used instead" in err
    assert f'ANTHROPIC_API_KEY = "{SECRET}"\n' in file.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["set", "ANTHROPIC_MODEL"], "This is not understood."),
        (["get", "ANTHROPIC_MODEL"], "This is not understood."),
        (["set", "NO_SUCH_NAME", "x"], "There is no setting 'NO_SUCH_NAME'."),
        (["set", "HTTP_PROXY", "http://me:hush@proxy"], "HTTP_PROXY is a secret"),
    ],
)
def test_what_cannot_be_done_is_said(run: Run, file: Path, words: list[str], message: str) -> None:
    before = file.read_text()
    code, out, err = run("--config", str(file), "config", *words)
    assert (code, out) == (2, "")
    assert err.startswith(f"claude-mcp: {message}")
    assert file.read_text() == before
