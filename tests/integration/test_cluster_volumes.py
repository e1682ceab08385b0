"""A session with a persistent volume: its files and its conversation outlive its pod."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread
import pytest
from messages_standin import DIRECTIVE

from claude_mcp.config import load
from claude_mcp.errors import ClaudeMcpError, SessionExists
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.network import tunnels
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import Session, Status
from claude_mcp.sessions.turns import commands, prompts

if TYPE_CHECKING:
    from tests.cluster import Cluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(200)]

OPTIONS: Final = {
    "CLAUDE_MCP_KUBERNETES_LABELS": "team=platform",
    "CLAUDE_MCP_KUBERNETES_NODE_SELECTOR": "kubernetes.io/hostname=127.0.0.1",
    "CLAUDE_MCP_KUBERNETES_TOLERATIONS": "dedicated=claude:NoSchedule",
    "CLAUDE_MCP_KUBERNETES_PULL_POLICY": "Never",
    "CLAUDE_MCP_KUBERNETES_PULL_SECRETS": "no-such-secret",
}


@pytest.fixture
def storage_class(cluster: Cluster) -> Iterator[str]:
    """A class of its own with one volume: the cluster makes none itself."""
    name = f"claude-mcp-test-{secrets.token_hex(4)}"
    directory = cluster.state / "volumes" / name
    directory.mkdir(parents=True)
    node = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["127.0.0.1"]}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": name,
            "local": {"path": str(directory)},
            "nodeAffinity": {
                "required": {"nodeSelectorTerms": [{"matchExpressions": [node]}]},
            },
        },
    }
    cluster.anywhere("create", "--filename=-", data=json.dumps(volume))
    yield name
    cluster.anywhere("delete", "persistentvolume", name)
    cluster.until_left(directory)
    shutil.rmtree(directory)


@pytest.fixture
async def kept(environ: dict[str, str], storage_class: str) -> AsyncIterator[Sessions]:
    """Those of a front end whose claims get that volume."""
    environ |= OPTIONS | {"CLAUDE_MCP_KUBERNETES_STORAGE_CLASS": storage_class}
    async with open_sessions(load(environ, engine="kubernetes")) as opened:
        yield opened


async def asked(sessions: Sessions, session: str, **step: object) -> str:
    turn = await prompts.prompt(await sessions.open(session), DIRECTIVE + json.dumps([step]))
    return turn.result or ""


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return bytes(answer.read())


async def test_a_session_whose_pod_is_gone_goes_on_with_its_conversation_and_files(
    kept: Sessions, project: Path, name: str, cluster: Cluster
) -> None:
    (project / "a").write_text("first\n")
    request = CreateRequest(
        str(project), session_name=name, persistent_volume="64m", ports=("3000",)
    )
    created = await create(kept, request)
    session = created.session
    assert tunnels.FAR in created.warnings
    own = f"--selector=claude-mcp.id={session.container_id}"
    pod = json.loads(cluster.admin("get", "pod", own, "--output=json"))["items"][0]
    assert pod["metadata"]["labels"]["team"] == "platform"
    assert pod["spec"]["nodeSelector"] == {"kubernetes.io/hostname": "127.0.0.1"}
    assert pod["spec"]["imagePullSecrets"] == [{"name": "no-such-secret"}]
    await asked(kept, name, say="one")
    command = "echo second >>a; echo mine >~/own; stat -c %u:%g /workspace/a"
    assert (await commands.run(await kept.open(name), command)).stdout == "1000:1000\n"

    cluster.admin("delete", "pod", own, "--force", "--grace-period=0")
    listed = [each for each in await kept.list() if each.session.name == name]
    assert [(each.session.status, each.session.ended) for each in listed] == [
        (Status.STOPPED, "its pod is gone")
    ]
    assert listed[0].session.id == session.id
    with pytest.raises(SessionExists):
        await create(kept, CreateRequest(str(project), session_name=name))

    assert "one" in await asked(kept, name, recall=True)
    after = await commands.run(await kept.open(name), "cat a ~/own")
    assert after.stdout == "first\nsecond\nmine\n"
    assert session.forwarding is not None
    serving = "python3 -m http.server 3000 --bind 127.0.0.1"
    await commands.run(await kept.open(name), serving, background=True)
    ready = "until python3 -c 'import socket; socket.create_connection((\"localhost\", 3000))'"
    await commands.run(await kept.open(name), f"{ready}; do sleep 0.1; done")
    page = f"{session.forwarding.ports[0].url}/a"
    assert await anyio.to_thread.run_sync(read, page) == b"first\nsecond\n"
    destroyed = await kept.destroy(name, discard=True)
    assert destroyed.existed
    assert cluster.admin("get", "pods,persistentvolumeclaims", own, "--output=name") == ""


async def ended(sessions: Sessions, name: str) -> Session:
    """The session, once its container has ended."""
    while True:
        for each in await sessions.list(ask=False):
            if each.session.name == name and each.session.status is not Status.RUNNING:
                return each.session
        await anyio.sleep(1)


@pytest.mark.stress
async def test_an_expired_session_ends_its_pod_and_keeps_its_work(
    kept: Sessions, project: Path, name: str, cluster: Cluster
) -> None:
    request = CreateRequest(
        str(project), session_name=name, persistent_volume="64m", idle_timeout_seconds=5
    )
    session = (await create(kept, request)).session
    await commands.run(await kept.open(name), "echo work >b")
    expired = await ended(kept, name)
    assert (expired.status, expired.unsaved) == (Status.EXPIRED, True)
    assert [each.kept != "" for each in await kept.prune()] == [True]
    handle = await kept.open(name)
    assert (await commands.run(handle, "cat b")).stdout == "work\n"
    assert handle.notes
    await ended(kept, name)
    assert [each.removed for each in await kept.prune(discard=True)] == [True]
    own = f"--selector=claude-mcp.id={session.container_id}"
    assert cluster.admin("get", "pods,persistentvolumeclaims", own, "--output=name") == ""


@pytest.mark.stress
async def test_an_evicted_session_is_started_again(
    kept: Sessions, project: Path, name: str
) -> None:
    request = CreateRequest(
        str(project), session_name=name, persistent_volume="256m", limits={"disk": "64m"}
    )
    await create(kept, request)
    # What is in the volume does not count.
    fill = "dd if=/dev/zero of={} bs=1M count=100 2>/dev/null; sleep 12"
    handle = await kept.open(name)
    assert (await commands.run(handle, fill.format("big"))).exit_code == 0
    with contextlib.suppress(ClaudeMcpError):
        await commands.run(handle, fill.format("/tmp/big") + "; sleep 60")
    evicted = await ended(kept, name)
    assert evicted.status is Status.STOPPED
    assert "ephemeral" in evicted.ended
    again = await commands.run(await kept.open(name), "stat -c %s big; ls /tmp/big")
    assert again.stdout == f"{100 << 20}\n"
    await kept.destroy(name, discard=True)
