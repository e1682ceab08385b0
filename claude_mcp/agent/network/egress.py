"""The way out of a restricted session: runs its forwarder and keeps what that reports."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Callable

import claude_mcp
from claude_mcp.agent.channel import threads
from claude_mcp.agent.store.state import log
from claude_mcp.contract import places
from claude_mcp.contract.framing import LineTooLong, Splitter
from claude_mcp.contract.urls import basic_authorization

BACKLOG = 256
READ_BYTES = 64 * 1024
LONGEST_LINE_BYTES = 64 * 1024
MOST_HOSTS = 200
SHOWN_HOSTS = 10
RESTART_SECONDS = 0.5
DEFAULT_PORTS = (443, 80)
UNNAMED = "others"
ADDRESS = "address"
"""The field of an opening line that tells the forwarder where the proxy is."""
UNUSABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What lines can raise that another process of the session has written."""

_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from claude_mcp.proxy.forwarder import main; main(int(sys.argv[2]), sys.argv[3])"
)

Refusals = dict[tuple[str, str], int]
"""How often each host was refused, keyed by host and reason (or advice)."""


class Mark:
    """The refusals at one moment."""

    def __init__(self, refusals: Refusals) -> None:
        self.refusals = dict(refusals)
        self.moment = time.monotonic()


class Watcher:
    """Who wants to know of outages, and how many had begun when it last heard."""

    def __init__(self, on_gone: Callable[[], None]) -> None:
        self.on_gone = on_gone
        self.heard = 0


class Egress:
    """Listens where the session's programs expect a proxy."""

    def __init__(
        self,
        session_name: str,
        proxies: Mapping[str, str],
        address: str | None = None,
        port: int = places.PROXY_PORT,
    ) -> None:
        self._session_name = session_name
        self._listener = socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
        self._lock = threading.Lock()
        self._refusals: Refusals = {}
        self._outages: collections.deque[tuple[float, float]] = collections.deque(maxlen=100)
        """Start and end of the latest outages that are over."""
        self._gone_since: float | None = None
        self._begun = 0
        """How many outages began."""
        self._watchers: list[Watcher] = []
        self._wakes, self._wake = os.pipe()
        """One byte for each outage, whichever thread noticed it."""
        os.set_blocking(self._wake, False)
        self._authorizations = _authorizations(proxies)
        self._address = address
        """The proxy's, unless it is at its Unix socket."""
        self._lines = Splitter(LONGEST_LINE_BYTES)
        self._start()
        threads.start(self._supervise)

    def set_proxies(self, proxies: Mapping[str, str]) -> None:
        """The upstream proxies of the session's own proxy, with their passwords."""
        with self._lock:
            self._authorizations = _authorizations(proxies)
            self._tell()

    def set_address(self, address: str) -> None:
        with self._lock:
            self._address = address
            self._tell()

    def mark(self) -> Mark:
        with self._lock:
            self._hear()  # earlier reports belong to earlier turns and commands
            return Mark(self._refusals)

    def notes(self, before: Mark) -> list[str]:
        """What was refused since then, and whether the proxy was available."""
        with self._lock:
            self._hear()
            reasons: dict[str, list[str]] = {}
            for (host, reason), count in self._refusals.items():
                times = count - before.refusals.get((host, reason), 0)
                if times:
                    said = f"{host} ({times} times)" if times > 1 else host
                    reasons.setdefault(reason, []).append(said)
            notes = [_blocked(hosts, reason) for reason, hosts in reasons.items()]
            outages = [
                end - max(start, before.moment)
                for start, end in self._outages
                if end > before.moment
            ]
            if self._gone_since is not None:
                notes.append(
                    "The session's proxy is not running, so nothing can be reached. The next call "
                    "starts it again."
                )
            elif outages:
                notes.append(
                    f"The session's proxy was not running for {sum(outages):.1f} s; network "
                    "requests failed or had to wait in that time."
                )
            return notes

    @contextlib.contextmanager
    def watch(self, on_gone: Callable[[], None]) -> Iterator[None]:
        """Call ``on_gone`` whenever the proxy disappears, and at once if it is gone now."""
        watcher = Watcher(on_gone)
        with self._lock:
            self._watchers.append(watcher)
            watchers = self._uninformed([watcher])
        try:
            for each in watchers:
                each.on_gone()
            yield
        finally:
            with self._lock:
                self._watchers.remove(watcher)

    def _uninformed(self, watchers: list[Watcher]) -> list[Watcher]:
        """Those that have not heard of the present outage, which they are about to."""
        if self._gone_since is None:
            return []
        found = [each for each in watchers if each.heard < self._begun]
        for each in found:
            each.heard = self._begun
        return found

    def _start(self) -> None:
        code = os.path.dirname(os.path.dirname(claude_mcp.__file__))  # the archive
        descriptor = self._listener.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BOOT, code, str(descriptor), places.PROXY_SOCKET],
            bufsize=0,  # unwritten data would keep the pipe from being closed
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(descriptor,),
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._tell()

    def _tell(self) -> None:
        """Send the forwarder the line that each connection to the proxy starts with."""
        where = {} if self._address is None else {ADDRESS: self._address}
        opening = {"session": self._session_name, **self._authorizations, **where}
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended; the next one is told
            self._process.stdin.write(json.dumps(opening).encode() + b"\n")
            self._process.stdin.flush()

    def _supervise(self) -> None:
        while True:
            process = self._process
            assert process.stdout is not None
            ready, _, _ = select.select([self._wakes, process.stdout.fileno()], [], [])
            if self._wakes in ready:
                os.read(self._wakes, READ_BYTES)
                with self._lock:
                    watchers = self._uninformed(self._watchers)
                for each in watchers:
                    each.on_gone()
                continue
            with self._lock:
                ended = self._hear()
            if ended:
                with process:
                    log(f"the forwarder to the proxy ended, exit code {process.wait()}")
                    self._start_again()

    def _start_again(self) -> None:
        while True:
            time.sleep(RESTART_SECONDS)
            # At the session's process limit it fails, and is tried again.
            with self._lock, contextlib.suppress(OSError):
                self._lines.reset()
                self._start()
                return

    def _hear(self) -> bool:
        """Process what the forwarder has reported; True at the end of its output."""
        assert self._process.stdout is not None
        while True:
            try:
                data = os.read(self._process.stdout.fileno(), READ_BYTES)
            except BlockingIOError:
                return False
            with contextlib.suppress(LineTooLong):
                for line in self._lines.feed(data):
                    with contextlib.suppress(*UNUSABLE):
                        self._take(json.loads(line))
            if not data:
                return True

    def _take(self, told: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if told.get("proxy") is False and self._gone_since is None:
            self._gone_since = now
            self._begun += 1
            with contextlib.suppress(BlockingIOError):  # the pipe is full, so the reader is awake
                os.write(self._wake, b"x")
            log("the proxy is not running; nothing can be reached")
        elif told.get("proxy") is True and self._gone_since is not None:
            self._outages.append((self._gone_since, now))
            self._gone_since = None
            log("the proxy is running again")
        elif told.get("decision") == "refused":
            self._count(told)

    def _count(self, told: Mapping[str, Any]) -> None:
        reason = str(told.get("advice") or told["reason"])[:200]
        host = "an unusable request"
        if "host" in told:
            port = int(told["port"])
            host = str(told["host"])[:253] + ("" if port in DEFAULT_PORTS else f":{port}")
        if (host, reason) not in self._refusals and len(self._refusals) >= MOST_HOSTS:
            host = UNNAMED
        count = self._refusals[host, reason] = self._refusals.get((host, reason), 0) + 1
        if str(count).strip("0") == "1":  # log only the 1st, 10th, 100th and so on
            log(f"blocked: {host}: {reason}" + (f" ({count} times)" if count > 1 else ""))


def _authorizations(proxies: Mapping[str, str]) -> dict[str, str]:
    names = (("http", "HTTP_PROXY"), ("https", "HTTPS_PROXY"))
    return {key: basic_authorization(proxies[name]) for key, name in names if name in proxies}


def _blocked(hosts: list[str], reason: str) -> str:
    shown = ", ".join(hosts[:SHOWN_HOSTS])
    further = f" and {len(hosts) - SHOWN_HOSTS} more" if len(hosts) > SHOWN_HOSTS else ""
    return f"Blocked: {shown}{further}; {reason}."
