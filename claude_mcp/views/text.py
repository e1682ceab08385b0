"""The results as text: what a model needs to go on, and the next step where there is one."""

from __future__ import annotations

from typing import Final

from claude_mcp.sessions.turns.questions import question_text
from claude_mcp.views.results import (
    CancelResult,
    CommandOutcome,
    CreateResult,
    CredentialsResult,
    DestroyResult,
    EventEntry,
    ListResult,
    LogsResult,
    PermissionResult,
    PromptResult,
    SessionEntry,
    TransferResult,
    TurnView,
)

NETWORKS: Final = {
    "restricted": "Its network is restricted to its provider and the allowed hosts.",
    "none": "It has no network: commands work there, prompts do not.",
}


def create(result: CreateResult) -> str:
    lines = [
        f"Session {result.session_name} ({result.session_id}) is ready: {result.project_path} is "
        f"its /workspace. Image {result.image}, {result.engine}.",
        *([NETWORKS[result.network]] if result.network in NETWORKS else []),
        *(f"MCP server {each.name}: {each.status}." for each in result.mcp_servers),
        *([f"It is removed at {result.expires_at}."] if result.expires_at else []),
        *(f"Warning: {warning}" for warning in result.warnings),
        f'Next: execute_in_session with sessionId "{result.session_id}" and a prompt; '
        "destroy_session when the work is done.",
    ]
    return "\n".join(lines)


def prompt(result: PromptResult) -> str:
    lines = []
    if result.result and result.result != result.error:
        lines += [result.result, ""]
    figures = f"{seconds(result.duration_ms)}, {counted(result.num_turns, 'model call')}"
    if result.cost_usd:
        figures += f", ${result.cost_usd:.4f}"
    match result.status:
        case "completed":
            lines.append(f"[completed: {figures}]")
            if not result.result:
                lines.append("Claude ended without a final text.")
        case "failed":
            lines.append(f"[failed: {figures}]")
            lines.append(result.error or "Claude Code gave no reason.")
            lines.append(
                "Next: correct the cause and send the prompt again (the conversation is kept), "
                "or look at get_session_logs."
            )
        case "cancelled":
            lines.append(f"[cancelled: {figures}]")
            lines.append("The conversation is kept; the next prompt goes on from here.")
        case "needs_permission":
            lines.append(f"[needs_permission: turn {result.turn_id}]")
        case "running":
            lines.append(f"[running: turn {result.turn_id}]")
            lines.append(
                f'Next: get_turn with sessionId "{result.session_id}" waits for the result; '
                "cancel_turn ends it."
            )
    lines += [f"Note: {note}" for note in result.notes]
    for denial in result.permission_denials:
        lines.append(f"Denied for lack of permission: {denial.tool_name} {denial.tool_input}")
    for question in result.questions:
        asked = question_text(question.tool_name, question.tool_input, question.description)
        lines.append(f'Claude asks for permission (requestId "{question.request_id}"): {asked}')
    if result.questions:
        lines.append(
            f'Next: respond_permission with sessionId "{result.session_id}" and each requestId; '
            "in doubt, ask your user first. get_turn then waits for the result. What nobody "
            "answers is denied after a time."
        )
    return "\n".join(lines)


def decided(result: PermissionResult) -> str:
    return f'Claude is told. Next: get_turn with sessionId "{result.session_id}" waits on.'


def turn(result: TurnView) -> str:
    lines = [prompt(result)]
    if result.events:
        lines += ["", *(_event(each) for each in result.events)]
        lines.append(f"Events end here; cursor {result.cursor} reads on.")
    return "\n".join(lines)


def _event(event: EventEntry) -> str:
    cut = f" [... {event.left_out} characters more: event {event.number}]" if event.left_out else ""
    return f"{event.number} {event.time} {event.kind}: {event.text}{cut}"


def cancelled(result: CancelResult) -> str:
    match result.status:
        case None:
            return "Nothing was running."
        case "cancelled":
            return f"Turn {result.turn_id} is cancelled. The conversation is kept."
        case "running":
            return f"Turn {result.turn_id} is being cancelled; get_turn tells when it is."
        case status:
            return f"Turn {result.turn_id} was over already: {status}."


def sessions(result: ListResult) -> str:
    if not result.sessions:
        return "There are no sessions. Create one with create_session."
    return "\n".join(_entry(each) for each in result.sessions)


def _entry(entry: SessionEntry) -> str:
    facts = [f"{entry.session_id} {entry.session_name}: {entry.status}"]
    if entry.turn_running is not None:
        facts.append("a turn is running" if entry.turn_running else "idle")
    facts.append(f"project {entry.project_path}")
    facts.append(f"image {entry.image}")
    facts.append(f"created {entry.created_at}")
    if entry.network in NETWORKS:
        facts.append(f"network {entry.network}")
    if entry.expires_at:
        facts.append(f"expires {entry.expires_at}")
    if entry.cost_usd:
        facts.append(f"${entry.cost_usd:.4f} so far")
    return ", ".join(facts)


def credentials(result: CredentialsResult) -> str:
    what = []
    if result.credentials:
        what.append("the server's credentials" if result.credentials == "server" else "credentials")
    if result.mcp_servers:
        what.append(f"MCP servers {', '.join(result.mcp_servers)}")
    given = " and ".join(what) or "no MCP servers"
    lines = [f"Session {result.session_name} has {given} from its next prompt on."]
    return "\n".join([*lines, *(f"Warning: {warning}" for warning in result.warnings)])


def destroy(result: DestroyResult) -> str:
    if result.existed:
        lines = [f"Session {result.session_name} ({result.session_id}) is destroyed."]
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in result.warnings)])
    return f"There was no session {result.session_id} any more; nothing had to be done."


def transfer(result: TransferResult) -> str:
    where = "in the session" if result.direction == "to_container" else "on the host"
    lines = [
        f"{counted(result.files, 'file')}, {counted(result.bytes, 'byte')}, now {where} at "
        f"{result.path}.",
        *(f"Warning: {warning}" for warning in result.warnings),
    ]
    return "\n".join(lines)


def command(result: CommandOutcome) -> str:
    took = seconds(result.duration_ms)
    if result.timed_out:
        lines = [
            f"Killed: it ran into its time limit after {took}. Pass a larger timeoutSeconds, or "
            "start it in the background with nohup and look at its output later."
        ]
    else:
        lines = [f"Exit code {result.exit_code} after {took}."]
    lines += [f"Note: {note}" for note in result.notes]
    for name, output in (("stdout", result.stdout), ("stderr", result.stderr)):
        if output:
            lines += [f"{name}:", output.removesuffix("\n")]
    if not result.stdout and not result.stderr:
        lines.append("It wrote nothing.")
    if result.truncated:
        lines.append(
            f"Cut in the middle: {result.truncated}. To see all of it, write it to a file and "
            "read that in parts."
        )
    return "\n".join(lines)


def logs(result: LogsResult) -> str:
    head = f"Session {result.session_name} ({result.session_id}) is {result.status}."
    return "\n".join([head, *result.lines] if result.lines else [head, "Its log is empty."])


def seconds(milliseconds: int) -> str:
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
