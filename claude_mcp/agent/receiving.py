"""The agent's part in a transfer into the session.

The engine unpacks an archive into a staging directory beside the target; only then is the
whole moved to its place. A transfer that is cancelled, or whose caller vanished, leaves
nothing.
"""

from __future__ import annotations

import os
import threading

from claude_mcp.agent.channel.connections import Answer, Request, RequestError
from claude_mcp.agent.store.state import log
from claude_mcp.contract.codes import Code
from claude_mcp.placing import descriptors
from claude_mcp.placing import placement as placing
from claude_mcp.placing.staging import staging


class Receiving:
    """Transfers under way, each known by its staging directory."""

    def __init__(self) -> None:
        self._arrived: dict[str, threading.Event] = {}

    def receive(self, request: Request) -> Answer:
        """Make a staging directory, wait for ``arrived``, and put what came into its place."""
        args = request.args
        name, overwrite = args["name"], bool(args.get("overwrite"))
        try:
            target = placing.target_of(os.path.join(os.getcwd(), args["destination"]), name)
        except placing.PlaceError as error:
            raise RequestError(Code.BAD_DESTINATION, str(error)) from error
        try:
            with descriptors.opened(os.path.dirname(target)) as parent:
                placing.check(bool(args["directory"]), parent, target, overwrite)
                with staging(parent) as (staging_name, directory):
                    path = os.path.join(os.path.dirname(target), staging_name)
                    if not self._has_arrived(request, path, target):
                        return {}
                    _place(directory, name, parent, target, overwrite)
        except placing.PlaceError as error:
            raise RequestError(Code.BAD_DESTINATION, str(error)) from error
        except OSError as error:
            why = f"{os.path.dirname(target)}: {error.strerror}"
            raise RequestError(Code.BAD_DESTINATION, why) from error
        return {"path": target}

    def _has_arrived(self, request: Request, path: str, target: str) -> bool:
        """Name the staging directory to the caller and wait; False if it was given up."""
        event = self._arrived[path] = threading.Event()
        stopped = threading.Event()

        def stop() -> None:
            stopped.set()
            event.set()

        request.on_cancel(stop)
        try:
            request.event({"staging": path, "uid": os.getuid(), "gid": os.getgid()})
            event.wait()
        finally:
            del self._arrived[path]
        if stopped.is_set():
            log(f"a transfer to {target} was given up")
        return not stopped.is_set()

    def arrived(self, request: Request) -> Answer:
        event = self._arrived.get(request.args["staging"])
        if event is None:
            raise RequestError(Code.NO_TRANSFER, "no such transfer is under way")
        event.set()
        return {}


def _place(staged: int, name: str, parent: int, target: str, overwrite: bool) -> None:
    if name not in os.listdir(staged):
        raise placing.PlaceError(f"{target} is on a file system the engine cannot write to")
    placing.place(staged, name, parent, target, overwrite)
