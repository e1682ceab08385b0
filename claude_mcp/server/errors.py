"""The one place where an error becomes a tool error.

A domain error is its message and its hint. Anything else is a fault of ours: its type and
message go to the caller, its traceback to the log.
"""

from __future__ import annotations

import logging

from claude_mcp.errors import ClaudeMcpError, single_cause
from claude_mcp.views.wire import clean

logger = logging.getLogger(__name__)


def error_text(error: Exception, tool: str) -> str:
    """What the caller reads."""
    cause = single_cause(error)
    if isinstance(cause, ClaudeMcpError):
        logger.info("%s: %s", tool, cause)
        logger.debug("%s failed", tool, exc_info=cause)
        return clean(f"{cause.message}\n{cause.hint}" if cause.hint else cause.message)
    logger.error("%s failed unexpectedly", tool, exc_info=error)
    return clean(f"Internal error: {type(cause).__name__}: {cause}, see the server's log.")
