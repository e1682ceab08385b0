"""Passes what Claude asks to the client's user, in the way of the negotiated protocol.

Up to 2025-11-25 the server asks the client during the call. Since 2026-07-28 the call ends with
the questions, and the client repeats it with the answers; the repeated call attaches to its turn.
A client that cannot ask its user gets the questions as the result.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mcp import MCPError
from mcp.server import ServerRequestContext
from mcp.types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    ElicitRequest,
    ElicitResult,
    InputRequiredResult,
)
from mcp.types.version import is_version_at_least
from pydantic import ValidationError

from claude_mcp.server import forms

if TYPE_CHECKING:
    from claude_mcp.sessions.turns.permissions import Answer, Ask
    from claude_mcp.sessions.turns.results import Question, TurnResult

logger = logging.getLogger(__name__)

REPEATED_SINCE: Final = "2026-07-28"
MAX_ROUNDS: Final = 8
"""How often one call may be repeated; clients give up after ten times."""


@dataclass(frozen=True)
class Elicitation:
    """How to ask the client of one call; ``turn_id`` is set if the call is a repeated one."""

    context: ServerRequestContext[Any, Any] | None = None
    turn_id: str | None = None
    rounds: int = 0
    answers: Mapping[str, Any] = field(default_factory=dict)
    """The client's answers, by request id."""

    @classmethod
    def of(
        cls, context: ServerRequestContext[Any, Any], params: CallToolRequestParams
    ) -> Elicitation:
        """Raises MCPError if the state in the repeated call is not ours."""
        if params.request_state is None:
            return cls(context)
        try:
            state = json.loads(params.request_state)
            turn_id, rounds = str(uuid.UUID(state["turnId"])), int(state["rounds"])
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            ArithmeticError,
            RecursionError,
        ):
            raise MCPError(INVALID_PARAMS, "requestState was not issued by this server.") from None
        return cls(context, turn_id, rounds, params.input_responses or {})

    @property
    def ask(self) -> Ask | None:
        """Asks the client's user; None if that is not possible during this call."""
        if self.turn_id is not None:
            return self._look_up
        return self._elicit if self.can_be_asked and not self._repeats_calls else None

    @property
    def _repeats_calls(self) -> bool:
        return self.context is not None and is_version_at_least(
            self.context.protocol_version, REPEATED_SINCE
        )

    @property
    def can_be_asked(self) -> bool:
        capabilities = self.context.session.client_capabilities if self.context else None
        elicitation = capabilities.elicitation if capabilities else None
        # A capability without any mode means the form, once the only one.
        return elicitation is not None and (elicitation.form is not None or elicitation.url is None)

    async def _look_up(self, question: Question) -> Answer | None:
        answer = self.answers.get(question.request_id)
        return forms.answer(question, answer) if isinstance(answer, ElicitResult) else None

    async def _elicit(self, question: Question) -> Answer | None:
        assert self.context is not None
        try:
            asked = forms.form(question)
            answer = await self.context.session.elicit_form(
                asked.message, asked.requested_schema, related_request_id=self.context.request_id
            )
        except (MCPError, ValidationError) as error:  # it cannot after all, or has disconnected
            logger.info("the client did not answer a question: %s", type(error).__name__)
            return None
        return forms.answer(question, answer)

    def required(self, turn: TurnResult) -> InputRequiredResult | None:
        """The result that asks the client to repeat the call with answers, if there is need."""
        asked = [each for each in turn.questions if not self._was_dismissed(each)]
        if not (asked and self._repeats_calls and self.can_be_asked):
            return None
        if len(asked) < len(turn.questions) or self.rounds >= MAX_ROUNDS:
            return None
        return InputRequiredResult(
            input_requests={
                each.request_id: ElicitRequest(params=forms.form(each)) for each in asked
            },
            request_state=json.dumps({"turnId": turn.turn_id, "rounds": self.rounds + 1}),
        )

    def _was_dismissed(self, question: Question) -> bool:
        """Whether the client's user has seen the question and did not answer it."""
        given = self.answers.get(question.request_id)
        if given is None:
            return False
        return not isinstance(given, ElicitResult) or forms.answer(question, given) is None


NOBODY: Final = Elicitation()
"""For a client that cannot be asked."""
