"""The container's main process once it is ready: serves channels until it is stopped."""

from __future__ import annotations

import array
import contextlib
import itertools
import json
import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn

from claude_mcp.agent.channel import threads
from claude_mcp.agent.channel.connections import (
    Answer,
    Connection,
    Operation,
    Request,
    RequestError,
)
from claude_mcp.agent.expiry import Expiry
from claude_mcp.agent.processes import commands
from claude_mcp.agent.store.state import State, log
from claude_mcp.contract import places as contract
from claude_mcp.contract.codes import Code

if TYPE_CHECKING:
    from claude_mcp.agent.network.egress import Egress
    from claude_mcp.agent.receiving import Receiving
    from claude_mcp.agent.turns.queue import Turns


WARM_UP_DELAY_SECONDS = 0.1
"""A command that comes at once would share the processor with our imports; a prompt does not wait
for this."""


def no_room() -> RequestError:
    return RequestError(
        Code.NO_ROOM, "the session has no room for another process: as many run as its limit allows"
    )


class Agent:
    """Joins the operations to what they act on."""

    def __init__(
        self, settings: dict[str, Any], home: str, secrets: dict[str, Any] | None = None
    ) -> None:
        self._environment = {
            name: value for name, value in os.environ.items() if name != contract.PAYLOAD_VARIABLE
        }
        self._environment["HOME"] = home
        self._activities = itertools.count(1)
        self._lock = threading.Lock()
        self._directory = os.path.join(home, contract.STATE_DIRECTORY)
        self.state = State(self._directory)
        self._settings = settings
        self._secrets = secrets
        self._egress: Egress | None = None
        if settings.get("network") in (contract.RESTRICTED, contract.NO_NETWORK):
            from claude_mcp.agent.network import seccomp

            why = seccomp.bound()
            if why:
                log(f"sockets of other families than the usual ones are not forbidden here: {why}")
        if settings.get("network") == contract.RESTRICTED:
            from claude_mcp.agent.network.egress import Egress

            self._egress = Egress(settings["sessionName"], (secrets or {}).get("proxies") or {})
        self._turns: Turns | None = None
        self._receiving: Receiving | None = None
        self.expiry = Expiry(settings, lambda: self.turns)
        self.operations = {
            "ping": lambda request: {},
            "command": self._watched(self._used(self._command)),
            "status": lambda request: self.turns.status(),
            "configure": lambda request: self.turns.configure(request),
            "mcp": lambda request: self.turns.mcp_servers(request),
            "turn": self._watched(lambda request: self.turns.submit(request)),
            "follow": self._watched(lambda request: self.turns.follow(request)),
            "event": lambda request: self.turns.event(request),
            "interrupt": lambda request: self.turns.interrupt(request),
            "respond": lambda request: self.turns.respond(request),
            "receive": self._used(lambda request: self.receiving.receive(request)),
            "arrived": lambda request: self.receiving.arrived(request),
        }

    def _used(self, operation: Operation) -> Operation:
        """The same, and the session does not expire meanwhile."""

        def perform(request: Request) -> Answer:
            with self.expiry.use():
                return operation(request)

        return perform

    def _watched(self, operation: Operation) -> Operation:
        """The same, and the front end hears at once when the session's proxy is gone."""
        egress = self._egress
        if egress is None:
            return operation

        def perform(request: Request) -> Answer:
            with egress.watch(lambda: request.event(contract.PROXY_GONE)):
                return operation(request)

        return perform

    @property
    def turns(self) -> Turns:
        # Imported when it is first needed, so that readiness does not wait for it.
        from claude_mcp.agent.turns.queue import Turns

        with self._lock:
            if self._turns is None:
                self._turns = Turns(
                    self._settings,
                    self._secrets,
                    self._environment,
                    self.state,
                    self._directory,
                    self._egress,
                )
            return self._turns

    @property
    def receiving(self) -> Receiving:
        from claude_mcp.agent.receiving import Receiving

        with self._lock:
            if self._receiving is None:
                self._receiving = Receiving()
            return self._receiving

    def warm_up(self) -> None:
        """Start Claude Code, so that the first prompt is as fast as the tenth."""
        threading.Timer(WARM_UP_DELAY_SECONDS, lambda: self.turns).start()

    def activity(self, kind: str) -> str:
        # Without the lock, which is held while Claude Code is being started ahead.
        return f"{kind}-{os.getpid()}-{next(self._activities)}"

    def _command(self, request: Request) -> Answer:
        args = request.args
        workdir = args.get("workdir") or None
        activity = self.activity("command")
        mark = None if self._egress is None else self._egress.mark()
        try:
            command = threads.with_room(
                lambda: commands.Command(
                    activity, args["command"], workdir, self._environment, args["limitBytes"]
                )
            )
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RequestError(Code.BAD_WORKDIR, f"there is no directory {workdir!r}") from error
        except PermissionError as error:
            raise RequestError(
                Code.BAD_WORKDIR, f"the session may not enter {workdir!r}"
            ) from error
        except (BlockingIOError, RuntimeError) as error:
            raise no_room() from error
        request.on_cancel(command.cancel)
        result = command.wait(args.get("timeoutSeconds"))
        blocked = [] if self._egress is None or mark is None else self._egress.notes(mark)
        for note in result["notes"]:
            log(f"{activity}: {note}")
        result["notes"] += blocked
        if result["timedOut"] or result["cancelled"]:
            why = "time limit" if result["timedOut"] else "cancelled"
            log(f"{activity} killed ({why}) after {result['durationMs']} ms")
        return result


def serve_channel(control: socket.socket, agent: Agent) -> None:
    """The connector passes its own stdin and stdout over the socket and then only waits."""
    descriptors = array.array("i")
    with control:
        _, ancillary, _, _ = control.recvmsg(1, socket.CMSG_SPACE(2 * descriptors.itemsize))
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        try:
            if len(descriptors) == 2:
                Connection(descriptors[0], descriptors[1], agent.operations).serve()
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def turn_away(control: socket.socket) -> None:
    with control, contextlib.suppress(OSError):
        control.setblocking(False)
        control.send(contract.NO_ROOM)
        control.shutdown(socket.SHUT_WR)


def stop(number: int, frame: object) -> NoReturn:
    os.write(2, b"stopped by signal %d\n" % number)  # sys.stderr may be in the middle of a line
    os._exit(0)


def serve(listener: int, home: str, handed: str | None) -> NoReturn:
    """``listener`` is a descriptor; ``handed`` is the creator's line, None on a later start."""
    # Our own end must be quick: PID 1 hands us TERM, and the engine waits 10 s for us.
    signal.signal(signal.SIGTERM, stop)
    secrets = None if handed is None else json.loads(handed)["secrets"]
    agent = Agent(json.loads(sys.argv[1]), home, secrets)
    if agent.state.abandoned:
        log("session was never completed: it was abandoned before")
        sys.exit(contract.ABANDONED_EXIT_CODE)
    if handed is None:
        log("started again; credentials are gone")
    else:
        log("session started")
        agent.warm_up()
    agent.expiry.start()
    with socket.socket(fileno=listener) as accepting:
        while True:
            control, _ = accepting.accept()
            if not threads.start(serve_channel, control, agent):
                log("a channel could not be served: there is no room for a thread")
                turn_away(control)
