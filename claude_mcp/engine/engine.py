"""What the rest of the program asks of a container engine, whichever kind it is.

``Engine`` is the contract. ``docker_cli`` implements it for Docker and Podman. What an engine
cannot do is a field of its ``Dialect``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from claude_mcp.engine.dialects.dialect import Dialect
from claude_mcp.engine.info import EngineInfo
from claude_mcp.engine.spec import ContainerSpec, Limits, Traffic
from claude_mcp.engine.stats import Stats
from claude_mcp.errors import EngineError

if TYPE_CHECKING:
    from claude_mcp.engine.process import Stream

CREATE_SECONDS: Final = 60.0


class ContainerNotFound(EngineError):
    """The engine has no such container."""


class ContainerNotRunning(EngineError):
    """The container exists but does not run."""


class SourceMissing(EngineError):
    """The engine does not see a host path that it was to mount."""

    def __init__(self, message: str, path: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path


class ContainerNameInUse(EngineError):
    """Another container has this name."""


class ProcessLimitReached(EngineError):
    """The container runs as many processes as its limit allows."""


class ReferenceAmbiguous(EngineError):
    """An id prefix matches several containers."""


class PathNotFound(EngineError):
    """The container has no such path, or the engine cannot see it."""


class CopyIncomplete(EngineError):
    """The engine left files out of an archive, although it reports success."""


class LimitRefused(EngineError):
    """The engine cannot create or start a container with the limit ``limit`` of ``Limits``."""

    def __init__(self, message: str, limit: str, reason: str) -> None:
        super().__init__(message)
        self.limit = limit
        self.reason = reason


class PortInUse(EngineError):
    """A container cannot be started because a port of the host is in use."""

    def __init__(self, message: str, port: int | None) -> None:
        super().__init__(message)
        self.port = port
        """None if the engine does not say which one."""


BEING_REMOVED: Final = ("removing", "dead")
"""The states of a container that is being removed, or whose removal failed halfway."""


LOST: Final = "lost"
"""The state of a container that its engine ended for good: it cannot be started again, and its
files are gone. ``Container.error`` says why."""


NO_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Container:
    """The state of a container. Times are RFC 3339, as the engine writes them."""

    id: str
    name: str
    created: str
    status: str
    exit_code: int
    error: str
    image: str
    labels: Mapping[str, str]
    started: str = ""
    finished: str = ""
    """The latest end of the main process; in the year 1 if it has never ended."""
    limits: Limits = NO_LIMITS
    """Those that are set, except that of the disk, which engines do not report."""
    address: str = ""
    """In the network of all containers, on an engine with ``network_policies``."""


@dataclass(frozen=True, slots=True)
class NewContainer:
    id: str
    ignored: tuple[str, ...] = ()
    """The engine's warnings about limits that it cannot set on this host."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image; size and age are as the engine words them."""

    name: str
    id: str
    size: str
    created: str


@dataclass(frozen=True, slots=True)
class Log:
    """The end of what a container's main process wrote; each line begins with its time."""

    out: str
    err: str


@dataclass(frozen=True, slots=True)
class OwnMount:
    """A mount of the container in which this program runs."""

    source: str
    """On the host, if it is a bind mount."""
    target: str
    is_bind: bool = True
    writable: bool = True


class Engine(Protocol):
    """A container engine.

    Every method may raise EngineError; EngineUnavailable and EngineNotFound are kinds of it.
    """

    @property
    def program(self) -> str:
        """The program that drives the engine, for messages."""

    @property
    def version(self) -> str: ...

    @property
    def dialect(self) -> Dialect: ...

    @property
    def title(self) -> str:
        """The engine's name for messages."""

    async def check(self) -> None:
        """Raises EngineUnavailable if the engine does not answer within a few seconds."""

    def watching(self, quiet_seconds: float | None = None) -> AbstractAsyncContextManager[None]:
        """End the block with EngineUnavailable once the engine does not answer any more.

        The engine is asked after ``quiet_seconds``, and again and again. Calls are watched already,
        except ``create``, copies and what is a context manager itself.
        """

    async def create(
        self,
        spec: ContainerSpec,
        inherited: Mapping[str, str] | None = None,
        *,
        seconds: float = CREATE_SECONDS,
    ) -> NewContainer:
        """Create a container. ``inherited`` holds the values of ``spec.inherited``.

        After ``seconds`` it is given up; a daemon may then still create the container. It is not
        watched, because the client of a daemon that goes on later should be there to hear of it.

        Raises:
            ContainerNameInUse, ImageNotFound, LimitRefused, EngineError
        """

    def start_attached(self, ref: str) -> AbstractAsyncContextManager[Stream]:
        """Start a container and hold its main process's stdin and stdout.

        Leaving the block ends the attached client at once; the container runs on.
        """

    async def start(self, ref: str) -> None:
        """Start a container that was stopped."""

    async def kill(self, ref: str) -> None:
        """End a container's processes at once. Succeeds if it does not run."""

    async def remove(self, ref: str) -> bool:
        """Kill and remove a container and its anonymous volumes; False if there was none."""

    async def remove_volume(self, name: str) -> None:
        """Remove a named volume. Succeeds if there is none."""

    async def inspect(self, refs: Sequence[str]) -> list[Container]:
        """Those of ``refs`` that exist, in any order.

        Raises:
            ReferenceAmbiguous: one of them is a prefix of several ids.
        """

    async def ensure_traffic(self, ref: str, traffic: Traffic) -> bool:
        """Make sure that a container's traffic is limited as it was created; False if it was not.

        ``ref`` is its whole id. Only for an engine with ``network_policies``.

        Raises:
            EngineError: it cannot be limited, or something else allows it more.
        """

    async def stats(self, refs: Sequence[str]) -> list[Stats]:
        """What running containers take of the host, in one call that lasts about a second.

        Raises:
            ContainerNotFound, ContainerNotRunning: one of them has ended.
        """

    async def own_mounts(self, id: str) -> list[OwnMount] | None:
        """The mounts of the container in which this program runs; None if it is not the engine's.

        One engine call, for the first time.
        """

    async def ids(self, label: str, value: str | None = None) -> list[str]:
        """Ids of all containers, running or not, with a label (of this value, if given)."""

    async def containers(self, label: str) -> list[Container]:
        """All containers, running or not, with a label.

        Of one that the engine does not describe within seconds, id, name, status and this label.
        """

    def exec(
        self, ref: str, command: Sequence[str], *, exit_grace: float = ...
    ) -> AbstractAsyncContextManager[Stream]:
        """Run a command in a running container and hold its pipes."""

    async def exec_on_terminal(
        self, ref: str, command: Sequence[str], variables: Mapping[str, str]
    ) -> int:
        """Run a command on this process's own terminal; returns its exit code.

        ``variables`` are added to its environment; they are public.
        """

    async def logs(self, ref: str, tail: int, capture_bytes: int) -> Log:
        """The last ``tail`` lines that the main process wrote, or all for -1.

        Raises:
            ContainerNotFound
        """

    def follow_logs(self, ref: str, tail: int) -> AbstractAsyncContextManager[Stream]:
        """The last ``tail`` lines of both streams, and those that follow until the container ends.

        They are one stream here: its stdout.
        """

    async def copy_in(self, ref: str, directory: str, write: Callable[[BinaryIO], None]) -> None:
        """Unpack the tar archive that ``write`` produces (in a thread) into a directory.

        The engine does this as root and keeps the owners and modes in the archive. Only for an
        engine with ``archive_copies``.

        Raises:
            PathNotFound: no such directory, or it is on a tmpfs, which the engine cannot see.
        """

    async def copy_out(self, ref: str, path: str, read: Callable[[BinaryIO], None]) -> None:
        """Let ``read`` consume (in a thread) the tar archive of a path in the container.

        Only for an engine with ``archive_copies``.

        Raises:
            PathNotFound: as for ``copy_in``.
            CopyIncomplete: files disappeared while the engine read them.
        """

    async def remove_leftovers(self) -> None:
        """Remove what killed callers have left in the engine beside containers and volumes."""

    async def sweep(self) -> None:
        """Remove what copies of killed processes have left on this host; no engine call."""

    async def image_exists(self, image: str) -> bool: ...

    async def images(self, label: str) -> list[Image]:
        """The images with a label, newest first."""

    async def pull(self, image: str) -> int:
        """Fetch an image, with the engine's own progress on our streams; returns its exit code."""

    async def run_in_image(self, image: str, script: str) -> str:
        """What a shell script prints in a container of its own, which is removed at its end.

        Raises:
            ImageNotFound, EngineError
        """

    async def info(self) -> EngineInfo:
        """What the engine says of itself: one engine call, and none after the first."""

    def failed(self, tried: str, stderr: str) -> EngineError:
        """The error of a client that failed to start a container or to reach into one.

        ``tried`` completes "<Engine> could not ...". The result may be any of the errors above.
        """
