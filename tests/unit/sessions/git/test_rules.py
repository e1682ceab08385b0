"""Names and links that a tree may not bring, and others like them that it may."""

from __future__ import annotations

import pytest

from claude_mcp.errors import WorkRefused
from claude_mcp.sessions.git.rules import (
    ABSENT,
    EXECUTABLE,
    FILE,
    GITLINK,
    LINK,
    Entry,
    check,
    is_git,
    objection,
    parse_raw,
)

OLD, NEW = "1" * 40, "2" * 40


def added(path: str, mode: int = FILE) -> Entry:
    return Entry(path, ABSENT, "0" * 40, mode, NEW)


@pytest.mark.parametrize(
    "name",
    [
        ".git", ".GIT", ".Git", ".g\u200cit", "\u200d.git", ".git\ufeff", ".g\u2063it", "git~1",
        "GIT~1", "git~12", ".git.", ".git ", ".git. .", ".git::$INDEX_ALLOCATION", ".git:x",
        ".git\\hooks", "x\\.git", "\uff0egit", ".\u202egit",
    ],
)  # fmt: skip
def test_every_spelling_of_git_is_refused_at_any_depth(name: str) -> None:
    assert is_git(name)
    for path in (name, f"a/{name}", f"{name}/hooks/post-checkout"):
        assert objection(added(path), {}) == "name that some systems read as .git"


@pytest.mark.parametrize(
    "name",
    [".gitignore", ".github", "git", "a.git", "..git", "git~", "git~x", ".gi", "x~1", "\u0433it",
     "dev-by\\x2dlabel.swap", ".git-hooks", "\udcff.git"],
)  # fmt: skip
def test_similar_names_are_allowed(name: str) -> None:
    assert not is_git(name)
    assert objection(added(name), {}) is None


@pytest.mark.parametrize(
    "path", ["..", "../x", "a/../../x", "./x", "a/./x", "/x", "a//x", "a/", "a\\..\\x", "a/\0"]
)
def test_paths_that_leave_the_tree_are_refused(path: str) -> None:
    assert objection(added(path), {}) == "path that leaves the tree"
    assert objection(added("..."), {}) is None


def test_names_that_no_file_system_takes_are_refused() -> None:
    assert objection(added("x" * 256), {}) == "path that is too long"
    assert objection(added("\u00e9" * 128), {}) == "path that is too long"
    assert objection(added("/".join(["x" * 250] * 17)), {}) == "path that is too long"
    assert objection(added("x" * 255), {}) is None


@pytest.mark.parametrize(
    ("path", "target", "reason"),
    [
        ("l", b"/etc/passwd", "absolute link"),
        ("l", b"\\etc", "absolute link"),
        ("l", b"C:\\x", "absolute link"),
        ("l", b"..", "link that leads, or could lead, out of the tree"),
        ("l", b"../x", "link that leads, or could lead, out of the tree"),
        ("a/b/l", b"../../../x", "link that leads, or could lead, out of the tree"),
        ("a/l", b"./.././../x", "link that leads, or could lead, out of the tree"),
        ("a/l", b"..\\..\\x", "link that leads, or could lead, out of the tree"),
        # Lexically this stays, but `link` may lead to the top of the tree.
        ("p/q/l", b"link/..", "link that leads, or could lead, out of the tree"),
        ("l", b".git/config", "link into a repository"),
        ("a/l", b"../.GIT/hooks", "link into a repository"),
        ("l", b"", "link without a usable target"),
        ("l", b"x" * 5000, "link without a usable target"),
        ("l", b"x\0y", "link without a usable target"),
    ],
)
def test_links_that_could_leave_the_tree_are_refused(path: str, target: bytes, reason: str) -> None:
    assert objection(added(path, LINK), {NEW: target}) == reason


@pytest.mark.parametrize(
    ("path", "target"),
    [("l", b"x"), ("l", b"a/b"), ("l", b"."), ("a/l", b".."), ("a/b/l", b"../../x"),
     ("a/l", b"./../x"), ("l", b"..."), ("l", b"\xff")],
)  # fmt: skip
def test_links_that_stay_are_allowed(path: str, target: bytes) -> None:
    assert objection(added(path, LINK), {NEW: target}) is None


def test_a_link_without_known_target_is_refused() -> None:
    assert objection(added("l", LINK), {}) == "unreadable link"


def test_what_was_there_before_is_not_judged_again() -> None:
    assert objection(Entry("l", LINK, NEW, LINK, NEW), {}) is None
    assert objection(Entry("git~1", FILE, OLD, FILE, NEW), {}) is None
    assert objection(Entry("git~1", FILE, OLD, ABSENT, "0" * 40), {}) is None
    assert objection(Entry("sub", GITLINK, OLD, GITLINK, NEW), {}) is None
    assert objection(Entry("l", LINK, OLD, LINK, NEW), {NEW: b"/x"}) == "absolute link"
    assert objection(Entry("l", FILE, OLD, LINK, NEW), {NEW: b"/x"}) == "absolute link"


def test_submodules_and_unknown_modes_are_refused_when_new() -> None:
    assert objection(added("sub", GITLINK), {}) == "new submodule"
    assert objection(Entry("sub", FILE, OLD, GITLINK, NEW), {}) == "new submodule"
    assert objection(added("x", 0o100664), {}) == "unknown mode 100664"
    assert objection(added("x", EXECUTABLE), {}) is None


def test_a_refusal_names_the_first_paths_of_each_rule_without_control_characters() -> None:
    many = [added(f"{number}/.git\x1b[31m/.git") for number in range(12)]
    with pytest.raises(WorkRefused) as refused:
        check([*many, added("fine"), added("sub", GITLINK)], {})
    assert "0/.git?[31m/.git, 1/" in refused.value.message
    assert "and 2 more; new submodule: sub." in refused.value.message


def test_raw_output_is_read_with_any_bytes_in_names() -> None:
    output = (
        b":000000 100644 " + b"0" * 40 + b" " + b"2" * 40 + b" A\0a\n\t\xff b\0"
        b":100644 000000 " + b"1" * 40 + b" " + b"0" * 40 + b" D\0:x\0"
    )
    assert list(parse_raw(output)) == [
        Entry("a\n\t\udcff b", 0, "0" * 40, FILE, "2" * 40),
        Entry(":x", FILE, "1" * 40, ABSENT, "0" * 40),
    ]
