"""A session with a persistent volume: its files and its conversation outlive its pod."""

from __future__ import annotations

import json
import secrets
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio.to_thread
import pytest
from messages_standin import DIRECTIVE

from claude_mcp.config import load
from claude_mcp.errors import SessionExists
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.network import tunnels
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import Status
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
