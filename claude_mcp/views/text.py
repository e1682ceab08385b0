"""Results as text for a model. The next step is not in it; see ``views.next_steps``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from claude_mcp.contract.numbers import counted
from claude_mcp.sessions.session import Status
from claude_mcp.sessions.turns.questions import LEADS, denial_text, kind_of, question_text
from claude_mcp.views.commands import CommandOutcome, LogsResult
from claude_mcp.views.figures import duration, elapsed, silent, turn_figures, usd
from claude_mcp.views.sessions import (
    CreateResult,
    CredentialsResult,
    DestroyEntry,
    DestroyResult,
    ListResult,
    McpServerStatus,
    SessionEntry,
)
from claude_mcp.views.turns import (
    CancelResult,
    EventEntry,
    PermissionResult,
    PromptResult,
    TurnEntry,
    TurnsResult,
    TurnView,
)
from claude_mcp.views.workspaces import (
    ApplyResult,
    ChangesResult,
    DiscardResult,
    FileEntry,
    TransferResult,
)

NETWORKS: Final = {
    "restricted": "Its network reaches only its provider and the allowed hosts.",
    "none": "It has no network: commands work, prompts do not.",
}


def create(result: CreateResult) -> str:
    lines = [
        f"Session {result.session_name} ({result.session_id}) is ready: {result.project_path} is "
        f"its /workspace. Container {result.container_name}, image {result.image}, "
        f"{result.engine}, provider {result.provider}.",
        *([f"Engine: {result.engine_reason}"] if result.engine_reason else []),
        *([NETWORKS[result.network]] if result.network in NETWORKS else []),
        *(f"Port {each.port} of the session is {each.url} on this host." for each in result.ports),
        *map(_mcp_server, result.mcp_servers),
        *([f"It will be removed at {result.expires_at}."] if result.expires_at else []),
        *_warnings(result.warnings),
    ]
    return "\n".join(lines)


def _mcp_server(server: McpServerStatus) -> str:
    error = f" ({server.error})" if server.error else ""
    return f"MCP server {server.name}: {server.status}{error}."


def prompt(result: PromptResult) -> str:
    answer = result.result if result.result and result.result != result.error else None
    denials = [
        denial_text(each.tool_name, each.tool_input, each.reason)
        for each in result.permission_denials
    ]
    return "\n".join(
        [
            *([answer, ""] if answer else []),
            *_outcome(result),
            *(f"Note: {note}" for note in result.notes),
            *denials,
            *_questions(result),
        ]
    )


def _outcome(result: PromptResult) -> list[str]:
    figures = turn_figures(result.duration_ms, result.num_turns, result.cost_usd)
    match result.status:
        case "completed":
            return [f"[completed: {figures}]"]
        case "failed":
            limit = [f"The usage limit ends at {result.retry_at}."] if result.retry_at else []
            return [f"[failed: {figures}]", *([result.error] if result.error else []), *limit]
        case "cancelled":
            return [f"[cancelled: {figures}]"]
        case "needs_permission":
            return [f"[needs_permission: turn {result.turn_id}]"]
        case "running" | "queued":
            return [
                f"[{result.status} for {elapsed(result.duration_ms)}: turn {result.turn_id}]",
                *([f"Last step: {result.last_step}"] if result.last_step else []),
            ]


def _questions(result: PromptResult) -> list[str]:
    lines = []
    for question in result.questions:
        asked = question_text(question.tool_name, question.tool_input, question.description)
        lines.append(
            f'{LEADS[kind_of(question.tool_name)]} (requestId "{question.request_id}"): {asked}'
        )
    return lines


def decided(result: PermissionResult) -> str:
    return "Claude has the answer."


def turn(result: TurnView) -> str:
    lines = [prompt(result)]
    if result.events:
        lines += ["", *map(_event, result.events)]
        lines.append(f"End of events; continue with cursor {result.cursor}.")
    return "\n".join(lines)


def _event(event: EventEntry) -> str:
    more = counted(event.left_out, "more character")
    cut = f" [... {more}: event {event.number}]" if event.left_out else ""
    return f"{event.number} {event.time} {event.kind}: {event.text}{cut}"


def turns(result: TurnsResult) -> str:
    if not result.turns:
        return "The session has no turn yet."
    return "\n".join(map(_turn_entry, result.turns))


def _turn_entry(entry: TurnEntry) -> str:
    prompt = entry.prompt or "(begun by Claude Code itself)"
    cost = f", {usd(entry.cost_usd)}" if entry.cost_usd else ""
    error = f": {entry.error}" if entry.error else ""
    return f"{entry.turn_id} {entry.at or '-'} {entry.status}{cost}: {prompt}{error}"


def cancelled(result: CancelResult) -> str:
    match result.status:
        case None:
            return "No turn was interrupted."
        case "cancelled":
            return f"Turn {result.turn_id} is cancelled."
        case "running" | "queued":
            return f"Turn {result.turn_id} is being cancelled."
        case status:
            return f"Turn {result.turn_id} had already ended: {status}."


def sessions(result: ListResult) -> str:
    several = bool(result.unreachable) or len({each.engine for each in result.sessions}) > 1
    lines = [_entry(each, several) for each in result.sessions]
    return "\n".join([*lines, *silent(result.unreachable)]) or "There are no sessions."


def _entry(entry: SessionEntry, several_engines: bool) -> str:
    facts = [f"{entry.session_id} {entry.session_name}: {entry.status}"]
    if entry.unsaved:
        facts.append("holds work that is nowhere else")
    facts += doing(entry)
    facts.append(f"project {entry.project_path}")
    facts.append(f"image {entry.image}")
    if several_engines:
        facts.append(f"engine {entry.engine}")
    facts.append(f"created {entry.created_at}")
    if entry.network in NETWORKS:
        facts.append(f"network {entry.network}")
    facts += [f"port {each.port} at {each.url}" for each in entry.ports]
    if entry.expires_at:
        facts.append(f"expires {entry.expires_at}")
    if entry.model:
        facts.append(f"model {entry.model}")
    if entry.cost_usd:
        facts.append(f"{usd(entry.cost_usd)} so far")
    if entry.created_by:
        facts.append(f"created by {entry.created_by}")
    return ", ".join(facts)


def doing(entry: SessionEntry) -> list[str]:
    """What a session is doing, in a few words each."""
    if entry.problem and entry.status != Status.RUNNING:
        return [entry.problem.rstrip(".")]
    if entry.problem:
        return [f"not known what it is doing: {entry.problem.rstrip('.')}"]
    if entry.turn_running is None:
        return []
    running = f"a turn has been running for {elapsed(entry.turn_ms or 0)}"
    facts = [running if entry.turn_running else "idle"]
    if entry.last_step:
        facts.append(f"last step {entry.last_step!r}")
    if entry.open_questions:
        facts.append(f"waits for {counted(entry.open_questions, 'answer')}")
    if entry.background_commands:
        facts.append(counted(entry.background_commands, "background command"))
    for each in entry.commands:
        left = " has left processes running" if each.status == "left_running" else ""
        facts.append(f"command {each.command_id}{left} ({each.command})")
    return facts


def credentials(result: CredentialsResult) -> str:
    given = []
    if result.credentials:
        whose = "the server's" if result.credentials == "server" else "its own"
        given.append(f"{whose} credentials")
    if result.mcp_servers:
        given.append(f"MCP servers {', '.join(result.mcp_servers)}")
    used = " and ".join(given) or "no MCP servers"
    return "\n".join(
        [
            f"Session {result.session_name} uses {used} from its next prompt on.",
            *_warnings(result.warnings),
        ]
    )


def destroy(result: DestroyResult) -> str:
    if not result.session_id:
        entries = [_destroyed(each) for each in result.sessions]
        return "\n".join(
            [*(entries or ["There was no session to destroy."]), *_warnings(result.warnings)]
        )
    if not result.existed:
        gone = f"Session {result.session_id} does not exist (any more); there was nothing to do."
        return "\n".join([gone, *_warnings(result.warnings)])
    return "\n".join(
        [
            f"Session {result.session_name} ({result.session_id}) is destroyed.",
            *_warnings(result.warnings),
        ]
    )


def _destroyed(entry: DestroyEntry) -> str:
    if entry.error is not None:
        return f"Session {entry.session_id} is NOT destroyed: {entry.error}"
    if not entry.existed:
        return f"Session {entry.session_id} does not exist (any more)."
    return f"Session {entry.session_name} ({entry.session_id}) is destroyed."


def changes(result: ChangesResult) -> str:
    return "\n".join(changed(result))


def changed(result: ChangesResult) -> list[str]:
    """Without how to read on, which each front end says in its own words."""
    if result.diff is not None:
        return [result.diff.removesuffix("\n") or "Nothing changed."]
    lines = [_file(each) for each in result.files] or ["No file changed."]
    if result.more:
        lines.append(f"... and {counted(result.more, 'more file')}")
    if not result.complete:
        lines.append("The list is cut: too much changed to count.")
    if result.left_out:
        lines.append(f"Not kept, so not compared: {', '.join(map(_one_line, result.left_out))}")
    if result.head is not None:
        ahead = "" if result.ahead is None else f", {counted(result.ahead, 'new commit')}"
        state = {True: ", all committed", False: ", not all committed", None: ""}[result.committed]
        lines.append(f"Branch {result.branch or '(none)'} at {result.head[:10]}{ahead}{state}.")
    return [*lines, *(f"Note: {note}" for note in result.notes)]


def _file(entry: FileEntry) -> str:
    counts = "binary" if entry.added is None else f"+{entry.added} -{entry.deleted}"
    came = f" (from {_one_line(entry.old_path)})" if entry.old_path else ""
    untracked = ", untracked" if entry.untracked else ""
    return f"{entry.status} {_one_line(entry.path)}{came}: {counts}{untracked}"


def _one_line(name: str) -> str:
    """A name from a session, which could have line breaks that look like lines of ours."""
    return "".join(each if each.isprintable() else "?" for each in name)


def apply(result: ApplyResult) -> str:
    took = counted(len(result.files), "file")
    if result.commits:
        took = f"{counted(result.commits, 'commit')}, {took}"
    match result.mode, result.outcome:
        case "branch", "unchanged":
            head = f"Branch {result.branch} has this work already."
        case "branch", how:
            where = "at" if how == "created" else "to"
            head = f"Branch {result.branch} was {how} {where} {result.commit[:10]}: {took}."
        case "merge", "unchanged":
            head = f"Branch {result.branch} has this work already."
        case "merge", how:
            what = "was forwarded" if how == "forwarded" else "has a merge commit"
            head = f"Branch {result.branch} {what}, {result.commit[:10]}: {took}."
        case "patch", _:
            head = f"The patch is {result.path}: {took}."
        case _:
            head = f"{counted(len(result.files), 'file')} brought to the project."
    lines = [head, *(f"  {each}" for each in result.subjects)]
    lines += [f"Not taken: {_one_line(each)}" for each in result.left]
    return "\n".join([*lines, *_warnings(result.warnings)])


def discard(result: DiscardResult) -> str:
    lines = [
        f"Restored {counted(len(result.restored), 'file')}, removed "
        f"{counted(len(result.removed), 'file')}."
    ]
    if result.branch:
        lines.append(f"Branch {result.branch} was reset.")
    return "\n".join([*lines, *(f"Left as it is: {_one_line(each)}" for each in result.left)])


def transfer(result: TransferResult) -> str:
    where = "in the session" if result.direction == "to_container" else "on the host"
    return "\n".join(
        [
            f"Copied {counted(result.files, 'file')}, {counted(result.bytes, 'byte')}; now {where} "
            f"at {result.path}.",
            *_warnings(result.warnings),
        ]
    )


def command(result: CommandOutcome) -> str:
    lines = [f"Command: {result.command}"] if result.command else []
    lines.append(_command_state(result))
    lines += [f"Note: {note}" for note in result.notes]
    named = (("stdout", result.stdout), ("stderr", result.stderr), ("output", result.output))
    for name, output in named:
        if output:
            lines += [f"{name}:", output.removesuffix("\n")]
    if not any(output for _, output in named):
        lines.append("No output.")
    if result.truncated:
        lines.append(f"Output was cut: {result.truncated}.")
    return "\n".join(lines)


def _command_state(result: CommandOutcome) -> str:
    took = duration(result.duration_ms)
    match result.status:
        case "running":
            return f"[running: command {result.command_id}, for {took}]"
        case "left_running":
            return (
                f"Exit code {result.exit_code} after {took}. Processes that it started are left "
                "running; their output is kept."
            )
        case "stopped" if result.timed_out:
            return f"Killed at its time limit, after {took}; exit code {result.exit_code}."
        case "stopped":
            return f"Stopped after {took}, with exit code {result.exit_code}."
        case "lost":
            return "Its exit code is not known: it ended when the session was stopped."
        case "completed":
            return f"Exit code {result.exit_code} after {took}."


def logs(result: LogsResult) -> str:
    head = f"Session {result.session_name} ({result.session_id}) is {result.status}."
    return "\n".join([head, *(result.lines or ["Its log is empty."])])


def _warnings(warnings: Iterable[str]) -> list[str]:
    return [f"Warning: {warning}" for warning in warnings]
