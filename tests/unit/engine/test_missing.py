"""An engine's program that is not on PATH."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_mcp.engine import missing
from claude_mcp.engine.missing import not_found


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(missing, "DIRECTORIES", ("/nowhere", "~/.of-a-vendor/bin"))
    program = tmp_path / ".of-a-vendor" / "bin" / "docker"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    return program


def test_where_its_installer_put_it_is_told(installed: Path, tmp_path: Path) -> None:
    error = not_found("docker", {"HOME": str(tmp_path)})
    assert error.message == "'docker' is not installed or not on PATH."
    assert error.hint is not None
    assert error.hint.startswith(f"It is in {installed.parent}. Add that to the PATH")


@pytest.mark.parametrize(
    ("program", "home"), [("podman", True), ("docker", False), ("/nowhere/docker", True)]
)
def test_one_that_is_nowhere_is_to_be_installed(
    installed: Path, tmp_path: Path, program: str, home: bool
) -> None:
    environment = {"HOME": str(tmp_path)} if home else {}
    assert not_found(program, environment).hint == missing.INSTALL
