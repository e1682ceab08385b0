"""The container's main process once it is ready: it serves channels until it is stopped."""

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
import time
from typing import TYPE_CHECKING, NoReturn

from claude_mcp.agent import ending, git
from claude_mcp.agent.channel import open_files, threads
from claude_mcp.agent.channel.connections import Answer, Connection, Operation, Request
from claude_mcp.agent.commands.registry import Commands
from claude_mcp.agent.expiry import Expiry
from claude_mcp.agent.store.state import State, log
from claude_mcp.contract import operations, places
from claude_mcp.contract.handover import Handover
from claude_mcp.contract.messages import from_json
from claude_mcp.contract.settings import NO_NETWORK, RESTRICTED, Settings
from claude_mcp.contract.workspaces import BIND

if TYPE_CHECKING:
    from claude_mcp.agent.network.egress import Egress
    from claude_mcp.agent.receiving import Receiving
    from claude_mcp.agent.terminals import Terminals
    from claude_mcp.agent.turns.queue import Turns
    from claude_mcp.agent.workspace.work import Work


ACCEPT_PAUSE_SECONDS = 0.05
WARM_UP_DELAY_SECONDS = 0.1
"""Leaves the processor to a command that arrives at once; prompts do not wait for this."""
CHECKPOINT_DELAY_SECONDS = 0.5
REPOSITORY = ".git"
"""In the working directory: without one, a mounted project has no checkpoints."""


class Agent:
    """Connects each operation with the part of the agent that performs it."""

    def __init__(
        self,
        settings: Settings,
        home: str,
        handover: Handover | None = None,
        proxy_address: str | None = None,
    ) -> None:
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name not in (*places.PAYLOAD_VARIABLES, places.EXIT_FILE_VARIABLE)
        }
        self.environment["HOME"] = home
        self._activities = itertools.count(1)
        self._lock = threading.Lock()
        self._work_lock = threading.Lock()
        self._directory = os.path.join(home, places.STATE_DIRECTORY)
        self.state = State(self._directory)
        self._settings = settings
        self._handover = handover or Handover()
        self._egress: Egress | None = None
        if settings.network in (RESTRICTED, NO_NETWORK):
            self._restrict_sockets()
        if settings.network == RESTRICTED:
            self._egress = self._start_egress(proxy_address)
        if settings.ports:
            from claude_mcp.agent.network import ports

            ports.start(settings.ports)
        self._turns: Turns | None = None
        self._receiving: Receiving | None = None
        self._terminals: Terminals | None = None
        self._work: Work | None = None
        self.expiry = Expiry(settings, lambda: self.turns, lambda: self.work.holds_work())
        self.commands = Commands(
            os.path.join(self._directory, "commands"),
            self.environment,
            self._egress,
            self.expiry.use,
        )
        self.operations = {
            operations.PING: lambda request: {},
            operations.COMMAND: self._watched(self.commands.start),
            operations.FOLLOW_COMMAND: self._watched(self.commands.follow),
            operations.STOP_COMMAND: self.commands.stop,
            operations.COMMANDS: self.commands.listed,
            operations.STATUS: self._status,
            operations.CONFIGURE: lambda request: self.turns.configure(request),
            operations.PROXY: self._set_proxy,
            operations.MCP: lambda request: self.turns.mcp_servers(request),
            operations.TURN: self._watched(lambda request: self.turns.submit(request)),
            operations.FOLLOW: self._watched(lambda request: self.turns.follow(request)),
            operations.EVENT: lambda request: self.turns.event(request),
            operations.WATCH: lambda request: self.turns.watch(request),
            operations.TURNS: lambda request: self.turns.listed(request),
            operations.INTERRUPT: lambda request: self.turns.interrupt(request),
            operations.RESPOND: lambda request: self.turns.respond(request),
            operations.RECEIVE: self._used(lambda request: self.receiving.receive(request)),
            operations.CHANGES: lambda request: self.work.changes(request),
            operations.DISCARD: self._used(lambda request: self.work.discard(request)),
            operations.PACK: self._used(lambda request: self.work.pack(request)),
            operations.COLLECT: self._used(lambda request: self.work.collect(request)),
            operations.DROP: lambda request: self.work.drop(request),
            operations.UNSAVED: lambda request: self.work.unsaved(request),
            operations.APPLIED: lambda request: self.work.applied(request),
            operations.TERMINAL: self._used(lambda request: self.terminals.hold(request)),
            operations.ENTER: lambda request: self.terminals.enter(request),
            operations.ARRIVED: lambda request: self.receiving.arrived(request),
        }

    @staticmethod
    def _restrict_sockets() -> None:
        from claude_mcp.agent.network import seccomp

        problem = seccomp.restrict()
        if problem:
            log(f"sockets of unusual address families are not blocked: {problem}")

    def _start_egress(self, address: str | None) -> Egress:
        from claude_mcp.agent.network.egress import Egress

        credentials = self._handover.credentials
        proxies = credentials.proxies if credentials else {}
        return Egress(self._settings.session_name or "", proxies, address)

    def _set_proxy(self, request: Request) -> Answer:
        address = request.read(operations.Proxy).address
        if self._egress is not None:
            self._egress.set_address(address)
        return {}

    def _status(self, request: Request) -> Answer:
        return {**self.turns.status(), "commands": self.commands.unattended()}

    def _used(self, operation: Operation) -> Operation:
        """The operation; the session does not expire while it runs."""

        def perform(request: Request) -> Answer:
            with self.expiry.use():
                return operation(request)

        return perform

    def _watched(self, operation: Operation) -> Operation:
        """The operation; its caller is told at once if the session's proxy disappears."""
        egress = self._egress
        if egress is None:
            return operation

        def perform(request: Request) -> Answer:
            with egress.watch(lambda: request.event(operations.PROXY_GONE)):
                return operation(request)

        return perform

    @property
    def turns(self) -> Turns:
        # Imported on first use, so that the session is ready sooner.
        from claude_mcp.agent.turns.queue import Turns

        with self._lock:
            if self._turns is None:
                self._turns = Turns(
                    self._settings,
                    self._handover,
                    self.environment,
                    self.state,
                    self._directory,
                    self._egress,
                    self._before_turn,
                    self._after_turn,
                )
            return self._turns

    @property
    def work(self) -> Work:
        from claude_mcp.agent.workspace.work import Work

        with self._work_lock:
            if self._work is None:
                self._work = Work(self._settings, self._directory, self.environment, self.state)
            return self._work

    @property
    def terminals(self) -> Terminals:
        from claude_mcp.agent.terminals import Terminals

        with self._lock:
            if self._terminals is None:
                self._terminals = Terminals(
                    self.environment,
                    self.activity,
                    lambda: self.turns.lend(),
                    lambda: self.turns.take_back(),
                )
            return self._terminals

    @property
    def receiving(self) -> Receiving:
        from claude_mcp.agent.receiving import Receiving

        with self._lock:
            if self._receiving is None:
                self._receiving = Receiving()
            return self._receiving

    def _before_turn(self, turn_id: str) -> None:
        if self._settings.workspace != BIND or os.path.lexists(REPOSITORY):
            self.work.before_turn(turn_id)

    def _after_turn(self) -> None:
        if self._work is not None:
            self._work.after_turn()

    def warm_up(self) -> None:
        """Start Claude Code, so that the first prompt is as fast as the tenth.

        A project that is mounted gets its first checkpoint; a clone or copy has it already.
        """
        threading.Timer(WARM_UP_DELAY_SECONDS, lambda: self.turns).start()
        if self._settings.workspace == BIND and os.path.lexists(REPOSITORY):
            threading.Timer(CHECKPOINT_DELAY_SECONDS, lambda: self.work.begin()).start()

    def activity(self, kind: str) -> str:
        # Without the lock, which is held while Claude Code is started.
        return f"{kind}-{os.getpid()}-{next(self._activities)}"


def serve_channel(control: socket.socket, agent: Agent) -> None:
    """Serve one channel. The connector sends its own stdin and stdout over the socket, and then
    only waits for the end."""
    descriptors = array.array("i")
    with control:
        try:
            with open_files.CHANNELS.taken():
                _, ancillary, _, _ = control.recvmsg(1, socket.CMSG_SPACE(2 * descriptors.itemsize))
        except open_files.TooManyOpen:
            log("rejected a channel: the session's limit of open files is reached")
            reject_channel(control)
            return
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        try:
            if len(descriptors) == 2:
                Connection(descriptors[0], descriptors[1], agent.operations).serve()
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def reject_channel(control: socket.socket) -> None:
    with control, contextlib.suppress(OSError):
        control.setblocking(False)
        control.send(places.NO_ROOM)
        control.shutdown(socket.SHUT_WR)


def stop(number: int, frame: object) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(2, b"stopped by signal %d\n" % number)  # sys.stderr may be in midst of a line
    os._exit(0)


def serve(listener: int, home: str, first_line: str | None) -> NoReturn:
    """Serve until the end of the container.

    ``listener`` is the descriptor of the listening socket; ``first_line`` is the creator's, and
    None when the container was started again.
    """
    # The agent must end quickly: PID 1 forwards TERM, and the engine waits 10 s before it kills.
    signal.signal(signal.SIGTERM, stop)
    handover, identity, proxy_address = None, None, None
    if first_line is not None:
        configure = from_json(operations.Configure, json.loads(first_line))
        handover, identity = Handover.from_json(configure.secrets), configure.git_identity
        proxy_address = configure.proxy_address
    settings = from_json(Settings, json.loads(sys.argv[1]))
    agent = Agent(settings, home, handover, proxy_address)
    if agent.state.abandoned:
        log("the creation of this session was never completed")
        ending.end(places.ABANDONED_EXIT_CODE)
    git.prepare(settings.git_hooks, identity, agent.environment)
    if first_line is None:
        log("session restarted; its credentials are lost")
    else:
        log("session started")
        agent.warm_up()
    agent.expiry.start()
    with socket.socket(fileno=listener) as accepting:
        while True:
            try:
                control, _ = accepting.accept()
            except OSError as error:  # out of descriptors or memory
                log(f"could not accept a channel: {error}")
                time.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            if not threads.start(serve_channel, control, agent):
                log("rejected a channel: the session's process limit is reached")
                reject_channel(control)
