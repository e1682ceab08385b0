"""Questions of the real Claude Code: a form at a real client, a tool, a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp.types import ElicitRequestFormParams, ElicitResult

from claude_mcp.engine.engine import Engine
from tests.peers import script

pytestmark = pytest.mark.once

Call = Callable[..., Any]
ERAS = ["legacy", "auto"]
PATIENCE_SECONDS = 60
QUESTIONS = [
    {"question": "Color?", "header": "Color", "multiSelect": False,
     "options": [{"label": "Red", "description": "warm"}, {"label": "Blue", "description": "x"}]},
    {"question": "Fruits?", "header": "Fruit", "multiSelect": True,
     "options": [{"label": "Apple", "description": "a"}, {"label": "Pear", "description": "p"}]},
]  # fmt: skip
CHOOSE = {"tool": "AskUserQuestion", "input": {"questions": QUESTIONS}}
PROMPT = script(CHOOSE, {"report": True})
HEARD = '"Color?"="Blue", "Fruits?"="Apple, Pear"'


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_shows_a_form_with_choices_or_answers_by_a_tool(
    start: Call, era: str, project: Path, name: str
) -> None:
    forms: list[ElicitRequestFormParams] = []

    async def user(context: Any, params: Any) -> ElicitResult:
        assert isinstance(params, ElicitRequestFormParams)
        forms.append(params)
        answers: Any = {"answer1": "Blue", "answer2": ["Apple", "Pear"]}
        return ElicitResult(action="accept", content=answers)

    async with start(era, elicitation_callback=user) as call:
        await call("create_session", projectPath=str(project), sessionName=name)
        done = await call("execute_in_session", sessionId=name, prompt=PROMPT)
        assert (done["status"], done["questions"]) == ("completed", [])
        assert HEARD in done["result"]
        [form] = forms
        assert form.requested_schema["properties"]["answer1"]["enum"] == ["Red", "Blue"]
    async with start(era) as call:
        asked = await call("execute_in_session", sessionId=name, prompt=PROMPT)
        assert asked["status"] == "needs_permission"
        [question] = asked["questions"]
        assert (question["kind"], question["toolInput"]) == ("question", {"questions": QUESTIONS})
        about = {"sessionId": name, "requestId": question["requestId"], "decision": "allow"}
        refused = await call.refused("respond_permission", **about, answers=["Blue"])
        assert "takes 2 answers" in refused
        await call("respond_permission", **about, answers=["Blue", "Apple, Pear"])
        done = await call("get_turn", sessionId=name)
        assert HEARD in done["result"]
        await call("destroy_session", sessionId=name)


def test_a_person_at_a_terminal_chooses_by_number(
    engine: Engine, environ: dict[str, str], project: Path, name: str
) -> None:
    def argv(*words: str) -> list[str]:
        return [sys.executable, "-m", "claude_mcp", f"--engine={engine.program}", *words]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv(*words), env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip

    assert run("create", str(project), "--name", name).returncode == 0
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, argv("prompt", name, PROMPT), environ)
    try:
        screen = b""
        typed = [(b"A number or your own answer: ", b"2\n"), (b"separated by commas", b"1, 2\n")]
        while True:
            ready, _, _ = select.select([terminal], [], [], PATIENCE_SECONDS)
            assert ready, screen
            try:
                data = os.read(terminal, 65536)
            except OSError:  # the program has ended
                break
            screen += data
            if typed and typed[0][0] in screen:
                os.write(terminal, typed.pop(0)[1])
    finally:
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, screen
    assert HEARD.encode() in screen
    alone = run("prompt", name, PROMPT)
    assert (alone.returncode, "Nobody is there" in alone.stdout) == (0, True)
    asked = run("prompt", name, PROMPT, "--answerable")
    assert asked.returncode == 9
    request = asked.stderr.partition(f"respond {name} ")[2].split()[0]
    answers = ("--answer=Blue", "--answer=Apple, Pear")
    assert run("respond", name, request, *answers).returncode == 0
    assert HEARD in run("turn", name).stdout
    assert run("destroy", name).returncode == 0
