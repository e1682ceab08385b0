from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_mcp.cli import main
from tests.measuring import MEASURED
from tests.unit import fake_engine
from tests.unit.sessions import fake_turns

API_KEY = "sk-ant-of-the-shell-0123"

Run = Callable[..., tuple[int, str, str]]


class Input(io.TextIOWrapper):
    """A stdin that holds some bytes, at a terminal or not."""

    def __init__(self, data: bytes, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


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
    """The id of a session named fix-tests."""
    return fake_engine.add_session(program, "fix-tests", project)


@pytest.fixture
def environment(program: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """All that the command line finds in its environment."""
    environment = {
        **MEASURED,
        "PATH": os.environ["PATH"],
        "HOME": str(program.parent),
        "CLAUDE_MCP_CONFIG": os.devnull,
        "CLAUDE_MCP_ENGINE": str(program),
        "ANTHROPIC_API_KEY": API_KEY,
    }
    for name in os.environ:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


@pytest.fixture
def run(environment: dict[str, str], capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run the program: exit code, stdout, stderr."""

    def run(*argv: str) -> tuple[int, str, str]:
        code = main(list(argv))
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return run
