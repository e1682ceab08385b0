"""Engines elsewhere as tables of one configuration file: over TLS, over ssh, another user's."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import anyio.to_thread
import pytest

from claude_mcp.config import Config, load
from claude_mcp.errors import SessionAmbiguous
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.files.transfer import Direction, transfer
from claude_mcp.sessions.fleet import open_fleet
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.turns import commands
from tests.far_engines import over_ssh, over_tls, podman_service

USER = os.environ.get("TEST_USER", "claude-mcp-test")
MEMBERS = ("tls-box", "ssh-box", "of-a-user")

pytestmark = [pytest.mark.docker, pytest.mark.stress]


def has_user() -> bool:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return False
    return os.geteuid() == 0 and shutil.which("podman") is not None


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """One that each user may enter."""
    for each in (tmp_path, *tmp_path.parents):
        if each.is_relative_to("/tmp") and each != Path("/tmp"):
            each.chmod(each.stat().st_mode | 0o011)
    made = tmp_path / "far"
    made.mkdir(mode=0o755)
    return made


@pytest.fixture
async def fleet(
    config: Config, environ: dict[str, str], directory: Path, project: Path
) -> AsyncIterator[Sessions]:
    with ExitStack() as stack:

        def enter() -> dict[str, str]:
            tls = stack.enter_context(over_tls(config.image, directory, project))
            ssh = stack.enter_context(over_ssh(directory, {}))
            service = directory / "service"
            service.mkdir()
            shutil.chown(service, USER)
            stack.enter_context(podman_service(service / "podman.sock", USER))
            file = directory / "config.toml"
            file.write_text(
                f'[engines.tls-box]\nprogram = "docker"\nhost = "{tls.host}"\n'
                f'tls = "{tls.settings["CLAUDE_MCP_ENGINE_TLS"]}"\n'
                f'[engines.ssh-box]\nprogram = "docker"\nhost = "{ssh.host}"\n'
                f'ssh_key = "{ssh.settings["CLAUDE_MCP_ENGINE_SSH_KEY"]}"\n'
                f'[engines.of-a-user]\nprogram = "podman"\nhost = "unix://{service}/podman.sock"\n'
            )
            file.chmod(0o600)
            known = {name: ssh.settings[name] for name in ("PATH", "HOME")}
            return {**environ, **known, "CLAUDE_MCP_CONFIG": str(file), "CLAUDE_MCP_ENGINE": ""}

        try:
            settings = await anyio.to_thread.run_sync(enter)
            async with open_fleet(load(settings)) as opened:
                yield opened
        finally:
            await anyio.to_thread.run_sync(stack.close)


@pytest.mark.skipif(not has_user(), reason="needs root, Podman and an ordinary user with an image")
async def test_engines_elsewhere_are_used_together(
    fleet: Sessions, project: Path, name: str, tmp_path: Path
) -> None:
    (project / "a").write_text("one\n")
    dialects = [(await each.engine()).dialect for each in fleet.members]
    assert [each.over_network for each in dialects] == [True, True, False]
    assert [each.rootless for each in dialects] == [False, False, True]
    try:
        for member in MEMBERS:
            request = CreateRequest(
                str(project), session_name=name, engine=member, workspace="copy"
            )
            assert (await create(fleet, request)).engine == member
        answers = await fleet.survey()
        found = {each.engine for each in answers.found if each.session.name == name}
        assert (found, answers.unreachable) == ({*MEMBERS}, ())
        with pytest.raises(SessionAmbiguous) as caught:
            await fleet.open(name)
        for member in MEMBERS:
            assert f"{member}/{name} (" in caught.value.message
            handle = await fleet.open(f"{member}/{name}")
            assert (await commands.run(handle, f"cat a; echo {member} >a")).stdout == "one\n"
            out = tmp_path / member
            await transfer(handle, Direction.FROM_CONTAINER, "/workspace/a", str(out))
            assert out.read_text() == f"{member}\n"
    finally:
        outcomes = await fleet.destroy_each([f"{each}/{name}" for each in MEMBERS], discard=True)
    assert not [each for each in outcomes if isinstance(each, Exception)]
