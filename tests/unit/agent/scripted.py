"""What tests ask of a scripted Claude Code, and what its answers look like."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from claude_mcp.contract.handover import Handover

if TYPE_CHECKING:
    from tests.unit.agent.conftest import Caller

T = TypeVar("T")
PATIENCE_SECONDS = 60.0
SETTINGS = {"permissionMode": "bypass", "idleSeconds": 1000, "permissionSeconds": 1000}
SECRETS = {
    "provider": "anthropic",
    "credential": {"kind": "apiKey", "value": "sk-turns-0123"},
    "proxies": {},
    "secretValues": [],
}


def complete(secrets: Mapping[str, Any]) -> dict[str, Any]:
    """What a host hands over as JSON, completed where a test says nothing."""
    credentials = {} if secrets.keys() <= {"mcpConfig", "mcpSecretValues"} else SECRETS
    servers: dict[str, Any] = {"mcpSecretValues": []} if "mcpConfig" in secrets else {}
    return {**credentials, **servers, **secrets}


def handover(secrets: Mapping[str, Any]) -> Handover:
    return Handover.from_json(complete(secrets))


INTERRUPTED = "The turn was interrupted; the conversation is kept."

COMPLETED: dict[str, Any] = {
    "status": "completed",
    "result": "done",
    "error": None,
    "conversationId": "c-1",
    "numTurns": 2,
    "durationMs": 5,
    "costUsd": 0.25,
    "usage": {"input_tokens": 3},
    "permissionDenials": [],
    "notes": [],
    "events": [],
    "cursor": 0,
}
"""The answer to ``result()`` when nothing was told before, but for the turn's id."""

CANCELLED = {
    **COMPLETED,
    "status": "cancelled",
    "result": None,
    "error": INTERRUPTED,
}
"""The answer to ``aborted()``."""


def turn_id() -> str:
    return str(uuid.uuid4())


def ask(caller: Caller, program: str, **args: Any) -> dict[str, Any]:
    """The answer to a prompt, but for the turn's id, or its error."""
    args = {"turnId": turn_id(), "prompt": program, **args}
    message = caller.ask("turn", **args)
    if "error" in message:
        return message
    answer: dict[str, Any] = message["ok"]
    assert answer.pop("turnId") == args["turnId"]
    return answer


def until(condition: Callable[[], T | None]) -> T:
    """Ask again and again, and return what is true at last."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, "it never came to be"
    return value


def told(answer: dict[str, Any]) -> list[tuple[int, str, str, int]]:
    """Number, kind, text and left-out characters of an answer's events."""
    return [(e["number"], e["kind"], e["text"], e["leftOut"]) for e in answer["events"]]
