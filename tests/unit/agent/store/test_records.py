"""What became of a turn is found again; a record that was damaged or forged is as if absent."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claude_mcp.agent.store import files
from claude_mcp.agent.store import records as records_module
from claude_mcp.agent.store.records import NotRecorded, Record, Records, digest

PATIENCE_SECONDS = 60.0
ONE = "11111111-1111-4111-8111-111111111111"
RESULT = {"status": "completed", "result": "two\nlines \u2028 é"}
RECORD = Record(ONE, digest("p"), 3, 7, sent=True, result=RESULT)
VALUES = {
    "turn_id": ONE,
    "prompt": digest("p"),
    "first": 3,
    "last": 7,
    "sent": True,
    "result": RESULT,
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "turns"


def saved(directory: Path, record: Record) -> Record | None:
    """What another agent finds of it."""
    Records(str(directory)).save(record)
    return Records(str(directory)).get(record.turn_id)


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        Record(ONE, digest(""), 0),
        Record(ONE, "", 0, 2, sent=True, result={"status": "failed", "error": None}),
        Record(ONE, digest("p"), 2**53, sent=True),
    ],
)
def test_a_record_is_found_again(directory: Path, record: Record) -> None:
    assert saved(directory, record) == record
    assert directory.stat().st_mode & 0o777 == 0o700
    assert os.listdir(directory) == [f"{ONE}.json"]


def test_the_latest_record_of_a_turn_counts(directory: Path) -> None:
    records = Records(str(directory))
    for record in (Record(ONE, digest("p"), 3), RECORD):
        records.save(record)
        assert records.get(ONE) == record
    assert Records(str(directory)).get(ONE) == RECORD


def test_records_are_in_the_order_in_which_they_changed_however_soon_after_each_other(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = files.replace

    def at_once(path: str, content: bytes) -> None:
        """As if all of them were written while the kernel's clock stands still."""
        replace(path, content)
        os.utime(path, ns=(0, 0))

    monkeypatch.setattr(files, "replace", at_once)
    records = Records(str(directory))
    ids = [f"{ONE[:-2]}{number}" for number in range(40, 10, -1)]
    for each in ids:
        records.save(Record(each, "", 0))
    records.keep(Record(ids[0], "", 0, 1))
    assert Records(str(directory)).ids() == records.ids() == [*ids[1:], ids[0]]


def test_a_prompt_is_known_by_its_digest_whatever_is_in_it() -> None:
    prompts = ("", "p", "P", "p ", "\ud800", "\ud801", "?")
    assert len({digest(prompt) for prompt in prompts}) == len(prompts)


def test_what_utf8_cannot_carry_is_replaced(directory: Path) -> None:
    record = saved(directory, Record(ONE, "", 0, 0, result={"status": "failed", "x": "\ud800"}))
    assert record == Record(ONE, "", 0, 0, result={"status": "failed", "x": "?"})


@pytest.mark.parametrize(
    "turn_id", ["", "t-1", "../state", f"../{ONE}", f"{ONE}\n", ONE[:-1] + "G", "\0", "x" * 10_000]
)
def test_a_turn_that_never_was_has_no_record(directory: Path, turn_id: str) -> None:
    directory.mkdir()
    (directory.parent / "state.json").write_text(json.dumps(VALUES))
    (directory.parent / f"{ONE}.json").write_text(json.dumps(VALUES))
    assert Records(str(directory)).get(turn_id) is None
    assert Records(str(directory)).get(ONE) is None


def without(name: str) -> dict[str, Any]:
    return {each: value for each, value in VALUES.items() if each != name}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b"\xff\xfe",
        b"garbage",
        json.dumps(VALUES).encode()[:-1],
        b"[" * 100_000,
        b'{"result":' * 100_000,
        b"9" * 10_000,
        b"3",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        *(
            json.dumps(values).encode()
            for values in (
                *(without(name) for name in VALUES),
                {**VALUES, "turn_id": "22222222-2222-4222-8222-222222222222"},
                {**VALUES, "turn_id": None},
                {**VALUES, "prompt": None},
                {**VALUES, "prompt": ["x"]},
                {**VALUES, "first": None},
                {**VALUES, "first": "3"},
                {**VALUES, "first": 3.5},
                {**VALUES, "last": "7"},
                {**VALUES, "last": [7]},
                {**VALUES, "result": "done"},
                {**VALUES, "result": [RESULT]},
                {**VALUES, "result": 3},
            )
        ),
    ],
)
def test_a_damaged_record_is_as_if_absent(directory: Path, content: bytes) -> None:
    directory.mkdir()
    (directory / f"{ONE}.json").write_bytes(content)
    records = Records(str(directory))
    assert records.get(ONE) is None
    records.save(RECORD)
    assert Records(str(directory)).get(ONE) == RECORD


def test_a_record_of_any_size_is_read_only_to_a_bound(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    directory.mkdir()
    with (directory / f"{ONE}.json").open("wb") as file:
        file.write(json.dumps(VALUES).encode())
        file.truncate(10**12)  # it takes no room on the disk
    assert Records(str(directory)).get(ONE) is None


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Callable[[Path], object]]:
    """What could stand in the place of a file, by name."""
    target = tmp_path / "target"
    target.write_text(json.dumps(VALUES))
    return {
        "a directory": os.mkdir,
        "a FIFO": os.mkfifo,
        "a link": lambda path: path.symlink_to(target),
        "a device": lambda path: path.symlink_to("/dev/zero"),
    }


PLACES = ["a directory", "a FIFO", "a link", "a device"]


@pytest.mark.parametrize("place", PLACES)
def test_in_the_place_of_a_record_nothing_else_is_read(
    directory: Path, places: dict[str, Callable[[Path], object]], place: str
) -> None:
    directory.mkdir()
    places[place](directory / f"{ONE}.json")
    records = Records(str(directory))
    before = set(os.listdir("/proc/self/fd"))
    assert records.get(ONE) is None
    assert set(os.listdir("/proc/self/fd")) <= before  # nothing stays open
    records.keep(RECORD)
    assert records.get(ONE) == RECORD
    assert json.loads((directory.parent / "target").read_text()) == VALUES


@pytest.mark.parametrize("place", PLACES)
def test_nothing_that_waits_where_a_record_is_written_holds_it_up_or_is_written_to(
    directory: Path, places: dict[str, Callable[[Path], object]], place: str
) -> None:
    directory.mkdir()
    way = directory / f"{ONE}.json.new"
    places[place](way)
    records = Records(str(directory))
    saving = threading.Thread(target=records.keep, args=(Record(ONE, "", 0),), daemon=True)
    saving.start()
    saving.join(PATIENCE_SECONDS)
    held_up = saving.is_alive()
    if held_up:
        os.close(os.open(way, os.O_RDONLY | os.O_NONBLOCK))
        saving.join()
    assert not held_up
    assert records.get(ONE) == Record(ONE, "", 0)
    assert json.loads((directory.parent / "target").read_text()) == VALUES


def test_a_record_that_cannot_be_written_is_an_error(directory: Path) -> None:
    directory.write_text("no directory")
    with pytest.raises(NotRecorded, match="File exists"):
        Records(str(directory)).save(RECORD)
    assert directory.read_text() == "no directory"


def test_a_result_that_cannot_be_written_is_written_with_the_next_record(directory: Path) -> None:
    directory.write_text("no directory")
    records = Records(str(directory))
    records.keep(RECORD)
    directory.unlink()
    records.save(Record(ONE[:-1] + "9", "", 0))
    assert Records(str(directory)).get(ONE) == RECORD


def test_results_that_cannot_be_written_are_remembered_for_those_who_wait(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records_module, "KEPT_IN_MEMORY", 2)
    said: list[str] = []
    monkeypatch.setattr(records_module, "log", said.append)
    directory.write_text("no directory")
    records = Records(str(directory))
    written = [Record(ONE[:-1] + digit, "", 0) for digit in "123"]
    for record in written:
        records.keep(record)
    assert [records.get(record.turn_id) for record in written] == [None, *written[1:]]
    assert len(said) == 4
    assert said[0].startswith(f"could not write the record of turn {ONE}: ")


def test_a_record_that_json_cannot_carry_is_remembered_all_the_same(directory: Path) -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    record = Record(ONE, "", 0, 0, sent=True, result={"status": "completed", "x": deep})
    records = Records(str(directory))
    records.keep(record)
    assert records.get(ONE) is record
    assert Records(str(directory)).get(ONE) is None
