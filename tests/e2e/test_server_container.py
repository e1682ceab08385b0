"""The server in a container, beside its sessions: over stdio, over HTTP, from Claude Code."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client, StdioServerParameters

from claude_mcp.engine.docker_cli import DockerCliEngine
from tests.claude_terminal import ClaudeCode, tool
from tests.e2e.test_claude_code import program
from tests.e2e.test_http import calling
from tests.engine_fixtures import Bare
from tests.peers import Peer, script

pytestmark = [pytest.mark.stress, pytest.mark.docker]

__all__ = ["program"]

SOCKET = Path("/var/run/docker.sock")
OWNER = 4321
BUILD_SECONDS = 900
PATIENCE_SECONDS = 60
TOKEN = secrets.token_hex(16)


@pytest.fixture(scope="module")
def image(engine: DockerCliEngine) -> Iterator[str]:
    name = f"it-server-{secrets.token_hex(4)}:test"
    argv = [sys.executable, "-m", "claude_mcp", f"--engine={engine.program}", "image", "build"]
    subprocess.run([*argv, name, "--target=server"], check=True, timeout=BUILD_SECONDS)
    yield name
    subprocess.run([engine.program, "image", "rm", name], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def projects(tmp_path: Path) -> Path:
    """A directory of projects that belongs to somebody else."""
    directory = tmp_path / "projects"
    (directory / "app").mkdir(parents=True)
    for each in (directory, directory / "app"):
        os.chown(each, OWNER, OWNER)
    for each in tmp_path.parents:
        if (
            each.stat().st_uid == os.geteuid()
            and each.is_relative_to("/tmp")
            and each != Path("/tmp")
        ):
            each.chmod(each.stat().st_mode | 0o011)
    tmp_path.chmod(0o755)
    return directory


def run_argv(engine: DockerCliEngine, image: str, projects: Path, *more: str) -> list[str]:
    return [
        engine.program, "run", "--rm", "--init", f"--user={OWNER}:{OWNER}",
        f"--group-add={SOCKET.stat().st_gid}", f"--volume={SOCKET}:{SOCKET}",
        f"--volume={projects}:/projects", "--env=ANTHROPIC_API_KEY", "--env=ANTHROPIC_BASE_URL",
        *more, image,
    ]  # fmt: skip


async def main_job(call: Peer, projects: Path, name: str) -> None:
    """From the host's name of a project to a file that belongs to the project's owner."""
    app = projects / "app"
    created = await call("create_session", projectPath=str(app), sessionName=name)
    assert created["projectPath"] == "/projects/app"
    step = {"tool": "Bash", "input": {"command": "echo written >by-claude"}}
    turn = await call("execute_in_session", sessionId=name, prompt=script(step, {"say": "written"}))
    assert (turn["status"], turn["result"]) == ("completed", "written")
    made = (app / "by-claude").stat()
    assert (made.st_uid, made.st_gid) == (OWNER, OWNER)
    copied = {"sessionId": name, "direction": "from_container", "sourcePath": "by-claude"}
    out = await call("transfer_files", **copied, destPath=str(app / "copy"))
    assert out["path"] == "/projects/app/copy"
    assert ((app / "copy").read_text(), (app / "copy").stat().st_uid) == ("written\n", OWNER)
    told = await call.refused("create_session", projectPath=str(projects.parent))
    assert f"--volume={projects.parent}:{projects.parent}" in told
    await call("destroy_session", sessionId=name)


@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_over_stdio(
    engine: DockerCliEngine,
    image: str,
    projects: Path,
    name: str,
    environ: dict[str, str],
    era: Any,
) -> None:
    command, *args = run_argv(engine, image, projects, "--interactive")
    server = StdioServerParameters(command=command, args=args, env=environ)
    async with Client(server, mode=era) as client:
        await main_job(Peer(client, os.getpid()), projects, name)


@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_over_http(
    engine: DockerCliEngine,
    image: str,
    projects: Path,
    name: str,
    environ: dict[str, str],
    era: Any,
) -> None:
    server = f"{name}-server"
    more = ("--detach", f"--name={server}", "--publish=127.0.0.1::8765", "--env=CLAUDE_MCP_TOKEN",
            "--env=CLAUDE_MCP_HTTP_HOSTS=127.0.0.1")  # fmt: skip
    argv = [*run_argv(engine, image, projects, *more), "serve", "--host=0.0.0.0"]
    environ["CLAUDE_MCP_TOKEN"] = TOKEN
    subprocess.run(argv, env=environ, check=True, stdout=subprocess.DEVNULL)
    try:
        port = subprocess.run(
            [engine.program, "port", server, "8765"], check=True, capture_output=True, text=True
        ).stdout.strip()
        async with httpx2.AsyncClient(base_url=f"http://{port}") as http:
            await ready(http)
            assert (await http.post("/mcp", json={})).status_code == 401
        async with calling(f"http://{port}/mcp", TOKEN, era) as call:
            await main_job(call, projects, name)
    finally:
        stopped = subprocess.run([engine.program, "stop", server], capture_output=True)
    assert stopped.returncode == 0


async def ready(http: httpx2.AsyncClient) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while True:
            try:
                if (await http.get("/readyz")).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await anyio.sleep(0.1)


def test_from_the_real_claude_code(
    program: Path,
    engine: DockerCliEngine,
    image: str,
    projects: Path,
    name: str,
    environ: dict[str, str],
    tmp_path: Path,
    bare: Bare,
) -> None:
    server = run_argv(engine, image, projects, "--interactive")
    client = ClaudeCode(program, tmp_path, server, environ)
    command = {"sessionId": name, "command": "echo from-claude >made; id -u"}
    prompt = script(
        tool("create_session", projectPath=str(projects / "app"), sessionName=name),
        tool("execute_command", **command),
        tool("destroy_session", sessionId=name),
        {"report": True},
    )
    done = subprocess.run(
        client.argv("-p", prompt, "--output-format=json"), cwd=client.work, env=client.environ,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=3 * PATIENCE_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    assert json.loads(done.stdout)["is_error"] is False
    assert (projects / "app" / "made").read_text() == "from-claude\n"
    assert (projects / "app" / "made").stat().st_uid == OWNER
    bare.remove_all(name)
