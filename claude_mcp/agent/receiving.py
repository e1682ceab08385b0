"""The agent's part in a transfer into the session.

The engine unpacks an archive into a staging directory beside the target. The agent then moves
everything to its place at once. A transfer that is cancelled, or whose caller disconnects, leaves
nothing behind.
"""

from __future__ import annotations

import os
import threading
import time

from claude_mcp.agent.channel.connections import Answer, Request, RequestError
from claude_mcp.agent.store.state import log
from claude_mcp.contract import operations
from claude_mcp.contract.codes import Code
from claude_mcp.contract.messages import to_json
from claude_mcp.placing import descriptors, placement
from claude_mcp.placing.staging import staging

QUIET_SECONDS = 2.0
REST_SECONDS = 30.0


class _GivenUp(Exception):
    """The caller is gone, or has cancelled the transfer."""


class _Arrival:
    """What the front end says about a transfer whose files it has sent."""

    def __init__(self) -> None:
        self.said = threading.Event()
        self.given_up = False
        self.files: int | None = None

    def give_up(self) -> None:
        self.given_up = True
        self.said.set()


class Receiving:
    """The transfers in progress, each identified by its staging directory."""

    def __init__(self) -> None:
        self._arrived: dict[str, _Arrival] = {}

    def receive(self, request: Request) -> Answer:
        """Make a staging directory, wait for ``arrived``, and move what came to its place."""
        args = request.read(operations.Receive)
        try:
            destination = os.path.join(os.getcwd(), args.destination)
            target = placement.target_of(destination, args.name, args.create_parents)
        except placement.NoDirectory as error:
            raise RequestError(Code.NO_DIRECTORY, str(error)) from error
        except placement.PlaceError as error:
            raise RequestError(Code.BAD_DESTINATION, str(error)) from error
        except OSError as error:  # its project was removed on the host
            why = f"the session's working directory: {error.strerror}"
            raise RequestError(Code.BAD_DESTINATION, why) from error
        directory_path = os.path.dirname(target)
        try:
            with (
                placement.created_parents(directory_path),
                descriptors.opened(directory_path) as parent,
            ):
                placement.check(args.directory, parent, target, args.overwrite)
                with staging(parent) as (staging_name, directory):
                    path = os.path.join(directory_path, staging_name)
                    arrival = self._await(request, path)
                    if arrival.given_up:
                        if request.disconnected:
                            _await_rest(directory)
                        raise _GivenUp
                    _check(directory, args.name, target, arrival.files)
                    placement.place(directory, args.name, parent, target, args.overwrite)
        except _GivenUp:
            log(f"a transfer to {target} was given up")
            return {}
        except placement.PlaceError as error:
            raise RequestError(Code.BAD_DESTINATION, str(error)) from error
        except OSError as error:
            why = f"{directory_path}: {error.strerror}"
            raise RequestError(Code.BAD_DESTINATION, why) from error
        return to_json(operations.Received(target))

    def _await(self, request: Request, path: str) -> _Arrival:
        """Tell the caller the staging directory, and wait until it has sent everything."""
        arrival = self._arrived[path] = _Arrival()
        request.on_cancel(arrival.give_up)
        try:
            request.event(to_json(operations.Staging(path, os.getuid(), os.getgid())))
            arrival.said.wait()
        finally:
            del self._arrived[path]
        return arrival

    def arrived(self, request: Request) -> Answer:
        args = request.read(operations.Arrived)
        arrival = self._arrived.get(args.staging)
        if arrival is None:
            raise RequestError(Code.NO_TRANSFER, "no such transfer is in progress")
        arrival.files = args.files
        arrival.said.set()
        return {}


def _await_rest(staged: int) -> None:
    """Wait until nothing more is written into a staging directory whose sender is gone.

    A daemon that unpacks learns of that later than the agent, and would make the directory again.
    """
    deadline = time.monotonic() + REST_SECONDS
    written = -1
    while time.monotonic() < deadline:
        total = _weight(staged)
        if total == written:
            return
        written = total
        time.sleep(QUIET_SECONDS)


def _weight(staged: int) -> int:
    """A number that grows with every file, directory and byte in a staging directory."""
    total = 0
    for _, directories, files, here in os.fwalk(".", dir_fd=staged, follow_symlinks=False):
        total += len(directories)
        for name in files:
            try:
                total += 1 + os.stat(name, dir_fd=here, follow_symlinks=False).st_size
            except OSError:  # it is just being replaced
                total += 1
    return total


def _check(staged: int, name: str, target: str, files: int | None) -> None:
    """Raises PlaceError unless everything that was sent has arrived."""
    if name not in os.listdir(staged):
        raise placement.PlaceError(f"{target} is on a file system the engine cannot write to")
    if files is None:
        return
    try:
        arrived = descriptors.count_files(staged, name)
    except PermissionError:  # the source has directories that not even their owner may read
        return
    if arrived != files:
        raise placement.PlaceError(f"only {arrived} of {files} files arrived in the session")
