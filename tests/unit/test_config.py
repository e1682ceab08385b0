"""Flags > environment > TOML file > defaults."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_mcp.config import Config, load, read_file, variable
from claude_mcp.config_names import (
    ALIASES,
    CLOUD_SECRET_NAMES,
    DEFAULT_IMAGE,
    IDLE_SECONDS,
    KINDS,
    PERMISSION_SECONDS,
    TABLE,
    TOOLSETS_NAME,
    Kind,
    Toolset,
)
from claude_mcp.credentials import Secret
from claude_mcp.errors import ConfigError


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The least that a program starting MCP servers passes on."""
    return {"HOME": str(tmp_path), "PATH": "/bin", "XDG_RUNTIME_DIR": "/run/user/1"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The default configuration file; a test has to write it."""
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
        permission_seconds=PERMISSION_SECONDS,
        limits={},
        max_sessions=None,
        session_timeout_seconds=None,
        session_idle_seconds=None,
        read_only_root=False,
        runtime=None,
        network="open",
        allowed_hosts=(),
        private_hosts=(),
        proxy_image=None,
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
        "CLAUDE_MCP_PERMISSION_SECONDS": "5.5",
        "CLAUDE_MCP_MEMORY": "4g",
        "CLAUDE_MCP_CPUS": "1.5",
        "CLAUDE_MCP_PIDS": "512",
        "CLAUDE_MCP_DISK": "10g",
        "CLAUDE_MCP_READ_ONLY_ROOTFS": "yes",
        "CLAUDE_MCP_RUNTIME": "runsc",
        "CLAUDE_MCP_NETWORK": "restricted",
        "CLAUDE_MCP_NETWORK_FIXED": "true",
        "CLAUDE_MCP_ALLOWED_HOSTS": "pypi.org, *.example.org\tb.example:8443,",
        "CLAUDE_MCP_PRIVATE_HOSTS": "10.0.0.1",
        "CLAUDE_MCP_PROXY_IMAGE": "small:1",
        "MAX_CONCURRENT_SESSIONS": "3",
        "CLAUDE_MCP_TOOLSETS": "History",
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
        permission_seconds=5.5,
        limits={"memory": "4g", "cpus": "1.5", "pids": "512", "disk": "10g"},
        max_sessions=3,
        toolsets=frozenset({Toolset.CORE, Toolset.HISTORY}),
        session_timeout_seconds=86400.0,
        session_idle_seconds=7200.0,
        read_only_root=True,
        runtime="runsc",
        network="restricted",
        network_fixed=True,
        allowed_hosts=("pypi.org", "*.example.org", "b.example:8443"),
        private_hosts=("10.0.0.1",),
        proxy_image="small:1",
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
def test_the_idle_time_in_the_file_may_be_a_number_or_a_string(
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


IDLE_COMPLAINT = "CLAUDE_MCP_IDLE_SECONDS must be a number of seconds greater than 0."


@pytest.mark.parametrize("value", ["0", "-1", "soon", "30m", "nan", "inf", "1e999", " "])
def test_an_invalid_idle_time_is_refused(environ: dict[str, str], value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({**environ, "CLAUDE_MCP_IDLE_SECONDS": value})
    assert str(caught.value) == IDLE_COMPLAINT


@pytest.mark.parametrize("written", ["0", "-0.5", "nan", "inf", '"soon"'])
def test_an_invalid_idle_time_in_the_file_is_refused(
    environ: dict[str, str], file: Path, written: str
) -> None:
    file.write_text(f"CLAUDE_MCP_IDLE_SECONDS = {written}\n")
    with pytest.raises(ConfigError) as caught:
        load(environ)
    assert str(caught.value) == IDLE_COMPLAINT


def test_allowed_roots_are_paths_separated_by_colons(environ: dict[str, str]) -> None:
    environ["CLAUDE_MCP_ALLOWED_ROOTS"] = "/srv:~/src:"
    assert load(environ).allowed_roots == ("/srv", os.path.expanduser("~/src"))
    assert load({**environ, "CLAUDE_MCP_ALLOWED_ROOTS": ""}).allowed_roots == ()


@pytest.mark.parametrize("value", ["src", "/srv:src", ":", "~nobody-has-this-name"])
def test_an_invalid_allowed_root_is_refused(environ: dict[str, str], value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({**environ, "CLAUDE_MCP_ALLOWED_ROOTS": value})
    assert str(caught.value) == (
        "CLAUDE_MCP_ALLOWED_ROOTS must be absolute paths separated by colons."
    )


@pytest.mark.parametrize("name", ["allowedRoots", "CLAUDE_MCP_ALLOWED_ROOTS"])
@pytest.mark.parametrize("value", ['["/srv", "/a b"]', '"/srv:/a b"'])
def test_allowed_roots_in_the_file_may_be_a_list(
    environ: dict[str, str], file: Path, name: str, value: str
) -> None:
    file.write_text(f"{name} = {value}\n")
    assert load(environ).allowed_roots == ("/srv", "/a b")


@pytest.mark.parametrize("value", ["[]", '""', '["/a:/b"]', "[1]", '["src"]', '"src"', "3"])
def test_invalid_allowed_roots_in_the_file_are_refused(
    environ: dict[str, str], file: Path, value: str
) -> None:
    file.write_text(f"allowedRoots = {value}\n")
    with pytest.raises(ConfigError) as caught:
        load(environ)
    assert str(caught.value) == (
        f"In {file}, allowedRoots must be a list of absolute paths without a colon."
    )


@pytest.mark.parametrize(
    ("written", "hosts"),
    [
        ('["pypi.org", "b.example:8443"]', ("pypi.org", "b.example:8443")),
        ('"pypi.org b.example:8443"', ("pypi.org", "b.example:8443")),
        ("[]", ()),
        ('""', ()),
    ],
)
def test_hosts_in_the_file_may_be_a_list(
    environ: dict[str, str], file: Path, written: str, hosts: tuple[str, ...]
) -> None:
    file.write_text(
        f"CLAUDE_MCP_ALLOWED_HOSTS = {written}\nCLAUDE_MCP_PRIVATE_HOSTS = {written}\n"
        'CLAUDE_MCP_NETWORK = "none"\nCLAUDE_MCP_PROXY_IMAGE = "small:1"\n'
    )
    loaded = load(environ)
    assert (loaded.allowed_hosts, loaded.private_hosts) == (hosts, hosts)
    assert (loaded.network, loaded.proxy_image) == ("none", "small:1")
    assert load({**environ, "CLAUDE_MCP_ALLOWED_HOSTS": "c.example"}).allowed_hosts == (
        "c.example",  # the environment's list takes the place of the file's
    )


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("[true]", "a list of strings"),
        ('["a.example", 1]', "a list of strings"),
        ('[["a.example"]]', "a list of strings"),
        ("true", "a list of strings"),
        ("1", "a list of strings"),
    ],
)
@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind is Kind.WORDS])
def test_hosts_in_the_file_that_are_not_strings_are_refused(
    environ: dict[str, str], file: Path, name: str, written: str, kind: str
) -> None:
    file.write_text(f"{name} = {written}\n")
    with pytest.raises(ConfigError) as caught:
        load(environ)
    assert str(caught.value) == f"In {file}, {name} must be {kind}."


@pytest.mark.parametrize(
    ("given", "toolsets"),
    [
        ("", {Toolset.CORE}),
        ("core", {Toolset.CORE}),
        (" HISTORY, ", {Toolset.CORE, Toolset.HISTORY}),
        ("all", set(Toolset)),
    ],
)
def test_toolsets_are_added_to_the_core(
    environ: dict[str, str], given: str, toolsets: set[Toolset]
) -> None:
    assert load({**environ, "CLAUDE_MCP_TOOLSETS": given}).toolsets == toolsets


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("core,histroy", "Did you mean history?"),
        ("histroy", "Did you mean history?"),
        ("xyz", f"Known: {', '.join(Toolset)}, all."),
    ],
)
def test_a_misspelt_toolset_is_told(environ: dict[str, str], given: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({**environ, "CLAUDE_MCP_TOOLSETS": given})
    unknown = given.rpartition(",")[2]
    assert caught.value.message == f"CLAUDE_MCP_TOOLSETS has an unknown set {unknown!r}."
    assert caught.value.hint == hint


def test_the_configuration_knows_its_own_paths(environ: dict[str, str], tmp_path: Path) -> None:
    named = tmp_path / "named.toml"
    named.touch()
    directory = f"{tmp_path}/.config/claude-mcp"
    assert load(environ).files == (directory, f"{directory}/config.toml")
    assert load(environ, file=str(named)).files == (directory, str(named))


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
def test_debugging_can_be_switched_off_in_words(environ: dict[str, str], value: str) -> None:
    assert load({**environ, "MCP_CLAUDE_DEBUG": value}).debug is False


def test_an_empty_variable_counts_as_not_set(environ: dict[str, str], file: Path) -> None:
    file.write_text('ANTHROPIC_MODEL = "file"\n')
    loaded = load({**environ, "ANTHROPIC_MODEL": "", "ANTHROPIC_BASE_URL": ""})
    assert (loaded.model, loaded.base_url) == ("file", None)


@pytest.mark.parametrize("value", [" ", "\n"])
def test_a_blank_secret_is_none(environ: dict[str, str], value: str) -> None:
    assert load({**environ, "ANTHROPIC_API_KEY": value}).api_key is None


def test_whitespace_around_a_secret_is_removed(environ: dict[str, str]) -> None:
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


def test_a_named_file_must_exist(environ: dict[str, str], tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    with pytest.raises(ConfigError) as caught:
        load(environ, file=str(missing))
    assert str(caught.value) == f"There is no configuration file {missing}."


def test_a_directory_instead_of_a_file_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{tmp_path} cannot be read: Is a directory."):
        load(environ, file=str(tmp_path))


def test_the_engine_gets_the_runtime_directory_even_if_the_environment_lacks_it(
    environ: dict[str, str],
) -> None:
    del environ["XDG_RUNTIME_DIR"]
    directory = f"/run/user/{os.geteuid()}"
    added = {"XDG_RUNTIME_DIR": directory} if os.path.isdir(directory) else {}
    assert load(environ).environment == {**environ, **added}


def test_the_clouds_have_their_variables(environ: dict[str, str], file: Path) -> None:
    file.write_text('CLAUDE_CODE_USE_VERTEX = true\nCLOUD_ML_REGION = "eu-1"\n')
    given = {
        "CLAUDE_CODE_USE_BEDROCK": "0",
        "AWS_PROFILE": "work",
        "AWS_BEARER_TOKEN_BEDROCK": " bearer-0123456789\n",
    }
    config = load({**environ, **given})
    assert (config.clouds, config.cloud, config.cloud_secrets) == (
        ("vertex",),
        {"AWS_PROFILE": "work", "CLOUD_ML_REGION": "eu-1"},
        {"AWS_BEARER_TOKEN_BEDROCK": Secret("bearer-0123456789")},
    )


def test_parts_of_two_aws_keys_are_not_combined(environ: dict[str, str], file: Path) -> None:
    file.write_text('AWS_ACCESS_KEY_ID = "AKIAFILE"\nAWS_SESSION_TOKEN = "token-of-the-file"\n')
    environ |= {"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "secret-of-the-env"}
    assert load(environ).cloud_secrets == {
        "AWS_ACCESS_KEY_ID": Secret("AKIAENV"),
        "AWS_SECRET_ACCESS_KEY": Secret("secret-of-the-env"),
    }


def test_the_engine_gets_no_credential_of_a_cloud(environ: dict[str, str]) -> None:
    given = {name: f"value of {name}" for name in CLOUD_SECRET_NAMES}
    assert load({**environ, **given}).environment == environ


def test_a_variable_that_the_user_named_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_VARIABLE", "its value")
    assert (variable("SOME_VARIABLE"), variable("NO_SUCH_VARIABLE")) == ("its value", None)


def read(path: Path) -> tuple[dict[str, str], str | None]:
    """The settings in a file, or why it is refused."""
    try:
        return read_file(path, required=True), None
    except ConfigError as error:
        return {}, str(error)


TEXT = st.text("""abc019 =#[]{}'".-\\\n""", max_size=60)
LINES = st.lists(
    st.tuples(st.sampled_from(sorted(KINDS)), st.sampled_from(['"', "'", "true", "1", "[]"]), TEXT)
)


@given(st.one_of(st.binary(), LINES.map(lambda lines: "\n".join(map(" ".join, lines)).encode())))
def test_any_file_is_settings_or_a_refusal_that_names_it(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    path.write_bytes(content)
    found, refusal = read(path)
    assert found.keys() <= KINDS.keys()
    assert refusal is None or str(path) in refusal


SCALARS = st.one_of(st.booleans(), st.integers(), st.text("abc /:.-_0", max_size=20))


@given(
    st.dictionaries(
        st.sampled_from([name for name, kind in KINDS.items() if kind is not Kind.PATHS]), SCALARS
    )
)
def test_a_setting_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, bool | int | str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    path.write_text(
        "".join(
            f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}\n"
            for name, value in values.items()
        )
    )
    wrong = [
        name
        for name, value in values.items()
        if (isinstance(value, bool) and KINDS[name] is not Kind.BOOLEAN)
        or (type(value) is int and KINDS[name] is not Kind.NUMBER)
    ]
    found, refusal = read(path)
    if wrong:
        assert refusal is not None
        assert [name for name in wrong if f" {name} must be " in refusal]
    else:
        assert (found, refusal) == (
            {
                name: str(int(value) if isinstance(value, bool) else value)
                for name, value in values.items()
            },
            None,
        )


def test_a_deeply_nested_file_is_refused(file: Path) -> None:
    file.write_text(f"DOCKER_HOST = {'[' * 100_000}")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        read_file(file, required=True)


def test_every_name_is_declared_once_with_a_sentence() -> None:
    assert len(KINDS) == len(TABLE)
    assert [each.name for each in TABLE if not each.text or each.text.endswith(".")] == []
    assert set(ALIASES.values()) <= set(KINDS)


def test_the_engine_s_program_gets_every_name_but_the_secrets() -> None:
    values = {Kind.NUMBER: "7", Kind.PATHS: "/srv"}
    environ = {name: values.get(kind, "x") for name, kind in KINDS.items()}
    # They are one address, and "x" is none.
    for name in ("CLAUDE_MCP_ENGINE_HOST", "CLAUDE_MCP_ENGINE_CONTEXT", "CLAUDE_MCP_ENGINE_TLS"):
        environ[name] = ""
    loaded = load({**environ, TOOLSETS_NAME: "all"}, file=os.devnull)
    secrets = {name for name, kind in KINDS.items() if kind is Kind.SECRET}
    assert loaded.environment.keys() & KINDS.keys() == KINDS.keys() - secrets


def test_where_the_engine_is_comes_from_a_flag_the_environment_or_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        'CLAUDE_MCP_ENGINE_HOST = "tcp://box:2376"\n'
        'CLAUDE_MCP_ENGINE_TLS = "/certificates"\n'
        'CLAUDE_MCP_ENGINE_SSH_KEY = "~/key"\n'
        'DOCKER_CONTEXT = "other"\n'
    )

    def place(environ: dict[str, str], host: str | None = None) -> dict[str, str]:
        loaded = load({"HOME": "/", **environ}, file=str(file), engine_host=host).environment
        names = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "CONTAINER_SSHKEY")
        return {name: loaded[name] for name in names if name in loaded}

    key = os.path.expanduser("~/key")
    assert place({}) == {
        "DOCKER_HOST": "tcp://box:2376",
        "DOCKER_CERT_PATH": "/certificates",
        "CONTAINER_SSHKEY": key,
    }
    assert place({"CLAUDE_MCP_ENGINE_HOST": "tcp://other:1"})["DOCKER_HOST"] == "tcp://other:1"
    assert place({}, "ssh://box") == {"DOCKER_HOST": "ssh://box", "CONTAINER_SSHKEY": key}
    assert place({}, "tcp://third:2") == {**place({}), "DOCKER_HOST": "tcp://third:2"}
    with pytest.raises(ConfigError, match="not both"):
        place({"CLAUDE_MCP_ENGINE_CONTEXT": "box"})
