"""Listeners that notice whoever comes: on this machine, and in the network of a container."""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.engine_fixtures import Bare

PATIENCE_SECONDS = 60.0
"""After this a test fails instead of hanging."""
SILENCE_SECONDS = 30.0
PORT_SECONDS = 60.0
HEAD_END = b"\r\n\r\n"

Answer = Callable[[bytes], bytes]


@dataclass
class Visit:
    """One connection, datagram or question, and what it brought."""

    data: bytes
    over: bool
    """Whether nothing can come any more."""
    address: str = ""
    """Where it arrived."""


class Visits:
    """In the order in which they came: who comes last is proof that all others are here."""

    def __init__(self) -> None:
        self._all: list[Visit] = []
        self._changed = threading.Condition()

    def add(self, data: bytes = b"", *, over: bool = False, address: str = "") -> Visit:
        with self._changed:
            visit = Visit(data, over, address)
            self._all.append(visit)
            self._changed.notify_all()
        return visit

    def extend(self, visit: Visit, data: bytes) -> None:
        """What came further; b"" at the end."""
        with self._changed:
            visit.data += data
            visit.over = visit.over or not data
            self._changed.notify_all()

    def has(self, token: str) -> bool:
        with self._changed:
            return any(token.encode() in each.data for each in self._all)

    def until(self, token: str) -> list[bytes]:
        """Everything up to the visit that brings ``token``, once all are over; then forgotten."""

        def is_here() -> bool:
            visits = self._all
            return any(token.encode() in each.data for each in visits) and all(
                each.over for each in visits
            )

        with self._changed:
            here = self._changed.wait_for(is_here, PATIENCE_SECONDS)
            assert here, f"{token} did not come; there are {self._all}"
            found = [each.data for each in self._all]
            self._all.clear()
        return found


class Witness(Visits):
    """TCP and UDP at one port of all addresses of this machine, of both versions."""

    def __init__(self, port: int = 0, host: str = "", answer: Answer | None = None) -> None:
        super().__init__()
        self._answer = answer
        family = socket.AF_INET
        if not host and socket.has_dualstack_ipv6():
            family = socket.AF_INET6
        self._server = socket.create_server(
            (host, port), family=family, dualstack_ipv6=family == socket.AF_INET6, backlog=128
        )
        self.port = int(self._server.getsockname()[1])
        self._datagrams = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            self._datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            self._datagrams.bind((host, self.port))
        except OSError:
            self._server.close()
            self._datagrams.close()
            raise
        self._threads = [
            threading.Thread(target=target, daemon=True) for target in (self._accept, self._receive)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        for each in (self._server, self._datagrams):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # wakes up whoever waits
        for thread in self._threads:
            thread.join()
        self._server.close()
        self._datagrams.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                visit = self.add()
                threading.Thread(target=self._serve, args=(connection, visit), daemon=True).start()

    def _serve(self, connection: socket.socket, visit: Visit) -> None:
        """All that comes until the other side ends, also behind the answer."""
        with connection:
            connection.settimeout(SILENCE_SECONDS)
            answered = self._answer is None
            with contextlib.suppress(OSError):
                while data := connection.recv(65_536):
                    self.extend(visit, data)
                    if not answered and self._answer is not None and HEAD_END in visit.data:
                        answered = True
                        connection.sendall(self._answer(visit.data))
                        connection.shutdown(socket.SHUT_WR)
            self.extend(visit, b"")

    def _receive(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._datagrams.recv(65_536):
                self.add(data, over=True)


@contextlib.contextmanager
def watching(port: int = 0, host: str = "", answer: Answer | None = None) -> Iterator[Witness]:
    """A given port may be in use by the same test on another engine; this waits for it."""
    deadline = time.monotonic() + PORT_SECONDS
    while True:
        try:
            witness = Witness(port, host, answer)
            break
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
        time.sleep(0.1)
    try:
        yield witness
    finally:
        witness.close()


# Its arguments: addresses that the network's loopback gets, and the ports to listen at. At port 53
# it is a name server that knows nobody. Each visit is a line of JSON; the end of stdin is its own.
_WITNESS = """
import fcntl, json, os, socket, struct, sys, threading
addresses, ports = json.loads(sys.argv[1])
lock = threading.Lock()

def tell(**fields):
    with lock:
        sys.stdout.write(json.dumps(fields) + "\\n")
        sys.stdout.flush()

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    for number, address in enumerate(addresses):
        for request, value in ((0x8916, address), (0x891C, "255.255.255.255")):
            value = struct.pack("H2x4s8x", socket.AF_INET, socket.inet_aton(value))
            fcntl.ioctl(control, request, struct.pack("16s16s8x", b"lo:%d" % number, value))

def serve(server):
    while True:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(5)
            data = b""
            try:
                data = connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
            except OSError:
                pass
            tell(data=data.decode("latin-1"), address=connection.getsockname()[0])

def name_of(query):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("latin-1"))
        at += 1 + query[at]
    return ".".join(labels)

def answer(server):
    while True:
        query, client = server.recvfrom(4096)
        tell(data=name_of(query), address="")
        flags = struct.pack(">H4H", 0x8183, 1, 0, 0, 0)
        end = query.index(0, 12) + 5
        server.sendto(query[:2] + flags + query[12:end], client)

for port in ports:
    if port == 53:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("127.0.0.1", port))
        target = answer
    elif socket.has_dualstack_ipv6():
        server = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        target = serve
    else:
        server, target = socket.create_server(("", port)), serve
    threading.Thread(target=target, args=(server,), daemon=True).start()
tell(ready=True)
sys.stdin.read()
"""


class Inside(Visits):
    """TCP, and a name server, in the network of a container."""

    def __init__(self, bare: Bare, argv: list[str], addresses: list[str], ports: list[int]) -> None:
        super().__init__()
        arguments = json.dumps([addresses, ports])
        self._process = bare.popen(*argv, "python3", "-c", _WITNESS, arguments)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._hear, daemon=True)
        self._thread.start()
        if not self._ready.wait(PATIENCE_SECONDS):
            self.close()
            raise AssertionError("the witness does not begin")

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join()
        self._process.stdout.close()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told: Any = json.loads(line)
            if told.get("ready"):
                self._ready.set()
            else:
                self.add(told["data"].encode("latin-1"), over=True, address=told["address"])


@contextlib.contextmanager
def _running(
    bare: Bare, name: str, options: list[str], addresses: list[str], ports: list[int]
) -> Iterator[Inside]:
    inside = None
    try:
        argv = ["run", "--rm", "--interactive", f"--name={name}", *options]
        inside = Inside(bare, argv, addresses, ports)
        yield inside
    finally:
        if inside is not None:
            inside.close()
        bare("rm", "--force", name, check=False)


def watching_inside(
    bare: Bare, image: str, container: str, *, addresses: list[str], ports: list[int]
) -> contextlib.AbstractContextManager[Inside]:
    """In the network of a container that runs, with rights that nothing in it has itself."""
    options = [f"--network=container:{container}", "--user=0", "--cap-add=NET_ADMIN", image]
    return _running(bare, f"{container}-witness", options, addresses, ports)


def watching_beside(
    bare: Bare, image: str, name: str, port: int, *options: str
) -> contextlib.AbstractContextManager[Inside]:
    """In a container of its own on the engine's default network."""
    return _running(bare, name, [*options, image], [], [port])
