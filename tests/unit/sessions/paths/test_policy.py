"""Which host paths a session may have."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from claude_mcp.config import Config
from claude_mcp.contract import places
from claude_mcp.contract.wording import worded
from claude_mcp.engine.spec import BindMount
from claude_mcp.errors import UsageError
from claude_mcp.sessions.create.mounts import bind_mount, bind_mounts
from claude_mcp.sessions.create.request import Mount
from claude_mcp.sessions.paths import mounts, policy
from claude_mcp.sessions.paths.mounts import MountTable
from claude_mcp.sessions.paths.policy import Project, check, host_path, mount_source, project


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def config(home: Path) -> Config:
    return Config(environment={"HOME": str(home)}, files=(f"{home}/own/config.toml",))


def test_a_project_has_its_real_path_and_owner(tmp_path: Path, config: Config) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    expected = Project(f"{tmp_path}/real", os.getuid(), os.getgid())
    assert project(f"{tmp_path}/real", config) == expected
    assert project(f"{tmp_path}/link/", config) == expected
    assert project(f"{tmp_path}/real/../link/.", config) == expected


def test_a_tilde_is_expanded_to_the_home(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "project").mkdir()
    assert project("~/project", config).path == f"{tmp_path}/project"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "projectPath must be an absolute path, not ''."),
        ("project", "projectPath must be an absolute path, not 'project'."),
        ("./project", "projectPath must be an absolute path, not './project'."),
        ("~nobody-has-this-name/x", "projectPath must be an absolute path, not '~nobody-has"),
        ("/a\0b", "projectPath contains a NUL character."),
        ("{here}/missing", "The project directory '{here}/missing' does not exist."),
        ("{here}/dangling", "The project directory '{here}/dangling' does not exist."),
        ("{here}/file", "The project path '{here}/file' is not a directory."),
        (
            "{here}/file/below",
            "The project path '{here}/file/below' cannot be used: Not a directory.",
        ),
        ("{here}/loop", "The project path '{here}/loop' cannot be used: "),
        ("{here}/" + "x" * 300, "The project path '{here}/xxx"),
        (
            "/a\ud800",
            "projectPath must be valid UTF-8: rename the file or directory",
        ),
        ("/", "The project path '/' is refused: it is the root of the file system. Choose a dir"),
        ("/tmp/..", "The project path '/tmp/..' is refused: it is the root of the file system."),
    ],
)
def test_an_unusable_project_path_is_refused(
    tmp_path: Path, config: Config, path: str, message: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("missing")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UsageError) as caught:
        project(path.format(here=tmp_path), config)
    assert worded(str(caught.value)).startswith(message.format(here=tmp_path))


def test_a_long_refused_path_is_truncated_in_the_message() -> None:
    with pytest.raises(UsageError) as caught:
        host_path("x" * 1000, "sourcePath")
    assert str(caught.value) == f"sourcePath must be an absolute path, not {'x' * 200!r}."


def test_an_additional_mount_is_read_only_by_default(tmp_path: Path, config: Config) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    here = f"{tmp_path}/link"
    assert bind_mount(Mount(here, "/data"), config) == BindMount(f"{tmp_path}/data", "/data")
    assert bind_mount(Mount(here, "/workspace/data", read_only=False), config) == BindMount(
        f"{tmp_path}/data", "/workspace/data", read_only=False
    )


@pytest.mark.parametrize(
    "target",
    [
        "",
        "data",
        "/",
        "//",
        "/a/../..",
        "/a/..",
        "/workspace",
        "/workspace/",
        "//workspace",
        "/./workspace",
        places.RUN_DIRECTORY,
        f"{places.RUN_DIRECTORY}/socket",
        f"/{places.RUN_DIRECTORY}",
        "/dev",
        "/dev/shm",
        "/proc",
        "/proc/self",
        "/sys/fs/cgroup",
        "/run",
        "//run/.",
        "/run/claude-mcp-proxy",
        "/run//claude-mcp-proxy/",
        "/run/claude-mcp-proxy/socket",
        "/da\0ta",
        "/da\ud800ta",
    ],
)
def test_a_mount_cannot_cover_the_sessions_own_paths(
    tmp_path: Path, config: Config, target: str
) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(UsageError):
        bind_mount(Mount(str(tmp_path / "data"), target), config)


@pytest.mark.parametrize(
    "target",
    [
        "/process",
        "/device",
        "/workspaces",
        "/etc/ssl/own.pem",
        "/run/secrets",
        "/run/claude-mcp-proxy-2",
    ],
)
def test_a_mount_may_have_any_other_target(tmp_path: Path, config: Config, target: str) -> None:
    (tmp_path / "data").mkdir()
    assert bind_mount(Mount(str(tmp_path / "data"), target), config).target == target


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("data", "mcpMounts.hostPath must be an absolute path, not 'data'."),
        ("", "mcpMounts.hostPath must be an absolute path, not ''."),
        ("/no/such/path", "'/no/such/path' cannot be mounted: it does not exist."),
        ("/etc/passwd/a", "'/etc/passwd/a' cannot be mounted: Not a directory."),
        ("/" + "x" * 300, f"'/{'x' * 300}' cannot be mounted: File name too long."),
        ("/a\0b", "mcpMounts.hostPath contains a NUL character."),
        ("/", "The mount of '/' is refused: it is the root of the file system."),
    ],
)
def test_a_mount_source_must_exist(source: str, message: str, config: Config) -> None:
    with pytest.raises(UsageError) as caught:
        bind_mount(Mount(source, "/data"), config)
    assert caught.value.message == message


def test_two_mounts_cannot_have_the_same_target(tmp_path: Path, config: Config) -> None:
    (tmp_path / "data").mkdir()
    mounts = tuple(Mount(str(tmp_path / "data"), target) for target in ("/data", "//data/"))
    with pytest.raises(UsageError, match="Two mounts have the same path in the session, '/data'"):
        bind_mounts(mounts, config)


def refusal(path: str | Path, config: Config, owner: int | None = None) -> str:
    """Why a path is refused; empty if it is not."""
    try:
        check(str(path), "It", config, os.getuid() if owner is None else owner)
    except UsageError as error:
        return str(error).removeprefix("It is refused: ")
    return ""


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/", "it is the root of the file system. Choose a directory."),
        ("/etc", "it is a system directory. Copy what the session needs to"),
        ("/etc/ssl/certs", "it lies in /etc, which is a system directory."),
        ("/ETC/ssl", "it lies in /etc, which is a system directory."),
        ("/usr/bin", "it is a system directory."),
        ("/usr/bin/python3", "it lies in /bin, which is a system directory."),
        ("/proc/1/root", "it lies in /proc, which is a system directory."),
        ("/dev/sda", "it lies in /dev, which is a system directory."),
        ("/run/docker.sock", "it lies in /run, which is a system directory."),
        ("/var/lib/docker/volumes", "it lies in /var/lib/docker, which is a container engine's"),
        ("/var", "it is a directory shared by all programs of this machine. Choose a directory in"),
        ("/tmp", "it is a directory shared by all programs of this machine."),
        ("/home", "it is a directory shared by all programs of this machine."),
        ("{home}", "it is a home directory. Choose a directory in it."),
        ("{home}/../home", "it is a home directory."),
        ("{home}/.ssh", "it is a location of credentials."),
        ("{home}/.ssh/keys/of/work", "it lies in {home}/.ssh, which is a location of credentials."),
        ("{home}/.SSH", "it lies in {home}/.ssh, which is a location of credentials."),
        ("{home}/.aws/cli", "it lies in {home}/.aws, which is a location of credentials."),
        ("{home}/.gnupg", "it is a location of credentials."),
        ("{home}/.docker/config.json", "it lies in {home}/.docker, which is a location of cred"),
        ("{home}/.kube", "it is a location of credentials."),
        ("{home}/.config/gcloud", "it is a location of credentials."),
        ("{home}/.mozilla/firefox", "it lies in {home}/.mozilla, which is a browser's profile."),
        ("{home}/.config/chromium", "it is a browser's profile."),
        ("{home}/snap/firefox/common", "it lies in {home}/snap/firefox, which is a browser's"),
        ("{home}/.config/claude-mcp", "it is the configuration of claude-mcp."),
        ("{home}/own/config.toml", "it is the configuration of claude-mcp."),
        (
            "{home}/own",
            "it contains {home}/own/config.toml, which is the configuration of claude-mcp.",
        ),
        (
            "{home}/.config",
            "it contains {home}/.config/gcloud, which is a location of credentials.",
        ),
        ("{home}/.claude", "it contains {home}/.claude/.credentials.json, which is a location of"),
        ("{home}/.local", "it contains {home}/.local/share/keyrings, which is a location of"),
        ("{home}/snap", "it contains {home}/snap/chromium, which is a browser's profile."),
    ],
)
def test_a_protected_path_is_refused_with_reason_and_advice(
    config: Config, home: Path, path: str, why: str
) -> None:
    given = os.path.normpath(path.format(home=home))
    assert refusal(given, config).startswith(why.format(home=home))


@pytest.mark.parametrize(
    "path",
    [
        "/srv", "/srv/shop", "/opt/shop", "/tmp/shop", "/var/tmp/shop", "/var/www/shop",
        "/var/lib/jenkins/workspace", "/mnt/data", "/usr/local/src/shop", "/run/media/me/stick",
        "/etcetera", "{home}/src", "{home}/.config/nvim", "{home}/.sshd", "{home}/shop/.docker",
        "{home}/.claude/skills", "{home}/.dotfiles", "{home}/owner",
    ],
)  # fmt: skip
def test_usual_project_locations_are_allowed(config: Config, home: Path, path: str) -> None:
    assert refusal(path.format(home=home), config) == ""


def test_a_link_cannot_bypass_a_rule(config: Config, home: Path, tmp_path: Path) -> None:
    (home / ".ssh").mkdir()
    (tmp_path / "innocent").symlink_to(home / ".ssh")
    for value in (f"{tmp_path}/innocent", f"{tmp_path}/innocent/../.ssh/."):
        with pytest.raises(UsageError, match="is refused: it is a location of credentials"):
            project(value, config)
        with pytest.raises(UsageError, match="is refused: it is a location of credentials"):
            mount_source(value, config)


def test_the_target_of_a_protected_link_is_protected(
    config: Config, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "disk" / "keys").mkdir(parents=True)
    (home / ".ssh").symlink_to(tmp_path / "disk" / "keys")
    expected = f"it lies in {home}/.ssh, which is a location of credentials."
    assert refusal(tmp_path / "disk" / "keys" / "id", config).startswith(expected)
    expected = f"it contains {home}/.ssh, which is a location of credentials."
    assert refusal(tmp_path / "disk", config).startswith(expected)


def test_homes_of_other_users_are_protected(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that runs as root, or for somebody else's project, meets their credentials."""

    def user(uid: int, name: str) -> pwd.struct_passwd:
        return pwd.struct_passwd((name, "x", uid, uid, "", f"{tmp_path}/{name}", "sh"))

    listed = [user(0, "root"), user(33, "web"), user(1000, "ann"), user(65534, "nobody")]
    monkeypatch.setattr(pwd, "getpwall", lambda: list(listed))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: user(uid, f"listed-nowhere-{uid}"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    homes = {
        name: refusal(tmp_path / name, config, owner=7) == "it is a home directory. "
        "Choose a directory in it."
        for name in ("root", "web", "ann", "nobody", "listed-nowhere-7")
    }
    assert homes == {
        "root": True, "web": False, "ann": True, "nobody": False, "listed-nowhere-7": True,
    }  # fmt: skip
    assert refusal(f"{tmp_path}/ann/.ssh", config).startswith("it is a location of credentials")


def test_variables_that_relocate_paths_relocate_the_protection(
    config: Config, tmp_path: Path
) -> None:
    environment = {
        **config.environment,
        "DOCKER_HOST": f"unix://{tmp_path}/engine/d",
        "CONTAINER_HOST": f"unix:{tmp_path}/engine/p",
        "KUBECONFIG": f"{tmp_path}/k1:{tmp_path}/k2",
        "XDG_CONFIG_HOME": f"{tmp_path}/xdg",
        "XDG_RUNTIME_DIR": f"{tmp_path}/runtime",
        "SSH_AUTH_SOCK": f"{tmp_path}/agent/1",
    }
    moved = replace(config, environment=environment)
    expected = {
        "engine/d": "it is a container engine's socket.",
        "engine/p": "it is a container engine's socket.",
        "engine": f"it contains {tmp_path}/engine/d, which is a container engine's socket.",
        "k2": "it is a location of credentials (set by KUBECONFIG).",
        "xdg/gcloud": "it is a location of credentials.",
        "xdg/claude-mcp": "it is the configuration of claude-mcp.",
        "runtime/bus": f"it lies in {tmp_path}/runtime, which is the directory of a user's",
        "agent": f"it contains {tmp_path}/agent/1, which is the socket of an SSH agent.",
    }
    for path, why in expected.items():
        assert refusal(tmp_path / path, moved).startswith(why)
        assert refusal(tmp_path / path, config) == ""


@pytest.mark.parametrize("value", ["tcp://1.2.3.4:2375", "ssh://me@there", "unix://", "unix", ""])
def test_a_remote_engine_protects_no_path(config: Config, value: str) -> None:
    far = replace(config, environment={**config.environment, "DOCKER_HOST": value})
    assert refusal("/srv/shop", far) == ""


def test_an_engine_socket_is_found_at_any_depth(config: Config, tmp_path: Path) -> None:
    deep = tmp_path / "project" / "a" / "b"
    deep.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(f"{deep}/podman.sock")
        with pytest.raises(UsageError, match=f"contains {deep}/podman.sock, which is a container"):
            policy.project(str(tmp_path / "project"), config)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(f"{deep}/other.sock")
        os.unlink(deep / "podman.sock")
        policy.project(str(tmp_path / "project"), config)


def test_an_engine_socket_is_recognized_by_name_anywhere(config: Config, tmp_path: Path) -> None:
    sockets = tmp_path / "sockets"
    sockets.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{sockets}/docker.sock")
        assert refusal(f"{sockets}/docker.sock", config).startswith("it is a container engine's")
        expected = f"it contains {sockets}/docker.sock, which is a container engine's socket."
        assert refusal(sockets, config).startswith(expected)
    (tmp_path / "docker.sock").touch()
    assert refusal(tmp_path / "docker.sock", config) == ""


def test_allowed_roots_only_narrow_the_rules(config: Config, home: Path, tmp_path: Path) -> None:
    for name in ("src", "src2"):
        (tmp_path / name / "shop").mkdir(parents=True)
    (tmp_path / "root").symlink_to("src")
    narrowed = replace(config, allowed_roots=(f"{tmp_path}/root", "/etc", str(home)))
    assert refusal(tmp_path / "src" / "shop", narrowed) == ""
    assert refusal(tmp_path / "src", narrowed) == ""
    assert refusal(tmp_path / "src2" / "shop", narrowed) == (
        f"it is outside the allowed roots ({tmp_path}/root, /etc, {home}). "
        "Choose a path in one of them, or add its directory to CLAUDE_MCP_ALLOWED_ROOTS."
    )
    assert refusal(tmp_path / "SRC" / "shop", narrowed).startswith("it is outside the allowed")
    assert refusal("/etc/ssl", narrowed).startswith("it lies in /etc")
    assert refusal(home / ".ssh", narrowed).startswith("it is a location of credentials")
    assert refusal(home / "src", narrowed) == ""
    assert refusal("/srv", replace(config, allowed_roots=("/",))) == ""


@pytest.fixture
def alias(home: Path, tmp_path: Path) -> Iterator[Path]:
    """The home, mounted at a second place."""
    path = tmp_path / "alias"
    path.mkdir()
    subprocess.run(["mount", "--bind", str(home), str(path)], check=True)
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_bind_mount_cannot_hide_a_protected_path(
    config: Config, home: Path, tmp_path: Path, alias: Path
) -> None:
    (home / "src").mkdir()
    assert refusal(alias, config) == "it is a home directory. Choose a directory in it."
    expected = f"it lies in {home}/.ssh, which is a location of credentials."
    assert refusal(alias / ".ssh" / "x", config).startswith(expected)
    assert refusal(alias / ".ssh", config).startswith("it is a location of credentials.")
    assert refusal(alias / ".config", config).startswith(
        f"it contains {home}/.config/gcloud, which is"
    )
    assert refusal(alias / "src", config) == ""
    (tmp_path / "outer" / "in").mkdir(parents=True)
    subprocess.run(["mount", "--bind", str(home), str(tmp_path / "outer" / "in")], check=True)
    try:
        assert refusal(tmp_path / "outer", config).startswith(f"it contains {home}, which")
    finally:
        subprocess.run(["umount", str(tmp_path / "outer" / "in")], check=True)
    assert refusal(tmp_path / "outer", config) == ""


def test_without_mount_information_names_are_compared(
    config: Config, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "read_mounts", lambda: MountTable(()))
    assert refusal(home / ".ssh" / "x", config).startswith(f"it lies in {home}/.ssh")
    assert refusal(home / "src", config) == ""


HOST = """\
27 1 0:50 / / rw - overlay overlay rw
28 27 0:6 / /dev rw - devtmpfs devtmpfs rw
29 27 0:23 / /run rw - tmpfs tmpfs rw
30 29 0:40 / /run/user/1 rw - tmpfs tmpfs rw
31 27 0:40 /gnupg /mnt/gnupg rw - tmpfs tmpfs rw
32 27 254:0 /home/me {home} rw - btrfs /dev/vda rw
33 27 254:0 /etc /mnt/etc rw - btrfs /dev/vda rw
34 27 254:0 /var/lib/docker/volumes /mnt/volumes rw - btrfs /dev/vda rw
35 27 254:0 /srv /srv rw - btrfs /dev/vda rw
"""
VIEWS = {
    "a toolbox": ("36 29 254:0 / {view} rw - btrfs /dev/vda rw\n", "/run/host"),
    "the whole disk of a host that is rolled back and forth": (
        "36 29 254:0 / {view} rw - btrfs /dev/vda rw\n"
        "37 36 254:0 /var {view}/var rw - btrfs /dev/vda rw\n"
        "38 36 254:0 / {view}/sysroot rw - btrfs /dev/vda rw\n",
        "/run/host",
    ),
    "a backup": ("36 29 254:0 / {view} rw - btrfs /dev/vda rw\n", "/run/timeshift/1/backup"),
    "a host's files in a container": ("36 27 254:0 / {view} rw - ext4 /dev/vda rw\n", "/usr/host"),
}


@pytest.mark.parametrize("case", VIEWS)
def test_a_second_view_of_the_disk_does_not_make_projects_the_systems(
    config: Config, home: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    lines, view = VIEWS[case]
    text = (HOST + lines).format(home=home, view=view)
    monkeypatch.setattr(
        policy, "read_mounts", lambda: MountTable(mounts.parse_mounts(text.encode()))
    )
    monkeypatch.setattr(os.path, "isdir", lambda path: path == f"{view}/etc")
    assert refusal(home / "src", config) == ""
    assert refusal("/srv/shop", config) == ""
    assert refusal(f"{view}/home/me/src", config).startswith("it lies in ")
    assert refusal(home / ".ssh", config).startswith("it is a location of credentials.")
    # What is the host's system is protected under every name.
    assert refusal("/mnt/etc/ssl", config).startswith(f"it lies in {view}/etc, which is a system")
    assert refusal("/mnt/volumes", config).startswith(f"it lies in {view}/var/lib/docker, which")
    assert refusal("/mnt/gnupg", config).startswith("it lies in /run, which is a system directory")


REFUSALS = """\
import sys
from claude_mcp.config import Config
from claude_mcp.errors import UsageError
from claude_mcp.sessions.paths.policy import check
config = Config(environment={"HOME": sys.argv[1]})
for path in sys.argv[2:]:
    try:
        check(path, "x", config, 0)
    except UsageError as error:
        print(error)
    else:
        print()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_root_that_is_mounted_again_does_not_refuse_every_project(
    home: Path, tmp_path: Path
) -> None:
    """In a mount namespace of its own: other tests ask for paths of the same machine."""
    (tmp_path / "shop").mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "--propagation=private", "sh", "-c",
         'mount -t tmpfs tmpfs /run && mkdir /run/view && mount --bind / /run/view && exec "$@"',
         "sh", sys.executable, "-c", REFUSALS, str(home),
         f"{tmp_path}/shop", "/run/view/etc", f"/run/view{tmp_path}/shop"],
        cwd=Path(__file__).parents[4], capture_output=True, text=True, check=True,
    )  # fmt: skip
    allowed, system, within = done.stdout.splitlines()
    assert allowed == ""
    assert system.startswith("x is refused: it is a system directory")
    assert within.startswith("x is refused: it lies in /run, which")


def test_a_thousand_users_are_not_looked_through(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory service lists many users. Only links in their homes are followed."""
    users = [
        pwd.struct_passwd((f"u{uid}", "x", uid, uid, "", f"{tmp_path}/homes/u{uid}", "sh"))
        for uid in range(2000, 3000)
    ]
    (tmp_path / "disk" / "keys").mkdir(parents=True)
    (tmp_path / "homes" / "u2001").mkdir(parents=True)
    (tmp_path / "homes" / "u2001" / ".ssh").symlink_to(tmp_path / "disk" / "keys")
    monkeypatch.setattr(pwd, "getpwall", lambda: list(users))
    located: list[str] = []
    locate = MountTable.locate

    def counted(table: MountTable, path: str) -> mounts.Location:
        located.append(path)
        return locate(table, path)

    monkeypatch.setattr(MountTable, "locate", counted)
    assert refusal("/srv/shop", config) == ""
    assert len(located) < len(users) + 200
    assert refusal(tmp_path / "disk", config).startswith(
        f"it contains {tmp_path}/homes/u2001/.ssh, which is a location of credentials."
    )
    assert refusal(tmp_path / "homes" / "u2002" / ".ssh", config).startswith("it is a location of")
    assert refusal(tmp_path / "homes", config).startswith(f"it contains {tmp_path}/homes/u2000")
