"""The API key of a whole session's life is searched for wherever someone could grep."""

from __future__ import annotations

import base64
import json
import logging
import os
import secrets as random
import socketserver
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from messages_standin import Standin

from claude_mcp.config import load
from claude_mcp.contract import places
from claude_mcp.contract.redaction import MASK
from claude_mcp.engine.engine import Engine
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.providers.options import ProviderRequest
from claude_mcp.sessions.registry import open_sessions
from claude_mcp.sessions.turns import commands
from claude_mcp.sessions.turns import prompts as turns
from claude_mcp.sessions.turns.results import TurnStatus
from tests.argv_sampler import ArgvSampler

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare


@pytest.mark.parametrize("source", ["server", "session"])
async def test_api_key_is_nowhere_but_in_the_request(
    source: str,
    engine: Engine,
    environ: dict[str, str],
    project: Path,
    name: str,
    standin: Standin,
    bare: Bare,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    sentinel = f"sk-ant-sentinel-{random.token_hex(16)}"
    caplog.set_level(logging.DEBUG)
    asked = ProviderRequest()
    if source == "server":
        environ["ANTHROPIC_API_KEY"] = sentinel
    else:
        asked = ProviderRequest(arguments={"apiKey": sentinel})
    told: list[str] = []

    async def progress(line: str, amount: object = None, /) -> None:
        told.append(line)

    with ArgvSampler(sentinel) as sampler:
        async with open_sessions(load(environ, engine=engine.program, debug=True)) as sessions:
            request = CreateRequest(str(project), session_name=name, provider=asked)
            created = await create(sessions, request, progress)
            container = created.session.container_id
            steps = (
                '[{"tool":"Bash","input":{"command":"env; cat /proc/$PPID/environ"}},{"say":"x"}]'
            )
            turn = await turns.prompt(
                await sessions.open(name), f"standin: {steps}", progress=progress
            )
            failed = await turns.prompt(await sessions.open(name), 'standin: [{"fail": 401}]')
            shell = await commands.run(
                await sessions.open(name),
                "env; cat /proc/*/environ /proc/*/cmdline; find / -xdev -type f"
                f" -newer /etc/hostname -size -5M 2>/dev/null | xargs grep -l {sentinel[:20]}''X"
            )  # fmt: skip
            inside = await commands.run(
                await sessions.open(name),
                "echo " + sentinel[:24] + " | cut -c1-24 > /dev/null; "
                "grep -rl sk-ant-sentinel- /home /tmp /var/tmp /run /workspace 2>/dev/null",
            )
            _, log = await commands.logs(await sessions.open(name))
            listed = await sessions.list()
            inspected = bare("inspect", container)
            history = bare("history", "--no-trunc", created.session.image)
            await sessions.destroy(name)
    assert sampler.rounds > 5
    assert sampler.found == set()
    headers = {key.lower(): value for key, value in standin.model_calls[-1].headers.items()}
    assert headers["x-api-key"] == sentinel
    tool_output = str(standin.model_calls[-2].tool_results) + str(
        standin.model_calls[-3].tool_results
    )
    for where, text in {
        "inspect": inspected,
        "image": history,
        "session's log": "\n".join(log),
        "our log": caplog.text,
        "stdout and stderr": "".join(capfd.readouterr()),
        "progress": "\n".join(told),
        "turn": str(turn) + str(failed),
        "list": str(listed),
        "created": str(created),
        "command's environment": shell.stdout + shell.stderr,
        "Claude's Bash": tool_output,
        "files inside": inside.stdout,
        "files of the project": "".join(
            path.read_text(errors="replace") for path in project.rglob("*") if path.is_file()
        ),
        "our environment for the engine": str(
            {key: value for key, value in load(environ).environment.items()}
        ),
    }.items():
        assert sentinel not in text, where
    assert os.environ.get("ANTHROPIC_API_KEY") != sentinel


@pytest.mark.once
async def test_proxies_are_claudes_alone_and_a_gateway_on_the_host_is_reached_past_them(
    engine: Engine, environ: dict[str, str], project: Path, name: str, bare: Bare
) -> None:
    sentinel = f"sentinel-{random.token_hex(16)}"
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        environ[variable] = f"http://me:{sentinel}@192.0.2.1:3128"
    async with open_sessions(load(environ, engine=engine.program)) as sessions:
        created = await create(sessions, CreateRequest(str(project), session_name=name))
        try:
            turn = await turns.prompt(await sessions.open(name), "hello")
            shell = await commands.run(await sessions.open(name), "env | grep -i proxy")
            inspected = bare("inspect", created.session.container_id)
        finally:
            await sessions.destroy(name)
    assert (turn.status, turn.error) == (TurnStatus.COMPLETED, None)
    assert (shell.stdout, shell.stderr) == ("", "")
    assert sentinel not in inspected


@pytest.mark.once
async def test_a_password_of_a_gateway_is_in_its_requests_alone(
    engine: Engine, environ: dict[str, str], project: Path, name: str, standin: Standin, bare: Bare
) -> None:
    sentinel = f"sentinel-{random.token_hex(16)}"
    address = environ["ANTHROPIC_BASE_URL"]
    environ["ANTHROPIC_BASE_URL"] = address.replace("http://", f"http://me:{sentinel}@")
    async with open_sessions(load(environ, engine=engine.program)) as sessions:
        created = await create(sessions, CreateRequest(str(project), session_name=name))
        bash = '{"tool":"Bash","input":{"command":"env"}}'
        turn = await turns.prompt(await sessions.open(name), f"standin: [{bash}]")
        shell = await commands.run(await sessions.open(name), "env")
        inspected = bare("inspect", created.session.container_id)
        await sessions.destroy(name)
    assert (turn.status, turn.error) == (TurnStatus.COMPLETED, None)
    call = standin.model_calls[-1]
    headers = {key.lower(): value for key, value in call.headers.items()}
    expected = base64.b64encode(f"me:{sentinel}".encode()).decode()
    assert headers["authorization"] == f"Basic {expected}"
    [env] = call.tool_results
    assert "CLAUDECODE=1" in env
    assert sentinel not in env + inspected
    assert expected not in env + inspected
    assert MASK not in shell.stdout


def leaves_environment(name: str) -> str:
    """Shell that leaves its environment in a file of the project, whole once it is there."""
    return f"env > /workspace/{name}.$$ && mv /workspace/{name}.$$ /workspace/{name}"


@pytest.mark.once
@pytest.mark.parametrize(
    "kind", ["gateway's token", "gateway's password", "bearer token", "Foundry key", "proxy"]
)
async def test_what_is_in_claudes_environment_is_in_that_of_no_hook_and_no_mcp_server(
    kind: str, engine: Engine, environ: dict[str, str], project: Path, name: str
) -> None:
    sentinel = f"sentinel-{random.token_hex(16)}"
    address = environ["ANTHROPIC_BASE_URL"]
    environ |= {
        "gateway's token": {"ANTHROPIC_AUTH_TOKEN": sentinel},
        "gateway's password": {
            "ANTHROPIC_BASE_URL": address.replace("http://", f"http://me:{sentinel}@")
        },
        "bearer token": {
            "CLAUDE_CODE_USE_BEDROCK": "1",
            "AWS_REGION": "eu-1",
            "AWS_BEARER_TOKEN_BEDROCK": sentinel,
            "ANTHROPIC_BEDROCK_BASE_URL": address,
        },
        "Foundry key": {
            "CLAUDE_CODE_USE_FOUNDRY": "1",
            "ANTHROPIC_FOUNDRY_API_KEY": sentinel,
            "ANTHROPIC_FOUNDRY_BASE_URL": address,
        },
        "proxy": {"HTTPS_PROXY": f"http://me:{sentinel}@192.0.2.1:3128"},
    }[kind]
    hook = {"hooks": [{"type": "command", "command": leaves_environment("of-the-hook")}]}
    (project / ".claude").mkdir()
    (project / ".claude" / "settings.json").write_text(
        json.dumps({"hooks": {"SessionStart": [hook], "UserPromptSubmit": [hook]}})
    )
    server = {"command": "sh", "args": ["-c", f"{leaves_environment('of-the-server')}; exit 1"]}
    request = CreateRequest(
        str(project),
        session_name=name,
        trust_project=True,
        mcp_config={"mcpServers": {"a": server}},
    )
    async with open_sessions(load(environ, engine=engine.program)) as sessions:
        await create(sessions, request)
        turn_id = turns.new_turn_id()
        await turns.prompt(await sessions.open(name), "hello", turn_id=turn_id, wait_seconds=0)
        left = "until [ -e of-the-hook ] && [ -e of-the-server ]; do sleep 0.1; done"
        waited = await commands.run(await sessions.open(name), left, timeout_seconds=60)
        assert waited.exit_code == 0
        await turns.interrupt(await sessions.open(name), turn_id)
        await sessions.destroy(name)
    for who in ("hook", "server"):
        env = (project / f"of-the-{who}").read_text()
        assert "CLAUDE_MCP_ACTIVITY=" in env
        assert sentinel not in env
        assert base64.b64encode(f"me:{sentinel}".encode()).decode() not in env


class PasswordProxy:
    """A proxy that answers nobody without the password."""

    def __init__(self, password: str) -> None:
        self._expected = "Basic " + base64.b64encode(f"me:{password}".encode()).decode()
        self.tunnels: list[str] = []
        self.refused = 0
        outer = self

        class Proxy(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                line = self.rfile.readline().decode()
                headers = {}
                while header := self.rfile.readline().decode().strip():
                    key, _, value = header.partition(":")
                    headers[key.lower()] = value.strip()
                if headers.get("proxy-authorization") != outer._expected:
                    outer.refused += 1
                    self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                    return
                outer.tunnels.append(line.split()[1])
                self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        self._server = socketserver.ThreadingTCPServer(("0.0.0.0", 0), Proxy)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.mark.once
async def test_a_proxys_password_reaches_the_proxy_and_no_command(
    engine: Engine, environ: dict[str, str], project: Path, name: str
) -> None:
    sentinel = f"sentinel-{random.token_hex(16)}"
    proxy = PasswordProxy(sentinel)
    try:
        environ |= {
            "HTTPS_PROXY": f"http://me:{sentinel}@127.0.0.1:{proxy.port}",
            "ANTHROPIC_BASE_URL": "https://api.standin.example",
        }
        async with open_sessions(load(environ, engine=engine.program)) as sessions:
            await create(sessions, CreateRequest(str(project), session_name=name))
            turn_id = turns.new_turn_id()
            await turns.prompt(await sessions.open(name), "hello", turn_id=turn_id, wait_seconds=0)
            with anyio.fail_after(60):
                while not proxy.tunnels:
                    await anyio.sleep(0.1)
            await turns.interrupt(await sessions.open(name), turn_id)
            await sessions.destroy(name)
    finally:
        proxy.close()
    assert set(proxy.tunnels) == {"api.standin.example:443"}
    assert proxy.refused == 0


@pytest.mark.per_engine
async def test_secrets_of_mcp_servers_are_with_the_servers_alone(
    engine: Engine,
    environ: dict[str, str],
    project: Path,
    name: str,
    standin: Standin,
    bare: Bare,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    sentinel = f"sentinel-{random.token_hex(16)}"
    # The last one tells its secret itself: what is answered about it is masked all the same.
    told_by_server = f"sentinel-{random.token_hex(16)}"
    remote = {"type": "http", "url": f"http://me:{sentinel}-url@127.0.0.1:9/mcp"}
    servers = {
        "local": {"command": "sleep", "args": ["1"], "env": {"ANY": f"{sentinel}-env"}},
        "remote": {**remote, "headers": {"Authorization": f"Bearer {sentinel}-header"}},
        "talks": {
            "command": "sh",
            "args": ["-c", "echo it was $TOKEN here >&2; exit 1"],
            "env": {"TOKEN": told_by_server},
        },
    }
    caplog.set_level(logging.DEBUG)
    with ArgvSampler(sentinel) as sampler:
        async with open_sessions(load(environ, engine=engine.program, debug=True)) as sessions:
            request = CreateRequest(
                str(project), session_name=name, mcp_config={"mcpServers": servers}
            )
            created = await create(sessions, request)
            bash = '{"tool":"Bash","input":{"command":"env; cat /proc/$PPID/environ"}}'
            turn = await turns.prompt(
                await sessions.open(name), f'standin: [{bash},{{"report":true}}]'
            )
            shell = await commands.run(await sessions.open(name), "env; cat /proc/1/environ")
            inside = await commands.run(
                await sessions.open(name),
                f"grep -rl {sentinel[:20]} / --exclude-dir=proc --exclude-dir=sys",
            )
            read = await commands.run(
                await sessions.open(name), f"cat {places.RUN_DIRECTORY}/mcp.json"
            )
            _, log = await commands.logs(await sessions.open(name))
            listed = await sessions.list()
            inspected = bare("inspect", created.session.container_id)
            await sessions.destroy(name)
    assert sampler.rounds > 5
    assert sampler.found == set()
    assert [server.status for server in created.mcp_servers] == ["failed"] * 3
    assert created.mcp_servers[-1].error == f"Connection closed: it was {MASK} here"
    assert turn.status is TurnStatus.COMPLETED
    assert "CLAUDE_MCP_ACTIVITY=" in str(turn.result)
    assert inside.stdout.split() == [f"{places.RUN_DIRECTORY}/mcp.json"]
    assert f'"ANY": "{MASK}"' in read.stdout
    for where, text in {
        "inspect": inspected,
        "session's log": "\n".join(log),
        "our log": caplog.text,
        "stdout and stderr": "".join(capfd.readouterr()),
        "created": str(created),
        "turn": str(turn),
        "list": str(listed),
        "command's environment": shell.stdout + shell.stderr,
        "what the model was sent": str(standin.requests),
        "what a command reads": str(read),
    }.items():
        assert sentinel not in text, where
        assert told_by_server not in text, where
