"""The client's side of MCP Tasks for tests: calls that may become tasks, and what tasks answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from mcp import Client
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.types import CallToolResult, Request, RequestParams, Result
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

IDENTIFIER = "io.modelcontextprotocol/tasks"


class Task(Result):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    result_type: Literal["task"]
    task_id: str
    status: str
    status_message: str
    created_at: str
    last_updated_at: str
    ttl_ms: int | None
    poll_interval_ms: int


async def _unfinished(task: Task, context: ClaimContext) -> CallToolResult:
    raise AssertionError("a test finishes its tasks itself")


class Tasks(ClientExtension):
    """Declares the extension."""

    identifier = IDENTIFIER

    def claims(self) -> Sequence[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=Task, resolve=_unfinished)]


class Params(RequestParams):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")

    task_id: str


class TaskRequest(Request[Params, str]):
    name_param: ClassVar[str | None] = "taskId"


class Answer(Result):
    model_config = ConfigDict(extra="allow")


async def call(client: Client, tool: str, **arguments: Any) -> Task | CallToolResult:
    result: BaseModel = await client.session.call_tool(tool, arguments, allow_claimed=True)
    assert isinstance(result, Task | CallToolResult)
    return result


async def ask(client: Client, method: str, task_id: str, **more: Any) -> dict[str, Any]:
    """``tasks/get`` and its like; without what is the same in every answer."""
    request = TaskRequest(method=method, params=Params(task_id=task_id, **more))
    sent = await client.session.send_request(request, Answer)
    answer = sent.model_dump(by_alias=True, exclude_unset=True)
    assert answer.pop("resultType") == "complete"
    answer.pop("_meta", None)
    return answer
