"""From a bundle to a finished prompt, with nothing but a loopback and an empty store of images."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

import pytest
from bundling import make

from claude_mcp.engine.docker_cli import DockerCliEngine
from tests.bundles import PYTHON, repack, unpack
from tests.own_daemon import OwnDaemon
from tests.own_network import PATH, OwnNetwork
from tests.peers import script

pytestmark = [
    pytest.mark.stress,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a network of its own"),
    pytest.mark.timeout(1800),
]

TEST_USER: Final = "claude-mcp-test"
SECONDS: Final = 900
RECORDED: Final = "claude-mcp-recorded:test"
LAYERS: Final = "--format={{range .RootFS.Layers}}{{.}} {{end}}"


@pytest.fixture(scope="module")
def bundle(engine: DockerCliEngine) -> Iterator[Path]:
    """The bundle of this checkout and the session image, where any user can read it."""
    directory = Path(tempfile.mkdtemp(prefix="claude-mcp-bundle-test-"))
    directory.chmod(0o755)
    pythons = {f"--python={each}" for each in (PYTHON, "3.11")}
    done = subprocess.run(
        [sys.executable, "-m", "bundling.make", f"--engine={os.path.basename(engine.program)}",
         f"--output={directory / 'bundle.tar'}", f"--scratch={directory}", *pythons],
        env={**os.environ, "PYTHONPATH": str(make.CHECKOUT / "scripts")},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    yield directory / "bundle.tar"
    shutil.rmtree(directory)


class Isolated(Protocol):
    def inside(
        self, *argv: str, env: dict[str, str], stdin: int, stdout: int, stderr: int
    ) -> subprocess.Popen[bytes]: ...

    def standin(self) -> int: ...


class Elsewhere:
    """The machine without a network, its user, and where things lie there."""

    def __init__(
        self, machine: Isolated, engine: str, environment: dict[str, str], uid: int
    ) -> None:
        self._machine = machine
        self.engine = engine
        self._environment = environment
        self.uid = uid
        self.directory = Path(tempfile.mkdtemp(prefix="claude-mcp-elsewhere-"))
        os.chown(self.directory, uid, pwd.getpwuid(uid).pw_gid)
        self.installed = self.directory / "installed"
        self.program = str(self.installed / "bin" / "claude-mcp")

    def run(self, *argv: str, **environment: str) -> tuple[int, str]:
        """The exit code, and all that was printed."""
        process = self._machine.inside(
            *argv,
            env={**self._environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        printed, _ = process.communicate(timeout=SECONDS)
        return process.returncode, printed.decode()

    def done(self, *argv: str, **environment: str) -> str:
        code, printed = self.run(*argv, **environment)
        assert code == 0, printed
        return printed

    def install(self, bundle: Path, *options: str) -> tuple[int, str]:
        target = f"--directory={self.directory / 'installed'}"
        return self.run(
            "sh", str(bundle / "install.sh"), f"--engine={self.engine}", target, *options
        )

    def claude_mcp(self, *words: str) -> str:
        port = self.port
        return self.done(
            self.program, f"--engine={self.engine}", *words,
            ANTHROPIC_BASE_URL=f"http://127.0.0.1:{port}", ANTHROPIC_API_KEY="sk-ant-standin",
        )  # fmt: skip

    def serve_messages(self) -> None:
        self.port = self._machine.standin()


@pytest.fixture(params=["root", "rootless"])
def elsewhere(engine: DockerCliEngine, request: pytest.FixtureRequest) -> Iterator[Elsewhere]:
    name = os.path.basename(engine.program)
    user = None if request.param == "root" else TEST_USER
    if name == "docker":
        if user is not None:
            pytest.skip("Docker without root has a leg of its own")
        daemon = OwnDaemon(None)
        daemon.start()
        environment = {"PATH": PATH, "HOME": "/nonexistent", "DOCKER_HOST": daemon.host}
        machine: OwnDaemon | OwnNetwork = daemon
        found = Elsewhere(daemon, name, environment, 0)
    else:
        if user is not None and user not in {each.pw_name for each in pwd.getpwall()}:
            pytest.skip("there is no user for it: scripts/start-engines makes one")
        machine = network = OwnNetwork(user)
        found = Elsewhere(network, name, {}, pwd.getpwnam(user).pw_uid if user else 0)
    try:
        yield found
    finally:
        machine.end()
        shutil.rmtree(found.directory, ignore_errors=True)


def test_a_bundle_is_all_that_a_machine_without_a_network_needs(
    bundle: Path, elsewhere: Elsewhere
) -> None:
    assert "default" not in elsewhere.done("ip", "route")
    assert elsewhere.done(elsewhere.engine, "images", "--quiet").split() == []
    elsewhere.done("tar", "-xf", str(bundle), "-C", str(elsewhere.directory))
    (here,) = elsewhere.directory.glob("claude-mcp-*")
    code, said = elsewhere.install(here)
    assert code == 0, said
    elsewhere.serve_messages()
    project = elsewhere.directory / "project"
    project.mkdir()
    os.chown(project, elsewhere.uid, elsewhere.uid)
    asked = script(
        {"tool": "Bash", "input": {"command": "touch /workspace/made"}}, {"say": "Done."}
    )
    assert "Done." in elsewhere.claude_mcp("run", str(project), asked)
    assert (project / "made").stat().st_uid == elsewhere.uid

    elsewhere.claude_mcp("create", str(project), "--name", "stays")
    try:
        _second_run_and_damage(elsewhere, here)
        _update(elsewhere, bundle, here)
        elsewhere.claude_mcp("exec", "stays", "test -e /workspace/made")
        assert "Still." in elsewhere.claude_mcp("prompt", "stays", script({"say": "Still."}))
        code, said = elsewhere.install(here, "--uninstall")
        assert (code, "Sessions exist" in said) == (1, True), said
    finally:
        elsewhere.claude_mcp("destroy", "stays")
    code, said = elsewhere.install(here, "--uninstall")
    assert code == 0, said
    assert not elsewhere.installed.exists()
    assert elsewhere.done(elsewhere.engine, "images", "--quiet").split() == []


def _second_run_and_damage(elsewhere: Elsewhere, here: Path) -> None:
    code, said = elsewhere.install(here)
    assert (code, "nothing was changed" in said) == (0, True), said
    (image,) = (here / "images").iterdir()
    with image.open("r+b") as file:
        file.seek(1_000_000)
        byte = file.read(1)
        for value in (bytes([byte[0] ^ 1]), byte):
            file.seek(1_000_000)
            file.write(value)
            file.flush()
            if value != byte:
                code, said = elsewhere.install(here)
                assert (code, f"images/{image.name} is damaged" in said) == (1, True), said


def _update(elsewhere: Elsewhere, bundle: Path, here: Path) -> None:
    """Another bundle, which differs in its licence alone."""
    before = json.loads(
        (elsewhere.directory / "installed" / "current" / "installed.json").read_text()
    )
    directory = unpack(bundle, bundle.parent / f"newer-{elsewhere.engine}-{elsewhere.uid}")
    (directory / "LICENSE").write_text("another\n")
    archive = repack(directory, bundle.parent / f"newer-{elsewhere.engine}-{elsewhere.uid}.tar")
    code, said = elsewhere.install(here, str(archive))
    assert (code, "Sessions run on." in said) == (0, True), said
    after = json.loads(
        (elsewhere.directory / "installed" / "current" / "installed.json").read_text()
    )
    assert after["manifest"] != before["manifest"]
    assert after["images"] == before["images"]


def test_the_image_is_built_from_what_a_build_recorded(
    engine: DockerCliEngine, elsewhere: Elsewhere
) -> None:
    sources = elsewhere.directory / "sources"
    _record(engine, sources)
    built = []
    for tag in ("claude-mcp-repeated:1", "claude-mcp-repeated:2"):
        options = [f"--engine={elsewhere.engine}", f"--tag={tag}"]
        elsewhere.done("python3", str(sources / "build.pyz"), *options)
        version = ["run", "--rm", "--network=none", tag, "claude", "--version"]
        assert "Claude Code" in elsewhere.done(elsewhere.engine, *version)
        built.append(elsewhere.done(elsewhere.engine, "image", "inspect", LAYERS, tag).split())
    assert len(built[0]) == len(built[1])
    # Docker gives some directories, and the marks of removed files, the present time.
    assert elsewhere.engine == "docker" or built[0] == built[1]


def _record(engine: DockerCliEngine, sources: Path) -> None:
    """With the engine that has the base image: it need not be the one that is tested."""
    said = []
    for builder in dict.fromkeys([os.path.basename(engine.program), "docker"]):
        try:
            done = subprocess.run(
                ["scripts/build-offline", "--record", f"--engine={builder}", f"--tag={RECORDED}",
                 str(sources)],
                cwd=make.CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=SECONDS, check=False,
            )  # fmt: skip
        finally:
            subprocess.run(
                [builder, "image", "rm", "--force", RECORDED], capture_output=True, check=False
            )
        if done.returncode == 0:
            return
        said.append(done.stderr)
        shutil.rmtree(sources, ignore_errors=True)
    pytest.fail("\n".join(said))
