"""What the host can ask of the agent, and what the agent answers.

Both sides exchange JSON objects, one per line (see `framing`). A request is
``{"id": n, "op": name, "args": {...}}``. The agent answers it with any number of
``{"id": n, "event": {...}}`` and then either ``{"id": n, "ok": {...}}`` or
``{"id": n, "error": {"code": ..., "message": ...}}``. ``cancel`` has no answer of its own: it ends
another request, which is then answered.

Each operation has a class for its ``args`` and, unless the answer is empty, one for its ``ok``.
Seconds are floats, and None means no limit. The host must treat every answer and event as forged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

PING = "ping"
COMMAND = "command"
FOLLOW_COMMAND = "follow-command"
STOP_COMMAND = "stop-command"
COMMANDS = "commands"
STATUS = "status"
CONFIGURE = "configure"
PROXY = "proxy"
MCP = "mcp"
TURN = "turn"
FOLLOW = "follow"
EVENT = "event"
TURNS = "turns"
WATCH = "watch"
INTERRUPT = "interrupt"
RESPOND = "respond"
RECEIVE = "receive"
ARRIVED = "arrived"
CHANGES = "changes"
DISCARD = "discard"
PACK = "pack"
COLLECT = "collect"
DROP = "drop"
UNSAVED = "unsaved"
APPLIED = "applied"
TERMINAL = "terminal"
ENTER = "enter"
CANCEL = "cancel"


class Request(NamedTuple):
    id: int
    op: str
    args: Mapping[str, Any]


class Answer(NamedTuple):
    """One line from the agent: an event, or the end of a request.

    ``id`` is None when the agent could not read the request.
    """

    id: int | None
    event: object = None
    """An object; a forged one may be anything."""
    ok: Mapping[str, Any] | None = None
    error: Refusal | None = None


class Refusal(NamedTuple):
    code: str
    """A ``Code``."""
    message: str


class Cancel(NamedTuple):
    id: int


GREETING: dict[str, Any] = {"greeting": True}
"""The agent's first event on each channel, for the request id 0."""

PROXY_GONE: dict[str, Any] = {"proxy": "gone"}
"""An event of commands and turns that are waited for: the front end must restart the proxy."""


# Commands.


RUNNING = "running"
LEFT_RUNNING = "left_running"
"""The shell has ended, but processes that it started still hold the command's output open."""
COMPLETED = "completed"
"""The command has ended by itself, with whatever exit code."""
STOPPED = "stopped"
"""It was killed: by ``stop-command`` or at its time limit."""
LOST = "lost"
"""The container was stopped while it ran."""


class Command(NamedTuple):
    """Starts a command, or finds the one that has this id."""

    command: str
    """For ``sh -c``."""
    limit_bytes: int
    """How much of each output stream the result holds: its first and its last half."""
    workdir: str | None = None
    timeout_seconds: float | None = None
    command_id: str | None = None
    """A UUID."""
    durable: bool = False
    """Whether it may only start once it is recorded, so that its id never starts another."""
    wait_seconds: float | None = None
    """The answer then says that it is running; None waits for the end."""
    background: bool = False
    """Answer at once; stdin stays open, and the session may expire meanwhile."""
    input: str | None = None
    """Written to its stdin, which is then closed unless it is in the background or has a tty."""
    tty: bool = False
    columns: int = 80
    rows: int = 24


class FollowCommand(NamedTuple):
    """With ``cursor``, wait only until there is output after it, and return that output."""

    limit_bytes: int
    command_id: str | None = None
    """None for the latest command."""
    cursor: int | None = None
    wait_seconds: float | None = None
    merge: bool = False
    """With a cursor: both streams in the order of their arrival, as ``output``."""
    input: str | None = None
    end_input: bool = False
    """Close its stdin after the input."""


class StopCommand(NamedTuple):
    """Kill a command and everything it started."""

    limit_bytes: int
    command_id: str


class CommandResult(NamedTuple):
    """The answer to ``command``, ``follow-command`` and ``stop-command``.

    The byte counts are those of the whole streams or, with a cursor, of what is returned. Times
    are UTC in RFC 3339.
    """

    exit_code: int | None
    """None while the shell runs, and if the command was lost."""
    stdout: str
    stderr: str
    stdout_bytes: int
    stderr_bytes: int
    duration_ms: int
    timed_out: bool
    notes: tuple[str, ...] = ()
    command_id: str = ""
    status: str = COMPLETED
    command: str = ""
    """The beginning of its text."""
    background: bool = False
    started_at: str = ""
    ended_at: str | None = None
    cursor: int = 0
    """To read on after what is returned. Only the session knows what the number means."""
    more: bool = False
    """Whether there is output after ``cursor`` already."""
    missing: int = 0
    """About how many bytes before the returned output are no longer kept."""
    output: str | None = None


class CommandEntry(NamedTuple):
    command_id: str
    command: str
    status: str
    background: bool
    started_at: str
    ended_at: str | None = None
    exit_code: int | None = None


class CommandList(NamedTuple):
    """The latest commands, oldest first."""

    commands: tuple[CommandEntry, ...] = ()


# Transfers into the session.


class Receive(NamedTuple):
    destination: str
    name: str
    """The source's own name, used if the destination is a directory."""
    directory: bool
    """Whether the source is one."""
    overwrite: bool
    create_parents: bool = False
    """Whether missing directories above the destination are created."""


class Staging(NamedTuple):
    """An event of ``receive``: where the engine must unpack the files, and who owns them."""

    staging: str
    uid: int
    gid: int


class Received(NamedTuple):
    path: str


class Arrived(NamedTuple):
    """The files are in the staging directory."""

    staging: str
    files: int | None = None
    """How many files and links were sent; directories do not count."""


# Turns.

REFUSE = "refuse"
WAIT = "wait"
"""The values of ``SubmitTurn.when_busy``."""

ALLOW = "allow"
DENY = "deny"
"""The values of ``Respond.decision``."""

ASK_USER = "AskUserQuestion"
APPROVE_PLAN = "ExitPlanMode"
"""The tools with which Claude asks its user; each call is a ``Question``."""


class SubmitTurn(NamedTuple):
    turn_id: str
    prompt: str
    tools: tuple[str, ...] | None = None
    model: str | None = None
    max_turns: int | None = None
    max_budget_usd: float | None = None
    new_conversation: bool = False
    wait_seconds: float | None = None
    when_busy: str = REFUSE
    answerable: bool = False
    """Whether somebody can answer Claude's own questions; otherwise it is told so at once."""
    output_schema: str | None = None
    """A JSON Schema; the result is then JSON that follows it."""
    live: bool = False
    """Whether the caller hears what Claude says while it says it, as ``Said``."""


class FollowTurn(NamedTuple):
    turn_id: str | None = None
    """None for the latest turn."""
    cursor: int | None = None
    wait_seconds: float | None = None
    with_prompt: bool = False
    """Whether the answer has the beginning of the prompt."""
    live: bool = False
    """As for ``SubmitTurn``."""


class InterruptTurn(NamedTuple):
    turn_id: str | None = None
    """None for the running turn."""


class Progress(NamedTuple):
    """An event of ``turn``, ``follow`` and ``interrupt``: a headline of what Claude does."""

    progress: str
    kind: str = ""
    """With ``live``: the kind of the ``JournalEvent``; then there is one for each, except for what
    Claude says."""


class Said(NamedTuple):
    """An event of ``turn`` and ``follow`` with ``live``: the next piece of what Claude says.

    A message may begin anew before it is whole: its first pieces are then void.
    """

    said: str
    begins: bool = False
    ends: bool = False


class JournalEvent(NamedTuple):
    """``time`` is UTC in RFC 3339; ``left_out`` counts the characters missing from the text."""

    number: int
    time: str
    kind: str
    text: str
    left_out: int = 0


class PermissionDenial(NamedTuple):
    tool_name: str
    tool_input: Mapping[str, Any]
    reason: str | None = None
    """What the person who denied it wrote, or why nobody answered."""


class Question(NamedTuple):
    """An open permission question, or a question of Claude's own."""

    request_id: str
    tool_name: str
    tool_input: Mapping[str, Any]
    description: str | None = None


class TurnState(NamedTuple):
    """The answer to ``turn``, ``follow`` and ``interrupt``; a running turn has no result yet.

    Until then, ``duration_ms`` is the time since the prompt was accepted.
    """

    turn_id: str
    status: str
    cursor: int
    """The number of the last event that was considered; to be passed to ``follow``."""
    events: tuple[JournalEvent, ...]
    notes: tuple[str, ...] = ()
    ahead: int = 0
    """How many turns come before it in the queue."""
    questions: tuple[Question, ...] = ()
    result: str | None = None
    error: str | None = None
    conversation_id: str | None = None
    num_turns: int = 0
    duration_ms: int = 0
    cost_usd: float = 0.0
    usage: Mapping[str, Any] = {}
    permission_denials: tuple[PermissionDenial, ...] = ()
    model: str | None = None
    """The model that answered, as far as one has."""
    last_step: str | None = None
    """While the turn runs: a headline of what Claude did last."""
    retry_at: str | None = None
    """When the usage limit that stopped it ends, UTC in RFC 3339."""
    prompt: str | None = None
    """The beginning of the prompt, if it was asked for."""
    needs_new_conversation: bool = False
    """Whether the service refuses what the conversation contains."""


class ListTurns(NamedTuple):
    """The turns, newest first; with ``before``, those older than this one."""

    before: str | None = None
    limit: int = 20


class TurnSummary(NamedTuple):
    """``at`` is when the prompt was accepted, UTC in RFC 3339.

    ``prompt`` is its first line; None for a turn that Claude Code started by itself.
    """

    turn_id: str
    status: str
    at: str | None = None
    prompt: str | None = None
    cost_usd: float = 0.0
    duration_ms: int = 0
    error: str | None = None


class TurnList(NamedTuple):
    turns: tuple[TurnSummary, ...]
    more: bool = False
    """Whether there are older ones."""


class Watch(NamedTuple):
    """Wait until something happens in a turn after ``seen``, the mark of an earlier answer."""

    seen: int | None = None
    wait_seconds: float = 0.0


class Watched(NamedTuple):
    """``mark`` differs from that of any earlier answer between which something happened."""

    mark: int


class ReadEvent(NamedTuple):
    number: int


class WholeEvent(NamedTuple):
    event: JournalEvent


class Respond(NamedTuple):
    request_id: str
    decision: str
    message: str | None = None
    answers: tuple[str, ...] = ()
    """With ``ALLOW``: one for each question of ``ASK_USER``, in order."""


class Responded(NamedTuple):
    turn_id: str | None = None
    """None if the question belonged to no turn."""


class Status(NamedTuple):
    turn_running: bool
    """Whether a turn is running or waiting."""
    last_activity_at: str
    cost_usd: float
    """What the session has cost so far."""
    turn_id: str | None = None
    """The running turn, or else the latest one."""
    turn_ms: int | None = None
    """How long the running turn has been running, or waiting."""
    last_step: str | None = None
    """A headline of what Claude did last, in any turn."""
    model: str | None = None
    """The model that answered last, or else the session's own."""
    questions: int = 0
    """How many permission questions are open."""
    background: int = 0
    """How many commands of Claude Code run in the background."""
    commands: tuple[CommandEntry, ...] = ()
    """Commands that run although nobody waits for them, oldest first."""


# Credentials and MCP servers.


class Configure(NamedTuple):
    """Also the first line on the agent's stdin, before the creator commits."""

    secrets: Mapping[str, Any]
    """A ``Handover`` as JSON."""
    git_identity: tuple[tuple[str, str], ...] = ()
    """Settings of git that say who commits, such as ``user.name``; only at the creation."""
    proxy_address: str | None = None
    """That of the session's proxy, if it reaches it by address; only at the creation."""


class Proxy(NamedTuple):
    """The session's proxy has another address."""

    address: str


class WaitForMcp(NamedTuple):
    wait_seconds: float


class McpReport(NamedTuple):
    """``status`` is Claude Code's word for it, or ``unknown``."""

    name: str
    status: str
    error: str | None = None


class McpReports(NamedTuple):
    mcp_servers: tuple[McpReport, ...]


# The workspace.


class ReadChanges(NamedTuple):
    """What changed since the session's creation, or by one turn.

    With ``diff``, the unified diff instead of the files. It begins at ``offset``, in characters of
    the diff or in files. To read on, give the ``until`` of the first part: the workspace may change
    meanwhile.
    """

    turn_id: str | None = None
    paths: tuple[str, ...] = ()
    diff: bool = False
    offset: int = 0
    until: str | None = None


class FileChange(NamedTuple):
    """``status`` is A, M, D, R (from ``old_path``) or T (another type).

    ``added`` and ``deleted`` count lines; both are None for a binary file.
    """

    path: str
    status: str
    old_path: str | None = None
    added: int | None = None
    deleted: int | None = None
    untracked: bool = False


class Changes(NamedTuple):
    """``more`` files follow; ``next_offset`` and ``until`` are what to ask for then.

    Without ``complete``, git was stopped at a limit, and there may be still more. ``head`` and the
    three after it describe the repository. ``left_out`` are files that no checkpoint could keep.
    """

    files: tuple[FileChange, ...]
    more: int = 0
    left_out: tuple[str, ...] = ()
    is_repository: bool = False
    branch: str | None = None
    head: str | None = None
    ahead: int | None = None
    committed: bool | None = None
    diff: str | None = None
    next_offset: int | None = None
    until: str | None = None
    complete: bool = True


class Discard(NamedTuple):
    """Back to the state at creation, or before a turn; only ``paths``, if there are any."""

    turn_id: str | None = None
    paths: tuple[str, ...] = ()


class Discarded(NamedTuple):
    """``left`` says of each file that could not be brought back why not."""

    restored: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    branch: str | None = None


class Pack(NamedTuple):
    """Put the commits of a clone since its beginning into a bundle.

    With ``commit``, a message, all that is uncommitted is committed first.
    """

    commit: str | None = None


class Packed(NamedTuple):
    """``path`` is the bundle in the session; ``drop`` removes it."""

    path: str
    branch: str
    uncommitted: int = 0


class Drop(NamedTuple):
    """``path`` is that of a bundle or of collected objects; an older host names none."""

    path: str = ""


class Collect(NamedTuple):
    """Put the objects of git that differ from the beginning into a file, as ``cat-file --batch``
    writes them: trees, and the new files below ``paths``; ``both`` adds the old ones.

    What is collected of a clone is what was committed; ``commit`` is as for ``pack``.
    """

    paths: tuple[str, ...] = ()
    both: bool = False
    commit: str | None = None


class Collected(NamedTuple):
    """``path`` is the file, ``before`` and ``after`` are commits of a clone, else trees.

    ``seal`` is what the host made of the tree with which a copy began. ``state`` is what
    ``applied`` takes if the host has all.
    """

    path: str
    before: str
    after: str
    state: str
    uncommitted: int = 0
    seal: str = ""


class Unsaved(NamedTuple):
    """What only the session has. ``reason`` is set if that could not be told completely.

    ``more`` counts the commits and files that are not listed, ``more_commits`` the commits of them.
    """

    commits: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    more: int = 0
    reason: str = ""
    more_commits: int = 0


class Applied(NamedTuple):
    """The host has this commit and all that lead to it; or this state of a copy."""

    commit: str


# Programs on a terminal.

SHELL, CLAUDE = "shell", "claude"
TERMINAL_VARIABLES = ("TERM", "COLORTERM", "LANG", "LC_ALL", "LC_CTYPE", "NO_COLOR")
"""What a program learns of the terminal that it runs on."""
READY_FOR_TERMINAL: dict[str, Any] = {"ready": True}
"""The event of ``terminal`` after which the program may be started with ``enter``."""


class Terminal(NamedTuple):
    """Keep a place for a program until it ends; losing the channel ends the program."""

    token: str
    """A random word that the program is asked for with."""
    kind: str
    """``SHELL`` or ``CLAUDE``; no prompt is accepted while Claude Code is there."""


class Enter(NamedTuple):
    """Asked by who starts the program: its event ``program`` holds argv, environment, secrets."""

    token: str
