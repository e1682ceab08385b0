"""One answer for all who ask the same at the same time.

Whoever asks gets an answer to a question that was put after that: those who come while it is being
answered share the next one. So any number of callers costs two questions at a time, and none of
them sees an older state than if it had asked alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

T = TypeVar("T")


class _Question(Generic[T]):
    def __init__(self) -> None:
        self.over = anyio.Event()
        self.answer: list[T] = []
        self.failure: Exception | None = None


class Shared(Generic[T]):
    """``work`` is done in ``tasks``: a caller that leaves does not keep the others from it."""

    def __init__(self, work: Callable[[], Awaitable[T]], tasks: TaskGroup) -> None:
        self._work = work
        self._tasks = tasks
        self._next: _Question[T] | None = None
        self._answering = False

    async def ask(self) -> T:
        question = self._next
        if question is None:
            question = self._next = _Question()
            if not self._answering:
                self._answering = True
                self._tasks.start_soon(self._answer)
        await question.over.wait()
        if question.failure is not None:
            raise question.failure
        if not question.answer:
            raise anyio.ClosedResourceError
        return question.answer[0]

    async def _answer(self) -> None:
        question: _Question[T] | None = None
        try:
            while self._next is not None:
                question, self._next = self._next, None
                try:
                    question.answer.append(await self._work())
                except Exception as error:  # those who ask raise it
                    question.failure = error
                finally:
                    question.over.set()
        finally:
            self._answering = False
            if self._next is not None:  # nobody will answer it any more
                self._next.over.set()
