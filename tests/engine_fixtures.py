"""Fixtures of the tests on real engines; CLAUDE_MCP_ENGINE chooses which engine."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path

import anyio
import pytest
from messages_standin import Standin

from claude_mcp.config import Config, load
from claude_mcp.config_names import SWITCHES
from claude_mcp.engine import detection
from claude_mcp.engine.docker_cli import DockerCliEngine
from claude_mcp.engine.engine import Engine
from claude_mcp.engine.kubernetes import marks
from claude_mcp.engine.kubernetes.argv import KEPT
from claude_mcp.engine.kubernetes.kubectl import KubectlEngine
from claude_mcp.errors import EngineError
from claude_mcp.sessions import labels
from claude_mcp.sessions.create.request import Created, CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.turns import commands
from tests.cluster import GATEWAY, Cluster

API_KEY = "sk-ant-api03-integration-0123456789"
RUN_SECONDS = 110
LOG_SECONDS = 60

Run = Callable[..., subprocess.CompletedProcess[str]]


def required() -> bool:
    return bool(os.environ.get("CLAUDE_MCP_REQUIRE_ENGINES"))


ON_KUBERNETES = os.environ.get("CLAUDE_MCP_ENGINE") == "kubernetes"
FAR = bool(os.environ.get("CLAUDE_MCP_TEST_FAR"))
"""Whether ``scripts/far_suite.py`` runs the tests, on an engine that has other files."""
LIFETIME_SECONDS = 20 if FAR else 4
"""Longer than a creation takes; a session that began too late stays for another minute."""
EXPIRED_SECONDS = 100.0
"""Within this it has ended also then."""


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The engine under test; its absence is a skip on a laptop and a failure in CI."""
    config = load({**os.environ, "CLAUDE_MCP_CONFIG": os.devnull})

    async def connect() -> Engine:
        found = await detection.connect(config.engine, config.environment, config.login)
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
    # A pod's node may be any machine, so it gets no name for ours; of the test cluster we know one.
    host = GATEWAY if ON_KUBERNETES else "127.0.0.1"
    return {
        **os.environ,
        **dict.fromkeys(SWITCHES.values(), ""),
        "CLAUDE_MCP_CONFIG": os.devnull,
        "ANTHROPIC_BASE_URL": f"http://{host}:{standin.port}",
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
def cli_argv(engine: Engine) -> list[str]:
    """The command line on this engine."""
    return [sys.executable, "-m", "claude_mcp", f"--engine={engine.dialect.name}"]


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
def config(engine: Engine, environ: dict[str, str]) -> Config:
    return load(environ, engine=engine.dialect.name)


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
    """A session name of this test alone; what it left behind is removed."""
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
    engine: Engine, standin: Standin, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Session]:
    """A session for all tests that leave nothing behind in it that another would notice."""
    async with open_sessions(
        load(environment_with(standin), engine=engine.dialect.name)
    ) as sessions:
        created = await create(sessions, CreateRequest(str(tmp_path_factory.mktemp("shared"))))
        yield created.session
        await sessions.destroy(created.session.id, discard=True)


async def log_with(sessions: Sessions, reference: str, *texts: str) -> list[str]:
    """A session's log once each of these is in a line of it.

    An engine has a line a moment after it was written.
    """
    lines: list[str] = []
    with anyio.move_on_after(LOG_SECONDS):
        while True:
            _, lines = await commands.logs(await sessions.open(reference))
            if all(any(text in line for line in lines) for text in texts):
                return lines
            await anyio.sleep(0.05)
    pytest.fail(f"{texts} is not in {lines}")


def own_warnings(created: Created) -> list[str]:
    """Its warnings, but for the one that a session on an engine elsewhere has a copy."""
    return [each for each in created.warnings if "cannot mount the project" not in each]


class Bare:
    """The engine's bare command line, to look at what ours really did.

    Calls have the words of Docker and Podman; the methods with a name work on Kubernetes too.
    """

    def __init__(self, engine: DockerCliEngine | KubectlEngine) -> None:
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
        """One that ends by itself, or that another removes, may be gone before its turn."""
        end = time.monotonic() + RUN_SECONDS
        while containers := self.containers(name):
            for container in containers:
                try:
                    self.remove(container)
                except AssertionError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.1)

    def remove(self, container: str) -> None:
        self("rm", "--force", "--volumes", container)

    def pause(self, container: str) -> None:
        while "true" not in self("inspect", "--format={{.State.Paused}}", container):
            self("pause", container, check=False)  # runc fails now and then: "unable to freeze"

    def restart(self, container: str) -> None:
        """End everything in a container at once, and start it again."""
        self("restart", "--time=0", container)

    def exec(self, container: str, *command: str) -> str:
        return self("exec", container, *command)

    def processes(self, container: str) -> str:
        """Command lines of everything that runs in a container."""
        return self.exec(
            container, "sh", "-c",
            "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null; echo; done",
        )  # fmt: skip


class BarePods(Bare):
    """The same of a cluster's pods, with the words of ``kubectl`` and the rights of the user."""

    def containers(self, name: str) -> list[str]:
        selector = f"--selector={labels.NAME}={marks.label_value(name)}"
        form = f"jsonpath={{range .items[*]}}{{.metadata.labels.{dotted(marks.ID)}}}{{' '}}{{end}}"
        return sorted({*self("get", KEPT, selector, f"--output={form}").split()})

    def remove(self, container: str) -> None:
        """Return when its node has ended it, which a deletion by force does not wait for."""
        self("delete", KEPT, f"--selector={marks.ID}={container}", "--grace-period=1")

    def restart(self, container: str) -> None:
        before = self.restarts(container)
        self("exec", marks.pod_name(container), "--", "sh", "-c", "kill -KILL -1", check=False)
        end = time.monotonic() + RUN_SECONDS
        while self.restarts(container) in ("", before):
            assert time.monotonic() < end, "the pod's container was not started again"
            time.sleep(0.2)

    def restarts(self, container: str) -> str:
        """How often it was started again, once it runs."""
        form = "jsonpath={.status.containerStatuses[?(@.state.running)].restartCount}"
        return self("get", "pod", marks.pod_name(container), f"--output={form}")

    def exec(self, container: str, *command: str) -> str:
        return self("exec", marks.pod_name(container), "--", *command)


def dotted(label: str) -> str:
    """A label's name in a path of JSON, where a dot has a meaning."""
    return label.replace(".", r"\.")


@pytest.fixture
def bare(engine: Engine) -> Bare:
    if isinstance(engine, KubectlEngine):
        return BarePods(engine)
    assert isinstance(engine, DockerCliEngine)
    return Bare(engine)


@pytest.fixture(scope="session")
def cluster(engine: Engine) -> Cluster:
    assert isinstance(engine, KubectlEngine)
    return Cluster(engine.environment)


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
    config.addinivalue_line("markers", "cluster: what Kubernetes promises too; also run there")
    config.addinivalue_line("markers", "kubernetes: concerns a cluster; only run on Kubernetes")
    config.addinivalue_line(
        "markers",
        "local: of a module that Kubernetes runs too, but needs an engine on this machine",
    )
    config.addinivalue_line("markers", "outage: stops a part of the cluster; run alone on it")
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


def _is_marked(item: pytest.Item, marker: str) -> bool:
    """A test that is itself marked for a cluster is run there, whatever its module says."""
    own = {each.name for each in item.own_markers}
    if ON_KUBERNETES and "cluster" in own and marker not in own:
        return False
    return item.get_closest_marker(marker) is not None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = {"podman", "kubernetes"}
    if ON_KUBERNETES:
        left_out = {"podman", "docker", "once", "local", "near", "cgroups"}
        known = ("cluster", "kubernetes")
        items_elsewhere = [
            item for item in items if not any(item.get_closest_marker(each) for each in known)
        ]
        config.hook.pytest_deselected(items=items_elsewhere)
        items[:] = [item for item in items if item not in items_elsewhere]
    elif os.environ.get("CLAUDE_MCP_ENGINE", "docker") != "docker":
        left_out = {"docker", "once", "kubernetes"}
    rootless = os.geteuid() or os.environ.get("CLAUDE_MCP_TEST_ROOTLESS")
    if rootless and not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        left_out.add("cgroups")
    if os.environ.get("CLAUDE_MCP_AS_ROOT_TOO"):
        left_out.add("per_engine")
    if FAR:
        left_out.add("near")
    if os.environ.get("CLAUDE_MCP_STRESS"):
        left_out -= {"once", "per_engine"}
    else:
        left_out.add("stress")
    others = [item for item in items if any(_is_marked(item, each) for each in left_out)]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]
    for item in items:
        # One of pytest's processes runs all tests of that world, so that it is made once.
        if "world" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("world"))
