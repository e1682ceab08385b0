from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest

from claude_mcp.config import load
from claude_mcp.engine.engine import Engine
from claude_mcp.errors import EngineError, SessionNotReady, TransferError, UsageError
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.files.transfer import Direction, transfer
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.turns import commands
from tests.brakes import fit_brake

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare

pytestmark = pytest.mark.cluster

TO, FROM = Direction.TO_CONTAINER, Direction.FROM_CONTAINER
AWKWARD = "--name with 'quotes' \"double\" $HOME `x`\nnewline é🎉"


def make_tree(root: Path) -> Path:
    """Files of several modes, directories, an empty one, links and awkward names."""
    (root / "sub dir" / "empty").mkdir(parents=True)
    (root / "plain").write_bytes(bytes(range(256)) * 100)
    (root / "tool.sh").write_text("#!/bin/sh\n")
    (root / "tool.sh").chmod(0o755)
    (root / "sub dir" / "private").write_text("p")
    (root / "sub dir" / "private").chmod(0o600)
    (root / "sub dir").chmod(0o750)
    (root / AWKWARD).write_text("awkward")
    (root / "link").symlink_to("sub dir/private")
    (root / "empty file").touch()
    return root


def snapshot(root: Path) -> dict[str, object]:
    """Every path with its mode and its content or the target of its link."""
    seen: dict[str, object] = {}
    for path in sorted([root, *root.rglob("*")]):
        key = str(path.relative_to(root))
        if path.is_symlink():
            seen[key] = ("link", os.readlink(path))
        elif path.is_dir():
            seen[key] = ("directory", path.stat().st_mode & 0o777)
        else:
            seen[key] = (path.stat().st_mode & 0o777, path.read_bytes())
    return seen


@pytest.mark.parametrize("there", ["/tmp/tree", "/workspace/tree", "relative", "/var/tmp/tree"])
async def test_tree_survives_both_ways(
    sessions: Sessions, shared: Session, tmp_path: Path, there: str
) -> None:
    source = make_tree(tmp_path / "source")
    sent = await transfer(await sessions.open(shared.id), TO, str(source), there)
    expected = "/workspace/relative" if there == "relative" else there
    assert (sent.path, sent.files, sent.warnings) == (expected, 6, ())
    assert sent.size == 25_600 + 10 + 1 + 7
    fetched = await transfer(await sessions.open(shared.id), FROM, there, str(tmp_path / "back"))
    assert (fetched.path, fetched.files, fetched.size) == (str(tmp_path / "back"), 6, sent.size)
    assert snapshot(tmp_path / "back") == snapshot(source)


@pytest.mark.near("looks into the mounted project")
async def test_what_goes_in_belongs_to_the_sessions_user_also_in_the_workspace(
    sessions: Sessions, shared: Session, tmp_path: Path
) -> None:
    project = Path(shared.project_path)
    source = make_tree(tmp_path / "source")
    for there in ("/workspace/", "/tmp/"):
        await transfer(await sessions.open(shared.id), TO, str(source), there)
        owners = await commands.run(
            await sessions.open(shared.id),
            f"find {there}source -exec stat -c %u {{}} + | sort -u; id -u",
        )
        first, second = owners.stdout.split()
        assert first == second
    assert (project / "source" / "plain").stat().st_uid == project.stat().st_uid
    assert (project / "source").parent.stat().st_uid == project.stat().st_uid


async def test_single_file_goes_into_a_directory_or_gets_a_new_name(
    sessions: Sessions, shared: Session, tmp_path: Path
) -> None:
    file = tmp_path / AWKWARD
    file.write_text("content")
    into = await transfer(await sessions.open(shared.id), TO, str(file), "/tmp/")
    renamed = await transfer(await sessions.open(shared.id), TO, str(file), "/tmp/renamed")
    assert (into.path, renamed.path) == (f"/tmp/{AWKWARD}", "/tmp/renamed")
    back = await transfer(
        await sessions.open(shared.id), FROM, f"/tmp/{AWKWARD}", f"{tmp_path}/out"
    )
    assert Path(back.path).read_text() == "content"


@pytest.mark.per_engine
async def test_what_is_there_is_kept_unless_overwrite_is_asked(
    sessions: Sessions, shared: Session, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    new.write_text("new")
    await commands.run(await sessions.open(shared.id), "echo -n old > /tmp/file")
    with pytest.raises(TransferError, match=r"/tmp/file exists already.* allow what is there"):
        await transfer(await sessions.open(shared.id), TO, str(new), "/tmp/file")
    assert (await commands.run(await sessions.open(shared.id), "cat /tmp/file")).stdout == "old"
    await transfer(await sessions.open(shared.id), TO, str(new), "/tmp/file", overwrite=True)
    assert (await commands.run(await sessions.open(shared.id), "cat /tmp/file")).stdout == "new"
    kept = tmp_path / "kept"
    kept.write_text("kept")
    with pytest.raises(TransferError, match="exists already"):
        await transfer(await sessions.open(shared.id), FROM, "/tmp/file", str(kept))
    assert kept.read_text() == "kept"
    await transfer(await sessions.open(shared.id), FROM, "/tmp/file", str(kept), overwrite=True)
    assert kept.read_text() == "new"


@pytest.mark.per_engine
async def test_overwritten_directory_is_merged(
    sessions: Sessions, shared: Session, tmp_path: Path
) -> None:
    source = tmp_path / "dir"
    source.mkdir()
    (source / "both").write_text("new")
    (source / "added").write_text("added")
    await commands.run(
        await sessions.open(shared.id),
        "mkdir -p /tmp/dir; echo -n old > /tmp/dir/both; touch /tmp/dir/mine",
    )
    await transfer(await sessions.open(shared.id), TO, str(source), "/tmp/", overwrite=True)
    after = await commands.run(await sessions.open(shared.id), "ls /tmp/dir; cat /tmp/dir/both")
    assert after.stdout == "added\nboth\nmine\nnew"


@pytest.mark.per_engine
async def test_missing_sources_and_directories_are_said_and_change_nothing(
    sessions: Sessions, shared: Session, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(UsageError, match=r"'.*missing' does not exist on the host"):
        await transfer(await sessions.open(shared.id), TO, str(tmp_path / "missing"), "/tmp/")
    with pytest.raises(UsageError, match="must be an absolute path"):
        await transfer(await sessions.open(shared.id), TO, "relative", "/tmp/")
    with pytest.raises(TransferError, match="there is no directory /nosuch"):
        await transfer(await sessions.open(shared.id), TO, str(file), "/nosuch/file")
    with pytest.raises(TransferError, match="Nothing was copied: /proc: "):
        await transfer(await sessions.open(shared.id), TO, str(file), "/proc/file")
    with pytest.raises(TransferError, match="'/tmp/missing' does not exist in session"):
        await transfer(await sessions.open(shared.id), FROM, "/tmp/missing", str(tmp_path) + "/")
    with pytest.raises(TransferError, match=f"there is no directory {tmp_path}/nosuch"):
        await transfer(
            await sessions.open(shared.id), FROM, "/etc/hostname", str(tmp_path / "nosuch/x")
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.per_engine
async def test_missing_directories_are_created_on_request_and_removed_after_a_failure(
    sessions: Sessions, shared: Session, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    handle = await sessions.open(shared.id)
    await transfer(handle, TO, str(file), "/tmp/made/for/it", create_parents=True)
    shown = await commands.run(handle, "cat /tmp/made/for/it; stat -c %U /tmp/made; id -un")
    assert shown.stdout.startswith("x")
    assert len({*shown.stdout.removeprefix("x").split()}) == 1
    inside = await transfer(
        handle, FROM, "/tmp/made/for/it", f"{tmp_path}/a/b/", create_parents=True
    )
    assert inside.path == f"{tmp_path}/a/b/it"
    assert (tmp_path / "a" / "b" / "it").read_text() == "x"
    assert (tmp_path / "a").stat().st_uid == tmp_path.stat().st_uid
    with pytest.raises(TransferError, match="does not exist in session"):
        await transfer(handle, FROM, "/tmp/missing", f"{tmp_path}/c/d/", create_parents=True)
    with pytest.raises(TransferError, match="cannot be created"):
        await transfer(handle, FROM, "/tmp/made", f"{file}/d/e", create_parents=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "file"]


@pytest.mark.per_engine
@pytest.mark.podman
async def test_a_tmpdir_that_does_not_exist_is_named(
    engine: Engine, environ: dict[str, str], shared: Session, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    environ |= {"TMPDIR": "/nosuch/tmp"}
    async with open_sessions(load(environ, engine=engine.dialect.name)) as sessions:
        handle = await sessions.open(shared.id)
        with pytest.raises(EngineError, match="temporary files: /nosuch/tmp: No such") as caught:
            await transfer(handle, TO, str(file), f"/tmp/{tmp_path.name}")
    assert "TMPDIR" in (caught.value.hint or "")


@pytest.mark.per_engine
async def test_link_that_leads_outside_is_left_out_with_a_warning(
    sessions: Sessions, shared: Session, tmp_path: Path
) -> None:
    await commands.run(
        await sessions.open(shared.id),
        "mkdir -p /tmp/t/sub; cd /tmp/t; ln -s /etc/passwd absolute; ln -s ../../x up;"
        " ln -s ../ok sub/inside; touch ok; mkfifo pipe",
    )
    fetched = await transfer(await sessions.open(shared.id), FROM, "/tmp/t", str(tmp_path / "t"))
    assert sorted(path.name for path in (tmp_path / "t").rglob("*")) == ["inside", "ok", "sub"]
    assert len(fetched.warnings) == 3


@pytest.mark.per_engine
async def test_cancelled_transfer_leaves_nothing_on_either_side(
    sessions: Sessions, session: Session, tmp_path: Path, bare: Bare
) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(400_000_000)
    await commands.run(await sessions.open(session.id), "mkdir /var/tmp/in")
    for milliseconds in (*range(20, 70, 5), 250):
        with anyio.move_on_after(milliseconds / 1000) as scope:
            await transfer(await sessions.open(session.id), TO, str(big), "/var/tmp/in/")
        listing = await commands.run(await sessions.open(session.id), "ls -A /var/tmp/in")
        if scope.cancelled_caught:
            assert listing.stdout == ""
    await commands.run(
        await sessions.open(session.id), "head -c 400000000 /dev/zero > /var/tmp/big"
    )
    out = tmp_path / "out"
    out.mkdir()
    with anyio.move_on_after(0.25) as scope:
        await transfer(await sessions.open(session.id), FROM, "/var/tmp/big", f"{out}/")
    if scope.cancelled_caught:
        assert list(out.iterdir()) == []


async def test_engine_leaves_no_copy_of_what_was_sent_on_the_host(
    environ: dict[str, str], engine: Engine, project: Path, name: str, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    environ["TMPDIR"] = str(spool)
    source = make_tree(tmp_path / "source")
    big = tmp_path / "source" / "big"
    with big.open("wb") as file:
        file.truncate(200_000_000)
    async with open_sessions(load(environ, engine=engine.dialect.name)) as sessions:
        await create(sessions, CreateRequest(str(project), session_name=name))
        try:
            await transfer(await sessions.open(name), TO, str(source), "/tmp/whole")
            await transfer(await sessions.open(name), TO, str(source / "plain"), "/tmp/file")
            with anyio.move_on_after(0.2):
                await transfer(await sessions.open(name), TO, str(source), "/tmp/cancelled")
            assert list(spool.iterdir()) == []
        finally:
            await sessions.destroy(name)


@pytest.mark.near("looks into the mounted project")
async def test_single_file_belongs_to_the_sessions_user_and_keeps_its_mode(
    sessions: Sessions,
    project: Path,
    name: str,
    as_root: bool,
    give_to: Callable[[Path, int], None],
    tmp_path: Path,
) -> None:
    if as_root:
        project.parent.chmod(0o755)
        give_to(project, 4321)
    await create(sessions, CreateRequest(str(project), session_name=name))
    try:
        for file_name in ("plain", "a*b?[c]", "--option:with:colons"):
            file = tmp_path / file_name
            file.write_text("content")
            file.chmod(0o640)
            await transfer(await sessions.open(name), TO, str(file), "/workspace/")
            arrived = project / file_name
            status = arrived.stat()
            assert (status.st_uid, status.st_mode & 0o777) == (project.stat().st_uid, 0o640)
            assert arrived.read_text() == "content"
    finally:
        await sessions.destroy(name)


@pytest.fixture
def full(as_root: bool, tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system of 4 MB; where we may not mount one, the session's tmpfs."""
    path = tmp_path / "full"
    path.mkdir()
    if as_root:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)], check=True)
    yield path
    if as_root:
        subprocess.run(["umount", str(path)], check=True)


@pytest.mark.near("mounts a small file system")
async def test_full_disk_is_said_and_nothing_is_left_of_the_transfer(
    sessions: Sessions, name: str, as_root: bool, full: Path, tmp_path: Path
) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(80_000_000)
    await create(sessions, CreateRequest(str(full), session_name=name))
    try:
        # Rootless engines are Podman, whose cp reaches a tmpfs of the container.
        there = "/workspace" if as_root else "/dev/shm"
        with pytest.raises(EngineError, match=r"no space left on device.* Free some space"):
            await transfer(await sessions.open(name), TO, str(big), f"{there}/")
        left = await commands.run(await sessions.open(name), f"ls -A {there}")
        assert "big" not in left.stdout
        assert ".claude-mcp" not in left.stdout
        if as_root:
            await commands.run(
                await sessions.open(name), "head -c 80000000 /dev/zero > /var/tmp/big"
            )
            with pytest.raises(TransferError, match="No space left on device"):
                await transfer(await sessions.open(name), FROM, "/var/tmp/big", f"{full}/")
            assert list(full.iterdir()) == []
    finally:
        await sessions.destroy(name)


@pytest.mark.per_engine
async def test_a_session_removed_during_a_transfer_gives_everything_or_an_error(
    sessions: Sessions, session: Session, bare: Bare, tmp_path: Path
) -> None:
    await commands.run(
        await sessions.open(session.id),
        "mkdir /tmp/tree; cd /tmp/tree; for d in $(seq 200); do mkdir $d; "
        "for f in $(seq 100); do echo $f > $d/$f; done; done",
    )
    out = tmp_path / "out"
    out.mkdir()

    async def remove_when_files_arrive() -> None:
        while not list(out.glob(".claude-mcp-*/tree/*")):
            await anyio.sleep(0.01)
        await anyio.to_thread.run_sync(bare.remove, session.container_id)

    failed = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(remove_when_files_arrive)
        try:
            await transfer(await sessions.open(session.id), FROM, "/tmp/tree", f"{out}/")
        except (TransferError, EngineError) as error:
            failed = error
    if failed is None:  # the engine removes the container after the copy
        assert len([path for path in out.rglob("*") if path.is_file()]) == 20_000
    else:
        assert "Nothing was copied" in str(failed)
        assert list(out.iterdir()) == []


@pytest.mark.near("mounts a directory")
@pytest.mark.per_engine
async def test_a_project_removed_during_a_transfer_is_an_error_in_plain_words(
    sessions: Sessions,
    session: Session,
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(2000):
        (source / str(number)).write_bytes(bytes(2000))
    brake = fit_brake(monkeypatch)

    async def remove_when_files_arrive() -> None:
        await brake.until_reached()
        assert list(project.glob(".claude-mcp-*"))
        await anyio.to_thread.run_sync(shutil.rmtree, project, True)
        brake.release()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(remove_when_files_arrive)
        with pytest.raises((TransferError, EngineError, SessionNotReady)):
            await transfer(await sessions.open(session.id), TO, str(source), "/workspace/")
