"""Durations, costs and plurals as text."""

from __future__ import annotations

from claude_mcp.contract.numbers import counted


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


def usd(cost: float) -> str:
    return f"${cost:.4f}"


def turn_figures(duration_ms: int, model_calls: int, cost_usd: float) -> str:
    """What a turn took: ``12.3 s, 3 model calls, $0.0123``."""
    parts = [duration(duration_ms), counted(model_calls, "model call")]
    return ", ".join([*parts, usd(cost_usd)] if cost_usd else parts)
