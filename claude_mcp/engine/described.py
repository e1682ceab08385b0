"""Reads how an engine describes its containers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from claude_mcp.engine.engine import Container, OwnMount
from claude_mcp.engine.spec import Limits
from claude_mcp.errors import EngineError


def _limits(fields: Mapping[str, Any]) -> Limits:
    """Engines write no limit as 0, -1 or null."""
    host = fields.get("host") or {}
    memory, nano_cpus, pids = (
        value if isinstance(value := host.get(name), int) and value > 0 else None
        for name in ("Memory", "NanoCpus", "PidsLimit")
    )
    return Limits(memory, nano_cpus and nano_cpus / 1e9, pids)


def parse_states(stdout: str, label: str) -> list[Container]:
    """Read the output of ``ps`` with ``questions.STATES_FORMAT``: little but ids and names.

    Their state is one word for Docker ("running"), and words for people for Podman ("Up 2 hours").
    """
    found = []
    for line in stdout.splitlines():
        id, _, rest = line.partition("\t")
        name, _, state = rest.partition("\t")
        status = state.strip().partition(" ")[0].lower()
        status = "running" if status == "up" else status
        found.append(Container(id, name, "", status, 0, "", "", {label: ""}))
    return found


def parse_mounts(stdout: str) -> list[OwnMount]:
    """Read the output of ``inspect`` with the format of ``questions.mounts_argv``.

    Raises:
        EngineError: it is malformed.
    """
    try:
        return [
            OwnMount(
                source=each.get("Source") or "",
                target=each["Destination"],
                is_bind=each["Type"] == "bind",
                writable=bool(each["RW"]),
            )
            for each in json.loads(stdout) or []
        ]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise EngineError(
            f"The engine's answer to inspect is malformed: {stdout[:200]}."
        ) from error


def parse_inspect(stdout: str) -> list[Container]:
    """Read the output of ``inspect`` with ``questions.INSPECT_FORMAT``: one object per line."""
    found = []
    for line in stdout.splitlines():
        if not line.strip():
            continue
        try:
            fields: dict[str, Any] = json.loads(line)
            found.append(
                Container(
                    id=fields["id"],
                    name=fields["name"].lstrip("/"),
                    created=fields["created"],
                    status=fields["status"],
                    exit_code=fields["exitCode"],
                    error=fields["error"] or "",
                    image=fields["image"],
                    labels=fields["labels"] or {},
                    started=fields["started"],
                    finished=fields["finished"],
                    limits=_limits(fields),
                )
            )
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise EngineError(
                f"The engine's answer to inspect is malformed: {line[:200]}."
            ) from error
    return found
