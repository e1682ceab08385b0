"""What a cluster refuses: each error says why. And what it is told: no object holds a secret."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from claude_mcp.config import load
from claude_mcp.errors import EngineError, EngineUnavailable, ImageNotFound
from claude_mcp.proxy import DENIED_PORT
from claude_mcp.sessions.create.request import CreateRequest, NetworkName
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.files.transfer import Direction, transfer
from claude_mcp.sessions.network import enforcement
from claude_mcp.sessions.providers.options import ProviderRequest
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.turns import commands, prompts
from claude_mcp.sessions.turns.results import TurnStatus

if TYPE_CHECKING:
    from tests.cluster import Cluster
    from tests.engine_fixtures import Bare

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(200)]

ROLE: Final = Path(__file__).parents[2] / "docs" / "kubernetes" / "role.yaml"
QUOTA_SECONDS: Final = "60s"


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of this test alone, in which the user has the rights of the Role."""
    name = f"claude-mcp-{secrets.token_hex(4)}"
    own = ROLE.read_text().replace("namespace: claude-mcp}", f"namespace: {name}}}")
    own = own.replace(
        "kind: Namespace\nmetadata: {name: claude-mcp}",
        f"kind: Namespace\nmetadata: {{name: {name}}}",
    )
    cluster.anywhere("apply", "--filename=-", data=own)
    may = ("auth", "can-i", "create", "pods", "--as=claude-mcp")
    for ready in (may, ("get", "serviceaccount", "default")):  # without it there are no pods
        cluster.until(*ready, f"--namespace={name}")
    yield name
    cluster.anywhere("delete", "namespace", name, "--wait=false")


async def test_image_that_cannot_be_pulled_is_named(
    sessions: Sessions, project: Path, name: str, bare: Bare
) -> None:
    image = "registry.invalid/no-such-image:1"
    with pytest.raises(ImageNotFound, match=image):
        await create(sessions, CreateRequest(str(project), session_name=name, image=image))
    assert bare.containers(name) == []


async def test_quota_of_the_namespace_is_named(
    environ: dict[str, str], project: Path, cluster: Cluster, namespace: str
) -> None:
    limit = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "one-pod"}}
    cluster.anywhere(
        "apply", f"--namespace={namespace}", "--filename=-",
        data=json.dumps(limit | {"spec": {"hard": {"pods": "1"}}}),
    )  # fmt: skip
    cluster.anywhere(
        "wait", f"--namespace={namespace}", "resourcequota/one-pod", f"--timeout={QUOTA_SECONDS}",
        "--for=jsonpath={.status.hard.pods}=1",
    )  # fmt: skip
    environ["CLAUDE_MCP_ENGINE_NAMESPACE"] = namespace
    async with open_sessions(load(environ, engine="kubernetes")) as sessions:
        first = await create(sessions, CreateRequest(str(project)))
        with pytest.raises(EngineError, match="exceeded quota: one-pod") as caught:
            await create(sessions, CreateRequest(str(project)))
        assert "quota is used up" in (caught.value.hint or "")
        await sessions.destroy(first.session.id)
        cluster.anywhere(
            "wait", f"--namespace={namespace}", "resourcequota/one-pod",
            f"--timeout={QUOTA_SECONDS}", "--for=jsonpath={.status.used.pods}=0",
        )  # fmt: skip
        again = await create(sessions, CreateRequest(str(project)))
        await sessions.destroy(again.session.id)


@pytest.mark.parametrize("network", ["restricted", pytest.param("none", marks=pytest.mark.stress)])
async def test_cluster_that_does_not_enforce_policies_is_refused_with_the_reason(
    network: NetworkName,
    environ: dict[str, str],
    project: Path,
    cluster: Cluster,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(enforcement, "PROOF_SECONDS", 0.5)
    environ["CLAUDE_MCP_ENGINE_NAMESPACE"] = namespace
    unenforced = cluster.state / "unenforced" / namespace
    unenforced.touch()
    try:
        async with open_sessions(load(environ, engine="kubernetes")) as sessions:
            reason = f"not enforce the NetworkPolicy.*:{DENIED_PORT} after"
            with pytest.raises(EngineError, match=reason) as caught:
                await create(sessions, CreateRequest(str(project), network=network))
            assert "whose network enforces policies" in (caught.value.hint or "")
    finally:
        unenforced.unlink()
    assert left_in(cluster, namespace) == []


@pytest.mark.stress
async def test_another_policy_that_allows_something_is_named(
    environ: dict[str, str], project: Path, cluster: Cluster, namespace: str
) -> None:
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "wide"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]},
    }
    cluster.anywhere("apply", f"--namespace={namespace}", "--filename=-", data=json.dumps(policy))
    environ["CLAUDE_MCP_ENGINE_NAMESPACE"] = namespace
    async with open_sessions(load(environ, engine="kubernetes")) as sessions:
        with pytest.raises(EngineError, match="NetworkPolicy wide of the namespace allows"):
            await create(sessions, CreateRequest(str(project), network="restricted"))
    assert left_in(cluster, namespace) == ["networkpolicy.networking.k8s.io/wide"]


def left_in(cluster: Cluster, namespace: str) -> list[str]:
    """Pods and policies of a namespace."""
    kinds = "pods,networkpolicies"
    return cluster.anywhere("get", kinds, f"--namespace={namespace}", "--output=name").split()


async def test_missing_rights_are_named(environ: dict[str, str], project: Path) -> None:
    environ["CLAUDE_MCP_ENGINE_NAMESPACE"] = "default"
    async with open_sessions(load(environ, engine="kubernetes")) as sessions:
        with pytest.raises(EngineError, match='User "claude-mcp" cannot list') as caught:
            await sessions.list()
        assert "lacks a right" in (caught.value.hint or "")
        with pytest.raises(EngineError, match='User "claude-mcp" cannot'):
            await create(sessions, CreateRequest(str(project)))


async def test_wrong_context_is_named(environ: dict[str, str]) -> None:
    environ["CLAUDE_MCP_ENGINE_CONTEXT"] = "nowhere"
    with pytest.raises(EngineUnavailable, match="nowhere") as caught:
        async with open_sessions(load(environ, engine="kubernetes")) as sessions:
            await sessions.list()
    assert "get-contexts" in (caught.value.hint or "")


async def test_expired_certificate_is_named(
    environ: dict[str, str], cluster: Cluster, tmp_path: Path
) -> None:
    keys, own = cluster.state / "keys", tmp_path / "expired.crt"
    subprocess.run(
        ["openssl", "x509", "-req", "-days", "-1", "-in", str(keys / "sessions.request"),
         "-CA", str(keys / "ca.crt"), "-CAkey", str(keys / "ca.key"), "-CAcreateserial",
         "-CAserial", str(tmp_path / "serial"), "-out", str(own)],
        check=True, capture_output=True,
    )  # fmt: skip
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(cluster.kubeconfig.read_text())
    kubeconfig.chmod(0o600)
    subprocess.run(
        ["kubectl", "config", f"--kubeconfig={kubeconfig}", "set-credentials", "sessions",
         f"--client-certificate={own}", "--embed-certs=true"],
        check=True, capture_output=True,
    )  # fmt: skip
    environ["KUBECONFIG"] = str(kubeconfig)
    with pytest.raises(EngineError) as caught:
        async with open_sessions(load(environ, engine="kubernetes")) as sessions:
            await sessions.list()
    assert "expired" in f"{caught.value} {caught.value.hint}"


@dataclass
class Kubeconfig:
    """One of the test's own, in which the user logs in by other means than a certificate."""

    path: Path
    as_given: str

    def logs_in_by(self, user: str) -> None:
        _, separator, _ = self.as_given.rpartition("    client-certificate-data:")
        assert separator
        before = self.as_given[: self.as_given.index(separator)]
        self.path.write_text(f"{before}    {user}\n")


@pytest.fixture
def kubeconfig(cluster: Cluster, tmp_path: Path, environ: dict[str, str]) -> Kubeconfig:
    environ["KUBECONFIG"] = str(tmp_path / "own.kubeconfig")
    return Kubeconfig(Path(environ["KUBECONFIG"]), cluster.kubeconfig.read_text())


def by_program(program: Path | str) -> str:
    return (
        "exec: {apiVersion: client.authentication.k8s.io/v1beta1, interactiveMode: Never, "
        f"command: {program}}}"
    )


async def _refusal(environ: dict[str, str]) -> EngineUnavailable:
    with pytest.raises(EngineUnavailable) as caught:
        async with open_sessions(load(environ, engine="kubernetes")) as sessions:
            await sessions.list()
    return caught.value


async def test_a_cluster_that_nothing_describes_is_named(
    environ: dict[str, str], kubeconfig: Kubeconfig
) -> None:
    assert "no kubeconfig file" in (await _refusal(environ)).message  # it does not exist
    given = kubeconfig.as_given
    kubeconfig.path.write_text(given.replace("current-context: test", "current-context: ''"))
    assert "with a current context" in (await _refusal(environ)).message


async def test_a_user_that_cannot_log_in_is_named(
    environ: dict[str, str], kubeconfig: Kubeconfig
) -> None:
    kubeconfig.logs_in_by("tls-server-name: x")
    assert "no credentials for this context" in (await _refusal(environ)).message
    kubeconfig.logs_in_by(by_program("no-such-login"))
    refusal = await _refusal(environ)
    assert "no-such-login not found" in refusal.message
    assert "PATH" in (refusal.hint or "")
    kubeconfig.logs_in_by(by_program("/bin/false"))
    refusal = await _refusal(environ)
    assert "/bin/false failed" in refusal.message
    assert "Log in" in (refusal.hint or "")


LOGIN: Final = """\
#!/usr/bin/env python3
import json, os, sys
if (os.environ.get("AWS_PROFILE"), os.environ.get("AWS_SECRET_ACCESS_KEY")) != ("team", "secret"):
    sys.exit("the profile has no credentials")
status = {"clientCertificateData": open(%r).read(), "clientKeyData": open(%r).read()}
version = "client.authentication.k8s.io/v1beta1"
print(json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status}))
"""


async def test_a_program_that_logs_in_has_the_clouds_variables(
    environ: dict[str, str], kubeconfig: Kubeconfig, cluster: Cluster, tmp_path: Path
) -> None:
    keys, program = cluster.state / "keys", tmp_path / "login"
    program.write_text(LOGIN % (str(keys / "sessions.crt"), str(keys / "sessions.key")))
    program.chmod(0o755)
    kubeconfig.logs_in_by(by_program(program))
    assert "failed with exit code 1" in (await _refusal(environ)).message
    environ |= {"AWS_PROFILE": "team", "AWS_SECRET_ACCESS_KEY": "secret"}
    async with open_sessions(load(environ, engine="kubernetes")) as sessions:
        await sessions.list()


async def test_no_object_event_or_verbose_log_holds_a_secret(
    environ: dict[str, str],
    project: Path,
    name: str,
    cluster: Cluster,
    tmp_path: Path,
) -> None:
    """``kubectl`` is a script here, which asks for the most verbose log of all."""
    sentinel = f"sk-ant-sentinel-{secrets.token_hex(16)}"
    logs, programs = tmp_path / "logs", tmp_path / "programs"
    for each in (logs, programs):
        each.mkdir()
    # Newer ones write this log to stderr only, where the program reads what became of a call.
    real = cluster.state.parent / "bin" / "client-1.20" / "kubectl"
    script = programs / "kubectl"
    script.write_text(
        f'#!/bin/sh\necho "$*" >{logs}/argv.$$\n'
        f'exec {real} -v=9 --logtostderr=false --log-file={logs}/log.$$ "$@"\n'
    )
    script.chmod(0o755)
    environ["PATH"] = f"{programs}:{environ['PATH']}"
    (project / "note").write_text("to the session")
    seen: dict[str, Any] = {}
    async with open_sessions(load(environ, engine="kubernetes")) as sessions:
        own = ProviderRequest(arguments={"apiKey": sentinel})
        await create(sessions, CreateRequest(str(project), session_name=name, provider=own))
        turn = await prompts.prompt(await sessions.open(name), 'standin: [{"say": "done"}]')
        assert turn.status is TurnStatus.COMPLETED
        await commands.run(await sessions.open(name), "env")
        await transfer(
            await sessions.open(name), Direction.TO_CONTAINER, str(project / "note"), "/tmp/note"
        )
        seen["objects and events"] = cluster.everything()
        await sessions.list()
        await sessions.destroy(name)
    seen["verbose log"] = "".join(each.read_text(errors="replace") for each in logs.iterdir())
    assert "claude-mcp.container" in seen["objects and events"]
    assert "/exec?command=" in seen["verbose log"]
    for where, text in seen.items():
        assert sentinel not in text, where
