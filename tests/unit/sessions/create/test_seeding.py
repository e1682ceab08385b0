"""The files of a workspace are handed to an agent, which may be another than ours."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import anyio
import pytest

from claude_mcp.contract.workspaces import COPY, Seed
from claude_mcp.errors import AgentError, ImageUnfit, TransferError
from claude_mcp.sessions.create import seeding
from claude_mcp.sessions.files.archive import Tally, write_selection
from claude_mcp.sessions.git import sealing
from claude_mcp.sessions.git.program import Git
from claude_mcp.sessions.git.seed import SeedPlan
from claude_mcp.sessions.progress import no_progress

STAGING = 'staging {"staging": "/run/staging", "uid": 12, "gid": 34}'
TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
SEEDED = f'seeded "{TREE}"'
KEY = "0" * 32


class Agent:
    """Both ends of a creation: the engine that unpacks, and the stream of an agent."""

    def __init__(self, *lines: str, ended: bool = False) -> None:
        self._lines, self._ended = list(lines), ended
        self.sent: list[bytes] = []
        self.copied: list[tuple[str, str, bytes]] = []

    async def send(self, data: bytes) -> None:
        if self._ended:
            raise anyio.BrokenResourceError
        self.sent.append(data)

    async def lines(self) -> AsyncIterator[str]:
        while self._lines:
            yield self._lines.pop(0)

    async def copy_in(self, ref: str, directory: str, write: Callable[[BinaryIO], None]) -> None:
        pipe = io.BytesIO()
        write(pipe)
        self.copied.append((ref, directory, pipe.getvalue()))


async def hand_in(agent: Agent, project: Path, *more: str) -> tuple[str, ...]:
    plan = SeedPlan(str(project), Seed(COPY), ("a", "dir/b", *more))
    both = cast("Any", agent)
    return await seeding.hand_in(both, Git({}), "abc", both, plan, KEY, no_progress)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "dir").mkdir()
    (tmp_path / "a").write_text("a")
    (tmp_path / "dir" / "b").write_text("bb")
    (tmp_path / "dir" / "unwanted").touch()
    return tmp_path


@pytest.mark.anyio
async def test_what_cannot_be_copied_is_a_warning(project: Path) -> None:
    os.mkfifo(project / "pipe")
    warnings = await hand_in(Agent(STAGING, SEEDED), project, "pipe")
    assert warnings == (f"{project}/pipe is not a file, directory or link and was left out.",)


@pytest.mark.anyio
async def test_the_files_go_where_the_agent_says(project: Path) -> None:
    agent = Agent("noise", STAGING, "noise", SEEDED)
    assert await hand_in(agent, project) == ()
    [(ref, directory, data)] = agent.copied
    assert (ref, directory) == ("abc", "/run/staging")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        entries = [(each.name, each.uid, each.gid) for each in archive]
        assert sum(each.size for each in archive.getmembers()) == 3
    assert entries == [(name, 12, 34) for name in ("files/a", "files/dir", "files/dir/b")]
    assert agent.sent[0] == b"seed\n"
    assert json.loads(agent.sent[1]) == {"kind": "copy"}
    assert agent.sent[2:] == [sealing.seal(KEY, TREE).encode() + b"\n"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("lines", "error", "message"),
    [
        (['unseeded "git is\\nmissing"'], ImageUnfit, "could not be made: git is missing."),
        ([STAGING, "unseeded nonsense"], ImageUnfit, "could not be made: None."),
        ([STAGING, "unseeded " + "[" * 100_000], ImageUnfit, "could not be made: None."),
        ([], AgentError, "The session ended while its workspace was made."),
        ([STAGING, "other"], AgentError, "The session ended while its workspace was made."),
        (["staging nonsense"], AgentError, "unusable"),
        (["staging []"], AgentError, "unusable"),
        (['staging {"staging": ["/x"], "uid": 1, "gid": 1}'], AgentError, "unusable"),
        (['staging {"staging": "x", "uid": 1, "gid": 1}'], AgentError, "unusable"),
        (['staging {"staging": "/x", "uid": -1, "gid": 1}'], AgentError, "unusable"),
        (['staging {"staging": "/x", "uid": 1e99, "gid": 1}'], AgentError, "unusable"),
    ],
)
async def test_an_agent_that_fails_or_lies_is_told_of(
    project: Path, lines: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        await hand_in(Agent(*lines), project)
    assert message in str(caught.value)


@pytest.mark.anyio
async def test_an_agent_that_no_longer_reads_has_ended(project: Path) -> None:
    with pytest.raises(AgentError, match="ended while"):
        await hand_in(Agent(ended=True), project)


@pytest.mark.anyio
async def test_an_agent_that_is_silent_is_given_up(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent(Agent):
        async def lines(self) -> AsyncIterator[str]:
            await anyio.sleep_forever()
            yield ""

    monkeypatch.setattr(seeding, "SEED_SECONDS", 0.01)
    with pytest.raises(AgentError, match="not ready within"):
        await hand_in(Silent(), project)


def write(root: Path, *paths: str, pipe: Any = None) -> Tally:
    tally = Tally()
    write_selection([("files", str(root), paths)], (1, 2), pipe or io.BytesIO(), tally)
    return tally


@pytest.mark.parametrize("path", ["none", "dir/none", "a/b", "link/b"])
def test_a_file_that_cannot_be_read_is_named(project: Path, path: str) -> None:
    (project / "link").symlink_to("dir")
    with pytest.raises(TransferError, match="cannot be read"):
        write(project, path)


def test_a_project_that_is_gone_is_named(project: Path) -> None:
    with pytest.raises(TransferError, match="none cannot be read: No such file"):
        write(project / "none", "a")


def test_an_engine_that_ended_says_itself_why(project: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb", buffering=0) as pipe, pytest.raises(BrokenPipeError):
        write(project, "dir/b", pipe=pipe)
