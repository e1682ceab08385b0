"""What each of the agent's refusals means to a caller.

The rule: every ``Code`` has one entry here, and nobody else turns a code into an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from claude_mcp.contract.codes import Code
from claude_mcp.contract.wording import named
from claude_mcp.errors import (
    AgentError,
    ClaudeMcpError,
    CommandNotFound,
    NextStep,
    QuestionNotOpen,
    SessionNotReady,
    TransferError,
    TurnNotFound,
    UsageError,
)
from claude_mcp.sessions.channel.answers import line

MAX_DETAIL_CHARS: Final = 500


class AgentRefused(AgentError):
    """The agent refused a request; ``detail`` is its own message, which may be forged."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Meaning:
    """``message`` may contain ``{detail}`` and ``{session}``."""

    error: type[ClaudeMcpError]
    message: str
    hint: str | None = None
    steps: tuple[NextStep, ...] = ()


_OTHER_VERSION: Final = (
    "The session may have been created by another version of claude-mcp; create a new session."
)

REFUSALS: Final[Mapping[Code, Meaning]] = {
    Code.MALFORMED: Meaning(
        AgentError, "The session's agent did not understand the request.", _OTHER_VERSION
    ),
    Code.UNKNOWN_OPERATION: Meaning(
        AgentError, "The session's agent cannot do this: {detail}.", _OTHER_VERSION
    ),
    Code.CANCELLED: Meaning(AgentError, "The request was cancelled."),
    Code.FAILED: Meaning(
        AgentError,
        "The session's agent failed: {detail}.",
        "Read the session's log.",
        (NextStep.READ_LOG,),
    ),
    Code.NO_ROOM: Meaning(
        SessionNotReady,
        "The session cannot start another process: it has reached its limit of processes or of "
        "open files.",
        "Wait until something that runs in it has ended, or destroy the session.",
        (NextStep.DESTROY,),
    ),
    Code.BAD_WORKDIR: Meaning(UsageError, "The session cannot use this workdir: {detail}."),
    Code.BAD_DESTINATION: Meaning(
        TransferError,
        "Nothing was copied: {detail}.",
        "Choose another destination, or allow what is there to be replaced.",
        (NextStep.OVERWRITE,),
    ),
    Code.NO_DIRECTORY: Meaning(
        TransferError,
        "Nothing was copied: {detail}.",
        "Choose another destination, or have the directory created.",
        (NextStep.CREATE_PARENTS,),
    ),
    Code.NO_TRANSFER: Meaning(
        TransferError, "Nothing was copied: the session gave up the transfer.", "Try again."
    ),
    Code.BAD_COMMAND: Meaning(UsageError, "The command's id must be a UUID."),
    Code.OTHER_COMMAND: Meaning(
        UsageError,
        "The id {detail} was used for another command.",
        "Repeat a command with its own text, or leave the id out.",
    ),
    Code.NO_COMMAND: Meaning(
        CommandNotFound,
        "Session {session!r} knows no command {detail}.",
        "A session knows only its latest commands.",
    ),
    Code.COMMAND_NOT_RECORDED: Meaning(
        SessionNotReady,
        "The command was not started, because the session could not record it: {detail}.",
        "Free some disk space with a command that has no id and is not in the background.",
    ),
    Code.TOO_MANY_COMMANDS: Meaning(
        SessionNotReady,
        "{detail} commands already run in session {session!r} with nobody waiting for them.",
        "Stop one of them.",
        (NextStep.STOP_COMMAND,),
    ),
    Code.NO_INPUT: Meaning(
        UsageError,
        "Nothing was written to the command's stdin: {detail}.",
        "Only a command in the background or with a tty keeps its stdin open.",
    ),
    Code.BAD_TURN: Meaning(UsageError, "The turn's id must be a UUID."),
    Code.OTHER_PROMPT: Meaning(
        UsageError,
        "The id {detail} was used for another prompt.",
        "Repeat a turn with its own prompt, or leave the id out.",
    ),
    Code.NO_NETWORK: Meaning(
        SessionNotReady,
        "Session {session!r} has no network, so it cannot reach its provider.",
        "Commands and transfers work. For prompts, create a session with "
        f"{named('network')} 'restricted' or 'open'.",
    ),
    Code.UNCONFIGURED: Meaning(
        SessionNotReady,
        "Session {session!r} has no credentials.",
        "Give it credentials.",
        (NextStep.GIVE_CREDENTIALS,),
    ),
    Code.BUSY: Meaning(
        SessionNotReady,
        "The session is busy with turn {detail}.",
        "Wait for the turn, cancel it, or queue this prompt.",
        (NextStep.READ_TURN, NextStep.CANCEL_TURN, NextStep.QUEUE_PROMPT),
    ),
    Code.ATTACHED: Meaning(
        SessionNotReady,
        "Somebody is attached to session {session!r} and talks to its Claude on a terminal.",
        "Prompts are accepted again when that person leaves. Commands and transfers work.",
    ),
    Code.FULL: Meaning(
        SessionNotReady,
        "{detail} prompts are already waiting for this session.",
        "Wait until some of them are done, or use another session.",
    ),
    Code.NOT_RECORDED: Meaning(
        SessionNotReady,
        "The prompt was not sent, because the session could not record it: {detail}.",
        "Free some disk space in the session, then send the prompt again.",
        (NextStep.RUN_COMMAND,),
    ),
    Code.NO_CHANGES: Meaning(
        UsageError, "What session {session!r} changed cannot be told: {detail}."
    ),
    Code.NOT_DISCARDED: Meaning(UsageError, "Nothing was discarded: {detail}."),
    Code.NO_WORK: Meaning(UsageError, "There is nothing to apply: {detail}."),
    Code.NO_TURN: Meaning(TurnNotFound, "Session {session!r} has no turn {detail}."),
    Code.NO_EVENT: Meaning(
        TurnNotFound,
        "Session {session!r} has no event {detail}.",
        "Old events are removed when the journal is full; results are kept.",
    ),
    Code.NOT_RUNNING: Meaning(TurnNotFound, "No turn is running in session {session!r}."),
    Code.DECIDED: Meaning(
        QuestionNotOpen,
        "The question is no longer open: {detail}.",
        "Read the turn to see what Claude has done since.",
        (NextStep.READ_TURN,),
    ),
    Code.NO_QUESTION: Meaning(
        QuestionNotOpen,
        "Session {session!r} has no open question {detail!r}.",
        "Read the turn to see which questions are open.",
        (NextStep.READ_TURN,),
    ),
    Code.BAD_ANSWERS: Meaning(
        UsageError,
        "This request of Claude's takes {detail} answers.",
        "Give each of its questions one answer, in order. A permission or a plan takes none: "
        "allow or deny it.",
        (NextStep.READ_TURN,),
    ),
}


def refused(code: str, detail: str) -> AgentRefused:
    """A refusal as the agent sent it; a code that is not declared is a failure."""
    try:
        return AgentRefused(Code(code), detail)
    except ValueError:
        return AgentRefused(Code.FAILED, detail)


def error_of(refusal: AgentRefused, session: str) -> ClaudeMcpError:
    """The error for a caller who knows the session as ``session``."""
    detail = line(refusal.detail, MAX_DETAIL_CHARS)
    if refusal.code is Code.NO_TURN and not detail:
        return TurnNotFound(f"Session {session!r} has no turn yet.")
    if refusal.code is Code.NO_COMMAND and not detail:
        return CommandNotFound(f"Session {session!r} has run no command that it still knows.")
    return _error(refusal.code, detail or "no reason was given", session)


def no_room() -> ClaudeMcpError:
    """For a session that cannot even serve another channel."""
    return _error(Code.NO_ROOM, "", "")


def code_of(error: ClaudeMcpError) -> Code | None:
    """Why the agent refused, if ``error`` was raised because it did."""
    return error.__cause__.code if isinstance(error.__cause__, AgentRefused) else None


def _error(code: Code, detail: str, session: str) -> ClaudeMcpError:
    meaning = REFUSALS[code]
    message = meaning.message.format(detail=detail, session=session)
    return meaning.error(message, hint=meaning.hint, steps=meaning.steps)
