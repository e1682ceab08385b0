"""What a clone or copy consists of, and what the agent makes of it: with the real git."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from claude_mcp.agent.workspace import seed as agent
from claude_mcp.contract.messages import from_json, to_json
from claude_mcp.contract.wording import named
from claude_mcp.contract.workspaces import CLONE, COPY, FILES, PACKS, SEED_REF, Seed
from claude_mcp.errors import UsageError
from claude_mcp.sessions.git.program import Git
from claude_mcp.sessions.git.seed import SeedPlan, SeedRequest, packed, plan
from tests.unit.sessions.git.conftest import UNMAINTAINED

pytestmark = pytest.mark.anyio
BRANCH = "claude/fix"
CLONED = SeedRequest(CLONE, BRANCH)


def git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(directory), "-c", "user.name=A", "-c", "user.email=a@b", "-c",
         "protocol.file.allow=always", *arguments],
        check=True, capture_output=True,
        env={**os.environ, **UNMAINTAINED, "GIT_CONFIG_GLOBAL": "/dev/null"},
    )  # fmt: skip
    return os.fsdecode(done.stdout).strip("\n")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    git(path, "init", "--quiet", "--initial-branch=main")
    (path / "a.txt").write_text("one\n")
    (path / "run.sh").write_text("#!/bin/sh\n")
    (path / "run.sh").chmod(0o755)
    (path / "link").symlink_to("a.txt")
    (path / "lib").mkdir()
    (path / "lib" / "b.txt").write_text("b\n")
    git(path, "add", ".")
    git(path, "commit", "--quiet", "-m", "first")
    return path


async def made(project: Path, request: SeedRequest, tmp_path: Path) -> tuple[SeedPlan, Path]:
    """A workspace as the agent makes it of what the host planned."""
    planned = await plan(Git(os.environ), str(project), request)
    workspace, staged = tmp_path / "workspace", tmp_path / "workspace" / ".staged"
    for each in (workspace, staged, staged / PACKS, staged / FILES):
        each.mkdir()
    async with packed(Git(os.environ), planned) as packs:
        for pack in packs:
            shutil.copy(pack, staged / PACKS)
    for name in planned.files:
        target = staged / FILES / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(project / name, target, follow_symlinks=False)
    wire = json.loads(json.dumps(to_json(planned.seed)))
    agent.make(str(workspace), str(staged), from_json(Seed, wire))
    shutil.rmtree(staged)
    return planned, workspace


async def test_a_clone_has_the_commits_and_its_own_branch(project: Path, tmp_path: Path) -> None:
    git(project, "tag", "-a", "v1", "-m", "release")
    (project / "a.txt").write_text("two\n")
    git(project, "commit", "--quiet", "-am", "second")
    planned, workspace = await made(project, CLONED, tmp_path)
    head = git(project, "rev-parse", "HEAD")
    assert git(workspace, "rev-parse", "HEAD", "origin/main", SEED_REF).split() == [head] * 3
    assert git(workspace, "branch", "--show-current") == BRANCH
    assert git(workspace, "describe") == git(project, "describe")
    assert git(workspace, "log", "--format=%s") == "second\nfirst"
    assert git(workspace, "status", "--porcelain") == ""
    assert os.access(workspace / "run.sh", os.X_OK)
    assert os.readlink(workspace / "link") == "a.txt"
    git(workspace, "fsck", "--full", "--strict")
    assert planned.warnings == ()


async def test_nothing_of_the_projects_git_is_changed(project: Path, tmp_path: Path) -> None:
    os.utime(project / "a.txt", (1, 1))  # git would like to write that into its index

    def state() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in sorted(project.rglob("*")) if p.is_file()}

    before = state()
    await made(project, replace_kind(include_uncommitted=True), tmp_path)
    assert state() == before


def replace_kind(**values: object) -> SeedRequest:
    return SeedRequest(CLONE, BRANCH, **values)  # type: ignore[arg-type]


async def test_no_configuration_and_no_program_comes_along(project: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $0 >>{ran}\ncat\n")
    program.chmod(0o755)
    (project / ".git" / "hooks").mkdir(exist_ok=True)
    for hook in ("post-checkout", "reference-transaction", "post-index-change", "pre-auto-gc"):
        shutil.copy(program, project / ".git" / "hooks" / hook)
    for name in (
        "core.fsmonitor", "core.pager", "core.sshCommand", "diff.external", "filter.f.clean",
        "filter.f.smudge", "filter.f.process", "filter.a=b.clean", "uploadpack.packObjectsHook",
    ):  # fmt: skip
        with open(project / ".git" / "config", "a") as file:
            section, _, key = name.rpartition(".")
            kind, _, driver = section.partition(".")
            head = f'[{kind} "{driver}"]' if driver else f"[{kind}]"
            file.write(f"{head}\n\t{key} = {program}\n")
    with open(project / ".git" / "config", "a") as file:
        file.write('[filter "f"]\n\trequired\n')
    git(project, "config", "remote.origin.url", "https://user:secret@example.org/x")
    (project / ".gitattributes").write_text("* filter=f\nlib/* filter=a=b\n")
    (project / "a.txt").write_text("changed\n")
    ran.unlink(missing_ok=True)
    _, workspace = await made(project, replace_kind(include_uncommitted=True), tmp_path)
    assert not ran.exists()
    assert (workspace / "a.txt").read_text() == "changed\n"
    assert "secret" not in (workspace / ".git" / "config").read_text()
    assert not (workspace / ".git" / "hooks").exists()
    subprocess.run(["git", "-C", str(project), "status"], capture_output=True, check=False)
    assert ran.exists()  # the control: git on its own runs them


async def test_a_clone_begins_at_the_commit_that_is_asked_for(
    project: Path, tmp_path: Path
) -> None:
    git(project, "branch", "old")
    (project / "a.txt").write_text("two\n")
    git(project, "commit", "--quiet", "-am", "second")
    _, workspace = await made(project, replace_kind(base_ref="old"), tmp_path)
    assert git(workspace, "log", "--format=%s") == "first"
    assert (workspace / "a.txt").read_text() == "one\n"


@pytest.mark.parametrize("reference", ["nowhere", "--all", "HEAD:a.txt", "-1", "", "a..b"])
async def test_a_base_that_is_no_commit_is_refused(project: Path, reference: str) -> None:
    with pytest.raises(UsageError, match="has no commit"):
        await plan(Git(os.environ), str(project), replace_kind(base_ref=reference))


async def test_uncommitted_changes_come_along_when_asked_for(project: Path, tmp_path: Path) -> None:
    (project / "a.txt").write_text("changed\n")
    (project / "lib" / "b.txt").unlink()
    (project / "run.sh").chmod(0o644)
    (project / "link").unlink()
    (project / "link").mkdir()
    (project / "link" / "inside").write_text("x")
    git(project, "add", "link")
    (project / "staged").write_text("staged\n")
    git(project, "add", "staged")
    planned, _ = await made(project, CLONED, tmp_path)
    assert planned.files == ()
    assert planned.warnings[0].startswith("6 tracked files have uncommitted changes, which are not")
    shutil.rmtree(tmp_path / "workspace")
    planned, workspace = await made(project, replace_kind(include_uncommitted=True), tmp_path)
    assert planned.warnings == ()
    expected = ["D lib/b.txt", "D link", "M a.txt", "M run.sh"]
    assert sorted(git(workspace, "status", "--porcelain", "-uno").replace(" ", "").split("\n")) == [
        each.replace(" ", "") for each in expected
    ]
    assert (workspace / "link" / "inside").read_text() == "x"
    assert (workspace / "staged").read_text() == "staged\n"


async def test_a_file_that_only_looks_changed_is_not(project: Path) -> None:
    os.utime(project / "a.txt", (1, 1))
    planned = await plan(Git(os.environ), str(project), CLONED)
    assert planned.warnings == ()


async def test_only_named_untracked_files_come_along(project: Path, tmp_path: Path) -> None:
    (project / ".gitignore").write_text(".env\n*.log\n")
    for name in (".env", "a.log", "notes", "data/one", "data/two"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(name)
    planned, workspace = await made(project, CLONED, tmp_path)
    assert planned.files == ()
    assert planned.warnings == (
        "4 untracked files are not in the session: .gitignore, data/one, data/two, notes. Bring "
        f"those it needs with {named('include')}.",
    )
    assert not (workspace / ".env").exists()
    shutil.rmtree(workspace)
    (project / ".worktreeinclude").write_text(".env\n/data/\n")
    planned, workspace = await made(project, replace_kind(include=("*.log",)), tmp_path)
    assert sorted(planned.files) == [".env", "a.log", "data/one", "data/two"]
    assert (workspace / ".env").read_text() == ".env"


async def test_any_file_name_survives(project: Path, tmp_path: Path) -> None:
    names = [b"new\nline", b"\xff\xfe", b"-rf", b"tab\there", b'quo"te', b"caf\xc3\xa9"]
    for name in names:
        Path(os.fsdecode(os.fsencode(project) + b"/" + name)).write_bytes(name)
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "names")
    Path(os.fsdecode(os.fsencode(project) + b"/un\xfftracked")).write_text("u")
    for name in names:
        Path(os.fsdecode(os.fsencode(project) + b"/" + name)).write_bytes(b"changed")
    request = replace_kind(include_uncommitted=True, include=("un*",))
    _, workspace = await made(project, request, tmp_path)
    there = {each for each in os.listdir(os.fsencode(workspace)) if each != b".git"}
    assert there >= {*names, b"un\xfftracked"}
    assert all((Path(os.fsdecode(os.fsencode(workspace) + b"/" + n))).read_bytes() == b"changed"
               for n in names)  # fmt: skip


async def test_an_empty_repository_becomes_an_empty_one(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    git(project, "init", "--quiet")
    (project / "new").write_text("new")
    planned, workspace = await made(project, replace_kind(include=("new",)), tmp_path)
    assert git(workspace, "status", "--porcelain") == "?? new"
    assert git(workspace, "symbolic-ref", "HEAD") == f"refs/heads/{BRANCH}"
    assert planned.warnings == ()


async def test_a_detached_head_and_a_worktree_are_cloned(project: Path, tmp_path: Path) -> None:
    git(project, "worktree", "add", "--quiet", "--detach", str(tmp_path / "tree"))
    _, workspace = await made(tmp_path / "tree", CLONED, tmp_path)
    assert git(workspace, "rev-parse", "HEAD") == git(project, "rev-parse", "main")
    assert git(workspace, "for-each-ref", "refs/remotes") == ""


async def test_a_shallow_clone_stays_shallow(project: Path, tmp_path: Path) -> None:
    for number in range(3):
        git(project, "commit", "--quiet", "--allow-empty", "-m", str(number))
    git(tmp_path, "clone", "--quiet", "--depth=2", f"file://{project}", "shallow")
    _, workspace = await made(tmp_path / "shallow", CLONED, tmp_path)
    assert git(workspace, "log", "--format=%s") == "2\n1"
    git(workspace, "fsck", "--full")


async def test_a_sparse_checkout_becomes_a_whole_one(project: Path, tmp_path: Path) -> None:
    git(project, "sparse-checkout", "set", "lib")
    assert (project / "lib" / "b.txt").exists()
    git(project, "sparse-checkout", "set", "--no-cone", "/a.txt")
    assert not (project / "lib" / "b.txt").exists()
    planned, workspace = await made(project, CLONED, tmp_path)
    assert (workspace / "lib" / "b.txt").read_text() == "b\n"
    assert planned.warnings == ()


async def test_sha256_repositories_are_cloned(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    git(project, "init", "--quiet", "--object-format=sha256")
    (project / "a").write_text("a")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "first")
    (project / "a").touch()
    planned, workspace = await made(project, CLONED, tmp_path)
    assert len(git(workspace, "rev-parse", "HEAD")) == 64
    assert planned.warnings == ()


def submodule(project: Path, tmp_path: Path, path: str = "sub") -> Path:
    """A repository with a file, as a submodule of the project."""
    other = tmp_path / f"other-{path.replace('/', '-')}"
    other.mkdir()
    git(other, "init", "--quiet")
    (other / "inner.txt").write_text(f"{path}\n")
    git(other, "add", ".")
    git(other, "commit", "--quiet", "-m", "inner")
    git(project, "submodule", "--quiet", "add", str(other), path)
    git(project, "commit", "--quiet", "-m", f"add {path}")
    return other


async def test_submodules_come_along(project: Path, tmp_path: Path) -> None:
    submodule(project, tmp_path)
    submodule(project / "sub", tmp_path, "in/ner")
    git(project, "commit", "--quiet", "-am", "deeper")
    recorded = git(project, "rev-parse", "HEAD:sub")
    (project / "sub" / "inner.txt").write_text("changed on the host\n")
    git(project / "sub", "commit", "--quiet", "-am", "not recorded")
    planned, workspace = await made(project, CLONED, tmp_path)
    assert git(workspace / "sub", "rev-parse", "HEAD") == recorded
    assert (workspace / "sub" / "inner.txt").read_text() == "sub\n"
    assert (workspace / "sub" / "in" / "ner" / "inner.txt").read_text() == "in/ner\n"
    assert git(workspace, "status", "--porcelain") == ""
    assert (workspace / "sub" / ".git").is_dir()
    assert str(project) not in (workspace / "sub" / ".git" / "config").read_text()
    assert planned.warnings == ()


@pytest.mark.parametrize("how", ["empty", "elsewhere", "link", "no commit"])
async def test_submodules_that_are_not_there_are_named(
    project: Path, tmp_path: Path, how: str
) -> None:
    """Another repository of the host is no submodule, whatever the project says."""
    other = submodule(project, tmp_path)
    shutil.rmtree(project / "sub")
    if how == "link":
        (project / "sub").symlink_to(other)
    else:
        (project / "sub").mkdir()
    if how == "elsewhere":
        (project / "sub" / ".git").write_text(f"gitdir: {other}/.git\n")
    if how == "no commit":
        git(project / "sub", "init", "--quiet")
    planned, workspace = await made(project, CLONED, tmp_path)
    assert os.listdir(workspace / "sub") == []
    assert any(
        each.startswith("Submodules are empty in the session: sub. Run 'git submodule update")
        for each in planned.warnings
    )


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n"


async def test_files_of_git_lfs_are_those_that_the_host_has(project: Path, tmp_path: Path) -> None:
    (project / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    contents = {"there.bin": b"there", "missing.bin": b"missing", "other.bin": b"other"}
    for name, content in contents.items():
        oid = hashlib.sha256(content).hexdigest()
        (project / name).write_text(POINTER.format(oid=oid, size=len(content)))
        store = project / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4]
        store.mkdir(parents=True, exist_ok=True)
        if name != "missing.bin":
            (store / oid).write_bytes(content if name == "there.bin" else b"another size")
    git(project, "-c", "filter.lfs.required=false", "add", ".")
    git(project, "commit", "--quiet", "-m", "lfs")
    planned = await plan(Git(os.environ), str(project), CLONED)
    assert planned.lfs is not None
    oid = hashlib.sha256(b"there").hexdigest()
    assert planned.lfs.objects == (f"{oid[:2]}/{oid[2:4]}/{oid}",)
    assert planned.seed.lfs
    assert planned.warnings == (
        "Files in Git LFS are pointers in the session: missing.bin, other.bin. Run 'git lfs pull' "
        "in the project before.",
    )


async def test_what_is_no_repository_is_not_cloned(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(UsageError, match="is not a git repository, so it cannot be cloned"):
        await plan(Git(os.environ), str(tmp_path / "plain"), CLONED)


async def test_of_a_subdirectory_the_whole_repository_is_cloned(
    project: Path, tmp_path: Path
) -> None:
    (project / "a.txt").write_text("changed\n")
    planned = await plan(
        Git(os.environ), str(project / "lib"), replace_kind(include_uncommitted=True)
    )
    assert (planned.project, planned.directory, planned.files) == (str(project), "lib", ("a.txt",))
    assert planned.warnings == (
        f"The session has the whole repository {project}; Claude is told to work in 'lib', and "
        "commands run at its top.",
    )
    (project / "new").mkdir()
    with pytest.raises(UsageError, match="has no directory 'new'"):
        await plan(Git(os.environ), str(project / "new"), CLONED)


@pytest.mark.parametrize("repository", [True, False])
async def test_a_copy_leaves_out_what_ignore_files_name(
    project: Path, tmp_path: Path, repository: bool
) -> None:
    if not repository:
        shutil.rmtree(project / ".git")
    (project / ".gitignore").write_text("*.log\n!keep.log\n")
    (project / ".dockerignore").write_text("# a comment\nsecret\n**/cache\nlib/*\n!lib/b.txt\n")
    for name in ("x.log", "keep.log", "secret", "lib/secret", "lib/c", "deep/cache/x", "dist/d"):
        (project / name).parent.mkdir(exist_ok=True, parents=True)
        (project / name).write_text(name)
    planned, workspace = await made(project, SeedRequest(COPY, "", exclude=("/dist",)), tmp_path)
    assert sorted(planned.files) == [
        ".dockerignore", ".gitignore", "a.txt", "keep.log", "lib/b.txt", "link", "run.sh",
    ]  # fmt: skip
    assert sorted(os.listdir(workspace)) == [
        ".dockerignore", ".gitignore", "a.txt", "keep.log", "lib", "link", "run.sh",
    ]  # fmt: skip


def test_the_host_and_the_agent_agree_on_an_empty_seed() -> None:
    assert from_json(Seed, to_json(Seed(COPY))) == Seed(COPY)
