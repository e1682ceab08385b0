"""Which limits a session gets, from wishes, configuration and host, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from claude_mcp.config import Config
from claude_mcp.contract.wording import worded
from claude_mcp.engine import host
from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.engine.dialects.docker import DOCKER, ROOTLESS_DOCKER
from claude_mcp.engine.dialects.kubernetes import KUBERNETES
from claude_mcp.engine.dialects.podman import PODMAN, ROOTLESS_PODMAN
from claude_mcp.engine.docker_cli import DockerCliEngine
from claude_mcp.engine.info import IMAGE_STORE, UNDELEGATED, EngineInfo
from claude_mcp.engine.spec import Limits, TmpfsMount
from claude_mcp.errors import UsageError
from claude_mcp.sessions.limits import (
    GIB,
    MIB,
    Containment,
    contain,
    described,
    info_for,
    kept_bytes,
    parse_size,
)


class Machine:
    """What ``host`` answers; changed by a test before it asks."""

    memory = 16 * GIB
    cpus = 8
    selinux = False


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(host, "memory_bytes", lambda: machine.memory)
    monkeypatch.setattr(host, "cpus", lambda: machine.cpus)
    monkeypatch.setattr(host, "has_selinux", lambda: machine.selinux)
    return machine


def unable(*ignored: str, kernel: str = "6.1.0", reason: str = UNDELEGATED) -> EngineInfo:
    """An engine that silently ignores these limits."""
    return EngineInfo(True, kernel, dict.fromkeys(ignored, reason))


def contained(
    wanted: Mapping[str, str] | None = None,
    *,
    dialect: Dialect = DOCKER,
    info: EngineInfo | None = None,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> Containment:
    return contain(Config({}, **(settings or {})), dialect, wanted or {}, info, **options)


def test_the_defaults_leave_the_host_half_its_memory_and_one_cpu(machine: Machine) -> None:
    assert contained() == Containment(
        limits=Limits(memory=8 * GIB, cpus=7, pids=2048),
        max_user_processes=None,
        runtime=None,
        read_only_root=False,
        tmpfs_mounts=(),
        security_options=(),
        warnings=(),
    )


def test_a_small_machine_is_not_halved_out_of_use(machine: Machine) -> None:
    machine.memory, machine.cpus = 3 * GIB, 2
    assert contained().limits == Limits(memory=2 * GIB, pids=2048)


def test_the_creator_wins_over_the_configuration_and_that_over_the_defaults(
    machine: Machine,
) -> None:
    settings = {"limits": {"memory": "1g", "cpus": "2", "pids": "none", "disk": "10g"}}
    assert contained({"memory": "512m", "disk": "0"}, settings=settings).limits == Limits(
        memory=512 * MIB, cpus=2
    )
    nothing = {"memory": "0", "cpus": "0.0", "pids": "0", "disk": "none"}
    assert contained(nothing, settings=settings).limits == Limits()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("300", 300),
        ("4g", 4 * GIB),
        ("4 GiB", 4 * GIB),
        ("1.5G", 3 * GIB // 2),
        ("512MB", 512 * MIB),
        ("7b", 7),
        ("", None),
        ("-1g", None),
        ("1e9", None),
        ("g", None),
        ("4g --privileged", None),
        ("9" * 400, None),
    ],
)
def test_sizes_are_read_as_the_engines_read_them(text: str, size: int | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"memory": "much"}, "limits.memory must be a size such as 512m or 4g, or 0 for no limit."),
        ({"memory": "1m"}, "limits.memory must be at least 256m, or 0 for no limit."),
        ({"disk": "1k"}, "limits.disk must be at least 16m, or 0 for no limit."),
        ({"cpus": "nan"}, "limits.cpus must be a number, at least 0.01, or 0 for no limit."),
        ({"cpus": "-1"}, "limits.cpus must be a number, at least 0.01, or 0 for no limit."),
        ({"cpus": "inf"}, "limits.cpus must be a number, at least 0.01, or 0 for no limit."),
        ({"pids": "3"}, "limits.pids must be a number, at least 64, or 0 for no limit."),
    ],
)
def test_a_limit_that_nobody_can_work_with_is_refused(
    machine: Machine, wanted: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        contained(wanted)
    assert worded(caught.value.message) == message


def test_a_bad_setting_is_named_as_it_is_set(machine: Machine) -> None:
    with pytest.raises(UsageError, match=r"^CLAUDE_MCP_MEMORY must be a size"):
        contained(settings={"limits": {"memory": "lots"}})


def test_a_read_only_root_has_its_writable_places_in_memory(machine: Machine) -> None:
    found = contained({"disk": "100m"}, read_only_root=True)
    assert (found.read_only_root, found.limits.disk, found.tmpfs_mounts) == (
        True,
        None,
        (TmpfsMount("/tmp", 100 * MIB), TmpfsMount("/var/tmp", 100 * MIB)),
    )
    configured = {"read_only_root": True}
    assert contained(settings=configured).tmpfs_mounts[0] == TmpfsMount("/tmp", GIB)
    assert contained(settings=configured, read_only_root=False).read_only_root is False


def test_a_runtime_is_a_name_and_no_program(machine: Machine) -> None:
    assert contained(settings={"runtime": "kata"}).runtime == "kata"
    assert contained(settings={"runtime": "kata"}, runtime_name="runsc").runtime == "runsc"
    for hostile in ("/workspace/runc", "../runc", "--privileged", "a b", "a\n"):
        with pytest.raises(UsageError, match="is not a valid runtime name"):
            contained(runtime_name=hostile)


def test_labels_are_disabled_where_selinux_is_on(machine: Machine) -> None:
    machine.selinux = True
    assert contained().security_options == ("label=disable",)


def test_a_rootless_engine_is_not_asked_for_what_it_cannot_set(machine: Machine) -> None:
    found = contained(dialect=ROOTLESS_PODMAN, info=unable("cpus"))
    assert found.limits == Limits(memory=8 * GIB, pids=2048)
    assert found.warnings == (
        "Podman cannot limit this session's CPU here: its cgroup controller is not "
        "delegated to your user. With systemd and cgroup version 2, set 'Delegate=cpu memory pids' "
        "in user@.service.",
    )


def test_without_any_controller_processes_are_bounded_by_their_user_namespace(
    machine: Machine,
) -> None:
    none = ("memory", "cpus", "pids")
    found = contained({"pids": "100", "cpus": "0"}, dialect=ROOTLESS_PODMAN, info=unable(*none))
    assert (found.limits, found.max_user_processes) == (Limits(), 100)
    assert [each.partition(" here")[0] for each in found.warnings] == [
        "Podman cannot limit this session's memory"
    ]


@pytest.mark.parametrize(
    ("dialect", "kernel"), [(ROOTLESS_PODMAN, "5.10.0"), (ROOTLESS_DOCKER, "6.1.0")]
)
def test_processes_that_nothing_bounds_for_one_session_alone_are_a_warning(
    machine: Machine, dialect: Dialect, kernel: str
) -> None:
    wanted = {"pids": "100", "cpus": "0", "memory": "0"}
    found = contained(wanted, dialect=dialect, info=unable("pids", kernel=kernel))
    assert (found.limits, found.max_user_processes) == (Limits(), None)
    assert [each.partition(" here")[0] for each in found.warnings] == [
        f"{dialect.title} cannot limit this session's processes"
    ]


def test_a_disk_limit_that_the_engine_ignores_is_a_warning(machine: Machine) -> None:
    ignoring = unable("disk", reason=IMAGE_STORE)
    found = contained({"disk": "1g"}, info=ignoring)
    assert (found.limits.disk, found.warnings) == (
        None,
        (
            "Docker cannot limit this session's disk here: the containerd image store ignores "
            "this limit.",
        ),
    )
    # A read-only root is bounded by the sizes of its tmpfs mounts instead.
    found = contained({"disk": "1g"}, info=ignoring, read_only_root=True)
    assert (found.tmpfs_mounts[0].size, found.warnings) == (GIB, ())
    assert contained(info=ignoring).warnings == ()


@pytest.mark.parametrize(
    ("dialect", "wanted", "read_only", "asked"),
    [
        (DOCKER, {}, None, False),
        (DOCKER, {"memory": "1g"}, None, False),
        (DOCKER, {"disk": "1g"}, None, True),
        (DOCKER, {"disk": "1g"}, True, False),
        (PODMAN, {}, None, False),
        (ROOTLESS_DOCKER, {}, None, True),
        (ROOTLESS_PODMAN, {}, True, True),
    ],
)
async def test_the_engine_is_asked_only_if_it_may_ignore_a_limit(
    dialect: Dialect, wanted: dict[str, str], read_only: bool | None, asked: bool
) -> None:
    known = unable("memory")
    engine = DockerCliEngine("/nosuch", "1", dialect, {}, [known])
    found = await info_for(engine, Config({}), wanted, read_only)
    assert found == (known if asked else None)


def test_limits_are_described_in_a_line(machine: Machine) -> None:
    assert described(contained()) == "8.0 GiB of memory, 7 CPUs, 2048 processes"
    info = unable("memory", "cpus", "pids")
    assert described(contained(dialect=ROOTLESS_PODMAN, info=info)) == "2048 processes"
    nothing = {"memory": "0", "cpus": "0", "pids": "0"}
    assert described(contained(nothing)) == "none"


@pytest.mark.parametrize(
    ("configured", "wanted", "expected"),
    [
        (None, None, None),
        (None, "10g", 10 << 30),
        ("1g", None, 1 << 30),
        ("1g", "2g", 2 << 30),
        ("1g", "0", None),
    ],
)
def test_the_size_of_a_volume_that_keeps_files(
    configured: str | None, wanted: str | None, expected: int | None
) -> None:
    config = Config(environment={}, persistent_volume=configured)
    assert kept_bytes(config, KUBERNETES, wanted) == expected


def test_a_volume_of_no_use_is_refused_and_a_configured_one_left_alone() -> None:
    config = Config(environment={}, persistent_volume="1g")
    assert kept_bytes(config, DOCKER, None) is None
    assert kept_bytes(config, DOCKER, "0") is None
    with pytest.raises(UsageError, match="on Docker, a session's files outlive"):
        kept_bytes(config, DOCKER, "1g")


@pytest.mark.parametrize("wanted", ["x", "1m"])
def test_a_volume_has_a_size_that_is_of_use(wanted: str) -> None:
    with pytest.raises(UsageError, match=r"persistentVolume.? must be .*, or 0 for none"):
        kept_bytes(Config(environment={}), KUBERNETES, wanted)
