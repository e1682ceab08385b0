"""Each verb of the engine: the command line that it runs, and what it reads from the output."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import anyio
import anyio.lowlevel
import pytest
from pytest_subprocess import FakeProcess

from claude_mcp.engine import docker_cli
from claude_mcp.engine.argv import create_argv
from claude_mcp.engine.described import parse_inspect
from claude_mcp.engine.dialects import docker, podman
from claude_mcp.engine.docker_cli import DockerCliEngine
from claude_mcp.engine.engine import (
    Container,
    ContainerNameInUse,
    ContainerNotFound,
    CopyIncomplete,
    LimitRefused,
    Log,
    NewContainer,
    PathNotFound,
    ReferenceAmbiguous,
)
from claude_mcp.engine.process import Completed
from claude_mcp.engine.questions import INSPECT_FORMAT
from claude_mcp.engine.spec import BindMount, ContainerSpec
from claude_mcp.errors import (
    ClaudeMcpError,
    EngineError,
    EngineNotFound,
    EngineUnavailable,
    ImageNotFound,
)

ID = "6df80de7c8ae90272c5bd7de3f26cb2002973dac19c8559265a44a749ee1313b"
DOCKER = DockerCliEngine("docker", "28.2.2", docker.DOCKER, {"PATH": "/bin"})
PODMAN = DockerCliEngine("podman", "4.3.1", podman.PODMAN, {"PATH": "/bin"})
SPEC = ContainerSpec("claude-mcp-a", "image:1", ("run",), inherited=("PAYLOAD",))
NO_SUCH_CONTAINER = "Error response from daemon: No such container: nosuch\n"
DOWN = (
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. "
    "Is the docker daemon running?\n"
)


@pytest.fixture(autouse=True)
def no_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The faked processes have the PIDs 1, 2 and 3, so no signal may be sent."""

    def refuse(*args: object) -> None:
        raise AssertionError(f"os.killpg{args}")

    monkeypatch.setattr(os, "killpg", refuse)


def inspected(id: str, **changes: Any) -> str:
    """One line as INSPECT_FORMAT makes it."""
    fields = {
        "id": id,
        "name": f"/{id}-name",
        "created": "2026-11-23T06:26:12.098159999Z",
        "status": "running",
        "exitCode": 0,
        "error": "",
        "started": "2026-11-23T06:26:12.5Z",
        "finished": "0001-01-01T00:00:00Z",
        "image": "image:1",
        "labels": {"claude-mcp.session": "1"},
    }
    return json.dumps({**fields, **changes}) + "\n"


def container(id: str) -> Container:
    return Container(
        id=id,
        name=f"{id}-name",
        created="2026-11-23T06:26:12.098159999Z",
        status="running",
        exit_code=0,
        error="",
        image="image:1",
        labels={"claude-mcp.session": "1"},
        started="2026-11-23T06:26:12.5Z",
        finished="0001-01-01T00:00:00Z",
    )


def inspect_argv(program: str, *refs: str) -> list[str]:
    return [program, "container", "inspect", f"--format={INSPECT_FORMAT}", *refs]


async def test_create_returns_the_id_on_the_last_line(fp: FakeProcess) -> None:
    fp.register(
        list(create_argv("docker", DOCKER.dialect, SPEC)),
        stdout=f"{ID}\n",
        stderr="WARNING: Your kernel does not like this\n",
    )
    assert await DOCKER.create(SPEC, {"PAYLOAD": "code"}) == NewContainer(ID)


async def test_create_reports_the_limits_that_the_engine_left_out(fp: FakeProcess) -> None:
    fp.register(
        list(create_argv("docker", DOCKER.dialect, SPEC)),
        stdout=f"{ID}\n",
        stderr="WARNING: Your kernel does not support memory limit capabilities or the cgroup is "
        "not mounted. Limitation discarded.\n",
    )
    created = await DOCKER.create(SPEC, {"PAYLOAD": "code"})
    said = (
        "Your kernel does not support memory limit capabilities or the cgroup is not mounted. "
        "Limitation discarded."
    )
    assert created == NewContainer(ID, (said,))


async def test_the_limit_that_made_create_fail_is_named(fp: FakeProcess) -> None:
    reason = "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"
    fp.register(
        list(create_argv("docker", DOCKER.dialect, SPEC)),
        stderr=f"Error response from daemon: {reason}\n",
        returncode=1,
    )
    with pytest.raises(LimitRefused) as caught:
        await DOCKER.create(SPEC)
    assert (caught.value.limit, caught.value.reason) == ("cpus", f"{reason}.")


async def test_create_passes_long_values_in_its_environment(tmp_path: Path) -> None:
    program = tmp_path / "docker"
    program.write_text('#!/bin/sh\nprintf %s "$PAYLOAD"\n')
    program.chmod(0o755)
    engine = DockerCliEngine(str(program), "28.2.2", DOCKER.dialect, {"PAYLOAD": "ours"})
    assert await engine.create(SPEC, {"PAYLOAD": "the code"}) == NewContainer("the code")
    assert engine.environment == {"PAYLOAD": "ours"}


@pytest.mark.parametrize(
    ("stderr", "kind", "message"),
    [
        (
            'Error response from daemon: Conflict. The container name "/claude-mcp-a" is already '
            f'in use by container "{ID}". You have to remove (or rename) that container to be '
            "able to reuse that name.\n",
            ContainerNameInUse,
            "A container named claude-mcp-a already exists.",
        ),
        (
            'Error: name "claude-mcp-a" is in use: container already exists\n',
            ContainerNameInUse,
            "A container named claude-mcp-a already exists.",
        ),
        (
            "Error response from daemon: No such image: image:1\n",
            ImageNotFound,
            "Docker could not create container claude-mcp-a: No such image: image:1.",
        ),
        (
            DOWN,
            EngineUnavailable,
            "Docker's daemon does not answer: Cannot connect to the Docker daemon at "
            "unix:///var/run/docker.sock. Is the docker daemon running?",
        ),
        (
            "Error response from daemon: mkdir /var/lib/docker/overlay2/1: no space left on "
            "device\n",
            EngineError,
            "Docker could not create container claude-mcp-a: mkdir /var/lib/docker/overlay2/1: "
            "no space left on device.",
        ),
        ("", EngineError, "Docker could not create container claude-mcp-a: it gave no reason."),
    ],
)
async def test_a_failed_create_says_why(
    fp: FakeProcess, stderr: str, kind: type[EngineError], message: str
) -> None:
    fp.register(list(create_argv("docker", DOCKER.dialect, SPEC)), stderr=stderr, returncode=1)
    with pytest.raises(EngineError) as caught:
        await DOCKER.create(SPEC)
    assert (type(caught.value), caught.value.message) == (kind, message)


async def test_a_hostile_spec_starts_no_process(fp: FakeProcess) -> None:
    spec = ContainerSpec("--privileged", "image:1", (), mounts=(BindMount("/", "/host"),))
    with pytest.raises(ClaudeMcpError, match="is not a valid container name"):
        await DOCKER.create(spec)
    assert list(fp.calls) == []


async def test_start_starts_a_stopped_container(fp: FakeProcess) -> None:
    fp.register(["docker", "start", "c"], stdout="c\n")
    await DOCKER.start("c")
    fp.register(["docker", "start", "c"], stderr="Error response from daemon: what\n", returncode=1)
    with pytest.raises(EngineError, match=r"^Docker could not start container c: what\.$"):
        await DOCKER.start("c")


@pytest.mark.parametrize(
    ("engine", "answer", "existed"),
    [
        (DOCKER, {"stdout": f"{ID}\n"}, True),
        (DOCKER, {"stderr": NO_SUCH_CONTAINER}, False),
        (DOCKER, {"stderr": NO_SUCH_CONTAINER, "returncode": 1}, False),
        (PODMAN, {"stdout": f"{ID}\n"}, True),
        (PODMAN, {}, False),
        (
            PODMAN,
            {
                "stderr": f'Error: no container with name or ID "{ID}" found: no such container',
                "returncode": 1,
            },
            False,
        ),
    ],
)
async def test_remove_reports_whether_the_container_existed(
    fp: FakeProcess, engine: DockerCliEngine, answer: dict[str, Any], existed: bool
) -> None:
    fp.register([engine.program, "rm", "--force", "--volumes", ID], **answer)
    assert await engine.remove(ID) is existed


@pytest.mark.parametrize(
    "second",
    [
        {"stdout": f"{ID}\n"},
        {},
        {
            "stderr": f'Error: no container with name or ID "{ID}" found: no such container',
            "returncode": 1,
        },
    ],
)
async def test_remove_is_tried_again_when_a_mount_was_busy(
    fp: FakeProcess, second: dict[str, Any]
) -> None:
    argv = ["podman", "rm", "--force", "--volumes", ID]
    busy = f"Error: unlinkat /storage/{ID}/userdata/shm: device or resource busy"
    fp.register(argv, stderr=busy, returncode=125)
    fp.register(argv, **second)
    assert await PODMAN.remove(ID) is True


async def test_a_removal_in_progress_is_awaited_and_is_a_success(fp: FakeProcess) -> None:
    busy = f"Error response from daemon: removal of container {ID} is already in progress"
    fp.register(["docker", "rm", "--force", "--volumes", ID], stderr=busy, returncode=1)
    gone: dict[str, Any] = {"stderr": f"Error: No such container: {ID}", "returncode": 1}
    fp.register(["docker", "container", "inspect", fp.any()], **gone)
    assert await DOCKER.remove(ID) is True
    assert fp.call_count(["docker", "container", "inspect", fp.any()]) == 1


async def test_engine_processes_at_a_time_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = replace(DOCKER, running=anyio.Semaphore(3))
    at_once: list[int] = []
    running = 0

    async def run(argv: Sequence[str], **options: object) -> Completed:
        nonlocal running
        running += 1
        at_once.append(running)
        await anyio.lowlevel.checkpoint()
        running -= 1
        return Completed(tuple(argv), 0, b"", b"")

    monkeypatch.setattr("claude_mcp.engine.process.run", run)
    async with anyio.create_task_group() as tasks:
        for _ in range(500):
            tasks.start_soon(engine.image_exists, "image")
    assert len(at_once) == 500
    assert max(at_once) == 3


async def test_a_failed_remove_is_an_error(fp: FakeProcess) -> None:
    fp.register(["docker", "rm", "--force", "--volumes", "c"], stderr=DOWN, returncode=1)
    with pytest.raises(EngineUnavailable):
        await DOCKER.remove("c")


async def test_a_container_that_the_engine_does_not_describe_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # real processes here
    program = tmp_path / "docker"
    program.write_text(
        "#!/bin/sh\n"
        f"cd {tmp_path}\n"
        'case "$1 $*" in\n'
        "version*) ;;\n"
        "*--format=*State*locked*) exec /bin/sleep 1000;;\n"
        "container*free*) cat free;;\n"
        "ps*--quiet*) echo free locked;;\n"
        "ps*) cat states;;\n"
        "esac\n"
    )
    program.chmod(0o755)
    (tmp_path / "free").write_text(inspected("free"))
    (tmp_path / "states").write_text(
        "free\tfree-name\trunning\nlocked\tlocked-name\tUp 2 hours\nnew\tnew-name\tcreated\n"
    )
    monkeypatch.setattr(docker_cli, "DESCRIBE_SECONDS", 0.1)
    check = DockerCliEngine.check

    async def check_and_be_patient(engine: DockerCliEngine) -> None:
        await check(engine)
        monkeypatch.setattr(docker_cli, "DESCRIBE_SECONDS", 3.0)

    monkeypatch.setattr(DockerCliEngine, "check", check_and_be_patient)
    engine = DockerCliEngine(str(program), "28.2.2", DOCKER.dialect, {"PATH": os.environ["PATH"]})
    found = await engine.containers("of")
    locked = Container("locked", "locked-name", "", "running", 0, "", "", {"of": ""})
    assert found == [container("free"), locked]


async def test_a_half_removed_container_is_listed_beside_the_others(fp: FakeProcess) -> None:
    fp.register(
        ["podman", "ps", "--all", "--quiet", "--no-trunc", "--filter=label=claude-mcp.session"],
        stdout=f"a\n{ID}\n",
    )
    fp.register(inspect_argv("podman", "a"), stdout=inspected("a"))
    fp.register(
        inspect_argv("podman", "a", ID),
        stderr=f'Error: getting container from store "{ID}": container not known\n',
        returncode=125,
    )
    assert await PODMAN.containers("claude-mcp.session") == [
        container("a"),
        Container(ID, ID, "", "removing", 0, "", "", {"claude-mcp.session": ""}),
    ]


@pytest.mark.parametrize(("engine", "returncode"), [(DOCKER, 1), (PODMAN, 125)])
async def test_inspect_returns_the_containers_that_exist(
    fp: FakeProcess, engine: DockerCliEngine, returncode: int
) -> None:
    fp.register(
        inspect_argv(engine.program, "b", "nosuch", "a"),
        stdout=inspected("a") + "\n" + inspected("b"),
        stderr=NO_SUCH_CONTAINER,
        returncode=returncode,
    )
    assert await engine.inspect(["b", "nosuch", "a"]) == [container("a"), container("b")]


async def test_inspect_of_nothing_makes_no_call(fp: FakeProcess) -> None:
    assert await DOCKER.inspect([]) == []
    assert list(fp.calls) == []


async def test_inspect_with_a_warning_is_a_success(fp: FakeProcess) -> None:
    warning = 'time="2026-11-23T06:26:12Z" level=warning msg="no such container in the database"\n'
    fp.register(inspect_argv("podman", "a"), stdout=inspected("a"), stderr=warning)
    assert await PODMAN.inspect(["a"]) == [container("a")]


async def test_inspect_of_an_ambiguous_prefix_is_an_error(fp: FakeProcess) -> None:
    fp.register(
        inspect_argv("docker", "6d"),
        stderr="Error response from daemon: Multiple IDs found with provided prefix: 6d\n",
        returncode=1,
    )
    with pytest.raises(ReferenceAmbiguous):
        await DOCKER.inspect(["6d"])


async def test_a_failed_inspect_is_an_error(fp: FakeProcess) -> None:
    fp.register(inspect_argv("docker", "a"), stderr=DOWN, returncode=1)
    with pytest.raises(EngineUnavailable):
        await DOCKER.inspect(["a"])


async def test_containers_are_listed_with_two_calls(fp: FakeProcess) -> None:
    listing = [
        "docker",
        "ps",
        "--all",
        "--quiet",
        "--no-trunc",
        "--filter=label=claude-mcp.session",
    ]
    fp.register(listing, stdout="a\nb\n")
    fp.register(inspect_argv("docker", "a", "b"), stdout=inspected("a") + inspected("b"))
    assert await DOCKER.containers("claude-mcp.session") == [container("a"), container("b")]
    assert len(fp.calls) == 2


async def test_no_containers_are_listed_with_one_call(fp: FakeProcess) -> None:
    listing = ["docker", "ps", "--all", "--quiet", "--no-trunc", "--filter=label=x"]
    fp.register(listing, stdout="")
    assert await DOCKER.containers("x") == []
    assert len(fp.calls) == 1
    fp.register(listing, stderr=DOWN, returncode=1)
    with pytest.raises(EngineUnavailable):
        await DOCKER.containers("x")


async def test_ids_are_those_with_a_label_and_its_value(fp: FakeProcess) -> None:
    listing = ["docker", "ps", "--all", "--quiet", "--no-trunc"]
    fp.register([*listing, "--filter=label=x=1 2"], stdout="a\nb\n")
    assert await DOCKER.ids("x", "1 2") == ["a", "b"]
    fp.register([*listing, "--filter=label=x"], stdout="\n")
    assert await DOCKER.ids("x") == []
    fp.register([*listing, "--filter=label=x"], stderr=DOWN, returncode=1)
    with pytest.raises(EngineUnavailable):
        await DOCKER.ids("x")


@pytest.mark.parametrize(
    ("engine", "answer"),
    [
        (DOCKER, {"stdout": "v\n"}),
        (
            DOCKER,
            {"stderr": "Error response from daemon: get v: no such volume\n", "returncode": 1},
        ),
        (PODMAN, {"stderr": "Error: no volume with name v: no such volume\n", "returncode": 1}),
    ],
)
async def test_removing_a_missing_volume_succeeds(
    fp: FakeProcess, engine: DockerCliEngine, answer: dict[str, Any]
) -> None:
    fp.register([engine.program, "volume", "rm", "v"], **answer)
    await engine.remove_volume("v")
    assert len(fp.calls) == 1


async def test_killing_what_does_not_run_succeeds(fp: FakeProcess) -> None:
    answers: list[dict[str, Any]] = [
        {"stdout": "c\n"},
        {"stderr": "Error response from daemon: container c is not running\n", "returncode": 1},
        {"stderr": NO_SUCH_CONTAINER, "returncode": 1},
    ]
    for answer in answers:
        fp.register(["docker", "kill", "c"], **answer)
        await DOCKER.kill("c")
    fp.register(["docker", "kill", "c"], stderr="Error response from daemon: what\n", returncode=1)
    with pytest.raises(EngineError, match=r"^Docker could not kill container c: what\.$"):
        await DOCKER.kill("c")


async def test_removing_a_volume_in_use_is_an_error(fp: FakeProcess) -> None:
    said = f"remove v: volume is in use - [{ID}]"
    fp.register(
        ["docker", "volume", "rm", "v"],
        stderr=f"Error response from daemon: {said}\n",
        returncode=1,
    )
    with pytest.raises(EngineError) as caught:
        await DOCKER.remove_volume("v")
    assert caught.value.message == f"Docker could not remove volume v: {said}."


async def test_logs_are_returned_unchanged(fp: FakeProcess) -> None:
    argv = ["docker", "logs", "--timestamps", "--tail=7", "c"]
    fp.register(argv, stdout="1 out\n", stderr="2 no such container, said the session\n")
    completed = await DOCKER.logs("c", 7, 1000)
    assert (completed.out, completed.err) == (
        "1 out\n",
        "2 no such container, said the session\n",
    )


async def test_what_the_client_says_itself_is_no_line_of_a_containers_log(fp: FakeProcess) -> None:
    lines = (
        "2026-01-02T03:04:05.678901234Z it said\x0b\u2028this\n",
        "2026-01-02T03:04:05+00:00 and this\n",
    )
    warning = 'time="2026-01-02T03:04:05Z" level=warning msg="Using cgroups-v1"\n'
    emulation = "Emulate Docker CLI using podman. Create /etc/containers/nodocker to quiet msg.\n"
    argv = ["docker", "logs", "--timestamps", "--tail=7", "c"]
    fp.register(argv, stderr=emulation + lines[0] + warning + lines[1])
    assert await DOCKER.logs("c", 7, 1000) == Log("", "".join(lines))


async def test_logs_are_bounded(fp: FakeProcess) -> None:
    argv = ["docker", "logs", "--timestamps", "--tail=7", "c"]
    fp.register(argv, stdout="a" * 1000, stderr="b" * 1000)
    completed = await DOCKER.logs("c", 7, 10)
    assert completed == Log("a" * 10, "b" * 10)


async def test_logs_of_a_missing_container_are_an_error(fp: FakeProcess) -> None:
    argv = ["docker", "logs", "--timestamps", "--tail=7", "c"]
    fp.register(argv, stderr=NO_SUCH_CONTAINER, returncode=1)
    with pytest.raises(ContainerNotFound, match=r"^Docker has no container c\.$"):
        await DOCKER.logs("c", 7, 1000)
    fp.register(argv, stderr="Error response from daemon: what\n", returncode=1)
    with pytest.raises(EngineError, match=r"^Docker could not read the logs of container c: what"):
        await DOCKER.logs("c", 7, 1000)


async def test_an_image_exists_if_it_can_be_inspected(fp: FakeProcess) -> None:
    argv = ["docker", "image", "inspect", "--format={{.Id}}", "image:1"]
    fp.register(argv, stdout="sha256:0\n")
    fp.register(argv, stderr="Error response from daemon: No such image: image:1", returncode=1)
    assert [await DOCKER.image_exists("image:1") for _ in range(2)] == [True, False]


async def test_a_missing_or_hanging_engine_has_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # real processes here
    program = tmp_path / "docker"
    engine = DockerCliEngine(str(program), "28.2.2", DOCKER.dialect, {})
    with pytest.raises(EngineNotFound) as gone:
        await engine.start("c")
    assert gone.value.message.startswith(f"'{program}' can no longer be started: ")
    program.write_text("#!/bin/sh\n[ $1 = version ] || exec /bin/sleep 1000\n")
    program.chmod(0o755)
    monkeypatch.setattr("claude_mcp.engine.docker_cli.CHANGE_SECONDS", 0.01)
    monkeypatch.setattr("claude_mcp.engine.docker_cli.READ_SECONDS", 0.02)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "start' within 0.01": lambda: engine.start("c"),
        "container' within 0.02": lambda: engine.inspect(["c"]),
        "ps' within 0.02": lambda: engine.containers("label"),
        "create' within 0.03": lambda: engine.create(ContainerSpec("c", "i", ()), seconds=0.03),
    }
    for said, call in calls.items():
        with pytest.raises(EngineUnavailable) as hangs:
            await call()
        assert hangs.value.message == f"Docker answers, but did not finish '{said} s."


@pytest.mark.parametrize(
    "stdout",
    [
        "garbage\n",
        "[]\n",
        "{}\n",
        "null\n",
        inspected("a", name=None),
        '{"id": "a"',
    ],
)
def test_a_malformed_answer_to_inspect_is_an_error(stdout: str) -> None:
    with pytest.raises(EngineError, match=r"^The engine's answer to inspect is malformed"):
        parse_inspect(stdout)


def test_absent_labels_are_no_labels() -> None:
    (found,) = parse_inspect(inspected("a", labels=None, error=None))
    assert (found.labels, found.error) == ({}, "")


Programs = Callable[[str], DockerCliEngine]


class TestCopies:
    """Copies hold pipes, so a real program on disk plays the engine."""

    @pytest.fixture(autouse=True)
    def real_signals(self, no_signals: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()

    @pytest.fixture
    def playing(self, tmp_path: Path) -> Programs:
        def make(script: str, like: DockerCliEngine = DOCKER) -> DockerCliEngine:
            program = tmp_path / "engine"
            program.write_text(f'#!/bin/sh\necho "$*" >"{tmp_path}/argv"\n{script}\n')
            program.chmod(0o755)
            return DockerCliEngine(
                str(program), "28.2.2", like.dialect, {"PATH": os.environ["PATH"]}
            )

        return make

    async def test_a_copy_in_feeds_the_archive_to_the_engine(
        self, tmp_path: Path, playing: Programs
    ) -> None:
        def write(pipe: BinaryIO) -> None:
            pipe.write(b"archive")

        engine = playing(f"cat >'{tmp_path}/fed'")
        await engine.copy_in("c", "/work", write)
        assert (tmp_path / "fed").read_bytes() == b"archive"
        assert (tmp_path / "argv").read_text() == "cp - c:/work\n"

    @pytest.mark.parametrize(
        ("like", "argv"),
        [(DOCKER, "cp --follow-link c:/work/x -\n"), (PODMAN, "cp c:/work/x -\n")],
    )
    async def test_a_copy_out_reads_the_archive_from_the_engine(
        self,
        tmp_path: Path,
        playing: Callable[..., DockerCliEngine],
        like: DockerCliEngine,
        argv: str,
    ) -> None:
        read: list[bytes] = []
        engine = playing("echo archive", like)
        await engine.copy_out("c", "/work/x", lambda pipe: read.append(pipe.read()))
        assert read == [b"archive\n"]
        assert (tmp_path / "argv").read_text() == argv

    @pytest.mark.parametrize(
        "stderr",
        [
            "Error response from daemon: Could not find the file /work in container c",
            'Error: "/work" could not be found on container c: no such file or directory',
            "Error: destination must be a directory when copying from stdin",
        ],
    )
    async def test_a_missing_path_has_an_error_of_its_own(
        self, playing: Programs, stderr: str
    ) -> None:
        def broken(pipe: object) -> None:
            raise ValueError("the archive is empty")

        engine = playing(f"echo '{stderr}' >&2; exit 1")
        for copy in (engine.copy_in, engine.copy_out):
            with pytest.raises(
                PathNotFound, match=r"^Docker cannot find /work in the container\.$"
            ):
                await copy("c", "/work", broken)

    async def test_a_failure_on_our_side_hides_the_failure_of_the_engine_that_it_caused(
        self, playing: Programs
    ) -> None:
        def broken(pipe: object) -> None:
            raise ValueError("a hostile archive")

        engine = playing("echo 'Error: io: read/write on closed pipe' >&2; exit 1")
        with pytest.raises(ValueError, match=r"^a hostile archive$"):
            await engine.copy_out("c", "/work", broken)

    async def test_a_copy_from_which_files_disappeared_is_no_success(
        self, playing: Callable[..., DockerCliEngine]
    ) -> None:
        def read(pipe: BinaryIO) -> None:
            pipe.read()

        warned = 'time="2026-01-02T03:04:05Z" level=warning msg="'
        engine = playing(f"echo '{warned}Using cgroups-v1\"' >&2; echo archive", PODMAN)
        await engine.copy_out("c", "/work", read)
        gone = f'{warned}copier: file disappeared while reading: \\"/work/{{}}\\""'
        lines = " ".join(f"'{gone.format(name)}'" for name in "ab")
        engine = playing(f"printf '%s\\n' {lines} >&2; echo archive", PODMAN)
        with pytest.raises(CopyIncomplete) as caught:
            await engine.copy_out("c", "/work", read)
        assert caught.value.message == (
            "Podman left out 2 or more files of /work, which disappeared while it read them."
        )

    @pytest.mark.parametrize("left", [True, False])
    async def test_a_service_that_is_silent_about_missing_files_is_asked_for_the_container(
        self, playing: Callable[..., DockerCliEngine], left: bool
    ) -> None:
        read: list[bytes] = []
        found = inspected("c") if left else ""
        silent = replace(PODMAN, dialect=podman.REMOTE_PODMAN)
        engine = playing(
            f"case $1 in cp) echo archive;; *) echo '{found}'; [ '{found}' ] || "
            "{ echo 'Error: no such container c' >&2; exit 125; };; esac",
            silent,
        )
        if left:
            await engine.copy_out("c", "/work", lambda pipe: read.append(pipe.read()))
        else:
            with pytest.raises(CopyIncomplete, match="removed the container while it read /work"):
                await engine.copy_out("c", "/work", lambda pipe: read.append(pipe.read()))
        assert read == [b"archive\n"]

    async def test_a_missing_directory_for_temporary_files_is_named(
        self, playing: Callable[..., DockerCliEngine], tmp_path: Path
    ) -> None:
        engine = playing("exit 0", PODMAN)
        there = str(tmp_path / "missing")
        without = replace(engine, environment={**engine.environment, "TMPDIR": there})
        with pytest.raises(EngineError) as caught:
            await without.copy_in("c", "/work", lambda pipe: None)
        assert str(caught.value) == (
            f"Podman has no directory for temporary files: {there}: No such file or directory. "
            "Set TMPDIR to a directory that you may write to."
        )

    async def test_a_failed_copy_says_why(self, playing: Programs) -> None:
        engine = playing("echo 'Error response from daemon: no space left on device' >&2; exit 1")
        with pytest.raises(EngineError) as caught:
            await engine.copy_in("c", "/work", lambda pipe: None)
        assert str(caught.value) == (
            "Docker could not copy into container c: no space left on device. Free some space, "
            "or remove old sessions with 'claude-mcp prune'."
        )


async def test_only_what_fetches_an_image_gets_the_variables_of_logins(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "docker"
    program.write_text('#!/bin/sh\necho "$1 ${AWS_SECRET_ACCESS_KEY:-none}"\n')
    program.chmod(0o755)
    login = {"AWS_SECRET_ACCESS_KEY": "known-to-the-helper"}
    engine = DockerCliEngine(
        str(program), "28.2.2", DOCKER.dialect, {"PATH": os.environ["PATH"]}, login=login
    )
    assert await engine.pull("image:1") == 0
    assert await engine.run_in_image("image:1", "true") == "run none\n"
    said = capfd.readouterr()
    assert "pull known-to-the-helper" in said.out + said.err
    assert "known-to-the-helper" not in repr(engine)
