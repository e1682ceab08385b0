"""Each verb of the engine on a fake ``kubectl``, whose ``exec`` runs commands on this machine."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import anyio
import pytest

from claude_mcp.engine import detection
from claude_mcp.engine.engine import (
    ContainerNameInUse,
    ContainerNotFound,
    ContainerNotRunning,
    CopyIncomplete,
    Log,
    PathNotFound,
    ReferenceAmbiguous,
)
from claude_mcp.engine.kubernetes import claims, copying, kubectl, marks, watch
from claude_mcp.engine.kubernetes.argv import Place
from claude_mcp.engine.kubernetes.kubectl import KubectlEngine
from claude_mcp.engine.kubernetes.manifest import pod
from claude_mcp.engine.spec import ContainerSpec
from claude_mcp.errors import EngineError, EngineNotFound, EngineUnavailable, ImageNotFound

pytestmark = pytest.mark.anyio

SPEC = ContainerSpec("claude-mcp-a", "image:1", ("run",), labels={"kind": "a b"})
KEPT = replace(SPEC, kept_directories=("/workspace",), kept_bytes=1 << 30)
ID = "0123456789ab" + marks.new_id(SPEC.name)[marks.RANDOM_CHARS :]
OTHER_ID = "0123456789ac" + ID[marks.RANDOM_CHARS :]
RUNNING = {"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}
VERSION = {"serverVersion": {"major": "1", "minor": "32+", "gitVersion": "v1.32.4-x"}}
FAKE = """\
#!/bin/sh
state=@STATE@
for word; do case "$word" in --watch=true) watch=1;; esac; done
while case "$1" in --*) true;; *) false;; esac; do shift; done
verb=$1
[ -z "$watch" ] || verb=watch
printf '%s\\n' "$verb" >>"$state/calls"
[ "$verb" != create ] || cat >"$state/manifest"
if [ -f "$state/$verb.run" ]; then
    while [ "$1" != -- ]; do shift; done
    shift
    CLAUDE_MCP_POD=$(cat "$state/$verb.run") exec "$@"
fi
[ ! -f "$state/$verb.err" ] || cat "$state/$verb.err" >&2
[ ! -f "$state/$verb.out" ] || cat "$state/$verb.out"
[ ! -f "$state/$verb.code" ] || exit "$(cat "$state/$verb.code")"
"""


class Fake:
    """The fake's files: what each verb says."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.state.mkdir()
        program = directory / "kubectl"
        program.write_text(FAKE.replace("@STATE@", str(self.state)))
        program.chmod(0o755)
        environment = {"PATH": f"{directory}:{os.environ['PATH']}"}
        self.engine = KubectlEngine("1.32.4", environment, Place(namespace="n"))

    def says(self, verb: str, out: Any = "", err: str = "", code: int = 0) -> None:
        text = out if isinstance(out, str) else json.dumps(out)
        (self.state / f"{verb}.out").write_text(text)
        (self.state / f"{verb}.err").write_text(err)
        (self.state / f"{verb}.code").write_text(str(code))

    def runs(self, id: str) -> None:
        """``exec`` reaches the pod with this id."""
        (self.state / "exec.run").write_text(id)

    @property
    def calls(self) -> list[str]:
        return (self.state / "calls").read_text().split()


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path)


def described(id: str = ID, status: dict[str, Any] | None = None) -> dict[str, Any]:
    found = pod(SPEC, id, {})
    found["metadata"] |= {"creationTimestamp": "2026-11-29T22:00:00Z", "uid": "u"}
    return {**found, "status": status or RUNNING}


def waiting(reason: str) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": "it said so"}}
    return {"phase": "Pending", "containerStatuses": [{"state": state}]}


def over(code: int, reason: str = "Completed") -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "reason": reason}}
    phase = "Failed" if code else "Succeeded"
    return {"phase": phase, "containerStatuses": [{"state": state}]}


# Creation.
async def test_a_container_is_created_from_a_description_on_stdin(fake: Fake) -> None:
    created = await fake.engine.create(SPEC, {"EXTRA": "1"})
    assert json.loads((fake.state / "manifest").read_text()) == pod(
        SPEC, created.id, {"EXTRA": "1"}
    )
    assert sorted(fake.calls) == ["create", "get"]


async def test_the_name_of_a_claim_without_a_pod_is_taken(fake: Fake) -> None:
    fake.says("get", "persistentvolumeclaim/x\n")
    with pytest.raises(ContainerNameInUse, match="named claude-mcp-a already exists"):
        await fake.engine.create(SPEC)
    assert fake.calls[-1] == "delete"


async def test_a_claim_is_created_before_its_pod(fake: Fake) -> None:
    await fake.engine.create(KEPT)
    assert fake.calls == ["create", "create"]
    assert json.loads((fake.state / "manifest").read_text())["kind"] == "Pod"


async def test_nothing_is_left_of_a_container_that_cannot_be_created(fake: Fake) -> None:
    fake.says("create", err="error: exceeded quota: q", code=1)
    with pytest.raises(EngineError, match="exceeded quota"):
        await fake.engine.create(KEPT)
    assert fake.calls == ["create", "delete"]


async def test_a_name_that_is_taken(fake: Fake) -> None:
    fake.says("create", err='Error from server (AlreadyExists): pods "x" already exists', code=1)
    with pytest.raises(ContainerNameInUse, match="named claude-mcp-a already exists"):
        await fake.engine.create(SPEC)


async def test_other_refusals(fake: Fake) -> None:
    fake.says("create", err="error: no", code=1)
    with pytest.raises(EngineError, match="could not create container claude-mcp-a: no"):
        await fake.engine.create(SPEC)


async def test_a_creation_that_takes_too_long(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "kubectl").write_text(
        '#!/bin/sh\ncase "$*" in *" create "*) exec sleep 1000;; esac\n'
    )
    with pytest.raises(EngineUnavailable, match=r"within 0\.1 s"):
        await fake.engine.create(SPEC, seconds=0.1)


async def test_without_the_program(tmp_path: Path) -> None:
    engine = KubectlEngine("1", {"PATH": str(tmp_path)})
    with pytest.raises(EngineNotFound, match="not on PATH"):
        await engine.create(SPEC)
    with pytest.raises(EngineNotFound, match="not on PATH"):
        await engine.ids("kind")


# Start.
async def test_a_start_waits_until_the_container_runs_and_attaches(fake: Fake) -> None:
    text = json.dumps(described(status={"phase": "Pending"}), ensure_ascii=False)
    fake.says("watch", f"{text}\n{json.dumps(described())}\n")
    fake.says("attach", "hello\n")
    async with fake.engine.start_attached(ID) as stream:
        assert await stream.receive() == b"hello\n"
    assert fake.calls == ["watch", "attach"]


async def test_a_watch_that_ends_early_is_followed_by_a_look(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "WATCH_AGAIN_SECONDS", 0.0)
    fake.says("watch", described(OTHER_ID))
    fake.says("get", described())
    await fake.engine.start(ID)
    assert fake.calls == ["get", "watch", "get"]


async def test_a_pod_that_is_gone_is_not_waited_for(fake: Fake) -> None:
    with pytest.raises(ContainerNotFound):
        await fake.engine.start(ID)


async def test_a_pod_whose_image_cannot_be_had(fake: Fake) -> None:
    fake.says("watch", described(status=waiting("ErrImagePull")))
    with pytest.raises(ImageNotFound, match="it said so"):
        await fake.engine.start(ID)


async def test_a_pod_that_finds_no_node_in_time(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SCHEDULE_SECONDS", 0.0)
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    fake.says("watch", described(status={"phase": "Pending", "conditions": [condition]}))
    with pytest.raises(EngineError, match="Unschedulable"):
        await fake.engine.start(ID)


async def test_a_pod_that_never_starts(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "START_SECONDS", 0.0)
    with pytest.raises(EngineUnavailable, match="within 0 s"):
        await fake.engine.start(ID)


async def test_a_pod_that_has_ended_cannot_be_started_again(fake: Fake) -> None:
    fake.says("watch", described(status=over(137, "OOMKilled")))
    with pytest.raises(ContainerNotRunning, match="its files are gone"):
        await fake.engine.start(ID)


def claim() -> dict[str, Any]:
    found = claims.claim(pod(KEPT, ID, {}), 1 << 30, None)
    found["metadata"] |= {"creationTimestamp": "2026-11-29T22:00:00Z", "uid": "c"}
    return found


async def test_a_pod_that_is_gone_is_created_again_from_its_claim(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubectl, "REACH_SECONDS", 0.0)
    fake.says("get", claim())
    fake.says("watch", described())
    await fake.engine.start(ID)
    assert fake.calls == ["get", "create", "watch"]
    created = json.loads((fake.state / "manifest").read_text())
    assert created == claims.pod(claim()["metadata"]["annotations"][marks.RECORD])


async def test_a_pod_that_has_ended_makes_way_for_the_one_from_its_claim(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubectl, "REACH_SECONDS", 0.0)
    fake.says("get", {"items": [described(status=over(137, "Evicted")), claim()]})
    fake.says("create", err='pods "x" already exists', code=1)  # another front end was faster
    fake.says("watch", described())
    await fake.engine.start(ID)
    assert fake.calls == ["get", "delete", "create", "watch"]


async def test_a_start_waits_until_the_node_leads_to_the_pod_that_was_created_last(
    fake: Fake,
) -> None:
    new = {**pod(KEPT, ID, {}), "status": RUNNING}
    new["metadata"] |= {"creationTimestamp": "2026-11-29T22:00:00Z", "uid": "new"}
    fake.says("get", {"items": [new, claim()]})
    fake.says("watch", new)
    fake.says("exec", "earlier")
    (fake.state / "calls").touch()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fake.engine.start, ID)
            while fake.calls.count("exec") < 2:
                await anyio.sleep(0.01)
            fake.says("exec", "new")
    asked = fake.calls.count("exec")
    assert asked > kubectl.REACHED_TIMES
    assert fake.calls == ["get", "watch", *(("get", "exec") * asked)]


async def test_a_pod_of_another_container_is_not_created_again(fake: Fake) -> None:
    fake.says("get", claim())
    fake.says("watch", described())
    with pytest.raises(ContainerNotFound):
        await fake.engine.start(OTHER_ID)
    assert "create" not in fake.calls


# Questions.
async def test_a_container_is_found_by_id_name_and_prefix(fake: Fake) -> None:
    fake.says("get", {"items": [described()]})
    for refs in ([ID], ["claude-mcp-a"], ["0123456789ab"], ["01234"], ["0123", "claude-mcp-a"]):
        assert [each.id for each in await fake.engine.inspect(refs)] == [ID]
    assert await fake.engine.inspect([OTHER_ID]) == []
    assert await fake.engine.inspect([]) == []


async def test_a_prefix_of_several_ids(fake: Fake) -> None:
    fake.says("get", {"items": [described(), described(OTHER_ID)]})
    with pytest.raises(ReferenceAmbiguous):
        await fake.engine.inspect(["0123456789a"])


async def test_a_list_is_one_call(fake: Fake) -> None:
    fake.says("get", {"items": [described()]})
    found = await fake.engine.containers("kind")
    assert [(each.id, each.labels) for each in found] == [(ID, {"kind": "a b"})]
    assert await fake.engine.ids("kind", "a b") == [ID]
    assert await fake.engine.ids("kind", "another value with the same digest") == []
    assert fake.calls == ["get"] * 3


async def test_logs_and_stats(fake: Fake) -> None:
    fake.says("logs", "t1 hello\n")
    assert await fake.engine.logs(ID, 5, 100) == Log("", "t1 hello\n")
    async with fake.engine.follow_logs(ID, 5) as stream:
        assert await stream.receive() == b"t1 hello\n"
    fake.says("logs", err='container "main" in pod "x" is waiting to start', code=1)
    assert await fake.engine.logs(ID, 5, 100) == Log("", "")
    fake.says("top", err="error: Metrics API not available", code=1)
    with pytest.raises(EngineError, match="could not measure"):
        await fake.engine.stats([ID])


async def test_the_engine_is_asked_whether_it_answers(fake: Fake) -> None:
    await fake.engine.check()
    fake.says("version", err="error: You must be logged in to the server", code=1)
    with pytest.raises(EngineUnavailable):
        await fake.engine.check()


async def test_a_call_that_takes_too_long(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubectl, "READ_SECONDS", 0.1)
    (tmp_path / "kubectl").write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(EngineUnavailable, match="did not finish"):
        await fake.engine._run_at_once(("kubectl", "get"), 0.1)


# The end.
async def test_a_removal_says_whether_there_was_something(fake: Fake) -> None:
    fake.says("delete", "pod/x\n")
    assert await fake.engine.remove(ID)
    fake.says("delete", "")
    assert not await fake.engine.remove(ID)
    assert not await fake.engine.remove("claude-mcp-a")
    fake.says("get", described())
    fake.says("delete", "pod/x\n")
    assert await fake.engine.remove("claude-mcp-a")
    await fake.engine.remove_volume("v")
    assert fake.calls == ["delete", "delete", "get", "get", "delete"]


async def test_a_kill_succeeds_if_nothing_runs(fake: Fake) -> None:
    fake.says("exec", err='error: unable to upgrade connection: container not found ("m")', code=1)
    await fake.engine.kill(ID)
    fake.says("exec", err="Unable to connect to the server: i/o timeout", code=1)
    with pytest.raises(EngineUnavailable):
        await fake.engine.kill(ID)


# Programs in the container.
async def test_an_exec_in_another_pod_of_the_same_name_fails(fake: Fake) -> None:
    fake.runs(ID)
    async with fake.engine.exec(ID, ("echo", "hi")) as stream:
        assert await stream.receive() == b"hi\n"
    fake.runs(OTHER_ID)
    async with fake.engine.exec(ID, ("echo", "hi")) as stream:
        assert await stream.receive() == b""
        await stream.wait()
    assert isinstance(fake.engine.failed("try", stream.stderr_tail), ContainerNotFound)


async def test_a_terminal_that_broke_does_not_look_like_a_good_end(fake: Fake) -> None:
    fake.runs(ID)
    fake.says("get", described())
    assert await fake.engine.exec_on_terminal(ID, ("true",), {"A": "b"}) == 0
    assert await fake.engine.exec_on_terminal(ID, ("sh", "-c", "exit 3"), {}) == 3
    fake.says("get", described(status=over(0)))
    with pytest.raises(ContainerNotRunning):
        await fake.engine.exec_on_terminal(ID, ("true",), {})
    fake.says("get", "")
    with pytest.raises(ContainerNotFound):
        await fake.engine.exec_on_terminal(ID, ("true",), {})


# Copies.
def packing(**files: str) -> Callable[[BinaryIO], None]:
    def write(pipe: BinaryIO) -> None:
        with tarfile.open(fileobj=pipe, mode="w|") as archive:
            for name, text in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))

    return write


async def test_copies_there_and_back(fake: Fake, tmp_path: Path) -> None:
    fake.runs(ID)
    inside = tmp_path / "inside"
    inside.mkdir()
    await fake.engine.copy_in(ID, str(inside), packing(a="text"))
    assert (inside / "a").read_text() == "text"
    (tmp_path / "link").symlink_to(inside)
    read: list[bytes] = []
    await fake.engine.copy_out(ID, str(tmp_path / "link"), lambda pipe: read.append(pipe.read()))
    with tarfile.open(fileobj=io.BytesIO(read[0])) as archive:
        assert archive.getnames() == ["link", "link/a"]


async def test_paths_that_do_not_exist(fake: Fake, tmp_path: Path) -> None:
    fake.runs(ID)
    nowhere = str(tmp_path / "nowhere")
    with pytest.raises(PathNotFound):
        await fake.engine.copy_out(ID, nowhere, lambda pipe: None)
    with pytest.raises(PathNotFound):
        await fake.engine.copy_in(ID, nowhere, packing(a="text"))


async def test_an_archive_that_cannot_be_unpacked(fake: Fake, tmp_path: Path) -> None:
    fake.runs(ID)

    def rubbish(pipe: BinaryIO) -> None:
        pipe.write(b"x" * 1024)

    with pytest.raises(EngineError, match="could not copy"):
        await fake.engine.copy_in(ID, str(tmp_path), rubbish)


async def test_a_connection_that_breaks_is_not_a_complete_copy(fake: Fake, tmp_path: Path) -> None:
    for copy in (fake.engine.copy_in, fake.engine.copy_out):
        with pytest.raises(EngineUnavailable, match="connection"):
            await copy(ID, str(tmp_path), lambda pipe: None)


async def test_a_program_that_is_killed_has_copied_nothing(fake: Fake, tmp_path: Path) -> None:
    fake.says("exec", err=f"{copying.KILLED}\n", code=137)
    for copy in (fake.engine.copy_in, fake.engine.copy_out):
        with pytest.raises(CopyIncomplete, match="ended while"):
            await copy(ID, str(tmp_path), lambda pipe: None)


async def test_a_copy_that_fails_otherwise(fake: Fake, tmp_path: Path) -> None:
    fake.says("exec", err='Error from server (NotFound): pods "x" not found', code=1)
    with pytest.raises(ContainerNotFound):
        await fake.engine.copy_in(ID, str(tmp_path), lambda pipe: None)
    fake.says("exec", err=f"{copying.COMPLETE}\n")

    def fail(pipe: BinaryIO) -> None:
        raise RuntimeError("broken worker")

    with pytest.raises(RuntimeError):
        await fake.engine.copy_in(ID, str(tmp_path), fail)


def test_files_that_disappear_while_they_are_packed_are_told_of() -> None:
    said = f"{copying.DISAPPEARED}a\n{copying.DISAPPEARED}b\n{copying.COMPLETE}\n"
    with pytest.raises(CopyIncomplete, match="left out 2"):
        copying.check_disappeared(said, "/x")


# Images, and what the engine says of itself.
async def test_a_look_into_an_image_is_a_pod_that_is_removed(fake: Fake) -> None:
    fake.says("watch", f"{json.dumps(described(status=over(0)))}")
    fake.says("logs", "hello\n")
    fake.says("delete", "pod/x\n")
    # The watch is of a pod of another name; the fake says this of any.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(marks, "new_id", lambda name: ID)
        assert await fake.engine.run_in_image("image:1", "echo hello") == "hello\n"
        assert fake.calls == ["create", "watch", "logs", "delete"]
        fake.says("watch", f"{json.dumps(described(status=over(3)))}")
        with pytest.raises(EngineError, match="exit code 3"):
            await fake.engine.run_in_image("image:1", "exit 3")
        fake.says("watch", f"{json.dumps(described(status=waiting('ErrImagePull')))}")
        with pytest.raises(ImageNotFound):
            await fake.engine.run_in_image("image:1", "exit 3")
        patch.setattr(watch, "START_SECONDS", 0.0)
        with pytest.raises(EngineUnavailable):
            await fake.engine.run_in_image("image:1", "exit 3")


async def test_what_a_cluster_does_not_say(fake: Fake) -> None:
    engine = fake.engine
    assert engine.title == "Kubernetes"
    assert await engine.image_exists("image:1")
    assert await engine.own_mounts("x") is None
    assert (await engine.info()).ignored_limits.keys() == {"pids"}
    await engine.sweep()
    with pytest.raises(EngineError, match="does not list images"):
        await engine.images("label")
    with pytest.raises(EngineError, match="does not fetch"):
        await engine.pull("image:1")


async def test_the_cluster_that_the_environment_names(fake: Fake) -> None:
    fake.says("version", VERSION)
    environment = dict(fake.engine.environment)
    environment |= {"CLAUDE_MCP_ENGINE_CONTEXT": "c", "CLAUDE_MCP_ENGINE_NAMESPACE": "n"}
    engine = await detection.connect("kubernetes", environment, {})
    assert isinstance(engine, KubectlEngine)
    assert (engine.version, engine.place) == ("1.32.4-x", Place("c", "n"))


async def test_a_cluster_that_does_not_answer(fake: Fake) -> None:
    fake.says("version", err='error: context "c" does not exist', code=1)
    with pytest.raises(EngineUnavailable, match="context"):
        await detection.connect("kubernetes", fake.engine.environment, {})


def test_an_old_or_odd_server() -> None:
    old = {"serverVersion": {"major": "1", "minor": "19", "gitVersion": "v1.19.0"}}
    with pytest.raises(EngineError, match="too old"):
        kubectl.server_version(json.dumps(old))
    for odd in ("", "{}", "[]"):
        with pytest.raises(EngineError, match="malformed"):
            kubectl.server_version(odd)


async def test_a_character_that_is_cut_in_two_is_put_together(fake: Fake) -> None:
    class Stream:
        def __init__(self, data: bytes) -> None:
            self.pieces = [data[at : at + 1] for at in range(len(data))]

        async def receive(self) -> bytes:
            await anyio.lowlevel.checkpoint()
            return self.pieces.pop(0) if self.pieces else b""

    labelled = described()
    labelled["metadata"]["annotations"]["kind"] = "ä"
    text = json.dumps(labelled, ensure_ascii=False) + "{}"
    found: Any = Stream(text.encode())
    assert [each.container.labels async for each in watch.read_pods(found)] == [{"kind": "ä"}]
