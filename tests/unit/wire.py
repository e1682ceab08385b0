"""Turns as they leave us: structured content of a tool, or what ``--json`` prints."""

from __future__ import annotations

from typing import Any

TURN = "6b0b0f3e-0000-4000-8000-000000000000"
MOMENT = "2026-01-02T03:04:05Z"


def event(number: int, kind: str, text: str, left_out: int = 0) -> dict[str, Any]:
    return {"number": number, "time": MOMENT, "kind": kind, "text": text, "leftOut": left_out}


def turn(session: str, **changes: Any) -> dict[str, Any]:
    """One that runs, as ``execute_in_session`` gives it; ``get_turn`` adds ``events``."""
    return {
        "sessionId": session,
        "turnId": TURN,
        "status": "running",
        "result": None,
        "error": None,
        "conversationId": None,
        "numTurns": 0,
        "durationMs": 0,
        "costUsd": 0.0,
        "usage": {},
        "permissionDenials": [],
        "questions": [],
        "notes": [],
        "cursor": 2,
        "model": None,
        "lastStep": None,
        "retryAt": None,
        "needsNewConversation": False,
        "nextOffset": None,
        **changes,
    }
