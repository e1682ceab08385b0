"""Work that comes without git: checked, compared and made a patch of, next to the real git."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from claude_mcp.agent.workspace import collecting
from claude_mcp.agent.workspace.git import Deadline, Git
from claude_mcp.errors import WorkRefused
from claude_mcp.sessions.git import objects
from claude_mcp.sessions.git import patch as patches
from claude_mcp.sessions.git.objects import Objects
from claude_mcp.sessions.git.rules import parse_raw
from tests.unit.sessions.git.conftest import git


class Work:
    """Two commits of a repository, and what the agent collects of them."""

    def __init__(self, directory: Path, object_format: str = "sha1") -> None:
        self.path, self.file = directory / "repository", directory / "objects"
        self.path.mkdir()
        self.format = object_format
        git(self.path, "init", "-q", f"--object-format={object_format}")

    def commit(self) -> str:
        git(self.path, "add", "-A")
        git(self.path, "commit", "-q", "--allow-empty", "-m", "x")
        return git(self.path, "rev-parse", "HEAD")

    @contextmanager
    def collected(self, before: str, after: str, *paths: str) -> Iterator[Objects]:
        program = Git({"GIT_DIR": str(self.path / ".git")}, {})
        collecting.collect(program, before, after, paths, True, str(self.file), Deadline(60))
        with self.file.open("rb") as file:
            yield objects.read(file, self.format, threading.Event())


@pytest.fixture(params=["sha1", "sha256"])
def work(tmp_path: Path, request: pytest.FixtureRequest) -> Work:
    return Work(tmp_path, request.param)


def scramble(directory: Path, dice: random.Random) -> None:
    """Change some of the files, in all the ways in which files can change."""
    for name in ("a", "b c", "d/e", "d/f", "d/g/h", 'q"\\\t', "é", "\udcff", "run", "link"):
        path = directory / name
        way = dice.randrange(6)
        if way == 0:
            path.unlink(missing_ok=True)
            continue
        if way == 1 and path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if way == 2:
            path.unlink(missing_ok=True)
            path.symlink_to(dice.choice(["a", "nowhere", "d"]))
            continue
        if path.is_symlink():
            path.unlink()
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        for _ in range(dice.randrange(1, 8)):
            lines.insert(dice.randrange(len(lines) + 1), b"line %d" % dice.randrange(9))
        if way == 3:
            lines.append(b"\0binary")
        del lines[dice.randrange(len(lines)) :: 5]
        path.write_bytes(b"\n".join(lines) + dice.choice([b"", b"\n"]))
        path.chmod(dice.choice([0o644, 0o755]))


@pytest.mark.parametrize("seed", range(12))
def test_the_patch_does_what_the_session_did(tmp_path: Path, seed: int) -> None:
    work, dice = Work(tmp_path), random.Random(seed)
    scramble(work.path, dice)
    before = work.commit()
    scramble(work.path, dice)
    after = work.commit()
    with work.collected(before, after) as found:
        entries = objects.changed(found, found.tree_of(before), found.tree_of(after))
        patch = b"".join(patches.patch(entries, found.content))
    git(work.path, "checkout", "-q", before)
    git(work.path, "apply", "--index", "--allow-empty", "--whitespace=nowarn", "-", data=patch)
    assert git(work.path, "write-tree") == git(work.path, "rev-parse", f"{after}^{{tree}}")
    git(work.path, "apply", "-R", "--index", "--allow-empty", "--whitespace=nowarn", "-",
        data=patch)  # fmt: skip
    assert git(work.path, "write-tree") == git(work.path, "rev-parse", f"{before}^{{tree}}")


def test_the_differences_are_those_that_git_finds(work: Work) -> None:
    dice = random.Random(1)
    scramble(work.path, dice)
    before = work.commit()
    scramble(work.path, dice)
    after = work.commit()
    raw = git(work.path, "diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", before,
              after).encode("utf-8", "surrogateescape")  # fmt: skip
    with work.collected(before, after) as found:
        entries = objects.changed(found, found.tree_of(before), found.tree_of(after))
    expected = {(each.path, each.old_mode, each.mode) for each in parse_raw(raw)}
    assert {(each.path, each.old_mode, each.mode) for each in entries} == expected
    with work.collected(before, after, "d", "a") as found:
        trees = found.tree_of(before), found.tree_of(after)
        paths = {each.path for each in objects.changed(found, *trees, ["d/", "a"])}
        assert paths == {path for path, *_ in expected if path == "a" or path.startswith("d/")}


def test_comparing_takes_no_longer_than_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patches, "MAX_COMPARED", 10)
    work = Work(tmp_path)
    (work.path / "a").write_text("same\n" + "old\n" * 100 + "end\n")
    before = work.commit()
    (work.path / "a").write_text("same\n" + "old\nnew\n" * 100 + "end\n")
    after = work.commit()
    with work.collected(before, after) as found:
        entries = objects.changed(found, found.tree_of(before), found.tree_of(after))
        patch = b"".join(patches.patch(entries, found.content))
    git(work.path, "checkout", "-q", before)
    git(work.path, "apply", "--index", "-", data=patch)
    assert git(work.path, "write-tree") == git(work.path, "rev-parse", f"{after}^{{tree}}")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"hello", b"HELLO"),  # another content under the same name
        (b" blob 5\n", b" blob 6\n"),
        (b" blob 5\n", b" blob 999999999999\n"),
        (b" blob ", b" evil "),
        (b"hello", b"hell"),
    ],
)
def test_forged_objects_are_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    work = Work(tmp_path)
    before = work.commit()
    (work.path / "a").write_bytes(b"hello")
    after = work.commit()
    with work.collected(before, after) as found:  # the control
        assert objects.changed(found, found.tree_of(before), found.tree_of(after))
    data = work.file.read_bytes()
    assert old in data
    work.file.write_bytes(data.replace(old, new))
    with work.file.open("rb") as file, pytest.raises(WorkRefused):
        objects.read(file, "sha1", threading.Event())


def test_missing_objects_are_refused(tmp_path: Path) -> None:
    work = Work(tmp_path)
    before = work.commit()
    (work.path / "a").write_bytes(b"hello")
    after = work.commit()
    with work.collected(before, after) as found:
        tree = found.tree_of(after)
        del found.found[tree]
        with pytest.raises(WorkRefused, match="did not send the tree"):
            objects.changed(found, found.tree_of(before), tree)


def test_few_trees_that_make_countless_directories_are_refused(tmp_path: Path) -> None:
    """The same tree many times in the next one, with or without files at the end."""
    for leaf in (b"", b"100644 x\0" + bytes(20)):
        content, data = [], leaf
        for _ in range(40):
            name = hashlib.sha1(b"tree %d\0" % len(data) + data).digest()
            content.append(b"%s tree %d\n%s\n" % (name.hex().encode(), len(data), data))
            data = b"".join(b"40000 %c%s\0%s" % (each, b"n" * 200, name) for each in b"abcd")
        (tmp_path / "objects").write_bytes(b"".join(content))
        with (tmp_path / "objects").open("rb") as file:
            found = objects.read(file, "sha1", threading.Event())
            top = list(found.found)
            assert len(objects.changed(found, top[0], top[3])) == (64 + 1 if leaf else 0)
            with pytest.raises(WorkRefused, match=r"too many files and directories"):
                objects.changed(found, top[0], top[-1])
