"""The commands: each is declared once, in ``COMMANDS``.

What a command takes is declared by its function in the modules ``*_arguments``; the options of a
session and of a turn come from their declarations in ``sessions``.
"""

from __future__ import annotations

from collections.abc import Callable

from claude_mcp.cli.flags import Parser
from claude_mcp.cli.own_arguments import (
    completion,
    config,
    doctor,
    image,
    install,
    serve,
    uninstall,
)
from claude_mcp.cli.session_arguments import (
    apply,
    changes,
    copy,
    create,
    credentials,
    destroy,
    discard,
    list_sessions,
    logs,
    prune,
    run,
    show,
    stats,
    watch,
)
from claude_mcp.cli.shared_arguments import session
from claude_mcp.cli.work_arguments import (
    cancel,
    command,
    commands,
    execute,
    prompt,
    respond,
    stop_command,
    turn,
    turns,
)

COMMANDS: dict[str, tuple[str, str, Callable[[Parser], None]]] = {
    "create": (
        "create a session on a project and print its id",
        "claude-mcp create . --name fix-tests --mount ~/data:/data",
        create,
    ),
    "prompt": (
        "send Claude Code a prompt and print its answer",
        "git diff | claude-mcp prompt fix-tests\n"
        "  claude-mcp prompt fix-tests 'Now add a test for it'",
        prompt,
    ),
    "run": (
        "create a session, send one prompt, take the work, destroy the session",
        "claude-mcp run . 'Fix the failing tests' --apply branch\n"
        "  claude-mcp run . 'Which licences do our dependencies have?' --apply none",
        run,
    ),
    "turn": (
        "wait for a turn, or show its events",
        "claude-mcp turn fix-tests\n  claude-mcp turn fix-tests --cursor 0 --json",
        turn,
    ),
    "turns": (
        "list a session's turns, newest first",
        "claude-mcp turns fix-tests --limit 5",
        turns,
    ),
    "cancel": ("interrupt a turn", "claude-mcp cancel fix-tests", cancel),
    "respond": (
        "answer a permission request or a question of Claude",
        "claude-mcp respond fix-tests 3f0c9a41b27e --deny --message 'Not in that directory'\n"
        "  claude-mcp respond fix-tests 3f0c9a41b27e --answer SQLite --answer 'Only in tests'",
        respond,
    ),
    "credentials": (
        "set a session's credentials or MCP servers",
        "claude-mcp credentials fix-tests --provider-option apiKey=env:MY_KEY",
        credentials,
    ),
    "exec": (
        "run a command in a session and return its exit code",
        "claude-mcp exec fix-tests 'make test 2>&1 | tail'\n"
        "  claude-mcp exec --timeout 60 fix-tests -- grep -rn 'to do' src\n"
        "  claude-mcp exec --detach fix-tests 'npm run dev'",
        execute,
    ),
    "command": (
        "wait for a command, or follow its output",
        "claude-mcp command fix-tests --follow",
        command,
    ),
    "commands": ("list a session's latest commands", "claude-mcp commands fix-tests", commands),
    "stop-command": (
        "kill a command and everything that it started",
        "claude-mcp stop-command fix-tests 2b1f6a52-9f0c-4a4e-8a3e-6c5d1a7d1d55",
        stop_command,
    ),
    "show": (
        "show all that is known of one session",
        "claude-mcp show fix-tests\n  claude-mcp show . --json",
        show,
    ),
    "watch": (
        "show all sessions live on the whole terminal, and act on one",
        "claude-mcp watch",
        watch,
    ),
    "stats": (
        "measure what sessions take of the host",
        "claude-mcp stats\n  claude-mcp stats fix-tests --watch",
        stats,
    ),
    "list": ("list all sessions", "claude-mcp list --json", list_sessions),
    "destroy": (
        "remove sessions with all their data, except the projects",
        "claude-mcp destroy fix-tests 4f2a",
        destroy,
    ),
    "prune": (
        "remove sessions that have expired or are broken",
        "claude-mcp prune --dry-run",
        prune,
    ),
    "copy": (
        "copy files into or out of a session",
        "claude-mcp copy data.csv fix-tests:/tmp/\n  claude-mcp copy fix-tests:/tmp/report.html .",
        copy,
    ),
    "changes": (
        "show what a session changed",
        "claude-mcp changes fix-tests\n  claude-mcp changes fix-tests src --full",
        changes,
    ),
    "apply": (
        "bring the commits of a session's clone to the project",
        "claude-mcp apply fix-tests --commit 'Fix the tests'\n"
        "  claude-mcp apply fix-tests --mode merge",
        apply,
    ),
    "discard": (
        "bring a session's files back to an earlier state",
        "claude-mcp discard fix-tests src",
        discard,
    ),
    "forward": (
        "open the ports of a session on another machine here, until Ctrl-C",
        "claude-mcp forward fix-tests",
        session,
    ),
    "logs": ("print a session's log", "claude-mcp logs fix-tests --tail 20", logs),
    "doctor": (
        "check engine, image and credentials, and say what to fix",
        "claude-mcp doctor",
        doctor,
    ),
    "attach": (
        "talk to a session's Claude Code on this terminal",
        "claude-mcp attach fix-tests",
        session,
    ),
    "shell": ("open a shell in a session on this terminal", "claude-mcp shell .", session),
    "config": (
        "show what is configured and where it comes from, or change the file",
        "claude-mcp config\n  claude-mcp config set CLAUDE_MCP_MEMORY 4g\n"
        "  claude-mcp config set HTTPS_PROXY file:proxy.txt",
        config,
    ),
    "completion": (
        "print a script with which a shell completes commands and sessions",
        'eval "$(claude-mcp completion bash)"\n  claude-mcp completion fish | source',
        completion,
    ),
    "image": (
        "build, fetch, list or check session images",
        "claude-mcp image build\n  claude-mcp image check registry.example.com/claude:2",
        image,
    ),
    "install": (
        "add the server to an MCP client, such as cursor",
        "claude-mcp install\n  claude-mcp install claude-desktop",
        install,
    ),
    "uninstall": (
        "take the server out of an MCP client",
        "claude-mcp uninstall claude-desktop",
        uninstall,
    ),
    "serve": (
        "serve MCP on stdin and stdout, for programs such as Claude Desktop, or over HTTP",
        "claude-mcp --engine podman serve",
        serve,
    ),
}
ALIASES = {
    "create-session": "create",
    "execute": "prompt",
    "ls": "list",
    "cp": "copy",
    "rm": "destroy",
}
