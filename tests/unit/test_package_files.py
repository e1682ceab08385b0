"""What the package formats say of us, against the rules of each format that need no tool."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Annotated, Literal

import package_files
import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from claude_mcp import __version__
from claude_mcp.config_names import SECRET_NAMES

PLUGIN = package_files.CHECKOUT / "scripts" / "claude-plugin"


def test_every_package_has_the_same_version() -> None:
    plugin = json.loads((PLUGIN / ".claude-plugin" / "plugin.json").read_text())
    entry = package_files.server_json("io.github.me/claude-mcp", "https://example.com/r")
    assert {
        plugin["version"],
        package_files.manifest()["version"],
        entry["version"],
        entry["packages"][0]["version"],
    } == {__version__}


class Strict(BaseModel):
    """A part of the registry's schema 2025-12-11 as far as we use it: nothing else may occur."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Source(Strict):
    url: Annotated[str, Field(pattern="^https://")]
    source: Literal["github"]


class Transport(Strict):
    type: Literal["stdio"]


class Positional(Strict):
    type: Literal["positional"]
    value: str


class Variable(Strict):
    name: str
    description: str
    isRequired: bool
    isSecret: bool


class Package(Strict):
    registryType: Literal["pypi"]
    identifier: str
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    runtimeHint: Literal["uvx"]
    transport: Transport
    packageArguments: list[Positional]
    environmentVariables: list[Variable]


class Entry(Strict):
    schema_: Annotated[str, Field(alias="$schema")]
    name: Annotated[
        str, Field(min_length=3, max_length=200, pattern="^[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+$")
    ]
    title: Annotated[str, Field(min_length=1, max_length=100)]
    description: Annotated[str, Field(min_length=1, max_length=100)]
    version: Annotated[str, Field(max_length=255, pattern=r"^\d+\.\d+\.\d+$")]
    repository: Source
    packages: list[Package]


def test_the_registry_s_entry_keeps_to_its_schema() -> None:
    written = json.dumps(
        package_files.server_json("io.github.me/claude-mcp", "https://example.com/r")
    )
    entry = Entry.model_validate_json(written)
    assert entry.schema_ == package_files.SERVER_SCHEMA
    (package,) = entry.packages
    assert [each.value for each in package.packageArguments] == ["serve"]
    secrets = {each.name for each in package.environmentVariables if each.isSecret}
    names = {each.name for each in package.environmentVariables}
    assert secrets == names & SECRET_NAMES != set()


@pytest.mark.parametrize(
    ("place", "value"),
    [("description", "x" * 101), ("name", "no-slash"), ("version", "latest"), ("remotes", [])],
)
def test_an_entry_that_breaks_a_rule_of_the_schema_is_noticed(place: str, value: object) -> None:
    entry = package_files.server_json("io.github.me/claude-mcp", "https://example.com/r")
    with pytest.raises(ValidationError):
        Entry.model_validate({**entry, place: value})


@pytest.mark.parametrize("name", ["claude-mcp", "io.github.me/a/b", "io.github.me/a b"])
def test_a_name_that_the_registry_refuses_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no name for the registry"):
        package_files.server_json(name, "https://example.com/r")


def test_the_extension_marks_secrets_as_sensitive_and_requires_nothing() -> None:
    manifest = package_files.manifest()
    settings = manifest["user_config"]
    sensitive = {name.upper() for name, each in settings.items() if each["sensitive"]}
    assert sensitive == {name.upper() for name in settings} & SECRET_NAMES != set()
    assert not any(each["required"] for each in settings.values())
    passed = manifest["server"]["mcp_config"]["env"]
    assert passed == {name.upper(): f"${{user_config.{name}}}" for name in settings}


def test_the_extension_holds_the_program_and_no_leftovers(tmp_path: Path) -> None:
    files = package_files.bundled_files()
    package_files.write_archive(tmp_path / "a", {name: b"" for name in files})
    names = set(zipfile.ZipFile(tmp_path / "a").namelist())
    assert {"pyproject.toml", "claude_mcp/__main__.py", "claude_mcp/agent/boot.py"} <= names
    assert package_files.manifest()["server"]["entry_point"] in names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_an_archive_is_the_same_for_the_same_contents(tmp_path: Path) -> None:
    contents = {"b": b"2", "a": b"1" * 1000}
    package_files.write_archive(tmp_path / "one", contents)
    package_files.write_archive(tmp_path / "two", dict(reversed(contents.items())))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_plugin_starts_the_server_as_the_documentation_says() -> None:
    servers = json.loads((PLUGIN / ".mcp.json").read_text())["mcpServers"]
    assert servers == {"claude-mcp": {"command": "claude-mcp", "args": ["serve"]}}


def test_the_skill_names_only_tools_that_exist() -> None:
    from claude_mcp.server.tools import BY_NAME

    text = (PLUGIN / "skills" / "claude-sessions" / "SKILL.md").read_text()
    named = set(re.findall(r"`([a-z]+_[a-z_]+)`", text)) - {"needs_permission"}
    assert named <= set(BY_NAME)
    assert len(named) >= 8
