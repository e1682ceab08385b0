"""One connection through the proxy, from its first line to its end; runs on Python 3.9.

It begins with a line of JSON, ``{"session": name, "http": ..., "https": ...}``: for whom it is, as
that session says, and with which authorization a further proxy is asked; or ``{"watch": true}``,
which only waits for our end. Behind it comes one HTTP request, and nothing after that one.

The answer begins with a line of JSON, ``{"decision", "host", "port", "reason", "advice"}``. Behind
``allowed``, ``refused`` and ``failed`` comes the HTTP response. ``tunnel`` asks for what the client
wants in the tunnel; then there is a second decision, and what the tunnel brings.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any, Callable

from claude_mcp.proxy import hello
from claude_mcp.proxy.connecting import Connector, Failed, Refused
from claude_mcp.proxy.copying import Deaf, End, Gone, join, stop
from claude_mcp.proxy.heads import (
    END,
    MOST_BYTES,
    Malformed,
    Request,
    chunk_size,
    first_line,
    outgoing,
    parse,
)
from claude_mcp.proxy.names import canonical_name, parse_address
from claude_mcp.proxy.policy import Policy
from claude_mcp.proxy.rooms import Room, Rooms

HEAD_SECONDS = 20.0
OPENING_BYTES = 8 * 1024
CHUNK_LINE_BYTES = 4 * 1024
MOST_TRAILER_LINES = 100
NOT_ALLOWED = "it is not allowed for this session"
ADVICE = "allow it with allowedHosts"
NO_NAME = "it is an address, and only names are allowed"

Tell = Callable[[Mapping[str, Any]], None]


class Refusal(Exception):
    """The answer is no, and it is over."""

    def __init__(self, decision: str, reason: str, advice: str = "") -> None:
        super().__init__(reason)
        self.decision = decision
        self.reason = reason
        self.advice = advice


class Exchange:
    """A client's connection."""

    def __init__(
        self, client: End, policy: Policy, connector: Connector, rooms: Rooms, tell: Tell
    ) -> None:
        self._client = client
        self._policy = policy
        self._connector = connector
        self._rooms = rooms
        self._tell = tell
        self._session = ""
        self._authorizations: Mapping[str, Any] = {}
        self._upstream: End | None = None
        self._inside: Room | None = None

    async def run(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            with contextlib.suppress(Gone, asyncio.TimeoutError):
                await self._run(task)
                await self._client.linger()
        finally:
            if self._inside is not None:
                self._inside.leave(task)
            for end in (self._client, self._upstream):
                if end is not None:
                    end.close()

    def _move(self, task: asyncio.Future[None], room: Room) -> bool:
        """Whether there is room; if not, it stays where it was, to be counted somewhere."""
        if not room.enter(task, self._client):
            return False
        if self._inside is not None:
            self._inside.leave(task)
        self._inside = room
        return True

    async def _run(self, task: asyncio.Future[None]) -> None:
        self._move(task, self._rooms.beginning)
        request: Request | None = None
        try:
            if await asyncio.wait_for(self._opening(), HEAD_SECONDS):
                if self._move(task, self._rooms.watching):
                    await self._client.read()
                return
            request = await asyncio.wait_for(self._request(), HEAD_SECONDS)
            if not self._policy.permits(request.host, request.port):
                if parse_address(request.host) is None:
                    raise Refusal("refused", NOT_ALLOWED, ADVICE)
                raise Refusal("refused", NO_NAME)
            model = self._policy.serves_model(request.host, request.port)
            if not self._move(task, self._rooms.model if model else self._rooms.others):
                raise Refusal("failed", "too many connections are open")
            await self._connect(request)
            if request.tunnel:
                await self._tunnel(request)
            else:
                await self._decide("allowed", request)
                await self._exchange(request, self._is_further(request))
        except Refusal as refusal:
            await self._decide(refusal.decision, request, refusal.reason, refusal.advice)
            await self._client.write(_response(refusal, request))

    async def _opening(self) -> bool:
        """Whether it only watches."""
        line = await self._client.read_until(b"\n", OPENING_BYTES)
        if line is None:
            raise Gone("it said nothing")
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
            # What speaks another protocol waits for an answer to its first line.
            first = await self._head(b"\r\n")
            first_line(first)
            self._client.unread(first + b"\r\n")
            return parse(await self._head(END), inside)
        except Malformed as error:
            raise Refusal("refused", str(error)) from None

    async def _head(self, end: bytes) -> bytes:
        data = await self._client.read_until(end, MOST_BYTES)
        if data is None:
            raise Gone("it asked for nothing")
        return data

    async def _decide(
        self, decision: str, request: Request | None, reason: str = "", advice: str = ""
    ) -> None:
        """Write it down, and tell the client."""
        fields: dict[str, Any] = {"decision": decision}
        if request is not None:
            fields.update(host=request.host, port=request.port)
        if reason:
            fields["reason"] = reason
        if decision != "tunnel":
            self._tell({**fields, "session": self._session})
        if advice:
            fields["advice"] = advice
        await self._client.write(json.dumps(fields).encode() + b"\n")

    def _authorization(self, request: Request) -> str:
        value = self._authorizations.get("https" if request.tunnel else "http")
        fits = isinstance(value, str) and value.isascii() and value.isprintable()
        return value if fits and value else ""

    def _is_further(self, request: Request) -> bool:
        """Whether the request, not in a tunnel, goes to a further proxy."""
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
        """Let in what names the host that was asked for: a TLS connection, or one HTTP request."""
        assert self._upstream is not None
        await self._decide("tunnel", request)
        first = await asyncio.wait_for(self._client.read(), HEAD_SECONDS)
        if not first:
            raise Gone("it wants nothing in the tunnel")
        self._client.unread(first)
        if first[0] == hello.HANDSHAKE:
            why = await asyncio.wait_for(self._other_name(request), HEAD_SECONDS)
            if why:
                await self._decide("refused", request, why)
                await self._client.write(hello.REFUSED)
                return
            await self._decide("allowed", request)
            await join(self._client, self._upstream)
        else:
            inner = await asyncio.wait_for(self._request(inside=request), HEAD_SECONDS)
            await self._decide("allowed", request)
            await self._exchange(inner, False)

    async def _other_name(self, request: Request) -> str:
        """Why a TLS connection may not be let in; it may when it asks for the tunnel's host."""
        data = b""
        name: bytes | None = None
        while name is None:
            piece = await self._client.read()
            if not piece:
                raise Gone("it ended too early")
            data += piece
            try:
                name = hello.server_name(data)
            except hello.NotHello as error:
                return str(error)
        self._client.unread(data)
        if not name and parse_address(request.host) is not None:
            return ""
        asked = canonical_name(name.decode("latin-1"))
        return "" if asked == request.host else "its TLS asks for another host"

    async def _exchange(self, request: Request, further: bool) -> None:
        """One request, and its response until the connection ends."""
        assert self._upstream is not None
        authorization = self._authorization(request) if further else ""
        await self._upstream.write(outgoing(request, absolute=further, authorization=authorization))
        body = asyncio.ensure_future(self._body(request))
        response = asyncio.ensure_future(self._upstream.copy(self._client))
        try:
            done, _ = await asyncio.wait((body, response), return_when=asyncio.FIRST_COMPLETED)
            if response not in done:
                # A request that is not whole has no response, unless its host wants no more of it.
                with contextlib.suppress(Deaf):
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
                    raise Gone("a chunk is longer than it says")
                await self._upstream.write(b"\r\n")
        for _ in range(MOST_TRAILER_LINES):
            if not await self._line():
                await self._upstream.write(b"0\r\n\r\n")
                return
        raise Gone("it has too many trailers")

    async def _size(self) -> int:
        try:
            return chunk_size(await self._line())
        except Malformed as error:
            raise Gone(str(error)) from error

    async def _line(self) -> bytes:
        line = await self._client.read_until(b"\r\n", CHUNK_LINE_BYTES)
        if line is None:
            raise Gone("it ended too early")
        return line


def _response(refusal: Refusal, request: Request | None) -> bytes:
    """The reason stands in the first line too: many a client shows nothing else."""
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
