"""A session that a front end has opened: when its reference is resolved again, and when not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from claude_mcp.errors import AgentError, SessionNotFound, SessionNotReady
from claude_mcp.sessions.channel import channels as channel_set
from claude_mcp.sessions.registry import Sessions
from tests.unit.sessions.conftest import PRELUDE, container

if TYPE_CHECKING:
    from tests.unit.sessions.conftest import ScriptedEngine

pytestmark = pytest.mark.anyio

ECHO = "for line in sys.stdin:\n    one = json.loads(line); answer(one['id'], ok=one)\n"
OLD, NEW = f"{'abcd1':0<12}", f"{'abcd2':0<12}"


async def test_a_handle_is_resolved_once_for_any_number_of_requests(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(container("abcd1", "fix"))
    scripted.agent(ECHO)
    handle = await sessions.open("fix")
    for _ in range(3):
        await handle.request("command", {})
    assert scripted.calls == ["version", "container", "exec"]


async def test_opening_a_session_that_is_in_use_makes_no_engine_call(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(container("abcd1", "fix"))
    scripted.agent(ECHO)
    await (await sessions.open("fix")).request("command", {})
    for reference in ("fix", OLD):
        assert (await sessions.open(reference)).session.id == OLD
    assert scripted.calls == ["version", "container", "exec"]


async def test_a_handle_follows_its_name_to_a_session_that_replaced_the_first(
    scripted: ScriptedEngine, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_set, "TRUSTED_QUIET_SECONDS", 0.0)
    scripted.holds(container("abcd1", "fix"))
    scripted.agent("answer(request()['id'], ok={})")
    handle = await sessions.open("fix")
    await handle.request("command", {})
    scripted.holds(container("abcd2", "fix"))
    scripted.agent(ECHO)
    await handle.request("command", {})
    assert handle.session.id == NEW


async def test_a_pinned_handle_never_reaches_another_session_of_that_name(
    scripted: ScriptedEngine, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_set, "TRUSTED_QUIET_SECONDS", 0.0)
    scripted.holds(container("abcd1", "fix"))
    scripted.agent("answer(request()['id'], ok={})")
    pinned = await (await sessions.open("fix")).pinned()
    await pinned.request("command", {})
    scripted.holds(container("abcd2", "fix"))
    with pytest.raises(SessionNotFound):
        await pinned.request("configure", {})
    assert scripted.calls.count("exec") == 1


async def test_pinning_looks_a_remembered_session_up_and_a_fresh_one_not_again(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(container("abcd1", "fix"))
    scripted.agent(ECHO)
    handle = await sessions.open("fix")
    await handle.pinned()
    assert scripted.calls == ["version", "container"]
    await handle.request("command", {})
    scripted.holds(container("abcd2", "fix"))
    assert (await handle.pinned()).session.id == NEW
    assert scripted.calls == ["version", "container", "exec", "container"]


async def test_a_stopped_session_is_not_started_for_a_request_that_does_not_need_it(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(container("abcd1", "fix", "exited"))
    handle = await sessions.open("fix")
    with pytest.raises(SessionNotReady) as caught:
        await handle.request("interrupt", {}, start=False)
    assert str(caught.value) == (
        "The session 'fix' is stopped. The next prompt or command starts it again."
    )
    assert scripted.calls == ["version", "container"]


async def test_a_session_destroyed_under_its_handle_no_longer_exists(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(container("abcd1", "fix"))
    scripted.agent(ECHO)
    handle = await sessions.open("fix")
    await handle.request("command", {})
    await sessions.destroy("fix")
    scripted.on("exec", "import sys; sys.exit('Error: No such container: abcd1')")
    with pytest.raises(SessionNotFound, match="There is no session 'fix'"):
        await handle.request("command", {})


async def test_a_command_that_was_sent_is_not_sent_again_whatever_the_engine_says(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    """The engine's words after the greeting say nothing about what the agent has carried out."""
    scripted.holds(container("abcd1", "fix"))
    scripted.agent("request(); sys.exit('Error response from daemon: Container is not running')")
    handle = await sessions.open("fix")
    with pytest.raises(AgentError, match="may have been carried out"):
        await handle.request("command", {})
    assert scripted.calls.count("exec") == 1
    assert "start" not in scripted.calls


async def test_a_session_that_stopped_while_it_was_connected_to_is_started(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(container("abcd1", "fix"))
    scripted.on(
        "exec",
        "import sys, os\n"
        "if 'start' not in open('calls').read():\n"
        "    sys.exit('OCI runtime exec failed: exec failed: cannot exec in a stopped container')\n"
        f"{PRELUDE}{ECHO}",
    )
    handle = await sessions.open("fix")
    assert (await handle.request("command", {}))["op"] == "command"
    assert scripted.calls[-2:] == ["start", "exec"]


async def test_a_session_that_ends_at_once_when_it_is_started_says_so(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    scripted.holds(container("abcd1", "fix", "exited"))
    scripted.on("exec", "import sys; sys.exit('Error response from daemon: C is not running')")
    handle = await sessions.open("fix")
    with pytest.raises(SessionNotReady, match=r"^The session 'fix' was started again, but ended"):
        await handle.request("command", {})
    assert scripted.calls.count("start") == 1
