"""Checks each line of stdin; answers what is no JSON-RPC message.

The SDK drops such lines, and the client waits for an answer until its own time limit.
"""

from __future__ import annotations

import codecs
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from anyio.abc import TaskGroup
from mcp.types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    JSONRPCNotification,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError

from claude_mcp.server.stdio import LINE_BYTES, Lines, Output

logger = logging.getLogger(__name__)

TOO_LONG: Final = f"Parse error: the line is longer than {LINE_BYTES} bytes."
NO_JSON: Final = "Parse error: the line is not one message of JSON in UTF-8."
TOO_DEEP: Final = "Parse error: the line is nested too deeply."
NO_MESSAGE: Final = "Invalid request: {}."
NO_ID: Final = "the id must be a string or an integer"

UNREAD_ANSWERS: Final = 100
"""A client that leaves this many of our answers unread gets no more of them."""


class Messages:
    """The lines of stdin that are JSON-RPC messages.

    Answers are written in ``tasks``: a client that does not read them must not keep us from
    noticing that its stdin has ended.
    """

    def __init__(self, lines: Lines, output: Output, tasks: TaskGroup) -> None:
        self._lines = lines
        self._output = output
        self._tasks = tasks
        self._unread = 0

    async def __aiter__(self) -> AsyncIterator[str]:
        async for line in self._lines:
            if line is None:
                self._answer(None, PARSE_ERROR, TOO_LONG)
                continue
            # Some programs begin their output with a byte order mark.
            line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                try:
                    message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                except ValidationError as error:
                    for response in self._reject(line, error):
                        yield response
                else:
                    # The SDK takes a request with an id of another type for a notification.
                    if isinstance(message, JSONRPCNotification) and "id" in json.loads(line):
                        self._answer(None, INVALID_REQUEST, NO_MESSAGE.format(NO_ID))
                    else:
                        yield line.decode()

    def _reject(self, line: bytes, error: ValidationError) -> Iterator[str]:
        """Answer a request; yield a failure in place of a response that cannot be read."""
        try:
            # No more than the id and the kind of message is taken from this.
            message = json.loads(line.decode("utf-8", "replace"), parse_int=_integer)
        except (ValueError, RecursionError) as unreadable:
            deep = isinstance(unreadable, RecursionError)
            self._answer(None, PARSE_ERROR, TOO_DEEP if deep else NO_JSON)
            return
        text = NO_MESSAGE.format(_reason(line, message, error))
        if not isinstance(message, dict):
            self._answer(None, INVALID_REQUEST, text)
            return
        known = message.get("id")
        identifier = known if isinstance(known, str | int) and type(known) is not bool else None
        if "method" in message and "id" not in message:
            logger.warning("ignored a notification: %s", text)
        elif "method" not in message and ("result" in message or "error" in message):
            logger.warning("a response of the client cannot be read: %s", text)
            yield _error(identifier, INVALID_REQUEST, text)
        else:
            self._answer(identifier, INVALID_REQUEST, text)

    def _answer(self, identifier: str | int | None, code: int, text: str) -> None:
        # Never the line itself: it may contain secrets.
        if self._unread >= UNREAD_ANSWERS:
            logger.warning("left a line unanswered: the client does not read: %s", text)
            return
        logger.warning("answered a line with error %d: %s", code, text)
        self._unread += 1
        self._tasks.start_soon(self._write, _error(identifier, code, text) + "\n")

    async def _write(self, answer: str) -> None:
        await self._output.write(answer)
        self._unread -= 1


def _integer(digits: str) -> int | None:
    try:
        return int(digits)
    except ValueError:  # the interpreter converts a few thousand digits at most
        return None


def _reason(line: bytes, message: Any, error: ValidationError) -> str:
    """What is wrong with valid JSON, without quoting it."""
    if any(each["type"] == "json_invalid" for each in error.errors(include_input=False)):
        try:
            line.decode()
        except UnicodeDecodeError:
            return "it is not valid UTF-8"
        return (
            "it is nested too deeply, a number has thousands of digits, or a string contains half "
            "of a surrogate pair"
        )
    if isinstance(message, list):
        return "batches are not supported"
    if isinstance(message, dict) and not isinstance(message.get("params", {}), dict):
        return "params must be an object"
    return "it is no JSON-RPC 2.0 message"


def _error(identifier: str | int | None, code: int, text: str) -> str:
    error = {"code": code, "message": text}
    return json.dumps({"jsonrpc": "2.0", "id": identifier, "error": error})
