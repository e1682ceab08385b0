"""``claude-mcp image``, and the package that needs no checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from package_files import CHECKOUT

from claude_mcp.config import Config
from claude_mcp.engine.docker_cli import DockerCliEngine
from tests.engine_fixtures import Run, runner
from tests.peers import script


def test_an_image_is_listed_and_checked(cli: Run, config: Config) -> None:
    listed = json.loads(cli("image", "list", "--json").stdout)
    assert listed["configured"] == config.image
    assert listed["isThere"]
    assert config.image in {each["name"].removeprefix("localhost/") for each in listed["images"]}
    done = cli("image", "check", "--json")
    assert done.returncode == 0, done.stderr
    checked = json.loads(done.stdout)
    assert checked["missing"] == checked["unavailable"] == []
    assert "Claude Code" in checked["programs"]["claude"]
    assert checked["programs"]["git-lfs"]


@pytest.mark.docker  # on Podman, the tests' image was loaded, not built
def test_an_image_that_is_up_to_date_is_not_built_again(cli: Run, config: Config) -> None:
    done = cli("image", "build")
    assert done.returncode == 0, done.stderr
    assert f"{config.image} is there and up to date" in done.stderr


def test_an_image_that_is_not_there_is_said(cli: Run) -> None:
    done = cli("image", "check", "no-such-image-here:1")
    assert done.returncode == 5
    assert "has no image no-such-image-here:1" in done.stderr


@pytest.mark.once
@pytest.mark.stress
@pytest.mark.timeout(600)
def test_the_wheel_alone_builds_the_image_and_runs_a_prompt(
    engine: DockerCliEngine, environ: dict[str, str], tmp_path: Path, project: Path, name: str
) -> None:
    wheels, venv = tmp_path / "wheels", tmp_path / "venv"
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", wheels, CHECKOUT], check=True
    )
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    (wheel,) = wheels.iterdir()
    subprocess.run([venv / "bin" / "python", "-m", "pip", "install", wheel], check=True)
    elsewhere = runner(
        [str(venv / "bin" / "claude-mcp"), f"--engine={engine.program}"],
        {**environ, "PYTHONPATH": "", "HOME": str(tmp_path)},
    )
    os.chdir(tmp_path)
    for words in (
        ("image", "build"),
        ("image", "check"),
        ("create", str(project), "--name", name),
        ("prompt", name, script({"say": "from the wheel"})),
        ("destroy", name),
        ("run", str(project), script({"say": "from the wheel"}), "--name", name),
    ):
        done = elsewhere(*words)
        assert done.returncode == 0, done.stderr
        assert words[0] not in ("prompt", "run") or done.stdout == "from the wheel\n"
