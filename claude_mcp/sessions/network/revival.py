"""Proxies that a session finds gone are started again, by whoever is waiting for that session."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from claude_mcp.contract import places as contract
from claude_mcp.engine.engine import Engine
from claude_mcp.sessions.channel.channels import OnEvent
from claude_mcp.sessions.labels import Session
from claude_mcp.sessions.network import proxies as egress
from claude_mcp.sessions.network.access import Proxy

logger = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 0.3
"""After a crash the engine starts it by itself."""


class Revival:
    """One for a process: it starts a proxy once, however many sessions miss it."""

    def __init__(self, engine: Callable[[], Awaitable[Engine]], tasks: TaskGroup) -> None:
        self._engine = engine
        self._tasks = tasks
        self._going_on: set[str] = set()

    def hearing(self, session: Session, on_event: OnEvent | None) -> OnEvent | None:
        """``on_event``, but for the event that the session's proxy is gone."""
        proxy = session.proxy
        if proxy is None:
            return on_event

        async def hear(event: dict[str, Any]) -> None:
            if event == contract.PROXY_GONE:
                if proxy.id not in self._going_on:
                    self._going_on.add(proxy.id)
                    self._tasks.start_soon(self._revive, proxy)
            elif on_event is not None:
                await on_event(event)

        return hear

    async def _revive(self, proxy: Proxy) -> None:
        try:
            await anyio.sleep(PAUSE_SECONDS)
            await egress.ensure(await self._engine(), proxy)
        except Exception:  # what needs the network meanwhile fails, and the session says why
            logger.warning("proxy %s could not be started again", proxy.name, exc_info=True)
        finally:
            self._going_on.discard(proxy.id)
