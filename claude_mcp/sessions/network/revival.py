"""Starts a proxy again when a session that is being waited for reports it missing."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from claude_mcp.contract import operations
from claude_mcp.contract.messages import to_json
from claude_mcp.contract.operations import PROXY_GONE
from claude_mcp.engine.engine import Engine
from claude_mcp.sessions.channel.channel import OnEvent
from claude_mcp.sessions.channel.channels import Channels
from claude_mcp.sessions.network import proxies
from claude_mcp.sessions.network.access import Proxy

logger = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 0.3
"""Time for the engine, which restarts a crashed proxy by itself."""


class Revival:
    """Starts each missing proxy once, even if several sessions report it.

    There is one ``Revival`` per process.
    """

    def __init__(
        self, engine: Callable[[], Awaitable[Engine]], channels: Channels, tasks: TaskGroup
    ) -> None:
        self._engine = engine
        self._channels = channels
        self._tasks = tasks
        self._reviving: dict[str, set[str]] = {}
        """By proxy: the containers of the sessions that have reported it missing."""

    def hearing(
        self, proxy: Proxy | None, container_id: str, on_event: OnEvent | None
    ) -> OnEvent | None:
        """A listener for events of a session that uses ``proxy``.

        It passes everything to ``on_event`` except the report that the proxy is missing.
        """
        if proxy is None:
            return on_event

        async def hear(event: dict[str, Any]) -> None:
            if event == PROXY_GONE:
                if proxy.id not in self._reviving:
                    self._reviving[proxy.id] = set()
                    self._tasks.start_soon(self._revive, proxy)
                self._reviving[proxy.id].add(container_id)
            elif on_event is not None:
                await on_event(event)

        return hear

    async def _revive(self, proxy: Proxy) -> None:
        try:
            await anyio.sleep(PAUSE_SECONDS)
            engine = await self._engine()
            await proxies.ensure(engine, proxy)
            if engine.dialect.network_policies:
                await self._tell(proxy, await proxies.address(engine, proxy))
        except Exception:  # the session itself reports what could not be reached meanwhile
            logger.warning("proxy %s could not be started again", proxy.name, exc_info=True)
        finally:
            del self._reviving[proxy.id]

    async def _tell(self, proxy: Proxy, address: str) -> None:
        """Tell the sessions where their proxy is now."""
        told: set[str] = set()
        while new := self._reviving[proxy.id] - told:
            told |= new
            for container_id in new:
                place = to_json(operations.Proxy(address))
                await self._channels.request(container_id, operations.PROXY, place)
