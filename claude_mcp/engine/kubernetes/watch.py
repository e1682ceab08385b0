"""Waits for a pod to start or to end.

A watch says when the pod changes. A look now and then finds what a watch that hangs does not say.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import anyio

from claude_mcp.engine import process
from claude_mcp.engine.engine import LOST, ContainerNotFound, ContainerNotRunning
from claude_mcp.engine.kubernetes import argv as build
from claude_mcp.engine.kubernetes import described, failures, marks
from claude_mcp.engine.kubernetes.argv import Place
from claude_mcp.engine.kubernetes.failures import TITLE
from claude_mcp.errors import EngineError, EngineUnavailable

SCHEDULE_SECONDS: Final = 30.0
"""How long a pod may wait for a node with room."""
VOLUME_SECONDS: Final = 120.0
"""The same if it waits for its volume, which a cloud may have to make."""
START_SECONDS: Final = 600.0
"""How long a pod may take to start, with the pull of its image."""
WATCH_AGAIN_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 5.0
"""How often a pod that does not change is looked at."""


@dataclass(frozen=True, slots=True)
class PodWatch:
    """``get`` returns the pods of these names; its second argument completes "could not ..."."""

    place: Place
    environment: Mapping[str, str]
    get: Callable[[Sequence[str], str], Awaitable[list[described.Pod]]]

    async def until_running(self, ref: str, tried: str) -> None:
        """Wait until a pod's container runs.

        Raises:
            ImageNotFound, ContainerNotFound, EngineError: it will not.
        """
        began = time.monotonic()
        async with aclosing(self._changes(ref, tried)) as changes:
            async for found in changes:
                container = found.container
                if container.status == "running":
                    return
                if container.status in ("exited", LOST):
                    raise over(found)
                lacks_volume = failures.lacks_volume(container.error)
                patience = VOLUME_SECONDS if lacks_volume else SCHEDULE_SECONDS
                is_new = time.monotonic() - began < patience
                if found.is_stuck and not (found.may_be_placed and is_new):
                    raise failures.stuck(container.image, tried, found.reason, container.error)
        raise EngineUnavailable(
            f"{TITLE} did not {tried} within {START_SECONDS:g} s.",
            hint="A node may still pull the image, or be overloaded.",
        )

    async def until_ended(self, id: str, tried: str) -> None:
        """Wait until a pod has ended well.

        Raises:
            ImageNotFound, ContainerNotFound, EngineError: it did not, or will not.
        """
        async with aclosing(self._changes(id, tried)) as changes:
            async for found in changes:
                container = found.container
                if container.status in ("exited", LOST):
                    if container.exit_code != 0:
                        why = container.error or f"it ended with exit code {container.exit_code}"
                        raise EngineError(f"{TITLE} could not {tried}: {why}.")
                    return
                if found.is_stuck:
                    raise failures.stuck(container.image, tried, found.reason, container.error)
        raise EngineUnavailable(f"{TITLE} could not {tried} within {START_SECONDS:g} s.")

    async def _changes(self, ref: str, tried: str) -> AsyncGenerator[described.Pod]:
        """A pod as it is and whenever it changes, for ``START_SECONDS``.

        Raises:
            ContainerNotFound: it is gone.
        """
        name = marks.pod_name(ref)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            async with self._watched(name) as pods:
                while True:
                    found = None
                    with anyio.move_on_after(LOOK_SECONDS):
                        found = await anext(pods, None)
                        if found is None:
                            break
                    if found is None:
                        break  # it may have been missed, or the watch hangs
                    if found.container.id == ref or not marks.is_id(ref):
                        yield found
            now = await self.get([name], tried)
            mine = [each for each in now if each.container.id == ref or not marks.is_id(ref)]
            if not mine or mine[0].container.status == "removing":
                raise ContainerNotFound(f"{TITLE} has no container {ref}.")
            yield mine[0]
            await anyio.sleep(WATCH_AGAIN_SECONDS)

    @asynccontextmanager
    async def _watched(self, pod: str) -> AsyncIterator[AsyncIterator[described.Pod]]:
        async with process.open_stream(
            build.watch_argv(self.place, pod), env=self.environment, exit_grace=0.0
        ) as stream:
            yield read_pods(stream)


def over(found: described.Pod) -> ContainerNotRunning:
    """The error for a pod that has ended."""
    container = found.container
    why = f" ({container.error.rstrip('.')})" if container.error else ""
    if found.keeps_files:
        return ContainerNotRunning(
            f"The pod of {container.name} has ended{why}.",
            hint="Its files are kept: the next prompt or command starts it again.",
        )
    return ContainerNotRunning(
        f"The pod of {container.name} has ended{why} and cannot be started again: its files are "
        "gone with it.",
        hint="Destroy the session and create it again.",
    )


async def read_pods(stream: process.Stream) -> AsyncIterator[described.Pod]:
    """The pods of a watch's output, one for each change."""
    objects = described.Objects()
    rest = b""
    while data := await stream.receive():
        rest += data
        try:
            text, rest = rest.decode(), b""
        except UnicodeDecodeError:
            continue  # a character is cut in two
        for each in objects.feed(text):
            with contextlib.suppress(LookupError, TypeError, ValueError, AttributeError):
                yield described.pod(each)
