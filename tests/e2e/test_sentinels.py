"""Every kind of secret through a whole session's life: found nowhere but where it belongs."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cloud_standin import AwsKey, CloudStandin, Known, RsaKey, service_account
from mcp import Client, StdioServerParameters
from messages_standin import Standin

from claude_mcp.contract.redaction import MASK
from claude_mcp.engine.engine import Engine
from tests.argv_sampler import ArgvSampler
from tests.peers import script, text_of

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare


def sentinel(kind: str) -> str:
    return f"sentinel/{kind}+{secrets.token_hex(16)}"


KEY, OWN_KEY, HANDED_IN = sentinel("key"), sentinel("own-key"), sentinel("handed-in")
TOKEN, OAUTH = sentinel("token"), sentinel("oauth")
AWS_ID = f"AKIASENTINEL{secrets.token_hex(8).upper()}"
AWS_SECRET, AWS_TOKEN = sentinel("aws-secret"), sentinel("aws-token")
BEARER, FOUNDRY = sentinel("bearer"), sentinel("foundry")
RSA, ACCOUNT = RsaKey.new(), f"sentinel-{secrets.token_hex(8)}@standin.example"
GOOGLE = service_account(ACCOUNT, RSA)
PRIVATE_KEY = json.loads(GOOGLE)["private_key"].splitlines()[3]
PROXY = sentinel("proxy").replace("/", "-").replace("+", "-")
MCP_ENV, MCP_HEADER = sentinel("mcp-env"), sentinel("mcp-header")
MCP_URL = sentinel("mcp-url").replace("/", "-").replace("+", "-")

MCP_SERVERS = {
    "local": {"command": "false", "env": {"ANY": MCP_ENV}},
    "remote": {
        "type": "http",
        "url": f"http://me:{MCP_URL}@127.0.0.1:9/mcp",
        "headers": {"Authorization": f"Bearer {MCP_HEADER}"},
    },
}
AWS_OPTIONS = {
    "region": "eu-own-1",
    "accessKeyId": AWS_ID,
    "secretAccessKey": AWS_SECRET,
    "sessionToken": AWS_TOKEN,
}


@dataclass(frozen=True)
class Kind:
    """How some secrets enter; ``own`` options are handed in again after a restart."""

    secrets: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, str] = field(default_factory=dict)
    mcp_servers: bool = False


KINDS = {
    "the server's key, behind proxies": Kind(
        (KEY, PROXY, MCP_ENV, MCP_HEADER, MCP_URL),
        {
            "ANTHROPIC_API_KEY": KEY,
            "HTTPS_PROXY": f"http://me:{PROXY}@192.0.2.1:3128",
            "https_proxy": f"http://me:{PROXY}@192.0.2.1:3128",
        },
        mcp_servers=True,
    ),
    "a key of its own": Kind(
        (OWN_KEY, HANDED_IN), arguments={"apiKey": OWN_KEY}, own={"apiKey": HANDED_IN}
    ),
    "a gateway's token": Kind((TOKEN,), {"ANTHROPIC_AUTH_TOKEN": TOKEN, "ANTHROPIC_API_KEY": ""}),
    "a subscription's token": Kind(
        (OAUTH,), {"CLAUDE_CODE_OAUTH_TOKEN": OAUTH, "ANTHROPIC_API_KEY": ""}
    ),
    "AWS keys of its own": Kind(
        (AWS_SECRET, AWS_TOKEN),
        arguments={
            "useBedrock": True,
            "awsRegion": "eu-own-1",
            "awsAccessKeyId": AWS_ID,
            "awsSecretAccessKey": AWS_SECRET,
            "awsSessionToken": AWS_TOKEN,
        },
        own={name: value for name, value in AWS_OPTIONS.items() if name != "region"},
    ),
    "the server's bearer token": Kind(
        (BEARER,),
        {
            "CLAUDE_CODE_USE_BEDROCK": "1",
            "AWS_REGION": "eu-1",
            "AWS_BEARER_TOKEN_BEDROCK": BEARER,
        },
    ),
    "a Google account of its own": Kind(
        (PRIVATE_KEY,),
        arguments={
            "provider": "vertex",
            "providerOptions": {"credentials": GOOGLE, "projectId": "mine", "region": "global"},
        },
        own={"credentials": GOOGLE},
    ),
    "the server's Foundry key": Kind(
        (FOUNDRY,), {"CLAUDE_CODE_USE_FOUNDRY": "1", "ANTHROPIC_FOUNDRY_API_KEY": FOUNDRY}
    ),
}


@pytest.fixture
def cloud() -> Iterator[CloudStandin]:
    known = Known(
        aws_keys={AWS_ID: AwsKey(AWS_SECRET, AWS_TOKEN)},
        bearer_tokens=frozenset({BEARER}),
        google_keys={ACCOUNT: RSA},
        foundry_keys=frozenset({FOUNDRY}),
    )
    with CloudStandin(known, host="0.0.0.0") as running:
        yield running


def forms(secret: str) -> set[str]:
    encoded = base64.b64encode(secret.encode()).decode()
    return {
        secret,
        json.dumps(secret)[1:-1],
        urllib.parse.quote(secret, safe=""),
        encoded[: len(secret) // 3 * 4],
    }


class Life:
    """A client of a server that logs all it can, and everything that was told by it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.told: list[str] = []

    async def __call__(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        async def progress(
            progress: float, total: float | None = None, message: str | None = None
        ) -> None:
            self.told.append(message or "")

        result = await self._client.call_tool(tool, arguments, progress_callback=progress)
        self.told += [text_of(result), json.dumps(result.structured_content)]
        return {"isError": result.is_error, **(result.structured_content or {})}


# How the secrets enter and leave the container differs from engine to engine; the kinds do not.
EVERYWHERE = ("the server's key, behind proxies", "a key of its own")


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, id=name, marks=[] if name in EVERYWHERE else [pytest.mark.once])
        for name, kind in KINDS.items()
    ],
)
async def test_a_secret_is_found_nowhere_in_a_sessions_life(
    kind: Kind,
    engine: Engine,
    environ: dict[str, str],
    project: Path,
    name: str,
    tmp_path: Path,
    bare: Bare,
    standin: Standin,
    cloud: CloudStandin,
) -> None:
    hidden = kind.secrets
    before = len(standin.requests)
    servers = {"mcpConfig": {"mcpServers": MCP_SERVERS}} if kind.mcp_servers else {}
    log = tmp_path / "server.log"
    for directory in ("home", "temporary"):
        (tmp_path / directory).mkdir()
    address = f"http://127.0.0.1:{cloud.port}"
    environ |= {
        "ANTHROPIC_BEDROCK_BASE_URL": address,
        "ANTHROPIC_VERTEX_BASE_URL": f"{address}/v1",
        "ANTHROPIC_FOUNDRY_BASE_URL": f"{address}/anthropic",
        "MCP_CLAUDE_DEBUG": "1",
        "TMPDIR": str(tmp_path / "temporary"),
        "XDG_CONFIG_HOME": str(tmp_path / "home"),
    }
    others = dict(environ)
    environ |= kind.environ
    command = [sys.executable, "-m", "claude_mcp", f"--engine={engine.program}"]
    server = StdioServerParameters(
        command="sh",
        args=["-c", f'exec "$@" serve 2>>{log}', "sh", *command],
        env=environ,
    )
    env = {"tool": "Bash", "input": {"command": "env; cat /proc/self/environ"}}
    outside: dict[str, str] = {}
    with ArgvSampler(*hidden) as sampler:
        async with Client(server) as client:
            life = Life(client)
            created = await life(
                "create_session",
                projectPath=str(project),
                sessionName=name,
                **servers,
                **kind.arguments,
            )
            assert not created["isError"], life.told
            [container] = bare.containers(name)
            turn = await life("execute_in_session", sessionId=name, prompt=script(env))
            assert turn["status"] == "completed", turn
            known = [each for each in hidden if each != HANDED_IN]
            told = script({"say": " ".join(known)})
            turn = await life("execute_in_session", sessionId=name, prompt=told)
            assert turn["result"] == " ".join([MASK] * len(known))
            await life("execute_in_session", sessionId=name, prompt=script({"fail": 400}))
            ran = await life("execute_command", sessionId=name, command="env")
            assert "HOME=" in ran["stdout"]
            assert MASK not in ran["stdout"]
            await life("create_session", projectPath="/nowhere", **kind.arguments)
            again = {**kind.arguments, "sessionName": name}
            await life("create_session", projectPath=str(project), **again)
            await life("get_turn", sessionId=name, cursor=0)
            # Another front end, which was never told the session's own secrets.
            for arguments in (
                ["turn", name, turn["turnId"], "--cursor=0"],
                ["logs", name],
                ["list"],
            ):
                shown = subprocess.run(
                    [*command, *arguments, "--json"],
                    env={**others, "MCP_CLAUDE_DEBUG": "1"},
                    capture_output=True,
                    text=True,
                    check=True,
                )
                outside[f"the command line's {arguments[0]}"] = shown.stdout + shown.stderr
            outside["inspect"] = bare("inspect", container)
            outside["the engine's log"] = bare("logs", container)
            bare("restart", "--time=1", container)
            recall = script({"say": "here again"})
            lost = await life("execute_in_session", sessionId=name, prompt=recall)
            if kind.own:
                assert lost["isError"]
                handed = await life("set_credentials", sessionId=name, providerOptions=kind.own)
                assert not handed["isError"], life.told[-2:]
                lost = await life("execute_in_session", sessionId=name, prompt=recall)
            assert lost["result"] == "here again", life.told[-4:]
            await life("get_session_logs", sessionId=name)
            await life("list_sessions")
            # As root, who sees all; the pattern does not contain what it finds.
            patterns = [
                f"{form[:4]}[{form[4]}]{form[5:]}" for each in hidden for form in forms(each)
            ]
            outside["files of the session"] = bare(
                "exec", "--user=0", container, "grep", "-rlsE", "-D", "skip",
                *(f"--regexp={pattern.replace('+', '[+]')}" for pattern in patterns),
                "/home", "/root", "/tmp", "/var", "/etc", "/opt", "/workspace",
                check=False,
            )  # fmt: skip
            await life("destroy_session", sessionId=name)
    outside["the image"] = bare("history", "--no-trunc", created["image"])
    outside["the server's log"] = log.read_text()
    outside["what was told"] = "\n".join(life.told)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            outside[str(path)] = path.read_text(errors="replace")
    calls = [*standin.requests[before:], *cloud.requests]
    [bash] = {each for call in calls for each in call.tool_results if "CLAUDECODE=1" in each}
    outside["Claude's Bash"] = bash
    assert "docker" in outside["the server's log"] or "podman" in outside["the server's log"]
    conversation = outside.pop("files of the session").split()
    assert [path for path in conversation if "/projects/" not in path] == []
    found = [
        (where, secret)
        for where, text in outside.items()
        for secret in hidden
        if any(form in text for form in forms(secret))
    ]
    assert found == []
    assert sampler.rounds > 5
    assert sampler.found == set()
