"""A session's commits on their way to the host: a scripted session, but the real git."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.errors import (
    AgentError,
    ClaudeMcpError,
    NextStep,
    TransferError,
    UsageError,
    WorkConflict,
    WorkRefused,
)
from claude_mcp.sessions import labels
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.workspaces.applying import Applied, Mode, apply_changes
from tests.unit.sessions.conftest import container
from tests.unit.sessions.git.conftest import BRANCH, ENVIRONMENT, World, commit, git, world

if TYPE_CHECKING:
    from tests.unit.sessions.conftest import ScriptedEngine

__all__ = ["world"]
pytestmark = pytest.mark.anyio

AGENT = """
for line in sys.stdin:
    one = json.loads(line)
    with open("asked", "a") as file:
        file.write(json.dumps([one["op"], one["args"]]) + "\\n")
    said = json.loads({answers!r}).get(one["op"], {{"ok": {{}}}})
    answer(one["id"], **said)
"""
GIVE = """
import io, sys, tarfile
with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
    def add(name, data, kind=tarfile.REGTYPE, link=""):
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, link
        entry.size = len(data) if kind == tarfile.REGTYPE else 0
        archive.addfile(entry, io.BytesIO(data))
    bundle = open({bundle!r}, "rb").read()
"""
SEND = 'add("work", bundle)'


class Scene:
    """A session ``fix`` with a clone of the project in ``world``."""

    def __init__(self, scripted: ScriptedEngine, sessions: Sessions, world: World) -> None:
        self.scripted, self.sessions, self.world = scripted, sessions, world
        self.answers: dict[str, Any] = {}
        self.packed(uncommitted=0)
        self.holds()
        self.sends(SEND)

    def holds(self, kind: str = "clone", base: str | None = "") -> None:
        made = container("abcd1", "fix")
        made["labels"][labels.PROJECT] = str(self.world.host)
        made["labels"][labels.WORKSPACE] = kind
        if base is not None:
            made["labels"][labels.BASE] = base or self.world.base
        self.scripted.holds(made)

    def packed(self, **changes: Any) -> None:
        self.says("pack", ok={"path": "/run/work", "branch": BRANCH, **changes})

    def says(self, op: str, **answer: Any) -> None:
        self.answers[op] = answer
        self.scripted.agent(AGENT.format(answers=json.dumps(self.answers)))

    def sends(self, script: str) -> None:
        """What is in the engine's archive of the bundle."""
        lines = "".join(f"    {line}\n" for line in script.splitlines())
        self.scripted.on("cp", GIVE.format(bundle=str(self.world.bundle)) + lines)

    @property
    def asked(self) -> list[Any]:
        """Operations and arguments. A channel that was idle is also asked whether it is alive."""
        asked = [json.loads(line) for line in self.scripted.noted_lines("asked")]
        return [each for each in asked if each[0] != "ping"]

    async def apply(self, mode: Any = "branch", **options: Any) -> Applied:
        return await apply_changes(await self.sessions.open("fix"), mode, **options)

    async def refusal(
        self, kind: type[ClaudeMcpError], mode: str = "branch", **options: Any
    ) -> ClaudeMcpError:
        """Why nothing was changed; nothing was either."""
        before, refs = self.world.state(), git(self.world.host, "for-each-ref")
        with pytest.raises(kind) as caught:
            await self.apply(mode, **options)
        assert type(caught.value) is kind
        assert (self.world.state(), git(self.world.host, "for-each-ref")) == (before, refs)
        assert os.listdir(self.world.host.parent / "tmp") == []
        return caught.value


@pytest.fixture
async def scene(
    scripted: ScriptedEngine, world: World, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    tip = world.commit({"a": "new\n", "new": "1\n", "b": None}, "Fix it")
    assert tip
    world.pack()
    config = replace(scripted.config, environment={**scripted.config.environment, **ENVIRONMENT})
    async with open_sessions(config) as sessions:
        yield Scene(scripted, sessions, world)


@pytest.fixture
def tip(scene: Scene) -> str:
    return git(scene.world.session, "rev-parse", "HEAD")


async def test_a_branch_gets_the_commits(scene: Scene, tip: str) -> None:
    files = scene.world.state()
    done = await scene.apply()
    assert (done.mode, done.outcome, done.branch) == ("branch", "created", "claude/fix")
    assert (done.commit, done.commits, done.subjects) == (tip, 1, ("Fix it",))
    assert (sorted(done.files), done.left, done.path, done.warnings) == (
        ["a", "b", "new"], (), None, ()
    )  # fmt: skip
    assert scene.world.ref("claude/fix") == tip
    assert scene.world.state() == files
    assert scene.asked == [
        ["pack", {}],
        ["drop", {"path": "/run/work"}],
        ["applied", {"commit": tip}],
    ]
    assert (await scene.apply(branch="other")).branch == "other"
    assert (await scene.apply()).outcome == "unchanged"
    assert os.listdir(scene.world.host.parent / "tmp") == []


async def test_a_merge_changes_the_branch_and_its_files(scene: Scene, tip: str) -> None:
    done = await scene.apply("merge")
    assert (done.outcome, done.branch, done.commit) == ("forwarded", "main", tip)
    assert (scene.world.host / "new").read_text() == "1\n"
    assert scene.asked[-1] == ["applied", {"commit": tip}]


async def test_a_merge_commit_is_not_what_the_session_has(scene: Scene, tip: str) -> None:
    commit(scene.world.host, {"theirs": "x\n"})
    done = await scene.apply("merge")
    assert (done.outcome, done.commit) == ("merged", scene.world.ref("main"))
    assert done.commit != tip
    assert scene.asked[-1] == ["applied", {"commit": tip}]


async def test_a_conflict_changes_nothing(scene: Scene) -> None:
    commit(scene.world.host, {"a": "other\n"})
    error = await scene.refusal(WorkConflict, "merge")
    assert "a" in error.message
    assert [op for op, _ in scene.asked] == ["pack", "drop"]


async def test_files_are_taken_and_others_are_left(scene: Scene) -> None:
    (scene.world.host / "a").write_text("by hand\n")
    done = await scene.apply("files", paths=["a", "new"])
    assert (done.outcome, done.files) == ("written", ("new",))
    assert done.left == ("a: it changed on the host since the session began",)
    assert (scene.world.host / "a").read_text() == "by hand\n"
    assert [op for op, _ in scene.asked] == ["pack", "drop"]
    done = await scene.apply("files", paths=["a", "b", "new"], overwrite=True)
    assert (sorted(done.files), done.left) == (["a", "b", "new"], ())
    assert (scene.world.host / "a").read_text() == "new\n"
    assert not (scene.world.host / "b").exists()


async def test_a_patch_can_be_applied_by_hand(scene: Scene, tmp_path: Path, tip: str) -> None:
    patch = tmp_path / "out" / "fix.patch"
    patch.parent.mkdir()
    done = await scene.apply("patch", patch=str(patch))
    assert (done.mode, done.outcome, done.path) == ("patch", "written", str(patch))
    git(scene.world.host, "apply", "--index", str(patch))
    assert git(scene.world.host, "write-tree") == git(
        scene.world.session, "rev-parse", f"{tip}^{{tree}}"
    )
    assert [op for op, _ in scene.asked] == ["pack", "drop", "applied"]


async def test_a_patch_replaces_a_file_only_if_it_may(scene: Scene, tmp_path: Path) -> None:
    patch = tmp_path / "fix.patch"
    patch.write_text("mine " * 1000)
    error = await scene.refusal(TransferError, "patch", patch=str(patch))
    assert error.message == f"The patch was not written: {patch} exists."
    assert error.steps == (NextStep.OVERWRITE,)
    assert patch.read_text() == "mine " * 1000
    await scene.apply("patch", patch=str(patch), overwrite=True)
    assert patch.read_text().startswith("diff --git a/a b/a\n")
    assert "mine" not in patch.read_text()


async def test_a_patch_goes_where_links_lead_but_replaces_none(
    scene: Scene, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "short").symlink_to("real")
    done = await scene.apply("patch", patch=str(tmp_path / "short" / "fix.patch"))
    assert done.path == str(tmp_path / "real" / "fix.patch")
    (tmp_path / "link").symlink_to("elsewhere")
    for overwrite in (True, False):
        await scene.refusal(
            TransferError, "patch", patch=str(tmp_path / "link"), overwrite=overwrite
        )
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("where", "why"), [("none/fix.patch", "No such file"), ("a-file/x", "Not a directory")]
)
async def test_a_patch_needs_its_directory(
    scene: Scene, tmp_path: Path, where: str, why: str
) -> None:
    (tmp_path / "a-file").touch()
    error = await scene.refusal(TransferError, "patch", patch=str(tmp_path / where))
    assert why in error.message


async def test_a_patch_is_no_pipe_that_nobody_reads(scene: Scene, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    await scene.refusal(TransferError, "patch", patch=str(tmp_path / "pipe"), overwrite=True)


@pytest.mark.parametrize("path", ["/proc/fix.patch", "relative.patch"])
async def test_a_refused_path_gets_no_patch(scene: Scene, path: str) -> None:
    await scene.refusal(UsageError, "patch", patch=path)
    assert not Path(path).exists()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("bind", "The project is mounted: its changes are on the host already."),
        (
            "copy",
            "The session began without a commit, so its work is no branch that could be taken.",
        ),
        ("new", "The workspace 'new' of this session is not known to this program."),
    ],
)
async def test_only_a_clone_has_commits(scene: Scene, kind: str, message: str) -> None:
    scene.holds(kind, base=None)
    assert (await scene.refusal(UsageError)).message == message
    assert "exec" not in scene.scripted.calls


async def test_a_clone_without_a_beginning_cannot_be_applied(scene: Scene) -> None:
    scene.holds(base=None)
    assert "began without a commit" in (await scene.refusal(UsageError)).message


@pytest.mark.parametrize(
    ("mode", "options", "message"),
    [
        ("push", {}, "mode must be one of branch, merge, patch, files."),
        ("merge", {"branch": "x"}, "branch belongs to the mode 'branch'."),
        ("branch", {"paths": ["a"]}, "paths belongs to the mode 'files'."),
        ("files", {"paths": ["a"], "patch": "/x"}, "patch belongs to the mode 'patch'."),
        ("files", {}, "The mode 'files' needs paths; '.' stands for all."),
        ("patch", {}, "The mode 'patch' needs the patch's path on the host."),
    ],
)
async def test_options_of_another_mode_are_refused(
    scene: Scene, mode: Mode, options: dict[str, Any], message: str
) -> None:
    assert (await scene.refusal(UsageError, mode, **options)).message == message
    assert "exec" not in scene.scripted.calls


@pytest.mark.parametrize(
    ("count", "start"), [(1, "One file is not committed"), (2, "2 files are not committed")]
)
async def test_what_is_not_committed_is_said(scene: Scene, count: int, start: str) -> None:
    scene.packed(uncommitted=count)
    [warning] = (await scene.apply()).warnings
    assert warning.startswith(start)


async def test_a_message_is_passed_on(scene: Scene) -> None:
    await scene.apply(commit="All of it")
    assert scene.asked[0] == ["pack", {"commit": "All of it"}]


async def test_a_session_without_work_says_so(scene: Scene) -> None:
    scene.says("pack", error={"code": "no-work", "message": "nothing was committed there"})
    error = await scene.refusal(UsageError)
    assert error.message == "There is nothing to apply: nothing was committed there."


async def test_a_session_that_cannot_be_told_has_its_work_applied(scene: Scene, tip: str) -> None:
    scene.says("applied", error={"code": "failed", "message": "the disk is full"})
    done = await scene.apply()
    assert scene.world.ref("claude/fix") == tip
    [warning] = done.warnings
    assert warning.startswith("The session does not know that its work was taken: ")


@pytest.mark.parametrize("answer", [{}, {"path": 7, "branch": BRANCH}, {"path": "/x"}, []])
async def test_a_forged_answer_is_unusable(scene: Scene, answer: Any) -> None:
    scene.says("pack", ok=answer)
    await scene.refusal(AgentError)
    assert "cp" not in scene.scripted.calls


@pytest.mark.parametrize("branch", ["-x", "a..b", "", "HEAD@{1}"])
async def test_a_forged_branch_is_refused(scene: Scene, branch: str) -> None:
    scene.packed(branch=branch)
    error = await scene.refusal(UsageError)
    assert "cannot be the name of a branch" in error.message


async def test_a_bundle_of_another_branch_is_refused(scene: Scene) -> None:
    scene.packed(branch="main")
    await scene.refusal(WorkRefused)


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        ("pass", TransferError, "Nothing was copied"),
        (f'{SEND}\nadd("more", b"")', TransferError, "sent"),
        (f'{SEND}\nadd("work", b"")', TransferError, "sent more than 1"),
        ('add("../work", bundle)', TransferError, "sent an entry named"),
        ('add("work", b"", tarfile.CHRTYPE)', TransferError, "something else than its work"),
        ('add("work", b"", tarfile.SYMTYPE, "/etc/passwd")', TransferError, "something else"),
        ('add("work", b"", tarfile.SYMTYPE, "other")', WorkRefused, "cannot be opened"),
        ('add("work", b"", tarfile.DIRTYPE)', WorkRefused, "not a regular file"),
        ('add("work", b"no bundle")', WorkRefused, ""),
        ('add("work", bundle[:-30])', WorkRefused, ""),
    ],
)
async def test_a_forged_archive_changes_nothing(
    scene: Scene, script: str, kind: type[ClaudeMcpError], message: str
) -> None:
    scene.sends(script)
    assert message in (await scene.refusal(kind)).message


@pytest.mark.parametrize("kept", [0, 100, 600])
async def test_a_truncated_archive_changes_nothing(scene: Scene, kept: int) -> None:
    whole = subprocess.run(
        ["tar", "-c", "-C", str(scene.world.bundle.parent), "bundle"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    script = f"import sys; sys.stdout.buffer.write({whole[:kept]!r})"
    scene.scripted.on("cp", script)
    error = await scene.refusal(TransferError)
    assert "did not arrive completely" in error.message


async def test_more_than_may_be_copied_is_refused(scripted: ScriptedEngine, scene: Scene) -> None:
    config = replace(scene.sessions.config, transfer_bytes=10)
    async with open_sessions(config) as sessions:
        scene.sessions = sessions
        error = await scene.refusal(TransferError)
    assert "more than 10 bytes" in error.message


async def test_a_command_line_is_told_how_far_it_is(scene: Scene) -> None:
    told: list[str] = []

    async def progress(message: str, amount: object = None, /) -> None:
        told.append(message)

    await scene.apply(progress=progress)
    assert told == ["packing the session's commits", "checking them", "applying them"]


async def test_only_so_many_files_are_named(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_mcp.sessions.workspaces.applying.MAX_FILES", 2)
    for mode in ("branch", "merge"):
        files: Sequence[str] = (await scene.apply(mode)).files
        assert len(files) == 2
