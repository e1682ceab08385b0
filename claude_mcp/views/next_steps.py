"""The next step after a result: one sentence for a model, which names tools and arguments.

Some clients give their model only the structured content, others only the text. The sentence
stands in both.
"""

from __future__ import annotations

from functools import singledispatch

from claude_mcp.views.commands import CommandOutcome, LogsResult
from claude_mcp.views.results import Result
from claude_mcp.views.sessions import CreateResult, CredentialsResult, DestroyResult, ListResult
from claude_mcp.views.turns import (
    CancelResult,
    PermissionResult,
    PromptResult,
    TurnsResult,
    TurnView,
)
from claude_mcp.views.usage import StatsResult
from claude_mcp.views.workspaces import ApplyResult, ChangesResult, DiscardResult, TransferResult


@singledispatch
def next_step(result: Result) -> str | None:
    """None if a caller has everything it asked for. A test sees that each kind is registered."""
    return None


@next_step.register
def _create(result: CreateResult) -> str:
    if result.network == "none":
        return (
            f'execute_command with sessionId "{result.session_id}" runs commands, and without a '
            "network prompts do not work; destroy_session when the work is done."
        )
    return (
        f'execute_in_session with sessionId "{result.session_id}" and a prompt; destroy_session '
        "when the work is done."
    )


@next_step.register
def _prompt(result: PromptResult) -> str | None:
    named = f'with sessionId "{result.session_id}"'
    if result.next_offset is not None:
        return _rest(result, "")
    if result.questions:
        own = any(question.kind == "question" for question in result.questions)
        return (
            f"respond_permission {named} and each requestId"
            f"{' (answers, where Claude asks questions)' if own else ''}; if in doubt, ask your "
            "user first; then get_turn waits for the result; unanswered requests are denied after "
            "a while."
        )
    match result.status:
        case "running" | "queued" | "needs_permission":
            return (
                f'get_turn {named} and turnId "{result.turn_id}" waits for the result; '
                "cancel_turn interrupts it."
            )
        case "failed" if result.needs_new_conversation:
            return f"execute_in_session {named} and newConversation true begins a new conversation."
        case "failed" if result.retry_at:
            return f"execute_in_session {named} again after {result.retry_at}."
        case "failed":
            return (
                f"fix the cause and send the prompt again with execute_in_session {named} (the "
                "conversation is kept), or read get_session_logs."
            )
        case "cancelled":
            return f"execute_in_session {named} continues the conversation, which is kept."
        case "completed":
            return None


def _rest(result: PromptResult, what: str) -> str:
    return (
        f'get_turn with sessionId "{result.session_id}", turnId "{result.turn_id}"{what} and '
        f"offset {result.next_offset} returns the next part."
    )


@next_step.register
def _turn(result: TurnView) -> str | None:
    if result.next_offset is not None and result.result is None and result.events:
        return _rest(result, f", event {result.events[0].number}")
    step = _prompt(result)
    if any(event.left_out for event in result.events):
        cut = "get_turn with event and the number of a cut event returns it in full"
        return f"{step.removesuffix('.')}; {cut}." if step else f"{cut}."
    return step


@next_step.register
def _turns(result: TurnsResult) -> str | None:
    named = f'with sessionId "{result.session_id}"'
    if result.cursor:
        return f'list_turns {named} and cursor "{result.cursor}" lists older turns.'
    return f"get_turn {named} and a turnId returns its result." if result.turns else None


@next_step.register
def _cancel(result: CancelResult) -> str:
    named = f'with sessionId "{result.session_id}"'
    match result.status:
        case None:
            return f"no turn was running; execute_in_session {named} sends a prompt."
        case "running" | "queued":
            return f'get_turn {named} and turnId "{result.turn_id}" waits for its end.'
        case "cancelled":
            return f"execute_in_session {named} continues the conversation, which is kept."
        case _:
            return f'get_turn {named} and turnId "{result.turn_id}" returns its result.'


@next_step.register
def _permission(result: PermissionResult) -> str:
    return f'get_turn with sessionId "{result.session_id}" waits for the result.'


@next_step.register
def _list(result: ListResult) -> str | None:
    if not result.sessions:
        return "create_session creates a session."
    asking = next((each for each in result.sessions if each.open_questions), None)
    if asking:
        return f'get_turn with sessionId "{asking.session_id}" returns what Claude asks.'
    if result.cursor:
        return f'list_sessions with cursor "{result.cursor}" lists more sessions.'
    return None


@next_step.register
def _credentials(result: CredentialsResult) -> str:
    return f'execute_in_session with sessionId "{result.session_id}" and a prompt uses them.'


@next_step.register
def _destroy(result: DestroyResult) -> None:
    return None


@next_step.register
def _changes(result: ChangesResult) -> str | None:
    named = f'with sessionId "{result.session_id}"'
    if result.next_offset is not None:
        return (
            f"get_changes {named}, full true, offset {result.next_offset} and until "
            f'"{result.until}" returns the next part.'
        )
    if result.more or not result.complete:
        return f"get_changes {named} and paths lists those of single directories."
    if result.diff is None and result.files:
        return f"get_changes {named} and full true returns the diff."
    return None


@next_step.register
def _apply(result: ApplyResult) -> None:
    return None


@next_step.register
def _discard(result: DiscardResult) -> None:
    return None


@next_step.register
def _transfer(result: TransferResult) -> None:
    return None


@next_step.register
def _command(result: CommandOutcome) -> str | None:
    asked = f'get_command with sessionId "{result.session_id}", commandId "{result.command_id}"'
    rest = f"with cursor {result.cursor}, what comes after this output; stop_command ends it."
    if result.status == "running":
        return f"{asked} waits for its end or returns, {rest}"
    if result.status == "left_running":
        return f"{asked} returns, {rest}"
    if result.more:
        return f"{asked} and cursor {result.cursor} returns the next part of the output."
    if result.timed_out:
        return "execute_command with a larger timeoutSeconds, or with background true for a server."
    if result.truncated:
        return f"{asked} and cursor 0 returns what is kept of all its output, in parts."
    return None


@next_step.register
def _stats(result: StatsResult) -> None:
    return None


@next_step.register
def _logs(result: LogsResult) -> str | None:
    if result.before is None:
        return None
    return (
        f'get_session_logs with sessionId "{result.session_id}" and before "{result.before}" '
        "returns older lines."
    )
