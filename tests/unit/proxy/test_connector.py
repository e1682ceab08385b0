"""The connector connects only to an address that it has checked."""

from __future__ import annotations

import asyncio
import base64
import errno
import os
import socket
import ssl
from collections.abc import Sequence
from typing import Any

import pytest

from claude_mcp.proxy import connector as module
from claude_mcp.proxy.connections import Connection
from claude_mcp.proxy.connector import Connector, Failed, Refused, look_up
from claude_mcp.proxy.hosts import Host
from claude_mcp.proxy.policy import Policy, Upstream
from tests.unit.conftest import open_files
from tests.unit.proxy.outside import (
    INSIDE,
    PUBLIC,
    Visit,
    closed_port,
    nothing_escapes,
    origin,
    soon,
    until,
)

BASIC = "Basic " + base64.b64encode(b"me:word").decode()


def connector(policy: Policy, *answers: Sequence[str]) -> tuple[Connector, list[str]]:
    """One that is told another answer at each look-up; and what it asked."""
    asked: list[str] = []

    async def resolve(name: str, port: int) -> Sequence[str]:
        asked.append(name)
        return answers[len(asked) - 1]

    return Connector(policy, resolve), asked


async def opened(
    made: Connector, port: int, host: str = "a.example", *, tunnel: bool = True
) -> Connection:
    end: Connection = await soon(made.open(host, port, tunnel=tunnel, authorization=BASIC))
    return end


async def test_the_checked_address_is_the_one_connected_to() -> None:
    """A name that means another address the next time is asked for once."""
    async with origin() as host, origin(INSIDE, port=host.port) as inside:
        made, asked = connector(Policy(), [PUBLIC], [INSIDE])
        (await opened(made, host.port)).close()
        assert asked == ["a.example"]
        with pytest.raises(Refused, match="no public address"):
            await opened(made, host.port)
        assert asked == ["a.example"] * 2
        assert await inside.heard() == []


async def test_only_the_public_addresses_of_a_name_are_tried() -> None:
    async with origin(INSIDE) as inside, origin(port=inside.port) as host:
        odd = ["169.254.169.254", "::1", "::ffff:127.0.0.3", "fe80::1%lo", "what", "", INSIDE]
        made, _ = connector(Policy(), [*odd, PUBLIC], [*odd], [])
        (await opened(made, host.port)).close()
        for _ in range(2):
            with pytest.raises(Refused):
                await opened(made, host.port)
        assert await inside.heard() == []


async def test_only_private_hosts_may_have_private_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "claude_mcp.proxy.policy.is_permitted_private", lambda each: str(each) == INSIDE
    )
    async with origin(INSIDE) as inside:
        policy = Policy(private=(Host("in.example", port=inside.port),))
        made, _ = connector(policy, [INSIDE], [INSIDE], ["127.0.0.4"])
        (await opened(made, inside.port, "in.example")).close()
        for name in ("a.example", "in.example"):
            with pytest.raises(Refused):
                await opened(made, inside.port, name)


async def test_addresses_are_not_resolved() -> None:
    async with origin() as host:
        made, asked = connector(Policy())
        (await opened(made, host.port, PUBLIC)).close()
        for inside in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1", "fd00::1"):
            with pytest.raises(Refused):
                await opened(made, host.port, inside)
        assert asked == []


async def test_the_next_address_is_tried_after_a_failure() -> None:
    async with origin() as host:
        made, _ = connector(Policy(), [PUBLIC])
        with closed_port() as port, pytest.raises(Failed, match=r"^Connection refused$"):
            await opened(made, port)
        end = await module._connect(["127.0.0.5", PUBLIC], host.port)
        end.close()


async def test_an_unresponsive_address_leaves_time_for_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.2)
    deaf = socket.create_server((PUBLIC, 0), backlog=0)
    port = deaf.getsockname()[1]
    waiting = []
    for _ in range(3):  # the queue is full then, and the kernel lets further ones wait
        waiting.append(socket.socket())
        waiting[-1].setblocking(False)
        waiting[-1].connect_ex((PUBLIC, port))
    try:
        with pytest.raises(Failed, match="no connection within"):
            await module._connect([PUBLIC], port)
        async with origin(INSIDE, port=port):
            (await module._connect([PUBLIC, INSIDE], port)).close()
    finally:
        for each in (deaf, *waiting):
            each.close()


async def test_an_unsupported_address_family_is_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One without version 6 still reaches what has version 4 too."""
    real = socket.socket

    def without_version_6(family: int = socket.AF_INET, *more: Any, **named: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *more, **named)

    async with origin() as host:
        made, _ = connector(Policy(), ["2606:4700::1111", PUBLIC], ["2606:4700::1111"])
        with monkeypatch.context() as patched:
            patched.setattr(socket, "socket", without_version_6)
            (await opened(made, host.port)).close()
            with pytest.raises(Failed, match="Address family not supported"):
                await opened(made, host.port)


async def test_a_cancelled_connection_leaves_no_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as full:
        full.bind((PUBLIC, 0))
        full.listen(0)
        port = full.getsockname()[1]
        filling = [socket.socket() for _ in range(3)]
        for each in filling:
            each.setblocking(False)
            each.connect_ex((PUBLIC, port))
        made, _ = connector(Policy(), [PUBLIC], [PUBLIC])
        before = open_files()
        waiting = asyncio.ensure_future(opened(made, port))
        await until(lambda: open_files() - before)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert open_files() <= before
        monkeypatch.setattr(module, "CONNECT_SECONDS", 0.05)
        with pytest.raises(Failed, match="within"):
            await opened(made, port)
        assert open_files() <= before
        for each in filling:
            each.close()


@pytest.mark.parametrize("name", ["a" * 70, "a..b", "nothing.invalid", "\udcff", "a\0b"])
async def test_an_unresolvable_name_is_reported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    if name.endswith(".invalid"):  # the only one that the library would ask a name server for
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(Failed, match="cannot be resolved"):
        await soon(look_up(name, 80))


async def test_slow_lookups_do_not_delay_the_model() -> None:
    never = asyncio.Event()
    asked = []

    async def resolve(name: str, port: int) -> Sequence[str]:
        asked.append(name)
        if name != "api.example":
            await never.wait()
        return [PUBLIC]

    async with origin() as host:
        made = Connector(Policy(provider=(Host("api.example", port=host.port),)), resolve)
        slow = [asyncio.ensure_future(opened(made, host.port, f"{n}.example")) for n in range(50)]
        await asyncio.sleep(0)
        (await opened(made, host.port, "api.example")).close()
        assert len(asked) == module.LOOKUPS + 1
        for each in slow:
            each.cancel()
        await asyncio.wait(slow)


async def test_an_abandoned_lookup_keeps_its_slot_until_it_ends() -> None:
    """Its thread is still busy, and the threads are counted by these places."""
    answer = asyncio.Event()
    asked = []

    async def resolve(name: str, port: int) -> Sequence[str]:
        asked.append(name)
        await answer.wait()
        if name == "0.example":
            raise Failed("it cannot be resolved")
        return [PUBLIC]

    async with origin() as host:
        made = Connector(Policy(), resolve)
        with nothing_escapes():
            for _ in range(3):
                slow = [
                    asyncio.ensure_future(opened(made, host.port, f"{number}.example"))
                    for number in range(module.LOOKUPS)
                ]
                await asyncio.sleep(0.01)
                for each in slow:
                    each.cancel()
                await asyncio.wait(slow)
            assert len(asked) == module.LOOKUPS
            waiting = asyncio.ensure_future(opened(made, host.port))
            await asyncio.sleep(0.01)
            answer.set()
            (await waiting).close()


async def test_an_unresponsive_name_server_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.02)

    async def resolve(name: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    for policy in (Policy(), Policy(provider=(Host("a.example"),))):
        with pytest.raises(Failed, match=r"within 0\.02 s"):
            await opened(Connector(policy, resolve), 443)


def through(port: int, *, tls: bool = False) -> Policy:
    further = Upstream(PUBLIC, port, tls)
    return Policy(http=further, https=further, direct=("direct.example",))


async def established(visit: Visit) -> None:
    await visit.hear(b"\r\n\r\n")
    await visit.say(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nfirst")
    await visit.hear()


async def test_a_tunnel_can_go_through_an_upstream_proxy() -> None:
    async with origin(answer=established) as further:
        made, asked = connector(through(further.port))
        end = await opened(made, 443)
        assert await soon(end.read()) == b"first"
        await end.write(b"more")
        end.close()
        assert asked == []
        assert await further.heard() == [
            b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n"
            + f"Proxy-Authorization: {BASIC}\r\n\r\nmore".encode()
        ]


async def test_a_plain_request_to_an_upstream_proxy_needs_no_tunnel() -> None:
    async with origin(answer=established) as further:
        end = await opened(connector(through(further.port))[0], 80, tunnel=False)
        await end.write(b"x")
        end.close()
        assert await further.heard(1) == [b"x"]


async def test_direct_hosts_bypass_the_upstream_proxy() -> None:
    async with origin() as further, origin() as host:
        made, asked = connector(through(further.port), [PUBLIC])
        (await opened(made, host.port, "direct.example")).close()
        assert asked == ["direct.example"]
        assert await further.heard() == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 Proxy Auth"),
        (b"HTTP/1.1 302 Found\r\nLocation: x\r\n\r\n", "302 Found"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "100 Continue"),
        (b"", "nothing"),
        (b"HTTP/1.1 200 OK\r\n", "nothing"),
        (b"\r\n\r\n", "nothing"),
        (b"\xff\xfe\0\r\n\r\n", "nothing"),
        (b"SSH-2.0-x\r\n\r\n", "nothing"),
        (b"HTTP/2 200 OK\r\n\r\n", "200 OK"),
        (b"HTTP/1.1 407 a\nX: y\rZ\0\x1b[0m\xff\r\n\r\n", r"407 a\?X: y\?Z\?\?\[0m\?$"),
        (b"HTTP/1.1 " + b"x" * 1000 + b"\r\n\r\n", "x" * 100),
        (b"x" * 200_000, "nothing"),
    ],
)
async def test_an_upstream_proxy_that_refuses_a_tunnel_is_reported(
    answer: bytes, said: str
) -> None:
    async def refuse(visit: Visit) -> None:
        await visit.hear(b"\r\n\r\n")
        await visit.say(answer)

    before = open_files()
    async with origin(answer=refuse) as further:
        made, _ = connector(through(further.port))
        with pytest.raises(Failed, match=f"proxy {PUBLIC}:{further.port} answered: {said}") as told:
            await opened(made, 443)
        assert len(str(told.value)) < 200
        assert BASIC not in str(told.value)
    assert open_files() <= before


@pytest.mark.parametrize("tls", [False, True])
async def test_an_unreachable_upstream_proxy_is_reported(tls: bool) -> None:
    with closed_port() as port, pytest.raises(Failed) as told:
        await opened(connector(through(port, tls=tls))[0], 443)
    assert f"{PUBLIC}:{port} cannot be reached" in str(told.value)


def anonymous(purpose: ssl._SSLMethod) -> ssl.SSLContext:
    """TLS that needs no certificate."""
    context = ssl.SSLContext(purpose)
    if purpose == ssl.PROTOCOL_TLS_CLIENT:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AECDH-AES128-SHA:@SECLEVEL=0")
    return context


async def test_an_upstream_proxy_may_use_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = os.urandom(500_000)

    async def open_and_listen(visit: Visit) -> None:
        await visit.hear(b"\r\n\r\n")
        await visit.say(b"HTTP/1.1 200 OK\r\n\r\nfirst")
        await visit.hear(sent[-20:])

    tls = anonymous(ssl.PROTOCOL_TLS_SERVER)
    async with origin(answer=open_and_listen, tls=tls) as further:
        made, _ = connector(through(further.port, tls=True))
        with pytest.raises(Failed, match="cannot be reached"):  # as nobody vouches for it
            await opened(made, 443)
        monkeypatch.setattr(
            ssl, "create_default_context", lambda: anonymous(ssl.PROTOCOL_TLS_CLIENT)
        )
        end = await opened(made, 443)
        assert await soon(end.read()) == b"first"
        await soon(end.write(sent))
        end.finish()
        assert await soon(end.read()) == b""
        end.close()
        heard = await further.heard()
    assert heard[-1].endswith(sent)
    assert f"Proxy-Authorization: {BASIC}".encode() in heard[-1]
    assert heard[:-1] in ([], [b""])
