"""command, commands, stop-command, and exec where it does not wait for the end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.unit.fake_engine import COMMAND_ID

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Run

FOLLOW = f"claude-mcp command fix-tests {COMMAND_ID}"


def test_a_command_is_waited_for_and_gives_its_exit_code(run: Run, session: str) -> None:
    assert run("command", session) == (4, "one\ntwo\n", "three\n")


def test_a_command_that_goes_on_is_told_with_the_way_to_follow_it(run: Run, session: str) -> None:
    said = f"claude-mcp: the command still runs; follow it with '{FOLLOW} --follow'\n"
    assert run("command", session, COMMAND_ID, "--wait=0") == (8, "", said)


def test_following_prints_all_that_comes_and_says_what_is_missing(run: Run, session: str) -> None:
    missing = "claude-mcp: about 5 bytes before this are no longer kept\n"
    assert run("command", session, "--follow") == (4, "one\ntwo\n", f"three\n{missing}")
    refused = "claude-mcp: --follow cannot be combined with --json or --wait.\n"
    assert run("command", session, "--follow", "--wait=1") == (2, "", refused)


def test_commands_are_listed_and_forged_ones_left_out(run: Run, session: str) -> None:
    code, out, err = run("commands", session)
    assert (code, err) == (0, "")
    assert [line.split(maxsplit=4) for line in out.splitlines()] == [
        ["ID", "STATUS", "EXIT", "STARTED", "COMMAND"],
        [COMMAND_ID, "completed", "0", "2026-01-02T03:04:05Z", "ls"],
        [
            COMMAND_ID,
            "running",
            "-",
            "2026-01-02T03:04:05Z",
            "npm run\N{REPLACEMENT CHARACTER} dev",
        ],
    ]
    listed = json.loads(run("commands", session, "--json")[1])["commands"]
    assert [(each["status"], each["exitCode"]) for each in listed] == [
        ("completed", 0),
        ("running", None),
    ]


def test_a_stopped_command_is_told(run: Run, session: str) -> None:
    said = f"claude-mcp: command {COMMAND_ID} is stopped\n"
    assert run("stop-command", session, COMMAND_ID) == (0, "", said)
    assert json.loads(run("stop-command", session, COMMAND_ID, "--json")[1])["status"] == "stopped"
    refused = "claude-mcp: The command's id must be a UUID, and 'x' is not.\n"
    assert run("stop-command", session, "x") == (2, "", refused)


@pytest.mark.parametrize(
    ("option", "answer"), [("--detach", (0, "\n", "")), ("--wait=1", (0, "out\n", ""))]
)
def test_exec_need_not_wait(
    run: Run, session: str, option: str, answer: tuple[int, str, str]
) -> None:
    """The fake session has run it to its end by then, and gives it no id."""
    assert run("exec", option, "--command-id", COMMAND_ID, session, "echo out") == answer
