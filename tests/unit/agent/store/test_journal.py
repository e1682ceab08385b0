"""Events are numbered, kept within bounds and read from a cursor, whatever is done to the files."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_mcp.agent.store import journal as journal_module
from claude_mcp.agent.store.journal import CURRENT, MAX_TEXT_CHARACTERS, OLD, Journal

ANY = 10**9
LINE = {"number": 1, "time": "t", "turnId": "a", "kind": "message", "text": "forged"}

Open = Callable[[], Journal]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def opened(directory: Path) -> Open:
    """Opens the journal, again and again, as one agent after the other."""
    return lambda: Journal(str(directory))


def read(
    journal: Journal, after: int = 0, turn: str | None = "a", most: int = ANY, characters: int = ANY
) -> list[tuple[int, str, str, int]]:
    events, _ = journal.read(after, turn, most, characters)
    return [(e["number"], e["kind"], e["text"], e["leftOut"]) for e in events]


def texts(journal: Journal, after: int = 0) -> list[str]:
    return [text for _, _, text, _ in read(journal, after)]


def test_an_event_is_kept_with_its_number_and_time(opened: Open, directory: Path) -> None:
    journal = opened()
    assert journal.append("a", "message", "two\nlines \u2028 é \ud800") == 1
    event = journal.get(1)
    assert event is not None
    assert event.pop("time")[10::9] == "TZ"
    assert event == {
        "number": 1,
        "turnId": "a",
        "kind": "message",
        "text": "two\nlines \u2028 é ?",
        "leftOut": 0,
    }
    assert (journal.get(0), journal.get(2)) == (None, None)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / CURRENT).stat().st_mode & 0o777 == 0o600


def test_a_turn_has_its_own_events_and_those_of_the_session(opened: Open) -> None:
    journal = opened()
    for turn, text in (("a", "1"), ("b", "2"), (None, "3"), ("a", "4")):
        journal.append(turn, "message", text)
    assert texts(journal) == ["1", "3", "4"]
    assert read(journal, turn="b") == [(2, "message", "2", 0), (3, "message", "3", 0)]
    assert read(journal, turn=None) == [(3, "message", "3", 0)]


def test_numbering_goes_on_where_it_was(opened: Open) -> None:
    first = opened()
    assert [first.append("a", "message", text) for text in "xy"] == [1, 2]
    second = opened()
    assert second.last == 2
    assert second.append("a", "message", "z") == 3
    assert texts(second) == ["x", "y", "z"]


# Bounds.


def test_a_cursor_leads_through_all_events(opened: Open) -> None:
    journal = opened()
    for number in range(1, 8):
        journal.append("a" if number % 2 else "b", "message", str(number))
    pages, cursor = [], 0
    for _ in range(4):
        events, cursor = journal.read(cursor, "a", 2, ANY)
        pages.append(([each["number"] for each in events], cursor))
    assert pages == [([1, 3], 3), ([5, 7], 7), ([], 7), ([], 7)]
    journal.append("b", "message", "of another turn")
    assert journal.read(7, "a", 2, ANY) == ([], 8)


@pytest.mark.parametrize("after", [7, 8, 10**15, 10**30])
def test_behind_the_last_event_there_is_nothing(opened: Open, after: int) -> None:
    journal = opened()
    for number in range(7):
        journal.append("a", "message", str(number))
    assert journal.read(after, "a", ANY, ANY) == ([], after)
    assert journal.get(after + 1) is None


def test_a_text_is_cut_to_what_was_asked_for(opened: Open) -> None:
    journal = opened()
    journal.append("a", "message", "é" * 10)
    assert read(journal, characters=4) == [(1, "message", "é" * 4, 6)]
    assert read(journal, characters=10) == [(1, "message", "é" * 10, 0)]
    assert read(journal, characters=0) == [(1, "message", "", 10)]


def test_an_endless_text_is_kept_in_part(opened: Open) -> None:
    journal = opened()
    journal.append("a", "message", "x" * (MAX_TEXT_CHARACTERS + 3))
    event = journal.get(1)
    assert event is not None
    assert event["text"].rpartition("x") == (
        "x" * (MAX_TEXT_CHARACTERS - 1),
        "x",
        "\n[... 3 characters left out ...]",
    )


def test_the_longest_text_is_read_again_whatever_is_in_it(opened: Open) -> None:
    text = "\0" * MAX_TEXT_CHARACTERS  # each takes six bytes in JSON
    opened().append("a", "message", text)
    journal = opened()
    assert (journal.last, texts(journal) == [text]) == (1, True)


def test_the_files_are_bounded_by_rotation(
    opened: Open, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 1000)
    journal = opened()
    for number in range(1, 101):
        assert journal.append("a", "message", f"event {number}") == number
    assert sorted(os.listdir(directory)) == [CURRENT, OLD]
    assert all((directory / name).stat().st_size <= 1000 for name in (CURRENT, OLD))
    for each in (journal, opened()):
        kept = read(each)
        numbers = [number for number, *_ in kept]
        assert numbers == list(range(numbers[0], 101))
        assert 8 < len(kept) < 30
        assert each.get(numbers[0]) is not None
        assert each.get(numbers[0] - 1) is None
        assert each.read(0, "a", 3, ANY)[1] == numbers[2]
        assert each.last == 100


def test_an_event_larger_than_a_file_is_kept_until_the_next_ones_need_the_room(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 1000)
    journal = opened()
    for text in ("before", "x" * 1500, "after"):
        journal.append("a", "message", text)
    assert texts(journal) == ["x" * 1500, "after"]
    assert texts(opened()) == ["x" * 1500, "after"]


def test_any_event_is_found_in_a_long_file(opened: Open) -> None:
    journal = opened()
    for number in range(1, 301):
        journal.append("a", "message", f"{number} {'x' * 1000}")
    for each in (journal, opened()):
        for number in (1, 2, 63, 64, 65, 150, 299, 300):
            event = each.get(number)
            assert event is not None
            assert event["text"].startswith(f"{number} ")
            assert texts(each, number - 1)[0].startswith(f"{number} ")


# Forged and damaged files.


def test_a_line_that_is_no_event_is_passed_over(opened: Open, directory: Path) -> None:
    opened().append("a", "message", "real")
    forged: list[Any] = [
        3,
        None,
        "text",
        [],
        {},
        {**LINE, "number": "7"},
        {**LINE, "number": 7.5},
        {**LINE, "number": -7},
        {**LINE, "number": 0},
        {**LINE, "number": None},
        {**LINE, "number": 2**53},
        {**LINE, "number": 10**30},
        {**LINE, "number": 7, "text": None},
        {**LINE, "number": 7, "text": ["x"]},
        {**LINE, "number": 7, "turnId": 3},
        {**LINE, "number": 7, "turnId": ["a"]},
        {name: LINE[name] for name in LINE if name != "time"},
        {name: LINE[name] for name in LINE if name != "turnId"},
        {name: LINE[name] for name in LINE if name != "kind"},
    ]
    lines = [json.dumps(each).encode() for each in forged]
    lines += [b"", b"garbage", b"\xff\xfe\0", b"[" * 100_000, b'{"a":' * 100_000, b"\0" * 1000]
    lines += [b'{"number": ' + b"9" * 5000 + b"}", b'{"number": 7, "turnId": null, "tex']
    with (directory / CURRENT).open("ab") as file:
        file.writelines(line + b"\n" for line in lines)
    journal = opened()
    assert journal.append("a", "message", "after") == 2
    assert texts(journal) == ["real", "after"]


def test_what_a_forged_event_says_of_itself_is_bounded(opened: Open, directory: Path) -> None:
    directory.mkdir()
    line = {**LINE, "time": ["t"] * 1000, "kind": {"k": "x" * 1000}, "leftOut": "x", "more": 1}
    (directory / CURRENT).write_text(json.dumps(line) + "\n")
    event = opened().get(1)
    assert event is not None
    assert (len(event["time"]), len(event["kind"])) == (40, 40)
    assert {n: v for n, v in event.items() if n not in ("time", "kind")} == {
        "number": 1,
        "turnId": "a",
        "text": "forged",
        "leftOut": 0,
    }


def test_forged_numbers_do_not_go_backwards(opened: Open, directory: Path) -> None:
    directory.mkdir()
    lines = [json.dumps({**LINE, "number": n, "text": str(n)}) for n in (5, 3, 5, 7, 6, 1)]
    (directory / CURRENT).write_text("\n".join(lines) + "\n")
    journal = opened()
    assert texts(journal) == ["5", "7"]
    assert journal.append("a", "message", "8") == 8
    assert texts(journal) == ["5", "7", "8"]


def test_the_highest_number_that_can_be_forged_stops_nothing(opened: Open, directory: Path) -> None:
    directory.mkdir()
    (directory / CURRENT).write_text(json.dumps({**LINE, "number": 2**53 - 1}) + "\n")
    journal = opened()
    assert journal.last == 2**53 - 1
    journal.append("a", "message", "after")
    assert texts(journal)[0] == "forged"
    assert journal.read(2**53 - 1, "a", ANY, ANY)[1] >= 2**53 - 1


def test_a_line_without_end_is_not_read_to_its_end(
    opened: Open, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 100_000)
    monkeypatch.setattr(journal_module, "MAX_TEXT_CHARACTERS", 100_000)
    directory.mkdir()
    with (directory / CURRENT).open("wb") as file:
        file.truncate(10**12)  # it takes no room on the disk
    journal = opened()
    assert (journal.last, texts(journal)) == (0, [])
    journal.append("a", "message", "after")  # which rotates
    assert texts(journal) == ["after"]


def test_an_event_behind_a_fragment_is_not_lost(opened: Open, directory: Path) -> None:
    """As the end of an agent in the middle of a line leaves it."""
    opened().append("a", "message", "whole")
    with (directory / CURRENT).open("ab") as file:
        file.write(b'{"number": 2, "turnId": "a", "te')
    journal = opened()
    journal.append("a", "message", "after")
    assert texts(journal) == ["whole", "after"]


def test_an_event_behind_one_that_did_not_fit_the_disk_is_not_lost(
    opened: Open, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(journal_module, "log", said.append)
    journal = opened()
    journal.append("a", "message", "before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((directory / CURRENT).stat().st_size + 30, hard))
    try:
        numbers = [journal.append("a", "message", "x" * 100) for _ in range(2)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    numbers.append(journal.append("a", "message", "after"))
    assert numbers == [2, 3, 4]
    assert said == ["could not write the journal: [Errno 27] File too large"]
    assert texts(journal) == ["before", "after"]


@pytest.fixture
def places(directory: Path, tmp_path: Path) -> Iterator[dict[str, Callable[[Path], object]]]:
    """What could stand in the place of a file, by name."""
    directory.mkdir()
    target = tmp_path / "target"
    target.write_text("the user's own")
    yield {
        "a directory": os.mkdir,
        "a FIFO": os.mkfifo,
        "a link": lambda path: path.symlink_to(target),
        "a link to nothing": lambda path: path.symlink_to(tmp_path / "made"),
        "a device": lambda path: path.symlink_to("/dev/zero"),
    }
    assert target.read_text() == "the user's own"
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", [CURRENT, OLD])
@pytest.mark.parametrize(
    "place", ["a directory", "a FIFO", "a link", "a link to nothing", "a device"]
)
def test_in_the_place_of_a_file_nothing_else_is_written_or_read(
    opened: Open,
    directory: Path,
    places: dict[str, Callable[[Path], object]],
    capsys: pytest.CaptureFixture[str],
    name: str,
    place: str,
) -> None:
    places[place](directory / name)
    journal = opened()
    assert [journal.append("a", "message", text) for text in "xy"] == [1, 2]
    assert (texts(journal), journal.get(1)) == ([], None)
    assert capsys.readouterr().err.startswith("could not write the journal: ")


@pytest.mark.parametrize("place", ["a directory", "a FIFO", "a link"])
def test_a_file_whose_name_points_elsewhere_meanwhile_is_written_on(
    opened: Open, directory: Path, places: dict[str, Callable[[Path], object]], place: str
) -> None:
    journal = opened()
    journal.append("a", "message", "before")
    (directory / CURRENT).unlink()
    places[place](directory / CURRENT)
    journal.append("a", "message", "after")
    assert texts(journal) == ["before", "after"]


@pytest.mark.parametrize("place", ["nothing", "a FIFO", "a link"])
def test_a_rotation_over_whatever_stands_there_loses_no_later_event(
    opened: Open,
    directory: Path,
    places: dict[str, Callable[[Path], object]],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 1000)
    journal = opened()
    journal.append("a", "message", "x" * 800)
    (directory / CURRENT).unlink()
    if place != "nothing":
        places[place](directory / CURRENT)
    for number in range(2, 12):
        journal.append("a", "message", f"{number} {'x' * 300}")
    assert texts(journal)[-1].startswith("11 ")


def test_a_directory_that_is_removed_stops_nothing(
    opened: Open, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 1000)
    journal = opened()
    (directory / CURRENT).unlink()
    (directory / OLD).unlink()
    directory.rmdir()
    for _ in range(10):
        journal.append("a", "message", "x" * 300)
    assert journal.read(10, "a", ANY, ANY) == ([], 10)
    assert journal.get(11) is None


def test_events_are_read_from_a_file_that_was_cut_while_it_is_open(
    opened: Open, directory: Path
) -> None:
    journal = opened()
    for number in range(1, 201):
        journal.append("a", "message", f"{number} {'x' * 1000}")
    os.truncate(directory / CURRENT, 100_000)
    assert 80 < len(texts(journal)) < 100
    assert (journal.get(150), texts(journal, 150)) == (None, [])
    os.truncate(directory / CURRENT, 0)
    assert (journal.get(1), texts(journal)) == (None, [])
    assert journal.append("a", "message", "after") == 201
    assert texts(journal) == ["after"]
    assert texts(journal, 200) == ["after"]


def test_without_a_directory_the_numbers_go_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    journal = Journal(str(tmp_path / "file" / "state"))
    assert [journal.append("a", "message", "x") for _ in range(3)] == [1, 2, 3]
    assert journal.read(0, "a", ANY, ANY) == ([], 0)
