"""What the engines print of their containers' consumption, and what is read from it."""

from __future__ import annotations

import json

import pytest

from claude_mcp.engine.stats import Stats, parse_stats
from claude_mcp.errors import EngineError

DOCKER = {
    "BlockIO": "1.5MB / 0B", "CPUPerc": "12.50%", "Container": "c", "ID": "a" * 64,
    "MemPerc": "0.08%", "MemUsage": "412KiB / 512MiB", "Name": "c", "NetIO": "426B / 2kB",
    "PIDs": "3",
}  # fmt: skip
PODMAN = {
    "id": "a" * 64, "name": "c", "cpu_time": "24.7ms", "cpu_percent": "12.50%",
    "avg_cpu": "1.47%", "mem_usage": "421.9kB / 536.9MB", "mem_percent": "0.00%",
    "net_io": "426B / 2kB", "block_io": "1.5MB / 0B", "pids": "3",
}  # fmt: skip


def test_docker_prints_an_object_per_line() -> None:
    found = parse_stats(f"{json.dumps(DOCKER)}\n{json.dumps({**DOCKER, 'ID': 'b'})}\n")
    memory = 412 * 1024, 512 * 1024**2
    assert found[0] == Stats("a" * 64, 12.5, *memory, 3, 1_500_000, 0, 426, 2000)
    assert [each.id for each in found] == ["a" * 64, "b"]


def test_podman_prints_one_list() -> None:
    found = parse_stats(json.dumps([PODMAN], indent=1))
    assert found == [
        Stats("a" * 64, 12.5, 421_900, 536_900_000, 3, 1_500_000, 0, 426, 2000)
    ]  # fmt: skip


def test_what_an_engine_does_not_know_is_none() -> None:
    unknown = {name: "--" for name in DOCKER} | {"ID": "a", "MemUsage": "-- / --"}
    assert parse_stats(json.dumps(unknown)) == [Stats("a", *8 * [None])]


@pytest.mark.parametrize("text", ["[", "{}", "3", '[{"id": "a"}]', "no JSON"])
def test_anything_else_is_an_error_of_the_engine(text: str) -> None:
    with pytest.raises(EngineError, match="answer to stats is malformed"):
        parse_stats(text)
