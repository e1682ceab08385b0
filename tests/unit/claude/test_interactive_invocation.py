"""Claude Code on a terminal: its argv."""

from __future__ import annotations

import json

from claude_mcp.claude.invocation import Invocation, claude_argv


def test_an_interactive_claude_reads_no_frames_and_warns_of_nothing_that_was_decided() -> None:
    argv = claude_argv(Invocation(interactive=True, resume="c-1", model="m"))
    assert argv[:2] == ("claude", "--dangerously-skip-permissions")
    assert {"--resume=c-1", "--model=m", "--setting-sources=user"} <= set(argv)
    assert not [each for each in argv if "format" in each or "prompt-tool" in each]
    settings = next(each for each in argv if each.startswith("--settings="))
    assert json.loads(settings.partition("=")[2])["skipDangerousModePermissionPrompt"] is True


def test_an_interactive_claude_of_a_strict_session_asks_as_it_always_does() -> None:
    argv = claude_argv(Invocation(interactive=True, permission_mode="ask"))
    assert argv[:2] == ("claude", "--permission-mode=default")
