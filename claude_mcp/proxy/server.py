"""The proxy: accepts connections on a socket and forwards what its policy allows.

Runs on Python 3.9; ``exchange`` describes the protocol. Each decision is logged as a line of JSON
on stdout.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from claude_mcp.proxy import DENIED_PORT, PORT, READY
from claude_mcp.proxy.connections import Connection, listen, listen_at
from claude_mcp.proxy.connector import LOOKUPS, Connector, Resolve, look_up
from claude_mcp.proxy.exchange import Exchange, Report
from claude_mcp.proxy.policy import Policy, from_json
from claude_mcp.proxy.slots import DESCRIPTORS, ConnectionSlots

ACCEPT_PAUSE_SECONDS = 0.1
PROVIDER_LOOKUPS = 8


def report(fields: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


async def serve(
    listener: socket.socket, policy: Policy, resolve: Resolve = look_up, report: Report = report
) -> None:
    """Serve until cancelled."""
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(LOOKUPS + PROVIDER_LOOKUPS))
    connector = Connector(policy, resolve)
    slots = ConnectionSlots(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    tasks: set[asyncio.Future[None]] = set()
    while True:
        try:
            connection, _ = await loop.sock_accept(listener)
        except OSError as error:  # out of file descriptors
            report({"problem": str(error)})
            await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
            continue
        exchange = Exchange(Connection(connection), policy, connector, slots, report)
        task = asyncio.ensure_future(exchange.run())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        await asyncio.sleep(0)  # otherwise a burst of connections would starve the open ones


async def hang_up(listener: socket.socket) -> None:
    """Close each connection that arrives, until cancelled."""

    def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(close, sock=listener) as server:
        await server.serve_forever()


def main(path: str, policy: str) -> None:
    """Serve at a Unix socket."""
    _raise_limit()
    asyncio.run(serve(_ready(listen(path)), from_json(policy)))


def main_at_ports(policy: str) -> None:
    """Serve at ports of all addresses."""
    _raise_limit()

    async def serve_both(denied: socket.socket, listener: socket.socket) -> None:
        await asyncio.gather(hang_up(denied), serve(listener, from_json(policy)))

    denied = listen_at(DENIED_PORT)
    asyncio.run(serve_both(denied, _ready(listen_at(PORT))))


def _ready(listener: socket.socket) -> socket.socket:
    sys.stdout.write(READY + "\n")
    sys.stdout.flush()
    return listener


def _raise_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
