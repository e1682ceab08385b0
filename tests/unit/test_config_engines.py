"""The engines that the configuration file names."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_mcp.config import Config, load, read_engines
from claude_mcp.engine import pod_options
from claude_mcp.engine.address import EngineAddress
from claude_mcp.errors import ConfigError

TWO = """\
ANTHROPIC_MODEL = "m"
[engines.here]
program = "podman"
[engines.build-box]
host = "ssh://me@build-box"
ssh_key = "~/key"
"""
ONE = '[engines.farm]\nprogram = "docker"\nhost = "tcp://farm:2376"\ntls = "/etc/farm"\n'


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("HOME", str(tmp_path))
    return {"HOME": str(tmp_path), "PATH": "/bin", "XDG_RUNTIME_DIR": "/run/user/1"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def loaded(environ: dict[str, str], file: Path, text: str, **flags: str) -> Config:
    file.write_text(text)
    return load(environ, file=str(file), **flags)  # type: ignore[arg-type]


def test_the_engines_of_the_file_are_used_together(
    environ: dict[str, str], file: Path, tmp_path: Path
) -> None:
    config = loaded({**environ, "DOCKER_HOST": "tcp://other:1"}, file, TWO)
    engines = {
        "here": EngineAddress(program="podman"),
        "build-box": EngineAddress(host="ssh://me@build-box", ssh_key=str(tmp_path / "key")),
    }
    assert (config.engine, config.engine_name, config.engines) == (None, None, engines)
    assert list(config.engines) == ["here", "build-box"]
    assert read_engines(file) == engines
    assert config.model == "m"
    here, there = config.on("here"), config.on("build-box")
    assert (here.engine, here.engine_name, here.engines) == ("podman", "here", {})
    assert here.environment["DOCKER_HOST"] == "tcp://other:1"
    assert (there.engine, there.engine_name, there.model) == (None, "build-box", "m")
    assert there.environment["DOCKER_HOST"] == "ssh://me@build-box"
    assert there.environment["CONTAINER_SSHKEY"] == str(tmp_path / "key")


def test_one_engine_is_used_alone(environ: dict[str, str], file: Path) -> None:
    config = loaded(environ, file, ONE)
    assert (config.engine, config.engine_name, config.engines) == ("docker", "farm", {})
    assert config.environment["DOCKER_CERT_PATH"] == "/etc/farm"
    assert read_engines(file.with_name("none")) == {}


@pytest.mark.parametrize("how", ["flag", "variable", "file"])
def test_a_named_engine_is_used_alone(environ: dict[str, str], file: Path, how: str) -> None:
    setting = {"CLAUDE_MCP_ENGINE": "here"} if how == "variable" else {}
    text = f'CLAUDE_MCP_ENGINE = "here"\n{TWO}' if how == "file" else TWO
    flags = {"engine": "here"} if how == "flag" else {}
    config = loaded({**environ, **setting}, file, text, **flags)
    assert (config.engine, config.engine_name, config.engines) == ("podman", "here", {})


@pytest.mark.parametrize(
    ("setting", "program"),
    [
        ({"CLAUDE_MCP_ENGINE": "docker"}, "docker"),
        ({"CLAUDE_MCP_ENGINE": "/opt/docker"}, "/opt/docker"),
        ({"CLAUDE_MCP_ENGINE": "sh"}, "sh"),  # a program, whatever it is
        ({"CLAUDE_MCP_ENGINE_HOST": "tcp://farm:1"}, None),
        ({"CLAUDE_MCP_ENGINE_CONTEXT": "farm"}, None),
    ],
)
def test_another_engine_can_be_used_instead(
    environ: dict[str, str], file: Path, setting: dict[str, str], program: str | None
) -> None:
    config = loaded({**environ, **setting}, file, TWO)
    assert (config.engine, config.engine_name, config.engines) == (program, None, {})


def test_a_host_of_a_flag_replaces_a_named_place(environ: dict[str, str], file: Path) -> None:
    named = {**environ, "CLAUDE_MCP_ENGINE": "here"}
    config = loaded(named, file, TWO, engine_host="tcp://farm:1")
    assert (config.engine, config.engine_name) == ("podman", None)
    assert config.environment["CONTAINER_HOST"] == "tcp://farm:1"
    with pytest.raises(ConfigError) as caught:
        loaded(environ, file, TWO, engine="build-box", engine_host="tcp://farm:1")
    assert caught.value.message == "The engine build-box has an address of its own."


def test_a_key_for_all_engines(environ: dict[str, str], file: Path, tmp_path: Path) -> None:
    config = loaded({**environ, "CLAUDE_MCP_ENGINE_SSH_KEY": "/k"}, file, TWO)
    assert config.on("here").environment["CONTAINER_SSHKEY"] == "/k"
    assert config.on("build-box").environment["CONTAINER_SSHKEY"] == str(tmp_path / "key")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("biuld-box", "Did you mean build-box? Configured: here, build-box."),
        ("farm", "Configured: here, build-box."),
    ],
)
def test_a_misspelt_engine_is_told(
    environ: dict[str, str], file: Path, name: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(environ, file, TWO, engine=name)
    assert caught.value.message == f"There is no engine '{name}'."
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("engines = 1", "In {file}, engines must be tables.", "Begin each with [engines.NAME]."),
        ("[engines]\nx = 1", "In {file}, engines must be tables.",
         "Begin each with [engines.NAME]."),
        (
            "[engines.Docker]",
            "In {file}, an engine is called 'Docker', which is the name of a program.",
            'Choose another name, and write program = "docker" in its table.',
        ),
        (
            '[engines."a/b"]',
            "In {file}, 'a/b' cannot be the name of an engine.",
            "A name has letters, digits, '.', '_' and '-', at most 40, and begins with a letter "
            "or digit.",
        ),
        ('[engines.x]\nhots = ""', "[engines.x] in {file} has an unknown key 'hots'.",
         "Did you mean host?"),
        ('[engines.x]\nDOCKER_HOST = ""', "[engines.x] in {file} has an unknown key "
         "'DOCKER_HOST'.", "Did you mean host?"),
        ("[engines.x.y]", "[engines.x] in {file} has an unknown key 'y'.",
         "Known: kind, program, host, context, connection, tls, ssh_key, namespace, kubeconfig, "
         "pull_secrets, pull_policy, node_selector, tolerations, priority_class, labels, "
         "storage_class."),
        ("[engines.x]\nhost = 1", "host of [engines.x] in {file} must be a string that is not "
         "empty.", None),
        ('[engines.x]\nhost = ""', "host of [engines.x] in {file} must be a string that is not "
         "empty.", None),
        ('[engines.x]\ntls = "certs"', "tls of [engines.x] in {file} must be an absolute path.",
         None),
        ('[engines.x]\ncontext = "a"\nconnection = "b"',
         "[engines.x] in {file} has a context and a connection.", "Remove one of them."),
        ('[engines.x]\nhost = "tcp://a:1"\nconnection = "b"',
         "[engines.x] in {file}: An engine has a host or a context, not both.",
         "Remove one of host and context."),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told_with_what_would(
    environ: dict[str, str], file: Path, text: str, message: str, hint: str | None
) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(environ, file, text)
    assert (caught.value.message, caught.value.hint) == (message.format(file=file), hint)


def test_a_cluster_is_an_engine_of_the_kind_kubernetes(environ: dict[str, str], file: Path) -> None:
    text = '[engines.prod]\nkind = "kubernetes"\ncontext = "c"\nnamespace = "n"\n'
    config = loaded(environ, file, f'{text}kubeconfig = "~/prod.yaml"\n')
    assert (config.engine, config.engine_name) == ("kubernetes", "prod")
    assert config.environment["CLAUDE_MCP_ENGINE_CONTEXT"] == "c"
    assert config.environment["CLAUDE_MCP_ENGINE_NAMESPACE"] == "n"
    assert config.environment["KUBECONFIG"] == f"{environ['HOME']}/prod.yaml"


def test_a_cluster_that_the_environment_names(environ: dict[str, str], file: Path) -> None:
    environ |= {"CLAUDE_MCP_ENGINE": "kubernetes", "CLAUDE_MCP_ENGINE_NAMESPACE": "n"}
    config = loaded(environ, file, TWO)
    assert (config.engine, config.engine_name, config.engines) == ("kubernetes", None, {})
    assert config.environment["CLAUDE_MCP_ENGINE_NAMESPACE"] == "n"


def test_a_clusters_table_has_options_of_pods(environ: dict[str, str], file: Path) -> None:
    text = """
[engines.prod]
kind = "kubernetes"
pull_secrets = ["registry", "other"]
labels = "team=platform"
"""
    environ |= {"CLAUDE_MCP_KUBERNETES_STORAGE_CLASS": "not-of-this-engine"}
    config = loaded(environ, file, text)
    assert pod_options.of_environment(config.environment) == {
        "pull_secrets": "registry,other",
        "labels": "team=platform",
    }


def test_options_of_pods_in_the_environment(environ: dict[str, str], file: Path) -> None:
    environ |= {"CLAUDE_MCP_ENGINE": "kubernetes", "CLAUDE_MCP_KUBERNETES_PULL_POLICY": "Always"}
    config = loaded(environ, file, 'CLAUDE_MCP_KUBERNETES_LABELS = ["a=b", "c=d"]')
    assert pod_options.of_environment(config.environment) == {
        "pull_policy": "Always",
        "labels": "a=b,c=d",
    }
    other = load({**environ, "CLAUDE_MCP_ENGINE": "docker"})
    assert other.engine == "docker"


def test_a_namespace_is_not_in_the_way_of_another_engine(
    environ: dict[str, str], file: Path
) -> None:
    environ |= {"CLAUDE_MCP_ENGINE": "kubernetes", "CLAUDE_MCP_ENGINE_NAMESPACE": "n"}
    assert loaded(environ, file, "", engine="docker").engine == "docker"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('kind = "docker"', "kind of .* can only be kubernetes"),
        ('kind = "kubernetes"\nprogram = "x"', "has a kind and a program"),
        ('kind = "kubernetes"\nhost = "tcp://c:1"', "in a kubeconfig file"),
        ('namespace = "n"', "are for Kubernetes"),
        ('labels = "a=b"', "labels is for Kubernetes"),
        ('kind = "kubernetes"\nlabels = "a"', r"\[engines.prod\] in .*: 'a' is not a label"),
        ('kind = "kubernetes"\nlabels = [1]', "must be a list of strings, or a string, that"),
        ('kind = "kubernetes"\npull_policy = ["Always"]', "must be a string that is not empty"),
    ],
)
def test_a_clusters_table_is_checked(
    environ: dict[str, str], file: Path, table: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        loaded(environ, file, f"[engines.prod]\n{table}\n")


def test_no_engine_is_called_kubernetes(environ: dict[str, str], file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(environ, file, '[engines.kubernetes]\nkind = "kubernetes"\n')
    assert 'write kind = "kubernetes"' in (caught.value.hint or "")
