"""What a caller may ask for one turn only; each option is declared here once."""

from __future__ import annotations

from dataclasses import dataclass, field

from claude_mcp.sessions.option import option


@dataclass(frozen=True, slots=True)
class TurnOptions:
    """None means as the session has it."""

    tools: tuple[str, ...] | None = field(
        default=None,
        metadata=option(
            "the only tools for this turn, such as Read, Edit, Bash",
            flag="--tools",
            metavar="A,B",
            terminal="the only Claude Code tools for this turn",
        ),
    )
    model: str | None = field(
        default=None, metadata=option("Claude model for this turn", flag="--model")
    )
    max_turns: int | None = field(
        default=None,
        metadata=option(
            "stop after this many model calls", flag="--max-turns", metavar="N", minimum=1
        ),
    )
    max_budget_usd: float | None = field(
        default=None,
        metadata=option("stop at this cost", flag="--max-budget-usd", metavar="USD", above=0),
    )
    new_conversation: bool = field(
        default=False,
        metadata=option(
            "forget the session's earlier prompts",
            flag="--new-conversation",
        ),
    )
