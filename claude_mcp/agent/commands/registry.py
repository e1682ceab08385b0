"""The session's commands: starts them, finds them by their ids, and keeps what became of them.

A command belongs to the session, not to the request that started it; only ``stop`` and its own
time limit end it. One that ends while its caller waits, with little output, is kept in memory
for a while. All others are recorded on disk, where they are found after a restart too.
"""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Callable

from claude_mcp.agent.channel import open_files, threads
from claude_mcp.agent.channel.connections import Answer, Request, RequestError
from claude_mcp.agent.commands import answers
from claude_mcp.agent.commands.command import TERM_GRACE_SECONDS, Command, NoInput
from claude_mcp.agent.commands.output import Output, segments
from claude_mcp.agent.store.state import log
from claude_mcp.contract import operations
from claude_mcp.contract.codes import Code
from claude_mcp.contract.messages import to_json

if TYPE_CHECKING:
    from claude_mcp.agent.commands.records import Record, Records
    from claude_mcp.agent.network.egress import Egress

ROOM_SECONDS = 10.0
"""How long a command waits until others have closed their files."""
MAX_UNATTENDED = 50
"""Commands that run although nobody waits for them; beyond that, none is started."""
KEPT_IN_MEMORY = 20
LONG_COMMAND_CHARS = 10_000
"""A longer one is recorded, whatever its output is."""
MAX_LISTED = 50
ID_CHARS = 36
STOP_SECONDS = 10.0
LEFT_KILLED = "Processes that the command had left behind were killed."


class Commands:
    """All commands. Its lock is taken before a command's condition, never after it."""

    def __init__(
        self,
        directory: str,
        environment: dict[str, str],
        egress: Egress | None,
        use: Callable[[], contextlib.AbstractContextManager[None]],
    ) -> None:
        """``use`` keeps the session from expiring."""
        self._directory = directory
        self._environment = environment
        self._egress = egress
        self._use = use
        self._lock = threading.Lock()
        self._open: dict[str, Command] = {}
        self._ended: collections.OrderedDict[str, Command] = collections.OrderedDict()
        """Those that are not recorded."""
        self._latest: str | None = None

    # Operations, each on its own thread.

    def start(self, request: Request) -> Answer:
        """Start a command, or find the one with this id, and wait for it. The thread stays with a
        new command until its end."""
        args = request.read(operations.Command)
        command_id = args.command_id or _new_id()
        if len(command_id) != ID_CHARS or "/" in command_id:
            raise RequestError(Code.BAD_COMMAND, "a command's id must be a UUID")
        with self._lock:
            known = self._known(command_id, args.durable)
            if known is None:
                command = self._accept(command_id, args)
        if known is None:
            self._run(command, request)
            return {}
        if not _is_same(known, args.command):
            raise RequestError(Code.OTHER_COMMAND, command_id)
        wait = 0.0 if args.background else args.wait_seconds
        follow = operations.FollowCommand(args.limit_bytes, command_id, wait_seconds=wait)
        return self._follow(request, known, follow)

    def follow(self, request: Request) -> Answer:
        """Wait for a command, or read its output from a cursor; without an id, the latest one."""
        args = request.read(operations.FollowCommand)
        with self._lock:
            command_id = args.command_id or self._latest or next(reversed(self._records.ids()), "")
            known = self._known(command_id)
        if known is None:
            raise RequestError(Code.NO_COMMAND, command_id)
        if args.input is not None or args.end_input:
            try:
                if not isinstance(known, Command):
                    raise NoInput("the command has ended")
                known.write_input(args.input or "", args.end_input)
            except NoInput as error:
                raise RequestError(Code.NO_INPUT, str(error)) from error
        return self._follow(request, known, args._replace(command_id=command_id))

    def stop(self, request: Request) -> Answer:
        """Kill a command and all it started, and wait until that is done."""
        args = request.read(operations.StopCommand)
        with self._lock:
            known = self._known(args.command_id)
            command = self._open.get(args.command_id)
        if known is None:
            raise RequestError(Code.NO_COMMAND, args.command_id)
        if command is not None:
            command.stop()
            deadline = time.monotonic() + STOP_SECONDS
            with command.changed:
                while not command.is_over and command.changed.wait(deadline - time.monotonic()):
                    pass
        from claude_mcp.agent.processes import killing

        answer = self._answer(known, operations.FollowCommand(args.limit_bytes, args.command_id))
        # What a command leaves behind need not hold its output open.
        activity = f"command-{args.command_id}"
        if killing.find(activity):
            killing.kill(activity, TERM_GRACE_SECONDS)
            answer["notes"] = [*answer.get("notes", ()), LEFT_KILLED]
        return answer

    def listed(self, request: Request) -> Answer:
        """The latest commands, with those that have ended."""
        with self._lock:
            found = {each: self._recorded(each) for each in self._records.ids()[-MAX_LISTED:]}
            for command in (*self._ended.values(), *self._open.values()):
                found[command.id] = (command.started_at, to_json(command.entry()))
        known = [each for each in found.values() if each is not None]
        # An entry has whole seconds only.
        known.sort(key=lambda each: (str(each[1].get("startedAt")), each[0]))
        return {"commands": [entry for _, entry in known[-MAX_LISTED:]]}

    def unattended(self) -> list[dict[str, Any]]:
        """The entries of commands that run although nobody waits for them."""
        with self._lock:
            return [to_json(each.entry()) for each in self._open.values() if each.is_unattended]

    # Starting. The caller of `_known` and `_accept` holds the lock.

    @property
    def _records(self) -> Records:
        # Imported on first use, because most commands are never recorded.
        from claude_mcp.agent.commands.records import Records

        return Records(self._directory)

    def _known(self, command_id: str, on_disk: bool = True) -> Command | Record | None:
        command = self._open.get(command_id) or self._ended.get(command_id)
        return command or (self._records.get(command_id) if on_disk else None)

    def _accept(self, command_id: str, args: operations.Command) -> Command:
        running = sum(each.is_unattended for each in self._open.values())
        if running >= MAX_UNATTENDED:
            raise RequestError(Code.TOO_MANY_COMMANDS, str(running))
        command = Command(command_id, args, f"{self._directory}/{command_id}")
        if args.durable or args.background:
            from claude_mcp.agent.store.records import TURN_ID, NotRecorded

            if not TURN_ID.fullmatch(command_id):
                raise RequestError(Code.BAD_COMMAND, "a command's id must be a UUID")
            try:
                self._save(command)
            except NotRecorded as error:
                raise RequestError(Code.COMMAND_NOT_RECORDED, str(error)) from error
        self._open[command_id] = command
        self._latest = command_id
        return command

    def _run(self, command: Command, request: Request) -> None:
        args = command.args
        mark = None if self._egress is None else self._egress.mark()
        with contextlib.ExitStack() as use:
            if not args.background:
                use.enter_context(self._use())
            try:
                self._start(command)
            except RequestError:
                self._give_up(command)
                raise
            request.on_cancel(command.wake)

            def end() -> None:
                use.close()
                if self._egress is not None and mark is not None:
                    command.notes += self._egress.notes(mark)
                for note in command.notes:
                    log(f"{command.activity}: {note}")
                if command.killed:
                    log(f"{command.activity} killed ({command.killed})")

            def release() -> None:
                if not command.is_over:
                    self._keep(command)
                with command.changed:
                    request.answer(to_json(command.result()._replace(command="")))

            wait = 0.0 if args.background else args.wait_seconds
            try:
                command.attend(wait, lambda: request.abandoned, end, release)
            finally:
                self._finish(command)

    def _start(self, command: Command) -> None:
        workdir = command.args.workdir or None
        try:
            with open_files.COMMANDS.taken(ROOM_SECONDS):
                threads.retry_at_limit(lambda: command.start(self._environment))
        except open_files.TooManyOpen as error:
            why = "the session's limit of open files is reached"
            raise RequestError(Code.NO_ROOM, why) from error
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            raise _cannot_start(workdir, error) from error
        except (BlockingIOError, RuntimeError) as error:
            raise RequestError(Code.NO_ROOM, "the session's process limit is reached") from error
        except OSError as error:
            raise _cannot_start(None, error) from error

    def _give_up(self, command: Command) -> None:
        """Forget a command that could not be started, so that its id may be used again."""
        with self._lock:
            del self._open[command.id]
            if command.args.durable or command.args.background:
                self._records.remove(command.id)
        with command.changed:
            command.is_over = True
            command.changed.notify_all()

    # Keeping.

    def _save(self, command: Command) -> None:
        """Record a command as it is now; raises NotRecorded."""
        with command.changed:
            record = {
                "digest": _digest(command.args.command),
                "entry": to_json(command.entry()),
                "began": command.started_at,
                "answer": to_json(command.result()) if command.is_over else None,
            }
            command.output.store()
        self._records.save(command.id, record)

    def _keep(self, command: Command) -> bool:
        """Record a command if that is possible; it runs, or has ended, in any case."""
        from claude_mcp.agent.store.records import NotRecorded

        try:
            with self._lock:
                self._save(command)
        except NotRecorded as error:
            log(f"could not write the record of {command.activity}: {error}")
            return False
        return True

    def _finish(self, command: Command) -> None:
        is_large = command.output.is_stored or len(command.args.command) > LONG_COMMAND_CHARS
        kept = is_large and self._keep(command)
        with self._lock:
            del self._open[command.id]
            if kept:
                self._records.tidy(set(self._open))
                return
            self._ended[command.id] = command
            while len(self._ended) > KEPT_IN_MEMORY:
                self._ended.popitem(last=False)

    def _recorded(self, command_id: str) -> tuple[float, dict[str, Any]] | None:
        """When a command began, and its entry."""
        record = self._records.get(command_id)
        if record is None:
            return None
        entry: dict[str, Any] = record["entry"]
        began = record.get("began")
        if not record.get("answer"):
            entry = {**entry, "status": operations.LOST}
        return (began if isinstance(began, float) else 0.0), entry

    # Following.

    def _follow(
        self, request: Request, known: Command | Record, args: operations.FollowCommand
    ) -> Answer:
        if isinstance(known, Command):
            request.on_cancel(known.notify)
            answers.wait(known, args, lambda: request.abandoned)
        return {} if request.abandoned else self._answer(known, args)

    def _answer(self, known: Command | Record, args: operations.FollowCommand) -> Answer:
        if isinstance(known, Command):
            with known.changed:
                if not known.was_started:
                    raise RequestError(Code.NO_COMMAND, known.id)
                return to_json(answers.since(known.result(), known.output, args))
        directory = self._records.directory(args.command_id or "")
        output = Output(directory, segments(directory))
        result = answers.recorded(known, output, args.limit_bytes)
        return to_json(answers.since(result, output, args))


def _is_same(known: Command | Record, command: str) -> bool:
    if isinstance(known, Command):
        return known.args.command == command
    return bool(known.get("digest") == _digest(command))


def _new_id() -> str:
    import uuid

    return str(uuid.uuid4())


def _digest(command: str) -> str:
    from claude_mcp.agent.store.records import digest

    return digest(command)


def _cannot_start(workdir: str | None, error: OSError) -> RequestError:
    if workdir is None:
        return RequestError(Code.FAILED, f"the command cannot be started: {error}")
    if isinstance(error, PermissionError):
        why = f"the session's user may not enter {workdir!r}"
        return RequestError(Code.BAD_WORKDIR, why)
    return RequestError(Code.BAD_WORKDIR, f"there is no directory {workdir!r}")
