"""An engine that takes too long to create a container leaves none behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from claude_mcp.engine.engine import ContainerNameInUse, Engine, NewContainer
from claude_mcp.engine.spec import ContainerSpec
from claude_mcp.errors import EngineUnavailable
from claude_mcp.sessions.create import creation
from claude_mcp.sessions.registry import Sessions

if TYPE_CHECKING:
    from tests.unit.sessions.conftest import ScriptedEngine

pytestmark = pytest.mark.anyio

SPEC = ContainerSpec("claude-mcp-fix", "image:1", ())


class SlowEngine:
    """Creates a container once its gate is open."""

    title = "Slow"

    def __init__(self) -> None:
        self.gate, self.removed = anyio.Event(), anyio.Event()
        self.calls: list[str] = []
        self.answers = True

    async def create(self, spec: ContainerSpec, inherited: Any, *, seconds: float) -> NewContainer:
        self.calls.append("create")
        await self.gate.wait()
        return NewContainer("an-id")

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        if not self.answers:
            raise EngineUnavailable("Slow does not answer.")
        yield

    async def remove(self, ref: str) -> bool:
        self.calls.append(f"remove {ref}")
        self.removed.set()
        return True


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> SlowEngine:
    monkeypatch.setattr(creation, "SLOW_SECONDS", 0.01)
    return SlowEngine()


async def create(sessions: Sessions, engine: SlowEngine) -> NewContainer:
    return await creation.create(sessions, cast("Engine", engine), SPEC, {})


@pytest.mark.parametrize("answers", [True, False])
async def test_a_container_that_nobody_waits_for_any_more_is_removed(
    sessions: Sessions, engine: SlowEngine, answers: bool
) -> None:
    engine.answers = answers
    said = "did not create container claude-mcp-fix within" if answers else "does not answer"
    with pytest.raises(EngineUnavailable, match=f"^Slow {said}"):
        await create(sessions, engine)
    engine.gate.set()
    with anyio.fail_after(60):
        await engine.removed.wait()
    assert engine.calls == ["create", "remove an-id"]


async def test_a_slow_engine_that_answers_is_waited_for(
    sessions: Sessions, engine: SlowEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(creation, "SLOW_SECONDS", 20.0)

    @asynccontextmanager
    async def watching() -> AsyncIterator[None]:
        engine.gate.set()
        yield

    monkeypatch.setattr(engine, "watching", watching)
    assert await create(sessions, engine) == NewContainer("an-id")
    assert engine.calls == ["create"]


async def test_a_failure_is_the_engines_own(
    sessions: Sessions, engine: SlowEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*args: Any, **named: Any) -> NewContainer:
        raise ContainerNameInUse("taken")

    monkeypatch.setattr(engine, "create", fail)
    with pytest.raises(ContainerNameInUse):
        await create(sessions, engine)


async def test_the_end_of_the_process_waits_for_it(
    scripted: ScriptedEngine, sessions: Sessions, engine: SlowEngine
) -> None:
    await sessions.engine()
    with pytest.raises(EngineUnavailable):
        await create(sessions, engine)
    engine.gate.set()
    await sessions.finish_sweeping()
    assert engine.removed.is_set()
