"""One name of the configuration file is changed, and nothing else of it."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path

import pytest

from claude_mcp.config_file import change, known
from claude_mcp.errors import ConfigError, UsageError

FILE = """\
# Ours. MCP_CLAUDE_DEBUG = true
CLAUDE_MCP_MEMORY = "2g"   # of the "big" ones
CLAUDE_MCP_ALLOWED_HOSTS = [
  "pypi.org",  # packages
  "*.example.org",
]
ANTHROPIC_MODEL = "a#b" # why
DEFAULT_SESSION_TIMEOUT=60
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(FILE)
    path.chmod(0o640)
    return path


@pytest.mark.parametrize(
    ("name", "value", "before", "after"),
    [
        (
            "CLAUDE_MCP_MEMORY", "4g",
            'CLAUDE_MCP_MEMORY = "2g"   # of', 'CLAUDE_MCP_MEMORY = "4g"   # of',
        ),
        ("ANTHROPIC_MODEL", 'x "#" y', '"a#b" # why', '"x \\"#\\" y" # why'),
        (
            "DEFAULT_SESSION_TIMEOUT", "90",
            "DEFAULT_SESSION_TIMEOUT=60\n", "DEFAULT_SESSION_TIMEOUT = 90\n",
        ),
        ("DEFAULT_SESSION_TIMEOUT", None, "DEFAULT_SESSION_TIMEOUT=60\n", ""),
        (
            "CLAUDE_MCP_ALLOWED_HOSTS", "a.org, b.org",
            '[\n  "pypi.org",  # packages\n  "*.example.org",\n]\n', '["a.org", "b.org"]\n',
        ),
        (
            "MCP_CLAUDE_DEBUG", "yes",
            "TIMEOUT=60\n", "TIMEOUT=60\nMCP_CLAUDE_DEBUG = true\n",
        ),
        ("CLAUDE_MCP_RUNTIME", None, "", ""),
    ],
)  # fmt: skip
def test_only_one_statement_changes(
    file: Path, name: str, value: str | None, before: str, after: str
) -> None:
    change(file, name, value)
    assert file.read_text() == FILE.replace(before, after, 1)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert os.listdir(file.parent) == ["config.toml"]


def test_a_new_file_is_its_users_alone(tmp_path: Path) -> None:
    file = tmp_path / "new" / "config.toml"
    change(file, "ANTHROPIC_API_KEY", "sk-ant-0123456789")
    assert tomllib.loads(file.read_text()) == {"ANTHROPIC_API_KEY": "sk-ant-0123456789"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_another_name_of_a_setting_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('allowedRoots = ["/srv"]\n')
    change(file, "CLAUDE_MCP_ALLOWED_ROOTS", "/a:/b")
    assert tomllib.loads(file.read_text()) == {"CLAUDE_MCP_ALLOWED_ROOTS": ["/a", "/b"]}


def test_a_link_stays_a_link(file: Path) -> None:
    link = file.with_name("link.toml")
    link.symlink_to(file.name)
    change(link, "CLAUDE_MCP_MEMORY", "1g")
    assert link.is_symlink()
    assert 'CLAUDE_MCP_MEMORY = "1g"' in file.read_text()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MCP_CLAUDE_DEBUG", "perhaps", "MCP_CLAUDE_DEBUG is true or false."),
        ("DEFAULT_SESSION_TIMEOUT", "soon", "must be a number of seconds greater than 0."),
        ("CLAUDE_MCP_ALLOWED_ROOTS", "relative", "a list of absolute paths"),
        ("DEFAULT_CLAUDE_IMAGE", "a\udcff", "DEFAULT_CLAUDE_IMAGE must be valid UTF-8."),
    ],
)
def test_a_value_that_cannot_be_used_changes_nothing(
    file: Path, name: str, value: str, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        change(file, name, value)
    assert message in caught.value.message
    assert str(file.parent / ".config") not in caught.value.message
    assert file.read_text() == FILE
    assert os.listdir(file.parent) == ["config.toml"]


def test_a_broken_file_is_left_alone(file: Path) -> None:
    file.write_text("CLAUDE_MCP_MEMORY = [\n")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        change(file, "CLAUDE_MCP_MEMORY", "1g")
    assert file.read_text() == "CLAUDE_MCP_MEMORY = [\n"


def test_unknown_names_have_a_hint() -> None:
    with pytest.raises(UsageError) as caught:
        known("ANTHROPIC_MODELL")
    assert caught.value.hint == "Did you mean ANTHROPIC_MODEL?"
    with pytest.raises(UsageError, match="would have no effect"):
        known("ANTHROPIC_BETAS")


TABLES = """\
ANTHROPIC_MODEL = "a"

# Ours.
[engines.one]
program = "docker"

[engines.two]
host = "ssh://me@there"
"""


@pytest.mark.parametrize(
    ("name", "value", "before", "after"),
    [
        ("ANTHROPIC_MODEL", "b", '"a"', '"b"'),
        ("ANTHROPIC_MODEL", None, 'ANTHROPIC_MODEL = "a"\n', ""),
        (
            "CLAUDE_MCP_MEMORY",
            "4g",
            'ANTHROPIC_MODEL = "a"\n',
            'ANTHROPIC_MODEL = "a"\nCLAUDE_MCP_MEMORY = "4g"\n',
        ),
    ],
)
def test_tables_of_engines_stay_as_they_are(
    file: Path, name: str, value: str | None, before: str, after: str
) -> None:
    file.write_text(TABLES)
    change(file, name, value)
    assert file.read_text() == TABLES.replace(before, after)


def test_a_name_is_set_before_the_first_table(file: Path) -> None:
    file.write_text("[engines.one]\n")
    change(file, "CLAUDE_MCP_MEMORY", "4g")
    assert file.read_text() == 'CLAUDE_MCP_MEMORY = "4g"\n[engines.one]\n'


def test_an_engine_is_not_changed_as_a_name() -> None:
    with pytest.raises(UsageError) as caught:
        known("engines.one.host")
    assert caught.value.hint == "Edit the file: it has a table for each engine."
