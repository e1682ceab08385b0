from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from claude_mcp.clients.change import added, make, removed
from claude_mcp.clients.known import CLIENTS
from claude_mcp.config import UserDirectories, user_directories
from claude_mcp.errors import ConfigError

ENTRY = {"command": "/opt/bin/claude-mcp", "args": ["serve"]}
CURSOR = CLIENTS["cursor"]
OTHERS = """{
  "mcpServers": {
    "other": {"command": "npx", "env": {"TOKEN": "t0p-secret"}}
  }
}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mcp.json"


def test_a_new_file_is_the_user_s_alone(tmp_path: Path) -> None:
    file = tmp_path / "not" / "there" / "mcp.json"
    change = added(CURSOR, file, ENTRY)
    assert make(change) is None
    assert json.loads(file.read_text()) == {"mcpServers": {"claude-mcp": ENTRY}}
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "\n", "\ufeff", "{}"])
def test_a_file_without_content_gets_the_entry(file: Path, content: str) -> None:
    file.write_text(content)
    make(added(CURSOR, file, ENTRY))
    assert json.loads(file.read_text().lstrip("\ufeff")) == {"mcpServers": {"claude-mcp": ENTRY}}


def test_install_twice_changes_nothing_and_uninstall_brings_the_file_back(file: Path) -> None:
    file.write_text("\ufeff" + OTHERS.replace("\n", "\r\n"), newline="")
    before = file.read_bytes()
    file.chmod(0o640)
    backup = make(added(CURSOR, file, ENTRY))
    assert backup is not None
    assert backup.read_bytes() == before
    assert file.stat().st_mode & 0o777 == backup.stat().st_mode & 0o777 == 0o640
    assert not added(CURSOR, file, ENTRY).needed
    make(removed(CURSOR, file))
    assert file.read_bytes() == before
    assert not removed(CURSOR, file).needed


def test_each_backup_has_a_name_of_its_own(file: Path) -> None:
    file.write_text(OTHERS)
    backups = {make(added(CURSOR, file, ENTRY)), make(removed(CURSOR, file))}
    assert len(backups) == 2
    assert sorted(file.parent.iterdir()) == sorted([file, *filter(None, backups)])


def test_what_the_user_added_to_our_entry_stays(file: Path) -> None:
    file.write_text(
        '{\n  "mcpServers": {\n    "claude-mcp": {\n      "command": "old", // mine\n'
        '      "env": {"ANTHROPIC_API_KEY": "sk-secret"}\n    }\n  }\n}\n'
    )
    change = added(CURSOR, file, ENTRY)
    assert change.old == {"command": "old"}
    make(change)
    assert '"command": "/opt/bin/claude-mcp", // mine' in file.read_text()
    assert '"env": {"ANTHROPIC_API_KEY": "sk-secret"}' in file.read_text()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"mcpServers": {', "the text ends too early|is missing"),
        (b'{"mcpServers": []}', "mcpServers is not an object"),
        (b'{"mcpServers": {"claude-mcp": "x"}}', "mcpServers.claude-mcp is not an object"),
        (b"[]", "the whole is not an object"),
        (b"\xff\xfe{\x00}\x00", "is not UTF-8 text"),
    ],
)
def test_what_cannot_be_understood_is_not_touched(file: Path, content: bytes, said: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        added(CURSOR, file, ENTRY)
    with pytest.raises(ConfigError, match=said):
        removed(CURSOR, file)
    assert file.read_bytes() == content


def test_a_link_stays_and_what_it_leads_to_is_written(file: Path, tmp_path: Path) -> None:
    managed = tmp_path / "dotfiles"
    managed.mkdir()
    (managed / "mcp.json").write_text(OTHERS)
    file.symlink_to("dotfiles/mcp.json")
    backup = make(added(CURSOR, file, ENTRY))
    assert file.is_symlink()
    assert "claude-mcp" in (managed / "mcp.json").read_text()
    assert backup is not None
    assert backup.parent == managed


def test_a_read_only_file_is_not_touched(file: Path) -> None:
    file.write_text(OTHERS)
    file.chmod(0o444)
    with pytest.raises(ConfigError, match="is read-only; nothing was written"):
        make(added(CURSOR, file, ENTRY))
    assert file.read_text() == OTHERS
    assert list(file.parent.iterdir()) == [file]


def test_a_file_that_changed_meanwhile_is_not_overwritten(file: Path) -> None:
    file.write_text(OTHERS)
    change = added(CURSOR, file, ENTRY)
    file.write_text("{}")
    with pytest.raises(ConfigError, match="has changed in the meantime"):
        make(change)
    assert file.read_text() == "{}"


def test_a_directory_in_its_place_is_said(file: Path) -> None:
    file.mkdir()
    with pytest.raises(ConfigError, match="is not a file"):
        added(CURSOR, file, ENTRY)


PLACES = {
    "linux": {
        "claude-desktop": "/h/.config/Claude/claude_desktop_config.json",
        "claude-code": "/h/.claude.json",
        "cursor": "/h/.cursor/mcp.json",
        "vscode": "/h/.config/Code/User/mcp.json",
        "windsurf": "/h/.codeium/windsurf/mcp_config.json",
        "zed": "/h/.config/zed/settings.json",
    },
    "darwin": {
        "claude-desktop": "/h/Library/Application Support/Claude/claude_desktop_config.json",
        "claude-code": "/h/.claude.json",
        "cursor": "/h/.cursor/mcp.json",
        "vscode": "/h/Library/Application Support/Code/User/mcp.json",
        "windsurf": "/h/.codeium/windsurf/mcp_config.json",
        "zed": "/h/.config/zed/settings.json",
    },
    "win32": {
        "claude-desktop": "/h/AppData/Roaming/Claude/claude_desktop_config.json",
        "claude-code": "/h/.claude.json",
        "cursor": "/h/.cursor/mcp.json",
        "vscode": "/h/AppData/Roaming/Code/User/mcp.json",
        "windsurf": "/h/.codeium/windsurf/mcp_config.json",
        "zed": "/h/AppData/Roaming/zed/settings.json",
    },
}


@pytest.mark.parametrize("system", PLACES)
def test_each_client_has_its_file_on_each_system(
    system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", system)
    user = user_directories({"HOME": "/h"})
    assert {name: str(client.file(user)) for name, client in CLIENTS.items()} == PLACES[system]


def test_the_environment_moves_the_directories() -> None:
    user = user_directories(
        {"HOME": "/h", "XDG_CONFIG_HOME": "/x", "CLAUDE_CONFIG_DIR": "/c", "APPDATA": ""}
    )
    assert user == UserDirectories("linux", Path("/h"), Path("/x"), user.roaming, Path("/c"))
    assert os.path.isabs(user.roaming)


def test_a_typed_client_s_entry_names_the_transport() -> None:
    assert CLIENTS["vscode"].entry(["claude-mcp", "serve"]) == {
        "type": "stdio",
        "command": "claude-mcp",
        "args": ["serve"],
    }
