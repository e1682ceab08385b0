"""One visitor of a port of the session: stdin and stdout become a connection to its loopback.

Runs in the session on Python 3.9, as ``exec`` of a front end whose engine is on another machine.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

READ_BYTES = 65536
NO_SERVER = 3
"""The exit code if nothing listens at the port."""
CONNECT_SECONDS = 5.0
LINGER_SECONDS = 300.0
"""How long the server may be silent after the visitor has said all."""
LOOPBACKS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


def connected(port: int) -> socket.socket | None:
    for family, address in LOOPBACKS:
        try:
            connection = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            continue
        try:
            connection.settimeout(CONNECT_SECONDS)
            connection.connect((address, port))
            connection.settimeout(None)
            return connection
        except OSError:
            connection.close()
    return None


def _pass_input(connection: socket.socket) -> None:
    try:
        while data := os.read(0, READ_BYTES):
            connection.sendall(data)
        connection.settimeout(LINGER_SECONDS)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        return


def main(port: int) -> int:
    connection = connected(port)
    if connection is None:
        return NO_SERVER
    threading.Thread(target=_pass_input, args=(connection,), daemon=True).start()
    try:
        while data := connection.recv(READ_BYTES):
            view = memoryview(data)
            while view:
                view = view[os.write(1, view) :]
    except OSError:
        pass
    return 0


if __name__ == "__main__":
    status = main(int(sys.argv[1]))
    sys.stdout.flush()
    os._exit(status)  # a thread may still read stdin
