"""A program of a session on this process's terminal: the place that is held for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import anyio
import pytest

from claude_mcp.contract import operations
from claude_mcp.contract.codes import Code
from claude_mcp.errors import SessionNotReady
from claude_mcp.sessions import handover, terminal
from claude_mcp.sessions.channel.refusals import AgentRefused, error_of
from claude_mcp.sessions.handle import SessionHandle


class Handle:
    """A session; ``refuses`` are the codes with which its agent answers one after the other."""

    def __init__(self, *refuses: Code) -> None:
        self.refuses = list(refuses)
        self.asked: list[tuple[str, str]] = []
        self.ran: list[tuple[str, tuple[str, ...], Mapping[str, str]]] = []
        self.held = self.released = False
        self.engine = self
        self.session = self
        self.config = self
        self.container_id = "abcd"
        self.environment = {"TERM": "vt100", "SECRET": "s"}

    async def request(self, op: str, args: Mapping[str, Any], on_event: Any) -> dict[str, Any]:
        self.asked.append((op, args["kind"]))
        if self.refuses:
            refusal = AgentRefused(self.refuses.pop(0), "x")
            raise error_of(refusal, "fix") from refusal
        await on_event({"other": 1})
        self.held = True
        await on_event(operations.READY_FOR_TERMINAL)
        try:
            await anyio.sleep_forever()
        finally:
            self.released = True
        raise AssertionError

    async def exec_on_terminal(
        self, ref: str, command: Sequence[str], variables: Mapping[str, str]
    ) -> int:
        assert self.held
        self.ran.append((ref, tuple(command), variables))
        return 7


def session(handle: Handle) -> SessionHandle:
    return cast(SessionHandle, handle)


async def test_a_program_runs_while_its_place_is_held() -> None:
    handle = Handle()
    assert await terminal.shell(session(handle)) == 7
    [(ref, command, variables)] = handle.ran
    assert (ref, variables) == ("abcd", {"TERM": "vt100"})
    assert len(command[-1]) == 32
    assert handle.asked == [(operations.TERMINAL, operations.SHELL)]
    assert handle.released


async def test_a_refusal_starts_nothing() -> None:
    handle = Handle(Code.ATTACHED)
    with pytest.raises(SessionNotReady, match="Somebody is attached to session 'fix'"):
        await terminal.claude(session(handle))
    assert handle.ran == []


async def test_a_session_that_lost_its_credentials_gets_them_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    restored: list[object] = []

    async def restore(handle: object) -> None:
        restored.append(handle)

    monkeypatch.setattr(handover, "restore", restore)
    handle = Handle(Code.UNCONFIGURED)
    assert await terminal.claude(session(handle)) == 7
    assert restored == [handle]
    assert [kind for _, kind in handle.asked] == [operations.CLAUDE] * 2
