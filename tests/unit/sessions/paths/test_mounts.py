"""What the kernel says of mounts, read."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_mcp.sessions.paths.mounts import (
    HostMount,
    MountTable,
    Place,
    is_within,
    parse_mounts,
    read_mounts,
)

MOUNTINFO = b"""\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 254:0 /home/me /mnt/my\\040home rw,relatime shared:1 - ext4 /dev/vda rw
31 27 0:23 / /run rw - tmpfs tmpfs rw
32 31 0:40 / /run/user/1 rw master:3 propagate_from:2 - tmpfs tmpfs rw
33 31 0:41 /sub /run/user/1 rw - tmpfs tmpfs rw
34 27 0:42 / /mine rw - fuse.sshfs host:/ rw,user_id=1000,group_id=1000
35 27 0:43 / /ours rw - fuse.sshfs host:/ rw,user_id=1000,group_id=1000,allow_other
"""
MOUNTS = MountTable(parse_mounts(MOUNTINFO))


def test_a_mount_has_a_point_and_a_place() -> None:
    assert [*parse_mounts(MOUNTINFO)][1] == HostMount(
        "/mnt/my home", Place("254:0", "/home/me"), "ext4"
    )


def test_a_file_system_of_one_user_is_told_from_others() -> None:
    assert [mount.point for mount in parse_mounts(MOUNTINFO) if mount.for_one_user] == ["/mine"]
    found = MOUNTS.mount_of("/mine/deep/down")
    assert found is not None
    assert found.for_one_user


@pytest.mark.parametrize(
    ("path", "device", "shown"),
    [
        ("/", "254:0", "/"),
        ("/home/me/x", "254:0", "/home/me/x"),
        ("/mnt/my home", "254:0", "/home/me"),
        ("/mnt/my home/x/y", "254:0", "/home/me/x/y"),
        ("/mnt/my homes", "254:0", "/mnt/my homes"),
        ("/run", "0:23", "/"),
        ("/run/x", "0:23", "/x"),
        ("/run/user/1/bus", "0:41", "/sub/bus"),
    ],
)
def test_the_innermost_and_latest_mount_determines_a_paths_place(
    path: str, device: str, shown: str
) -> None:
    assert MOUNTS.locate_real(path).own == Place(device, shown)


def test_mounts_below_a_directory_are_found() -> None:
    assert MOUNTS.locate_real("/mnt").below == (Place("254:0", "/home/me"),)
    assert MOUNTS.locate_real("/mnt/my home").below == (Place("254:0", "/home/me"),)
    assert MOUNTS.locate_real("/run").below == (
        Place("0:23", "/"), Place("0:40", "/"), Place("0:41", "/sub"),
    )  # fmt: skip
    assert MOUNTS.locate_real("/home").below == ()
    assert len(MOUNTS.locate_real("/").below) == 7


def test_storage_is_told_from_what_the_kernel_makes_up() -> None:
    storage = {mount.point for mount in parse_mounts(MOUNTINFO) if MOUNTS.is_storage(mount)}
    assert storage == {"/", "/mnt/my home", "/mine", "/ours"}
    live = [HostMount("/", Place("0:9", "/"), "tmpfs"), HostMount("/r", Place("0:9", "/"), "tmpfs")]
    assert all(MountTable(live).is_storage(mount) for mount in live)


def test_mount_points_below_a_directory_are_found_unless_something_hides_them(
    tmp_path: Path,
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    points = ["", "/a/b", "/a", "/a", "/gone"]
    mounts = MountTable(HostMount(f"{tmp_path}{each}", Place("0:1", "/"), "x") for each in points)
    assert mounts.points_below(str(tmp_path)) == [f"{tmp_path}/a", f"{tmp_path}/a/b"]


@pytest.mark.parametrize(
    ("path", "directory", "expected"),
    [
        ("/a", "/a", True), ("/a/b", "/a", True), ("/ab", "/a", False), ("/a", "/a/b", False),
        ("/a", "/", True), ("/A/b", "/a", True), ("/a/b", "/A/", True),
    ],
)  # fmt: skip
def test_within_compares_whole_path_components(path: str, directory: str, expected: bool) -> None:
    assert is_within(path, directory) is expected


def test_this_machines_mounts_are_parsed() -> None:
    assert any(mount.point == "/" for mount in read_mounts().below("/"))
