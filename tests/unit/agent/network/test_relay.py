"""A proxy with a password, through a relay that knows it."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from claude_mcp.agent.channel import open_files
from claude_mcp.agent.network.relay import Relay, Relays

PATIENCE_SECONDS = 60.0
AUTHORIZATION = b"Proxy-Authorization: Basic " + base64.b64encode(b"me:p/w")

Answer = Callable[[socket.socket, bytes], None]


@contextlib.contextmanager
def upstream(answer: Answer) -> Iterator[int]:
    """A proxy's port; each connection's head goes to ``answer``."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.settimeout(PATIENCE_SECONDS)
                threading.Thread(target=handle, args=(connection,), daemon=True).start()

    def handle(connection: socket.socket) -> None:
        with connection:
            answer(connection, read(connection, b"\r\n\r\n"))

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def read(connection: socket.socket, end: bytes) -> bytes:
    data = b""
    while end not in data and (more := connection.recv(65536)):
        data += more
    return data


def connect(relay: Relay) -> socket.socket:
    port = int(relay.url.rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)


def relay_to(port: int) -> Relay:
    return Relay(f"http://me:p%2Fw@127.0.0.1:{port}")


def test_connections_beyond_the_limit_of_open_files_are_refused_and_the_relay_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def close(connection: socket.socket, head: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    with upstream(close) as port:
        relay = relay_to(port)
        with monkeypatch.context() as patch:
            patch.setattr(open_files, "_limit", lambda: 0)
            with connect(relay) as client:
                assert read(client, b"processes.\n").startswith(b"HTTP/1.1 503 ")
        accept = socket.socket.accept
        refusals = [OSError(24, "Too many open files")]

        def full(listener: socket.socket) -> object:
            if refusals and listener.getsockname()[1] == int(relay.url.rpartition(":")[2]):
                raise refusals.pop()
            return accept(listener)

        monkeypatch.setattr(socket.socket, "accept", full)
        for _ in range(2):  # one is accepted by a call that had begun before
            with connect(relay) as client:
                client.sendall(b"GET http://a.example/ HTTP/1.1\r\n\r\n")
                assert read(client, b"\r\n\r\n") == b"HTTP/1.1 200 OK\r\n\r\n"
    assert refusals == []


def test_a_tunnel_is_opened_with_the_password_and_carries_bytes_both_ways() -> None:
    heads = []

    def echo(connection: socket.socket, head: bytes) -> None:
        heads.append(head)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while data := connection.recv(65536):
            connection.sendall(data)

    sent = bytes(range(256)) * 4000
    with upstream(echo) as port, connect(relay_to(port)) as client:
        client.sendall(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n"
                       b"Proxy-Authorization: Basic other\r\n\r\n")  # fmt: skip
        assert read(client, b"\r\n\r\n") == b"HTTP/1.1 200 OK\r\n\r\n"
        threading.Thread(target=client.sendall, args=(sent,), daemon=True).start()
        got = b""
        while len(got) < len(sent):
            got += client.recv(65536)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    assert got == sent
    head = b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n" + AUTHORIZATION + b"\r\n\r\n"
    assert heads == [head]


def test_a_plain_request_has_a_connection_of_its_own() -> None:
    heads = []

    def answer(connection: socket.socket, head: bytes) -> None:
        heads.append(head)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nhello")

    with upstream(answer) as port, connect(relay_to(port)) as client:
        client.sendall(b"GET http://a.example/ HTTP/1.1\r\nConnection: keep-alive\r\n\r\n")
        assert read(client, b"hello").endswith(b"hello")
    expected = [b"GET http://a.example/ HTTP/1.1", b"Connection: close", AUTHORIZATION]
    assert heads == [b"\r\n".join(expected) + b"\r\n\r\n"]


def test_a_proxy_that_is_not_there_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as silent:  # which listens to nobody, and nobody else can have its port
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        with connect(relay_to(port)) as client:
            client.sendall(b"CONNECT a.example:443 HTTP/1.1\r\n\r\n")
            answer = read(client, b"reached.\n").decode()
    assert answer.startswith("HTTP/1.1 502 Bad Gateway\r\n")
    assert answer.endswith(f"The proxy 127.0.0.1:{port} cannot be reached.\n")
    assert f"cannot reach the proxy 127.0.0.1:{port}: " in capfd.readouterr().err


@pytest.mark.parametrize("sent", [b"", b"CONNECT a", b"x" * 200_000])
def test_what_is_no_request_is_hung_up_on(sent: bytes) -> None:
    with connect(relay_to(9)) as client:
        with contextlib.suppress(OSError):
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


def test_only_a_proxy_with_a_password_is_relayed_and_each_once() -> None:
    relays = Relays()
    proxies = {
        "HTTP_PROXY": "http://plain.example:3128",
        "HTTPS_PROXY": "http://me:secret@192.0.2.1:3128",
        "NO_PROXY": "localhost,[::1",
    }
    first = relays.without_passwords(proxies)
    assert first["HTTP_PROXY"] == "http://plain.example:3128"
    assert first["NO_PROXY"] == "localhost,[::1"
    assert first["HTTPS_PROXY"].startswith("http://127.0.0.1:")
    assert relays.without_passwords(proxies) == first
    assert relays.without_passwords({"HTTPS_PROXY": "me:other@192.0.2.1:3128"}) != first
