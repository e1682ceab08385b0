"""Argv of every verb, compared as whole tuples."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest

from claude_mcp.engine import argv, questions
from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.engine.dialects.docker import DOCKER
from claude_mcp.engine.dialects.podman import PODMAN, ROOTLESS_PODMAN
from claude_mcp.engine.names import reference
from claude_mcp.engine.spec import (
    BindMount,
    ContainerSpec,
    Limits,
    TmpfsMount,
    VolumeMount,
)
from claude_mcp.errors import UsageError

ALWAYS = ("--interactive", "--init")
PODMAN_STATES = (
    "--http-proxy=false",
    "--env-host=false",
    "--pid=private",
    "--uts=private",
    "--umask=0022",
    "--no-hosts=false",
)
HARDENED = (
    "--privileged=false",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--ipc=private",
    "--shm-size=67108864",
)
PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY", "ftp_proxy",
           "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy")  # fmt: skip
HOSTILE_REFERENCES = [
    "",
    "-f",
    "--all",
    ".hidden",
    "_x",
    "a b",
    "a\n",
    "\na",
    "a\0",
    "a:/etc",
    "a/b",
    "a;b",
    "$(id)",
    "é",
    "a" * 129,
]


def test_a_minimal_container_is_interactive_hardened_and_never_pulled() -> None:
    spec = ContainerSpec(name="c", image="i", command=("run",))
    assert argv.create_argv("docker", DOCKER, spec) == (
        "docker",
        "create",
        "--pull=never",
        "--name=c",
        *ALWAYS,
        *HARDENED,
        "--oom-score-adj=500",
        "--read-only=false",
        *(f"--env={name}" for name in PROXIES),
        "--entrypoint=",
        "i",
        "run",
    )


def test_a_directory_in_memory_can_belong_to_the_containers_user() -> None:
    mount = TmpfsMount("/hooks", 1024, owned=True)
    spec = ContainerSpec(name="c", image="i", command=(), user="7:8", tmpfs_mounts=(mount,))
    shared = "--tmpfs=/hooks:rw,exec,nosuid,nodev,mode=1777,size=1024"
    assert f"{shared},uid=7,gid=8" in argv.create_argv("docker", DOCKER, spec)
    assert f"{shared},U,notmpcopyup" in argv.create_argv("podman", PODMAN, spec)


def test_a_full_container_joins_every_value_to_its_option() -> None:
    spec = ContainerSpec(
        name="claude-mcp-a",
        image="registry.example:5000/team/image@sha256:0123",
        command=("python3", "-c", "--help\n'x' $HOME", ""),
        labels={"claude-mcp.name": "-v /:/host", "claude-mcp.project": "/a b\n--privileged"},
        environment={"LANG": "--x=y z", "NO_PROXY": "localhost"},
        inherited=("PAYLOAD", "no_proxy"),
        mounts=(BindMount("/p", "/workspace", read_only=False), BindMount("/a,b", "/c")),
        volumes=(VolumeMount("v1", "/run/v1"), VolumeMount("v2", "/run/v2", read_only=False)),
        workdir="/workspace",
        user="1000:1000",
        userns="keep-id",
        network="none",
        restart="on-failure",
        extra_hosts=("host.docker.internal:host-gateway",),
        limits=Limits(memory=4294967296, cpus=1.5, pids=2048, disk=1073741824),
        max_user_processes=2048,
        runtime="runsc",
        read_only_root=True,
        tmpfs_mounts=(TmpfsMount("/tmp", 1024), TmpfsMount("/var/tmp", 2048)),
        security_options=("label=disable",),
        log_max_size="10m",
    )
    assert argv.create_argv("/opt/podman", PODMAN, spec) == (
        "/opt/podman",
        "create",
        "--pull=never",
        "--name=claude-mcp-a",
        *ALWAYS,
        *PODMAN_STATES,
        "--label=claude-mcp.name=-v /:/host",
        "--label=claude-mcp.project=/a b\n--privileged",
        *HARDENED,
        "--security-opt=label=disable",
        "--oom-score-adj=500",
        "--memory=4294967296",
        "--memory-swap=4294967296",
        "--cpus=1.5",
        "--pids-limit=2048",
        "--storage-opt=size=1073741824",
        "--ulimit=nproc=2048:2048",
        "--runtime=runsc",
        "--read-only=true",
        "--read-only-tmpfs=false",
        "--tmpfs=/dev/shm:rw,nosuid,nodev,mode=1777,size=67108864",
        "--tmpfs=/tmp:rw,exec,nosuid,nodev,mode=1777,size=1024",
        "--tmpfs=/var/tmp:rw,exec,nosuid,nodev,mode=1777,size=2048",
        "--log-driver=k8s-file",
        "--log-opt=max-size=10m",
        "--userns=keep-id",
        "--user=1000:1000",
        "--workdir=/workspace",
        "--network=none",
        "--restart=on-failure",
        "--add-host=host.docker.internal:host-gateway",
        "--mount=type=bind,source=/p,target=/workspace",
        '--mount=type=bind,"source=/a,b",target=/c,readonly,bind-nonrecursive',
        "--mount=type=volume,source=v1,target=/run/v1,ro",
        "--mount=type=volume,source=v2,target=/run/v2",
        "--env=LANG=--x=y z",
        "--env=NO_PROXY=localhost",
        "--env=PAYLOAD",
        "--env=no_proxy",
        *(f"--unsetenv={name}" for name in PROXIES[:-2]),
        "--entrypoint=",
        "registry.example:5000/team/image@sha256:0123",
        "python3",
        "-c",
        "--help\n'x' $HOME",
        "",
    )


@pytest.mark.parametrize(
    ("dialect", "changes", "expected"),
    [
        (PODMAN, {}, 4),
        (PODMAN, {"network": "none"}, 0),
        (PODMAN, {"runtime": "runsc"}, 0),  # may know no such settings
        (ROOTLESS_PODMAN, {}, 0),  # has no bridge, and no interface of that name
        (DOCKER, {}, 0),  # its bridge keeps its address
    ],
)
def test_a_container_on_podmans_bridge_notices_that_the_bridge_has_another_address(
    dialect: Dialect, changes: dict[str, str], expected: int
) -> None:
    spec = ContainerSpec(name="c", image="i", command=(), **changes)  # type: ignore[arg-type]
    created = argv.create_argv("engine", dialect, spec)
    assert sum(each.startswith("--sysctl=net.ipv4.neigh.eth0.") for each in created) == expected


def test_verbs_on_one_container() -> None:
    assert [
        argv.start_argv("docker", "c1"),
        argv.start_attached_argv("docker", "c1"),
        argv.remove_argv("docker", "c1"),
        argv.exec_argv("docker", "c1", ["sh", "-c", "--x"]),
        argv.logs_argv("docker", "c1", 20),
        argv.copy_in_argv("docker", "c1", "/work:space/-x"),
        argv.copy_out_argv("podman", PODMAN, "c1", "/a b"),
        argv.copy_out_argv("docker", DOCKER, "c1", "/a b"),
        argv.remove_volume_argv("docker", "v1"),
    ] == [
        ("docker", "start", "c1"),
        ("docker", "start", "--attach", "--interactive", "c1"),
        ("docker", "rm", "--force", "--volumes", "c1"),
        ("docker", "exec", "--interactive", "c1", "sh", "-c", "--x"),
        ("docker", "logs", "--timestamps", "--tail=20", "c1"),
        ("docker", "cp", "-", "c1:/work:space/-x"),
        ("podman", "cp", "c1:/a b", "-"),
        ("docker", "cp", "--follow-link", "c1:/a b", "-"),
        ("docker", "volume", "rm", "v1"),
    ]


def test_read_only_verbs() -> None:
    assert [
        questions.version_argv("podman"),
        questions.list_ids_argv("podman", "claude-mcp.session"),
        questions.list_ids_argv("podman", "claude-mcp.egress", "a=b c"),
        questions.inspect_argv("podman", ["c1", "c2"]),
        argv.image_id_argv("podman", "claude-code-custom:latest"),
    ] == [
        ("podman", "version", "--format={{json .}}"),
        ("podman", "ps", "--all", "--quiet", "--no-trunc", "--filter=label=claude-mcp.session"),
        (
            "podman",
            "ps",
            "--all",
            "--quiet",
            "--no-trunc",
            "--filter=label=claude-mcp.egress=a=b c",
        ),
        ("podman", "container", "inspect", f"--format={questions.INSPECT_FORMAT}", "c1", "c2"),
        ("podman", "image", "inspect", "--format={{.Id}}", "claude-code-custom:latest"),
    ]


@pytest.mark.parametrize(
    "build",
    [
        lambda ref: argv.start_argv("docker", ref),
        lambda ref: argv.start_attached_argv("docker", ref),
        lambda ref: argv.remove_argv("docker", ref),
        lambda ref: questions.inspect_argv("docker", ["good", ref]),
        lambda ref: argv.exec_argv("docker", ref, ["true"]),
        lambda ref: argv.logs_argv("docker", ref, 1),
        lambda ref: argv.copy_in_argv("docker", ref, "/"),
        lambda ref: argv.copy_out_argv("docker", DOCKER, ref, "/"),
        lambda ref: argv.create_argv("docker", DOCKER, ContainerSpec(ref, "image", ())),
        lambda ref: argv.create_argv("docker", DOCKER, ContainerSpec("c", "i", (), network=ref)),
        lambda ref: argv.create_argv(
            "docker", DOCKER, ContainerSpec("c", "i", (), volumes=(VolumeMount(ref, "/run/v"),))
        ),
        lambda ref: argv.remove_volume_argv("docker", ref),
    ],
)
def test_only_a_name_or_an_id_refers_to_a_container_a_volume_or_a_network(
    build: Callable[[str], Any],
) -> None:
    for hostile in HOSTILE_REFERENCES:
        with pytest.raises(UsageError, match="is not a valid container name or id"):
            build(hostile)


@pytest.mark.parametrize(
    "image", ["", "-v", "--privileged", "a b", "a\nb", "a\n", "/abs", ":tag", "$(id)", "a" * 513]
)
def test_only_an_image_reference_names_an_image(image: str) -> None:
    with pytest.raises(UsageError, match="is not a valid image name"):
        argv.create_argv("docker", DOCKER, ContainerSpec("c", image, ()))
    with pytest.raises(UsageError, match="is not a valid image name"):
        argv.image_id_argv("docker", image)


def test_a_message_shows_only_the_beginning_of_an_invalid_name() -> None:
    with pytest.raises(UsageError) as caught:
        reference("-" * 1000)
    assert str(caught.value) == f"{'-' * 80!r} is not a valid container name or id."


@pytest.mark.parametrize("key", ["", "-x", "a=b", "a b", "a\n", "1a", "é", "a" * 129])
def test_a_label_or_variable_needs_a_plain_name(key: str) -> None:
    for spec in (
        ContainerSpec("c", "i", (), labels={key: "v"}),
        ContainerSpec("c", "i", (), environment={key: "v"}),
        ContainerSpec("c", "i", (), inherited=(key,)),
    ):
        with pytest.raises(UsageError, match="is not a valid label or variable name"):
            argv.create_argv("docker", DOCKER, spec)
    with pytest.raises(UsageError, match="is not a valid label or variable name"):
        questions.list_ids_argv("docker", key)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/plain path", "type=bind,source=/plain path,target=/t,readonly"),
        ("/a,readonly=false", 'type=bind,"source=/a,readonly=false",target=/t,readonly'),
        ('/say "hi"', 'type=bind,"source=/say ""hi""",target=/t,readonly'),
        ("/two\nlines", 'type=bind,"source=/two\nlines",target=/t,readonly'),
        ("/cr\rhere", 'type=bind,"source=/cr\rhere",target=/t,readonly'),
        ("/a=b", "type=bind,source=/a=b,target=/t,readonly"),
        ("/--x", "type=bind,source=/--x,target=/t,readonly"),
    ],
)
def test_a_mount_path_with_special_characters_stays_one_field(path: str, value: str) -> None:
    assert argv.mount_value(ROOTLESS_PODMAN, BindMount(path, "/t")) == value
    line = csv.reader(io.StringIO(value, newline=""))
    assert list(line) == [["type=bind", f"source={path}", "target=/t", "readonly"]]


def test_a_target_is_quoted_like_a_source() -> None:
    assert argv.mount_value(DOCKER, BindMount("/s", "/t,readonly", read_only=False)) == (
        'type=bind,source=/s,"target=/t,readonly"'
    )


def test_a_read_only_mount_leaves_out_the_file_systems_below_it_if_the_engine_can() -> None:
    assert [argv.mount_value(each, BindMount("/s", "/t")) for each in (DOCKER, PODMAN)] == [
        "type=bind,source=/s,target=/t,readonly,bind-recursive=disabled",
        "type=bind,source=/s,target=/t,readonly,bind-nonrecursive",
    ]


def test_images_are_listed_fetched_and_looked_into() -> None:
    assert argv.images_argv("docker", "a.b") == (
        "docker",
        "images",
        "--filter=label=a.b",
        "--format={{.Repository}}\\t{{.Tag}}\\t{{.ID}}\\t{{.Size}}\\t{{.CreatedSince}}",
    )
    assert argv.pull_argv("podman", "r.example/i:1") == ("podman", "pull", "r.example/i:1")
    assert argv.run_in_image_argv("docker", "i", "echo")[-3:] == ("i", "-c", "echo")
    with pytest.raises(UsageError):
        argv.pull_argv("docker", "--privileged")


def test_a_program_on_a_terminal_gets_the_keys_and_the_words_of_that_terminal() -> None:
    made = argv.exec_on_terminal_argv("docker", "abc", ("sh",), {"TERM": "vt100"})
    assert made[:4] == ("docker", "exec", "--interactive", "--tty")
    assert "--env=TERM=vt100" in made
    assert made[-2:] == ("abc", "sh")
    assert not any("ctrl-p" in each for each in made)
