"""The session's turns as a list, newest first, from their records."""

from __future__ import annotations

import time
from collections.abc import Mapping

from claude_mcp.agent.channel.connections import RequestError
from claude_mcp.agent.store.records import Record, Records, Result
from claude_mcp.claude.events import headline
from claude_mcp.contract.codes import Code
from claude_mcp.contract.numbers import amount
from claude_mcp.contract.operations import ListTurns, TurnList, TurnSummary

MAX_LISTED = 100
LOST = (
    "The session's container was stopped while the turn was running. The model may have seen the "
    "prompt, so it is not sent again automatically."
)
NOT_SENT = (
    "The session's container was stopped before the prompt was sent. Send it again as a new turn."
)


def outcome(record: Record) -> Result:
    """The result of a turn that is over, also of one that never had any."""
    lost = {"status": "failed", "error": LOST if record.sent else NOT_SENT}
    return record.result or lost


def page(records: Records, going: Mapping[str, str], args: ListTurns) -> TurnList:
    """One part of the list; ``going`` has the status of each turn that is not over, oldest first.

    Raises:
        RequestError: there is no turn with the id from which to read on.
    """
    ids = [each for each in records.ids() if each not in going]
    ids += going
    ids.reverse()
    if args.before is not None:
        if args.before not in ids:
            raise RequestError(Code.NO_TURN, args.before)
        ids = ids[ids.index(args.before) + 1 :]
    limit = max(1, min(args.limit, MAX_LISTED))
    found = (records.get(each) for each in ids[:limit])
    turns = (_summary(record, going.get(record.turn_id)) for record in found if record is not None)
    return TurnList(tuple(turns), len(ids) > limit)


def _summary(record: Record, status: str | None) -> TurnSummary:
    result: Result = {"status": status} if status is not None else outcome(record)
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.at)) if record.at else None
    return TurnSummary(
        turn_id=record.turn_id,
        status=str(result["status"]),
        at=moment,
        prompt=headline(record.text) or None,
        cost_usd=amount(result.get("costUsd")) or 0.0,
        duration_ms=int(amount(result.get("durationMs")) or 0),
        error=headline(str(result.get("error") or "")) or None,
    )
