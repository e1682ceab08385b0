"""What containers take of their host at this moment, read from the output of ``stats``.

The engines print sizes for people, so the numbers are rounded as those are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from claude_mcp.errors import EngineError

_SIZE: Final = re.compile(r"([0-9.]+) ?([kKMGTP]?)(i?)B")
_POWERS: Final = {letter: power for power, letter in enumerate(("", "K", "M", "G", "T", "P"))}


@dataclass(frozen=True, slots=True)
class Stats:
    """Of one container; None is not known. Disk and network are counted since its start."""

    id: str
    cpu_percent: float | None
    """100 is one processor. Podman's is the average since the container's start."""
    memory_bytes: int | None
    memory_limit_bytes: int | None
    """Without a limit of its own, that of the host."""
    pids: int | None
    disk_read_bytes: int | None
    disk_written_bytes: int | None
    network_in_bytes: int | None
    network_out_bytes: int | None


def parse_stats(stdout: str) -> list[Stats]:
    """Read Docker's object per line, or Podman's one list.

    Raises:
        EngineError: it is neither.
    """
    try:
        text = stdout.strip()
        found = json.loads(text) if text.startswith("[") else map(json.loads, text.splitlines())
        return [_stats(each) for each in found]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise EngineError(f"The engine's answer to stats is malformed: {stdout[:200]}.") from error


def _stats(fields: Mapping[str, Any]) -> Stats:
    def text(docker: str, podman: str) -> str:
        return str(fields[docker] if docker in fields else fields[podman])

    memory, limit = _sizes(text("MemUsage", "mem_usage"))
    read, written = _sizes(text("BlockIO", "block_io"))
    received, sent = _sizes(text("NetIO", "net_io"))
    cpu, pids = text("CPUPerc", "cpu_percent").rstrip("%"), text("PIDs", "pids")
    return Stats(
        id=text("ID", "id"),
        cpu_percent=float(cpu) if re.fullmatch(r"[0-9.]+", cpu) else None,
        memory_bytes=memory,
        memory_limit_bytes=limit,
        pids=int(pids) if pids.isdecimal() else None,
        disk_read_bytes=read,
        disk_written_bytes=written,
        network_in_bytes=received,
        network_out_bytes=sent,
    )


def _sizes(text: str) -> tuple[int | None, int | None]:
    """Of ``1.5MiB / 2GB``; an engine writes ``--`` for what it does not know."""
    first, _, second = text.partition("/")
    return _size(first.strip()), _size(second.strip())


def _size(text: str) -> int | None:
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    number, letter, binary = match.groups()
    unit: int = (1024 if binary else 1000) ** _POWERS[letter.upper()]
    return round(float(number) * unit)
