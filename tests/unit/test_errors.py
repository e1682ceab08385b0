"""The errors that users meet, and how they come out of task groups."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from claude_mcp import errors
from claude_mcp.cli import running
from claude_mcp.cli.dispatch import PERFORM
from claude_mcp.errors import (
    ClaudeMcpError,
    EngineError,
    HostError,
    NextStep,
    UsageError,
    single_cause,
    told,
    ungrouped,
)
from claude_mcp.server import errors as server_errors
from claude_mcp.server.tools import BY_NAME


def test_every_error_has_the_exit_code_of_its_class() -> None:
    kinds = [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, ClaudeMcpError)
    ]
    assert {kind.__name__: kind.exit_code for kind in kinds} == {
        "ClaudeMcpError": 1,
        "UsageError": 2,
        "ConfigError": 2,
        "SessionNotFound": 3,
        "NotASession": 3,
        "SessionAmbiguous": 3,
        "SessionExists": 3,
        "WorkUnsaved": 4,
        "TurnNotFound": 3,
        "CommandNotFound": 3,
        "QuestionNotOpen": 3,
        "SessionNotReady": 4,
        "TooManySessions": 4,
        "EngineError": 5,
        "EngineNotFound": 5,
        "EngineUnavailable": 5,
        "ImageNotFound": 5,
        "ImageUnfit": 5,
        "TransferError": 6,
        "HostError": 1,
        "AgentError": 7,
        "GitError": 10,
        "GitNotFound": 10,
        "WorkRefused": 10,
        "WorkConflict": 10,
    }


def test_an_errors_text_ends_with_its_hint() -> None:
    assert str(EngineError("It failed.", hint="Try again.")) == "It failed. Try again."
    assert str(EngineError("It failed.")) == "It failed."


def test_groups_of_one_have_a_single_cause() -> None:
    cause = EngineError("It failed.")
    assert single_cause(ExceptionGroup("a", [ExceptionGroup("b", [cause])])) is cause
    assert single_cause(cause) is cause
    several = ExceptionGroup("a", [cause, ValueError()])
    assert single_cause(several) is several


async def fail(error: Exception) -> None:
    raise error


async def run_together(*jobs: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with ungrouped():
        async with anyio.create_task_group() as tasks:
            for job in jobs[1:]:
                tasks.start_soon(job)
            await jobs[0]()


@pytest.mark.parametrize("failing_first", [True, False])
async def test_a_single_failure_in_a_task_group_is_raised_as_itself(failing_first: bool) -> None:
    failure = UsageError("It is wrong.")
    jobs = [partial(fail, failure), anyio.sleep_forever]
    with pytest.raises(UsageError) as caught:
        await run_together(*(jobs if failing_first else reversed(jobs)))
    assert caught.value is failure
    assert caught.value.__suppress_context__


async def test_several_failures_in_a_task_group_stay_a_group() -> None:
    failures = [UsageError("One."), UsageError("Two.")]
    with pytest.raises(ExceptionGroup) as caught:
        await run_together(anyio.sleep_forever, *(partial(fail, each) for each in failures))
    assert sorted(map(str, caught.value.exceptions)) == ["One.", "Two."]


NAMES = {step: step.name.lower() for step in NextStep}


@pytest.mark.parametrize(
    ("hint", "steps", "advice"),
    [
        (None, (), None),
        ("Wait.", (), "Wait."),
        (None, (NextStep.DESTROY,), "Use destroy."),
        ("Wait.", (NextStep.DESTROY, NextStep.READ_LOG), "Wait. Use destroy or read_log."),
        (
            "Wait.",
            (NextStep.READ_TURN, NextStep.CANCEL_TURN, NextStep.DESTROY),
            "Wait. Use read_turn, cancel_turn or destroy.",
        ),
    ],
)
def test_advice_is_the_hint_and_the_front_ends_names_of_the_next_steps(
    hint: str | None, steps: tuple[NextStep, ...], advice: str | None
) -> None:
    assert ClaudeMcpError("x", hint=hint, steps=steps).advice(NAMES) == advice


ARGUMENTS = {"overwrite", "createParents", "discardChanges"}
"""Steps that are an argument of the same tool."""


def test_each_front_end_names_every_step_in_its_own_way() -> None:
    assert set(server_errors.STEPS) == set(running.STEPS) == set(NextStep)
    tools = {name.partition(" ")[0] for name in server_errors.STEPS.values()} - ARGUMENTS
    assert tools <= set(BY_NAME)
    assert not {*server_errors.STEPS.values()} & {*running.STEPS.values()}
    for name in running.STEPS.values():
        assert name.startswith("--") or name.strip("'").split()[1] in PERFORM


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EAGAIN, errno.ENOSPC, errno.ENOMEM])
def test_what_the_machine_lacks_is_no_internal_error(number: int) -> None:
    cause = OSError(number, os.strerror(number))
    said = told(ExceptionGroup("a", [cause]))
    assert isinstance(said, HostError)
    assert os.strerror(number) in said.message
    assert (said.hint is not None, said.__cause__) == (True, cause)


def test_a_directory_that_was_removed_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory")
    assert told(missing) is missing  # such as a socket's
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(FileNotFoundError) as caught:
        os.getcwd()
    assert str(told(caught.value)).startswith("The current directory no longer exists.")
    monkeypatch.chdir(tmp_path)
