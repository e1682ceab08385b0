"""The program in process, on a fake engine: what goes to stdout, what to stderr, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit import fake_engine
from tests.unit.cli.conftest import API_KEY, Input, Run
from tests.unit.sessions import fake_turns


def test_create_prints_the_id_and_nothing_else(run: Run, project: Path) -> None:
    code, out, err = run("create", str(project), "--name", "fix-tests")
    assert (code, err) == (0, "")
    assert [each["sessionId"] for each in sessions(run)] == [out.strip()]


def test_create_reports_progress_with_verbose(run: Run, project: Path) -> None:
    _, _, err = run("create", str(project), "--name", "fix-tests", "--verbose")
    assert err.splitlines() == [
        "  creating container claude-mcp-fix-tests from image claude-code-custom:latest",
        "  starting the session",
        "Session fix-tests is ready. Next: claude-mcp prompt fix-tests '...'",
    ]


def test_create_warns_of_a_project_with_lfs_in_an_image_without_it(run: Run, project: Path) -> None:
    (project / ".git/objects").mkdir(parents=True)
    create = ("create", str(project), "--image", "plain:latest", "--name")
    assert "git-lfs" not in run(*create, "one")[2]
    (project / ".gitattributes").write_text("*.bin filter=lfs\n")
    assert "image plain:latest has no git-lfs" in run(*create, "two")[2]


def test_create_says_that_nobody_is_known_to_commit(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("AUTHOR", "COMMITTER"):
        for what in ("NAME", "EMAIL"):
            monkeypatch.delenv(f"GIT_{name}_{what}", raising=False)
    monkeypatch.delenv("EMAIL", raising=False)
    assert "who commits" not in run("create", str(project), "--name", "one")[2]
    (project / ".git").mkdir()
    assert "git does not say who commits" in run("create", str(project), "--name", "two")[2]


def test_create_takes_a_relative_project(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    code, out, _ = run("create", ".", "--name", "fix-tests", "--json")
    assert (code, json.loads(out)["projectPath"]) == (0, str(project))


def test_create_passes_every_option_on(run: Run, project: Path, tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text('{"mcpServers": {"files": {"command": "npx"}}}')
    mount = f"--mount={project}:/data:rw"
    arguments = ["--name=a", "--image=b:1", "--model=m", "--strict-permissions", mount]
    code, out, _ = run("create", str(project), *arguments, "--mcp-config", str(file), "--json")
    created = json.loads(out)
    moment = created.pop("createdAt")
    assert moment.endswith("Z")
    assert (code, created) == (
        0,
        {
            "sessionId": created["sessionId"],
            "sessionName": "a",
            "containerName": "claude-mcp-a",
            "projectPath": str(project),
            "image": "b:1",
            "engine": "docker",
            "provider": "anthropic",
            "status": "running",
            "expiresAt": None,
            "network": "open",
            "ports": [],
            "mcpServers": [{"name": "files", "status": "connected", "error": None}],
            "warnings": [],
            "engineReason": None,
        },
    )


def test_create_drops_a_limit_that_the_engine_cannot_set(
    run: Run, program: Path, project: Path
) -> None:
    code, out, err = run("create", str(project), "--image=no-cpu:latest", "--cpus=1")
    assert code == 0
    assert err == (
        "warning: Docker cannot limit this session's CPU here: OCI runtime error: crun: the "
        "requested cgroup controller `cpu` is not available.\n"
    )
    assert fake_engine.calls(program) == ["version", "create", "start", "rm", "create", "start"]
    assert [each["sessionId"] for each in sessions(run)] == [out.strip()]


def test_create_makes_sessions_with_a_restricted_network_or_none(
    run: Run, program: Path, project: Path
) -> None:
    restricted = ["--network=restricted", "--allow", "pypi.org", "--allow=*.example.org:8443"]
    code, out, err = run("create", str(project), "--name=a", *restricted, "--json", "--verbose")
    assert (code, json.loads(out)["network"]) == (0, "restricted")
    assert "  starting its proxy\n" in err
    assert run("create", str(project), "--name=b", "--network", "none")[0] == 0
    found = {each["sessionName"]: each for each in sessions(run)}
    assert {name: each["network"] for name, each in found.items()} == {
        "a": "restricted",
        "b": "none",
    }
    labels = {
        each["name"]: each["labels"] for each in fake_engine.Engine(program.parent).containers()
    }
    policy = json.loads(labels["claude-mcp-a"]["claude-mcp.proxy"])["policy"]
    assert json.loads(policy)["allowed"] == ["*.example.org:8443", "pypi.org"]
    assert len(labels) == 3
    code, out, err = run("destroy", "a", "b", "--yes")
    assert (code, out.count("\n"), err) == (0, 2, "")
    assert fake_engine.Engine(program.parent).containers() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--network=bridge"], "claude-mcp: --network must be open, restricted or none."),
        (
            ["--allow=pypi.org"],
            "claude-mcp: --allow requires the network 'restricted'; this session's network is "
            "'open'.",
        ),
        (
            ["--network=restricted", "--allow=https://pypi.org"],
            "claude-mcp: --allow: 'https://pypi.org' is not a valid host.",
        ),
    ],
)
def test_an_invalid_network_is_refused_before_anything_is_created(
    run: Run, program: Path, project: Path, arguments: list[str], said: str
) -> None:
    code, out, err = run("create", str(project), *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(said)
    assert fake_engine.calls(program) == ["version"]


def test_the_configured_times_reach_the_agent_s_settings(
    run: Run, program: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_MCP_IDLE_SECONDS", "90.5")
    monkeypatch.setenv("CLAUDE_MCP_PERMISSION_SECONDS", "20")
    code, _, _ = run("create", str(project), "--model", "m", "--trust-project")
    assert (code, fake_turns.settings(program)) == (
        0,
        {
            "model": "m",
            "permissionMode": "bypass",
            "idleSeconds": 90.5,
            "permissionSeconds": 20.0,
            "trustProject": True,
        },
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read: No such file or directory."),
        ("{", "is not valid JSON: "),
        ("[]", "has no object 'mcpServers'."),
    ],
)
def test_a_bad_mcp_configuration_is_refused_before_anything_is_created(
    run: Run, program: Path, project: Path, tmp_path: Path, text: str | None, said: str
) -> None:
    file = tmp_path / "mcp.json"
    if text is not None:
        file.write_text(text)
    code, out, err = run("create", str(project), "--mcp-config", str(file))
    assert (code, out) == (2, "")
    assert err.startswith(f"claude-mcp: The MCP configuration {file} {said}")
    assert fake_engine.calls(program) == []


SERVERS = {"files": {"command": "npx", "env": {"TOKEN": "tok-0123456789"}}}


def test_create_reads_mcp_servers_from_stdin(
    run: Run, program: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"mcpServers": SERVERS}
    monkeypatch.setattr("sys.stdin", Input(json.dumps(config).encode()))
    assert run("create", str(project), "--mcp-config", "-")[0] == 0
    assert json.loads((program.parent / "servers").read_text()) == config


def test_create_warns_about_a_failed_mcp_server(run: Run, project: Path, tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    servers = {**SERVERS, "db": {"command": "missing"}}
    file.write_text(json.dumps({"mcpServers": servers}))
    code, _, err = run("create", str(project), "--mcp-config", str(file))
    assert (code, err) == (
        0,
        "warning: MCP server db failed: there is no program 'missing'.\n",
    )


def test_create_refuses_malformed_mcp_servers(
    run: Run, program: Path, project: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mcp.json"
    file.write_text('{"mcpServers": {"db": {"url": "https://me:s3cr3t@db"}}}')
    assert run("create", str(project), "--mcp-config", str(file)) == (
        2,
        "",
        "claude-mcp: --mcp-config is invalid: mcpServers.db has a url but no type (http or sse).\n"
        "A server is {command, args, env}, or {type: http or sse, url, headers}.\n",
    )
    assert set(fake_engine.calls(program)) <= {"version"}, "only asked which engine it is"


def test_without_mcp_servers_the_agent_is_not_asked_for_their_status(
    run: Run, program: Path, project: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mcp.json"
    file.write_text('{"mcpServers": {}}')
    for arguments in ((), ("--mcp-config", str(file))):
        before = len(fake_engine.calls(program))
        assert run("create", str(project), *arguments)[0] == 0
        assert fake_engine.calls(program)[before:] == ["version", "create", "start"]


def test_exec_passes_streams_and_exit_code_through(run: Run, session: str) -> None:
    assert run("exec", session, "echo out; echo err >&2; exit 3") == (3, "out\n", "err\n")


def test_exec_with_several_words_is_one_program_and_its_arguments(run: Run, session: str) -> None:
    words = ["printf", "%s|", "a b", "$HOME", "'", "--json"]
    assert run("exec", session, "--", *words) == (0, "a b|$HOME|'|--json|", "")


def test_exec_reports_truncated_output_and_a_killed_command(run: Run, session: str) -> None:
    assert run("exec", session, "much") == (
        0,
        "head\ntail\n",
        "claude-mcp: output cut in the middle: stdout: 1000 of 4195304 bytes left out\n",
    )
    assert run("exec", "--timeout=2", session, "slow") == (
        124,
        "",
        "claude-mcp: killed at its time limit of 2 s\n",
    )


def test_exec_without_a_command_is_refused(run: Run, session: str) -> None:
    said = "claude-mcp: No command was given.\nSee 'claude-mcp exec --help'.\n"
    assert run("exec", session, "--") == (2, "", said)


def test_a_forged_answer_is_printed_as_far_as_possible(run: Run, session: str) -> None:
    assert run("exec", session, "forge") == (0, "?\x1b]0;title\x07", "")


def test_a_secret_is_not_printed(run: Run, session: str) -> None:
    assert run("exec", session, f"echo {API_KEY}") == (0, "[redacted]\n", "")


def sessions(run: Run) -> list[dict[str, Any]]:
    code, out, err = run("list", "--json")
    assert (code, err) == (0, "")
    listed: list[dict[str, Any]] = json.loads(out)["sessions"]
    return listed


def test_list_is_a_table(run: Run, session: str, project: Path) -> None:
    created = sessions(run)[0]["createdAt"]
    code, out, err = run("list")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "ID            NAME       STATUS   TURN  CREATED               EXPIRES  IMAGE"
        "                      PROJECT",
        f"{session}  fix-tests  running  idle  {created}  -        claude-code-custom:latest"
        f"  {project}",
    ]


def test_a_name_cannot_steer_the_terminal_or_add_a_line(run: Run, project: Path) -> None:
    run("create", str(project), "--name", "a\n\x1b[31mred")
    code, out, _ = run("list")
    assert (code, len(out.splitlines())) == (0, 2)
    assert "  a \ufffd[31mred  " in out


def test_an_empty_list_prints_nothing_on_stdout(run: Run) -> None:
    assert run("list") == (0, "", "")
    assert run("list", "--json") == (
        0,
        '{\n  "sessions": [],\n  "cursor": null,\n  "unreachable": {}\n}\n',
        "",
    )


def test_logs_are_lines(run: Run, session: str) -> None:
    line = "2026-01-02T03:04:05.000000000Z session started"
    assert run("logs", session, "--tail", "5") == (0, f"{line}\n", "")
    code, out, _ = run("logs", session, "--json")
    assert (code, json.loads(out)) == (
        0,
        {
            "sessionId": session,
            "sessionName": "fix-tests",
            "status": "running",
            "lines": [line],
            "before": None,
        },
    )


def test_destroy_takes_several_sessions_and_continues_after_a_failure(
    run: Run, session: str
) -> None:
    code, out, err = run("destroy", "", "gone", "fix-tests")
    assert (code, out) == (2, f"{session}\n")
    assert err.splitlines() == [
        "claude-mcp: A session is named by its id, a prefix of its id, or its name; '' is none "
        "of these.",
        "claude-mcp: There is no session 'gone'.",
        f"Existing sessions: {session} (fix-tests).",
    ]
    assert sessions(run) == []


def test_destroy_of_a_mistyped_name_fails_with_the_nearest_one(run: Run, session: str) -> None:
    said = "claude-mcp: There is no session 'fix-test'.\nDid you mean 'fix-tests'?\n"
    assert run("destroy", "fix-test") == (3, "", said)
    assert len(sessions(run)) == 1


def test_destroy_of_an_id_can_be_repeated(run: Run, session: str) -> None:
    assert run("destroy", session)[0] == 0
    said = f"Session {session!r} does not exist (any more).\n"
    assert run("destroy", session) == (0, "", said)


def test_destroy_as_json(run: Run, session: str) -> None:
    code, out, _ = run("destroy", session, "--json")
    destroyed = {
        "sessionId": session,
        "sessionName": "fix-tests",
        "existed": True,
    }
    entry = {**destroyed, "error": None}
    shown = {**destroyed, "warnings": [], "sessions": [entry]}
    assert (code, json.loads(out)) == (0, {"destroyed": [shown]})


def test_mine_are_those_that_the_command_line_created(
    run: Run, session: str, project: Path
) -> None:
    assert run("create", str(project), "--name", "own")[0] == 0
    assert run("destroy", "--mine")[0] == 2
    code, out, err = run("destroy", "--mine", "--yes")
    assert (code, len(out.split()), err) == (0, 1, "")
    assert [each["sessionName"] for each in sessions(run)] == ["fix-tests"]
    assert run("destroy", "--mine") == (0, "", "No session was created here.\n")


@pytest.mark.parametrize(("answer", "left"), [(b"y\n", 0), (b"n\n", 1), (b"", 1)])
def test_destroy_all_asks_at_a_terminal(
    run: Run, session: str, monkeypatch: pytest.MonkeyPatch, answer: bytes, left: int
) -> None:
    monkeypatch.setattr("sys.stdin", Input(answer, terminal=True))
    code, _, err = run("destroy", "--all")
    assert "Destroy it? [y/N] " in err
    assert (code, len(sessions(run))) == (2 if left else 0, left)


def test_destroy_all_without_a_terminal_requires_yes(
    run: Run, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Input(b"y\n"))
    code, _, err = run("destroy", "--all")
    assert code == 2
    assert err.endswith(
        "claude-mcp: Nothing was destroyed: confirmation needs a terminal.\nAdd --yes.\n"
    )
    assert run("destroy", "--all", "--yes") == (0, f"{session}\n", "")


def test_destroy_takes_names_or_all_but_not_both(run: Run, program: Path) -> None:
    assert run("destroy")[0] == run("destroy", "--all", "a")[0] == 2
    assert run("destroy", "--all", "--mine")[0] == run("destroy", "--mine", "a")[0] == 2
    assert fake_engine.calls(program) == []


def test_copy_of_a_missing_file_is_refused(run: Run, session: str, tmp_path: Path) -> None:
    code, out, err = run("copy", str(tmp_path / "missing"), f"{session}:/tmp/")
    assert (code, out) == (2, "")
    assert err == f"claude-mcp: '{tmp_path}/missing' does not exist on the host.\n"


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (
            ("create", "/nowhere"),
            2,
            "claude-mcp: The project directory '/nowhere' does not exist.\n",
        ),
        (
            ("exec", "nope", "ls"),
            3,
            "claude-mcp: There is no session 'nope'.\nThere are no "
            "sessions. Use 'claude-mcp create'.\n",
        ),
        (
            ("--engine", "/nowhere/docker", "list"),
            5,
            "claude-mcp: '/nowhere/docker' is not installed or not on PATH.\n"
            "Install it, or choose another engine with CLAUDE_MCP_ENGINE.\n",
        ),
        (
            ("--config", "/nowhere.toml", "list"),
            2,
            "claude-mcp: There is no configuration file /nowhere.toml.\n",
        ),
    ],
)
def test_an_error_is_its_message_its_hint_and_its_exit_code(
    run: Run, argv: tuple[str, ...], code: int, said: str
) -> None:
    assert run(*argv) == (code, "", said)


def test_an_unexpected_error_is_named_and_points_to_debug(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_MCP_CONFIG", "/tmp")
    monkeypatch.setattr("claude_mcp.cli.dispatch.PERFORM", {})
    monkeypatch.delenv("CLAUDE_MCP_CONFIG")
    assert run("list") == (
        1,
        "",
        "claude-mcp: internal error: KeyError: 'list'\n"
        "Run it again with --debug to see the traceback.\n",
    )


def test_a_missing_image_says_how_to_get_one(run: Run, project: Path) -> None:
    code, out, err = run("create", str(project), "--image", "missing:latest")
    assert (code, out) == (5, "")
    assert err.splitlines() == [
        "claude-mcp: Docker has no image missing:latest.",
        "Build the session image with 'claude-mcp image build', or name another with "
        "DEFAULT_CLAUDE_IMAGE.",
    ]


def test_credentials_are_read_from_a_variable(
    run: Run, session: str, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-own-in-a-variable")
    typed = "--provider-option=apiKey=env:MY_KEY"
    refused = run("credentials", session, typed)
    assert refused == (
        2,
        "",
        "claude-mcp: The session 'fix-tests' uses the server's credentials and gets them "
        "automatically.\nFor other credentials, create a session with those.\n",
    )


def test_without_options_a_session_gets_the_server_s_current_credentials(
    run: Run, session: str
) -> None:
    code, out, _ = run("credentials", session, "--json")
    result = json.loads(out)
    assert (code, result["credentials"], result["mcpServers"]) == (0, "server", [])


def test_credentials_also_sets_mcp_servers(
    run: Run, session: str, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"mcpServers": {"files": {"command": "npx"}}}
    monkeypatch.setattr("sys.stdin", Input(json.dumps(config).encode()))
    code, out, _ = run("credentials", session, "--mcp-config=-", "--json")
    assert (code, json.loads(out)["mcpServers"]) == (0, ["files"])
    assert json.loads((program.parent / "servers").read_text()) == config


def test_published_ports_are_told_and_listed(run: Run, session: str, project: Path) -> None:
    assert "PORTS" not in run("list")[1]
    code, out, err = run("create", str(project), "--name", "web", "--port", "3000", "--port", "80")
    first, second = (each["hostPort"] for each in sessions(run)[-1]["ports"])
    assert (code, len(out.splitlines())) == (0, 1)
    assert f"Port 3000 of session web is http://127.0.0.1:{first}\n" in err
    assert f"Port 80 of session web is http://127.0.0.1:{second}\n" in err
    head, *rows = run("list")[1].splitlines()
    at = head.index("PORTS")
    assert {row[at:].split("  ")[0] for row in rows} == {"-", f"{first}:3000 {second}:80"}
