"""What a session says that it changed, and what it says that it undid: all of it may be forged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from claude_mcp.contract.redaction import redactor
from claude_mcp.errors import AgentError, UsageError
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.workspaces import changes as module
from claude_mcp.sessions.workspaces.changes import FileChange, discard_changes, get_changes
from tests.unit.sessions.conftest import container

if TYPE_CHECKING:
    from tests.unit.sessions.conftest import ScriptedEngine

pytestmark = pytest.mark.anyio

ANSWER = """
for line in sys.stdin:
    one = json.loads(line)
    if one["op"] != "ping":
        open("asked", "w").write(json.dumps([one["op"], one["args"]]))
    answer(one["id"], **json.loads({answer!r}))
"""


def agent(scripted: ScriptedEngine, **answer: Any) -> None:
    """A session that answers every request so, and notes the last one."""
    scripted.holds(container("abcd1", "fix"))
    scripted.agent(ANSWER.format(answer=json.dumps(answer)))


def asked(scripted: ScriptedEngine) -> Any:
    [line] = scripted.noted_lines("asked")
    return json.loads(line)


async def test_changes_are_read(scripted: ScriptedEngine, sessions: Sessions) -> None:
    files = [
        {"path": "a", "status": "M", "added": 1, "deleted": 2},
        {"path": "new", "status": "R", "oldPath": "old", "untracked": True},
    ]
    agent(scripted, ok={
        "files": files, "more": 3, "leftOut": ["large"], "isRepository": True, "branch": "claude/x",
        "head": "0123", "ahead": 2, "committed": False,
    })  # fmt: skip
    handle = await sessions.open("fix")
    found = await get_changes(handle)
    assert found.files == (
        FileChange("a", "M", None, 1, 2, untracked=False),
        FileChange("new", "R", "old", None, None, untracked=True),
    )
    assert (found.more, found.left_out) == (3, ("large",))
    assert (found.branch, found.head, found.ahead, found.committed) == (
        "claude/x",
        "0123",
        2,
        False,
    )
    assert (found.diff, found.next_offset, found.until, found.notes) == (None, None, None, ())
    assert found.session == handle.session
    assert asked(scripted) == ["changes", {}]


async def test_the_part_of_a_diff_is_asked_for(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    agent(scripted, ok={"files": [], "diff": "+x\n", "nextOffset": 7, "until": "ab cd"})
    found = await get_changes(
        await sessions.open("fix"), turn_id="t", paths=["src", "a b"], diff=True, offset=4,
        until="ab",
    )  # fmt: skip
    assert (found.diff, found.next_offset, found.until) == ("+x\n", 7, "ab cd")
    assert (found.branch, found.head) == (None, None)
    wanted = {"turnId": "t", "paths": ["src", "a b"], "diff": True, "offset": 4, "until": "ab"}
    assert asked(scripted) == ["changes", wanted]


async def test_the_next_part_of_a_long_diff_begins_where_this_one_ends(
    scripted: ScriptedEngine, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DIFF_CHARS", 20)
    agent(scripted, ok={"files": [], "diff": "+one\n+two\n+three\n", "nextOffset": 99})
    found = await get_changes(await sessions.open("fix"), diff=True, offset=4)
    assert (found.diff, found.next_offset) == ("+one\n+two\n", 4 + 10)


def test_the_parts_of_a_diff_are_the_whole_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DIFF_CHARS", 40)
    whole = "".join(f"+line {number} \u00e9\n" for number in range(8)) + "+" * 90
    parts, rest = [], whole
    while rest:
        parts.append(module._part(rest))
        rest = rest[len(parts[-1]) :]
    assert "".join(parts) == whole
    assert max(len(json.dumps(each)) for each in parts) <= 40
    assert [each[-1] for each in parts[:4]] == ["\n"] * 4


async def test_forged_changes_are_bounded_and_redacted(
    scripted: ScriptedEngine, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 2)
    monkeypatch.setattr(module, "DIFF_CHARS", 5)
    monkeypatch.setattr(module, "PATH_CHARS", 8)
    secret = "sk-ant-secret-of-a-test-0123"
    redactor.add(secret)
    monkeypatch.setattr(module, "PATH_CHARS", len(secret))
    entry = {"path": secret, "oldPath": secret, "status": "Many", "added": -1, "deleted": "no"}
    agent(scripted, ok={
        "files": [entry, "nothing", {"path": "p" * 99, "status": ""}, {"path": "c", "status": "A"}],
        "leftOut": [secret, 7, "b", "c"], "branch": "x\ny" * 500, "head": "z" * 500,
        "until": "u" * 500, "diff": "d" * 100, "more": -4, "ahead": "many", "committed": 1,
    })  # fmt: skip
    found = await get_changes(await sessions.open("fix"), diff=True)
    first, second = found.files
    assert secret not in repr(found)
    assert (first.status, first.added, first.deleted) == ("M", None, None)
    assert (second.path, second.status) == ("p" * len(secret), "")
    assert (found.more, len(found.left_out)) == (1, 2)
    assert "\n" not in (found.branch or "\n")
    assert [len(each or "") for each in (found.head, found.until, found.diff)] == [64, 64, 3]
    assert (found.ahead, found.committed) == (None, None)


@pytest.mark.parametrize("path", ["", "/etc", "..", "a/../b", "a\0b"])
async def test_a_path_outside_of_the_workspace_is_not_asked_for(
    scripted: ScriptedEngine, sessions: Sessions, path: str
) -> None:
    agent(scripted, ok={})
    handle = await sessions.open("fix")
    for ask in (get_changes, discard_changes):
        with pytest.raises(UsageError, match="give it relative to /workspace"):
            await ask(handle, paths=["fine", path])
    assert "exec" not in scripted.calls


async def test_what_was_undone_is_read(scripted: ScriptedEngine, sessions: Sessions) -> None:
    agent(scripted, ok={
        "restored": ["a"], "removed": ["b"], "left": ["c: it is a mount"], "branch": "claude/x",
    })  # fmt: skip
    done = await discard_changes(await sessions.open("fix"), turn_id="t", paths=["."])
    assert (done.restored, done.removed, done.left) == (("a",), ("b",), ("c: it is a mount",))
    assert done.branch == "claude/x"
    assert asked(scripted) == ["discard", {"turnId": "t", "paths": ["."]}]


async def test_nothing_was_undone(scripted: ScriptedEngine, sessions: Sessions) -> None:
    agent(scripted, ok={"branch": 7, "left": "all"})
    done = await discard_changes(await sessions.open("fix"))
    assert (done.restored, done.removed, done.left, done.branch) == ((), (), (), None)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("no-changes", "What session 'fix' changed cannot be told: it is mounted."),
        ("not-discarded", "Nothing was discarded: it is mounted."),
    ],
)
async def test_a_refusal_is_a_wrong_request(
    scripted: ScriptedEngine, sessions: Sessions, code: str, message: str
) -> None:
    agent(scripted, error={"code": code, "message": "it is mounted"})
    ask = get_changes if code == "no-changes" else discard_changes
    with pytest.raises(UsageError) as caught:
        await ask(await sessions.open("fix"))
    assert caught.value.message == message


async def test_an_answer_without_files_is_unusable(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    agent(scripted, ok={"more": 1})
    with pytest.raises(AgentError, match="unusable"):
        await get_changes(await sessions.open("fix"))


async def test_a_cut_list_says_so_and_can_be_read_on(
    scripted: ScriptedEngine, sessions: Sessions
) -> None:
    answer = {"files": [], "more": 3, "nextOffset": 500, "until": "ab", "complete": False}
    agent(scripted, ok=answer)
    found = await get_changes(await sessions.open("fix"), offset=9, until="ab")
    assert (found.more, found.next_offset, found.until, found.complete) == (3, 500, "ab", False)
