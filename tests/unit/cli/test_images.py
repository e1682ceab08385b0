"""``image``: what the engine is asked, and what is said of it."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.terminals import terminal
from tests.unit import fake_engine
from tests.unit.cli.conftest import Run

LOOK = "sh\\t\\npython3\\tPython 3.11.2\\nclaude\\t2.1 (Claude Code)\\nps\\tps 4\\ngit\\tgit 2\\n"
Engine = Callable[..., Path]


@pytest.fixture
def engine(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Makes an engine of shell code for each verb; ``calls`` beside it has what it was asked."""

    def engine(name: str = "docker", **verbs: str) -> Path:
        directory = tmp_path / "bin"
        directory.mkdir(exist_ok=True)
        cases = "".join(f"{verb}) {code};;\n" for verb, code in verbs.items())
        program = directory / name
        program.write_text(
            f"#!/bin/sh\necho \"$@\" >>'{directory}/calls'\ncase $1 in\n"
            f"version) echo '{json.dumps(fake_engine.VERSION)}';;\n{cases}"
            "*) echo 'no such image' >&2; exit 1;;\nesac\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv("CLAUDE_MCP_ENGINE", str(program))
        return program

    return engine


def test_the_images_are_a_table_and_a_missing_one_is_said(run: Run, engine: Engine) -> None:
    engine(images=r"printf 'a/b\tone\tsha256:0123456789abcdef\t77MB\t2 hours ago\nodd line\n'")
    code, out, err = run("image", "list")
    assert (code, out.splitlines()) == (
        0,
        [
            "IMAGE    ID            SIZE  CREATED",
            "a/b:one  0123456789ab  77MB  2 hours ago",
        ],
    )
    assert "is not there: build it with 'claude-mcp image build'" in err
    listed = json.loads(run("image", "list", "--json")[1])
    assert listed["images"] == [
        {"name": "a/b:one", "id": "0123456789ab", "size": "77MB", "created": "2 hours ago"}
    ]
    assert listed["isThere"] is False


def test_what_an_image_has_and_lacks_is_said(run: Run, engine: Engine) -> None:
    program = engine(run=f"printf '{LOOK}'")
    code, out, _ = run("image", "check", "some:1")
    assert code == 0
    assert "claude   2.1 (Claude Code)\n" in out
    assert "node     missing; some projects need it\n" in out
    calls = (program.parent / "calls").read_text()
    assert "run --rm --network=none --pull=never --entrypoint=/bin/sh some:1 -c" in calls
    engine(run="printf 'sh\\t\\nunknown\\tx\\n'")
    code, out, _ = run("image", "check", "--json")
    assert code == 5
    assert json.loads(out)["missing"] == ["python3", "claude", "ps"]


def test_an_image_without_a_shell_and_one_that_is_not_there_are_explained(
    run: Run, engine: Engine
) -> None:
    engine(run=":")
    code, _, err = run("image", "check", "some:1")
    assert (code, "no usable shell" in err) == (5, True)
    engine()
    code, _, err = run("image", "check", "some:1")
    assert code == 5
    assert "Docker has no image some:1." in err


@pytest.mark.parametrize(("ends", "code"), [("exit 0", 0), ("exit 3", 5)])
def test_an_image_is_pulled_with_the_engine_s_own_words(
    run: Run, engine: Engine, ends: str, code: int
) -> None:
    engine(pull=f"echo pulling $2 >&2; {ends}")
    assert run("image", "pull", "some:1") == (code, "", "pulling some:1\n")


def test_the_build_gets_all_that_was_asked_for(
    run: Run, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = engine()
    (program.parent / "bash").write_text('#!/bin/sh\nshift\necho "$BASE_IMAGE $@"\n')
    (program.parent / "bash").chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    options = ("--base=b:1", "--extra-ca=ca.pem", "--rebuild", "--verbose")
    assert run("image", "build", "mine:2", *options) == (
        0,
        f"b:1 --engine docker --tag mine:2 --no-install --extra-ca {tmp_path}/ca.pem "
        "--rebuild --verbose\n",
        "",
    )


STEPS = r"""
say() { printf '%s\n' "$SAY_MARK$*" >&2; }
say Pulling the base
say Building it
printf 'Step 1/4 : FROM base\n#7 [build 2/4]  RUN   apt\n'
read -r gate <"$GATE"
"""


@pytest.mark.parametrize("fails", [False, True])
def test_a_build_at_a_terminal_shows_how_far_it_is(
    environment: dict[str, str], engine: Engine, tmp_path: Path, fails: bool
) -> None:
    program = engine()
    ends = "echo E: no such package; say The build failed: see above; exit 1"
    bash = program.parent / "bash"
    bash.write_text(f"#!/bin/sh\n{STEPS}{ends if fails else 'say It is built.'}\n")
    bash.chmod(0o755)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    variables = {
        **environment, "GATE": str(gate), "CLAUDE_MCP_ENGINE": str(program),
        "PATH": f"{program.parent}:{os.environ['PATH']}",
    }  # fmt: skip
    argv = [sys.executable, "-m", "claude_mcp", "image", "build"]
    with terminal(argv, variables, columns=80) as shown:
        shown.until("[=====               ] RUN apt, 1 of 4 steps")
        gate.write_text("go on\n")
        assert shown.wait() == (5 if fails else 0)
    words = ["Pulling the base", "Building it"]
    engine_s = ["Step 1/4 : FROM base", "#7 [build 2/4]  RUN   apt", "E: no such package"]
    last = [*engine_s, "The build failed: see above"] if fails else ["It is built."]
    assert shown.text.splitlines() == [*words, *last]


def test_the_server_s_image_has_a_name_of_its_own(
    run: Run, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = engine()
    (program.parent / "bash").write_text('#!/bin/sh\nshift\necho "$@"\n')
    (program.parent / "bash").chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert run("image", "build", "--target", "server") == (
        0,
        "--engine docker --tag claude-mcp-server:latest --no-install --target server\n",
        "",
    )


def test_the_server_s_image_installs_the_mcp_that_the_package_needs() -> None:
    repository = Path(__file__).parents[3]
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    [needed] = [each for each in project["dependencies"] if each.startswith("mcp")]
    assert f"'{needed}'" in (repository / "Dockerfile.custom").read_text()


def test_an_engine_of_another_name_cannot_build(run: Run, engine: Engine) -> None:
    engine("dockery")
    code, _, err = run("image", "build")
    assert (code, "its name is neither docker nor podman" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["buld"], "There is no 'image buld'."),
        (["list", "some:1"], "'image list' takes no image."),
        (["check", "--rebuild"], "go with 'image build' only"),
        (["check", "--target", "server"], "go with 'image build' only"),
        (["pull", "--", "-x"], "-x"),
    ],
)
def test_a_slip_is_explained(run: Run, engine: Engine, words: list[str], said: str) -> None:
    code, _, err = run("image", *words)
    assert code == 2
    assert said in err
