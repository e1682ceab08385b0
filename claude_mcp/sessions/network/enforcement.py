"""Proves that a cluster limits a session's traffic, before the session gets any code or secret.

A cluster accepts policies that its network ignores, and one that enforces them needs some time. So
a program in the session's container connects to two ports of the same proxy, one of which the
session may reach: it must reach that one, and must not reach the other one or the cluster's API
server. A session without a network gets a proxy without hosts for as long as this takes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio

from claude_mcp.engine.engine import Engine
from claude_mcp.errors import EngineError, ungrouped
from claude_mcp.proxy import DENIED_PORT, PORT
from claude_mcp.sessions.channel.payload import PYTHON
from claude_mcp.sessions.network import companions, proxies
from claude_mcp.sessions.network.access import Access, session_traffic

PROOF_SECONDS: Final = 10.0
"""How long the cluster may take to enforce a new policy."""
ANSWER_SECONDS: Final = 30.0
"""A bound on the whole proof, on a machine that is busy."""
LIMITED: Final = "limited"
UNREACHED: Final = "unreached"
REACHED: Final = "reached "
_PROOF: Final = f"""\
import os, select, socket, sys, time
def connected(wanted, seconds):
    waiting, found = {{}}, set()
    for target in wanted:
        end = socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET)
        end.setblocking(False)
        end.connect_ex(target)
        waiting[end] = target
    late = time.monotonic() + seconds
    while waiting:
        left = max(0, late - time.monotonic())
        ready = select.select([], list(waiting), [], left)[1]
        for end in ready:
            if end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                found.add(waiting[end])
            end.close()
            del waiting[end]
        if not (left or ready):  # also if this process got no processor until then
            break
    for end in waiting:
        end.close()
    return found
proxy, denied = ((sys.argv[1], int(port)) for port in sys.argv[2:4])
others = [denied] * 3
if "KUBERNETES_SERVICE_HOST" in os.environ:
    port = int(os.environ.get("KUBERNETES_SERVICE_PORT", "443"))
    others.append((os.environ["KUBERNETES_SERVICE_HOST"], port))
late = time.monotonic() + float(sys.argv[4])
while True:
    word = {UNREACHED!r}
    if connected([proxy], 1):
        found = connected(others, 0.5)
        if found:
            word = {REACHED!r} + "%s:%d" % sorted(found)[0]
        elif connected([proxy], 1):
            word = {LIMITED!r}
    if word == {LIMITED!r} or time.monotonic() > late:
        break
    time.sleep(0.1)
print(word)
"""
"""Three attempts at a time, because a single packet may be lost."""


@asynccontextmanager
async def prepared(engine: Engine, access: Access) -> AsyncIterator[None]:
    """What the proof needs runs before the session's container is created in the block.

    A node may have to pull its image, and a container waits only so long for its code. If the block
    fails, nothing of it is left that no other session needs.

    Raises:
        EngineError, ImageNotFound: it cannot be started.
    """
    egress = access.egress
    if egress is None or not engine.dialect.network_policies:
        yield
        return
    try:
        await proxies.ensure(engine, egress)
        yield
    except BaseException:
        await proxies.release_or_log(engine, egress)
        raise


async def prove(engine: Engine, container_id: str, access: Access) -> str | None:
    """The address of the session's proxy, once it is certain that the session reaches nothing else.

    None if it has none; one that was only there for the proof is removed then.

    Raises:
        EngineError: something else can be reached, or the proxy cannot.
    """
    egress = access.egress
    if egress is None or not engine.dialect.network_policies:
        return None
    with ungrouped():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(engine.start, container_id)
            tasks.start_soon(engine.ensure_traffic, container_id, session_traffic(egress.id))
            address = await proxies.address(engine, egress)
    await _check(engine, container_id, address)
    if access.witness is not None:
        await companions.remove(engine, access.witness.name)
        return None
    return address


def _proof_command(address: str) -> tuple[str, ...]:
    return (*PYTHON, _PROOF, address, str(PORT), str(DENIED_PORT), str(PROOF_SECONDS))


async def _check(engine: Engine, container_id: str, address: str) -> None:
    """Raises EngineError unless the proxy's port is all that the container reaches."""
    said = ""
    with anyio.move_on_after(ANSWER_SECONDS):
        async with (
            engine.watching(),
            engine.exec(container_id, _proof_command(address)) as stream,
        ):
            async for line in stream.lines():
                said = line
    if said == LIMITED:
        return
    if said.startswith(REACHED):
        raise EngineError(
            f"{engine.title} does not enforce the NetworkPolicy of the session: it still reached "
            f"{said.removeprefix(REACHED)} after {PROOF_SECONDS:g} s.",
            hint="Use a cluster whose network enforces policies, as those of Calico and Cilium do, "
            "or choose the network 'open'.",
        )
    if said == UNREACHED:
        raise EngineError(
            f"The session does not reach its proxy, port {PORT} of {address}.",
            hint="Look for another policy of the cluster that denies it.",
        )
    raise EngineError(
        "It could not be proved that the network of the session is limited: the proof did not end.",
        hint="The cluster may be overloaded; try again.",
    )


RESTORED: Final = (
    "The NetworkPolicy of this session was changed or removed, and has been created again. Until "
    "then, the session reached whatever the cluster lets it reach."
)


async def restored(engine: Engine, container_id: str, egress: str) -> tuple[str, ...]:
    """Limit a session's traffic again if somebody has changed that, and say so.

    ``egress`` is its ``EGRESS_LABEL``, or empty.

    Raises:
        ContainerNotFound: it has just been removed.
        EngineError: it cannot be limited.
    """
    if not egress or not engine.dialect.network_policies:
        return ()
    limited = await engine.ensure_traffic(container_id, session_traffic(egress))
    return () if limited else (RESTORED,)


async def silence(engine: Engine, container_id: str, egress: str) -> None:
    """End what runs in a session that is about to be removed.

    Its limit ends with its pod, and its processes up to a second later.
    """
    if egress and engine.dialect.network_policies:
        await engine.kill(container_id)
