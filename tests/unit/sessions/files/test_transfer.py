"""Files in and out: checked before, complete or not there after."""

from __future__ import annotations

import json
import os
import tarfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest

from claude_mcp.contract.wording import worded
from claude_mcp.engine import pulse
from claude_mcp.engine.engine import Engine, OwnMount
from claude_mcp.errors import (
    AgentError,
    ClaudeMcpError,
    EngineError,
    EngineUnavailable,
    TransferError,
    UsageError,
)
from claude_mcp.sessions import own_container
from claude_mcp.sessions.files import reporting
from claude_mcp.sessions.files.transfer import Direction, Transferred, staging_of, transfer
from claude_mcp.sessions.own_container import OwnContainer
from claude_mcp.sessions.progress import Amount
from claude_mcp.sessions.registry import Sessions, open_sessions
from tests.unit.sessions.conftest import container

if TYPE_CHECKING:
    from tests.unit.conftest import Lifeline
    from tests.unit.sessions.conftest import ScriptedEngine

IN, OUT = Direction.TO_CONTAINER, Direction.FROM_CONTAINER
EMPTY = "sourcePath and destPath must not be empty or contain a NUL character."
# A `cp` that gives a directory with a file, a link out of it and a file of others' making.
GIVE = """\
import io, sys, tarfile
with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
    def add(name, kind=tarfile.REGTYPE, content=b"", link=""):
        info = tarfile.TarInfo(name)
        info.type, info.size, info.linkname, info.mode = kind, len(content), link, 0o755
        archive.addfile(info, io.BytesIO(content))
    {entries}
"""
TREE = (
    "add('tree', tarfile.DIRTYPE); add('tree/file', content=b'content'); "
    "add('tree/out', tarfile.SYMTYPE, link='/etc')"
)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    path = tmp_path / "host"
    path.mkdir()
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def engine(scripted: ScriptedEngine) -> ScriptedEngine:
    """With one session, ``fix``; what ``cp`` and its agent do is up to the test."""
    scripted.holds(container("abcd1", "fix"))
    return scripted


def names(directory: Path) -> list[str]:
    return sorted(os.path.relpath(each, directory) for each in directory.rglob("*"))


class TestChecks:
    @pytest.mark.parametrize(
        ("direction", "source", "destination", "message"),
        [
            (IN, "", "/x", EMPTY),
            (IN, "/x", "", EMPTY),
            (
                OUT,
                "/a\0",
                "/x",
                EMPTY,
            ),
            (
                OUT,
                "/a",
                "/\0x",
                EMPTY,
            ),
            (IN, "file", "/x", "sourcePath must be an absolute path, not 'file'."),
            (IN, "/no/such", "/x", "'/no/such' does not exist on the host."),
            (IN, "/dev/null", "/x", "'/dev/null' is neither a file nor a directory."),
            (IN, "/", "/x", "'/' is neither a file nor a directory."),
            (OUT, "x", "out", "destPath must be an absolute path, not 'out'."),
            (OUT, "/", "/x", "The session's root directory cannot be copied."),
            (OUT, "..", "/x", "The session's root directory cannot be copied."),
            (OUT, "//", "/x", "The session's root directory cannot be copied."),
        ],
    )
    async def test_what_cannot_be_copied_does_not_reach_the_session(
        self,
        engine: ScriptedEngine,
        sessions: Sessions,
        direction: Direction,
        source: str,
        destination: str,
        message: str,
    ) -> None:
        with pytest.raises(UsageError) as caught:
            await transfer(await sessions.open("fix"), direction, source, destination)
        assert worded(str(caught.value)) == message
        assert not {"exec", "cp"} & {*engine.calls}

    @pytest.mark.parametrize(
        ("direction", "source", "destination", "message"),
        [
            (IN, "/etc/hostname", "/x", "The source '/etc/hostname' is refused: it lies in /etc"),
            (IN, "{home}/.ssh", "/x", "The source '{home}/.ssh' is refused: it is a location of"),
            (IN, "{home}/link/id", "/x", "The source '{home}/link/id' is refused: it lies in"),
            (IN, "{home}", "/x", "The source '{home}' is refused: it is a home directory."),
            (OUT, "/x", "{home}/.ssh/", "The destination '{home}/.ssh/x' is refused: it lies in"),
            (OUT, "/x", "{home}/link/", "The destination '{home}/.ssh/x' is refused: it lies in"),
            (
                OUT,
                "/x/.ssh",
                "{home}",
                "The destination '{home}/.ssh' is refused: it is a loc",
            ),
            (OUT, "/x", "{home}/.config", "The destination '{home}/.config/x' is refused: it is"),
            (OUT, "/x/.config", "{home}", "The destination '{home}/.config' is refused: "),
            (OUT, "/x", "/etc/x", "The destination '/etc/x' is refused: it lies in /etc"),
        ],
    )
    async def test_the_rules_for_paths_hold_on_the_host(
        self,
        engine: ScriptedEngine,
        home: Path,
        direction: Direction,
        source: str,
        destination: str,
        message: str,
    ) -> None:
        """A home's ``.config`` is refused for what is in it, and ``src`` is allowed alone."""
        config = replace(
            engine.config,
            environment={**engine.config.environment, "HOME": str(home)},
            allowed_roots=("/etc", f"{home}/src", f"{home}/.ssh"),
        )
        (home / ".ssh").mkdir()
        (home / ".ssh" / "id").touch()
        (home / ".config").mkdir()
        (home / "link").symlink_to(".ssh")
        async with open_sessions(config) as sessions:
            source, destination = source.format(home=home), destination.format(home=home)
            with pytest.raises(UsageError) as caught:
                await transfer(await sessions.open("fix"), direction, source, destination)
        assert caught.value.message.startswith(message.format(home=home))
        assert "cp" not in engine.calls
        assert sorted(os.listdir(home / ".ssh")) == ["id"]


class TestInAContainer:
    """This program runs in a container in which the engine mounts a directory of the host."""

    @pytest.fixture(autouse=True)
    def mounted(self, monkeypatch: pytest.MonkeyPatch, host: Path) -> None:
        own = OwnContainer((OwnMount("/of/the/host", str(host)),))

        async def find(engine: Engine) -> OwnContainer:
            return own

        monkeypatch.setattr(own_container, "find", find)

    async def test_what_comes_out_goes_where_the_host_s_name_leads(
        self, engine: ScriptedEngine, sessions: Sessions, host: Path
    ) -> None:
        engine.on("cp", GIVE.format(entries=TREE))
        done = await transfer(await sessions.open("fix"), OUT, "tree", "/of/the/host/")
        assert (done.path, names(host)) == (f"{host}/tree", ["tree", "tree/file"])
        assert not Path("/of").exists()

    async def test_a_source_is_looked_for_where_the_host_s_name_leads(
        self, engine: ScriptedEngine, sessions: Sessions, host: Path
    ) -> None:
        for named in ("/of/the/host/x", f"{host}/x"):
            with pytest.raises(UsageError, match=f"'{host}/x' does not exist on the host"):
                await transfer(await sessions.open("fix"), IN, named, "/x")
        assert "cp" not in engine.calls

    async def test_what_is_not_mounted_is_refused_with_the_mount_that_would_help(
        self, engine: ScriptedEngine, sessions: Sessions
    ) -> None:
        for direction, *paths in ((IN, "/other", "/x"), (OUT, "/x", "/other")):
            with pytest.raises(UsageError, match="'/other' of the host is missing") as caught:
                await transfer(await sessions.open("fix"), direction, *paths)
            assert "--volume=/other:/other" in str(caught.value)
        assert not {"exec", "cp"} & {*engine.calls}


class TestOut:
    @pytest.fixture(autouse=True)
    def gives(self, engine: ScriptedEngine, sessions: Sessions) -> None:
        engine.holds(container("abcd1", "fix"))
        engine.on("cp", GIVE.format(entries=TREE))

    async def test_a_tree_arrives_under_its_own_name(
        self, engine: ScriptedEngine, sessions: Sessions, host: Path
    ) -> None:
        done = await transfer(await sessions.open("fix"), OUT, "sub/tree", str(host))
        assert done == Transferred(
            session=await sessions.find("fix"),
            direction=OUT,
            path=f"{host}/tree",
            files=1,
            size=7,
            warnings=(
                "tree/out was left out: it links to /etc, which is outside the copied directory.",
            ),
        )
        assert names(host) == ["tree", "tree/file"]

    async def test_a_tree_arrives_under_a_new_name(self, sessions: Sessions, host: Path) -> None:
        done = await transfer(await sessions.open("fix"), OUT, "/any/tree/", f"{host}/new")
        assert (done.path, names(host)) == (f"{host}/new", ["new", "new/file"])

    async def test_what_is_there_stays_without_overwrite(
        self, engine: ScriptedEngine, sessions: Sessions, host: Path
    ) -> None:
        (host / "tree").write_text("mine")
        with pytest.raises(TransferError) as caught:
            await transfer(await sessions.open("fix"), OUT, "tree", str(host))
        assert str(caught.value) == (
            f"Nothing was copied: {host}/tree exists already, and overwrite is off. "
            "Allow it to be replaced."
        )
        assert (host / "tree").read_text() == "mine"
        assert "cp" not in engine.calls

    async def test_a_tree_is_merged_with_overwrite(self, sessions: Sessions, host: Path) -> None:
        (host / "tree").mkdir()
        for name in ("file", "kept"):
            (host / "tree" / name).write_text("mine")
        await transfer(await sessions.open("fix"), OUT, "tree", str(host), overwrite=True)
        assert names(host) == ["tree", "tree/file", "tree/kept"]
        assert (host / "tree" / "file").read_text() == "content"
        assert (host / "tree" / "kept").read_text() == "mine"

    async def test_a_tree_does_not_replace_a_file(self, sessions: Sessions, host: Path) -> None:
        (host / "tree").write_text("mine")
        with pytest.raises(TransferError, match=f"{host}/tree exists and is not a directory"):
            await transfer(await sessions.open("fix"), OUT, "tree", str(host), overwrite=True)
        assert (names(host), (host / "tree").read_text()) == (["tree"], "mine")

    async def test_the_directory_it_goes_to_must_be_there(
        self, engine: ScriptedEngine, sessions: Sessions, host: Path
    ) -> None:
        with pytest.raises(TransferError) as caught:
            await transfer(await sessions.open("fix"), OUT, "tree", f"{host}/missing/new")
        assert str(caught.value) == (
            f"Nothing was copied: there is no directory {host}/missing. Choose another destination."
        )
        assert "cp" not in engine.calls

    @pytest.mark.parametrize(
        ("script", "kind", "message"),
        [
            (
                "import sys; sys.exit('Error response from daemon: Could not find the file /x')",
                TransferError,
                "'tree' does not exist in session 'fix'.",
            ),
            (
                GIVE.format(entries="add('tree', tarfile.DIRTYPE); add('tree/../../x')"),
                TransferError,
                "The session sent an entry named 'tree/../../x'.",
            ),
            (
                GIVE.format(entries=f"{TREE}; archive.fileobj.close(); sys.exit('Error: broke')"),
                EngineError,
                "Docker could not copy out of container abcd10000000: broke.",
            ),
            (
                GIVE.format(entries="add('tree', tarfile.CHRTYPE)"),
                TransferError,
                "Nothing was copied: tree is not a file, directory or link and was left out.",
            ),
            (
                "import sys; sys.stdout.write('garbage' * 100)",
                TransferError,
                "The session sent a broken archive",
            ),
            (
                GIVE.format(entries=f"{TREE}; archive.fileobj.close(); sys.exit(0)"),
                TransferError,
                "Nothing was copied: the session's data is incomplete.",
            ),
        ],
    )
    async def test_a_copy_that_fails_leaves_nothing(
        self,
        engine: ScriptedEngine,
        sessions: Sessions,
        host: Path,
        script: str,
        kind: type[ClaudeMcpError],
        message: str,
    ) -> None:
        engine.on("cp", script)
        with pytest.raises(kind) as caught:
            await transfer(await sessions.open("fix"), OUT, "tree", str(host))
        assert caught.value.message.startswith(message)
        assert names(host) == []

    async def test_more_than_is_allowed_leaves_nothing(
        self, engine: ScriptedEngine, host: Path
    ) -> None:
        for config in (
            replace(engine.config, transfer_bytes=6),
            replace(engine.config, transfer_files=2),
        ):
            async with open_sessions(config) as sessions:
                with pytest.raises(TransferError, match="the session sent more than"):
                    await transfer(await sessions.open("fix"), OUT, "tree", str(host))
            assert names(host) == []

    async def test_a_long_copy_tells_its_progress(
        self,
        engine: ScriptedEngine,
        sessions: Sessions,
        host: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The engine goes on once the progress of what it gave so far was told."""
        gate = host.with_name("gate")
        os.mkfifo(gate)
        entries = f"{TREE}; add('tree/large', content=bytes(100_000)); open('{gate}').read()"
        engine.on("cp", GIVE.format(entries=entries))
        monkeypatch.setattr(reporting, "PROGRESS_SECONDS", 0.01)
        told: list[tuple[str, Amount | None]] = []
        first = ("copying", Amount(len(b"content")))

        async def progress(message: str, amount: Amount | None = None, /) -> None:
            told.append((message, amount))
            if told[-1] == first and told.count(first) == 1:
                await anyio.to_thread.run_sync(gate.write_text, "go on")

        await transfer(await sessions.open("fix"), OUT, "tree", str(host), progress=progress)
        assert first in told
        assert names(host) == ["tree", "tree/file", "tree/large"]

    async def test_a_cancelled_copy_leaves_nothing(
        self, engine: ScriptedEngine, sessions: Sessions, host: Path, lifeline: Lifeline
    ) -> None:
        wait = (
            f"{TREE}; "
            f"file = open('{lifeline.path}', 'w'); file.write('ready\\n'); file.flush(); "
            "import time; time.sleep(1000)"
        )
        engine.on("cp", GIVE.format(entries=wait))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(transfer, await sessions.open("fix"), OUT, "tree", str(host)))
            assert await anyio.to_thread.run_sync(lifeline.line) == "ready"
            assert [name.startswith(".claude-mcp-transfer-") for name in os.listdir(host)] == [True]
            tasks.cancel_scope.cancel()
        assert names(host) == []
        assert lifeline.end() == ""

    async def test_a_copy_that_stands_still_is_given_up_if_the_engine_does_not_answer(
        self,
        engine: ScriptedEngine,
        sessions: Sessions,
        host: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(reporting, "PROGRESS_SECONDS", 0.01)
        handle = await sessions.open("fix")
        hang = "import time; time.sleep(1000)"
        engine.on("cp", GIVE.format(entries=f"{TREE}; {hang}"))

        async def progress(message: str, amount: Amount | None = None, /) -> None:
            monkeypatch.setattr(pulse, "ANSWER_SECONDS", 0.05)
            engine.on("version", hang)

        with pytest.raises(EngineUnavailable, match=r"^Docker does not answer\."):
            await transfer(handle, OUT, "tree", str(host), progress=progress)
        assert names(host) == []


class TestIn:
    @pytest.fixture
    def sent(self, engine: ScriptedEngine, sessions: Sessions, tmp_path: Path) -> Path:
        """Where ``cp`` puts the archive; the agent says yes to everything."""
        engine.holds(container("abcd1", "fix"))
        engine.on(
            "cp",
            f"import json, shutil, sys\n"
            f"with open('{tmp_path}/argv', 'w') as file: json.dump(sys.argv[1:], file)\n"
            f"with open('{tmp_path}/sent', 'wb') as file: "
            f"shutil.copyfileobj(sys.stdin.buffer, file)",
        )
        self.answer(engine, {"staging": "/workspace/.s", "uid": 1234, "gid": 5678})
        return tmp_path / "sent"

    @staticmethod
    def answer(engine: ScriptedEngine, event: dict[str, Any]) -> None:
        engine.agent(
            "one = request()\n"
            f"answer(one['id'], event={event!r})\n"
            "two = request()\n"
            "answer(two['id'], ok={})\n"
            "answer(one['id'], ok={'path': json.dumps([one['args'], two['op'], two['args']])})\n"
            "request()"
        )

    async def test_a_tree_is_sent_to_its_staging_as_the_sessions_own(
        self, sessions: Sessions, host: Path, sent: Path
    ) -> None:
        (host / "tree").mkdir()
        (host / "tree" / "file").write_text("content")
        done = await transfer(
            await sessions.open("fix"), IN, f"{host}/tree", "sub/", overwrite=True
        )
        args = {"destination": "sub/", "name": "tree", "directory": True, "overwrite": True}
        assert (done.files, done.size, done.warnings) == (1, 7, ())
        assert json.loads(done.path) == [args, "arrived", {"staging": "/workspace/.s", "files": 1}]
        argv = json.loads(sent.with_name("argv").read_text())
        assert argv == ["cp", "-", f"{'abcd1':0<64}:/workspace/.s"]
        with tarfile.open(sent) as archive:
            entries = [(each.name, each.uid, each.gid) for each in archive]
        assert entries == [("tree", 1234, 5678), ("tree/file", 1234, 5678)]

    @pytest.mark.parametrize(
        ("source", "name"), [("link", "link"), ("tree/.", "tree"), ("link/sub/..", "tree")]
    )
    async def test_a_source_has_the_name_it_was_given_by(
        self, sessions: Sessions, host: Path, sent: Path, source: str, name: str
    ) -> None:
        (host / "tree" / "sub").mkdir(parents=True)
        (host / "link").symlink_to("tree")
        await transfer(await sessions.open("fix"), IN, f"{host}/{source}", "x")
        with tarfile.open(sent) as archive:
            assert archive.getnames() == [name, f"{name}/sub"]

    async def test_what_the_agent_refuses_is_not_sent(
        self, engine: ScriptedEngine, sessions: Sessions, host: Path, sent: Path
    ) -> None:
        (host / "file").write_text("content")
        refusal = {"code": "bad-destination", "message": "/x exists already, and overwrite is off"}
        engine.agent(f"answer(request()['id'], error={refusal!r}); request()")
        with pytest.raises(TransferError) as caught:
            await transfer(await sessions.open("fix"), IN, f"{host}/file", "/x")
        assert str(caught.value) == (
            "Nothing was copied: /x exists already, and overwrite is off. "
            "Choose another destination, or allow what is there to be replaced."
        )
        assert not sent.exists()

    async def test_a_destination_that_the_engine_cannot_see_is_explained(
        self, engine: ScriptedEngine, sessions: Sessions, host: Path, sent: Path
    ) -> None:
        (host / "file").write_text("content")
        engine.on("cp", "import sys; sys.exit('destination \"c:/x\" must be a directory')")
        with pytest.raises(TransferError) as caught:
            await transfer(await sessions.open("fix"), IN, f"{host}/file", "/tmp/x")
        assert caught.value.message == (
            "Nothing was copied: /tmp/x is on a tmpfs, which Docker cannot access, or was removed."
        )

    async def test_a_forged_staging_is_refused(
        self, engine: ScriptedEngine, sessions: Sessions, host: Path, sent: Path
    ) -> None:
        (host / "file").write_text("content")
        self.answer(engine, {"staging": "relative", "uid": 1, "gid": 1})
        with pytest.raises(AgentError, match="sent an unusable answer"):
            await transfer(await sessions.open("fix"), IN, f"{host}/file", "/x")
        assert not sent.exists()


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"staging": "/a\0b", "uid": 1, "gid": 1},
        {"staging": "", "uid": 1, "gid": 1},
        {"staging": ["/x"], "uid": 1, "gid": 1},
        {"staging": "/x", "uid": "root", "gid": 1},
        {"staging": "/x", "uid": None, "gid": 1},
        {"staging": "/x", "uid": [], "gid": 1},
        {"staging": "/x", "uid": float("inf"), "gid": 1},
        {"staging": "/x", "uid": float("nan"), "gid": 1},
    ],
)
def test_a_malformed_staging_answer_is_refused(event: dict[str, Any]) -> None:
    with pytest.raises(AgentError, match="sent an unusable answer"):
        staging_of(event)
