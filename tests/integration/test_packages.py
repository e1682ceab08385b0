"""The packages for other programs, in the eyes of those programs' own validators."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from package_files import CHECKOUT

from claude_mcp.config import Config
from claude_mcp.engine.docker_cli import DockerCliEngine

pytestmark = pytest.mark.once

MCPB = "@anthropic-ai/mcpb@2.1.2"


def validate(
    engine: DockerCliEngine, config: Config, directory: Path, *options: str, command: str
) -> subprocess.CompletedProcess[str]:
    """Run a validator of the session image on a directory."""
    return subprocess.run(
        [
            *(engine.program, "run", "--rm", *options, f"--volume={directory}:/packages:ro"),
            *("--env=HOME=/tmp", "--workdir=/packages", config.image, "sh", "-c", command),
        ],
        env=dict(engine.environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Only what a checkout holds, where any user can read it."""
    for name in (".claude-plugin", "scripts/claude-plugin"):
        shutil.copytree(CHECKOUT / name, tmp_path / name)
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return tmp_path


def test_claude_code_accepts_the_plugin_and_its_marketplace(
    engine: DockerCliEngine, config: Config, packages: Path
) -> None:
    command = (
        "claude plugin validate --strict . && "
        "claude plugin validate --strict --profile directory scripts/claude-plugin"
    )
    done = validate(engine, config, packages, "--network=none", command=command)
    assert done.returncode == 0, done.stdout + done.stderr
    broken = packages / "scripts/claude-plugin/.claude-plugin/plugin.json"
    broken.write_text(broken.read_text().replace("container-sessions", "claude-sessions"))
    done = validate(engine, config, packages, "--network=none", command=command)
    assert done.returncode == 1
    assert "is reserved" in done.stdout


def test_the_official_tool_accepts_the_extension(
    engine: DockerCliEngine, config: Config, tmp_path: Path
) -> None:
    subprocess.run(
        [sys.executable, CHECKOUT / "scripts" / "package_files.py", "mcpb", tmp_path],
        check=True,
        timeout=60,
    )
    tmp_path.chmod(0o755)
    registry = os.environ.get("NPM_REGISTRY", "https://registry.npmjs.org")
    command = (
        f"npx --yes {MCPB} unpack *.mcpb /tmp/unpacked && "
        f"npx --yes {MCPB} validate /tmp/unpacked/manifest.json"
    )
    options = ("--network=host", f"--env=NPM_CONFIG_REGISTRY={registry}")
    done = validate(engine, config, tmp_path, *options, command=command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "validation passes" in done.stdout
