"""Flags > environment > TOML file > defaults."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_mcp.config import DEFAULT_IMAGE, IDLE_SECONDS, Config, load
from claude_mcp.credentials import Secret
from claude_mcp.errors import ConfigError


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """What a host of MCP servers passes on at least."""
    return {"HOME": str(tmp_path), "PATH": "/bin", "XDG_RUNTIME_DIR": "/run/user/1"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The default configuration file; not there until a test writes it."""
    path = tmp_path / ".config" / "claude-mcp" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


def test_nothing_set_gives_the_defaults(environ: dict[str, str]) -> None:
    assert load(environ) == Config(
        environment=environ,
        engine=None,
        image=DEFAULT_IMAGE,
        debug=False,
        api_key=None,
        auth_token=None,
        oauth_token=None,
        base_url=None,
        model=None,
        small_fast_model=None,
        idle_seconds=IDLE_SECONDS,
        limits={},
        max_sessions=None,
        session_timeout_seconds=None,
        session_idle_seconds=None,
        read_only_root=False,
        runtime=None,
        proxies={},
    )


def test_every_variable_has_its_place(environ: dict[str, str]) -> None:
    settings = {
        "ANTHROPIC_API_KEY": "sk-key-000",
        "ANTHROPIC_AUTH_TOKEN": "token-000",
        "CLAUDE_CODE_OAUTH_TOKEN": "oauth-000",
        "ANTHROPIC_BASE_URL": "https://gateway.example",
        "ANTHROPIC_MODEL": "big",
        "ANTHROPIC_SMALL_FAST_MODEL": "small",
        "CLAUDE_MCP_ENGINE": "podman",
        "CLAUDE_MCP_IDLE_SECONDS": "90",
        "CLAUDE_MCP_MEMORY": "4g",
        "CLAUDE_MCP_CPUS": "1.5",
        "CLAUDE_MCP_PIDS": "512",
        "CLAUDE_MCP_DISK": "10g",
        "CLAUDE_MCP_READ_ONLY_ROOTFS": "yes",
        "CLAUDE_MCP_RUNTIME": "runsc",
        "MAX_CONCURRENT_SESSIONS": "3",
        "DEFAULT_SESSION_TIMEOUT": "86400",
        "DEFAULT_SESSION_IDLE_TIMEOUT": "7200",
        "DEFAULT_CLAUDE_IMAGE": "mine:1",
        "MCP_CLAUDE_DEBUG": "1",
        "HTTPS_PROXY": "http://proxy:3128",
        "no_proxy": "localhost",
    }
    loaded = load({**environ, **settings})
    without_secrets = {
        name: value
        for name, value in settings.items()
        if name not in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
    }
    assert loaded == Config(
        environment={**environ, **without_secrets},
        engine="podman",
        image="mine:1",
        debug=True,
        api_key=Secret("sk-key-000"),
        auth_token=Secret("token-000"),
        oauth_token=Secret("oauth-000"),
        base_url="https://gateway.example",
        model="big",
        small_fast_model="small",
        idle_seconds=90.0,
        limits={"memory": "4g", "cpus": "1.5", "pids": "512", "disk": "10g"},
        max_sessions=3,
        session_timeout_seconds=86400.0,
        session_idle_seconds=7200.0,
        read_only_root=True,
        runtime="runsc",
        proxies={"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "localhost"},
    )


def test_the_file_holds_the_same_names(environ: dict[str, str], file: Path) -> None:
    file.write_text(
        'ANTHROPIC_API_KEY = "sk-key-001"\n'
        'DOCKER_HOST = "unix:///d.sock"\n'
        'XDG_RUNTIME_DIR = "/run/user/2"\n'
        "MCP_CLAUDE_DEBUG = true\n"
    )
    assert load(environ) == Config(
        environment={
            **environ,
            "DOCKER_HOST": "unix:///d.sock",
            "XDG_RUNTIME_DIR": "/run/user/1",  # the environment wins over the file
        },
        debug=True,
        api_key=Secret("sk-key-001"),
    )


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("60", 60.0),
        ("0.5", 0.5),
        ("1_800", 1800.0),
        ("1e3", 1000.0),
        ('"90"', 90.0),
        ('""', 1800.0),
    ],
)
def test_the_idle_time_in_the_file_may_be_a_number_or_its_text(
    environ: dict[str, str], file: Path, written: str, seconds: float
) -> None:
    file.write_text(f"CLAUDE_MCP_IDLE_SECONDS = {written}\n")
    assert load(environ).idle_seconds == seconds


def test_the_idle_time_in_the_environment_wins_over_the_file(
    environ: dict[str, str], file: Path
) -> None:
    file.write_text("CLAUDE_MCP_IDLE_SECONDS = 60\n")
    assert load({**environ, "CLAUDE_MCP_IDLE_SECONDS": "7.5"}).idle_seconds == 7.5
    assert load({**environ, "CLAUDE_MCP_IDLE_SECONDS": ""}).idle_seconds == 60.0


IDLE_COMPLAINT = "CLAUDE_MCP_IDLE_SECONDS must be a number of seconds, more than 0."


@pytest.mark.parametrize("value", ["0", "-1", "soon", "30m", "nan", "inf", "1e999", " "])
def test_an_idle_time_that_is_none_is_refused(environ: dict[str, str], value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({**environ, "CLAUDE_MCP_IDLE_SECONDS": value})
    assert str(caught.value) == IDLE_COMPLAINT


@pytest.mark.parametrize("written", ["0", "-0.5", "nan", "inf", '"soon"'])
def test_an_idle_time_in_the_file_that_is_none_is_refused(
    environ: dict[str, str], file: Path, written: str
) -> None:
    file.write_text(f"CLAUDE_MCP_IDLE_SECONDS = {written}\n")
    with pytest.raises(ConfigError) as caught:
        load(environ)
    assert str(caught.value) == IDLE_COMPLAINT


def test_a_flag_wins_over_the_environment_and_that_over_the_file(
    environ: dict[str, str], file: Path
) -> None:
    file.write_text(
        'CLAUDE_MCP_ENGINE = "file"\nDEFAULT_CLAUDE_IMAGE = "file"\nANTHROPIC_MODEL = "file"\n'
    )
    environ |= {"CLAUDE_MCP_ENGINE": "environment", "DEFAULT_CLAUDE_IMAGE": "environment"}
    loaded = load(environ, engine="flag")
    assert (loaded.engine, loaded.image, loaded.model) == ("flag", "environment", "file")
    assert load(environ, image="flag").image == "flag"


def test_a_debug_flag_wins_in_both_directions(environ: dict[str, str]) -> None:
    assert load({**environ, "MCP_CLAUDE_DEBUG": "1"}, debug=False).debug is False
    assert load({**environ, "MCP_CLAUDE_DEBUG": "0"}, debug=True).debug is True


@pytest.mark.parametrize("value", ["", "0", "false", "NO", "Off"])
def test_debugging_can_be_denied_in_words(environ: dict[str, str], value: str) -> None:
    assert load({**environ, "MCP_CLAUDE_DEBUG": value}).debug is False


def test_an_empty_variable_counts_as_not_set(environ: dict[str, str], file: Path) -> None:
    file.write_text('ANTHROPIC_MODEL = "file"\n')
    loaded = load({**environ, "ANTHROPIC_MODEL": "", "ANTHROPIC_BASE_URL": ""})
    assert (loaded.model, loaded.base_url) == ("file", None)


@pytest.mark.parametrize("value", [" ", "\n"])
def test_a_blank_secret_is_none(environ: dict[str, str], value: str) -> None:
    assert load({**environ, "ANTHROPIC_API_KEY": value}).api_key is None


def test_a_secret_loses_the_newline_that_its_file_ended_with(environ: dict[str, str]) -> None:
    assert load({**environ, "ANTHROPIC_API_KEY": "sk-key-002\n"}).api_key == Secret("sk-key-002")


def test_no_secret_shows_in_the_printed_configuration(environ: dict[str, str]) -> None:
    loaded = load(
        {**environ, "ANTHROPIC_API_KEY": "sk-key-003", "HTTP_PROXY": "http://me:pass-003@proxy"}
    )
    assert "003" not in repr(loaded)


def test_a_variable_names_another_file(environ: dict[str, str], tmp_path: Path, file: Path) -> None:
    file.write_text('ANTHROPIC_MODEL = "default file"\n')
    other = tmp_path / "other.toml"
    other.write_text('ANTHROPIC_MODEL = "other file"\n')
    environ["CLAUDE_MCP_CONFIG"] = str(other)
    assert load(environ).model == "other file"
    assert load(environ, file=str(file)).model == "default file"


def test_the_default_file_follows_xdg(environ: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "xdg" / "claude-mcp" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text('ANTHROPIC_MODEL = "xdg"\n')
    assert load({**environ, "XDG_CONFIG_HOME": str(tmp_path / "xdg")}).model == "xdg"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ANTHROPIC_MODEL = ", "The configuration file {file} is not valid TOML: Invalid value"),
        (
            'anthropic_api_kye = "x"',
            "The configuration file {file} has an unknown name 'anthropic_api_kye'. "
            "Did you mean ANTHROPIC_API_KEY?",
        ),
        ("zzz = 1", "The configuration file {file} has an unknown name 'zzz'. Known: ANTHROPIC_"),
        (
            "[ANTHROPIC_MODEL]",
            "In {file}, ANTHROPIC_MODEL must be a string.",
        ),
        (
            "CLAUDE_MCP_IDLE_SECONDS = [60]",
            "In {file}, CLAUDE_MCP_IDLE_SECONDS must be a number.",
        ),
        (
            "CLAUDE_MCP_IDLE_SECONDS = 2026-01-02",
            "In {file}, CLAUDE_MCP_IDLE_SECONDS must be a number.",
        ),
        ("ANTHROPIC_MODEL = 3", "In {file}, ANTHROPIC_MODEL must be a string."),
        ("DEFAULT_CLAUDE_IMAGE = true", "In {file}, DEFAULT_CLAUDE_IMAGE must be a string."),
        ("CLAUDE_MCP_IDLE_SECONDS = true", "In {file}, CLAUDE_MCP_IDLE_SECONDS must be a number."),
        ("MCP_CLAUDE_DEBUG = 0", "In {file}, MCP_CLAUDE_DEBUG must be true or false."),
        (b"\xff\xfe", "The configuration file {file} is not UTF-8 text."),
    ],
)
def test_an_unusable_file_is_refused_by_name(
    environ: dict[str, str], file: Path, content: str | bytes, message: str
) -> None:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        load(environ)
    assert str(caught.value).startswith(message.format(file=file))
    assert caught.value.exit_code == 2


def test_a_file_that_was_asked_for_must_be_there(environ: dict[str, str], tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    with pytest.raises(ConfigError) as caught:
        load(environ, file=str(missing))
    assert str(caught.value) == f"There is no configuration file {missing}."


def test_a_directory_is_no_file(environ: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{tmp_path} cannot be read: Is a directory."):
        load(environ, file=str(tmp_path))


def test_an_engine_finds_the_socket_of_a_user_whose_runtime_directory_was_not_passed_on(
    environ: dict[str, str],
) -> None:
    del environ["XDG_RUNTIME_DIR"]
    directory = f"/run/user/{os.geteuid()}"
    added = {"XDG_RUNTIME_DIR": directory} if os.path.isdir(directory) else {}
    assert load(environ).environment == {**environ, **added}
