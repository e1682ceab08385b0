from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import API_KEY, Input, Run


@pytest.fixture
def home(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def cursor(home: Path) -> Path:
    (home / ".cursor").mkdir()
    return home / ".cursor" / "mcp.json"


def entry(file: Path) -> dict[str, Any]:
    servers = json.loads(file.read_text())["mcpServers"]
    found: dict[str, Any] = servers["claude-mcp"]
    return found


def test_install_shows_the_change_and_makes_it(run: Run, cursor: Path) -> None:
    cursor.write_text('{"mcpServers": {"other": {"env": {"KEY": "sk-of-another-server"}}}}')
    code, out, err = run("install", "cursor", "--yes")
    assert (code, out) == (0, "")
    assert f"{cursor}, in 'mcpServers'\n+   \"claude-mcp\": {{\n" in err
    assert "sk-of-another-server" not in err
    assert f"the file as it was is {cursor}." in err
    assert entry(cursor)["args"][-1] == "serve"
    assert API_KEY not in cursor.read_text()
    assert run("install", "cursor")[::2] == (0, "Cursor has the server already.\n" + warning(err))
    assert run("uninstall", "cursor", "--yes")[0] == 0
    assert "claude-mcp" not in cursor.read_text()
    assert run("uninstall", "cursor") == (0, "", "Cursor does not have the server.\n")
    cursor.unlink()
    assert run("uninstall", "cursor") == (0, "", "Cursor does not have the server.\n")


def warning(err: str) -> str:
    return "".join(line for line in err.splitlines(True) if line.startswith("warning: "))


def test_install_names_what_only_the_shell_sets(run: Run, cursor: Path) -> None:
    _, _, err = run("install", "cursor", "--yes")
    assert "only this shell sets: ANTHROPIC_API_KEY, CLAUDE_MCP_ENGINE. Put it into" in err
    assert "claude-mcp config set ANTHROPIC_API_KEY env:ANTHROPIC_API_KEY\n" in err
    assert API_KEY not in err


def test_install_passes_the_flags_on_that_it_was_given(
    run: Run, cursor: Path, tmp_path: Path
) -> None:
    file = tmp_path / "team.toml"
    file.write_text("")
    run("--engine", "podman", "--config", str(file), "install", "cursor", "--yes")
    assert entry(cursor)["args"][-5:] == ["--engine", "podman", "--config", str(file), "serve"]


def test_without_a_terminal_install_needs_yes(run: Run, cursor: Path) -> None:
    code, _, err = run("install", "cursor")
    assert code == 2
    assert err.endswith(
        "claude-mcp: Nothing was changed: confirmation needs a terminal.\n"
        "Or: claude-mcp install cursor --yes\n"
    )
    assert not cursor.exists()


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 2), (b"", 2)])
def test_at_a_terminal_install_asks(
    run: Run, cursor: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, code: int
) -> None:
    monkeypatch.setattr("sys.stdin", Input(answer, terminal=True))
    assert run("install", "cursor")[0] == code
    assert cursor.exists() == (code == 0)


def test_a_dry_run_only_shows(run: Run, cursor: Path) -> None:
    code, out, err = run("install", "cursor", "--dry-run", "--json")
    assert code == 0
    assert json.loads(out)["changed"] is False
    assert "(a new file)" in err
    assert not cursor.exists()


def test_install_without_a_client_lists_all(run: Run, cursor: Path) -> None:
    run("install", "cursor", "--yes")
    code, out, _ = run("install")
    assert code == 0
    assert out.splitlines()[2:4] == [
        "cursor          has this claude-mcp",
        "vscode          not found on this machine",
    ]
    cursor.write_text(cursor.read_text().replace('"serve"', '"--debug", "serve"'))
    states = {each["client"]: each for each in json.loads(run("install", "--json")[1])["clients"]}
    assert states["cursor"]["state"] == "has another claude-mcp"
    assert states["cursor"]["file"] == str(cursor)
    cursor.write_text("{")
    assert f"{cursor} cannot be understood (line 1, column 2: " in run("install")[1]


@pytest.mark.parametrize(
    ("name", "said"), [("cursr", "Did you mean 'cursor'?"), ("emacs", "install --print")]
)
def test_an_unknown_client_is_explained(run: Run, home: Path, name: str, said: str) -> None:
    for command in ("install", "uninstall"):
        code, _, err = run(command, name)
        assert code == 2
        assert said in err


def test_the_entry_for_other_clients_is_printed(run: Run, home: Path) -> None:
    code, out, _ = run("install", "--print")
    command = json.loads(out)["mcpServers"]["claude-mcp"]
    assert code == 0
    assert os.access(command["command"], os.X_OK)
    assert command["args"][-1] == "serve"
