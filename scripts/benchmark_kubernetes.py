"""What scripts/benchmark measures of sessions on Kubernetes, beside kubectl itself.

The cluster is the one that KUBECONFIG leads to. Both sides create the same pod.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmark_measuring import (
    SHIM,
    Bench,
    BenchmarkError,
    Calls,
    Row,
    Rows,
    Samples,
    alternate,
    timed,
)

from claude_mcp import config as configuration
from claude_mcp.config import Config
from claude_mcp.engine.address import KUBERNETES
from claude_mcp.engine.kubernetes import manifest, marks
from claude_mcp.engine.kubernetes.argv import PROGRAM
from claude_mcp.sessions.create.plan import plan_session
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.turns import commands

CREATE_RATIO: Final = 1.3
EXEC_RATIO: Final = 0.1
WAIT: Final = ("wait", "--for=condition=Ready", "--timeout=60s")


def _settings(bench: Bench) -> Config:
    """Of the cluster; a pod does not reach the stand-in, and nobody prompts."""
    loaded = configuration.load(engine=KUBERNETES)
    return replace(
        loaded, api_key=bench.config.api_key, base_url=None, clouds=(), proxies={}, network="open"
    )


def _kubectl(*words: str, described: str | None = None) -> str:
    done = subprocess.run(
        [PROGRAM, *words], input=described, capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode != 0:
        raise BenchmarkError(done.stderr.strip())
    return done.stdout


async def kubernetes(bench: Bench) -> Rows:
    """Creation, a command and the list; nothing without a cluster."""
    if shutil.which(PROGRAM) is None or "KUBECONFIG" not in os.environ:
        return []
    project = bench.directory / "empty"  # what a pod has to get is no matter of the cluster
    project.mkdir(exist_ok=True)
    config = _settings(bench)
    async with open_sessions(config) as sessions:
        rows = [
            *await _creation(bench, sessions, project),
            await _command(bench, sessions, project),
        ]
    return [*rows, await _list(bench, config)]


def _request(bench: Bench, project: Path) -> CreateRequest:
    return CreateRequest(project_path=str(project), session_name=bench.fresh_name())


async def _creation(bench: Bench, sessions: Sessions, project: Path) -> Rows:
    spec = (await plan_session(sessions, _request(bench, project))).spec

    async def by_hand(samples: Samples) -> None:
        name = bench.fresh_name()
        id = marks.new_id(name)
        # Whatever lists sessions must not see it.
        described = manifest.pod(replace(spec, name=name, labels={}), id, {})
        pod = f"pod/{marks.pod_name(id)}"
        try:
            with timed(samples, "create"):
                _kubectl("create", "--filename=-", described=json.dumps(described))
                _kubectl(*WAIT, pod)
        finally:
            with timed(samples, "destroy"):
                _kubectl("delete", "--ignore-not-found=true", pod)

    async def by_us(samples: Samples) -> None:
        with timed(samples, "create"):
            created = await create(sessions, _request(bench, project))
        with timed(samples, "destroy"):
            await sessions.destroy(created.session.id)

    bare, ours = await alternate(bench.repetitions(7), by_hand, by_us)
    return [
        Row(
            "Kubernetes: create_session", "create, wait", bare["create"], ours["create"],
            CREATE_RATIO,
        ),
        Row("Kubernetes: destroy_session", "delete", bare["destroy"], ours["destroy"]),
    ]  # fmt: skip


async def _command(bench: Bench, sessions: Sessions, project: Path) -> Row:
    created = await create(sessions, _request(bench, project))
    pod = marks.pod_name(created.session.container_id)
    handle = await sessions.open(created.session.id)

    async def by_hand(samples: Samples) -> None:
        with timed(samples, "exec"):
            _kubectl("exec", pod, "--", "true")

    async def by_us(samples: Samples) -> None:
        with timed(samples, "exec"):
            await commands.run(handle, "true")

    try:
        bare, ours = await alternate(bench.repetitions(15), by_hand, by_us)
    finally:
        await sessions.destroy(created.session.id)
    what = "Kubernetes: execute_command, channel open"
    return Row(what, "exec true", bare["exec"], ours["exec"], EXEC_RATIO)


async def _list(bench: Bench, config: Config) -> Calls:
    """The calls of a list, once the cluster was connected to."""
    program = shutil.which(PROGRAM)
    assert program is not None
    directory = bench.directory / "kubectl-shim"
    directory.mkdir(exist_ok=True)
    log, shim = directory / "log", directory / PROGRAM
    shim.write_text(SHIM.replace("@LOG@", str(log)).replace("@PROGRAM@", program))
    shim.chmod(0o755)
    path = f"{directory}{os.pathsep}{config.environment.get('PATH', os.defpath)}"
    watched = replace(config, environment={**config.environment, "PATH": path})
    async with open_sessions(watched) as sessions:
        await sessions.engine()
        log.unlink(missing_ok=True)
        await sessions.list(ask=False)
    verbs = tuple(call.split("\0")[0] for call in log.read_text().split("\0\0") if call)
    return Calls("Kubernetes: list_sessions", verbs, 1)
