"""The one place where an error becomes a tool error.

The caller gets the message and the hint of a domain error. Any other error is our own fault: the
caller gets its type and message, the log its traceback.
"""

from __future__ import annotations

import logging
from typing import Final

from mcp.types import CallToolResult, TextContent

from claude_mcp.errors import ClaudeMcpError, NextStep, told
from claude_mcp.views.wire import clean

logger = logging.getLogger(__name__)

STEPS: Final = {
    NextStep.READ_TURN: "get_turn with sessionId",
    NextStep.STOP_COMMAND: "stop_command with sessionId and commandId",
    NextStep.CANCEL_TURN: "cancel_turn with sessionId",
    NextStep.QUEUE_PROMPT: "execute_in_session with whenBusy 'wait'",
    NextStep.GIVE_CREDENTIALS: (
        "set_credentials (toolset credentials) with sessionId and providerOptions"
    ),
    NextStep.READ_LOG: "get_session_logs with sessionId",
    NextStep.RUN_COMMAND: "execute_command with sessionId and command",
    NextStep.DESTROY: "destroy_session with sessionId",
    NextStep.OVERWRITE: "overwrite true",
    NextStep.APPLY: "apply_changes with sessionId",
    NextStep.DISCARD_WORK: "discardChanges true",
    NextStep.CREATE_PARENTS: "createParents true",
    NextStep.CREATE: "create_session with projectPath",
}
"""The tool and its arguments, or an argument of the same tool, for each step."""


def failure(error: Exception, tool: str) -> CallToolResult:
    """The tool error of a call."""
    return CallToolResult(content=[TextContent(text=error_text(error, tool))], is_error=True)


def error_text(error: Exception, tool: str) -> str:
    """The text of the tool error."""
    cause = told(error)
    if isinstance(cause, ClaudeMcpError):
        logger.info("%s: %s", tool, cause)
        logger.debug("%s failed", tool, exc_info=cause)
        advice = cause.advice(STEPS)
        return clean(f"{cause.message}\n{advice}" if advice else cause.message)
    logger.error("%s failed unexpectedly", tool, exc_info=error)
    return clean(f"Internal error: {type(cause).__name__}: {cause}; see the server's log.")
