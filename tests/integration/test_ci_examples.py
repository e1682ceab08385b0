"""The examples of docs/ci.md, with the runner's part played by sh."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from messages_standin import Standin

from claude_mcp.engine.docker_cli import DockerCliEngine
from tests.engine_fixtures import environment_with
from tests.snapshots import git

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("committer")]

PAGE = Path(__file__).parents[2] / "docs" / "ci.md"
WRITES = {"tool": "Bash", "input": {"command": "echo fixed >fixed.txt"}}
RULES: list[dict[str, Any]] = [
    {"match": "Review the changes", "steps": [{"say": "Line 3 is wrong."}]},
    {"match": "Run the tests", "steps": [WRITES, {"say": "Fixed."}]},
    {"match": "Replace the deprecated", "steps": [WRITES, {"say": "Replaced."}]},
]
LEFT_TO_THE_RUNNER = re.compile(r"(apt-get|pip) ")
"""What installs programs on a fresh machine."""


def example(heading: str) -> str:
    """The code of a section of the page."""
    found = re.search(rf"^## {heading}\n.*?```\w+\n(.*?)```", PAGE.read_text(), re.M | re.S)
    assert found is not None
    return found[1]


@pytest.fixture
def environ(engine: DockerCliEngine, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What a runner has: the program on its PATH, the engine, a key."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "claude-mcp").write_text(
        f'#!/bin/sh\nexec {sys.executable} -m claude_mcp --engine={engine.program} "$@"\n'
    )
    (programs / "claude-mcp").chmod(0o755)
    with Standin(host="0.0.0.0", rules=RULES) as standin:
        environment = environment_with(standin)
        environment["PATH"] = f"{programs}:{environment['PATH']}"
        environment["PYTHONPATH"] = str(PAGE.parents[1])
        yield environment


@pytest.fixture
def repository(project: Path) -> Path:
    git(project, "init", "-q", "-b", "main")
    for number in (1, 2):
        (project / "code.txt").write_text(f"{number}\n")
        git(project, "add", ".")
        git(project, "commit", "-q", "-m", f"number {number}")
    if os.geteuid() == 0:
        for path in (project, *project.rglob("*")):
            os.lchown(path, project.stat().st_uid, project.stat().st_gid)
    return project


def sh(script: str, directory: Path, environ: dict[str, str], *words: str) -> str:
    done = subprocess.run(
        ["sh", "-e", "-c", script, "sh", *words],
        cwd=directory, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_github_example_reviews_and_makes_a_patch(
    repository: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    workflow: dict[str, Any] = yaml.safe_load(example("GitHub Actions"))
    (job,) = workflow["jobs"].values()
    environ["GITHUB_STEP_SUMMARY"] = str(tmp_path / "summary")
    environ["BASE"] = git(repository, "rev-parse", "HEAD~1")
    assert set(job["env"]) == {"ANTHROPIC_API_KEY", "BASE"}
    for step in job["steps"]:
        if "run" in step and not LEFT_TO_THE_RUNNER.match(step["run"]):
            sh(step["run"], repository, environ)
    assert (tmp_path / "summary").read_text() == "Line 3 is wrong.\n"
    assert "+fixed" in (repository / "claude.patch").read_text()
    assert git(repository, "diff", "HEAD") == ""


def test_the_gitlab_example_prints_the_review(repository: Path, environ: dict[str, str]) -> None:
    (job,) = yaml.safe_load(example("GitLab CI")).values()
    environ["CI_MERGE_REQUEST_DIFF_BASE_SHA"] = git(repository, "rev-parse", "HEAD~1")
    printed = [
        sh(line, repository, environ)
        for line in (*job["before_script"], *job["script"])
        if not LEFT_TO_THE_RUNNER.search(line)
    ]
    assert printed[-1] == "Line 3 is wrong.\n"


def test_the_script_for_many_repositories_makes_a_patch_of_each(
    repository: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    others = []
    for name in ("one", "two"):
        shutil.copytree(repository, tmp_path / name)
        others.append(str(tmp_path / name))
    assert sh(example("Many repositories"), tmp_path, environ, *others) == ""
    for name in ("one", "two"):
        assert "+fixed" in (tmp_path / f"{name}.patch").read_text()
