from __future__ import annotations

import argparse

import pytest

from claude_mcp import __version__
from claude_mcp.cli.grammar import ALIASES, COMMANDS
from claude_mcp.cli.parser import parse


def parsed(*argv: str) -> dict[str, object]:
    arguments = parse(list(argv))
    assert isinstance(arguments, argparse.Namespace)
    return {key: value for key, value in vars(arguments).items() if key != "rest"}


GLOBAL = {"engine": None, "engine_host": None, "config": None, "debug": False}


def test_global_flags_may_stand_on_either_side_of_the_command() -> None:
    expected: dict[str, object]
    expected = {"engine": "podman", "config": "c.toml", "debug": True, "command": "list"}
    expected |= {"engine_host": "ssh://box", "quick": False}
    flags = ["--engine", "podman", "--engine-host=ssh://box", "--config=c.toml", "--debug"]
    assert parsed(*flags, "list") == {**expected, "json": False}
    assert parsed("list", *flags, "--json") == {**expected, "json": True}


def test_what_follows_the_session_belongs_to_the_command_that_is_run_there() -> None:
    assert parsed("exec", "--timeout", "5", "fix", "--", "ls", "--json", "-l") == {
        **GLOBAL,
        "command": "exec",
        "timeout": 5.0,
        "workdir": None,
        "wait": None,
        "detach": False,
        "command_id": None,
        "stdin": False,
        "tty": False,
        "json": False,
        "session": "fix",
        "words": ["ls", "--json", "-l"],
    }


def test_options_may_stand_between_a_session_and_its_prompt() -> None:
    arguments = parsed("prompt", "fix", "--model", "m", "-v", "do it", "--json")
    assert (arguments["session"], arguments["prompt"], arguments["model"]) == ("fix", "do it", "m")
    assert parsed("destroy", "a", "--yes", "b", "--json")["sessions"] == ["a", "b"]


def test_a_prompt_has_options_for_one_turn() -> None:
    plain = {
        **GLOBAL,
        "command": "prompt",
        "session": "fix",
        "prompt": "do it",
        "tools": None,
        "model": None,
        "max_turns": None,
        "max_budget_usd": None,
        "new_conversation": False,
        "turn_id": None,
        "queue": False,
        "wait": None,
        "detach": False,
        "answerable": False,
        "output_schema": None,
        "verbose": False,
        "quiet": False,
        "json": False,
    }
    assert parsed("prompt", "fix", "do it") == plain
    given = ["--tools=Read", "--turn-id", "t", "--queue", "--wait", "0.5", "--detach", "-v"]
    assert parsed("prompt", *given, "fix", "--json", "do it") == {
        **plain,
        "tools": "Read",
        "turn_id": "t",
        "queue": True,
        "wait": 0.5,
        "detach": True,
        "verbose": True,
        "json": True,
    }


def test_hosts_are_allowed_one_by_one() -> None:
    given = ["create", "p", "--network", "restricted", "--allow", "pypi.org", "--allow=*.a.example"]
    arguments = parsed(*given)
    assert (arguments["network"], arguments["allow"]) == (
        "restricted",
        ["pypi.org", "*.a.example"],
    )
    plain = parsed("create", "p")
    assert (plain["network"], plain["allow"]) == (None, [])


def test_a_turn_is_the_latest_unless_it_is_named() -> None:
    latest = {
        **GLOBAL,
        "command": "turn",
        "session": "fix",
        "turn": None,
        "wait": None,
        "cursor": None,
        "event": None,
        "follow": False,
        "verbose": False,
        "quiet": False,
        "json": False,
    }
    assert parsed("turn", "fix") == latest
    assert parsed("turn", "fix", "--cursor=0", "t", "--wait", "5", "-v", "--json") == {
        **latest,
        "turn": "t",
        "wait": 5.0,
        "cursor": 0,
        "verbose": True,
        "json": True,
    }
    assert parsed("turn", "fix", "--event", "7") == {**latest, "event": 7}


def test_cancel_is_for_the_running_turn_unless_one_is_named() -> None:
    running = {**GLOBAL, "command": "cancel", "session": "fix", "turn": None, "json": False}
    assert parsed("cancel", "fix") == running
    assert parsed("cancel", "fix", "t", "--json") == {**running, "turn": "t", "json": True}


def test_aliases_are_their_commands() -> None:
    assert {parsed(alias, "a", "b")["command"] for alias in ("cp", "rm", "execute")} == {
        "copy", "destroy", "prompt"
    }  # fmt: skip
    assert parsed("create-session", ".")["command"] == "create"
    assert parsed("ls")["command"] == "list"
    assert set(ALIASES.values()) <= set(COMMANDS)


def test_a_dash_is_a_prompt_and_not_a_flag() -> None:
    assert parsed("prompt", "fix", "-")["prompt"] == "-"
    assert parsed("prompt", "fix")["prompt"] is None
    assert parsed("prompt", "fix", "--", "--help")["prompt"] == "--help"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ["lst"],
            "claude-mcp: there is no command 'lst'; did you mean 'list'?\n"
            "See 'claude-mcp --help'.\n",
        ),
        (
            ["xyzzy"],
            f"claude-mcp: there is no command 'xyzzy'; there are {', '.join(COMMANDS)}\n"
            "See 'claude-mcp --help'.\n",
        ),
        (
            ["list", "--jsn"],
            "claude-mcp: '--jsn' was not expected; did you mean '--json'?\n"
            "See 'claude-mcp list --help'.\n",
        ),
        (
            ["create", "--nmae=x", "."],
            "claude-mcp: '--nmae=x' was not expected; did you mean '--name'?\n"
            "See 'claude-mcp create --help'.\n",
        ),
        (
            ["exec", "fix", "--timeout=5", "ls"],
            "claude-mcp: '--timeout=5' was not expected there: flags go before SESSION\n"
            "See 'claude-mcp exec --help'.\n",
        ),
        (
            ["create"],
            "claude-mcp: PROJECT is missing\nSee 'claude-mcp create --help'.\n",
        ),
        (
            ["turn", "fix", "--cursor", "last"],
            "claude-mcp: --cursor takes a whole number, not 'last'\n"
            "See 'claude-mcp turn --help'.\n",
        ),
        (
            ["prompt", "fix", "do it", "--wait", "long"],
            "claude-mcp: --wait takes a number, not 'long'\nSee 'claude-mcp prompt --help'.\n",
        ),
        (
            ["cancel", "fix", "--detatch"],
            "claude-mcp: '--detatch' was not expected\nSee 'claude-mcp cancel --help'.\n",
        ),
        (
            ["prompt", "fix", "do it", "--detatch"],
            "claude-mcp: '--detatch' was not expected; did you mean '--detach'?\n"
            "See 'claude-mcp prompt --help'.\n",
        ),
        (
            ["logs", "fix", "--tail", "all"],
            "claude-mcp: --tail takes a whole number, not 'all'\nSee 'claude-mcp logs --help'.\n",
        ),
    ],
)
def test_a_wrong_command_line_is_explained_with_a_suggestion(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parse(argv) == 2
    assert capsys.readouterr() == ("", said)


def test_no_command_prints_the_help_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse([]) == 2
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[0]) == (
        "",
        "usage: claude-mcp [--engine E] [--engine-host URL] [--config FILE] [--debug] COMMAND ...",
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parse([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"usage: claude-mcp {command} ")
    assert f"example:\n  {COMMANDS[command][1].splitlines()[0]}" in out


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["--help"]) == 0
    out, _ = capsys.readouterr()
    listed = out.partition("commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == list(COMMANDS)


def test_the_version_is_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["--version"]) == 0
    assert capsys.readouterr() == (f"claude-mcp {__version__}\n", "")


def test_no_flag_takes_a_credential(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        parse([command, "--help"])
        assert "key" not in capsys.readouterr().out.lower().replace("env:my_key", "").replace(
            "apikey=", ""
        )
