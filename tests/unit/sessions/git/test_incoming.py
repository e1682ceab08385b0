"""Bundles of real and hostile sessions, against the real git.

For a rule that git's own check of objects holds too, each is shown to hold alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio
import pytest

from claude_mcp.errors import GitError, UsageError, WorkRefused
from claude_mcp.sessions.git import incoming as module
from claude_mcp.sessions.git import rules
from claude_mcp.sessions.git.incoming import Change, Incoming, check_branch, incoming
from claude_mcp.sessions.git.program import Git
from claude_mcp.sessions.git.rules import ABSENT, EXECUTABLE, LINK, Entry
from tests.unit.sessions.git.conftest import BRANCH, World, attempt, commit, entry, git, pack, plant


def write_object(world: World, kind: str, data: bytes) -> str:
    return git(world.session, "hash-object", "-w", "--stdin", "--literally", "-t", kind, data=data)


def tree(world: World, *entries: tuple[str, bytes, str]) -> str:
    """A tree with any names: mode, name and object of each entry."""
    rows = [
        mode.encode() + b" " + name + b"\0" + bytes.fromhex(which) for mode, name, which in entries
    ]
    return write_object(world, "tree", b"".join(rows))


def nested(world: World, names: Sequence[bytes], mode: str, content: bytes) -> str:
    """A tree whose only file is at this path."""
    which = write_object(world, "blob", content)
    for name in reversed(names[1:]):
        which = tree(world, (mode, name, which))
        mode = "40000"
    return tree(world, (mode, names[0], which))


def forge(world: World, root: str) -> None:
    """Make the session's branch a commit with this tree, and its bundle."""
    tip = git(world.session, "commit-tree", root, "-p", world.base, "-m", "forged")
    world.pack(tip)


async def refusal(world: World) -> str:
    before = world.state()
    with pytest.raises(WorkRefused) as refused:
        async with world.incoming():
            pass
    assert world.state() == before
    assert scratch(world) == []
    return refused.value.message


def scratch(world: World) -> list[str]:
    return os.listdir(world.host.parent / "tmp")


async def test_work_is_described(world: World) -> None:
    world.commit({"a": "new\n", "b": None, "n\u00e4\nw": "1\n2\n"}, "One\nhead\n\nBody")
    (world.session / "dir/c").chmod(0o755)
    (world.session / "link").symlink_to("dir/c")
    (world.session / "binary").write_bytes(bytes(10))
    tip = world.commit({}, "Two \x1b[31m")
    world.pack()
    before = world.state()
    async with world.incoming() as work:
        assert (work.base, work.tip, work.commits, work.follows) == (world.base, tip, 2, True)
        assert work.subjects == ("Two ?[31m", "One head")
        assert work.warnings == ()
        assert {(c.path, c.entry.mode, c.added, c.deleted) for c in work.changes} == {
            ("a", rules.FILE, 1, 50),
            ("b", ABSENT, 0, 1),
            ("n\u00e4\nw", rules.FILE, 2, 0),
            ("dir/c", EXECUTABLE, 0, 0),
            ("link", LINK, 1, 0),
            ("binary", rules.FILE, None, None),
        }
        (directory,) = scratch(world)
        assert (world.host.parent / "tmp" / directory).stat().st_mode & 0o777 == 0o700
    assert scratch(world) == []
    assert world.state() == before
    assert world.is_sound()


async def test_thin_bundles_use_the_hosts_objects(world: World) -> None:
    text = "".join(f"line {number}\n" for number in range(50))
    world.commit({"a": text + "more\n"})
    world.pack()
    async with world.incoming() as work:
        assert work.changes == (
            Change(
                Entry(
                    "a", rules.FILE, git(world.host, "rev-parse", "HEAD:a"),
                    rules.FILE, git(world.session, "rev-parse", "HEAD:a"),
                ), 1, 0,
            ),
        )  # fmt: skip


NAMES = [
    b".git", b".GIT", ".g\u200cit".encode(), b"git~1", b".git ", b".git.", b".git::$DATA",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
async def test_git_and_our_rules_each_refuse_a_hook(
    world: World, name: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge(world, nested(world, [name, b"hooks", b"post-checkout"], "100755", b"#!/bin/sh\n"))
    assert "hasDotgit" in await refusal(world)
    # Without git's check, which only the strict one is:
    plain = Git.feed

    async def lax(self: Git, *arguments: object, **options: object) -> object:
        kept = [each for each in arguments if each != "--strict"]
        return await plain(self, *kept, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Git, "feed", lax)
    assert "read as .git" in await refusal(world)
    monkeypatch.setattr(rules, "is_git", lambda name: False)
    async with world.incoming():
        pass


async def test_a_hook_in_an_earlier_commit_is_refused_too(world: World) -> None:
    root = nested(world, [b".git", b"config"], "100644", b"x")
    bad = git(world.session, "commit-tree", root, "-p", world.base, "-m", "bad")
    good = git(world.session, "commit-tree", f"{world.base}^{{tree}}", "-p", bad, "-m", "good")
    world.pack(good)
    assert "hasDotgit" in await refusal(world)


@pytest.mark.parametrize(
    ("names", "reason"),
    [([b".."], "hasDotdot"), ([b"."], "hasDot"), ([b"a/b"], "fullPathname"),
     ([b"..\\x"], "leaves the tree"), ([b"a", b"x\\..\\..\\y"], "leaves the tree")],
)  # fmt: skip
async def test_paths_out_of_the_tree_are_refused(
    world: World, names: list[bytes], reason: str
) -> None:
    forge(world, nested(world, names, "100644", b"x"))
    assert reason in await refusal(world)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../x", ".git/config", "x" * 5000])
async def test_links_out_of_the_tree_are_refused(world: World, target: str) -> None:
    forge(world, nested(world, [b"sub", b"link"], "120000", target.encode()))
    assert "sub/link" in await refusal(world)


async def test_of_chosen_paths_nothing_else_is_judged_or_taken(world: World) -> None:
    (world.session / "out").symlink_to("/etc")
    (world.session / "dir/out").symlink_to("/etc")
    world.commit({"fine": "1\n", "dir/new": "1\n"})
    world.pack()
    assert "absolute link: dir/out, out" in await refusal(world)
    for paths in (["."], ["dir"], ["dir/"], ["fine", "out"]):
        with pytest.raises(WorkRefused):
            async with chosen(world, paths):
                pass
    async with chosen(world, ["fine", "dir/new"]) as work:
        assert [change.path for change in work.changes] == ["dir/new", "fine"]


def chosen(world: World, paths: list[str]) -> AbstractAsyncContextManager[Incoming]:
    return incoming(
        world.git, str(world.host), str(world.bundle), branch=BRANCH, base=world.base, paths=paths
    )


async def test_links_that_the_host_already_has_are_not_judged(world: World) -> None:
    (world.host / "old").symlink_to("/etc")
    world.base = commit(world.host, {})
    git(world.session, "pull", "-q", str(world.host), "main")
    world.commit({"b": "new\n"})
    world.pack()
    async with world.incoming() as work:
        assert [change.path for change in work.changes] == ["b"]
    (world.session / "old").unlink()
    (world.session / "old").symlink_to("/usr")
    world.commit({})
    world.pack()
    assert "absolute link: old" in await refusal(world)


async def test_new_submodules_are_refused_and_changes_of_gitmodules_reported(world: World) -> None:
    forge(world, tree(world, ("160000", b"sub", world.base)))
    assert "new submodule: sub" in await refusal(world)
    git(world.session, "checkout", "-q", "-f", "-B", BRANCH, world.base)
    world.commit({".gitmodules": '[submodule "x"]\n\tpath = x\n\turl = https://example.org/\n'})
    world.pack()
    async with world.incoming() as work:
        assert work.warnings == (".gitmodules has changed. Read it before you update submodules.",)


async def test_a_submodule_that_runs_a_program_is_refused(world: World) -> None:
    text = '[submodule "x"]\n\tpath = x\n\turl = -u./payload\n'
    world.commit({".gitmodules": text})
    world.pack()
    assert "gitmodules" in await refusal(world)


@pytest.mark.parametrize(
    ("kind", "data"),
    [("tree", b"100644 x\0short"), ("commit", b"tree nonsense\n\nx\n"), ("tag", b"x")],
)
async def test_broken_objects_are_refused(world: World, kind: str, data: bytes) -> None:
    bad = write_object(world, kind, data)
    world.commit({"b": "new\n"})
    world.pack()
    content = world.bundle.read_bytes()
    header = content[: content.index(b"\n\n") + 2]
    names = git(world.session, "rev-list", "--objects", BRANCH, f"^{world.base}").splitlines()
    listed = "".join(f"{name.split()[0]}\n" for name in [*names, bad]).encode()
    prefix = str(world.bundle.with_name("forged"))
    name = git(world.session, "pack-objects", "-q", "--window=0", prefix, data=listed)
    async with world.incoming():  # as it was
        pass
    world.bundle.write_bytes(header + Path(f"{prefix}-{name}.pack").read_bytes())
    assert "index-pack failed" in await refusal(world)


async def test_trees_on_which_git_itself_crashes_are_refused(world: World) -> None:
    which, mode, trees = git(world.host, "rev-parse", "HEAD:b"), b"100644", []
    for _ in range(20_000):
        data = mode + b" d\0" + bytes.fromhex(which)
        trees.append(entry(2, data))
        which, mode = hashlib.sha1(b"tree %d\0" % len(data) + data).hexdigest(), b"40000"
    who = "a <a@example.org> 1 +0000"
    text = f"tree {which}\nparent {world.base}\nauthor {who}\ncommitter {who}\n\nx\n".encode()
    tip = hashlib.sha1(b"commit %d\0" % len(text) + text).hexdigest()
    header = f"# v2 git bundle\n-{world.base}\n{tip} refs/heads/{BRANCH}\n\n"
    world.bundle.write_bytes(header.encode() + pack(*trees, entry(1, text)))
    assert "is refused: git " in await refusal(world)


async def test_a_pack_without_what_its_commit_needs_is_refused(world: World) -> None:
    world.commit({"b": "new\n"})
    world.pack()
    content = world.bundle.read_bytes()
    header = content[: content.index(b"\n\n") + 2]
    prefix = str(world.bundle.with_name("forged"))
    tip = git(world.session, "rev-parse", BRANCH)
    name = git(world.session, "pack-objects", "-q", prefix, data=f"{tip}\n".encode())
    world.bundle.write_bytes(header + Path(f"{prefix}-{name}.pack").read_bytes())
    assert "index-pack failed" in await refusal(world)


async def test_a_branch_that_names_no_commit_is_refused(world: World) -> None:
    world.commit({"b": "new\n"})
    world.pack()
    tip = git(world.session, "rev-parse", BRANCH)
    blob = git(world.session, "rev-parse", f"{BRANCH}:b")
    content = world.bundle.read_bytes()
    world.bundle.write_bytes(content.replace(f"\n{tip} ".encode(), f"\n{blob} ".encode()))
    assert "names a blob" in await refusal(world)
    missing = "1" * 40
    world.bundle.write_bytes(content.replace(f"\n{tip} ".encode(), f"\n{missing} ".encode()))
    assert "names a missing" in await refusal(world)


async def test_a_base_that_the_host_lacks_is_an_error(world: World) -> None:
    world.base = world.commit({"b": "new\n"})
    world.commit({"b": "newer\n"})
    world.pack()
    with pytest.raises(GitError):
        async with world.incoming():
            pass
    world.base = "--all"
    with pytest.raises(UsageError):
        async with world.incoming():
            pass


async def test_rewritten_history_is_reported(world: World) -> None:
    world.commit({"b": "new\n"})
    git(world.session, "commit", "-q", "--amend", "-m", "x")
    root = git(world.session, "commit-tree", f"{BRANCH}^{{tree}}", "-m", "root")
    git(world.session, "update-ref", f"refs/heads/{BRANCH}", root)
    git(world.session, "bundle", "create", "-q", str(world.bundle), f"refs/heads/{BRANCH}")
    async with world.incoming() as work:
        assert not work.follows
        assert len(work.warnings) == 1


@pytest.mark.parametrize(
    "name",
    ["-x", "--upload-pack=x", "a..b", "a b", "a\nb", "a~1", "@{-1}", "a.lock", "", "/a", "a/",
     "HEAD", "a\0b", "x" * 300, ".a", "a/.b", "a\\b"],
)  # fmt: skip
async def test_names_that_are_no_branch_are_refused(world: World, name: str) -> None:
    with pytest.raises(UsageError):
        await check_branch(world.git, name)
    await check_branch(world.git, "claude/a-b_c.d")


async def test_nothing_that_the_hosts_repository_names_runs(world: World, tmp_path: Path) -> None:
    world.commit({"a": "new\n", ".gitattributes": "* filter=evil diff=evil merge=evil\n"})
    world.pack()
    marker = plant(world, tmp_path)
    async with world.incoming() as work:
        assert len(work.changes) == 2
    assert not marker.exists()
    attempt(world.host, "status")  # the control
    assert marker.exists()


async def test_a_cancelled_call_leaves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.commit({"b": "new\n"})
    world.pack()
    reached = anyio.Event()

    async def unpack(*_: object) -> None:
        reached.set()
        await anyio.sleep_forever()

    monkeypatch.setattr(module, "_unpack", unpack)

    async def take() -> None:
        async with world.incoming():
            pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take)
        await reached.wait()
        assert len(scratch(world)) == 1
        tasks.cancel_scope.cancel()
    assert scratch(world) == []


async def test_what_a_killed_process_left_is_removed_later(world: World) -> None:
    left = world.host.parent / "tmp/.claude-mcp-transfer-0123456789abcdef"
    (left / "scratch.git").mkdir(parents=True)
    left.chmod(0o700)
    os.utime(left, (0, 0))
    world.commit({"b": "new\n"})
    world.pack()
    async with world.incoming():
        assert not left.exists()


@pytest.mark.parametrize("kind", ["worktree", "shallow", "sha256", "odd name", "alternates"])
async def test_unusual_repositories_work(world: World, tmp_path: Path, kind: str) -> None:
    host = tmp_path / ('odd "name"\\ \n: x' if kind == "odd name" else "other")
    if kind == "worktree":
        git(world.host, "worktree", "add", "-q", "-b", "other", str(host))
    elif kind == "sha256":
        host.mkdir()
        git(host, "init", "-q", "--object-format=sha256")
        commit(host, {"b": "b\n"})
    else:
        commit(world.host, {"b": "b2\n"})
        options = {"shallow": ["--depth=1"], "alternates": ["--shared"]}.get(kind, [])
        source = f"file://{world.host}" if kind == "shallow" else str(world.host)
        git(tmp_path, "clone", "-q", *options, source, str(host))
    session = tmp_path / "session2"
    git(tmp_path, "clone", "-q", f"file://{host}" if kind == "shallow" else str(host), str(session))
    git(session, "checkout", "-q", "-b", BRANCH)
    world.host, world.session, world.base = host, session, git(host, "rev-parse", "HEAD")
    world.commit({"b": "new\n"})
    world.pack()
    if kind == "odd name":
        with pytest.raises(GitError, match="line break"):
            async with world.incoming():
                pass
        return
    async with world.incoming() as work:
        assert [change.path for change in work.changes] == ["b"]
        assert work.commits == 1


async def test_a_project_without_repository_is_an_error(world: World, tmp_path: Path) -> None:
    world.commit({"b": "new\n"})
    world.pack()
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(GitError, match="not a git repository"):
        async with incoming(
            world.git, str(empty), str(world.bundle), branch=BRANCH, base=world.base
        ):
            pass
