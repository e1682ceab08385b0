"""What a session is called when nobody gave it a name, and why one did not come to be."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from claude_mcp.engine.spec import ContainerSpec
from claude_mcp.errors import EngineError, ImageUnfit
from claude_mcp.sessions.create import start
from claude_mcp.sessions.create.plan import default_name
from claude_mcp.sessions.create.start import _expect
from claude_mcp.sessions.session import check_name, container_name
from tests.unit.sessions.conftest import ScriptedEngine


@pytest.mark.parametrize(
    ("project", "slug"),
    [
        ("/home/me/fix-tests", "fix-tests"),
        ("/home/me/my project", "my-project"),
        ("/home/me/.dotfiles", "dotfiles"),
        ("/home/me/--privileged", "privileged"),
        ("/home/me/two\nlines", "two-lines"),
        ("/home/me/日本語", "session"),
        ("/home/me/" + "x" * 200, "x" * 40),
        ("/home/me/not \udcff text", "not-text"),
    ],
)
def test_a_default_name_says_the_project_and_is_its_own_container_name(
    project: str, slug: str
) -> None:
    names = {default_name(project) for _ in range(10)}
    assert len(names) > 1
    for name in names:
        assert re.fullmatch(re.escape(slug) + "-[0-9a-f]{4}", name)
        assert container_name(check_name(name)) == f"claude-mcp-{name}"


class Silent:
    """A client that ended without a word, as Podman's does when it attaches too late."""

    stderr_tail = ""

    async def lines(self) -> AsyncIterator[str]:
        lines: tuple[str, ...] = ()
        for line in lines:
            yield line

    async def wait(self) -> int:
        return 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("log", "error", "said"),
    [
        (
            "ERROR (catatonit:6): failed to exec pid1: No such file or directory",
            ImageUnfit,
            "it has no python3 on PATH",
        ),
        (
            "2026-11-26T03:06:33.1Z ERROR (catatonit:7):\n"
            "2026-11-26T03:06:33.2+01:00 failed to exec pid1:\n"
            "2026-11-26T03:06:33.3Z No such file or directory\n2026-11-26T03:06:33.4Z",
            ImageUnfit,
            "it has no python3 on PATH",
        ),
        ("", EngineError, "Docker could not start session container one: it gave no reason."),
    ],
)
async def test_why_a_container_did_not_start_is_in_its_log_where_the_client_is_silent(
    scripted: ScriptedEngine,
    monkeypatch: pytest.MonkeyPatch,
    log: str,
    error: type[EngineError],
    said: str,
) -> None:
    # An empty log is read until the time is over; another one twice, however long that takes.
    monkeypatch.setattr(start, "LOG_SECONDS", 60.0 if log else 0.1)
    monkeypatch.setattr(start, "LOG_POLL_SECONDS", 0.01)
    scripted.on("logs", f"import sys; sys.stderr.write({log!r})")
    stream: Any = Silent()
    spec = ContainerSpec(name="one", image="image:1", command=())
    with pytest.raises(error, match=said):
        await _expect(scripted.engine, "ab12", spec, stream, "ready ")
