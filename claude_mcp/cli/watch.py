"""The command `watch`: all sessions live on the whole terminal, and keys to act on one."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import anyio

from claude_mcp.cli.drawing import table
from claude_mcp.cli.permissions import asker
from claude_mcp.cli.render import one_line
from claude_mcp.cli.running import within
from claude_mcp.cli.screen import ENDED, Screen, open_screen
from claude_mcp.config import Config
from claude_mcp.contract.numbers import counted
from claude_mcp.errors import ClaudeMcpError, QuestionNotOpen
from claude_mcp.sessions.session import Status
from claude_mcp.views.figures import elapsed, usd

if TYPE_CHECKING:
    from claude_mcp.sessions.handle import SessionHandle
    from claude_mcp.sessions.outcomes import Listed
    from claude_mcp.sessions.registry import Sessions
    from claude_mcp.sessions.turns.results import Question

REFRESH_SECONDS: Final = 2.0
LOG_LINES: Final = 200
HEAD: Final = ("  NAME", "STATE", "FOR", "COST", "DOING")
KEYS: Final = "arrows: choose  l: log  a: answer  c: cancel  d: destroy  q: end"
LOG_KEYS: Final = "l: back  q: end"
FIXED_ROWS: Final = 4
"""Of the screen: the title, the head of the table, the message and the keys."""


def watch(arguments: argparse.Namespace, config: Config) -> int:
    async def work(sessions: Sessions) -> int:
        async with open_screen("claude-mcp list --json") as screen:
            await _Watch(sessions, screen, arguments).run()
        return 0

    return within(config, work)


class _Watch:
    def __init__(self, sessions: Sessions, screen: Screen, arguments: argparse.Namespace) -> None:
        self._sessions = sessions
        self._screen = screen
        self._arguments = arguments
        self._listed: list[Listed] = []
        self._silent: list[str] = []
        """The engines that do not answer."""
        self._chosen = 0
        self._log: list[str] | None = None
        """The lines of the chosen session's log, while that is shown."""
        self._message = "Looking for sessions ..."
        self._to_destroy: str | None = None
        """The id of the session whose destruction awaits a confirmation."""

    async def run(self) -> None:
        self._draw()
        self._message = ""
        while True:
            await self._trying(self._refresh)
            self._draw()
            until = anyio.current_time() + REFRESH_SECONDS
            while (left := until - anyio.current_time()) > 0:
                event = await self._screen.event(left)
                if event in ("q", ENDED):
                    return
                if event is None:
                    break
                if await self._trying(lambda key=event: self._act(key)):  # type: ignore[misc]
                    break
                self._draw()

    async def _trying(self, work: Callable[[], Awaitable[bool]]) -> bool:
        """Do it; a failure becomes the message."""
        try:
            return await work()
        except ClaudeMcpError as error:
            self._message = str(error)
            return False

    async def _refresh(self) -> bool:
        if self._log is not None:
            await self._read_log()
            return False
        chosen = self._session_id()
        answers = await self._sessions.survey()
        self._listed = list(answers.found)
        self._silent = [each.engine for each in answers.unreachable]
        ids = [each.session.id for each in self._listed]
        if chosen in ids:
            self._chosen = ids.index(chosen)
        self._chosen = max(0, min(self._chosen, len(ids) - 1))
        return False

    def _session_id(self) -> str | None:
        return self._listed[self._chosen].session.id if self._listed else None

    # Keys.

    async def _act(self, key: str) -> bool:
        """What a key asks for; returns whether the sessions may have changed by it."""
        confirmed, self._to_destroy = self._to_destroy, None
        self._message = ""
        if confirmed is not None:
            return await self._destroy(confirmed) if key in ("y", "Y") else False
        if self._log is not None:
            self._log = None if key in ("l", "escape", "enter") else self._log
            return True
        if key in ("up", "k", "down", "j"):
            step = -1 if key in ("up", "k") else 1
            self._chosen = max(0, min(self._chosen + step, len(self._listed) - 1))
            return False
        session_id = self._session_id()
        if session_id is None:
            return False
        match key:
            case "l" | "enter":
                await self._read_log()
            case "c":
                return await self._cancel(session_id)
            case "a":
                return await self._answer(session_id)
            case "d":
                self._to_destroy = session_id
                self._message = f"Destroy {self._name()}? y/N"
        return False

    def _name(self) -> str:
        return one_line(self._listed[self._chosen].session.name)

    async def _read_log(self) -> None:
        from claude_mcp.sessions.turns import commands

        session_id = self._session_id()
        assert session_id is not None
        handle = await self._sessions.open(session_id)
        _, self._log = await commands.logs(handle, LOG_LINES)

    async def _cancel(self, session_id: str) -> bool:
        from claude_mcp.sessions.turns import prompts

        turn = await prompts.interrupt(await self._sessions.open(session_id))
        self._message = "No turn was running." if turn is None else f"Turn {turn.status.value}."
        return True

    async def _answer(self, session_id: str) -> bool:
        from claude_mcp.sessions.turns import prompts

        handle = await self._sessions.open(session_id)
        turn = await prompts.follow(handle, wait_seconds=0)
        if not turn.questions:
            self._message = "Claude asks nothing."
            return False
        with self._screen.left():
            for question in turn.questions:
                if not await self._put(handle, question):
                    break
        return True

    async def _put(self, handle: SessionHandle, question: Question) -> bool:
        """Ask the person in lines; False if there was no answer."""
        from claude_mcp.sessions.turns.permissions import respond

        ask = asker(self._arguments)
        answer = None if ask is None else await ask(question)
        if answer is None:
            self._message = "Not answered; the question stays open."
            return False
        try:
            await respond(handle, question.request_id, answer)
        except QuestionNotOpen as error:
            self._message = error.message
        return True

    async def _destroy(self, session_id: str) -> bool:
        destroyed = await self._sessions.destroy(session_id)
        name = session_id if destroyed.session is None else one_line(destroyed.session.name)
        self._message = f"{name} is destroyed."
        return True

    # The screen.

    def _draw(self) -> None:
        wide, high = self._screen.size
        room = max(1, high - FIXED_ROWS)
        if self._log is not None:
            shown = self._log[-room - 1 :]
            lines = [f"Log of {self._name()}", *shown]
            self._screen.draw([*_filled(lines, high - 2), self._message, LOG_KEYS])
            return
        first = max(0, self._chosen - room + 1)
        several = len(self._sessions.members) > 1
        rows = [_cells(each, several) for each in self._listed[first : first + room]]
        lines = [self._title(), *table([HEAD, *rows], wide)]
        selected = 2 + self._chosen - first if rows else None
        self._screen.draw([*_filled(lines, high - 2), self._message, KEYS], selected)

    def _title(self) -> str:
        activities = [each.activity for each in self._listed if each.activity is not None]
        running = sum(each.turn_running for each in activities)
        asking = sum(each.questions > 0 for each in activities)
        waits = f", {asking} waiting for an answer" if asking else ""
        silent = f"; no answer from {', '.join(self._silent)}" if self._silent else ""
        what = f"{counted(len(self._listed), 'session')}, {running} working{waits}{silent}"
        return f"claude-mcp: {what}"


def _filled(lines: list[str], rows: int) -> list[str]:
    """Exactly so many lines."""
    return [*lines, *[""] * rows][: max(0, rows)]


def _cells(listed: Listed, several_engines: bool) -> tuple[str, ...]:
    session, activity = listed.session, listed.activity
    state, since = session.status.value, ""
    if activity is not None:
        state = "asks" if activity.questions else "works" if activity.turn_running else "idle"
        since = elapsed(activity.turn_ms) if activity.turn_ms else ""
    elif session.status is Status.RUNNING:
        state = "no answer"
    cells = (
        f"{listed.engine}/{session.name}" if several_engines else session.name,
        state,
        since,
        usd(activity.cost_usd) if activity and activity.cost_usd else "",
        (activity.last_step if activity else listed.problem or session.ended) or "",
    )
    name, *others = map(one_line, cells)
    return (f"  {name}", *others)
