"""The rules for paths where an engine is involved."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from claude_mcp.contract.places import HOST_HOOKS
from claude_mcp.errors import UsageError
from claude_mcp.sessions.create.request import CreateRequest, Mount
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.files.transfer import Direction, transfer
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.turns import commands

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare


@pytest.mark.once
async def test_a_protected_path_makes_no_container(
    sessions: Sessions, project: Path, name: str, bare: Bare
) -> None:
    for request in (
        CreateRequest("/etc", session_name=name),
        CreateRequest(os.path.expanduser("~"), session_name=name),
        CreateRequest(str(project), session_name=name, mounts=(Mount("/run", "/host"),)),
    ):
        with pytest.raises(UsageError, match="is refused: it is "):
            await create(sessions, request)
    assert bare.containers(name) == []


@pytest.mark.near("mounts a directory")
@pytest.mark.parametrize("mounted", [False, True])
async def test_a_path_that_becomes_a_link_while_it_is_mounted_makes_no_session(
    sessions: Sessions, project: Path, tmp_path: Path, name: str, bare: Bare, mounted: bool
) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "data").mkdir()
    swapped = tmp_path / "data" if mounted else project

    async def swap(message: str, amount: object = None, /) -> None:
        if message == "starting the session":
            swapped.rename(tmp_path / "moved")
            swapped.symlink_to("secret")

    request = CreateRequest(
        str(project), session_name=name, mounts=(Mount(str(tmp_path / "data"), "/data"),)
    )
    with pytest.raises(UsageError, match="was replaced while it was being mounted; try again"):
        await create(sessions, request, swap)
    assert bare.containers(name) == []


@pytest.fixture
def file_system() -> Iterator[Callable[[Path], None]]:
    """Mounts a file system of its own at a path, which only root can."""
    mounted: list[str] = []

    def mount(path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(path)], check=True)
        mounted.append(str(path))
        path.chmod(0o777)

    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    yield mount
    for path in reversed(mounted):
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.mark.near("mounts a directory")
async def test_file_systems_below_a_read_only_mount_are_read_only(
    sessions: Sessions,
    project: Path,
    tmp_path: Path,
    name: str,
    bare: Bare,
    file_system: Callable[[Path], None],
) -> None:
    data, hooks = tmp_path / "data", project / ".git" / "hooks"
    for each in (data / "disk", data / "disk" / "deep", hooks / "disk"):
        file_system(each)
    (data / "disk" / "deep" / "file").write_text("there\n")
    request = CreateRequest(str(project), session_name=name, mounts=(Mount(str(data), "/data"),))
    created = await create(sessions, request)
    script = f"""cat /data/disk/deep/file
        for each in /data /data/disk /data/disk/deep {HOST_HOOKS} {HOST_HOOKS}/disk; do
            touch $each/new && echo "$each is writable"
        done; ls /data/late"""
    try:
        ran = await commands.run(await sessions.open(name), script)
        assert (ran.stdout, ran.stderr.count("Read-only file system")) == ("there\n", 5)
        # What is mounted there later is left out, even when the container starts again.
        file_system(data / "late")
        (data / "late" / "file").touch()
        bare("restart", "--time=0", created.session.container_id)
        ran = await commands.run(await sessions.open(name), script)
        assert (ran.stdout, ran.stderr.count("Read-only file system")) == ("there\n", 5)
    finally:
        await sessions.destroy(name)


@pytest.mark.near("mounts a directory")
async def test_a_project_on_a_read_only_file_system_is_told_and_can_be_read(
    sessions: Sessions,
    project: Path,
    name: str,
    file_system: Callable[[Path], None],
) -> None:
    file_system(project)
    (project / "file").write_text("there\n")
    subprocess.run(["mount", "-o", "remount,ro", str(project)], check=True)
    created = await create(sessions, CreateRequest(str(project), session_name=name))
    warning = "Claude cannot write to the project directory: it is on a read-only file system."
    assert warning in created.warnings
    assert (await commands.run(await sessions.open(name), "cat file")).stdout == "there\n"
    await sessions.destroy(name)


@pytest.mark.near("looks into the mounted project")
async def test_files_in_a_set_group_id_directory_keep_its_group(
    sessions: Sessions, project: Path, name: str
) -> None:
    group = 5432 if os.geteuid() == 0 else os.getgid()
    os.chown(project, -1, group)
    project.chmod(0o2775)
    await create(sessions, CreateRequest(str(project), session_name=name))
    await commands.run(await sessions.open(name), "mkdir new && touch new/file")
    assert (project / "new/file").stat().st_gid == group
    await sessions.destroy(name)


async def test_a_link_that_a_session_made_leads_a_transfer_nowhere(
    sessions: Sessions, session: Session, project: Path, tmp_path: Path
) -> None:
    """Out of the project, into a place that the rules refuse."""
    await commands.run(
        await sessions.open(session.id), "ln -s /etc etc; ln -s /etc/hostname name; touch file"
    )
    for name in ("etc/hostname", "name", "etc"):
        with pytest.raises(UsageError, match=r"is refused: it (lies in|is) "):
            await transfer(
                await sessions.open(session.id),
                Direction.TO_CONTAINER,
                f"{project}/{name}",
                "/tmp/x",
            )
    for name in ("etc/claude-mcp-test", "etc/"):
        with pytest.raises(UsageError, match=r"is refused: it lies in /etc"):
            await transfer(
                await sessions.open(session.id),
                Direction.FROM_CONTAINER,
                "file",
                f"{project}/{name}",
            )
    assert not Path("/etc/claude-mcp-test").exists()
    assert not Path("/etc/file").exists()
    copied = await transfer(
        await sessions.open(session.id),
        Direction.FROM_CONTAINER,
        "file",
        f"{project}/name",
        overwrite=True,
    )
    assert (copied.path, (project / "name").is_symlink()) == (f"{project}/name", False)


async def test_a_sparse_file_of_a_session_does_not_fill_the_host(
    sessions: Sessions, shared: Session, tmp_path: Path
) -> None:
    await commands.run(await sessions.open(shared.id), "truncate -s 900G /var/tmp/sparse")
    (tmp_path / "out").mkdir()
    with pytest.raises(Exception, match="the session sent more than 10737418240 bytes"):
        await transfer(
            await sessions.open(shared.id),
            Direction.FROM_CONTAINER,
            "/var/tmp/sparse",
            f"{tmp_path}/out/",
        )
    assert list((tmp_path / "out").iterdir()) == []
