"""Every error that a user can meet.

    ClaudeMcpError               exit code 1
    ├── UsageError               2   the request itself is wrong
    │   └── ConfigError          2   a setting is wrong
    ├── SessionNotFound          3
    │   └── NotASession          3   a container has the session's name, but is not ours
    ├── SessionAmbiguous         3
    ├── SessionExists            3
    ├── TurnNotFound             3
    ├── CommandNotFound          3
    ├── QuestionNotOpen          3
    ├── SessionNotReady          4   the session exists but cannot do this now
    ├── WorkUnsaved              4   the session holds work that is nowhere else
    ├── TooManySessions          4   the configured number of sessions is running
    ├── EngineError              5   the engine failed
    │   ├── EngineNotFound       5
    │   ├── EngineUnavailable    5   the program exists, but its daemon does not answer
    │   ├── ImageNotFound        5
    │   └── ImageUnfit           5
    ├── TransferError            6
    ├── HostError                1   this machine lacks what the work needs
    ├── AgentError               7   the agent in the session did not answer
    └── GitError                10   the host's git failed
        ├── GitNotFound         10   there is no git on this host, or it is too old
        ├── WorkRefused         10   what came out of a session breaks a rule
        └── WorkConflict        10   the host's repository is in the way

A message says what was tried and what went wrong. ``hint`` says what to do next. Neither names a
tool or a command: ``steps`` are the next steps, which each front end names in its own way, and an
option's name is marked (``contract.wording``).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from typing import ClassVar, Final


class NextStep(Enum):
    """What a caller can do about an error."""

    READ_TURN = auto()
    STOP_COMMAND = auto()
    CANCEL_TURN = auto()
    QUEUE_PROMPT = auto()
    GIVE_CREDENTIALS = auto()
    READ_LOG = auto()
    RUN_COMMAND = auto()
    DESTROY = auto()
    OVERWRITE = auto()
    APPLY = auto()
    DISCARD_WORK = auto()
    CREATE_PARENTS = auto()
    CREATE = auto()


class ClaudeMcpError(Exception):
    """An error with a message for people, an exit code and perhaps a hint."""

    exit_code: ClassVar[int] = 1

    def __init__(
        self, message: str, *, hint: str | None = None, steps: Sequence[NextStep] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.steps = tuple(steps)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message

    def advice(self, names: Mapping[NextStep, str]) -> str | None:
        """The hint, followed by a front end's names of the next steps."""
        steps = [names[step] for step in self.steps]
        if not steps:
            return self.hint
        listed = " or ".join(filter(None, (", ".join(steps[:-1]), steps[-1])))
        return " ".join(filter(None, (self.hint, f"Use {listed}.")))


class UsageError(ClaudeMcpError):
    """The request is wrong. Nothing was changed."""

    exit_code = 2


class ConfigError(UsageError):
    """A flag, an environment variable or the configuration file has an invalid value."""


class SessionNotFound(ClaudeMcpError):
    exit_code = 3


class NotASession(SessionNotFound):
    """The reference is that of a container that is not one of ours. It is never touched."""


class SessionAmbiguous(ClaudeMcpError):
    exit_code = 3


class SessionExists(ClaudeMcpError):
    exit_code = 3


class TurnNotFound(ClaudeMcpError):
    """The session has no such turn, or the turn has no such event."""

    exit_code = 3


class CommandNotFound(ClaudeMcpError):
    """The session knows no such command, or does not know it any more."""

    exit_code = 3


class QuestionNotOpen(ClaudeMcpError):
    """The permission request was answered already, or never existed."""

    exit_code = 3


class SessionNotReady(ClaudeMcpError):
    """The session exists, but is stopped, broken, busy or lacks its credentials."""

    exit_code = 4


class WorkUnsaved(ClaudeMcpError):
    """The session holds work that is nowhere else, so it was not destroyed."""

    exit_code = 4


class TooManySessions(ClaudeMcpError):
    """The configured number of sessions is running. The message names them."""

    exit_code = 4


class EngineError(ClaudeMcpError):
    """The engine failed. The message ends with the engine's own last line."""

    exit_code = 5


class EngineNotFound(EngineError):
    pass


class EngineUnavailable(EngineError):
    pass


class ImageNotFound(EngineError):
    pass


class ImageUnfit(EngineError):
    """The image lacks something that a session needs."""


class TransferError(ClaudeMcpError):
    exit_code = 6


class HostError(ClaudeMcpError):
    """This machine lacks what the work needs: descriptors, processes, memory or space."""


class AgentError(ClaudeMcpError):
    """The agent in the container did not answer, or answered with a failure of its own."""

    exit_code = 7


class GitError(ClaudeMcpError):
    """The host's git failed. The message ends with git's own first lines."""

    exit_code = 10


class GitNotFound(GitError):
    pass


class WorkRefused(GitError):
    """What came out of a session is broken, too large or dangerous. Nothing was taken over."""


class WorkConflict(GitError):
    """The host's repository is not in a state to take the work. Nothing was changed.

    ``paths`` are the files in the way, or in conflict; the message names the first of them.
    """

    def __init__(self, message: str, *, hint: str | None = None, paths: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.paths = tuple(paths)


def single_cause(error: Exception) -> Exception:
    """The error inside groups of one; a task group wraps even a single error."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


_LACKS: Final = {
    errno.EMFILE: "Raise the limit of open files (ulimit -n), or do less at once.",
    errno.ENFILE: "Too many files are open on this machine.",
    errno.EAGAIN: "Raise the limit of processes (ulimit -u), or do less at once.",
    errno.ENOMEM: "Free some memory.",
    errno.ENOSPC: "Free some space where this program reads or writes.",
    errno.EDQUOT: "Free some space where this program reads or writes.",
}
"""What to do about what a machine lacks, by the kernel's error."""


def told(error: Exception) -> Exception:
    """The error to tell of: a ClaudeMcpError, or one that nobody expected."""
    cause = single_cause(error)
    if not isinstance(cause, OSError):
        return cause
    if cause.errno in _LACKS:
        where = "" if cause.filename is None else f" ({cause.filename})"
        said = HostError(f"The operating system says: {cause.strerror}{where}.")
        said.hint = _LACKS[cause.errno]
    elif cause.errno == errno.ENOENT and cause.filename is None and not _has_directory():
        said = HostError("The current directory no longer exists.", hint="Change to another one.")
    else:
        return cause
    said.__cause__ = cause
    return said


def _has_directory() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


@contextmanager
def ungrouped() -> Iterator[None]:
    """Raise the single error of a task group in this block as itself."""
    try:
        yield
    except ExceptionGroup as group:
        cause = single_cause(group)
        raise cause from cause.__cause__  # a traceback need not show the group as well
