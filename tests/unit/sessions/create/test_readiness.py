"""What an agent reports of its container, compared with what was asked for."""

from __future__ import annotations

import os
import zlib
from pathlib import Path, PurePosixPath

import pytest

from claude_mcp.engine.spec import BindMount, ContainerSpec, VolumeMount
from claude_mcp.errors import EngineError, UsageError
from claude_mcp.sessions import mounted
from claude_mcp.sessions.create import readiness
from claude_mcp.sessions.create.readiness import Readiness
from claude_mcp.sessions.mounted import Identity
from claude_mcp.sessions.paths import identity

KERNEL = "0b1c-2d3e"


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounted, "boot_id", lambda: KERNEL)


@pytest.fixture
def spec(tmp_path: Path) -> ContainerSpec:
    for each in ("project", "data"):
        (tmp_path / each).mkdir()
    return ContainerSpec(
        "one",
        "image",
        (),
        mounts=(
            BindMount(str(tmp_path / "project"), "/workspace", read_only=False),
            BindMount(str(tmp_path / "data"), "/var/run/data"),
        ),
        volumes=(VolumeMount("proxy", "/run/proxy"),),
    )


def checked(spec: ContainerSpec) -> dict[str, Identity | None]:
    sources = [mount.source for mount in spec.mounts]
    return dict(zip(sources, identity.identities(sources), strict=True))


def report(spec: ContainerSpec, **facts: str) -> str:
    mounts = [
        f"mount={status.st_dev}:{status.st_ino}:{mount.target}"
        for mount in spec.mounts
        if (status := os.stat(mount.source))
    ]
    return " ".join(["writable", *mounts, *(f"{name}={value}" for name, value in facts.items())])


def names(*entries: str) -> str:
    return ",".join(f"{zlib.crc32(name.encode()):x}" for name in entries)


def test_a_report_is_read() -> None:
    assert readiness.parse(
        "read-only missing=claude missing=ps CapEff=0000000000000000 CapBnd=00000000a80425fb "
        "NoNewPrivs=1 Seccomp=2 kernel=0b1c mount=1:2:/a\\040b\\134 mount=3:4:/caf\\xc3\\xa9 "
        "device=null device=kvm entries=1f,2e"
    ) == Readiness(
        writable=False,
        missing=("claude", "ps"),
        privileges={"CapEff": 0, "CapBnd": 0xA80425FB, "NoNewPrivs": 1, "Seccomp": 2},
        kernel="0b1c",
        mounts={PurePosixPath("/a b\\"): (1, 2), PurePosixPath("/café"): (3, 4)},
        devices=("null", "kvm"),
        entries=frozenset({"1f", "2e"}),
    )


@pytest.mark.parametrize(
    "text",
    ["", " ", "=", "mount=1:2", "mount=x:1:/a", "CapEff=wide", "CapBnd=", "Seccomp=-1", "mount"],
)
def test_what_is_malformed_in_a_report_counts_as_left_out(text: str) -> None:
    assert readiness.parse(f"writable {text}") == Readiness(writable=True)


def test_an_empty_project_differs_from_one_that_was_not_read() -> None:
    assert readiness.parse("writable entries=").entries == frozenset()


def test_what_was_asked_for_gives_no_warning(spec: ContainerSpec) -> None:
    said = report(spec, kernel=KERNEL, CapEff="0", CapBnd="0", NoNewPrivs="1", Seccomp="2")
    said = said.replace(":/var/run/data", ":/run/data")  # the image has a link there
    said += " mount=1:1:/workspace/disk mount=1:2:/run/proxy mount=1:3:/etc/hosts device=null"
    said += " mount=1:4:/usr/share/zoneinfo/Etc/UTC"
    assert readiness.check(readiness.parse(said), spec, checked(spec)) == ()


def test_what_an_engines_configuration_adds_is_named(spec: ContainerSpec) -> None:
    said = report(spec, kernel=KERNEL, Seccomp="0").replace("writable", "read-only")
    said += " mount=1:1:/host mount=1:2:/etc/hosts device=null device=kvm"
    warnings = readiness.check(readiness.parse(said), spec, checked(spec))
    assert [warning.partition(": ")[::2] for warning in warnings] == [
        ("Claude cannot write to the project directory", "check its owner and mode."),
        (warnings[1], ""),
        (f"{readiness.ADDED} mounts to this session", "/host."),
        (f"{readiness.ADDED} devices to this session", "/dev/kvm."),
    ]
    assert "no seccomp filter" in warnings[1]


def test_a_read_only_file_system_is_the_reason_that_claude_cannot_write(
    spec: ContainerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = os.statvfs("/")
    read_only = os.statvfs_result((*flags[:8], flags.f_flag | os.ST_RDONLY, *flags[9:]))
    monkeypatch.setattr(os, "statvfs", lambda path: read_only)
    (warning,) = readiness.check(readiness.parse("read-only"), spec, checked(spec))
    assert warning.endswith(": it is on a read-only file system.")


def test_a_long_list_of_additions_is_cut(spec: ContainerSpec) -> None:
    said = report(spec, kernel=KERNEL) + "".join(f" device=d{number:02}" for number in range(12))
    (warning,) = readiness.check(readiness.parse(said), spec, checked(spec))
    assert warning.endswith("/dev/d08, /dev/d09 and 2 more.")


def test_a_runtime_with_a_kernel_of_its_own_may_have_other_devices(spec: ContainerSpec) -> None:
    said = readiness.parse(report(spec, Seccomp="0", device="fuse"))
    assert readiness.check(said, spec, checked(spec)) == ()


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"CapEff": "1"}, "has capabilities"),
        ({"CapBnd": "a80425fb"}, "has capabilities"),
        ({"NoNewPrivs": "0"}, "can gain privileges"),
        ({"NoNewPrivs": "0", "CapEff": "1"}, "has capabilities and can gain privileges"),
    ],
)
def test_privileges_are_refused(spec: ContainerSpec, facts: dict[str, str], problem: str) -> None:
    said = readiness.parse(report(spec, **facts))
    with pytest.raises(EngineError, match=f"The session {problem}, although it was created withou"):
        readiness.check(said, spec, checked(spec))


@pytest.mark.parametrize("mount", [0, 1])
def test_another_directory_of_the_same_kernel_is_refused(spec: ContainerSpec, mount: int) -> None:
    source, target = spec.mounts[mount].source, spec.mounts[mount].target
    inode = os.stat(source).st_ino
    said = report(spec, kernel=KERNEL).replace(f":{inode}:{target}", f":{inode + 1}:{target}")
    with pytest.raises(UsageError, match=f"The engine has other files at {source} than this prog"):
        readiness.check(readiness.parse(said), spec, checked(spec))


def test_a_path_that_was_replaced_after_its_check_is_refused(spec: ContainerSpec) -> None:
    known = checked(spec)
    data = Path(spec.mounts[1].source)
    data.rename(data.with_name("old"))
    data.mkdir()
    with pytest.raises(UsageError, match="was replaced while it was being mounted"):
        readiness.check(readiness.parse(report(spec, kernel=KERNEL)), spec, known)


@pytest.mark.parametrize(
    ("here", "there", "same"),
    [
        ([], [], True),
        (["a", "b"], ["b", "c"], True),
        (["a"], [], False),
        ([], ["a"], False),
        (["a", "b"], ["c"], False),
    ],
)
def test_a_project_in_another_machine_is_recognized_by_the_names_in_it(
    spec: ContainerSpec, here: list[str], there: list[str], same: bool
) -> None:
    for name in here:
        (Path(spec.mounts[0].source) / name).touch()
    said = readiness.parse(f"writable kernel=other mount=1:1:/workspace entries={names(*there)}")
    if same:
        assert readiness.check(said, spec, checked(spec)) == ()
    else:
        with pytest.raises(UsageError, match="has other files at"):
            readiness.check(said, spec, checked(spec))
