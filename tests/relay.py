"""A link between a client and a daemon that a test may cut and stall.

It listens on a port of the loopback. As a program, it passes a Unix socket's connections on to a
port: ``relay.py SOCKET PORT``. A test starts that in the namespaces of a daemon of its own.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

READ_BYTES = 65536
Address = str | tuple[str, int]
"""The path of a Unix socket, or host and port."""


def connected(target: Address) -> socket.socket:
    if isinstance(target, tuple):
        return socket.create_connection(target)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(target)
    except OSError:
        connection.close()
        raise
    return connection


class Relay:
    """``limit`` cuts the link once, after so many bytes from the client."""

    def __init__(self, target: Address, listener: socket.socket | None = None) -> None:
        self._target = target
        self._listener = listener or socket.create_server(("127.0.0.1", 0), backlog=64)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._flows = threading.Event()
        self._flows.set()
        self._is_cut = False
        self._left: int | None = None
        self.tripped = threading.Event()
        """Set once ``cut_after`` has cut the link."""
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def cut(self) -> None:
        """End every connection, and each new one at once, until ``mend``."""
        with self._lock:
            self._is_cut = True
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def cut_after(self, count: int) -> None:
        """Cut the link after so many more bytes from the client."""
        with self._lock:
            self._left = count

    def stall(self) -> None:
        """Pass nothing on, while connections stay open, until ``mend``."""
        self._flows.clear()

    def mend(self) -> None:
        with self._lock:
            self._is_cut = False
            self._left = None
        self._flows.set()

    def end(self) -> None:
        self.cut()
        self._flows.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # the thread that accepts ends
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._flows.wait()
        with client:
            if self._is_cut:
                return
            try:
                server = connected(self._target)
            except OSError:
                return
            with server:
                with self._lock:
                    if self._is_cut:
                        return
                    self._open |= {client, server}
                back = threading.Thread(target=self._pass, args=(server, client), daemon=True)
                back.start()
                self._pass(client, server, counted=True)
                back.join()
                with self._lock:
                    self._open -= {client, server}

    def _pass(self, source: socket.socket, sink: socket.socket, *, counted: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(READ_BYTES):
                self._flows.wait()
                if counted and self._trips(len(data)):
                    self.cut()
                    self.tripped.set()
                    return
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _trips(self, count: int) -> bool:
        with self._lock:
            if self._left is None:
                return False
            self._left -= count
            return self._left < 0


@contextmanager
def relay(target: Address) -> Iterator[Relay]:
    running = Relay(target)
    try:
        yield running
    finally:
        running.end()


def main(path: str, port: str) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    Relay(("127.0.0.1", int(port)), listener)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
