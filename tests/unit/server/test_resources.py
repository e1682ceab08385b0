"""Resources: listed in pages, read within bounds, and word of changes for those who listen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.server.subscriptions import ResourceUpdated

from claude_mcp.config import Config
from claude_mcp.server import resources
from claude_mcp.server.app import build
from tests.unit.wire import TURN

pytestmark = pytest.mark.anyio


def uri(session: str, kind: str) -> str:
    return f"claude-session://{session}/{kind}"


async def read(client: Client, session: str, kind: str) -> str:
    found = await client.read_resource(uri(session, kind))
    [contents] = found.contents
    return str(contents.text)  # type: ignore[union-attr]


async def prompt(client: Client, session: str, text: str, **more: Any) -> None:
    await client.call_tool("execute_in_session", {"sessionId": session, "prompt": text, **more})


@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_each_session_has_a_transcript_and_a_log(
    config: Config, session: str, era: Any
) -> None:
    async with Client(build(config), mode=era) as client:
        listed = (await client.list_resources()).resources
        assert [(each.name, str(each.uri), each.mime_type) for each in listed] == [
            ("fix-tests/transcript", uri(session, "transcript"), "text/markdown"),
            ("fix-tests/log", uri(session, "log"), "text/plain"),
        ]
        templates = (await client.list_resource_templates()).resource_templates
        assert [each.uri_template for each in templates] == [
            uri("{session}", kind) for kind in ("transcript", "changes", "log")
        ]


async def test_the_list_comes_in_pages(
    config: Config, session: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(resources, "PAGE_SESSIONS", 1)
    other = tmp_path / "other"
    other.mkdir()
    async with Client(build(config)) as client:
        await client.call_tool(
            "create_session", {"projectPath": str(other), "sessionName": "other"}
        )
        first = await client.list_resources()
        assert first.next_cursor is not None
        rest = await client.list_resources(cursor=first.next_cursor)
        names = [each.name for each in (*first.resources, *rest.resources)]
        assert sorted(names) == [
            "fix-tests/log", "fix-tests/transcript", "other/log", "other/transcript"
        ]  # fmt: skip
        assert rest.next_cursor is None
        with pytest.raises(MCPError, match="list again"):
            await client.list_resources(cursor="gone")


async def test_a_transcript_tells_the_turns(config: Config, session: str) -> None:
    async with Client(build(config)) as client:
        assert await read(client, session, "transcript") == (
            f"# Session fix-tests ({session})\n\nThere was no turn yet.\n"
        )
        await prompt(client, session, "note", turnId=TURN)
        told = await read(client, "fix-tests", "transcript")
    assert told.startswith(
        f"# Session fix-tests ({session})\n\n## Turn {TURN}, 2026-01-02T03:04:05Z\n"
    )
    assert "\n### Prompt\n\n> do it\n" in told
    assert '> {"prompt": "note"' in told
    assert "Note: Claude Code was restarted: it was idle." in told


async def test_a_log_is_read(config: Config, session: str) -> None:
    async with Client(build(config)) as client:
        logs = await client.call_tool("get_session_logs", {"sessionId": session})
        assert logs.structured_content is not None
        expected = "\n".join(logs.structured_content["lines"])
        assert await read(client, session, "log") == expected


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("claude-session://nosuch/transcript", "nosuch"),
        ("claude-session://fix-tests/secrets", "There is no resource"),
        ("file:///etc/passwd", "There is no resource"),
    ],
)
async def test_what_does_not_exist_is_an_error(
    config: Config, session: str, asked: str, message: str
) -> None:
    async with Client(build(config)) as client:
        with pytest.raises(MCPError, match=message):
            await client.read_resource(asked)


async def test_who_listens_hears_of_each_change(
    config: Config, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "PAUSE_SECONDS", 0.01)
    watched = uri(session, "transcript")
    async with Client(build(config)) as client:
        with anyio.fail_after(60):
            async with client.listen(resource_subscriptions=[watched]) as stream:
                await prompt(client, session, "one")
                assert await anext(aiter(stream)) == ResourceUpdated(uri=watched)
                await prompt(client, session, "two")
                assert await anext(aiter(stream)) == ResourceUpdated(uri=watched)


async def test_a_stream_watches_a_limited_number_of_sessions(
    config: Config, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "MAX_WATCHED", 1)
    async with Client(build(config)) as client:
        wanted = [uri(session, "log"), uri("other", "log")]
        with pytest.raises(MCPError, match="at most 1 sessions"):
            async with client.listen(resource_subscriptions=wanted):
                pass


async def test_a_session_that_does_not_exist_cannot_be_listened_to(
    config: Config, session: str
) -> None:
    async with Client(build(config)) as client:
        with pytest.raises(MCPError, match="nosuch"):
            async with client.listen(resource_subscriptions=[uri("nosuch", "log")]):
                pass
