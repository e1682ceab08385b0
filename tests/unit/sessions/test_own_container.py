"""A server in a container names paths to the engine as the host names them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from claude_mcp.engine import host
from claude_mcp.engine.described import parse_mounts
from claude_mcp.engine.engine import OwnMount
from claude_mcp.engine.spec import BindMount, ContainerSpec
from claude_mcp.errors import EngineError, UsageError
from claude_mcp.sessions import own_container
from claude_mcp.sessions.own_container import OwnContainer

ID = "d9d2aa18fb9feb271e82e5b04c39cb2f6d41aa0c66b8186c0866a34c44f11622"
DOCKERS = (
    f"497 479 254:0 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/vda rw\n"
)
PODMANS = (
    f"9 8 0:26 /containers/storage/overlay-containers/{ID}/userdata/hostname /etc/hostname rw - "
    "tmpfs tmpfs rw\n"
)
OTHERS = f"30 25 0:52 /var/lib/docker/containers/{ID}/mounts/shm /mnt/shm rw - tmpfs shm rw\n"
OWN = OwnContainer(
    (
        OwnMount("/home/alice/projects", "/projects"),
        OwnMount("/srv", "/srv"),
        OwnMount("/srv/read", "/srv/read", writable=False),
        OwnMount("", "/projects/scratch", is_bind=False),
    )
)


@pytest.mark.parametrize(
    ("mountinfo", "id"),
    [(DOCKERS, ID), (PODMANS, ID), (OTHERS, None), ("1 2\n", None), ("", None), (None, None)],
)
def test_the_own_container_is_known_by_the_files_that_its_engine_mounts(
    tmp_path: Path, mountinfo: str | None, id: str | None
) -> None:
    file = tmp_path / "mountinfo"
    if mountinfo is not None:
        file.write_text(mountinfo)
    assert host.own_container(file) == id


def test_mounts_are_read_from_what_the_engine_says() -> None:
    said = [
        {"Type": "bind", "Source": "/a", "Destination": "/b", "Mode": "", "RW": True},
        {"Type": "bind", "Source": "/c", "Destination": "/d", "Mode": "ro", "RW": False},
        {"Type": "volume", "Name": "v", "Source": "/v/_data", "Destination": "/v", "RW": True},
        {"Type": "tmpfs", "Destination": "/t", "RW": True},
    ]
    assert parse_mounts(json.dumps(said)) == [
        OwnMount("/a", "/b"),
        OwnMount("/c", "/d", writable=False),
        OwnMount("/v/_data", "/v", is_bind=False),
        OwnMount("", "/t", is_bind=False),
    ]
    assert parse_mounts("null") == []
    for malformed in ("", "{}x", "[1]", '[{"Type": "bind"}]'):
        with pytest.raises(EngineError, match="is malformed"):
            parse_mounts(malformed)


@pytest.mark.parametrize(
    ("named", "here"),
    [
        ("/home/alice/projects/x", "/projects/x"),
        ("/home/alice/projects", "/projects"),
        ("/projects/x", "/projects/x"),
        ("/srv/x", "/srv/x"),
        ("/srv/read/x", "/srv/read/x"),
        ("x", "x"),
        ("~/x", "~/x"),
    ],
)
def test_a_path_may_be_named_as_the_host_or_as_the_server_names_it(named: str, here: str) -> None:
    assert OWN.here(named) == here


@pytest.mark.parametrize(
    "path", ["/home/alice", "/home/alice/projects2", "/etc", "/projects/scratch/x", "/"]
)
def test_a_path_that_is_not_mounted_is_refused_with_the_mount_that_would_help(path: str) -> None:
    with pytest.raises(UsageError) as caught:
        OWN.here(path)
    assert f"{path!r} of the host is missing" in caught.value.message
    assert f"--volume={path}:{path}" in str(caught.value.hint)
    assert "/home/alice/projects, /srv, /srv/read." in str(caught.value.hint)


def test_a_path_that_means_two_directories_is_refused() -> None:
    crossed = OwnContainer((OwnMount("/a", "/b"), OwnMount("/b", "/c")))
    with pytest.raises(UsageError, match="means two directories") as caught:
        crossed.here("/b/x")
    assert "/c/x" in caught.value.message
    assert "/a/x" in caught.value.message
    assert crossed.here("/c/x") == "/c/x"
    assert crossed.here("/a/x") == "/b/x"


def test_a_path_that_climbs_is_refused() -> None:
    with pytest.raises(UsageError, match=r"must not contain '\.\.'"):
        OWN.here("/srv/../etc")


def spec(*mounts: BindMount) -> ContainerSpec:
    return ContainerSpec(name="c", image="i", command=(), mounts=mounts)


def test_the_engine_is_told_the_host_s_names() -> None:
    given = spec(
        BindMount("/projects/x", "/workspace", read_only=False),
        BindMount("/projects/x/.git/hooks", "/workspace/.git/hooks"),
        BindMount("/srv/read/y", "/y"),
    )
    assert OWN.for_engine(given).mounts == (
        BindMount("/home/alice/projects/x", "/workspace", read_only=False),
        BindMount("/home/alice/projects/x/.git/hooks", "/workspace/.git/hooks"),
        BindMount("/srv/read/y", "/y"),
    )


def test_what_the_server_may_only_read_is_not_given_to_write() -> None:
    with pytest.raises(UsageError, match="the server may only read it itself") as caught:
        OWN.for_engine(spec(BindMount("/srv/read/y", "/workspace", read_only=False)))
    assert "Mount /srv/read into the server's container without ':ro'" in str(caught.value.hint)


def test_what_is_in_the_container_itself_is_refused() -> None:
    for path in ("/etc/x", "/projects/scratch/x"):
        with pytest.raises(UsageError, match="of the host is missing"):
            OWN.for_engine(spec(BindMount(path, "/x")))


async def test_on_the_host_there_is_no_own_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "own_container", lambda: None)
    assert await own_container.find(None) is None  # type: ignore[arg-type]
