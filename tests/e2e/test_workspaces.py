"""Work of the real Claude Code in clones, and how it comes back to the host's repository."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from claude_mcp.config import Config
from claude_mcp.engine.engine import Engine
from tests.peers import Peer, script
from tests.snapshots import NEW_OBJECTS, differences, git, is_sound, ref_files, snapshot

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare

pytestmark = pytest.mark.usefixtures("committer")
Call = Callable[..., Any]
START = {"a.txt": "one\n", "b.txt": "one\n", "run.sh": "#!/bin/sh\n", ".gitignore": "secret\n"}


@pytest.fixture
def repository(project: Path) -> Path:
    git(project, "init", "--quiet", "--initial-branch=main")
    for name, content in START.items():
        (project / name).write_text(content)
    (project / "run.sh").chmod(0o755)
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "first")
    git(project, "branch", "other")
    (project / "secret").write_text("ignored")
    (project / "draft").write_text("untracked")
    return project


@pytest.fixture
async def names(name: str, bare: Bare) -> AsyncIterator[list[str]]:
    """Of four sessions, which are removed whatever happens."""
    four = [f"{name}-{number}" for number in range(4)]
    yield four
    for each in four:
        bare.remove_all(each)


def write(path: str, content: str) -> dict[str, Any]:
    return {"tool": "Write", "input": {"file_path": f"/workspace/{path}", "content": content}}


def run(command: str) -> dict[str, Any]:
    return {"tool": "Bash", "input": {"command": command, "description": "work"}}


def commit(message: str) -> dict[str, Any]:
    return run(f"git add -A && git commit -qm '{message}'")


async def do(call: Peer, session: str, *steps: dict[str, Any]) -> str:
    """Have Claude do some work; returns the turn."""
    turn = await call(
        "execute_in_session", sessionId=session, prompt=script(*steps, {"say": "done"})
    )
    assert (turn["status"], turn["result"]) == ("completed", "done")
    return str(turn["turnId"])


@pytest.mark.once
async def test_four_sessions_at_once_come_back_and_nothing_else_changes(
    start: Call, repository: Path, names: list[str]
) -> None:
    """The third and the fourth change the same line; the second does not commit."""
    before = snapshot(repository)
    tasks = [
        (write("new/one.py", "print(1)\n"), commit("one")),
        (write("a.txt", "one\ntwo\n"), run("rm run.sh")),
        (write("b.txt", "three\n"), commit("three")),
        (write("b.txt", "four\n"), commit("four"), write("four.txt", "4"), commit("more")),
    ]

    async def work(call: Peer, session: str, steps: tuple[dict[str, Any], ...]) -> None:
        await call(
            "create_session", projectPath=str(repository), sessionName=session, workspace="clone"
        )
        await do(call, session, *steps)

    async with start() as call:
        async with anyio.create_task_group() as group:
            for session, steps in zip(names, tasks, strict=True):
                group.start_soon(work, call, session, steps)
        assert differences(before, snapshot(repository)) == []

        first, second, third, fourth = names
        made = await call("apply_changes", sessionId=first)
        assert (made["outcome"], made["branch"]) == ("created", f"claude/{first}")
        asked = ref_files(f"refs/heads/claude/{first}")
        assert differences(before, snapshot(repository), (*NEW_OBJECTS, *asked)) == []

        assert "nothing was committed there" in await call.refused(
            "apply_changes", sessionId=second, mode="merge"
        )
        merged = await call("apply_changes", sessionId=second, mode="merge", commit="two")
        assert (merged["outcome"], merged["branch"]) == ("forwarded", "main")
        merged = await call("apply_changes", sessionId=third, mode="merge")
        assert merged["outcome"] == "merged"
        here = snapshot(repository)
        conflict = await call.refused("apply_changes", sessionId=fourth, mode="merge")
        assert "conflicts with the current branch in b.txt" in conflict
        assert differences(here, snapshot(repository), NEW_OBJECTS) == []

        # As the message says: the work as a branch, which is merged by hand.
        await call("apply_changes", sessionId=fourth)
        git(repository, "merge", "--quiet", f"claude/{first}", "-m", "by hand")
        git(repository, "merge", "--quiet", f"claude/{fourth}", check=False)
        (repository / "b.txt").write_text("three and four\n")
        git(repository, "commit", "--quiet", "--all", "-m", "resolved")
        for each in names:
            await call("destroy_session", sessionId=each)

    branches = {f"claude/{first}", f"claude/{fourth}", "main", "other"}
    assert set(git(repository, "branch", "--format=%(refname:short)").split()) == branches
    assert git(repository, "status", "--porcelain") == "?? draft"
    after = snapshot(repository)
    assert {name for name in ("a.txt", "b.txt", "new/one.py", "four.txt") if name in after}
    assert [after[name][2] for name in ("a.txt", "b.txt", "new/one.py", "four.txt")] == [
        b"one\ntwo\n", b"three and four\n", b"print(1)\n", b"4",
    ]  # fmt: skip
    assert "run.sh" not in after
    for name in (".git/config", ".git/refs/heads/other", "draft", "secret", ".gitignore"):
        assert after[name] == before[name]
    is_sound(repository)


@pytest.fixture
def claude(bare: Bare, config: Config, tmp_path: Path) -> str:
    """The real Claude Code of the session image, as a program of the host."""
    container = bare("create", config.image).strip()
    bare("cp", f"{container}:/usr/local/bin/claude", str(tmp_path / "claude"))
    bare("rm", container)
    return str(tmp_path / "claude")


@pytest.mark.stress
@pytest.mark.timeout(300)
async def test_claude_code_on_the_host_drives_a_session_with_the_tools(
    engine: Engine,
    environ: dict[str, str],
    claude: str,
    repository: Path,
    name: str,
    tmp_path: Path,
) -> None:
    """The model of the client and that of the session are the same stand-in."""
    before = snapshot(repository)
    inner = script(write("wanted.txt", "yes\n"), write("a.txt", "no\n"), {"say": "done"})
    calls: list[tuple[str, dict[str, Any]]] = [
        ("create_session", {"projectPath": str(repository), "sessionName": name,
                            "workspace": "clone"}),
        ("execute_in_session", {"sessionId": name, "prompt": inner}),
        ("get_changes", {"sessionId": name, "full": True}),
        ("apply_changes", {"sessionId": name, "mode": "files", "paths": ["wanted.txt"],
                           "commit": "all"}),
        ("discard_changes", {"sessionId": name}),
        ("destroy_session", {"sessionId": name}),
    ]  # fmt: skip
    steps = [{"tool": f"mcp__sessions__{tool}", "input": given} for tool, given in calls]
    server = {"command": sys.executable, "args": ["-m", "claude_mcp", f"--engine={engine.program}",
                                                  "serve"], "env": environ}  # fmt: skip
    (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": {"sessions": server}}))
    argv = [
        claude, "-p", f"--mcp-config={tmp_path}/mcp.json", "--strict-mcp-config", "--verbose",
        "--dangerously-skip-permissions", "--output-format=stream-json",
        script(*steps, {"say": "all done"}),
    ]  # fmt: skip
    home = {"HOME": str(tmp_path / "home"), "IS_SANDBOX": "1", "ENABLE_TOOL_SEARCH": "false"}
    done = await anyio.run_process(argv, env={**environ, **home}, cwd=tmp_path)
    frames = [json.loads(line) for line in done.stdout.splitlines()]
    results = [
        block
        for frame in frames
        if frame["type"] == "user"
        for block in frame["message"]["content"]
        if block["type"] == "tool_result"
    ]
    assert [str(each["content"]) for each in results if each.get("is_error")] == []
    assert len(results) == len(calls)
    assert "+yes" in str(results[2]["content"])
    assert frames[-1]["result"] == "all done"
    after = snapshot(repository)
    assert after.pop("wanted.txt")[2] == b"yes\n"
    assert differences(before, after, NEW_OBJECTS) == []


async def read_diff(call: Peer, session: str) -> str:
    """The whole diff, asking for the next part as each result says."""
    parts, more = [], {"offset": 0}
    while True:
        part = await call("get_changes", sessionId=session, full=True, **more)
        parts.append(part["diff"])
        if part["nextOffset"] is None:
            return "".join(parts)
        more = {"offset": part["nextOffset"], "until": part["until"]}


@pytest.mark.once
async def test_a_caller_with_only_the_tools_takes_one_file_and_discards_the_rest(
    start: Call, repository: Path, name: str
) -> None:
    """Each argument comes from an earlier result; no call is refused."""
    before = snapshot(repository)
    long = "".join(f"line {number}\n" for number in range(8000))
    async with start() as call:
        made = await call(
            "create_session", projectPath=str(repository), sessionName=name, workspace="clone"
        )
        session = made["sessionId"]
        turn = await do(
            call, session, write("wanted.txt", long), write("a.txt", "no\n"), run("rm b.txt")
        )
        told = await call("get_changes", sessionId=session, turnId=turn)
        assert {each["path"]: each["status"] for each in told["files"]} == {
            "wanted.txt": "A", "a.txt": "M", "b.txt": "D",
        }  # fmt: skip
        assert told["committed"] is False
        diff = await read_diff(call, session)
        assert diff.count("\n+line ") == 8000
        assert "\n-one\n" in diff
        wanted = next(each["path"] for each in told["files"] if each["status"] == "A")
        taken = await call(
            "apply_changes", sessionId=session, mode="files", paths=[wanted], commit="all"
        )
        assert (taken["files"], taken["left"]) == (["wanted.txt"], [])
        discarded = await call("discard_changes", sessionId=session)
        assert set(discarded["restored"]) == {"a.txt", "b.txt"}
        assert (await call("get_changes", sessionId=session))["files"] == []
        await call("destroy_session", sessionId=session)
    after = snapshot(repository)
    assert after.pop("wanted.txt")[2].decode() == long
    assert differences(before, after, NEW_OBJECTS) == []
    is_sound(repository)
