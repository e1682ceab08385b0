from __future__ import annotations

import os
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from claude_mcp.config import Config, load
from claude_mcp.contract import places
from claude_mcp.engine.docker_cli import DockerCliEngine
from claude_mcp.engine.spec import ContainerSpec
from claude_mcp.errors import (
    EngineError,
    EngineNotFound,
    EngineUnavailable,
    ImageNotFound,
    ImageUnfit,
    NotASession,
    SessionAmbiguous,
    SessionExists,
    SessionNotFound,
    SessionNotReady,
    UsageError,
)
from claude_mcp.sessions import labels, marks, references
from claude_mcp.sessions.channel import payload
from claude_mcp.sessions.create import creation
from claude_mcp.sessions.create.request import CreateRequest, Mount, NetworkName
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.files.transfer import Direction, transfer
from claude_mcp.sessions.handle import RESTARTED
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import Session, Status, container_name
from claude_mcp.sessions.turns import commands
from tests.engine_fixtures import EXPIRED_SECONDS, LIFETIME_SECONDS, Bare, log_with

AWKWARD_NAMES = [
    "with spaces, 'quotes' \"of all\" `kinds`, a=b,c=d",
    "--leading-option=value",
    "/slashes/and\\backslashes\n$HOME;rm -rf /tmp/nothing emoji \U0001f389 and \xfcn\xefcode",
]


@pytest.mark.per_engine
async def test_created_session_is_found_by_id_prefix_and_name(
    sessions: Sessions, shared: Session
) -> None:
    for reference in (shared.id, shared.id[:6], shared.container_id, shared.name):
        found = await sessions.find(reference)
        assert found.container_id == shared.container_id
        assert (found.name, found.status) == (shared.name, Status.RUNNING)
        assert found.project_path == shared.project_path


@pytest.mark.per_engine
async def test_second_front_end_sees_and_uses_the_same_sessions(
    config: Config, shared: Session
) -> None:
    async with open_sessions(config) as other:
        listed = {each.session.id: each.session.name for each in await other.list()}
        assert listed[shared.id] == shared.name
        result = await commands.run(await other.open(shared.name), "echo shared")
        assert result.stdout == "shared\n"


@pytest.mark.per_engine
@pytest.mark.parametrize("awkward", AWKWARD_NAMES)
async def test_session_name_with_awkward_characters_is_kept_byte_for_byte(
    sessions: Sessions, project: Path, awkward: str, bare: Bare
) -> None:
    unique = f"{awkward} {secrets.token_hex(3)}"
    created = await create(sessions, CreateRequest(str(project), session_name=unique))
    try:
        assert (await sessions.find(unique)).name == unique
        assert unique in {each.session.name for each in await sessions.list()}
    finally:
        await sessions.destroy(created.session.id)
    assert bare("ps", "-aq", f"--filter=id={created.session.id}") == ""


@pytest.mark.per_engine
async def test_destroyed_session_is_gone_and_destroying_it_again_succeeds(
    sessions: Sessions, session: Session, bare: Bare
) -> None:
    first = await sessions.destroy(session.name)
    second = await sessions.destroy(session.name)
    assert (first.existed, second.existed) == (True, False)
    assert bare("ps", "-aq", f"--filter=id={session.id}") == ""
    with pytest.raises(SessionNotFound, match=f"There is no session '{session.name}'"):
        await sessions.find(session.name)


@pytest.mark.per_engine
async def test_foreign_container_is_no_session(
    sessions: Sessions, engine: DockerCliEngine, config: Config, bare: Bare
) -> None:
    foreign = f"foreign-{secrets.token_hex(4)}"
    container = bare("create", f"--name={foreign}", config.image, "true").strip()
    try:
        assert container[:12] not in {each.session.id for each in await sessions.list()}
        assert (await sessions.destroy(container)).existed is False
        with pytest.raises(SessionNotFound):
            await sessions.find(foreign)
        assert bare("ps", "-aq", f"--filter=name={foreign}") != ""
    finally:
        bare("rm", "-f", foreign)


@pytest.mark.per_engine
async def test_ambiguous_prefix_names_the_choices(
    sessions: Sessions, project: Path, name: str
) -> None:
    made = []
    try:
        # 17 ids must share a first hexadecimal digit somewhere; four-digit prefixes rarely do.
        # So the choice itself is tested on two sessions and their common, shorter prefix.
        for number in range(2):
            request = CreateRequest(str(project), session_name=f"{name}-{number}")
            made.append((await create(sessions, request)).session)
        listed = [each.session for each in await sessions.list()]
        with pytest.raises(SessionAmbiguous, match="matches 2 sessions"):
            references.choose("abcd", [_with_id(one, "abcd" + one.id) for one in listed[:2]])
    finally:
        for one in made:
            await sessions.destroy(one.id)


def _with_id(session: Session, container_id: str) -> Session:
    values = {key: getattr(session, key) for key in Session.__slots__}
    return Session(**{**values, "container_id": container_id, "id": container_id[:12]})


@pytest.mark.once
@pytest.mark.parametrize("reference", ["", "   ", "x" * 300, "nul\0"])
async def test_malformed_reference_is_a_usage_error(sessions: Sessions, reference: str) -> None:
    with pytest.raises(UsageError, match="is none of these"):
        await sessions.find(reference)


@pytest.mark.per_engine
async def test_second_session_with_the_same_name_is_refused_and_changes_nothing(
    sessions: Sessions, shared: Session, project: Path, bare: Bare
) -> None:
    with pytest.raises(SessionExists, match=f"A session named '{shared.name}' already exists"):
        await create(sessions, CreateRequest(str(project), session_name=shared.name))
    assert (await sessions.find(shared.name)).container_id == shared.container_id
    assert (await commands.run(await sessions.open(shared.id), "echo alive")).stdout == "alive\n"


@pytest.mark.once
async def test_unusable_project_paths_are_refused_before_a_container_exists(
    sessions: Sessions, tmp_path: Path, name: str, bare: Bare
) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    for path, message in [
        (str(tmp_path / "missing"), "The project directory "),
        (str(file), "is not a directory"),
        ("relative/path", "must be an absolute path"),
        ("/", "root of the file system"),
        ("nul\0", "NUL character"),
    ]:
        with pytest.raises(UsageError, match=message):
            await create(sessions, CreateRequest(path, session_name=name))
    assert bare.containers(name) == []


async def test_missing_image_leaves_nothing_behind(
    sessions: Sessions, project: Path, name: str, bare: Bare
) -> None:
    request = CreateRequest(str(project), session_name=name, image="claude-mcp-nosuch:latest")
    with pytest.raises(ImageNotFound, match="has no image claude-mcp-nosuch:latest"):
        await create(sessions, request)
    assert bare.containers(name) == []


@pytest.mark.once
async def test_image_name_that_looks_like_an_option_is_refused(
    sessions: Sessions, project: Path, name: str, bare: Bare
) -> None:
    request = CreateRequest(str(project), session_name=name, image="--privileged")
    with pytest.raises(UsageError, match="is not a valid image name"):
        await create(sessions, request)
    assert bare.containers(name) == []


@pytest.fixture
def derived_image(bare: Bare, config: Config) -> Iterator[Callable[[str], str]]:
    """Makes an image from the session image by running one command in it as root."""
    made: list[str] = []

    def derive(command: str) -> str:
        tag = f"claude-mcp-test-{secrets.token_hex(4)}:latest"
        container = bare("create", "--user=0:0", config.image, "sh", "-c", command).strip()
        try:
            bare("start", "--attach", container)
            bare("commit", container, tag)
        finally:
            bare("rm", "-f", container)
        made.append(tag)
        return tag

    yield derive
    for tag in made:
        bare("rmi", "-f", tag)


@pytest.mark.per_engine
async def test_image_without_claude_or_ps_is_called_unfit_and_leaves_nothing(
    sessions: Sessions,
    project: Path,
    name: str,
    bare: Bare,
    derived_image: Callable[[str], str],
) -> None:
    image = derived_image("rm $(command -v claude) $(command -v ps)")
    with pytest.raises(
        ImageUnfit, match=f"Image {image} cannot run a session: .* lacks claude and ps"
    ):
        await create(sessions, CreateRequest(str(project), session_name=name, image=image))
    assert bare.containers(name) == []


@pytest.mark.per_engine
async def test_image_without_python_is_called_unfit_and_leaves_nothing(
    sessions: Sessions,
    project: Path,
    name: str,
    bare: Bare,
    derived_image: Callable[[str], str],
) -> None:
    image = derived_image("rm -f /usr/bin/python3* /usr/local/bin/python3*")
    # More than a pipe holds: nobody is there to read it.
    servers = {"mcpServers": {"large": {"command": "x" * 200_000}}}
    for mcp_config in (None, servers):
        request = CreateRequest(str(project), session_name=name, image=image, mcp_config=mcp_config)
        with pytest.raises(ImageUnfit, match="no python3 on PATH"):
            await create(sessions, request)
    assert bare.containers(name) == []


async def test_creation_cancelled_at_any_moment_leaves_nothing_behind(
    sessions: Sessions, project: Path, name: str, bare: Bare
) -> None:
    for milliseconds in (1, 20, 50, 80, 120, 180, 250):
        with anyio.move_on_after(milliseconds / 1000) as scope:
            await create(sessions, CreateRequest(str(project), session_name=name))
        if not scope.cancelled_caught:
            await sessions.destroy(name)
        assert bare.containers(name) == []


async def test_container_restarted_by_hand_works_again_with_the_servers_credentials(
    sessions: Sessions, session: Session, bare: Bare
) -> None:
    await commands.run(await sessions.open(session.id), "echo kept > ~/kept")
    bare("restart", "--time=0", session.container_id)
    result = await commands.run(await sessions.open(session.id), "cat ~/kept")
    assert (result.stdout, result.exit_code) == ("kept\n", 0)


async def test_stopped_container_is_listed_and_started_again_when_it_is_needed(
    sessions: Sessions, session: Session, bare: Bare
) -> None:
    bare("kill", session.container_id)
    listed = {each.session.id: each.session.status for each in await sessions.list()}
    assert listed[session.id] is Status.STOPPED
    result = await commands.run(await sessions.open(session.id), "echo up")
    assert (result.stdout, result.notes) == ("up\n", (RESTARTED,))
    assert (await sessions.find(session.id)).status is Status.RUNNING
    assert (await commands.run(await sessions.open(session.id), "true")).notes == ()


@pytest.mark.per_engine
@pytest.mark.near("mounts a directory")
@pytest.mark.parametrize("by_engine", [False, True])
@pytest.mark.parametrize("linked", [False, True])
async def test_session_is_not_started_with_another_project_than_it_was_created_with(
    sessions: Sessions, session: Session, project: Path, bare: Bare, by_engine: bool, linked: bool
) -> None:
    secrets_of_the_host = project.with_name("secrets")
    secrets_of_the_host.mkdir()
    (secrets_of_the_host / "id").write_text("a key")
    bare("kill", session.container_id)
    kept = project.rename(project.with_name("kept"))
    if linked:
        project.symlink_to(secrets_of_the_host)
    else:
        secrets_of_the_host.rename(project)
    if by_engine:
        bare("start", session.container_id)
    listed = {each.session.id: each.session.status for each in await sessions.list()}
    assert listed[session.id] is Status.STOPPED
    for direction, paths in (
        (Direction.FROM_CONTAINER, ("/workspace/id", f"{kept}/id")),
        (Direction.TO_CONTAINER, (f"{kept}/new", "/workspace/new")),
    ):
        (kept / "new").touch()
        with pytest.raises(SessionNotReady, match="is not what it was"):
            await transfer(await sessions.open(session.id), direction, *paths)
    with pytest.raises(SessionNotReady, match="is not what it was"):
        await commands.run(await sessions.open(session.id), "cat id")
    assert bare("inspect", "--format={{.State.Running}}", session.container_id) == "false\n"
    assert sorted(path.name for path in project.iterdir()) == ["id"]
    project.unlink() if linked else project.rename(secrets_of_the_host)
    kept.rename(project)
    assert (await commands.run(await sessions.open(session.id), "ls")).stdout == "new\n"


async def test_stop_by_the_engine_is_quick_because_the_agent_handles_term(
    sessions: Sessions, session: Session, bare: Bare
) -> None:
    bare("stop", session.container_id)
    container = (await (await sessions.engine()).inspect([session.container_id]))[0]
    assert container.exit_code == 0  # 137 would mean that the engine had to kill it


CREATE_SCRIPT = """
import anyio, sys
from claude_mcp.config import load
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.registry import open_sessions

async def main():
    async def progress(step, amount=None):
        print(step, flush=True)

    async with open_sessions(load(engine=sys.argv[1])) as sessions:
        print("begun", flush=True)
        await create(sessions, CreateRequest(sys.argv[2], session_name=sys.argv[3]), progress)

anyio.run(main)
"""


async def test_creator_killed_at_any_moment_leaves_a_whole_session_or_a_broken_one(
    sessions: Sessions,
    engine: DockerCliEngine,
    environ: dict[str, str],
    project: Path,
    name: str,
    bare: Bare,
) -> None:
    later = datetime.now(UTC) + timedelta(minutes=10)
    seen = set()
    # After its first step, after its last, and then later and later.
    moments = (("begun", 0), ("creating", 0), *(("starting", each) for each in range(0, 400, 80)))
    for number, (step, milliseconds) in enumerate(moments):
        mine = f"{name}-{number}"
        argv = [sys.executable, "-u", "-c", CREATE_SCRIPT, engine.program, str(project), mine]
        async with await anyio.open_process(argv, env=environ, stderr=None) as creator:
            assert creator.stdout is not None
            said = ""
            while step not in said:
                said += (await creator.stdout.receive()).decode()
            with anyio.move_on_after(milliseconds / 1000):
                await creator.wait()
            if creator.returncode is None:
                creator.kill()
        try:
            await _settled(engine, mine)
            for container in await engine.containers(marks.SESSION):
                if container.labels.get(labels.NAME) != mine:
                    continue
                left = labels.session_of(container, later)
                assert left is not None
                seen.add(left.status)
                if left.status is Status.RUNNING:
                    assert (
                        await commands.run(await sessions.open(mine), "echo fine")
                    ).stdout == "fine\n"
                else:
                    assert left.status is Status.BROKEN
                    assert (await sessions.destroy(mine)).existed is True
                    assert bare.containers(mine) == []
        finally:
            bare.remove_all(mine)
    assert seen


async def _settled(engine: DockerCliEngine, name: str) -> None:
    """Wait until the session has committed, or nothing that its dead creator started is left."""
    with anyio.fail_after(60):
        while True:
            containers = await engine.containers(marks.SESSION)
            ids = [each.id for each in containers if each.labels.get(labels.NAME) == name]
            pattern = "|".join(
                [
                    f"name={container_name(name)}",
                    *(f"start --attach.*{each}" for each in ids),
                ]
            )
            busy = subprocess.run(["pgrep", "--full", pattern], capture_output=True, check=False)
            if any("session started" in bare_logs(engine, each) for each in ids):
                return
            # An agent whose creator went away ends a moment after the engine's client did.
            stopped = all(each.status != "running" for each in containers if each.id in ids)
            if busy.returncode != 0 and stopped:
                return
            await anyio.sleep(0.05)


def bare_logs(engine: DockerCliEngine, container: str) -> str:
    done = subprocess.run(
        [engine.program, "logs", container],
        env=dict(engine.environment),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.per_engine
async def test_session_whose_creation_was_never_completed_says_so(
    sessions: Sessions, engine: DockerCliEngine, config: Config, name: str, bare: Bare
) -> None:
    arguments = payload.agent_command("{}")
    spec = ContainerSpec(
        name=container_name(name),
        image=config.image,
        command=arguments,
        labels=labels.session_labels(
            name=name,
            project_path="/nowhere",
            provider="anthropic",
            credentials=CredentialSource.NONE,
        ),
        inherited=places.PAYLOAD_VARIABLES,
    )
    container = (await engine.create(spec, payload.variables(payload.archive()))).id
    async with engine.start_attached(container) as stream:
        await stream.send(b'{"secrets": {}}\n')
        async for line in stream.lines():
            if line.startswith(places.READY):
                break
    # The creator went away without its commit.
    with anyio.fail_after(60):
        while (await engine.inspect([container]))[0].status == "running":
            await anyio.sleep(0.05)
    assert (await sessions.find(name)).status is Status.BROKEN
    with pytest.raises(SessionNotReady, match="broken: either its creation was interrupted"):
        await commands.run(await sessions.open(name), "true")
    assert (await sessions.destroy(name)).existed is True
    assert bare.containers(name) == []


def at_once(environ: dict[str, str], *commands: list[str]) -> None:
    """Run commands of ours at the same time, each in a process of its own; none may fail."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "claude_mcp", *command],
            env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for command in commands
    ]  # fmt: skip
    ends = [(process.communicate()[1], process.returncode) for process in processes]
    assert [code for _, code in ends] == [0] * len(commands), ends


@pytest.mark.parametrize("network", ["open", "restricted"])
@pytest.mark.xdist_group("world")  # where proxies are counted
async def test_a_session_can_be_destroyed_four_times_at_once(
    sessions: Sessions,
    engine: DockerCliEngine,
    environ: dict[str, str],
    project: Path,
    name: str,
    bare: Bare,
    network: NetworkName,
) -> None:
    environ["CLAUDE_MCP_ENGINE"] = engine.program
    request = CreateRequest(str(project), session_name=name, network=network)
    created = await create(sessions, request)
    at_once(environ, *[["destroy", "--yes", created.session.id]] * 4)
    assert bare.containers(name) == []
    assert (await sessions.destroy(created.session.id)).existed is False


@pytest.mark.per_engine
@pytest.mark.timeout(240)
async def test_an_expired_session_can_be_destroyed_while_others_remove_it(
    sessions: Sessions,
    engine: DockerCliEngine,
    environ: dict[str, str],
    project: Path,
    name: str,
    bare: Bare,
) -> None:
    environ["CLAUDE_MCP_ENGINE"] = engine.program
    request = CreateRequest(str(project), session_name=name, timeout_seconds=LIFETIME_SECONDS)
    created = await create(sessions, request)
    with anyio.fail_after(EXPIRED_SECONDS):
        while (await engine.inspect([created.session.container_id]))[0].status == "running":
            await anyio.sleep(0.05)
    destroy = ["destroy", "--yes", created.session.id]
    at_once(environ, ["list"], destroy, ["list"], destroy)
    assert bare.containers(name) == []


async def test_a_container_that_is_not_ours_keeps_its_name_and_is_told_of(
    sessions: Sessions, project: Path, name: str, config: Config, bare: Bare
) -> None:
    taken = container_name(name)
    id = bare("create", f"--name={taken}", config.image, "true").strip()
    try:
        with pytest.raises(SessionExists, match="its container's name is taken") as refused:
            await create(sessions, CreateRequest(str(project), session_name=name))
        said = (
            f"The container {taken} of image .*{config.image} is not one of ours. If nobody needs"
        )
        assert re.match(said, refused.value.hint or "")
        for reference in (name, id[:12]):
            destroyed = await sessions.destroy(reference)
            assert isinstance(destroyed.not_found, NotASession)
            assert re.match(said, destroyed.not_found.hint or "")
            assert destroyed.existed is False
        assert bare("inspect", "--format={{.Id}}", taken).strip() == id
    finally:
        bare("rm", "--force", id)


@pytest.mark.near("mounts a directory")
async def test_mounts_are_read_only_unless_asked(
    sessions: Sessions, project: Path, name: str, tmp_path: Path
) -> None:
    extra = tmp_path / "extra, with comma"
    extra.mkdir(mode=0o777)
    extra.chmod(0o777)
    (extra / "file").write_text("content")
    request = CreateRequest(
        str(project),
        session_name=name,
        mounts=(
            Mount(str(extra), "/mnt/ro"),
            Mount(str(extra), "/mnt/rw", read_only=False),
        ),
    )
    await create(sessions, request)
    try:
        command = (
            "cat /mnt/ro/file; touch /mnt/ro/no && echo wrote; rm /mnt/ro/file && echo gone; "
            "mount -o remount,rw /mnt/ro && echo remounted; touch /mnt/rw/yes && echo ok"
        )
        result = await commands.run(await sessions.open(name), command)
        assert result.stdout == "contentok\n"
        assert "Read-only file system" in result.stderr
        assert (extra / "yes").exists()
    finally:
        await sessions.destroy(name)


async def test_project_path_with_awkward_characters_is_mounted(
    sessions: Sessions, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "a \"quoted\", 'comma' and\nnewline $HOME=`x` 🎉"
    path.mkdir()
    (path / "file").write_text("found")
    await create(sessions, CreateRequest(str(path), session_name=name))
    try:
        assert (await commands.run(await sessions.open(name), "cat file")).stdout == "found"
    finally:
        await sessions.destroy(name)


async def test_session_is_hardened(shared: Session, sessions: Sessions) -> None:
    command = "grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status; cat /proc/1/comm"
    result = await commands.run(await sessions.open(shared.id), command)
    facts = dict(line.split(":\t") for line in result.stdout.splitlines()[:3])
    assert facts == {"CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1"}
    assert result.stdout.splitlines()[3] != "python3"  # an init reaps what is orphaned


@pytest.mark.per_engine
async def test_log_shows_the_start_and_killed_commands(
    sessions: Sessions, session: Session
) -> None:
    await commands.run(await sessions.open(session.id), "sleep 60", timeout_seconds=0.2)
    await log_with(sessions, session.name, " session started", "killed (time limit, after")
    _, last = await commands.logs(await sessions.open(session.name), tail=1)
    _, lines = await commands.logs(await sessions.open(session.name))
    # More may have been written meanwhile: Claude Code is being started.
    assert [line for line in last if line in lines] == last
    assert len(last) == 1


@pytest.mark.docker
@pytest.mark.near("sets DOCKER_HOST, which a configured address replaces")
async def test_daemon_that_does_not_run_is_said_in_one_sentence_with_what_to_do(
    engine: DockerCliEngine, tmp_path: Path, project: Path
) -> None:
    config = load({**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/nosuch.sock"}, engine="docker")
    async with open_sessions(config) as sessions:
        with pytest.raises(EngineUnavailable, match=r"daemon does not answer") as caught:
            await create(sessions, CreateRequest(str(project)))
    assert "systemctl start docker" in (caught.value.hint or "")


@pytest.mark.docker
@pytest.mark.near("is about the socket of this machine")
async def test_forbidden_socket_is_said_with_what_to_do(tmp_path: Path, as_root: bool) -> None:
    shim = tmp_path / "docker-as-nobody"
    drop = "setpriv --reuid=65534 --regid=65534 --clear-groups" if as_root else ""
    shim.write_text(f'#!/bin/sh\nexec {drop} docker "$@"\n')
    shim.chmod(0o755)
    async with open_sessions(load(dict(os.environ), engine=str(shim))) as sessions:
        with pytest.raises(EngineUnavailable, match="refused access to its socket") as caught:
            await sessions.list()
    assert "Add your user to the group" in (caught.value.hint or "")


@pytest.mark.once
async def test_missing_engine_says_what_was_tried(project: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "CLAUDE_MCP_ENGINE"}
    config = load({**environ, "PATH": "/nonexistent"})
    async with open_sessions(config) as sessions:
        with pytest.raises(EngineNotFound, match="No container engine works here") as caught:
            await create(sessions, CreateRequest(str(project)))
    assert "'docker' is not installed" in caught.value.message
    assert "'podman' is not installed" in caught.value.message


async def test_full_disk_is_said_as_such(sessions: Sessions, shared: Session) -> None:
    """The smallest real full file system at hand is the session's own tmpfs."""
    result = await commands.run(
        await sessions.open(shared.id), "head -c 100000000 /dev/zero > /dev/shm/fill"
    )
    assert result.exit_code != 0
    assert "No space left on device" in result.stderr
    after = await commands.run(await sessions.open(shared.id), "rm /dev/shm/fill; echo still works")
    assert after.stdout == "still works\n"


async def test_loopback_only_address_is_refused_with_the_reason(
    environ: dict[str, str], engine: DockerCliEngine, project: Path, name: str, bare: Bare
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        environ["ANTHROPIC_BASE_URL"] = f"http://127.0.0.1:{port}"
        async with open_sessions(load(environ, engine=engine.program)) as sessions:
            with pytest.raises(UsageError, match="only on the host's loopback"):
                await create(sessions, CreateRequest(str(project), session_name=name))
    assert bare.containers(name) == []


@pytest.mark.near("looks into the mounted project")
async def test_files_made_in_the_project_belong_to_its_owner(
    sessions: Sessions,
    project: Path,
    name: str,
    as_root: bool,
    give_to: Callable[[Path, int], None],
) -> None:
    owners = [os.geteuid(), 4321] if as_root else [os.geteuid()]
    for owner in owners:
        if as_root:
            project.parent.chmod(0o755)
            give_to(project, owner)
        await create(sessions, CreateRequest(str(project), session_name=name))
        try:
            await commands.run(await sessions.open(name), f"mkdir -p d && echo x > d/made-{owner}")
        finally:
            await sessions.destroy(name)
        made = project / "d" / f"made-{owner}"
        assert (made.stat().st_uid, made.parent.stat().st_uid) == (owner, owner)
        (made.parent / "by-host").touch()


@pytest.mark.near("mounts a directory")
async def test_engine_error_carries_the_engines_own_last_line(
    sessions: Sessions, project: Path, name: str, bare: Bare
) -> None:
    mount = Mount(str(project), "/etc/passwd")  # a directory over a file
    with pytest.raises(EngineError, match=r"could not (start|create)"):
        await create(sessions, CreateRequest(str(project), session_name=name, mounts=(mount,)))
    assert bare.containers(name) == []


@pytest.mark.near("a container that could not mount the project comes first")
async def test_container_that_is_created_after_the_time_limit_is_removed(
    engine: DockerCliEngine,
    environ: dict[str, str],
    project: Path,
    name: str,
    bare: Bare,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, created, program = tmp_path / "gate", tmp_path / "created", tmp_path / "slow"
    os.mkfifo(gate)
    program.write_text(
        f'#!/bin/sh\n[ $1 = create ] || exec {engine.program} "$@"\n'
        f"cat <'{gate}' >/dev/null; {engine.program} \"$@\" | tee '{created}'\n"
    )
    program.chmod(0o755)
    tmp_path.chmod(0o755)
    monkeypatch.setattr(creation, "SLOW_SECONDS", 0.2)
    async with open_sessions(load(environ, engine=str(program))) as slow:
        with pytest.raises(EngineUnavailable, match="did not create container"):
            await create(slow, CreateRequest(str(project), session_name=name))
        assert bare.containers(name) == []
        await anyio.to_thread.run_sync(gate.write_text, "")
        with anyio.fail_after(60):
            while not created.exists() or not created.read_text() or bare.containers(name):
                await anyio.sleep(0.05)
    monkeypatch.undo()
    async with open_sessions(load(environ, engine=engine.program)) as again:
        await create(again, CreateRequest(str(project), session_name=name))
        await again.destroy(name)
