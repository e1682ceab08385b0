"""``claude-mcp run``: one prompt, from the creation of a session to its removal."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import anyio
import pytest

from tests.engine_fixtures import Bare, Run
from tests.peers import script
from tests.snapshots import git

WRITE = script(
    {"tool": "Bash", "input": {"command": "echo new >made.txt"}}, {"say": "I made a file."}
)
READ = script({"say": "Nothing to do."})


@pytest.fixture
def repository(project: Path) -> Path:
    git(project, "init", "-q", "-b", "main")
    (project / "old.txt").write_text("old\n")
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "first")
    if os.geteuid() == 0:
        for path in (project, *project.rglob("*")):
            os.lchown(path, project.stat().st_uid, project.stat().st_gid)
    return project


@pytest.mark.usefixtures("committer")
def test_the_work_becomes_a_branch_and_nothing_of_the_session_is_left(
    cli: Run, repository: Path, name: str, bare: Bare
) -> None:
    done = cli("run", str(repository), f"Make a file.\n{WRITE}", "--name", name, "--apply=branch")
    assert (done.returncode, done.stdout) == (0, "I made a file.\n"), done.stderr
    assert git(repository, "show", f"claude/{name}:made.txt") == "new"
    assert git(repository, "log", "-1", "--format=%s", f"claude/{name}") == "Make a file."
    assert git(repository, "status", "--porcelain") == ""
    assert bare.containers(name) == []


@pytest.mark.per_engine
@pytest.mark.usefixtures("committer")
def test_work_that_nobody_took_keeps_the_session_and_says_how_to_take_it(
    cli: Run, repository: Path, name: str, bare: Bare
) -> None:
    done = cli("run", str(repository), WRITE, "--name", name, "--workspace=clone")
    assert done.returncode == 0
    assert f"claude-mcp apply {name} --commit MESSAGE" in done.stderr
    assert len(bare.containers(name)) == 1
    patch = repository.parent / "work.patch"
    assert cli("apply", name, "--commit", "Taken", "--patch", str(patch)).returncode == 0
    assert "+new" in patch.read_text()


@pytest.mark.once
@pytest.mark.usefixtures("committer")
@pytest.mark.parametrize("take", [(), ("--apply=none",), ("--patch",)])
def test_json_says_what_became_of_everything(
    cli: Run, repository: Path, name: str, bare: Bare, take: tuple[str, ...]
) -> None:
    prompt = WRITE if take else READ
    patch = repository.parent / "work.patch"
    if patched := "--patch" in take:
        take = (*take, str(patch))
    done = cli("run", str(repository), prompt, "--name", name, "--output=json", *take)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["turn"]["status"] == "completed"
    assert answer["kept"] is None
    assert (answer["applied"] or {}).get("mode") == ("patch" if patched else None)
    assert patch.exists() == patched
    assert bare.containers(name) == []


@pytest.mark.once
@pytest.mark.near("looks into the mounted project")
def test_a_stream_has_a_line_for_each_event_and_then_the_result(
    cli: Run, project: Path, name: str
) -> None:
    done = cli("run", str(project), WRITE, "--name", name, "--output=stream-json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["type"] for each in lines[:-1]] == ["event"] * (len(lines) - 1)
    assert "tool_call" in {each["kind"] for each in lines[:-1]}
    assert lines[-1]["type"] == "result"
    assert lines[-1]["turn"]["result"] == "I made a file."
    assert (project / "made.txt").read_text() == "new\n"


@pytest.mark.once
@pytest.mark.parametrize("answer", ["fail", "refused"])
def test_a_failure_gives_its_exit_code_and_leaves_nothing(
    cli: Run, project: Path, name: str, bare: Bare, answer: str
) -> None:
    prompt = script({"fail": 400}) if answer == "fail" else WRITE
    options = () if answer == "fail" else ("--network=restricted", "--allow=nowhere..")
    done = cli("run", str(project), prompt, "--name", name, *options)
    assert done.returncode == (1 if answer == "fail" else 2), done.stderr
    assert bare.containers(name) == []


@pytest.mark.per_engine
@pytest.mark.near("looks into the mounted project")
async def test_ctrl_c_ends_the_turn_and_destroys_the_session(
    cli_argv: list[str], environ: dict[str, str], project: Path, name: str, bare: Bare
) -> None:
    prompt = script({"tool": "Bash", "input": {"command": "touch begun; sleep 600"}})
    words = [*cli_argv, "run", str(project), prompt, "--name", name]
    async with await anyio.open_process(words, env=environ) as process:
        with anyio.fail_after(60):
            while not (project / "begun").exists():
                await anyio.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
    assert bare.containers(name) == []


@pytest.mark.once
def test_an_answer_follows_the_schema_or_the_turn_fails(
    cli: Run, project: Path, name: str, tmp_path: Path
) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object", "properties": {"sum": {"type": "number"}}}')
    options = ("--name", name, "--output=json", f"--output-schema={schema}")
    good = script({"tool": "StructuredOutput", "input": {"sum": 5}})
    done = cli("run", str(project), good, *options)
    assert (done.returncode, json.loads(done.stdout)["structuredOutput"]) == (0, {"sum": 5})
    done = cli("run", str(project), READ, *options)
    assert (done.returncode, json.loads(done.stdout)["structuredOutput"]) == (1, None)
    assert "does not follow the schema" in done.stderr
