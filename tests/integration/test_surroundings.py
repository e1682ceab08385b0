"""What surrounds the engine's command line does not reach a session.

The user's environment and the client's configuration files belong to the user. Each test has one
that would change our containers, and a control that proves that it would.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from claude_mcp.cli import doctor
from claude_mcp.config import load
from claude_mcp.contract import places
from claude_mcp.engine import pulse
from claude_mcp.engine.docker_cli import DockerCliEngine
from claude_mcp.errors import EngineError
from claude_mcp.sessions.create.request import CreateRequest, NetworkName
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.files.transfer import Direction, transfer
from claude_mcp.sessions.registry import open_sessions
from claude_mcp.sessions.turns import commands
from claude_mcp.sessions.usage import usage
from tests.engine_fixtures import Bare, own_warnings
from tests.own_daemon import OwnDaemon
from tests.restricted import own_address

PASSWORD = "pass-word-of-a-proxy"
FACTS = """
import json, os
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "capabilities": status["CapEff"].strip(),
    "seccomp": status["Seccomp"].strip(),
    "namespaces": {each: os.readlink("/proc/self/ns/" + each) for each in ("pid", "net", "ipc", "uts")},
    "umask": status["Umask"].strip(),
    "hosts": os.path.exists("/etc/hosts"),
    "environment": dict(os.environ),
    "root": os.access("/var/tmp", os.W_OK),
    "shared": os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize,
}))
"""  # noqa: E501
CONTAINERS_CONF = """
[containers]
privileged = true
read_only = true
env = ["HTTP_PROXY=http://u:%s@proxy.example:3128"]
env_host = true
netns = "host"
pidns = "host"
utsns = "host"
umask = "0000"
no_hosts = true
shm_size = "1m"
oom_score_adj = -500
pids_limit = 50
log_driver = "none"
tz = "Asia/Tokyo"
prepare_volume_on_create = true
default_capabilities = ["SYS_ADMIN"]
""" % (PASSWORD)  # noqa: UP031
ENGINE_CONF = """
detach_keys = "a"
events_logger = "none"
pull_policy = "always"
stop_timeout = 0
service_timeout = 1
"""
"""Of the table ``engine``, which a test's configuration ends with."""


async def facts(
    environ: dict[str, str], program: str, project: Path, name: str
) -> dict[str, object]:
    """What a command in a new session sees."""
    async with open_sessions(load(environ, engine=program)) as sessions:
        created = await create(sessions, CreateRequest(str(project), session_name=name))
        try:
            ran = await commands.run(
                await sessions.open(created.session.id), f"python3 -c '{FACTS}'"
            )
        finally:
            await sessions.destroy(created.session.id)
    assert ran.exit_code == 0, ran.stderr
    found: dict[str, object] = json.loads(ran.stdout)
    return found


@pytest.mark.docker
async def test_content_trust_in_the_users_shell_does_not_stop_a_session(
    engine: DockerCliEngine, environ: dict[str, str], project: Path, name: str, bare: Bare
) -> None:
    environ["DOCKER_CONTENT_TRUST"] = "1"
    refused = subprocess.run(
        [engine.program, "create", "--pull=never", load(environ).image, "true"],
        env=environ, capture_output=True, check=False,
    )  # fmt: skip
    assert refused.returncode != 0, "content trust does nothing here"
    assert await facts(environ, engine.program, project, name)


def configure_docker(environ: dict[str, str], directory: Path, text: str) -> None:
    """A configuration of Docker's client with this text, and the contexts of the one before."""
    before = Path(environ.get("DOCKER_CONFIG", "~/.docker")).expanduser() / "contexts"
    directory.mkdir()
    (directory / "config.json").write_text(text)
    if before.exists():
        shutil.copytree(before, directory / "contexts")
    environ["DOCKER_CONFIG"] = str(directory)


@pytest.mark.docker
@pytest.mark.xdist_group("world")  # where proxies are counted
@pytest.mark.parametrize("network", ["open", "restricted"])
async def test_proxies_of_dockers_configuration_are_nowhere_in_a_session(
    engine: DockerCliEngine,
    environ: dict[str, str],
    project: Path,
    name: str,
    bare: Bare,
    tmp_path: Path,
    network: NetworkName,
) -> None:
    proxy = f"http://u:{PASSWORD}@proxy.example:3128"
    default = dict.fromkeys(["httpProxy", "httpsProxy", "ftpProxy", "allProxy"], proxy)
    configure_docker(environ, tmp_path / "docker", json.dumps({"proxies": {"default": default}}))
    control = subprocess.run(
        [engine.program, "run", "--rm", "--entrypoint=", load(environ).image, "env"],
        env=environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert PASSWORD in control.stdout
    async with open_sessions(load(environ, engine=engine.program)) as sessions:
        request = CreateRequest(str(project), session_name=name, network=network)
        created = await create(sessions, request)
        try:
            inspected = bare("inspect", created.session.container_id)
            ran = await commands.run(await sessions.open(created.session.id), "env")
        finally:
            await sessions.destroy(created.session.id)
    assert PASSWORD not in inspected
    assert PASSWORD not in ran.stdout
    assert ("HTTP_PROXY=" in ran.stdout) == (network == "restricted")


@pytest.mark.near("a Podman service logs in by itself")
def test_a_program_that_logs_in_to_a_registry_has_its_clouds_variables(
    engine: DockerCliEngine, environ: dict[str, str], tmp_path: Path
) -> None:
    helper, told = tmp_path / "docker-credential-of-a-test", tmp_path / "told"
    helper.write_text(
        '#!/bin/sh\necho "$AWS_PROFILE:$AWS_SECRET_ACCESS_KEY:$ANTHROPIC_API_KEY" '
        f">>{told}\nexit 1\n"
    )
    helper.chmod(0o755)
    registry = "127.0.0.1:1"  # nobody listens there
    client = tmp_path / "config.json"
    client.write_text(json.dumps({"credHelpers": {registry: "of-a-test"}}))
    environ |= {
        "DOCKER_CONFIG": str(tmp_path), "REGISTRY_AUTH_FILE": str(client),
        "PATH": f"{tmp_path}:{environ['PATH']}",
        "AWS_PROFILE": "team", "AWS_SECRET_ACCESS_KEY": "secret",
    }  # fmt: skip
    argv = [sys.executable, "-m", "claude_mcp", "--engine", engine.program]
    done = subprocess.run(
        [*argv, "image", "pull", f"{registry}/image:1"],
        env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 5, done.stderr
    assert set(told.read_text().splitlines()) == {"team:secret:"}


CLIENT_CONFIG = {
    "HttpHeaders": {"X-Of-A-User": "value", "User-Agent": "something else"},
    "aliases": {"builder": "nosuch"},
    "cliPluginsExtraDirs": ["/nowhere"],
    "configFormat": "{{.ID}}",
    "credHelpers": {"registry.example": "nosuch"},
    "credsStore": "nosuch",
    "detachKeys": "a",
    "experimental": "enabled",
    "features": {"hooks": "true"},
    "imagesFormat": "table {{.ID}}",
    "nodesFormat": "{{.ID}}",
    "plugins": {"nosuch": {"hooks": "create,exec,rm", "option": "value"}},
    "pluginsFormat": "{{.ID}}",
    "proxies": {"tcp://elsewhere:2376": {"httpProxy": f"http://u:{PASSWORD}@proxy.example"}},
    "pruneFilters": ["label!=claude-mcp.session"],
    "psFormat": "table {{.Names}}",
    "secretFormat": "{{.ID}}",
    "serviceInspectFormat": "json",
    "servicesFormat": "{{.ID}}",
    "stackOrchestrator": "kubernetes",
    "statsFormat": "table {{.Name}}",
    "tasksFormat": "{{.ID}}",
    "volumesFormat": "table {{.Name}}",
}


@pytest.mark.docker
@pytest.mark.parametrize(
    "text",
    [
        pytest.param(json.dumps(CLIENT_CONFIG), id="all"),
        pytest.param("{broken", id="broken", marks=pytest.mark.stress),
    ],
)
async def test_dockers_client_configuration_changes_no_session(
    engine: DockerCliEngine,
    environ: dict[str, str],
    project: Path,
    name: str,
    tmp_path: Path,
    text: str,
) -> None:
    configure_docker(environ, tmp_path / "docker", text)
    async with open_sessions(load(environ, engine=engine.program)) as sessions:
        created = await create(sessions, CreateRequest(str(project), session_name=name))
        try:
            handle = await sessions.open(created.session.id)
            # The second letter would leave the command, were it the key for that.
            ran = await commands.run(handle, "cat; echo to the log >/proc/1/fd/2", input="banana")
            await transfer(handle, Direction.TO_CONTAINER, str(project), "/tmp/copied")
            _, log = await commands.logs(handle)
            measured = await usage(sessions, [created.session.id])
            names = [each.session.name for each in await sessions.list()]
        finally:
            await sessions.destroy(created.session.id)
    assert (own_warnings(created), ran.stdout) == ([], "banana")
    assert [each.stats is None for each in measured.found] == [False]
    assert PASSWORD not in " ".join(log)
    assert name in names


DAEMON_CONFIG = {
    "bip": "172.31.251.1/24",
    "default-cgroupns-mode": "host",
    "default-ipc-mode": "shareable",
    "default-runtime": "runc",
    "default-shm-size": "1M",
    "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 4096, "Soft": 1024}},
    "dns": ["203.0.113.7"],
    "dns-opts": ["ndots:9"],
    "dns-search": ["elsewhere.example"],
    "icc": False,
    "init": False,
    "ip6tables": False,
    "live-restore": True,
    "log-driver": "local",
    "log-opts": {"max-file": "2"},
    "max-concurrent-downloads": 1,
    "mtu": 1400,
    "no-new-privileges": False,
    "shutdown-timeout": 1,
    "userland-proxy": False,
}


@pytest.mark.docker
async def test_the_daemons_configuration_weakens_no_session(
    environ: dict[str, str], project: Path, name: str, as_root: bool, tmp_path: Path
) -> None:
    if not as_root:
        pytest.skip("only root starts a daemon of its own")
    file = tmp_path / "daemon.json"
    file.write_text(json.dumps(DAEMON_CONFIG))
    daemon = OwnDaemon(load(environ).image)
    try:
        daemon.start(f"--config-file={file}")
        environ["DOCKER_HOST"] = daemon.host
        control = daemon.bare("run", "--rm", "--entrypoint=", load(environ).image, "df", "/dev/shm")
        assert " 1024 " in control.stdout, "the configuration is not read"
        found = await facts(environ, "docker", project, name)
    finally:
        daemon.end()
    namespaces = found.pop("namespaces")
    environment = found.pop("environment")
    assert isinstance(namespaces, dict)
    assert isinstance(environment, dict)
    assert found == {
        "capabilities": "0000000000000000",
        "seccomp": "2",
        "umask": "0022",
        "hosts": True,
        "root": True,
        "shared": 64 * 1024 * 1024,
    }
    for each, value in namespaces.items():
        assert value != os.readlink(f"/proc/self/ns/{each}"), each
    assert {"HTTP_PROXY"} & set(environment) == set()


@pytest.fixture
def containers_conf(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a configuration that has, besides what is given, all that this machine needs."""

    def write(text: str) -> Path:
        needed = Path("/etc/containers/containers.conf.d/claude-mcp.conf")
        lines = needed.read_text().splitlines() if needed.exists() else []
        limits = [line for line in lines if line.startswith("default_ulimits")]
        rest = [line for line in lines if line not in limits and line != "[containers]"]
        path = tmp_path / "containers.conf"
        path.write_text("\n".join([text, *limits, *rest]))
        return path

    return write


@pytest.mark.podman
async def test_containers_conf_weakens_no_session(
    engine: DockerCliEngine,
    environ: dict[str, str],
    project: Path,
    name: str,
    containers_conf: Callable[[str], Path],
) -> None:
    # Rootless, Podman starts no container at all in the host's IPC namespace.
    ipc = 'ipcns = "host"' if os.geteuid() == 0 else ""
    conf = containers_conf(f"{CONTAINERS_CONF}\n{ipc}")
    table = "" if "[engine]" in conf.read_text() else "\n[engine]"
    with conf.open("a") as file:
        file.write(f"{table}{ENGINE_CONF}")
    environ["CONTAINERS_CONF"] = str(conf)
    environ["A_VARIABLE_OF_OURS"] = "x"
    control = subprocess.run(
        [engine.program, "run", "--rm", "--pull=never", "--entrypoint=", load(environ).image,
         "python3", "-c", FACTS],
        env=environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    weak = json.loads(control.stdout)
    assert weak["environment"]["HTTP_PROXY"]
    assert weak["namespaces"]["pid"] == os.readlink("/proc/self/ns/pid")
    found = await facts(environ, engine.program, project, name)
    namespaces = found.pop("namespaces")
    environment = found.pop("environment")
    assert isinstance(namespaces, dict)
    assert isinstance(environment, dict)
    assert found == {
        "capabilities": "0000000000000000",
        "seccomp": "2",
        "umask": "0022",
        "hosts": True,
        "root": True,
        "shared": 64 * 1024 * 1024,
    }
    for each, value in namespaces.items():
        assert value != os.readlink(f"/proc/self/ns/{each}"), each
    assert {"HTTP_PROXY", "A_VARIABLE_OF_OURS"} & set(environment) == set()


RUNTIME = """\
#!{python}
# A runtime that gives every container privileges.
import json, os, sys

if "--bundle" in sys.argv:
    path = os.path.join(sys.argv[sys.argv.index("--bundle") + 1], "config.json")
    with open(path) as file:
        config = json.load(file)
    config["process"]["noNewPrivileges"] = False
    config["process"]["capabilities"] = dict.fromkeys(
        ["bounding", "effective", "permitted"], ["CAP_CHOWN"]
    )
    with open(path, "w") as file:
        json.dump(config, file)
os.execvp("runc", ["runc", *sys.argv[1:]])
"""


@pytest.mark.podman
@pytest.mark.near("the client of a service reads no containers.conf")
async def test_a_session_with_privileges_is_refused(
    engine: DockerCliEngine,
    environ: dict[str, str],
    project: Path,
    name: str,
    bare: Bare,
    containers_conf: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    runtime = tmp_path / "generous"
    runtime.write_text(RUNTIME.format(python=sys.executable))
    runtime.chmod(0o755)
    conf = containers_conf(f'[engine.runtimes]\ngenerous = ["{runtime}"]\n[containers]')
    environ["CONTAINERS_CONF"] = str(conf)
    request = CreateRequest(str(project), session_name=name, runtime="generous")
    async with open_sessions(load(environ, engine=engine.program)) as sessions:
        with pytest.raises(EngineError, match="has capabilities and can gain privileges, although"):
            await create(sessions, request)
    assert bare.containers(name) == []


@pytest.mark.podman
@pytest.mark.near("the client of a service reads no containers.conf")
async def test_what_containers_conf_adds_to_a_session_is_a_warning_and_doctor_names_it(
    engine: DockerCliEngine,
    environ: dict[str, str],
    project: Path,
    name: str,
    containers_conf: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    conf = containers_conf(f"""[containers]
        volumes = ["{tmp_path}:/added"]
        devices = ["/dev/zero:/dev/added:rwm"]
        seccomp_profile = "unconfined"
    """)
    environ["CONTAINERS_CONF"] = str(conf)
    async with open_sessions(load(environ, engine=engine.program)) as sessions:
        created = await create(sessions, CreateRequest(str(project), session_name=name))
        await sessions.destroy(created.session.id)
        findings = await doctor.examine(sessions, None)
    seccomp, mounts, devices = created.warnings[-3:]
    assert "no seccomp filter to this session. Look for seccomp_profile in" in seccomp
    assert mounts.endswith("adds mounts to this session: /added.")
    assert devices.endswith("adds devices to this session: /dev/added.")
    said = f"{conf} applies to every session: devices, seccomp_profile, volumes"
    assert said in [finding.message for finding in findings]


@pytest.mark.podman
@pytest.mark.near("the client of a service reads no containers.conf")
async def test_a_setting_of_containers_conf_that_stops_every_container_is_named(
    engine: DockerCliEngine,
    environ: dict[str, str],
    project: Path,
    name: str,
    bare: Bare,
    containers_conf: Callable[[str], Path],
) -> None:
    for setting, value in (
        ("init_path", '"/nowhere/init"'),
        ("seccomp_profile", '"/nowhere/profile.json"'),
        ("base_hosts_file", '"/nowhere/hosts"'),
        ("volumes", '["/nowhere:/added"]'),
        ("log_tag", '"a tag"'),
    ):
        environ["CONTAINERS_CONF"] = str(containers_conf(f"[containers]\n{setting} = {value}"))
        async with open_sessions(load(environ, engine=engine.program)) as sessions:
            with pytest.raises(EngineError) as caught:
                await create(sessions, CreateRequest(str(project), session_name=name))
        assert caught.value.hint is not None
        assert f"({setting} " in caught.value.hint
        assert "in containers.conf)" in caught.value.hint
    assert bare.containers(name) == []


@pytest.mark.docker
@pytest.mark.near("mounts a directory")
@pytest.mark.parametrize("others", [True, False])
def test_a_daemon_that_has_another_directory_at_the_projects_path_is_noticed(
    engine: DockerCliEngine,
    environ: dict[str, str],
    project: Path,
    name: str,
    bare: Bare,
    as_root: bool,
    others: bool,
) -> None:
    if not as_root:
        pytest.skip("only root may mount a file system")
    # We see a file system of our own there, as a program in another container would.
    script = """mount -t tmpfs tmpfs "$1" && touch "$1/ours" && shift && exec "$@" """
    if others:
        (project / "theirs").touch()

    def create(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", str(project),
             sys.executable, "-m", "claude_mcp", "--engine", engine.program, "create",
             str(project), "--name", name, *options],
            env=environ, capture_output=True, text=True, check=False,
        )  # fmt: skip

    done = create()
    assert done.returncode == 0, done.stderr
    assert "The session has a copy: " in done.stderr
    assert bare("exec", bare.containers(name)[0], "ls", "/workspace").split() == ["ours"]
    bare.remove_all(name)
    done = create("--workspace=bind")
    assert done.returncode == 2, done.stderr
    assert f"The engine has other files at {project} than this program." in done.stderr
    assert "Run claude-mcp where it runs" in done.stderr
    assert bare.containers(name) == []


TUNNELS = """
import collections, json, os, socket, sys, time

path, session, place, count = sys.argv[1:]
held, decisions = [], collections.Counter()
for _ in range(int(count)):
    held.append(socket.socket(socket.AF_UNIX))
    held[-1].settimeout(60)
    held[-1].connect(path)
    opening = json.dumps({"session": session}).encode()
    held[-1].sendall(opening + b"\\nCONNECT " + place.encode() + b" HTTP/1.1\\r\\n\\r\\n")
    try:
        said = json.loads(held[-1].makefile("rb").readline())
    except OSError:
        decisions["none"] += 1
        break
    decisions[said.get("reason", said["decision"])] += 1
print(json.dumps(decisions), flush=True)
open("opened", "w").close()
while not os.path.exists("enough"):
    time.sleep(0.05)
"""


@pytest.mark.near("the limit is of the client's configuration; a mounted project is looked into")
@pytest.mark.podman
@pytest.mark.xdist_group("world")  # where proxies are counted
async def test_a_session_leaves_its_neighbour_room_where_few_files_may_be_open(
    engine: DockerCliEngine,
    environ: dict[str, str],
    tmp_path: Path,
    name: str,
    bare: Bare,
    containers_conf: Callable[[str], Path],
) -> None:
    conf = containers_conf("[containers]")
    limits = re.sub("nofile=[0-9:]*", "nofile=1024:1024", conf.read_text())
    if "nofile" not in limits:
        limits = limits.replace("]", ']\ndefault_ulimits = ["nofile=1024:1024"]', 1)
    conf.write_text(limits)
    environ["CONTAINERS_CONF"] = str(conf)
    with socket.create_server(("", 0), backlog=4096) as host:
        place = f"{own_address()}:{host.getsockname()[1]}"
        config = replace(load(environ, engine=engine.program), private_hosts=(place,), proxies={})
        async with open_sessions(config) as sessions, anyio.create_task_group() as tasks:
            outcomes: dict[str, dict[str, int]] = {}

            async def open_tunnels(project: Path, count: int) -> None:
                arguments = [places.PROXY_SOCKET, project.name, place, str(count)]
                command = shlex.join(["python3", "-c", TUNNELS, *arguments])
                ran = await commands.run(await sessions.open(project.name), command)
                outcomes[project.name] = json.loads(ran.stdout)

            greedy, neighbour = (tmp_path / f"{name}-{kind}" for kind in ("greedy", "neighbour"))
            created = []
            try:
                for project in (greedy, neighbour):
                    project.mkdir()
                    request = CreateRequest(
                        str(project), session_name=project.name, network="restricted"
                    )
                    created.append((await create(sessions, request)).session)
                assert created[0].proxy == created[1].proxy
                tasks.start_soon(open_tunnels, greedy, 600)
                with anyio.fail_after(120):
                    while not (greedy / "opened").exists():
                        await anyio.sleep(0.05)
                    (neighbour / "enough").touch()
                    await open_tunnels(neighbour, 5)
                (greedy / "enough").touch()
                with anyio.fail_after(60):
                    while greedy.name not in outcomes:
                        await anyio.sleep(0.05)
            finally:
                for each in created:
                    await sessions.destroy(each.id)
    assert outcomes[neighbour.name] == {"tunnel": 5}
    assert set(outcomes[greedy.name]) == {"tunnel", "this session has too many connections open"}


@pytest.mark.near("a service has read its storage already")
@pytest.mark.podman
async def test_another_command_that_has_locked_podmans_storage_is_waited_for(
    engine: DockerCliEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a pull does while it unpacks a layer. A daemon would be taken for dead by then."""
    monkeypatch.setattr(pulse, "QUIET_SECONDS", 0.1)
    monkeypatch.setattr(pulse, "ANSWER_SECONDS", 0.1)
    store = subprocess.run(
        [engine.program, "info", "--format={{.Store.GraphRoot}}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    found: list[object] = []
    with Path(store, "overlay-layers", "layers.lock").open("r+") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        async with anyio.create_task_group() as tasks:

            async def look() -> None:
                await engine.containers("claude-mcp.none")
                found.append(True)

            tasks.start_soon(look)
            await anyio.sleep(1.0)
            assert not found
            fcntl.lockf(lock, fcntl.LOCK_UN)
    assert found
