"""Real Claude Code in real containers, against a local stand-in for the Messages API."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from messages_standin import Standin

from claude_mcp.config import Config, load
from claude_mcp.contract import operations
from claude_mcp.contract.handover import Credential, Credentials, Handover
from claude_mcp.contract.messages import to_json
from claude_mcp.engine.engine import Engine
from claude_mcp.errors import SessionNotReady, UsageError
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.handover import give
from claude_mcp.sessions.providers.options import ProviderRequest
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import Session
from claude_mcp.sessions.turns import commands
from claude_mcp.sessions.turns import prompts as turns
from claude_mcp.sessions.turns.options import TurnOptions
from claude_mcp.sessions.turns.results import TurnStatus

if TYPE_CHECKING:
    from tests.engine_fixtures import Bare

pytestmark = pytest.mark.cluster


def script(*steps: dict[str, Any]) -> str:
    """A prompt that tells the stand-in what the model does."""
    return "standin: " + json.dumps(steps)


@pytest.mark.once
async def test_second_prompt_knows_the_first_and_a_new_conversation_does_not(
    sessions: Sessions, session: Session
) -> None:
    first = await turns.prompt(await sessions.open(session.id), "The colour is vermilion.")
    second = await turns.prompt(await sessions.open(session.name), script({"recall": True}))
    assert (first.status, second.status) == (TurnStatus.COMPLETED, TurnStatus.COMPLETED)
    assert second.result is not None
    assert "The colour is vermilion." in second.result
    assert second.conversation_id == first.conversation_id
    fresh = await turns.prompt(
        await sessions.open(session.id),
        script({"recall": True}),
        options=TurnOptions(new_conversation=True),
    )
    assert "vermilion" not in (fresh.result or "")
    assert fresh.conversation_id != first.conversation_id


@pytest.mark.once
@pytest.mark.near("looks into the mounted project")
async def test_claude_works_on_the_project_and_progress_tells_what_it_does(
    sessions: Sessions, session: Session, project: Path
) -> None:
    (project / "greet.py").write_text("print('hello')\n")
    told: list[str] = []

    async def progress(line: str, amount: object = None, /) -> None:
        told.append(line)

    result = await turns.prompt(
        await sessions.open(session.id),
        script(
            {"tool": "Read", "input": {"file_path": "/workspace/greet.py"}},
            {
                "tool": "Edit",
                "input": {
                    "file_path": "/workspace/greet.py",
                    "old_string": "hello",
                    "new_string": "goodbye",
                },
            },
            {"tool": "Bash", "input": {"command": "python3 greet.py > said"}},
            {"say": "Changed it."},
        ),
        progress=progress,
    )
    assert (result.status, result.result) == (TurnStatus.COMPLETED, "Changed it.")
    assert (project / "greet.py").read_text() == "print('goodbye')\n"
    assert (project / "said").read_text() == "goodbye\n"
    assert told == ["Read: greet.py", "Edit: greet.py", "Bash: python3 greet.py > said",
                    "Changed it."]  # fmt: skip
    for made in ("greet.py", "said"):
        assert (project / made).stat().st_uid == project.stat().st_uid


@pytest.mark.once
@pytest.mark.parametrize(
    "prompt",
    [
        "'single' \"double\" `backtick` $HOME $(id) \\ back\nnew line\r\nand tab\t.",
        "--leading --options=like this",
        "/clear",
        "/nosuch command",
        "/usr/bin/env is a path",
        "@greet.py is not attached",
        "# heading\n! bang",
        "emoji 🎉 ünïcode \u200d zero width",
        "  leading and trailing space  ",
        "x'\"$`é🎉 " * 13_000,
    ],
    ids=lambda prompt: prompt[:12],
)
async def test_awkward_prompt_reaches_the_model_byte_for_byte(
    sessions: Sessions, shared: Session, standin: Standin, prompt: str
) -> None:
    result = await turns.prompt(await sessions.open(shared.id), prompt)
    assert result.status is TurnStatus.COMPLETED
    assert standin.model_calls[-1].prompts[-1] == prompt


@pytest.mark.near("looks into the mounted project")
async def test_session_works_as_the_projects_owner_whoever_that_is(
    sessions: Sessions,
    project: Path,
    name: str,
    as_root: bool,
    give_to: Callable[[Path, int], None],
) -> None:
    owner = project.stat().st_uid
    if as_root:
        owner = 4321
        project.parent.chmod(0o755)
        give_to(project, owner)
    await create(sessions, CreateRequest(str(project), session_name=name))
    try:
        write = {"file_path": "/workspace/new/made", "content": "by Claude"}
        result = await turns.prompt(
            await sessions.open(name), script({"tool": "Write", "input": write})
        )
        assert result.status is TurnStatus.COMPLETED
    finally:
        await sessions.destroy(name)
    made = project / "new" / "made"
    assert made.read_text() == "by Claude"
    assert (made.stat().st_uid, made.parent.stat().st_uid) == (owner, owner)


@pytest.mark.once
async def test_same_turn_id_again_is_the_same_turn(
    sessions: Sessions, shared: Session, standin: Standin
) -> None:
    turn_id = str(uuid.uuid4())
    first = await turns.prompt(await sessions.open(shared.id), "Only once.", turn_id=turn_id)
    again = await turns.prompt(await sessions.open(shared.id), "Only once.", turn_id=turn_id)
    assert again == first
    seen = [request for request in standin.model_calls if request.prompts[-1:] == ("Only once.",)]
    assert len(seen) == 1


@pytest.mark.once
async def test_cost_and_usage_are_those_of_the_turn_alone(
    sessions: Sessions, session: Session
) -> None:
    costs = [
        (await turns.prompt(await sessions.open(session.id), f"turn {n}")).cost_usd
        for n in range(3)
    ]
    listed = {each.session.id: each for each in await sessions.list()}[session.id]
    assert listed.activity is not None
    assert listed.activity.cost_usd == pytest.approx(sum(costs))
    assert all(0 < cost < 2 * costs[0] for cost in costs)


@pytest.mark.per_engine
@pytest.mark.near("looks into the mounted project")
async def test_a_fresh_process_sees_what_a_session_is_doing(
    sessions: Sessions, session: Session, config: Config
) -> None:
    waits = "until [ -e go ]; do sleep 0.05; done"
    handle = await sessions.open(session.id)
    steps = script({"tool": "Bash", "input": {"command": waits}}, {"say": "Done."})
    turn = await turns.prompt(handle, steps, wait_seconds=0)
    seen = await turns.follow(handle, turn.turn_id, cursor=0, wait_seconds=60)
    assert [each.kind for each in seen.events] == ["tool_call"]
    async with open_sessions(config) as fresh:
        listed = {each.session.id: each for each in await fresh.list()}[session.id]
    assert listed.activity is not None
    assert (listed.activity.turn_running, listed.activity.turn_id) == (True, turn.turn_id)
    assert listed.activity.last_step == f"Bash: {waits}"
    assert (listed.activity.turn_ms or 0) > 0
    assert listed.activity.model
    await commands.run(handle, "touch go")
    ended = await turns.follow(handle, turn.turn_id, wait_seconds=60)
    assert (ended.result, ended.model) == ("Done.", listed.activity.model)


@pytest.mark.once
async def test_tools_of_a_turn_limit_what_the_model_is_offered(
    sessions: Sessions, session: Session, standin: Standin
) -> None:
    await turns.prompt(
        await sessions.open(session.id), "few", options=TurnOptions(tools=("Read", "Bash"))
    )
    offered = set(standin.model_calls[-1].tools)
    assert {"Read", "Bash"} <= offered
    assert not {"Edit", "Write"} & offered
    await turns.prompt(await sessions.open(session.id), "all")
    assert {"Read", "Bash", "Edit", "Write"} <= set(standin.model_calls[-1].tools)


@pytest.mark.once
async def test_tools_of_a_later_turn_limit_what_the_model_can_use(
    sessions: Sessions, session: Session, standin: Standin
) -> None:
    """Claude Code keeps the earlier list in its request, and refuses the calls."""
    use_bash = script({"tool": "Bash", "input": {"command": "echo it ran"}})
    await turns.prompt(await sessions.open(session.id), "all")
    await turns.prompt(
        await sessions.open(session.id), use_bash, options=TurnOptions(tools=("Read",))
    )
    assert "No such tool available: Bash" in standin.model_calls[-1].tool_results[-1]
    await turns.prompt(await sessions.open(session.id), use_bash)
    assert "it ran" in standin.model_calls[-1].tool_results[-1]


@pytest.mark.once
async def test_tool_that_claude_does_not_know_is_an_error(
    sessions: Sessions, shared: Session
) -> None:
    options = TurnOptions(tools=("bash", "Read"))
    turn = await turns.prompt(await sessions.open(shared.id), script({"wait": 5}), options=options)
    assert turn.status is TurnStatus.FAILED
    assert (turn.error or "").startswith("Claude Code has no tool named 'bash' here")
    after = await turns.prompt(await sessions.open(shared.id), "hello")
    assert (after.status, after.error) == (TurnStatus.COMPLETED, None)


@pytest.mark.once
async def test_model_of_a_turn_is_that_turns_alone(
    sessions: Sessions, shared: Session, standin: Standin
) -> None:
    models = []
    for model in (None, "my-own-model", None, None):
        await turns.prompt(
            await sessions.open(shared.id), "hello", options=TurnOptions(model=model)
        )
        models.append(standin.model_calls[-1].model)
    usual = models[0]
    assert usual != "my-own-model"
    assert models == [usual, "my-own-model", usual, usual]


@pytest.mark.once
async def test_limits_of_a_turn_are_that_turns_alone(sessions: Sessions, shared: Session) -> None:
    look = {"tool": "Bash", "input": {"command": "true"}}
    prompt = script(look, look, {"say": "done"})
    few = await turns.prompt(
        await sessions.open(shared.id), prompt, options=TurnOptions(max_turns=1)
    )
    assert (few.status, few.error) == (
        TurnStatus.FAILED,
        "Reached maximum number of turns (1)",
    )
    cheap = await turns.prompt(
        await sessions.open(shared.id), prompt, options=TurnOptions(max_budget_usd=0.000001)
    )
    assert cheap.status is TurnStatus.FAILED
    assert (cheap.error or "").startswith("Reached maximum budget")
    free = await turns.prompt(await sessions.open(shared.id), prompt)
    assert (free.status, free.result) == (TurnStatus.COMPLETED, "done")


@pytest.mark.per_engine
async def test_restarted_session_gets_the_servers_credentials_again_and_remembers(
    sessions: Sessions, session: Session, standin: Standin, bare: Bare, environ: dict[str, str]
) -> None:
    await turns.prompt(await sessions.open(session.id), "The word is quokka.")
    bare.restart(session.container_id)
    after = await turns.prompt(await sessions.open(session.id), script({"recall": True}))
    assert "The word is quokka." in (after.result or "")
    headers = standin.model_calls[-1].headers
    assert environ["ANTHROPIC_API_KEY"] in (headers.get("x-api-key"), headers.get("X-Api-Key"))


@pytest.mark.per_engine
async def test_restarted_session_with_its_own_credentials_says_what_it_misses_and_takes_it(
    sessions: Sessions, project: Path, name: str, bare: Bare, standin: Standin
) -> None:
    own = ProviderRequest(arguments={"apiKey": "sk-ant-own-key-0123456789"})
    request = CreateRequest(str(project), session_name=name, provider=own)
    created = await create(sessions, request)
    try:
        assert (
            await turns.prompt(await sessions.open(name), "hello")
        ).status is TurnStatus.COMPLETED
        bare.restart(created.session.container_id)
        with pytest.raises(SessionNotReady, match="Give them to it again"):
            await turns.prompt(await sessions.open(name), "hello again")
        assert (await commands.run(await sessions.open(name), "echo works")).stdout == "works\n"
        await give(await sessions.open(name), {"apiKey": "sk-ant-own-key-once-more"})
        recalled = await turns.prompt(await sessions.open(name), script({"recall": True}))
        assert "hello" in (recalled.result or "")
        await give(await sessions.open(name), {"apiKey": "sk-ant-own-key-renewed"})
        await turns.prompt(await sessions.open(name), "hello with another key")
        headers = [
            {name.lower(): value for name, value in call.headers.items()}
            for call in standin.model_calls[-2:]
        ]
        keys = [each["x-api-key"] for each in headers]
        assert keys == ["sk-ant-own-key-once-more", "sk-ant-own-key-renewed"]
    finally:
        await sessions.destroy(name)


@pytest.mark.per_engine
async def test_session_without_credentials_warns_and_its_prompts_say_why(
    engine: Engine, environ: dict[str, str], project: Path, name: str
) -> None:
    del environ["ANTHROPIC_API_KEY"]
    async with open_sessions(load(environ, engine=engine.dialect.name)) as sessions:
        created = await create(sessions, CreateRequest(str(project), session_name=name))
        try:
            assert any("ANTHROPIC_API_KEY" in warning for warning in created.warnings)
            with pytest.raises(SessionNotReady, match="nor the server has credentials"):
                await turns.prompt(await sessions.open(name), "hello")
        finally:
            await sessions.destroy(name)


@pytest.mark.once
@pytest.mark.parametrize("prompt", ["", " \n ", "lone surrogate \ud800"])
async def test_unusable_prompt_is_refused(sessions: Sessions, shared: Session, prompt: str) -> None:
    with pytest.raises(UsageError):
        await turns.prompt(await sessions.open(shared.id), prompt)


@pytest.mark.per_engine
async def test_a_credential_of_any_length_does_not_block_the_session(
    sessions: Sessions, session: Session, project: Path, bare: Bare
) -> None:
    long = "sk-ant-" + "k" * 200_000
    own = ProviderRequest(arguments={"apiKey": long})
    with pytest.raises(UsageError, match=r"^apiKey is longer than 65536 characters\.$"):
        await create(sessions, CreateRequest(str(project), provider=own))
    # Another version of ours might hand it over all the same.
    credentials = Credentials("anthropic", Credential("apiKey", long), {}, (long,))
    configure = operations.Configure(Handover(credentials).to_json())
    handle = await sessions.open(session.id)
    await handle.request(operations.CONFIGURE, to_json(configure))
    result = await turns.prompt(await sessions.open(session.id), "hello", wait_seconds=60)
    assert result.status is not TurnStatus.RUNNING
    assert (await commands.run(await sessions.open(session.id), "echo up")).stdout == "up\n"
