"""A tool as one value: its name, what it takes, what it does and what it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mcp.types import CallToolResult, InputRequiredResult, TextContent, Tool, ToolAnnotations

from claude_mcp.config_names import Toolset
from claude_mcp.server.arguments import Arguments
from claude_mcp.server.elicitation import NOBODY, Elicitation
from claude_mcp.server.schemas import input_schema, output_schema
from claude_mcp.views.fitting import fitted
from claude_mcp.views.next_steps import next_step
from claude_mcp.views.results import Result
from claude_mcp.views.wire import clean

if TYPE_CHECKING:
    from claude_mcp.sessions.progress import Progress
    from claude_mcp.sessions.registry import Sessions


MAX_CHARS: Final = 75_000
"""Claude Code replaces a result of more than 25,000 tokens by a file; a token has 3 characters or
more in most texts."""
MAX_STEP_CHARS: Final = 1_000
"""It may quote what a session says."""
MAX_CHARS_META: Final = "anthropic/maxResultSizeChars"
"""With this, Claude Code takes results of up to that many characters, at most 500,000."""
CUT: Final = "parts were left out, because the result was too long: ask for less at once."


@dataclass(frozen=True, slots=True)
class Call:
    """One call: how to report progress, whether the client cancelled it, how to ask its user, and
    the client's name for itself."""

    progress: Progress
    cancelled_by_client: Callable[[], Awaitable[bool]]
    elicitation: Elicitation = NOBODY
    client: str = ""


@dataclass(frozen=True, slots=True)
class Declaration:
    name: str
    title: str
    description: str
    """For a model: when to use the tool, and what to do next."""
    arguments: type[Arguments]
    result: type[Result]
    text: Callable[[Any], str]
    """Makes the text of a ``result``; it holds the same facts, but for the next step."""
    call: Callable[[Sessions, Any, Call], Awaitable[Result | InputRequiredResult]]
    """Takes checked ``arguments``. It imports what works on sessions by itself, so that a client
    that only lists the tools does not wait for that."""
    hints: ToolAnnotations
    max_chars: int = MAX_CHARS
    """Upper bound of a result's JSON."""
    toolset: Toolset = Toolset.CORE
    """A server lists the tools of the configured sets; any tool can be called."""

    def tool(self) -> Tool:
        return Tool(
            name=self.name,
            title=self.title,
            description=self.description,
            input_schema=input_schema(self.arguments),
            output_schema=output_schema(self.result),
            annotations=self.hints,
            _meta={MAX_CHARS_META: self.max_chars} if self.max_chars > MAX_CHARS else None,
        )

    def answer(self, result: Result) -> CallToolResult:
        """The result for a client. Some give their model the structure alone, others the text."""
        whole, result = result, fitted(result, self.max_chars)
        step = next_step(result)
        if result is not whole:
            step = f"{step.removesuffix('.')}; {CUT}" if step else CUT
        step = clean(step)[:MAX_STEP_CHARS] if step else None
        text = clean(self.text(result))
        return CallToolResult(
            content=[TextContent(text=f"{text}\nNext: {step}" if step else text)],
            structured_content={**result.wire(), "next": step},
        )


READS: Final = ToolAnnotations(read_only_hint=True, open_world_hint=False)


def changes(*, destructive: bool, idempotent: bool, open_world: bool) -> ToolAnnotations:
    """The hints that differ from the protocol's defaults; each costs every conversation."""
    return ToolAnnotations(
        destructive_hint=None if destructive else False,
        idempotent_hint=True if idempotent else None,
        open_world_hint=None if open_world else False,
    )
