"""The agent's part in a transfer: staged beside its target, then moved whole, or gone."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.agent import receiving as receiving_module
from claude_mcp.agent.channel.connections import Answer, Request
from claude_mcp.agent.receiving import Receiving
from claude_mcp.placing.staging import PREFIX

if TYPE_CHECKING:
    from tests.unit.agent.conftest import Caller, Connect

PATIENCE_SECONDS = 60.0


@pytest.fixture
def caller(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Caller:
    """A front end of an agent whose project is ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    receiving = Receiving()
    return connect({"receive": receiving.receive, "arrived": receiving.arrived})


def begin(caller: Caller, **args: Any) -> Path:
    """Ask for a transfer and return the staging directory."""
    defaults = {"destination": ".", "name": "new", "directory": False, "overwrite": False}
    caller.send("receive", **{**defaults, **args})
    event = caller.receive()["event"]
    staging = Path(event.pop("staging"))
    assert event == {"uid": os.getuid(), "gid": os.getgid()}
    return staging


def arrive(caller: Caller, staging: Path, **args: int) -> list[dict[str, Any]]:
    """Say that all has arrived; both answers, that to ``receive`` first."""
    caller.send("arrived", staging=str(staging), **args)
    messages = sorted((caller.receive() for _ in range(2)), key=lambda message: message["id"])
    return [{key: value for key, value in each.items() if key != "id"} for each in messages]


def test_what_arrives_is_moved_to_its_place(caller: Caller, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    staging = begin(caller, destination="sub/")
    assert staging.parent == tmp_path / "sub"
    assert staging.name.startswith(PREFIX)
    assert staging.stat().st_mode & 0o777 == 0o700
    (staging / "new").write_text("content")
    assert arrive(caller, staging) == [{"ok": {"path": f"{tmp_path}/sub/new"}}, {"ok": {}}]
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["new"]
    assert (tmp_path / "sub" / "new").read_text() == "content"


def test_an_absolute_destination_is_taken_as_it_is(caller: Caller, tmp_path: Path) -> None:
    staging = begin(caller, destination=f"{tmp_path}/renamed")
    (staging / "new").write_text("content")
    assert arrive(caller, staging)[0] == {"ok": {"path": f"{tmp_path}/renamed"}}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"destination": "old/x", "createParents": True}, "{here}/old cannot be created: File"),
        ({"destination": "old"}, "{here}/old exists already, and overwrite is off"),
        (
            {"destination": "old", "directory": True, "overwrite": True},
            "{here}/old exists and is not a directory",
        ),
        ({"destination": "/proc"}, "/proc: "),
    ],
)
def test_a_destination_that_cannot_be_used_is_refused_before_anything_is_sent(
    caller: Caller, tmp_path: Path, args: dict[str, Any], message: str
) -> None:
    (tmp_path / "old").write_text("old")
    defaults = {"destination": ".", "name": "new", "directory": False, "overwrite": False}
    answer = caller.ask("receive", **{**defaults, **args})
    assert answer["error"]["code"] == "bad-destination"
    assert answer["error"]["message"].startswith(message.format(here=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_missing_directory_is_refused_or_created(caller: Caller, tmp_path: Path) -> None:
    args = {"destination": "a/b/x", "name": "new", "directory": False, "overwrite": False}
    answer = caller.ask("receive", **args)
    assert answer["error"] == {
        "code": "no-directory",
        "message": f"there is no directory {tmp_path}/a/b",
    }
    staging = begin(caller, destination="a/b/x", createParents=True)
    (staging / "new").write_text("content")
    assert arrive(caller, staging)[0] == {"ok": {"path": f"{tmp_path}/a/b/x"}}
    assert (tmp_path / "a" / "b" / "x").read_text() == "content"


def test_created_directories_are_removed_if_nothing_arrives(caller: Caller, tmp_path: Path) -> None:
    staging = begin(caller, destination="a/b/", createParents=True)
    assert arrive(caller, staging)[0]["error"]["code"] == "bad-destination"
    assert [*tmp_path.iterdir()] == []


def test_what_appeared_meanwhile_is_not_overwritten(caller: Caller, tmp_path: Path) -> None:
    staging = begin(caller)
    (staging / "new").write_text("ours")
    (tmp_path / "new").write_text("theirs")
    assert arrive(caller, staging) == [
        {
            "error": {
                "code": "bad-destination",
                "message": f"{tmp_path}/new exists already, and overwrite is off",
            }
        },
        {"ok": {}},
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert (tmp_path / "new").read_text() == "theirs"


def test_a_project_that_was_removed_is_named(caller: Caller, tmp_path: Path) -> None:
    tmp_path.rmdir()
    args = {"destination": ".", "name": "new", "directory": False, "overwrite": False}
    assert caller.ask("receive", **args)["error"] == {
        "code": "bad-destination",
        "message": "the session's working directory: No such file or directory",
    }


def test_what_the_engine_wrote_elsewhere_is_missed(caller: Caller, tmp_path: Path) -> None:
    staging = begin(caller)
    assert arrive(caller, staging)[0]["error"] == {
        "code": "bad-destination",
        "message": f"{tmp_path}/new is on a file system the engine cannot write to",
    }
    assert list(tmp_path.iterdir()) == []


def test_a_tree_of_which_files_are_missing_is_not_placed(caller: Caller, tmp_path: Path) -> None:
    for sent, answer in ((4, "error"), (3, "ok")):
        staging = begin(caller, directory=True)
        (staging / "new" / "sub").mkdir(parents=True)
        (staging / "new" / "file").touch()
        (staging / "new" / "link").symlink_to("file")
        (staging / "new" / "sub" / "file").touch()
        first = arrive(caller, staging, files=sent)[0]
        assert [*first] == [answer]
        if answer == "error":
            assert first["error"]["message"] == "only 3 of 4 files arrived in the session"
            assert list(tmp_path.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_cancelled_transfer_leaves_nothing(caller: Caller, tmp_path: Path) -> None:
    staging = begin(caller)
    (staging / "new").write_text("half")
    caller.send("cancel", id=1)
    assert caller.receive() == {"id": 1, "ok": {}}
    assert list(tmp_path.iterdir()) == []


def test_a_transfer_whose_caller_vanished_leaves_nothing(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    receiving, ended = Receiving(), threading.Event()

    def receive(request: Request) -> Answer:
        try:
            return receiving.receive(request)
        finally:
            ended.set()

    first = connect({"receive": receive})
    staging = begin(first)
    (staging / "new").write_text("half")
    first.hang_up()
    assert ended.wait(PATIENCE_SECONDS)
    assert list(tmp_path.iterdir()) == []
    second = connect({"arrived": receiving.arrived})
    assert second.ask("arrived", staging=str(staging))["error"]["code"] == "no-transfer"


def test_what_is_still_written_after_its_caller_vanished_is_waited_for(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(receiving_module, "QUIET_SECONDS", 0.01)
    weights = iter([0, 1, 5, 5])
    monkeypatch.setattr(receiving_module, "_weight", lambda staged: next(weights))
    ended = threading.Event()
    receiving = Receiving()

    def receive(request: Request) -> Answer:
        try:
            return receiving.receive(request)
        finally:
            ended.set()

    first = connect({"receive": receive})
    (begin(first) / "new").mkdir()
    first.hang_up()
    assert ended.wait(PATIENCE_SECONDS)
    assert (list(tmp_path.iterdir()), list(weights)) == ([], [])


def test_the_weight_of_a_tree_grows_with_every_entry_and_byte(tmp_path: Path) -> None:
    staged = os.open(tmp_path, os.O_RDONLY)
    try:
        assert receiving_module._weight(staged) == 0
        (tmp_path / "directory").mkdir()
        (tmp_path / "directory" / "file").write_text("four")
        assert receiving_module._weight(staged) == 6
    finally:
        os.close(staged)


def test_nothing_arrives_that_was_not_announced(caller: Caller) -> None:
    assert caller.ask("arrived", staging="/etc") == {
        "error": {"code": "no-transfer", "message": "no such transfer is in progress"}
    }
