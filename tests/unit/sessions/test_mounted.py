"""The host paths of a session must be at each start what they were when it was created."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from claude_mcp.errors import ClaudeMcpError, SessionNotReady
from claude_mcp.sessions import labels, mounted
from claude_mcp.sessions.files.transfer import Direction, transfer
from claude_mcp.sessions.paths.mounts import HostMount, MountTable, Place
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.session import Session, Status
from tests.unit.sessions.conftest import container, request

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.sessions.conftest import ScriptedEngine

pytestmark = pytest.mark.anyio

ECHO = "for line in sys.stdin:\n    one = json.loads(line); answer(one['id'], ok=one)\n"
NEVER, ONCE = "0001-01-01T00:00:00Z", "2026-11-23T07:00:00Z"
SESSION = Session("a", "a", "fix", "c", "/p", "i", "", CredentialSource.NONE, Status.STOPPED, "")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with a file, and secrets beside it."""
    path = tmp_path / "project"
    path.mkdir()
    (path / "config").write_text("1")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "config").write_text("2")
    return path


async def label(*paths: Path) -> str:
    names = [str(path) for path in paths]
    return mounted.to_label(names, await mounted.identities(names))


def by_link(project: Path) -> None:
    project.rename(project.with_name("moved"))
    project.symlink_to(project.with_name("secrets"))


def by_directory(project: Path) -> None:
    project.rename(project.with_name("moved"))
    project.mkdir()


def by_nothing(project: Path) -> None:
    project.rename(project.with_name("moved"))


def by_link_above(project: Path) -> None:
    above = project.parent
    above.rename(above.with_name("elsewhere"))
    above.symlink_to(above.with_name("elsewhere"))


REPLACED = [by_link, by_directory, by_nothing, by_link_above]
LINK, OTHER = (
    "It is missing, or a link leads to it.",
    "Another directory has been put in its place.",
)


@pytest.mark.parametrize("swap", REPLACED)
async def test_a_project_that_was_replaced_is_refused_until_it_is_put_back(
    project: Path, swap: Callable[[Path], None]
) -> None:
    session = replace(SESSION, mounted=await label(project))
    await mounted.check(session)
    swap(project)
    assert await mounted.is_replaced(session)
    with pytest.raises(SessionNotReady) as caught:
        await mounted.check(session)
    assert caught.value.message == (
        f"{project} is not what it was when the session 'fix' was created. "
        f"{OTHER if swap is by_directory else LINK}"
    )
    if swap is by_link:
        project.unlink()
        project.with_name("moved").rename(project)
        await mounted.check(session)


async def test_files_and_what_lies_in_the_project_may_be_replaced_but_not_by_a_link(
    project: Path,
) -> None:
    (project / ".git" / "hooks").mkdir(parents=True)
    inside = [project / "config", project / ".git" / "hooks", project.parent / "secrets" / "config"]
    session = replace(SESSION, mounted=await label(project, *inside))
    for path in inside:
        by_nothing(path)
        path.mkdir() if path.name == "hooks" else path.touch()
        await mounted.check(session)
        path.rmdir() if path.name == "hooks" else path.unlink()
        path.symlink_to("/etc/passwd")
        with pytest.raises(SessionNotReady, match=f"^{path} is not what it was .* a link leads"):
            await mounted.check(session)
        path.unlink()
        path.with_name("moved").rename(path)


async def test_a_device_may_have_another_number_after_a_restart_of_the_host(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = json.loads(await label(project))
    fields["paths"][0][1] += 1
    session = replace(SESSION, mounted=json.dumps(fields))
    assert await mounted.is_replaced(session)
    boot = tmp_path / "boot"
    boot.write_text("another\n")
    monkeypatch.setattr(mounted, "BOOT_ID", boot)
    await mounted.check(session)


@pytest.mark.parametrize(
    "made", ["", "{", "[]", "null", '{"paths": 1}', '{"paths": [[]]}', '{"paths": [[1, 2, "x"]]}']
)
async def test_a_session_without_a_usable_label_is_not_checked(made: str) -> None:
    await mounted.check(replace(SESSION, mounted=made))


async def test_a_file_system_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(paths: Any) -> Any:
        await anyio.sleep_forever()

    monkeypatch.setattr(mounted, "identities", hang)
    monkeypatch.setattr(mounted, "LOOK_SECONDS", 0.0)
    with pytest.raises(SessionNotReady, match=r"^The file system of /p does not answer"):
        await mounted.check(replace(SESSION, mounted='{"paths": [["/p", 1, 2]]}'))


@pytest.mark.parametrize("where", ["data/late", "data/known", "elsewhere"])
async def test_a_file_system_that_was_mounted_below_a_read_only_directory_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    data, known, point = tmp_path / "data", tmp_path / "data" / "known", tmp_path / where
    for each in (known, point):
        each.mkdir(parents=True, exist_ok=True)
    found = [HostMount(str(each), Place("0:1", "/"), "tmpfs") for each in (known, point)]
    monkeypatch.setattr(mounted, "read_mounts", lambda: MountTable(found))
    paths = [str(data)]
    made = mounted.to_label(paths, await mounted.identities(paths), below={str(data): [str(known)]})
    session = replace(SESSION, mounted=made)
    if where == "data/late":
        with pytest.raises(SessionNotReady, match="has been mounted at") as caught:
            await mounted.check(session)
        assert str(point) in caught.value.message
    else:
        await mounted.check(session)


@pytest.mark.parametrize("below", ["1", '["/p"]', '{"/p": 1}', "null"])
async def test_an_unusable_list_of_file_systems_is_not_checked(below: str) -> None:
    await mounted.check(replace(SESSION, mounted=f'{{"below": {below}}}'))


async def held(project: Path, status: str, finished: str) -> dict[str, Any]:
    made = container("abcd1", "fix", status, finished=finished)
    return {**made, "labels": {**made["labels"], labels.MOUNTED: await label(project)}}


async def test_a_stopped_session_is_not_started_with_another_project(
    scripted: ScriptedEngine, sessions: Sessions, project: Path
) -> None:
    scripted.holds(await held(project, "exited", ONCE))
    by_link(project)
    with pytest.raises(SessionNotReady, match=f"^{project} is not what it was"):
        await request(sessions, "fix", "command", {})
    assert scripted.calls == ["version", "container"]


async def test_a_project_that_is_replaced_while_the_engine_starts_the_session_stops_it(
    scripted: ScriptedEngine,
    sessions: Sessions,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scripted.holds(await held(project, "exited", ONCE))
    start = type(scripted.engine).start

    async def start_another(engine: Any, ref: str) -> None:
        by_link(project)
        await start(engine, ref)

    monkeypatch.setattr(type(scripted.engine), "start", start_another)
    with pytest.raises(SessionNotReady, match=f"^{project} is not what it was"):
        await request(sessions, "fix", "command", {})
    assert scripted.calls == ["version", "container", "start", "kill"]


async def test_a_session_that_the_engine_restarted_with_another_project_is_stopped_when_seen(
    scripted: ScriptedEngine, sessions: Sessions, project: Path
) -> None:
    scripted.holds(await held(project, "running", ONCE))
    by_link(project)
    assert [each.session.status for each in await sessions.list()] == [Status.STOPPED]
    assert scripted.calls == ["version", "ps", "container", "kill"]
    with pytest.raises(SessionNotReady, match=f"^{project} is not what it was"):
        await request(sessions, "fix", "command", {})
    assert [each["status"] for each in scripted.held] == ["exited"]


async def test_a_session_in_its_first_run_still_sees_the_former_project_and_goes_on(
    scripted: ScriptedEngine, sessions: Sessions, project: Path, tmp_path: Path
) -> None:
    scripted.holds(await held(project, "running", NEVER))
    scripted.agent(ECHO)
    by_link(project)
    assert [each.session.status for each in await sessions.list()] == [Status.RUNNING]
    await request(sessions, "fix", "command", {})
    # But the engine would follow the link when it copies.
    for direction, paths in (
        (Direction.FROM_CONTAINER, ("/workspace/config", f"{tmp_path}/out")),
        (Direction.TO_CONTAINER, (f"{tmp_path}/moved/config", "/workspace/new")),
    ):
        with pytest.raises(SessionNotReady, match=f"^{project} is not what it was"):
            await transfer(await sessions.open("fix"), direction, *paths)
    assert not {"kill", "cp"} & {*scripted.calls}


async def test_a_restart_is_noticed_although_the_session_is_known(
    scripted: ScriptedEngine, sessions: Sessions, project: Path
) -> None:
    scripted.holds(await held(project, "running", NEVER))
    scripted.agent("one = request(); answer(one['id'], ok={})")  # and ends: the channel is lost
    handle = await sessions.open("fix")
    await handle.request("command", {})
    scripted.holds(await held(project, "running", ONCE))
    by_link(project)
    said = None
    with anyio.fail_after(60):
        while not isinstance(said, SessionNotReady):  # until the channel is known to be lost
            with pytest.raises(ClaudeMcpError) as caught:
                await handle.request("ping", {})
            said = caught.value
    assert scripted.calls[-2:] == ["container", "kill"]
