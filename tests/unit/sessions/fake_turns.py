"""Turns for the fake engine's agent: they belong to the session and outlive their channel.

The prompt ``hang`` runs until it is interrupted, after the events in ``EVENTS``. Who waits for it
without a limit, or with the tools' default one, waits until then and writes ``hanging`` to
``calls``, and ``left`` when the waiting is given up; any other limit is up at once. An interrupt
writes ``interrupted``. ``hang and end`` is over by itself before the interrupt comes, and who
interrupts ``hang on`` gets no answer.

The prompt ``ask 2`` asks two questions for permission, ``q1`` and ``q2``, writes ``submitted``
to ``calls``, and is over when both are answered: its result is the answers. ``ask on`` asks
another question behind each answer. ``choose`` asks the questions in ``CHOICE``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.unit import fake_engine
from tests.unit.fake_engine import answer

DEFAULT_WAIT = 45
CUT = 7
EVENTS = [(1, "tool_call", "Bash: ls"), (2, "tool_result", "one\ntwo\nthree")]
MOMENT = "2026-01-02T03:04:05Z"


def install(directory: Path) -> Path:
    """As ``fake_engine.install``, with an agent that keeps turns."""
    program = fake_engine.install(directory)
    there = program.read_text()
    here = there.replace("from tests.unit.fake_engine", "from tests.unit.sessions.fake_turns")
    assert here != there
    program.write_text(here)
    return program


def question(number: int) -> dict[str, Any]:
    """One of the prompt ``ask``."""
    command = f"rm {number}"
    return {"requestId": f"q{number}", "toolName": "Bash", "toolInput": {"command": command}}


def settings(program: Path) -> dict[str, Any]:
    """What the agent of the session that was created last is started with."""
    given: dict[str, Any] = json.loads((program.parent / "settings").read_text())
    return given


CHOICE: dict[str, Any] = {
    "requestId": "q1",
    "toolName": "AskUserQuestion",
    "toolInput": {
        "questions": [
            {
                "question": "Which color?",
                "header": "Color",
                "multiSelect": False,
                "options": [
                    {"label": "Red", "description": "warm"},
                    {"label": "Blue", "description": "cold"},
                ],
            },
            {
                "question": "Which fruits?",
                "header": "Fruit",
                "multiSelect": True,
                "options": [{"label": "Apple", "description": ""}, {"label": "Pear"}],
            },
        ]
    },
}


class Refusal(Exception):
    """Code and message."""


class Agent(fake_engine.Engine):
    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self._waiting: dict[int, dict[str, Any]] = {}
        self._with_prompt = False

    def agent(self) -> int:
        answer(0, event={"greeting": True})
        for line in sys.stdin:
            request = json.loads(line)
            self.perform(request["id"], request["op"], request["args"])
        return 0

    def perform(self, number: int, op: str, args: dict[str, Any]) -> None:
        if op == "cancel":
            self.give_up(args["id"])
        elif op == "command" and args["command"] == "hang":
            self.note("hanging")
        else:
            try:
                names = {"turn": "submit", "turns": "turns_"}
                done = getattr(self, names.get(op, op.replace("-", "_")))(number, args)
            except Refusal as refusal:
                code, message = refusal.args
                answer(number, error={"code": code, "message": message})
            else:
                if done is not None:
                    answer(number, ok=done)

    # The command ``long`` runs until it is stopped, or its status in ``command`` is changed.

    def command(self, number: int, args: dict[str, Any]) -> dict[str, Any]:
        if args["command"] != "long":
            return super().command(number, args)
        self.write("command", "running")
        return self.follow_command(number, args)

    def follow_command(self, number: int, args: dict[str, Any]) -> dict[str, Any]:
        if not (self.state / "command").exists():
            return super().follow_command(number, args)
        status = (self.state / "command").read_text()
        ended = {"exitCode": None if status == "running" else 0}
        about = {"commandId": args["commandId"], "status": status, "command": "long"}
        return {**fake_engine.result("out\n", "", 0), **about, **ended}

    def stop_command(self, number: int, args: dict[str, Any]) -> dict[str, Any]:
        self.write("command", "stopped")
        return super().stop_command(number, args)

    def give_up(self, number: int) -> None:
        if self._waiting.pop(number, None) is not None:
            self.note("left")
            answer(number, ok={})
        else:
            self.note("cancelled")
            answer(number, error={"code": "cancelled", "message": "cancelled"})

    # The turns, in the order they came.

    def turns(self) -> list[dict[str, Any]]:
        file = self.state / "turns"
        turns: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
        return turns

    def keep(self, turns: list[dict[str, Any]]) -> None:
        self.write("turns", json.dumps(turns))

    def named(self, turn_id: str | None) -> dict[str, Any]:
        turns = [turn for turn in self.turns() if turn_id in (turn["turnId"], None)]
        if not turns:
            raise Refusal("no-turn", turn_id or "")
        return turns[-1]

    def submit(self, number: int, args: dict[str, Any]) -> dict[str, Any] | None:
        turns = self.turns()
        same = [turn for turn in turns if turn["turnId"] == args["turnId"]]
        running = [turn for turn in turns if turn["status"] == "running"]
        if same and same[0]["prompt"] != args["prompt"]:
            raise Refusal("other-prompt", args["turnId"])
        if not same and running and args.get("whenBusy") != "wait":
            raise Refusal("busy", running[0]["turnId"])
        if not same:
            outcome = self.outcome(number, args, len(running))
            self.keep([*turns, {"turnId": args["turnId"], "prompt": args["prompt"], **outcome}])
            if args["prompt"].startswith("ask"):
                self.note("submitted")
        return self.follow(number, args)

    def outcome(self, number: int, args: dict[str, Any], ahead: int) -> dict[str, Any]:
        if args["prompt"].startswith("ask"):
            count = args["prompt"].removeprefix("ask ")
            numbers = range(1, 2 if count == "on" else int(count) + 1)
            return {
                "status": "needs_permission",
                "questions": [question(number) for number in numbers],
                "answers": [],
                "notes": [],
            }
        if args["prompt"] == "choose":
            self.note("answerable" if args.get("answerable") else "alone")
            return {
                "status": "needs_permission", "questions": [CHOICE], "answers": [], "notes": []
            }  # fmt: skip
        if args["prompt"].startswith("hang"):
            answer(number, event={"progress": "Bash: ls"})
            return {"status": "running", "ahead": ahead, "notes": []}
        notes = ["Claude Code was restarted: it was idle."] if args["prompt"] == "note" else []
        return {**self.turn(number, args), "notes": notes}

    def follow(self, number: int, args: dict[str, Any]) -> dict[str, Any] | None:
        turn = self.named(args.get("turnId"))
        self._with_prompt = bool(args.get("withPrompt"))
        seen = args.get("cursor")
        news = turn["prompt"].startswith("hang") and (seen or 0) < len(EVENTS) and seen is not None
        patient = args.get("waitSeconds") in (None, DEFAULT_WAIT)
        if turn["status"] == "running" and patient and not news:
            self.note("hanging")
            self._waiting[number] = turn
            return None
        return self.told(turn, seen)

    def told(self, turn: dict[str, Any], seen: int | None) -> dict[str, Any]:
        wanted = turn["status"] == "running" or seen is not None
        events = [
            {
                "number": number,
                "time": MOMENT,
                "kind": kind,
                "text": text[:CUT] if number == 2 else text,
                "leftOut": max(0, len(text) - CUT) if number == 2 else 0,
            }
            for number, kind, text in EVENTS
            if wanted and turn["prompt"].startswith("hang") and number > (seen or 0)
        ]
        fields = {key: value for key, value in turn.items() if key != "prompt"}
        if self._with_prompt:
            fields["prompt"] = "do it"
        return {**fields, "events": events, "cursor": len(EVENTS)}

    def watch(self, number: int, args: dict[str, Any]) -> dict[str, Any]:
        """Its waiting is over at once."""
        return {"mark": len(self.turns())}

    def turns_(self, number: int, args: dict[str, Any]) -> dict[str, Any]:
        """All turns, newest first, one in each part."""
        ids = [turn["turnId"] for turn in reversed(self.turns())]
        if "before" in args:
            ids = ids[ids.index(args["before"]) + 1 :]
        listed = [
            {"turnId": each, "status": "completed", "at": MOMENT, "prompt": "do it", "costUsd": 0.5}
            for each in ids[: args.get("limit", 20)]
        ]
        return {"turns": listed, "more": len(ids) > len(listed)}

    def respond(self, number: int, args: dict[str, Any]) -> dict[str, Any]:
        turns = self.turns()
        turn = next((each for each in turns if each.get("questions")), None)
        left = [] if turn is None else turn["questions"]
        if args["requestId"] not in [each["requestId"] for each in left]:
            known = args["requestId"].startswith("q")
            raise Refusal(*(("decided", "denied (answered)") if known else ("no-question", "x")))
        assert turn is not None
        turn["questions"] = [each for each in left if each["requestId"] != args["requestId"]]
        given = [args["answers"]] if "answers" in args else []
        if turn["prompt"] == "choose" and args["decision"] == "allow" and len(given[0]) != 2:
            raise Refusal("bad-answers", "2")
        turn["answers"].append([args["requestId"], args["decision"], args.get("message"), *given])
        if turn["prompt"] == "ask on":
            turn["questions"] = [question(len(turn["answers"]) + 1)]
        if not turn["questions"]:
            turn.update(status="completed", result=json.dumps(turn["answers"]))
        self.keep(turns)
        return {"turnId": turn["turnId"]}

    def event(self, number: int, args: dict[str, Any]) -> dict[str, Any]:
        for each, kind, text in EVENTS:
            if each == args["number"]:
                whole = {"number": each, "time": MOMENT, "kind": kind, "text": text, "leftOut": 0}
                return {"event": whole}
        raise Refusal("no-event", str(args["number"]))

    def interrupt(self, number: int, args: dict[str, Any]) -> dict[str, Any] | None:
        going = ("running", "needs_permission")
        running = [turn["turnId"] for turn in self.turns() if turn["status"] in going]
        if args.get("turnId") is None and not running:
            raise Refusal("not-running", "")
        turn = self.named(args.get("turnId") or running[0])
        if turn["status"] in going:
            ends = {"status": "cancelled", "error": "The turn was cancelled."}
            turn.update({"status": "completed"} if turn["prompt"] == "hang and end" else ends)
            turn["questions"] = []
            turns = self.turns()
            self.keep([turn if each["turnId"] == turn["turnId"] else each for each in turns])
            self.note("interrupted")
            if turn["prompt"] == "hang on":
                return None
        for waiting in [n for n, each in self._waiting.items() if each["turnId"] == turn["turnId"]]:
            del self._waiting[waiting]
            answer(waiting, ok=self.told(turn, None))
        return self.told(turn, None)

    def status(self, number: int, args: dict[str, Any]) -> dict[str, Any]:
        running = any(turn["status"] == "running" for turn in self.turns())
        return {**super().status(number, args), "turnRunning": running}


def main(state: str) -> int:
    if sys.argv[1] == "exec":
        return Agent(Path(state)).agent()
    if sys.argv[1] == "create":
        Agent(Path(state)).write("settings", sys.argv[-1])
    return fake_engine.main(state)
