"""The agent's part in a transfer into the session.

The engine unpacks an archive into a staging directory beside the target; only then is the
whole moved to its place. A transfer that is cancelled, or whose caller vanished, leaves
nothing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading

from claude_mcp.agent import placing
from claude_mcp.agent.connections import Answer, Request, RequestError
from claude_mcp.agent.state import log

STAGING_PREFIX = ".claude-mcp-transfer-"


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
            placing.check(bool(args["directory"]), target, overwrite)
            staging = tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=os.path.dirname(target))
        except placing.PlaceError as error:
            raise RequestError("bad-destination", str(error)) from error
        except OSError as error:
            why = f"{os.path.dirname(target)}: {error.strerror}"
            raise RequestError("bad-destination", why) from error
        event = self._arrived[staging] = threading.Event()
        stopped = threading.Event()

        def stop() -> None:
            stopped.set()
            event.set()

        request.on_cancel(stop)
        try:
            request.event({"staging": staging, "uid": os.getuid(), "gid": os.getgid()})
            event.wait()
            if stopped.is_set():
                log(f"a transfer to {target} was given up")
                return {}
            staged = os.path.join(staging, name)
            if not os.path.lexists(staged):
                raise RequestError(
                    "bad-destination", f"{target} is on a file system the engine cannot write to"
                )
            try:
                placing.place(staged, target, overwrite)
            except placing.PlaceError as error:
                raise RequestError("bad-destination", str(error)) from error
            return {"path": target}
        finally:
            del self._arrived[staging]
            shutil.rmtree(staging, ignore_errors=True)

    def arrived(self, request: Request) -> Answer:
        event = self._arrived.get(request.args["staging"])
        if event is None:
            raise RequestError("no-transfer", "no such transfer is under way")
        event.set()
        return {}
