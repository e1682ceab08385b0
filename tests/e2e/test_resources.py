"""Resources behind a real client: a transcript, a log, and word of what happens next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.server.subscriptions import ResourceUpdated

from tests.peers import script

pytestmark = pytest.mark.once

Call = Callable[..., Any]
PATIENCE_SECONDS = 60


async def test_a_transcript_is_attached_and_listened_to(
    start: Call, project: Path, name: str
) -> None:
    async with start() as call:
        await call("create_session", projectPath=str(project), sessionName=name)
        listed = (await call.client.list_resources()).resources
        uri = next(str(each.uri) for each in listed if each.name == f"{name}/transcript")
        with anyio.fail_after(PATIENCE_SECONDS):
            async with call.client.listen(resource_subscriptions=[uri]) as stream:
                bash = {"tool": "Bash", "input": {"command": "echo hello"}}
                prompt = script(bash, {"say": "all done"})
                done = await call("execute_in_session", sessionId=name, prompt=prompt)
                assert await anext(stream) == ResourceUpdated(uri=uri)
                [contents] = (await call.client.read_resource(uri)).contents
                turns = await call("list_turns", sessionId=name)
                await call("destroy_session", sessionId=name)
                assert await anext(stream) == ResourceUpdated(uri=uri)
    assert f"## Turn {done['turnId']}, " in contents.text
    assert f"> {prompt}\n" in contents.text
    assert "- tool_call: Bash: echo hello" in contents.text
    assert "### Answer\n\n> all done\n" in contents.text
    [turn] = turns["turns"]
    assert (turn["turnId"], turn["status"]) == (done["turnId"], "completed")
    assert turn["prompt"].startswith("standin: ")
