from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_mcp.config import Config, load
from tests.unit import fake_engine
from tests.unit.sessions import fake_turns


@pytest.fixture(autouse=True)
def waits_for_its_engine(patient: None) -> None:
    """Each test here does."""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A fake engine, its state empty."""
    return fake_turns.install(tmp_path / "engine")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "project"
    directory.mkdir()
    return directory


@pytest.fixture
def session(program: Path, project: Path) -> str:
    """The id of an existing session."""
    return fake_engine.add_session(program, "fix-tests", project)


@pytest.fixture
def config(program: Path) -> Config:
    environ = {
        "PATH": os.environ["PATH"],
        "CLAUDE_MCP_CONFIG": os.devnull,
        "ANTHROPIC_API_KEY": "sk-ant-of-the-server-0123",
    }
    return load(environ, engine=str(program))
