"""What pods take of their nodes, read from the output of ``kubectl top``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from claude_mcp.engine.kubernetes import marks
from claude_mcp.engine.kubernetes.described import quantity
from claude_mcp.engine.stats import Stats

COLUMNS: Final = 3


def parse(stdout: str, refs: Sequence[str]) -> list[Stats]:
    """Read a pod's name, processors and memory a line; other numbers are not measured."""
    ids = {marks.pod_name(ref): ref for ref in refs}
    found = []
    for line in stdout.splitlines():
        columns = line.split()
        if len(columns) < COLUMNS or columns[0] not in ids:
            continue
        cpus, memory = map(quantity, columns[1:COLUMNS])
        found.append(
            Stats(
                id=ids[columns[0]],
                cpu_percent=None if cpus is None else cpus * 100,
                memory_bytes=None if memory is None else int(memory),
                memory_limit_bytes=None,
                pids=None,
                disk_read_bytes=None,
                disk_written_bytes=None,
                network_in_bytes=None,
                network_out_bytes=None,
            )
        )
    return found
