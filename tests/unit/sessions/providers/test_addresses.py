"""Listeners on this host, read from the kernel's tables."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from claude_mcp.sessions.providers import addresses

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"


def row(address: str, port: int, state: str = "0A") -> str:
    return f"   0: {address}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000\n"


def v4(address: str) -> str:
    """The notation of a little-endian kernel."""
    return "".join(f"{int(part):02X}" for part in reversed(address.split(".")))


LOOPBACK_V6 = "00000000000000000000000001000000"
ANY_V6 = "0" * 32
MAPPED_LOOPBACK = "0000000000000000FFFF00000100007F"


@pytest.mark.skipif(sys.byteorder != "little", reason="the tables come from a little-endian kernel")
@pytest.mark.parametrize(
    ("tables", "found"),
    [
        ([], "nobody"),
        ([row(v4("127.0.0.1"), 8080)], "loopback"),
        ([row(v4("127.8.9.1"), 8080)], "loopback"),
        ([row(v4("0.0.0.0"), 8080)], "wide"),
        ([row(v4("192.168.1.7"), 8080)], "wide"),
        ([row(LOOPBACK_V6, 8080)], "loopback"),
        ([row(ANY_V6, 8080)], "wide"),
        ([row(MAPPED_LOOPBACK, 8080)], "loopback"),
        ([row(v4("127.0.0.1"), 8080), row(v4("10.0.0.1"), 8080)], "wide"),
        ([row(v4("0.0.0.0"), 8081), row(v4("0.0.0.0"), 80)], "nobody"),
        ([row(v4("0.0.0.0"), 8080, state="01")], "nobody"),
    ],
)
def test_listeners_are_read_from_the_kernels_tables(
    tmp_path: Path, tables: list[str], found: str
) -> None:
    (tmp_path / "tcp").write_text(HEADER + "".join(tables))
    assert addresses._listeners(8080, (str(tmp_path / "missing"), str(tmp_path / "tcp"))) == found


def test_a_wide_listener_in_either_table_is_enough(tmp_path: Path) -> None:
    (tmp_path / "tcp").write_text(HEADER + row(v4("127.0.0.1"), 8080))
    (tmp_path / "tcp6").write_text(HEADER + row(ANY_V6, 8080))
    tables = (str(tmp_path / "tcp"), str(tmp_path / "tcp6"))
    assert addresses._listeners(8080, tables) == "wide"


def test_an_own_address_is_one_that_the_kernel_lets_us_use() -> None:
    found = addresses.own_address()
    assert addresses.is_own_address("127.0.0.1")
    assert found is None or addresses.is_own_address(found)
    for other in ("192.0.2.1", "2001:db8::1", "0.0.0.0", "::", "gateway.example", ""):
        assert not addresses.is_own_address(other)
    assert addresses.is_own_address(socket.gethostname().lower())
