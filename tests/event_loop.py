"""Keeps one failing async test from failing those after it.

All async tests of a process run in one task of one event loop. ``pytest.fail`` and a
``pytest.raises`` without an error raise what is no ``Exception``. On its own pytest knows it; in a
task group's ``BaseExceptionGroup`` it would end the task, and with it every later async test.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Generator
from inspect import iscoroutinefunction
from typing import Any

import pytest

OF_A_TEST = (Exception, pytest.fail.Exception, pytest.skip.Exception)


def failing_alone(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def wrapped(**arguments: Any) -> None:
        try:
            await test(**arguments)
        except BaseExceptionGroup as group:
            if isinstance(group, Exception) or group.split(OF_A_TEST)[1]:
                raise
            raise AssertionError("The test failed in a task group.") from group

    return wrapped


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    # Hypothesis has a function of its own, whose inner one is async.
    if iscoroutinefunction(pyfuncitem.obj) and not hasattr(pyfuncitem.obj, "hypothesis"):
        pyfuncitem.obj = failing_alone(pyfuncitem.obj)
    return (yield)
