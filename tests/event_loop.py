"""Keeps one failing async test from failing those after it.

All async tests of a process run in one task of one event loop. ``pytest.fail`` and a
``pytest.raises`` without an error raise what is no ``Exception``. On its own pytest knows it; in a
task group's ``BaseExceptionGroup`` it would end the task, and with it every later async test. A
test that takes too long is cancelled, so that it ends before pytest-timeout leaves it running.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any

import anyio
import pytest

OF_A_TEST = (Exception, pytest.fail.Exception, pytest.skip.Exception)
SHARE = 0.9
"""Of the time that pytest-timeout gives a test and its fixtures."""


def failing_alone(
    test: Callable[..., Awaitable[None]], seconds: float, late: Callable[[], object]
) -> Callable[..., Awaitable[None]]:
    """``late`` is called if the test took longer than that."""

    @wraps(test)
    async def wrapped(**arguments: Any) -> None:
        try:
            with anyio.move_on_after(seconds) as scope:
                await test(**arguments)
        except BaseExceptionGroup as group:
            if isinstance(group, Exception) or group.split(OF_A_TEST)[1]:
                raise
            raise AssertionError("The test failed in a task group.") from group
        if scope.cancelled_caught:
            late()
            pytest.fail(f"The test took longer than {seconds:g} s.")

    return wrapped


def timeout_of(item: pytest.Function) -> float:
    option = item.config.getoption("timeout")
    marker = item.get_closest_marker("timeout")
    if option is None and marker is not None:
        option = marker.args[0]
    return float(item.config.getini("timeout") if option is None else option) or float("inf")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    # Hypothesis has a function of its own, whose inner one is async.
    if iscoroutinefunction(pyfuncitem.obj) and not hasattr(pyfuncitem.obj, "hypothesis"):
        # Else it may end pytest itself, which is about to write the report.
        late = partial(pyfuncitem.config.hook.pytest_timeout_cancel_timer, item=pyfuncitem)
        pyfuncitem.obj = failing_alone(pyfuncitem.obj, SHARE * timeout_of(pyfuncitem), late)
    return (yield)
