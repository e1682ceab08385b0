"""Durations, costs, plurals and silent engines as text."""

from __future__ import annotations

import math
from collections.abc import Mapping

from claude_mcp.contract.numbers import counted
from claude_mcp.sessions.progress import BYTES, Amount


def duration(milliseconds: int) -> str:
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def elapsed(milliseconds: int) -> str:
    """A time that is still going on, in its two largest units: ``2 h 5 min``."""
    seconds = milliseconds // 1000
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes} min {seconds % 60} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(count: int) -> str:
    """Bytes in the largest unit that leaves at least one: ``1.5 GiB``."""
    amount, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount, units = amount / 1024, units[1:]
    return f"{amount:.3g} {units[0]}" if amount < 1000 else f"{amount:.0f} {units[0]}"


def amount_text(amount: Amount) -> str:
    """How much is done: ``3 MiB of 12 MiB``, ``4 of 12 steps``, ``1 file``."""
    if amount.unit == BYTES:
        done = size(amount.done)
        return done if amount.total is None else f"{done} of {size(amount.total)}"
    if amount.total is None:
        return counted(amount.done, amount.unit)
    return f"{amount.done} of {counted(amount.total, amount.unit)}"


def rate_text(amount: Amount, per_second: float) -> str:
    """How fast that is, and how long the rest takes: ``1.2 MiB/s, 8 s left``."""
    if amount.unit == BYTES:
        text = f"{size(round(per_second))}/s"
    else:
        text = f"{per_second:.2g} {amount.unit}s/s"
    if amount.total is None or amount.done >= amount.total:
        return text
    return f"{text}, {elapsed(math.ceil((amount.total - amount.done) / per_second) * 1000)} left"


def reported(message: str, amount: Amount | None) -> str:
    """A report of work as text."""
    return message if amount is None else f"{message}: {amount_text(amount)}"


def usd(cost: float) -> str:
    return f"${cost:.4f}"


def turn_figures(duration_ms: int, model_calls: int, cost_usd: float) -> str:
    """What a turn took: ``12.3 s, 3 model calls, $0.0123``."""
    parts = [duration(duration_ms), counted(model_calls, "model call")]
    return ", ".join([*parts, usd(cost_usd)] if cost_usd else parts)


def silent(engines: Mapping[str, str]) -> list[str]:
    """A line for each engine that does not answer; ``engines`` has the reasons."""
    return [f"Engine {name} does not answer: {problem}" for name, problem in engines.items()]
