"""What was staged ends up where it belongs, whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_mcp.placing import placement as placing
from claude_mcp.placing.descriptors import opened
from claude_mcp.placing.placement import PlaceError, target_of


def check(staged_is_directory: bool, target: str, overwrite: bool) -> None:
    with opened(os.path.dirname(target)) as parent:
        placing.check(staged_is_directory, parent, target, overwrite)


def place(staged: str, target: str, overwrite: bool) -> None:
    directory, name = os.path.split(staged)
    with opened(directory) as staging, opened(os.path.dirname(target)) as parent:
        placing.place(staging, name, parent, target, overwrite)


def tree(path: Path) -> dict[str, str | None]:
    """Every entry below a directory: a file's text, a link's target, None for a directory."""
    entries: dict[str, str | None] = {}
    for each in sorted(path.rglob("*")):
        name = str(each.relative_to(path))
        if each.is_symlink():
            entries[name] = f"-> {os.readlink(each)}"
        else:
            entries[name] = None if each.is_dir() else each.read_text()
    return entries


def make(path: Path, entries: dict[str, str | None]) -> Path:
    """What ``tree`` tells, made."""
    path.mkdir()
    for name, content in entries.items():
        if content is None:
            (path / name).mkdir()
        elif content.startswith("-> "):
            (path / name).symlink_to(content[3:])
        else:
            (path / name).write_text(content)
    return path


def test_a_destination_that_is_a_directory_takes_the_source_inside(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert target_of(f"{tmp_path}/there", "name") == f"{tmp_path}/there/name"
    assert target_of(f"{tmp_path}/there/", "name") == f"{tmp_path}/there/name"


def test_a_missing_destination_is_the_new_name(tmp_path: Path) -> None:
    assert target_of(f"{tmp_path}/new", "name") == f"{tmp_path}/new"
    (tmp_path / "file").write_text("")
    assert target_of(f"{tmp_path}/file", "name") == f"{tmp_path}/file"


def test_a_target_at_the_root_is_possible() -> None:
    assert target_of("/", "name") == "/name"
    assert target_of("/no-such-thing", "name") == "/no-such-thing"


@pytest.mark.parametrize("destination", ["missing/new", "missing/", "file/new", "file/", "dead/"])
def test_the_directory_of_the_target_must_exist(tmp_path: Path, destination: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dead").symlink_to("nowhere")
    directory = str(tmp_path / destination.partition("/")[0])
    with pytest.raises(PlaceError, match=f"^there is no directory {directory}$"):
        target_of(f"{tmp_path}/{destination}", "name")


def test_links_in_the_parent_path_are_resolved_but_not_the_target(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "way").symlink_to("real")
    (tmp_path / "real" / "link").symlink_to("nowhere")
    assert target_of(f"{tmp_path}/way/new", "name") == f"{tmp_path}/real/new"
    assert target_of(f"{tmp_path}/way", "name") == f"{tmp_path}/real/name"
    assert target_of(f"{tmp_path}/way/link", "name") == f"{tmp_path}/real/link"


@pytest.mark.parametrize("there", ["file", "directory", "link", "dead link"])
@pytest.mark.parametrize("staged_is_directory", [True, False])
def test_an_existing_target_is_kept_without_overwrite(
    tmp_path: Path, there: str, staged_is_directory: bool
) -> None:
    target = tmp_path / "target"
    if there == "file":
        target.write_text("")
    elif there == "directory":
        target.mkdir()
    else:
        target.symlink_to("/" if there == "link" else "nowhere")
    with pytest.raises(PlaceError, match=f"^{target} exists already, and overwrite is off$"):
        check(staged_is_directory, str(target), False)


def test_a_missing_target_passes_the_check(tmp_path: Path) -> None:
    check(True, str(tmp_path / "new"), False)
    check(False, str(tmp_path / "new"), True)


def test_a_file_is_moved_to_its_new_name(tmp_path: Path) -> None:
    staged = tmp_path / "staged"
    staged.write_text("new")
    place(str(staged), str(tmp_path / "target"), False)
    assert tree(tmp_path) == {"target": "new"}


def test_a_file_replaces_a_file_with_overwrite(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    staged = tmp_path / "staged"
    staged.write_text("new")
    place(str(staged), str(tmp_path / "target"), True)
    assert tree(tmp_path) == {"target": "new"}


def test_a_link_at_the_target_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "target").symlink_to("victim")
    staged = tmp_path / "staged"
    staged.write_text("new")
    place(str(staged), str(tmp_path / "target"), True)
    assert tree(tmp_path) == {"target": "new", "victim": "untouched"}


def test_a_directory_is_merged_into_an_existing_one(tmp_path: Path) -> None:
    staged = make(
        tmp_path / "staged",
        {"both": "new", "link": "-> both", "sub": None, "sub/new": "new", "empty": None},
    )
    target = make(tmp_path / "target", {"both": "old", "kept": "old", "link": "old", "sub": None})
    (target / "sub" / "kept").write_text("old")
    place(str(staged), str(target), True)
    assert tree(target) == {
        "both": "new",
        "empty": None,
        "kept": "old",
        "link": "-> both",
        "sub": None,
        "sub/kept": "old",
        "sub/new": "new",
    }


@pytest.mark.parametrize(
    ("staged_entry", "there", "kind"),
    [(None, "a file", "not a directory"), ("a file", None, "a directory"),
     (None, "-> /", "not a directory"), ("-> x", None, "a directory")],
)  # fmt: skip
def test_a_directory_and_a_file_do_not_replace_each_other(
    tmp_path: Path, staged_entry: str | None, there: str | None, kind: str
) -> None:
    staged = make(tmp_path / "staged", {"entry": staged_entry})
    target = make(tmp_path / "target", {"entry": there})
    with pytest.raises(PlaceError, match=f"^{target}/entry exists and is {kind}$"):
        place(f"{staged}/entry", f"{target}/entry", True)
    assert tree(target) == {"entry": there}


def test_a_merge_does_not_follow_a_link_to_a_directory(tmp_path: Path) -> None:
    victim = make(tmp_path / "victim", {"x": "untouched"})
    staged = make(tmp_path / "staged", {"sub": None, "sub/x": "new"})
    target = make(tmp_path / "target", {"sub": "-> ../victim"})
    with pytest.raises(PlaceError, match=f"^{target}/sub exists and is not a directory$"):
        place(str(staged), str(target), True)
    assert tree(victim) == {"x": "untouched"}


def test_a_failed_merge_is_undone(tmp_path: Path) -> None:
    new = {"a": "new", "b": None, "b/both": "new", "b/added": "new", "c": None, "l": "new"}
    old = {"a": "old", "b": None, "b/both": "old", "b/kept": "old", "c": "a file", "l": "-> a"}
    for number, last in enumerate(("c", "a", "b", "l")):
        staged = make(tmp_path / f"staged-{number}", {**new, "z": None})
        target = make(tmp_path / f"target-{number}", {**old, "z": "a file"})
        before = {path: path.lstat().st_ino for path in target.rglob("*")}
        with pytest.raises(PlaceError, match="exists and is not a directory"):
            place(str(staged), str(target), True)
        assert tree(target) == {**old, "z": "a file"}
        assert {path: path.lstat().st_ino for path in target.rglob("*")} == before, last


@pytest.mark.parametrize("links", [True, False])
def test_completed_moves_are_undone_when_a_later_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Whichever move it is that fails, and also where the file system has no hard links."""
    if not links:

        def no_link(*args: object, **named: object) -> None:
            raise PermissionError(1, "no links here")

        monkeypatch.setattr(os, "link", no_link)
    old = {"a": "old", "b": None, "b/both": "old", "l": "-> a"}
    new = {"a": "new", "b": None, "b/both": "new", "b/added": "new", "d": None, "l": "new"}
    real = {"replace": os.replace, "rename": os.rename}
    failed = 0
    for fails_at in range(1, 20):
        target = make(tmp_path / f"target-{fails_at}", dict(old))
        staged = make(tmp_path / f"staged-{fails_at}", dict(new))
        count = 0

        def move(name: str, *args: object, **named: object) -> None:
            nonlocal count
            count += 1
            if count == fails_at:  # noqa: B023
                raise OSError(5, "the disk broke")
            real[name](*args, **named)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", lambda *a, **k: move("replace", *a, **k))
            patch.setattr(os, "rename", lambda *a, **k: move("rename", *a, **k))
            try:
                place(str(staged), str(target), True)
            except OSError:
                failed += 1
                assert tree(target) == old
            else:
                assert tree(target) == new
                break
    assert failed >= 4
    assert sorted(path.name for path in tmp_path.iterdir() if "replaced" in path.name) == []


def test_a_file_created_after_the_check_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = tmp_path / "staged"
    staged.write_text("new")
    (tmp_path / "target").write_text("theirs")
    monkeypatch.setattr(placing, "_status", lambda *_: None)
    with pytest.raises(PlaceError, match="target exists already, and overwrite is off"):
        place(str(staged), f"{tmp_path}/target", False)
    assert tree(tmp_path) == {"staged": "new", "target": "theirs"}


@pytest.mark.parametrize("theirs", [{}, {"file": "theirs"}, None])
def test_what_appears_where_a_directory_is_placed_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: dict[str, str | None] | None
) -> None:
    staged = make(tmp_path / "staged", {"new": "new"})
    target = tmp_path / "target"
    status, looks = placing._status, []

    def appears(directory: int, name: str) -> os.stat_result | None:
        found = status(directory, name)
        looks.append(name)
        if looks == ["target", "target"]:  # after the check
            target.write_text("theirs") if theirs is None else make(target, theirs)
        return found

    monkeypatch.setattr(placing, "_status", appears)
    with pytest.raises(PlaceError, match="target exists already, and overwrite is off"):
        place(str(staged), str(target), False)
    expected = {"": "theirs"} if theirs is None else theirs
    assert (tree(target) if theirs is not None else {"": target.read_text()}) == expected
    assert tree(staged) == {"new": "new"}


def test_what_appears_in_a_directory_that_is_being_placed_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = make(tmp_path / "staged", {"new": "new"})
    target = tmp_path / "target"
    mkdir = os.mkdir

    def meddled(name: str, mode: int, *, dir_fd: int) -> None:
        mkdir(name, mode, dir_fd=dir_fd)
        if name == "target":
            (target / "file").write_text("theirs")

    monkeypatch.setattr(os, "mkdir", meddled)
    with pytest.raises(PlaceError, match="target was replaced meanwhile"):
        place(str(staged), str(target), False)
    assert tree(target) == {"file": "theirs"}


def test_what_replaced_our_files_before_they_are_taken_back_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = make(tmp_path / "staged", {"a": "new", "b": None, "b/x": "new", "c": "new", "z": None})
    target = make(tmp_path / "target", {"a": "old", "z": "a file"})
    undo = placing._Moves.undo

    def replace_first(moves: placing._Moves) -> None:
        for name in ("a", "b", "c"):
            (target / name).rename(tmp_path / f"away-{name}")
        (target / "a").write_text("theirs")
        make(target / "b", {"file": "theirs"})
        (target / "c").write_text("theirs")
        undo(moves)

    monkeypatch.setattr(placing._Moves, "undo", replace_first)
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: sorted(listdir(path)))
    with pytest.raises(PlaceError, match="z exists and is not a directory"):
        place(str(staged), str(target), True)
    assert tree(target) == {
        "a": "theirs", "b": None, "b/file": "theirs", "c": "theirs", "z": "a file"
    }  # fmt: skip


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory_can_be_placed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    staged = make(tmp_path / "staged", {"file": "x"})
    staged.chmod(0o555)
    place(str(staged), f"{tmp_path}/there/target", False)
    assert (tmp_path / "there" / "target").stat().st_mode & 0o777 == 0o555
    (tmp_path / "there" / "target").chmod(0o755)
