"""An engine whose ``exec`` is a script that speaks as the agent does."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from claude_mcp.config import Config
from claude_mcp.credentials import Secret
from claude_mcp.engine import pulse
from claude_mcp.engine.dialects.docker import DOCKER
from claude_mcp.engine.docker_cli import DockerCliEngine
from claude_mcp.sessions import labels
from claude_mcp.sessions.channel import channels
from claude_mcp.sessions.channel.channel import OnEvent
from claude_mcp.sessions.network.access import (
    OPEN,
    PROXY_LABEL,
    PROXY_OF_LABEL,
    Access,
    Network,
    Proxy,
)
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import Session, container_name
from tests.unit.conftest import PATIENCE_SECONDS

PRELUDE = """\
import json, os, sys, time

def say(line):
    sys.stdout.write(line + "\\n")
    sys.stdout.flush()

def answer(number, **fields):
    say(json.dumps({"id": number, **fields}))

def request():
    return json.loads(sys.stdin.readline())

answer(0, event={"greeting": True})
"""


VERSION = {
    "Client": {"Version": "28.2.2", "ApiVersion": "1.50"},
    "Server": {"Version": "28.2.2", "Platform": {"Name": ""}, "Components": []},
}
# In shell, because every test calls it a few times: Python takes ten times as long to start.
# A container is a file called ID=NAME that holds what ``inspect`` says; other verbs are scripts
# of the test's own.
PROGRAM = """\
#!/bin/sh
cd '{directory}' || exit
echo "$1" >>calls
find() {{
    for file in containers/*=*; do
        id=${{file#containers/}} name=${{file#*=}}
        case $name in "$1") echo "$file"; continue;; esac
        case ${{id%%=*}} in "$1"*) [ -e "$file" ] && echo "$file";; esac
    done
}}
fail() {{
    echo "Error response from daemon: $*" >&2
    status=1
}}
status=0
[ -e "$1.py" ] && exec '{python}' -IS "$1.py" "$@"
case $1 in
version)
    exec cat version.json;;
ps)
    label=$(echo "\\"${{5#--filter=label=}}\\"" | sed 's/=/": "/')
    grep -lsF "$label" containers/*=* | sed 's,.*/,,; s,=.*,,';;
volume)
    ;;
container)
    shift 3
    for reference; do
        set -- $(find "$reference")
        case $# in
        0) fail "No such container: $reference";;
        1) cat "$1";;
        *) fail "Multiple IDs found with provided prefix: $reference";;
        esac
    done;;
start)
    sed -i 's/"status": "[a-z]*"/"status": "running"/' $(find "$2");;
kill)
    sed -i 's/"status": "[a-z]*"/"status": "exited"/' $(find "$2");;
rm)
    set -- $(find "$4")
    [ $# = 0 ] && fail "No such container" && exit 0
    rm "$@" && echo "$@";;
*)
    exec '{python}' -IS "$1.py" "$@";;
esac
exit $status
"""


def container(
    id: str, name: str, status: str = "running", access: Access = OPEN, **changes: Any
) -> dict[str, Any]:
    """What ``inspect`` says of a session's container."""
    made = labels.session_labels(
        name=name,
        project_path=f"/projects/{name}",
        provider="anthropic",
        credentials=CredentialSource.SERVER,
        access=access,
    )
    fields = {
        "id": f"{id:0<64}",
        "name": container_name(name),
        "created": "2026-11-23T06:26:12.098159999Z",
        "status": status,
        "exitCode": 0,
        "error": "",
        "started": "",
        "finished": "0001-01-01T00:00:00Z",
        "image": "image:1",
        "labels": made,
    }
    return {**fields, **changes}


PROXY = Proxy("0123456789abcdef", "image:1", '{"allowed": ["pypi.org"]}')
RESTRICTED = Access(Network.RESTRICTED, PROXY)


def proxy_container(status: str = "running", proxy: Proxy = PROXY) -> dict[str, Any]:
    """What ``inspect`` says of a proxy's container; its id is its name."""
    of = {PROXY_OF_LABEL: proxy.id, PROXY_LABEL: proxy.to_json()}
    return {**container(proxy.name, "", status, labels=of), "name": proxy.name}


async def request(
    sessions: Sessions,
    reference: str,
    op: str,
    args: dict[str, Any],
    on_event: OnEvent | None = None,
) -> tuple[Session, dict[str, Any]]:
    """Open a session and ask its agent once."""
    handle = await sessions.open(reference)
    answer = await handle.request(op, args, on_event)
    return handle.session, answer


class ScriptedEngine:
    """A ``docker`` on disk that holds sessions; what it says to further verbs is up to a test."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._calls = directory / "calls"
        self._calls.touch()
        self._containers = directory / "containers"
        self._containers.mkdir()
        (directory / "version.json").write_text(json.dumps(VERSION))
        program = directory / "docker"
        python = os.path.realpath(sys.executable)
        program.write_text(PROGRAM.format(directory=directory, python=python))
        program.chmod(0o755)
        self.engine = DockerCliEngine(str(program), "28.2.2", DOCKER, {"PATH": os.environ["PATH"]})

    def on(self, verb: str, script: str) -> None:
        (self._directory / f"{verb}.py").write_text(script)

    def agent(self, script: str) -> None:
        """What is at the other end of a channel, after its greeting."""
        self.on("exec", PRELUDE + script)

    def holds(self, *containers: dict[str, Any]) -> None:
        """The containers that there are from now on."""
        for file in self._containers.iterdir():
            file.unlink()
        for each in containers:
            file = self._containers / f"{each['id']}={each['name']}"
            file.write_text(json.dumps(each) + "\n")

    @property
    def held(self) -> list[dict[str, Any]]:
        """The containers that there are now."""
        return [json.loads(file.read_text()) for file in self._containers.glob("*=*")]

    @property
    def config(self) -> Config:
        return Config(
            environment=self.engine.environment,
            engine=self.engine.program,
            api_key=Secret("sk-of-the-server"),
        )

    @property
    def calls(self) -> list[str]:
        """The verbs that were called so far."""
        return self._calls.read_text().split()

    def noted(self, name: str) -> list[str]:
        """The words that a script wrote to a file of this name."""
        return (self._directory / name).read_text().split()

    def noted_lines(self, name: str) -> list[str]:
        return (self._directory / name).read_text().splitlines()


LIMITS = (
    "channel.channel.CANCEL_ANSWER_SECONDS",
    "channel.channel.EXIT_SECONDS",
    "channel.silence.ENGINE_SECONDS",
    "channel.silence.GRACE_SECONDS",
    "create.start.READY_SECONDS",
    "details.ANSWER_SECONDS",
    "fleet.ANSWER_SECONDS",
    "fleet.SILENT_SECONDS",
    "network.companions.READY_SECONDS",
    "network.companions.STARTING_SECONDS",
    "pruning.ANSWER_SECONDS",
    "registry.SWEEP_SECONDS",
)
"""Besides those that ``patient`` knows."""


@pytest.fixture(autouse=True)
def waits_for_its_engine(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test here does."""
    for name in LIMITS:
        monkeypatch.setattr(f"claude_mcp.sessions.{name}", PATIENCE_SECONDS)
    monkeypatch.setattr(pulse, "ANSWER_SECONDS", PATIENCE_SECONDS)
    # Agents expect certain requests: a ping would come between them.
    monkeypatch.setattr(channels, "TRUSTED_QUIET_SECONDS", math.inf)


@pytest.fixture
def scripted(tmp_path: Path) -> ScriptedEngine:
    directory = tmp_path / "engine"
    directory.mkdir()
    made = ScriptedEngine(directory)
    made.on("logs", "import sys; sys.stderr.write('2026-01-01T00:00:00Z last words\\n')")
    return made


@pytest.fixture
async def sessions(scripted: ScriptedEngine) -> AsyncIterator[Sessions]:
    """The sessions of the scripted engine; a test says which there are."""
    async with open_sessions(scripted.config) as opened:
        yield opened
