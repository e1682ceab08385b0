"""Fixtures of the tests on real engines; CLAUDE_MCP_ENGINE chooses which engine."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path

import anyio
import pytest
from messages_standin import Standin

from claude_mcp.config import Config, load
from claude_mcp.config_names import SWITCHES
from claude_mcp.engine import detection
from claude_mcp.engine.docker_cli import DockerCliEngine
from claude_mcp.errors import EngineError
from claude_mcp.sessions import labels
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import Session

API_KEY = "sk-ant-api03-integration-0123456789"
RUN_SECONDS = 110

Run = Callable[..., subprocess.CompletedProcess[str]]


def required() -> bool:
    return bool(os.environ.get("CLAUDE_MCP_REQUIRE_ENGINES"))


@pytest.fixture(scope="session")
def engine() -> DockerCliEngine:
    """The engine under test; its absence is a skip on a laptop and a failure in CI."""
    config = load({**os.environ, "CLAUDE_MCP_CONFIG": os.devnull})

    async def connect() -> DockerCliEngine:
        found = await detection.connect(config.engine, config.environment)
        assert isinstance(found, DockerCliEngine)
        if not await found.image_exists(config.image):
            raise EngineError(f"{found.title} has no image {config.image}.")
        return found

    try:
        return anyio.run(connect)
    except EngineError as error:
        if required():
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def standin() -> Iterator[Standin]:
    """The Messages API, where containers reach it."""
    with Standin(host="0.0.0.0") as running:
        yield running


def environment_with(standin: Standin) -> dict[str, str]:
    return {
        **os.environ,
        **dict.fromkeys(SWITCHES.values(), ""),
        "CLAUDE_MCP_CONFIG": os.devnull,
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{standin.port}",
        "ANTHROPIC_API_KEY": API_KEY,
    }


@pytest.fixture
def environ(standin: Standin) -> dict[str, str]:
    """The environment of a server that uses the stand-in."""
    return environment_with(standin)


@pytest.fixture
def committer(environ: dict[str, str], tmp_path: Path) -> None:
    """A host whose user has told git who commits, whoever runs these tests."""
    (tmp_path / "gitconfig").write_text("[user]\n\tname = Some Body\n\temail = some@body\n")
    for name in [name for name in environ if name.startswith("GIT_")]:
        del environ[name]
    environ["GIT_CONFIG_GLOBAL"] = str(tmp_path / "gitconfig")
    environ["GIT_CONFIG_NOSYSTEM"] = "1"


@pytest.fixture
def cli_argv(engine: DockerCliEngine) -> list[str]:
    """The command line on this engine."""
    return [sys.executable, "-m", "claude_mcp", f"--engine={engine.program}"]


@pytest.fixture
def cli(cli_argv: list[str], environ: dict[str, str]) -> Run:
    """Runs one command of the command line to its end, without a terminal."""
    return runner(cli_argv, environ)


def runner(argv: Sequence[str], environ: Mapping[str, str]) -> Run:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*argv, *words],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS,
        )

    return run


@pytest.fixture
def config(engine: DockerCliEngine, environ: dict[str, str]) -> Config:
    return load(environ, engine=engine.program)


@pytest.fixture
async def sessions(config: Config) -> AsyncIterator[Sessions]:
    async with open_sessions(config) as opened:
        yield opened


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    return path


@pytest.fixture
def name(bare: Bare) -> Iterator[str]:
    """A session name of this test alone; what it left behind fails the test and is removed."""
    unique = f"it-{secrets.token_hex(4)}"
    yield unique
    bare.remove_all(unique)


@pytest.fixture
async def session(sessions: Sessions, project: Path, name: str) -> AsyncIterator[Session]:
    created = await create(sessions, CreateRequest(str(project), session_name=name))
    yield created.session
    await sessions.destroy(created.session.id, discard=True)


@pytest.fixture(scope="session")
async def shared(
    engine: DockerCliEngine, standin: Standin, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Session]:
    """A session for all tests that leave nothing behind in it that another would notice."""
    async with open_sessions(load(environment_with(standin), engine=engine.program)) as sessions:
        created = await create(sessions, CreateRequest(str(tmp_path_factory.mktemp("shared"))))
        yield created.session
        await sessions.destroy(created.session.id, discard=True)


class Bare:
    """The engine's bare command line, to look at what ours really did."""

    def __init__(self, engine: DockerCliEngine) -> None:
        self._engine = engine

    def __call__(self, *args: str, check: bool = True) -> str:
        done = subprocess.run(
            [self._engine.program, *args],
            env=dict(self._engine.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def feed(self, *args: str, data: bytes) -> None:
        """Run a command with this stdin."""
        subprocess.run(
            [self._engine.program, *args],
            env=dict(self._engine.environment),
            input=data,
            capture_output=True,
            timeout=120,
            check=True,
        )

    def popen(self, *args: str) -> subprocess.Popen[str]:
        """Of something that is talked with; its stderr is this process's own."""
        return subprocess.Popen(
            [self._engine.program, *args],
            env=dict(self._engine.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def containers(self, name: str) -> list[str]:
        """Ids of the containers, in any state, that belong to a session name."""
        return self("ps", "-aq", "--no-trunc", f"--filter=label={labels.NAME}={name}").split()

    def remove_all(self, name: str) -> None:
        for container in self.containers(name):
            self("rm", "--force", "--volumes", container)

    def processes(self, container: str) -> str:
        """Command lines of everything that runs in a container."""
        return self(
            "exec", container, "sh", "-c",
            "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null; echo; done",
        )  # fmt: skip


@pytest.fixture
def bare(engine: DockerCliEngine) -> Bare:
    return Bare(engine)


@pytest.fixture
def as_root() -> bool:
    return os.geteuid() == 0


@pytest.fixture
def give_to(as_root: bool) -> Callable[[Path, int], None]:
    """Give a tree to another user, which only root can."""

    def give(path: Path, uid: int) -> None:
        assert as_root
        for each in [path, *path.rglob("*")]:
            shutil.chown(each, uid, uid)

    return give


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "docker: concerns Docker's daemon; not run on Podman")
    config.addinivalue_line("markers", "podman: concerns Podman's configuration; not run on Docker")
    config.addinivalue_line(
        "markers",
        "near(reason): cannot apply to an engine that has other files; not run by "
        "scripts/far_suite.py",
    )
    config.addinivalue_line(
        "markers",
        "cgroups: pauses, limits or measures containers, which rootless engines cannot do with "
        "cgroups v1",
    )
    config.addinivalue_line("markers", "stress: takes long; run with CLAUDE_MCP_STRESS=1")
    config.addinivalue_line(
        "markers",
        "once: tests Claude Code, the agent, the proxy or a front end alone, which are the same "
        "on each engine; on Podman it is run with CLAUDE_MCP_STRESS=1",
    )
    config.addinivalue_line(
        "markers",
        "per_engine: differs between Docker and Podman, but not between Podman's users; where "
        "Podman is tested as root too, it is run rootless with CLAUDE_MCP_STRESS=1 only",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = {"podman"}
    if os.environ.get("CLAUDE_MCP_ENGINE", "docker") != "docker":
        left_out = {"docker", "once"}
    if os.geteuid() and not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        left_out.add("cgroups")
    if os.environ.get("CLAUDE_MCP_AS_ROOT_TOO"):
        left_out.add("per_engine")
    if os.environ.get("CLAUDE_MCP_TEST_FAR"):
        left_out.add("near")
    if os.environ.get("CLAUDE_MCP_STRESS"):
        left_out -= {"once", "per_engine"}
    else:
        left_out.add("stress")
    others = [item for item in items if any(item.get_closest_marker(each) for each in left_out)]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]
    for item in items:
        # One of pytest's processes runs all tests of that world, so that it is made once.
        if "world" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("world"))
