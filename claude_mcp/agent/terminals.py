"""Programs on somebody's terminal: a shell, or Claude Code with the session's conversation.

The front end holds the request ``terminal`` while its user is there. The program itself is started
on that user's terminal by an ``exec``, in which ``on_terminal`` runs: it shows the token, gets the
program from the agent, and waits beside it. When either of the two leaves, the program ends.
"""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import sys
import threading
from typing import IO, Any, Callable, NoReturn

from claude_mcp.agent.channel.connections import Answer, Request, RequestError
from claude_mcp.agent.processes import killing
from claude_mcp.agent.store.state import log
from claude_mcp.contract import operations, places
from claude_mcp.contract.codes import Code

SHELL = ("/bin/sh", "-c", "command -v bash >/dev/null && exec bash -i; exec sh -i")
GRACE_SECONDS = 1.0
"""How long a program may take to end when its terminal is gone."""
_WAIT_SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP)
"""What a terminal's keys send to the program; who waits beside it does not end by them."""


class _Terminal:
    def __init__(self, program: Answer, activity: str) -> None:
        self.program = program
        self.activity = activity
        self.over = threading.Event()


class Terminals:
    def __init__(
        self,
        environment: dict[str, str],
        activity: Callable[[str], str],
        lend: Callable[[], Answer],
        take_back: Callable[[], None],
    ) -> None:
        self._environment = environment
        self._activity = activity
        self._lend, self._take_back = lend, take_back
        self._open: dict[str, _Terminal] = {}

    def hold(self, request: Request) -> Answer:
        """Keep a place for a program until it ends or the front end leaves."""
        args = request.read(operations.Terminal)
        claude = args.kind == operations.CLAUDE
        activity = self._activity("terminal")
        program = self._lend() if claude else {"argv": SHELL, "environment": self._environment}
        try:
            terminal = self._open[args.token] = _Terminal(program, activity)
            log(f"{activity}: {args.kind} on a terminal")
            request.on_cancel(terminal.over.set)
            request.event(operations.READY_FOR_TERMINAL)
            terminal.over.wait()
            del self._open[args.token]
            killing.kill(activity, GRACE_SECONDS)
            log(f"{activity} has ended")
        finally:
            if claude:
                self._take_back()
        return {}

    def enter(self, request: Request) -> Answer:
        """Give the program to who starts it, and wait until that has left."""
        terminal = self._open.get(request.read(operations.Enter).token)
        if terminal is None:
            raise RequestError(Code.CANCELLED, "nobody waits for this terminal any more")
        program, terminal.program = terminal.program, {}
        environment = {**program["environment"], **killing.marker_environment(terminal.activity)}
        request.on_cancel(terminal.over.set)
        request.event({"program": {**program, "environment": environment}})
        terminal.over.wait()
        return {}


def on_terminal(token: str) -> NoReturn:
    """Start the program of that token on this terminal; ends with its exit code."""
    # Kept open until this process ends: how the agent knows that the program is over.
    program, _channel = _program(token)
    environment = {**program["environment"], **_of_terminal()}
    secrets = []
    for variable, secret in program.get("descriptors", {}).items():
        reading, writing = os.pipe()
        os.set_inheritable(reading, True)
        environment[variable] = str(reading)
        secrets.append((reading, writing, secret))
    if program.get("files"):
        directory = os.open(places.RUN_DIRECTORY, os.O_RDONLY | os.O_DIRECTORY)
        os.set_inheritable(directory, True)
        for name, variable in program["files"]:
            environment[variable] = f"/proc/self/fd/{directory}/{name}"
    os.chdir(places.WORKSPACE)
    for number in _WAIT_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    child = os.fork()
    if child == 0:
        for number in _WAIT_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        try:
            os.execvpe(program["argv"][0], program["argv"], environment)
        except OSError as error:
            os.write(2, f"{program['argv'][0]}: {error.strerror}\n".encode())
        os._exit(127)
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os.kill(child, number))
    for reading, writing, secret in secrets:
        os.close(reading)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(secret.encode())
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(128 - code if code < 0 else code)


def _of_terminal() -> dict[str, str]:
    """What the front end says of its terminal."""
    return {name: os.environ[name] for name in operations.TERMINAL_VARIABLES if name in os.environ}


def _program(token: str) -> tuple[Any, IO[bytes]]:
    """The program of that token, and the channel that holds its place."""
    control = socket.socket(socket.AF_UNIX)
    control.connect(places.SOCKET_PATH)
    reading, their_writing = os.pipe()
    their_reading, writing = os.pipe()
    streams = array.array("i", (their_reading, their_writing))
    control.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
    os.close(their_reading)
    os.close(their_writing)
    channel = os.fdopen(writing, "wb", buffering=0)
    request = {"id": 1, "op": operations.ENTER, "args": {"token": token}}
    channel.write(json.dumps(request).encode() + b"\n")
    with os.fdopen(reading, "rb") as answers:
        for line in answers:
            answer = json.loads(line)
            event = answer.get("event") or {}
            if "program" in event:
                return event["program"], channel
            if "error" in answer:
                sys.exit(f"claude-mcp: {answer['error'].get('message')}")
    sys.exit("claude-mcp: the session refused the terminal")
