"""The agent's part in a transfer into the session.

The engine unpacks an archive into a staging directory beside the target. The agent then moves
everything to its place at once. A transfer that is cancelled, or whose caller disconnects, leaves
nothing behind.
"""

from __future__ import annotations

import os
import threading

from claude_mcp.agent.channel.connections import Answer, Request, RequestError
from claude_mcp.agent.store.state import log
from claude_mcp.contract import operations
from claude_mcp.contract.codes import Code
from claude_mcp.contract.messages import to_json
from claude_mcp.placing import descriptors, placement
from claude_mcp.placing.staging import staging


class Receiving:
    """The transfers in progress, each identified by its staging directory."""

    def __init__(self) -> None:
        self._arrived: dict[str, threading.Event] = {}

    def receive(self, request: Request) -> Answer:
        """Make a staging directory, wait for ``arrived``, and move what came to its place."""
        args = request.read(operations.Receive)
        try:
            destination = os.path.join(os.getcwd(), args.destination)
            target = placement.target_of(destination, args.name)
        except placement.PlaceError as error:
            raise RequestError(Code.BAD_DESTINATION, str(error)) from error
        directory_path = os.path.dirname(target)
        try:
            with descriptors.opened(directory_path) as parent:
                placement.check(args.directory, parent, target, args.overwrite)
                with staging(parent) as (staging_name, directory):
                    path = os.path.join(directory_path, staging_name)
                    if not self._has_arrived(request, path, target):
                        return {}
                    _place(directory, args.name, parent, target, args.overwrite)
        except placement.PlaceError as error:
            raise RequestError(Code.BAD_DESTINATION, str(error)) from error
        except OSError as error:
            why = f"{directory_path}: {error.strerror}"
            raise RequestError(Code.BAD_DESTINATION, why) from error
        return to_json(operations.Received(target))

    def _has_arrived(self, request: Request, path: str, target: str) -> bool:
        """Tell the caller the staging directory and wait; False if the transfer was given up."""
        event = self._arrived[path] = threading.Event()
        stopped = threading.Event()

        def stop() -> None:
            stopped.set()
            event.set()

        request.on_cancel(stop)
        try:
            request.event(to_json(operations.Staging(path, os.getuid(), os.getgid())))
            event.wait()
        finally:
            del self._arrived[path]
        if stopped.is_set():
            log(f"a transfer to {target} was given up")
        return not stopped.is_set()

    def arrived(self, request: Request) -> Answer:
        event = self._arrived.get(request.read(operations.Arrived).staging)
        if event is None:
            raise RequestError(Code.NO_TRANSFER, "no such transfer is in progress")
        event.set()
        return {}


def _place(staged: int, name: str, parent: int, target: str, overwrite: bool) -> None:
    if name not in os.listdir(staged):
        raise placement.PlaceError(f"{target} is on a file system the engine cannot write to")
    placement.place(staged, name, parent, target, overwrite)
