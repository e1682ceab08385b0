"""Serves one connection from a session's forwarder; runs on Python 3.9.

A connection starts with one line of JSON. ``{"session": name, "http": ..., "https": ...}`` names
the session (unverified) and the authorization values for upstream proxies; one HTTP request
follows, and no other. ``{"watch": true}`` only waits until the proxy ends.

The answer starts with one line of JSON, ``{"decision", "host", "port", "reason", "advice"}``. After
the decisions ``allowed``, ``refused`` and ``failed``, the HTTP response follows. The decision
``tunnel`` invites the client to send its first bytes; a second decision and the tunnel's data
follow.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any, Callable

from claude_mcp.proxy import client_hello
from claude_mcp.proxy.connections import Connection, ConnectionLost, WriteFailed, join, stop
from claude_mcp.proxy.connector import Connector, Failed, Refused
from claude_mcp.proxy.hosts import canonical_name, parse_address
from claude_mcp.proxy.policy import Policy
from claude_mcp.proxy.request_head import (
    END,
    MOST_BYTES,
    Malformed,
    Request,
    chunk_size,
    first_line,
    outgoing,
    parse,
)
from claude_mcp.proxy.slots import ConnectionSlots, Slots

HEAD_SECONDS = 20.0
OPENING_BYTES = 8 * 1024
CHUNK_LINE_BYTES = 4 * 1024
MOST_TRAILER_LINES = 100
NOT_ALLOWED = "this session may not reach it"
ADVICE = "a new session can allow it with allowedHosts"
TOO_MANY = "too many connections are open"
OWN_TOO_MANY = "this session has too many connections open"
NO_NAME = "only host names are allowed, not addresses"

Report = Callable[[Mapping[str, Any]], None]


class Refusal(Exception):
    """The request is not served; ends the connection."""

    def __init__(self, decision: str, reason: str, advice: str = "") -> None:
        super().__init__(reason)
        self.decision = decision
        self.reason = reason
        self.advice = advice


class Exchange:
    """One client connection, from its first line to its end."""

    def __init__(
        self,
        client: Connection,
        policy: Policy,
        connector: Connector,
        slots: ConnectionSlots,
        report: Report,
    ) -> None:
        self._client = client
        self._policy = policy
        self._connector = connector
        self._slots = slots
        self._report = report
        self._session = ""
        self._authorizations: Mapping[str, Any] = {}
        self._upstream: Connection | None = None
        self._held: Slots | None = None

    async def run(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            with contextlib.suppress(ConnectionLost, asyncio.TimeoutError):
                await self._run(task)
                await self._client.linger()
        finally:
            if self._held is not None:
                self._held.leave(task)
            for end in (self._client, self._upstream):
                if end is not None:
                    end.close()

    def _move(self, task: asyncio.Future[None], room: Slots) -> bool:
        """Take a slot of another kind. If none is free, keep the present one and return False."""
        if not room.enter(task, self._client, self._session):
            return False
        if self._held is not None and self._held is not room:
            self._held.leave(task)
        self._held = room
        return True

    async def _run(self, task: asyncio.Future[None]) -> None:
        self._move(task, self._slots.beginning)
        request: Request | None = None
        try:
            if await asyncio.wait_for(self._opening(), HEAD_SECONDS):
                if self._move(task, self._slots.watching):
                    await self._client.read()
                return
            self._move(task, self._slots.beginning)  # now as one of this session's
            request = await asyncio.wait_for(self._request(), HEAD_SECONDS)
            if not self._policy.permits(request.host, request.port):
                if parse_address(request.host) is None:
                    raise Refusal("refused", NOT_ALLOWED, ADVICE)
                raise Refusal("refused", NO_NAME)
            model = self._policy.serves_model(request.host, request.port)
            room = self._slots.model if model else self._slots.others
            if not self._move(task, room):
                own = room.has_share(self._session)
                raise Refusal("failed", OWN_TOO_MANY if own else TOO_MANY)
            await self._connect(request)
            if request.tunnel:
                await self._tunnel(request)
            else:
                await self._decide("allowed", request)
                await self._exchange(request, self._uses_upstream(request))
        except Refusal as refusal:
            await self._decide(refusal.decision, request, refusal.reason, refusal.advice)
            await self._client.write(_response(refusal, request))

    async def _opening(self) -> bool:
        """Read the first line; True if the client only watches."""
        line = await self._client.read_until(b"\n", OPENING_BYTES)
        if line is None:
            raise ConnectionLost("it sent no first line")
        try:
            fields = json.loads(line)
            watching: bool = fields.get("watch") is True
            self._session = str(fields.get("session", ""))[:200]
        except (ValueError, AttributeError, RecursionError):
            raise Refusal("refused", "its first line is malformed") from None
        self._authorizations = fields
        return watching

    async def _request(self, inside: Request | None = None) -> Request:
        try:
            # A client of another protocol sends one line and then waits for an answer.
            first = await self._head(b"\r\n")
            first_line(first)
            self._client.unread(first + b"\r\n")
            return parse(await self._head(END), inside)
        except Malformed as error:
            raise Refusal("refused", str(error)) from None

    async def _head(self, end: bytes) -> bytes:
        data = await self._client.read_until(end, MOST_BYTES)
        if data is None:
            raise ConnectionLost("it sent no request")
        return data

    async def _decide(
        self, decision: str, request: Request | None, reason: str = "", advice: str = ""
    ) -> None:
        """Log the decision and send it to the client."""
        fields: dict[str, Any] = {"decision": decision}
        if request is not None:
            fields.update(host=request.host, port=request.port)
        if reason:
            fields["reason"] = reason
        if decision != "tunnel":
            self._report({**fields, "session": self._session})
        if advice:
            fields["advice"] = advice
        await self._client.write(json.dumps(fields).encode() + b"\n")

    def _authorization(self, request: Request) -> str:
        value = self._authorizations.get("https" if request.tunnel else "http")
        fits = isinstance(value, str) and value.isascii() and value.isprintable()
        return value if fits and value else ""

    def _uses_upstream(self, request: Request) -> bool:
        """Whether a request outside a tunnel goes through an upstream proxy."""
        return self._policy.upstream(request.host, request.port, tunnel=False) is not None

    async def _connect(self, request: Request) -> None:
        try:
            self._upstream = await self._connector.open(
                request.host,
                request.port,
                tunnel=request.tunnel,
                authorization=self._authorization(request),
            )
        except Refused as error:
            raise Refusal("refused", str(error)) from None
        except Failed as error:
            raise Refusal("failed", str(error)) from None

    async def _tunnel(self, request: Request) -> None:
        """Allow a TLS connection or one HTTP request, if it names the host of the CONNECT."""
        assert self._upstream is not None
        await self._decide("tunnel", request)
        first = await asyncio.wait_for(self._client.read(), HEAD_SECONDS)
        if not first:
            raise ConnectionLost("it sent nothing into the tunnel")
        self._client.unread(first)
        if first[0] == client_hello.HANDSHAKE:
            why = await asyncio.wait_for(self._tls_problem(request), HEAD_SECONDS)
            if why:
                await self._decide("refused", request, why)
                await self._client.write(client_hello.REFUSED)
                return
            await self._decide("allowed", request)
            await join(self._client, self._upstream)
        else:
            inner = await asyncio.wait_for(self._request(inside=request), HEAD_SECONDS)
            await self._decide("allowed", request)
            await self._exchange(inner, False)

    async def _tls_problem(self, request: Request) -> str:
        """Why the TLS connection is refused; "" if its server name is the tunnel's host."""
        data = b""
        name: bytes | None = None
        while name is None:
            piece = await self._client.read()
            if not piece:
                raise ConnectionLost("it ended prematurely")
            data += piece
            try:
                name = client_hello.server_name(data)
            except client_hello.NotHello as error:
                return str(error)
        self._client.unread(data)
        if not name and parse_address(request.host) is not None:
            return ""
        asked = canonical_name(name.decode("latin-1"))
        return "" if asked == request.host else "its TLS server name is another host"

    async def _exchange(self, request: Request, through_proxy: bool) -> None:
        """Send one request, and pass on the response until the connection ends."""
        assert self._upstream is not None
        authorization = self._authorization(request) if through_proxy else ""
        await self._upstream.write(
            outgoing(request, absolute=through_proxy, authorization=authorization)
        )
        body = asyncio.ensure_future(self._body(request))
        response = asyncio.ensure_future(self._upstream.copy(self._client))
        try:
            done, _ = await asyncio.wait((body, response), return_when=asyncio.FIRST_COMPLETED)
            if response not in done:
                # An incomplete request gets a response only if the host stopped reading it.
                with contextlib.suppress(WriteFailed):
                    body.result()
                await response
            response.result()
        finally:
            await stop(body, response)

    async def _body(self, request: Request) -> None:
        assert self._upstream is not None
        if not request.chunked:
            await self._client.copy(self._upstream, request.length)
            return
        size = 1
        while size:
            size = await self._size()
            if size:
                await self._upstream.write(b"%x\r\n" % size)
                await self._client.copy(self._upstream, size)
                if await self._line():
                    raise ConnectionLost("a chunk is longer than declared")
                await self._upstream.write(b"\r\n")
        for _ in range(MOST_TRAILER_LINES):
            if not await self._line():
                await self._upstream.write(b"0\r\n\r\n")
                return
        raise ConnectionLost("it has too many trailers")

    async def _size(self) -> int:
        try:
            return chunk_size(await self._line())
        except Malformed as error:
            raise ConnectionLost(str(error)) from error

    async def _line(self) -> bytes:
        line = await self._client.read_until(b"\r\n", CHUNK_LINE_BYTES)
        if line is None:
            raise ConnectionLost("it ended prematurely")
        return line


def _response(refusal: Refusal, request: Request | None) -> bytes:
    """The status line repeats the reason, because many clients show nothing else."""
    where = "the request" if request is None else f"{request.host}:{request.port}"
    verb = "refused" if refusal.decision == "refused" else "cannot reach"
    hint = f"; {refusal.advice}" if refusal.advice else ""
    text = f"claude-mcp {verb} {where}: {refusal.reason}{hint}"
    line = text.encode("ascii", "replace").decode()
    body = f"{text}\n".encode()
    status = 403 if refusal.decision == "refused" else 502
    head = [
        f"HTTP/1.1 {status} {line}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
