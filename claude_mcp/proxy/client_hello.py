"""Finds the server name in a TLS ClientHello. Pure functions; runs on Python 3.9.

Source: RFC 8446, section 4.1.2, and RFC 6066, section 3.
"""

from __future__ import annotations

HANDSHAKE = 22
CLIENT_HELLO = 1
SERVER_NAME = 0
MOST_BYTES = 16 * 1024
MOST_RECORDS = 8
REFUSED = bytes((21, 3, 3, 0, 2, 2, 49))
"""A TLS alert: fatal, access denied."""


class NotHello(Exception):
    """The bytes are not an acceptable ClientHello; the message says why."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        if len(piece) != count:
            raise NotHello("it is truncated")
        self._at += count
        return piece

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def block(self, count: int) -> _Reader:
        """The block that follows a length of ``count`` bytes."""
        return _Reader(self.take(self.number(count)))

    def take_all(self) -> bytes:
        return self.take(len(self._data) - self._at)

    @property
    def more(self) -> bool:
        return self._at < len(self._data)


def server_name(data: bytes) -> bytes | None:
    """The requested server name; b"" if there is none, None if the message is still incomplete.

    Raises:
        NotHello
    """
    message = b""
    at = 0
    for _ in range(MOST_RECORDS):
        header = data[at : at + 5]
        if header[:1] not in (b"", bytes((HANDSHAKE,))) or header[1:2] not in (b"", b"\x03"):
            raise NotHello("it is not TLS")
        if len(header) < 5:
            return None
        length = int.from_bytes(header[3:], "big")
        if not 0 < length <= 1 << 14:
            raise NotHello("a record has an impossible length")
        record = data[at + 5 : at + 5 + length]
        message += record
        if message[:1] not in (b"", bytes((CLIENT_HELLO,))):
            raise NotHello("it does not begin with a ClientHello")
        size = int.from_bytes(message[1:4], "big") if len(message) >= 4 else MOST_BYTES
        if size > MOST_BYTES:
            raise NotHello("its ClientHello is too long")
        if len(message) - 4 >= size:
            return _name_in(message[4 : 4 + size])
        if len(record) < length:
            return None
        at += 5 + length
    raise NotHello("its ClientHello spans too many records")


def _name_in(hello: bytes) -> bytes:
    reader = _Reader(hello)
    reader.take(2 + 32)  # version and random
    reader.block(1)  # session id
    reader.block(2)  # cipher suites
    reader.block(1)  # compression methods
    found: list[bytes] = []
    extensions = reader.block(2) if reader.more else _Reader(b"")
    while extensions.more:
        kind = extensions.number(2)
        body = extensions.block(2)
        if kind != SERVER_NAME:
            continue
        names = body.block(2)
        while names.more:
            if names.number(1) != 0:
                raise NotHello("its server name has an unknown type")
            found.append(names.block(2).take_all())
    if len(found) > 1:
        raise NotHello("it asks for more than one server name")
    return found[0] if found else b""
