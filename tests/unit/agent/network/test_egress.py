"""A restricted session's way out: the real forwarder, to a proxy that is scripted."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_mcp.agent.network import egress
from claude_mcp.agent.network.egress import MOST_HOSTS, SHOWN_HOSTS, Egress, Mark
from claude_mcp.contract import places
from tests.unit.agent.conftest import threads
from tests.unit.agent.scripted import until
from tests.unit.agent.scripted_proxy import ADVICE, ScriptedProxy, ask, ending

GONE = (
    "The session's proxy is not running, so nothing can be reached. The next call starts it again."
)
WAS_GONE = "The session's proxy was not running for "


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedProxy]:
    """It is not there before it is started."""
    monkeypatch.setattr(places, "PROXY_SOCKET", str(tmp_path / "socket"))
    made = ScriptedProxy(tmp_path / "socket")
    yield made
    made.stop()


@pytest.fixture
def started(proxy: ScriptedProxy) -> ScriptedProxy:
    """It is there before the forwarder looks for it, where a test asks for it before ``out``."""
    proxy.start()
    return proxy


@pytest.fixture
def out(proxy: ScriptedProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Egress]:
    """The way out of the session ``fix``; its proxy is not there yet."""
    monkeypatch.setattr(egress, "RESTART_SECONDS", 0.01)
    proxies = {"HTTP_PROXY": "http://me:first-pass@proxy.example", "NO_PROXY": "localhost"}
    with ending(Egress("fix", proxies, port=0)) as made:
        yield made


def tell(out: Egress, *lines: object) -> None:
    """As the forwarder does, or whatever else in the session writes to its pipe."""
    # Each in one piece, between which the forwarder may tell something itself.
    with open(f"/proc/{out._process.pid}/fd/1", "wb", buffering=0) as pipe:
        for line in lines:
            pipe.write((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n")


def blocked(out: Egress, before: Mark) -> list[str]:
    """The notes, but for the proxy that is not there, which the forwarder notices some time."""
    return [note for note in out.notes(before) if note != GONE]


def refused(host: str, port: int = 443, reason: str = "no", **more: Any) -> dict[str, Any]:
    return {"decision": "refused", "host": host, "port": port, "reason": reason, **more}


FORGED: list[object] = [
    b"",
    b"{",
    b"\xff\xfe",
    b"null",
    b"[]",
    b"5",
    b'"refused"',
    b"[" * 60_000,
    b'{"decision": ' + b"[" * 60_000,
    b'{"decision": "refused", "host": ' + b"9" * 5000 + b', "port": 1, "reason": "no"}',
    b"x" * 300_000,
    {},
    {"proxy": 0},
    {"proxy": []},
    {"proxy": None},
    {"decision": ["refused"]},
    {"decision": "refused"},
    {"decision": "refused", "reason": "no", "host": "a.example"},
    refused("a.example", port="ssh"),  # type: ignore[arg-type]
    refused("a.example", port=None),  # type: ignore[arg-type]
    b'{"decision": "refused", "host": "a", "port": Infinity, "reason": "no"}',
    b'{"decision": "refused", "host": "a", "port": NaN, "reason": "no"}',
]
"""What something else in the session may write to the forwarder's pipe."""

# Refusals.


def test_what_is_refused_is_told_as_soon_as_it_was_answered(
    started: ScriptedProxy, out: Egress, capsys: pytest.CaptureFixture[str]
) -> None:
    before = out.mark()
    assert ask(out, "http://a.example/").startswith(b"HTTP/1.1 403 no")
    assert out.notes(before) == [f"Blocked: a.example; {ADVICE}."]
    between = out.mark()
    for url in ("b.example:8080", "a.example", "192.0.2.1", "a.example", "b.example:80"):
        ask(out, f"http://{url}/")
        assert out.notes(between)
    assert ask(out, "http://open.example/").startswith(b"HTTP/1.1 200")
    ask(out, "", "nonsense\r\n\r\n")
    address = "Blocked: 192.0.2.1; only host names are allowed, not addresses."
    nonsense = "Blocked: an unusable request; it is not an HTTP/1.1 request."
    # The first ones come first, and each is counted from its mark on.
    assert out.notes(between) == [
        f"Blocked: a.example (2 times), b.example:8080, b.example; {ADVICE}.",
        address,
        nonsense,
    ]
    assert out.notes(before) == [
        f"Blocked: a.example (3 times), b.example:8080, b.example; {ADVICE}.",
        address,
        nonsense,
    ]
    assert out.notes(out.mark()) == []
    assert [line for line in capsys.readouterr().err.splitlines() if "blocked" in line] == [
        f"blocked: a.example: {ADVICE}",
        f"blocked: b.example:8080: {ADVICE}",
        "blocked: 192.0.2.1: only host names are allowed, not addresses",
        f"blocked: b.example: {ADVICE}",
        "blocked: an unusable request: it is not an HTTP/1.1 request",
    ]


def test_only_so_many_hosts_are_shown_and_remembered(
    out: Egress, capsys: pytest.CaptureFixture[str]
) -> None:
    before = out.mark()
    tell(out, *(refused(f"h{number}.example") for number in range(SHOWN_HOSTS)))
    shown = ", ".join(f"h{number}.example" for number in range(SHOWN_HOSTS))
    assert blocked(out, before) == [f"Blocked: {shown}; no."]
    tell(out, *(refused(f"h{number}.example") for number in range(MOST_HOSTS + 7)))
    shown = ", ".join(f"h{number}.example (2 times)" for number in range(SHOWN_HOSTS))
    # One is all those that are not remembered.
    assert blocked(out, before) == [
        f"Blocked: {shown} and {MOST_HOSTS - SHOWN_HOSTS + 1} more; no."
    ]
    last = out.mark()
    tell(out, refused("further.example"), refused("h0.example"))
    assert blocked(out, last) == ["Blocked: h0.example, others; no."]
    assert len(out._refusals) == MOST_HOSTS + 1


def test_the_log_has_no_line_for_each_of_a_thousand(
    out: Egress, capsys: pytest.CaptureFixture[str]
) -> None:
    before = out.mark()
    tell(out, *[refused("a.example")] * 1099)
    assert blocked(out, before) == ["Blocked: a.example (1099 times); no."]
    told = [line for line in capsys.readouterr().err.splitlines() if "blocked" in line]
    assert told == [
        "blocked: a.example: no",
        *(f"blocked: a.example: no ({count} times)" for count in (10, 100, 1000)),
    ]


def test_forged_lines_do_no_harm(out: Egress) -> None:
    for number, line in enumerate(FORGED):
        before = out.mark()
        tell(out, line, refused(f"h{number}.example"))
        until(lambda: blocked(out, before))  # noqa: B023
        assert blocked(out, before) == [f"Blocked: h{number}.example; no."]
    assert len(threads("_supervise")) == 1


def test_forged_values_are_cut_and_can_be_told(out: Egress) -> None:
    before = out.mark()
    tell(
        out,
        refused("\ud800\x1b[0m\n" + "x" * 300, reason="y" * 300),
        refused({"a": 1}, advice=["b"], reason=5),  # type: ignore[arg-type]
        {"decision": "refused", "advice": "c"},
    )
    first, second, third = blocked(out, before)
    assert first == f"Blocked: \ud800\x1b[0m\n{'x' * 247}; {'y' * 200}."
    assert second == "Blocked: {'a': 1}; ['b']."
    assert third == "Blocked: an unusable request; c."


# The proxy is gone.


def test_an_outage_is_told_while_it_lasts_and_afterwards_to_whom_it_concerns(
    started: ScriptedProxy, out: Egress, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(out, "http://open.example/")
    before = out.mark()
    assert out.notes(before) == []
    started.stop()
    until(lambda: out.notes(before))
    assert out.notes(before) == [GONE]
    meanwhile = out.mark()
    assert out.notes(meanwhile) == [GONE]
    started.start()
    until(lambda: out.notes(before) != [GONE])
    # Whoever began while it lasted may have had to wait as well.
    for mark in (before, meanwhile):
        (note,) = out.notes(mark)
        assert note.startswith(WAS_GONE)
        assert note.endswith(" s; network requests failed or had to wait in that time.")
    assert out.notes(out.mark()) == []
    # It is the whole of several, from the mark on.
    out._outages = deque([(-9.0, -5.0), (before.moment + 1, before.moment + 3)])
    out._outages.append((before.moment + 4, before.moment + 4.5))
    assert out.notes(before)[0].startswith(f"{WAS_GONE}2.5 s; ")
    meanwhile.moment = before.moment + 2
    assert out.notes(meanwhile)[0].startswith(f"{WAS_GONE}1.5 s; ")
    told = capsys.readouterr().err.splitlines()
    lines = ["the proxy is not running; nothing can be reached", "the proxy is running again"]
    assert told == lines


def test_what_is_asked_while_it_is_gone_waits_for_it(out: Egress, proxy: ScriptedProxy) -> None:
    before = out.mark()
    until(lambda: out.notes(before))
    found: list[bytes] = []
    client = threading.Thread(target=lambda: found.append(ask(out, "http://open.example/")))
    client.start()
    proxy.start()
    client.join()
    assert found == [b"HTTP/1.1 200 OK\r\n"]


def test_whoever_watches_hears_at_once_that_it_is_gone_and_whenever_it_goes(
    out: Egress, proxy: ScriptedProxy
) -> None:
    heard: list[str] = []
    before = out.mark()
    with out.watch(lambda: heard.append("early")):
        until(lambda: heard)
    until(lambda: out.notes(before))
    with out.watch(lambda: heard.append("late")):
        assert heard[-1] == "late"
        proxy.start()
        until(lambda: GONE not in out.notes(before))
        heard.clear()
        with out.watch(lambda: heard.append("inner")):
            assert heard == []
            proxy.stop()
            until(lambda: len(heard) == 2)
        assert sorted(heard) == ["inner", "late"]
    assert out._watchers == []


def test_whoever_watches_hears_of_an_outage_whichever_thread_read_of_it(out: Egress) -> None:
    heard: list[int] = []
    before = out.mark()
    until(lambda: out.notes(before))
    with out.watch(lambda: heard.append(1)):
        for count in range(2, 12):
            tell(out, {"proxy": True}, {"proxy": False})
            assert out.notes(before) == [GONE]
            until(lambda: len(heard) >= count)  # noqa: B023
    assert len(heard) == 11


def test_a_flood_of_outages_does_not_stop_anybody(
    out: Egress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress, "log", lambda line: None)
    fcntl.fcntl(out._wake, 1031, 4096)  # F_SETPIPE_SZ, which Python 3.9 does not name
    before = out.mark()
    with out._lock:  # nobody takes what is told
        for there in [True, False] * 5000:
            out._take({"proxy": there})
    assert out.notes(before) == [GONE]


# The forwarder.


def test_a_forwarder_that_is_killed_is_started_again(
    started: ScriptedProxy, out: Egress, capsys: pytest.CaptureFixture[str]
) -> None:
    before = out.mark()
    ask(out, "http://a.example/")
    first = out._process
    with open(f"/proc/{first.pid}/fd/1", "wb") as pipe:
        pipe.write(b"half a line, of which nothing is left")
    os.kill(first.pid, signal.SIGKILL)
    # The listening socket is the agent's, so whoever asks meanwhile only waits.
    ask(out, "http://a.example/")
    assert out._process is not first
    assert out.notes(before) == [f"Blocked: a.example (2 times); {ADVICE}."]
    assert "the forwarder to the proxy ended, exit code -9" in capsys.readouterr().err
    assert [opening["session"] for opening in started.openings] == ["fix", "fix"]


def test_a_forwarder_that_finds_no_room_is_tried_until_it_does(
    started: ScriptedProxy, out: Egress, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(out, "http://a.example/")
    tries: list[int] = []
    start = subprocess.Popen

    def popen(*args: Any, **options: Any) -> Any:
        tries.append(len(tries))
        if len(tries) < 3:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return start(*args, **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    before = out.mark()
    out._process.kill()
    until(lambda: tries)
    assert out.notes(before) == []
    out.set_proxies({})
    ask(out, "http://a.example/")
    assert tries == [0, 1, 2]
    assert out.notes(before) == [f"Blocked: a.example; {ADVICE}."]


def test_passwords_of_further_proxies_go_with_each_connection_and_nowhere_else(
    started: ScriptedProxy, out: Egress
) -> None:
    ask(out, "http://a.example/")
    assert started.openings == [{"session": "fix", "http": "Basic bWU6Zmlyc3QtcGFzcw=="}]
    out.set_proxies({"HTTPS_PROXY": "http://me:second-pass@proxy.example:3128"})
    second = {"session": "fix", "https": "Basic bWU6c2Vjb25kLXBhc3M="}

    def changed() -> bool:
        ask(out, "http://a.example/")
        return started.openings[-1] == second

    until(changed)
    out._process.kill()
    ask(out, "http://a.example/")
    assert started.openings[-1] == second
    for name in ("cmdline", "environ"):
        there = Path(f"/proc/{out._process.pid}/{name}").read_bytes()
        assert not [secret for secret in (b"-pass", b"bWU6", b"proxy.example") if secret in there]


def test_a_proxy_that_is_elsewhere_now_is_looked_for_there(
    started: ScriptedProxy, out: Egress
) -> None:
    ask(out, "http://a.example/")
    before = out.mark()
    out.set_address("127.0.0.77")  # nobody is there
    started.stop()
    until(lambda: out.notes(before) == [GONE])
    started.start()  # at the Unix socket, which does not matter any more
    ask_again = out.mark()
    assert out.notes(ask_again) == [GONE]
