"""Why the agent refuses a request.

The host maps each code to one error (``sessions.channel.refusals``).
"""

from __future__ import annotations

import enum


class Code(str, enum.Enum):
    """The ``code`` of an error that answers a request. ``message`` is a detail, as noted here."""

    # The request itself.
    MALFORMED = "malformed"
    UNKNOWN_OPERATION = "unknown-operation"
    CANCELLED = "cancelled"
    """The request was cancelled before the agent acted on it."""
    FAILED = "failed"
    """The operation raised an exception, which the message describes."""
    NO_ROOM = "no-room"
    """The session has reached its limit of processes or of open files."""

    # Commands and transfers; the message says why.
    BAD_WORKDIR = "bad-workdir"
    BAD_DESTINATION = "bad-destination"
    NO_DIRECTORY = "no-directory"
    NO_TRANSFER = "no-transfer"
    BAD_COMMAND = "bad-command"
    """The command's id is not a UUID."""
    OTHER_COMMAND = "other-command"
    """The id, which is the message, was used for another command."""
    NO_COMMAND = "no-command"
    """The message is the id that was asked for, or empty if there was no command."""
    COMMAND_NOT_RECORDED = "command-not-recorded"
    """The command could not be recorded, so it was not started; the message says why."""
    TOO_MANY_COMMANDS = "too-many-commands"
    """The message is how many run already."""
    NO_INPUT = "no-input"
    """Nothing can be written to the command's stdin; the message says why."""

    # Turns.
    BAD_TURN = "bad-turn"
    """The turn's id is not a UUID."""
    OTHER_PROMPT = "other-prompt"
    """The turn, whose id is the message, was given another prompt."""
    NO_NETWORK = "no-network"
    UNCONFIGURED = "unconfigured"
    """The session has no credentials."""
    BUSY = "busy"
    """Another turn is running; the message is its id."""
    ATTACHED = "attached"
    """Somebody has the conversation on a terminal."""
    FULL = "full"
    """The queue is full; the message is its length."""
    NOT_RECORDED = "not-recorded"
    """The turn could not be recorded, so its prompt was not sent; the message says why."""
    NO_TURN = "no-turn"
    """The message is the id that was asked for, or empty if the session never had a turn."""
    NO_EVENT = "no-event"
    """The message is the number that was asked for."""
    NOT_RUNNING = "not-running"

    # The workspace; the messages say why.
    NO_CHANGES = "no-changes"
    """It cannot be told what changed."""
    NOT_DISCARDED = "not-discarded"
    NO_WORK = "no-work"
    """There is nothing to take, or it cannot be taken."""

    # Permission questions.
    DECIDED = "decided"
    """The question is closed; the message says how."""
    NO_QUESTION = "no-question"
    """The message is the question's id."""
    BAD_ANSWERS = "bad-answers"
    """The message is how many answers the request takes; 0 if it is not a question."""
