"""Directories that a session may change while they are walked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_mcp.sessions.git import directories
from claude_mcp.sessions.git.directories import Tree
from tests.unit.conftest import PATIENCE_SECONDS


def walked(tree: Tree, limit: int = 100) -> list[tuple[str, set[str]]]:
    return [(path, set(marks)) for path, marks in tree.walk(limit, PATIENCE_SECONDS)]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "c/.git/inside").mkdir(parents=True)
    (tmp_path / "a/other").touch()
    return Tree(str(tmp_path), marks=frozenset({".git"}), closed=frozenset({".git"}))


def test_the_walk_is_breadth_first_reports_marks_and_skips_closed_directories(
    tree: Tree,
) -> None:
    expected: list[tuple[str, set[str]]] = [
        ("", set()), ("a", set()), ("c", {".git"}), ("a/b", set())
    ]  # fmt: skip
    assert walked(tree) == expected
    assert walked(tree) == expected
    assert tree.complete


def test_a_second_walk_sees_added_and_removed_directories(tree: Tree, tmp_path: Path) -> None:
    walked(tree)
    for number in range(20):
        (tmp_path / f"a/b/{number}").mkdir()
        assert (f"a/b/{number}", set()) in walked(tree)
    (tmp_path / "c/.git/inside").rmdir()
    (tmp_path / "c/.git").rmdir()
    assert ("c", set()) in walked(tree)


def test_an_unchanged_directory_is_not_read_again(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directories, "SETTLED_NANOSECONDS", -(10**18))
    before = walked(tree)
    monkeypatch.setattr(os, "scandir", None)
    assert walked(tree) == before


def test_links_that_replace_directories_are_not_followed(
    tree: Tree, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "b").mkdir()
    (outside / "b/.git").mkdir()
    (tmp_path / "link").symlink_to(outside)
    seen = []
    for path, marks in tree.walk(100, PATIENCE_SECONDS):
        seen.append((path, set(marks)))
        if path == "c":  # `a/b` is still to come, and is another one now
            (tmp_path / "a").rename(tmp_path / "moved")
            (tmp_path / "a").symlink_to(outside)
    assert seen == [("", set()), ("a", set()), ("c", {".git"})]


def test_a_directory_with_too_many_entries_makes_the_walk_incomplete(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directories, "MAX_ENTRIES", 1)
    for _ in range(2):
        walked(tree)
        assert not tree.complete


def test_a_walk_that_reaches_its_limit_is_incomplete(tree: Tree) -> None:
    assert walked(tree, 2) == [("", set()), ("a", set())]
    assert not tree.complete
    assert tree.walked == 2
