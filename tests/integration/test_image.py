"""Our session image for those who start Claude Code in it by hand."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from claude_mcp.config import Config
from claude_mcp.engine.docker_cli import DockerCliEngine

pytestmark = pytest.mark.once


class Image:
    def __init__(self, engine: DockerCliEngine, image: str) -> None:
        self._engine = engine
        self._image = image

    def run(
        self, *command: str, options: tuple[str, ...] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        variables = [f"--env={name}={value}" for name, value in environment.items()]
        return subprocess.run(
            [self._engine.program, "run", "--rm", *variables, *options, self._image, *command],
            env=dict(self._engine.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def image(engine: DockerCliEngine, config: Config) -> Image:
    return Image(engine, config.image)


def encoded(value: Any) -> str:
    return base64.encodebytes(json.dumps(value).encode()).decode()  # in lines, as base64(1) has it


@pytest.mark.parametrize("user", ["0:0", "4321:4321"])
def test_claude_code_knows_the_servers_of_mcp_config(
    image: Image, tmp_path: Path, user: str
) -> None:
    server = tmp_path / "server.py"
    server.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    asked = json.loads(line)\n"
        "    if asked['method'] == 'initialize':\n"
        "        version = asked['params']['protocolVersion']\n"
        "        info = {'name': 'tiny', 'version': '1'}\n"
        "        result = {'protocolVersion': version, 'capabilities': {}, 'serverInfo': info}\n"
        "        answer = {'jsonrpc': '2.0', 'id': asked['id'], 'result': result}\n"
        "        print(json.dumps(answer), flush=True)\n"
    )
    tmp_path.chmod(0o755)
    servers = {
        "works": {"command": "python3", "args": ["/opt/server.py"]},
        "fails": {"command": "no-such-program", "env": {"TOKEN": "of-no-concern"}},
    }
    done = image.run(
        "claude",
        "mcp",
        "list",
        options=(f"--user={user}", f"--volume={server}:/opt/server.py:ro"),
        MCP_CONFIG=encoded({"mcpServers": servers}),
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
    )
    lines = {line.partition(":")[0]: line for line in done.stdout.splitlines() if ": " in line}
    assert "Connected" in lines["works"], done
    assert "Failed" in lines["fails"], done


def test_what_is_started_has_no_mcp_config_and_other_settings_are_kept(image: Image) -> None:
    config = encoded({"mcpServers": {"b": {"command": "two"}}, "theme": "not ours"})
    before = json.dumps({"theme": "dark", "mcpServers": {"a": {"command": "one"}}})
    script = (
        f"echo '{before}' >~/.claude.json; MCP_CONFIG='{config}' session-entrypoint sh -c "
        "'env | grep MCP_CONFIG; jq -c . ~/.claude.json; stat -c %a ~/.claude.json'"
    )
    done = image.run("sh", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    kept, mode = done.stdout.splitlines()
    assert json.loads(kept) == {
        "theme": "dark",
        "mcpServers": {"a": {"command": "one"}, "b": {"command": "two"}},
    }
    assert mode == "600"


def test_the_users_configuration_is_for_that_user_alone(image: Image) -> None:
    done = image.run(
        "stat", "-c", "%a", "/home/session/.claude.json", MCP_CONFIG=encoded({"mcpServers": {}})
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "600\n", "")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("!!s3cr3t!!", "MCP_CONFIG is not base64."),
        (base64.b64encode(b"s3cr3t").decode(), "holds no JSON with an object mcpServers."),
        (encoded([{"mcpServers": "s3cr3t"}]), "holds no JSON with an object mcpServers."),
        (encoded({"mcpServers": ["s3cr3t"]}), "holds no JSON with an object mcpServers."),
    ],
)
def test_an_unusable_mcp_config_is_refused_without_being_shown(
    image: Image, value: str, said: str
) -> None:
    done = image.run("echo", "started", MCP_CONFIG=value)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.rstrip().endswith(said)
    assert "s3cr3t" not in done.stderr


def test_without_mcp_config_the_command_is_all_that_happens(image: Image) -> None:
    done = image.run("sh", "-c", 'ls -A ~; printf "%s|" "$0" "$@"', "a b", "$HOME", "'")
    assert (done.returncode, done.stdout, done.stderr) == (0, "a b|$HOME|'|", "")
