"""What a copy takes, compared with what the real git would, and with Docker's rules."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from claude_mcp.errors import UsageError
from claude_mcp.sessions.git import ignoring

NAMES = ("a", "b", "ab", "abc", "a.b", "foo", "foo.o", "x y", "a b ", "[a]", "!b", "#c", "é", "-")
WORDS = (
    "*", "**", "?", "a", "b", "ab", "foo", "*.o", "f*o", "a*b", "[ab]", "[!a]", "[a-c]*", "[]a]",
    "\\a", "\\*", "x\\ y", "x y", "[[:alpha:]]", "[a", "a ", "a\\ ", "*a*b*", "[!]a]*", "é", "[^b]",
    "\\#c", "\\!b", "# no", "", "[a--b]", "[b-a]", "[a/b]",
)  # fmt: skip
TREES = 60


class Tree:
    def __init__(self, root: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.fill(root, 3)

    def fill(self, directory: Path, depth: int) -> None:
        for name in self.random.sample(NAMES, self.random.randint(1, 5)):
            if depth and self.random.random() < 0.5:
                (directory / name).mkdir()
                self.fill(directory / name, depth - 1)
            else:
                (directory / name).touch()
        if self.random.random() < 0.5:
            lines = [self.pattern() for _ in range(self.random.randint(1, 4))]
            end = self.random.choice(["", "\n", "\r\n"])
            (directory / ".gitignore").write_text("\n".join(lines) + end, newline="")

    def pattern(self) -> str:
        words = [self.random.choice(WORDS)]
        while self.random.random() < 0.45:
            words.append(self.random.choice(WORDS))
        start = self.random.choice(["", "", "", "/", "!", "!/"])
        return start + "/".join(words) + self.random.choice(["", "", "/"])


@pytest.mark.parametrize("seed", range(TREES))
def test_gitignore_means_what_it_means_to_git(tmp_path: Path, seed: int) -> None:
    project, repository = tmp_path / "project", tmp_path / "repository"
    project.mkdir()
    Tree(project, seed)
    subprocess.run(["git", "init", "-q", "--bare", str(repository)], check=True)
    done = subprocess.run(
        ["git", "-c", "core.excludesFile=/dev/null", f"--git-dir={repository}",
         f"--work-tree={project}", "ls-files", "-z", "--others",
         "--exclude-per-directory=.gitignore"],
        cwd=project, capture_output=True, check=True,
    )  # fmt: skip
    taken = [each for each in ignoring.files_of(str(project), ()) if not (project / each).is_dir()]
    assert sorted(taken) == sorted(os.fsdecode(done.stdout).split("\0")[:-1])


@pytest.mark.parametrize(
    ("text", "left_out", "taken"),
    [
        ("*.log", ["x.log"], ["d/x.log", "x"]),
        ("**/*.log\n", ["x.log", "d/e/x.log"], ["x"]),
        ("# no\n\n /d/ \n", ["d/x", "d/e/x"], ["e/d"]),
        ("*\n!src/**\nsrc/tmp\n", ["x", "src/tmp/x"], ["src/x", "src/y/z"]),
        ("d\n!d/keep\n", ["d/x"], ["d/keep"]),
    ],
)
def test_dockerignore_means_what_it_means_to_docker(
    tmp_path: Path, text: str, left_out: list[str], taken: list[str]
) -> None:
    (tmp_path / ".dockerignore").write_text(text)
    for name in (*left_out, *taken):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = {*ignoring.files_of(str(tmp_path), ())} - {".dockerignore"}
    assert found - {"d/e", "src/tmp", "d", "src"} == {*taken}


def test_each_kind_of_pattern_leaves_out_on_its_own(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("one\n!two\n")
    (tmp_path / ".dockerignore").write_text("two\n!one\n!three\n")
    for name in ("one", "two", "three", "four", "\udcff"):
        (tmp_path / name).touch()
    (tmp_path / ".git").mkdir()
    (tmp_path / "nested" / ".git").mkdir(parents=True)
    (tmp_path / "nested" / ".git" / "config").touch()
    (tmp_path / "nested" / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("nested")
    assert ignoring.files_of(str(tmp_path), ["three"]) == [
        ".dockerignore", ".gitignore", "empty", "four", "link", "nested/file", "\udcff",
    ]  # fmt: skip


@pytest.mark.parametrize("pattern", ["*a" * 100 + "b", "**/a/" * 100 + "b", "*[ab]*?" * 50 + "c"])
def test_no_pattern_takes_long(pattern: str) -> None:
    found = ignoring.pattern(pattern)
    assert found is not None
    assert not found.matches(["a"] * 300, False)
    assert not found.matches(["a" * 255], False)


def test_a_directory_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(300):
        deep /= "d"
    deep.mkdir(parents=True)
    with pytest.raises(UsageError, match="nested too deeply"):
        ignoring.files_of(str(tmp_path), ())
    assert ignoring.files_of(str(tmp_path), ["d/d/d"]) == []
