"""The units for systemd in ``scripts/server``, as systemd itself reads them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "scripts" / "server"
PROGRAMS = ("%h/.local/bin/claude-mcp", "/usr/local/bin/claude-mcp")

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)


def complaints(directory: Path, service: str, *options: str) -> str:
    """What systemd says of a service and its socket, with a program that exists."""
    text = (UNITS / service).read_text()
    assert sum(text.count(each) for each in PROGRAMS) == 1
    for each in PROGRAMS:
        text = text.replace(each, "/bin/true")
    (directory / "claude-mcp.service").write_text(text)
    shutil.copy(UNITS / "claude-mcp.socket", directory)
    units = [str(directory / f"claude-mcp.{kind}") for kind in ("service", "socket")]
    done = subprocess.run(
        ["systemd-analyze", *options, "verify", *units],
        env={**os.environ, "XDG_RUNTIME_DIR": str(directory)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return f"{done.stderr}{done.returncode or ''}"


@pytest.mark.parametrize(
    ("service", "options"),
    [("claude-mcp-system.service", ()), ("claude-mcp.service", ("--user",))],
)
def test_systemd_understands_a_unit(tmp_path: Path, service: str, options: tuple[str, ...]) -> None:
    assert complaints(tmp_path, service, *options) == ""
