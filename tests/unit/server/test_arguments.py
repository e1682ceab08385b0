from __future__ import annotations

import json
from typing import Any

import pytest

from claude_mcp.errors import UsageError
from claude_mcp.server.arguments import Arguments, parse
from claude_mcp.server.command_tools import CommandArguments
from claude_mcp.server.create_arguments import CreateArguments, LimitArguments, create_request
from claude_mcp.server.session_tools import ListArguments, LogsArguments
from claude_mcp.server.tool import Declaration
from claude_mcp.server.tools import DECLARATIONS
from claude_mcp.server.turn_tools import CancelArguments, PromptArguments, TurnArguments
from claude_mcp.server.work_tools import TransferArguments
from claude_mcp.sessions.create.request import LIMITS, CreateRequest, Mount
from claude_mcp.sessions.providers.options import OPTIONS


@pytest.mark.parametrize(
    ("model", "given", "message", "hint"),
    [
        (
            LogsArguments,
            {},
            "Nothing was done: sessionId is missing.",
            "It takes sessionId (required), tail, before.",
        ),
        (
            LogsArguments,
            {"sessionId": "a", "tail": "many"},
            "Nothing was done: tail: input should be a valid integer, unable to parse string as "
            "an integer.",
            "It takes sessionId (required), tail, before.",
        ),
        (
            LogsArguments,
            {"session_id": "a"},
            "Nothing was done: sessionId is missing; there is no argument 'session_id', did you "
            "mean sessionId.",
            "It takes sessionId (required), tail, before.",
        ),
        (
            ListArguments,
            {"verbose": True},
            "Nothing was done: there is no argument 'verbose'.",
            "It takes cursor.",
        ),
        (
            CommandArguments,
            {"sessionId": 5, "command": "ls", "timeoutSeconds": "inf"},
            "Nothing was done: sessionId: input should be a valid string; timeoutSeconds: input "
            "should be a finite number.",
            "It takes sessionId (required), command (required), timeoutSeconds, workdir, "
            "waitSeconds, background, commandId, input, tty, columns, rows.",
        ),
        (
            TransferArguments,
            {"sessionId": "a", "direction": "up", "sourcePath": "/a", "destPath": "/b"},
            "Nothing was done: direction: input should be 'to_container' or 'from_container'.",
            "It takes sessionId (required), direction (required), sourcePath (required), "
            "destPath (required), overwrite, createParents.",
        ),
        (
            PromptArguments,
            {"sessionId": "a", "prompt": "b", "maxTurns": 0, "tools": "Bash"},
            "Nothing was done: tools: input should be a valid list; maxTurns: input should be "
            "greater than or equal to 1.",
            "It takes sessionId (required), prompt (required), waitSeconds, turnId, whenBusy, "
            "tools, model, maxTurns, maxBudgetUsd, newConversation.",
        ),
        (
            PromptArguments,
            {"sessionId": "a", "prompt": "b", "waitSeconds": -1, "whenBusy": "queue"},
            "Nothing was done: waitSeconds: input should be greater than or equal to 0; whenBusy: "
            "input should be 'refuse' or 'wait'.",
            "It takes sessionId (required), prompt (required), waitSeconds, turnId, whenBusy, "
            "tools, model, maxTurns, maxBudgetUsd, newConversation.",
        ),
        (
            TurnArguments,
            {"cursor": -1, "event": 0, "waitSeconds": 86_401},
            "Nothing was done: sessionId is missing; cursor: input should be greater than or "
            "equal to 0; waitSeconds: input should be less than or equal to 86400; event: input "
            "should be greater than or equal to 1.",
            "It takes sessionId (required), turnId, cursor, waitSeconds, event, offset.",
        ),
        (
            TurnArguments,
            {"sessionId": "a", "waitSeconds": "nan"},
            "Nothing was done: waitSeconds: input should be a finite number.",
            "It takes sessionId (required), turnId, cursor, waitSeconds, event, offset.",
        ),
        (
            CancelArguments,
            {"sessionId": "a", "turn": "b"},
            "Nothing was done: there is no argument 'turn', did you mean turnId.",
            "It takes sessionId (required), turnId.",
        ),
    ],
)
def test_one_message_names_all_bad_arguments(
    model: type[Arguments], given: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parse(model, given)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_a_nested_misspelling_is_named_by_its_path() -> None:
    mounts = [{"hostPath": "/a", "containerPth": "/b"}]
    with pytest.raises(UsageError) as caught:
        parse(CreateArguments, {"projectPath": "/p", "mcpMounts": mounts})
    assert caught.value.message == (
        "Nothing was done: mcpMounts.0.containerPath is missing; there is no argument "
        "'mcpMounts.0.containerPth', did you mean containerPath."
    )


def test_a_misspelled_provider_option_is_named_by_its_path() -> None:
    with pytest.raises(UsageError) as caught:
        parse(CreateArguments, {"projectPath": "/p", "providerOptions": {"regoin": "x"}})
    assert caught.value.message == (
        "Nothing was done: there is no argument 'providerOptions.regoin', did you mean region."
    )


def test_a_google_credential_may_be_json_text_or_an_object() -> None:
    texts = []
    for given in ('{"type": "service_account"}', {"type": "service_account"}):
        options = {"provider": "vertex", "providerOptions": {"credentials": given}}
        parsed = parse(CreateArguments, {"projectPath": "/p", **options})
        texts.append(create_request(parsed).provider.options["credentials"])
    assert texts == ['{"type": "service_account"}'] * 2


def test_a_rejected_value_is_not_repeated() -> None:
    secret = "sk-ant-not-to-be-seen"
    given = {"apiKey": [secret], "awsSecretAccessKey": {"a": secret}, "apikey": secret}
    with pytest.raises(UsageError) as caught:
        parse(CreateArguments, given)
    assert secret not in str(caught.value)


def test_objects_and_lists_may_come_as_json_text() -> None:
    given = {
        "projectPath": "/p",
        "mcpMounts": '[{"hostPath": "/a", "containerPath": "/b"}]',
        "mcpConfig": '{"mcpServers": {"files": {"command": "npx"}}}',
    }
    parsed = parse(CreateArguments, given)
    assert parsed == parse(
        CreateArguments,
        {
            "projectPath": "/p",
            "mcpMounts": [{"hostPath": "/a", "containerPath": "/b", "readOnly": True}],
            "mcpConfig": {"mcpServers": {"files": {"command": "npx"}}},
        },
    )


def test_hosts_may_be_a_list_or_its_json_text() -> None:
    given = {"projectPath": "/p", "network": "restricted"}
    for hosts in (["pypi.org", "*.a.example"], '["pypi.org", "*.a.example"]'):
        parsed = parse(CreateArguments, {**given, "allowedHosts": hosts})
        assert (create_request(parsed).network, create_request(parsed).allowed_hosts) == (
            "restricted",
            ("pypi.org", "*.a.example"),
        )
    parsed = parse(CreateArguments, {"projectPath": "/p", "network": None, "allowedHosts": None})
    assert (create_request(parsed).network, create_request(parsed).allowed_hosts) == (None, ())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"network": "bridge"}, "network: input should be 'open', 'restricted' or 'none'."),
        ({"network": "Restricted"}, "network: input should be 'open', 'restricted' or 'none'."),
        ({"allowedHosts": "pypi.org"}, "allowedHosts: input should be a valid list."),
        ({"allowedHosts": [5]}, "allowedHosts.0: input should be a valid string."),
        (
            {"allowedHost": ["pypi.org"]},
            "there is no argument 'allowedHost', did you mean allowedHosts.",
        ),
    ],
)
def test_an_invalid_network_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(CreateArguments, {"projectPath": "/p", **given})
    assert caught.value.message == f"Nothing was done: {message}"


EXAMPLES: dict[str, Any] = {
    "direction": "to_container",
    "decision": "allow",
}
"""Values of required arguments that take no other text."""


@pytest.mark.parametrize("declaration", DECLARATIONS, ids=lambda each: str(each.name))
def test_null_means_not_given(declaration: Declaration) -> None:
    fields = declaration.arguments.model_fields.values()
    required = {
        str(field.alias): EXAMPLES.get(str(field.alias), "a")
        for field in fields
        if field.is_required()
    }
    null = {str(field.alias): None for field in fields if not field.is_required()}
    assert parse(declaration.arguments, {**null, **required}) == parse(
        declaration.arguments, required
    )


@pytest.mark.parametrize("declaration", DECLARATIONS, ids=lambda each: str(each.name))
def test_null_is_missing_where_an_argument_is_required(declaration: Declaration) -> None:
    names = [
        str(field.alias)
        for field in declaration.arguments.model_fields.values()
        if field.is_required()
    ]
    problem = None
    try:
        parse(declaration.arguments, dict.fromkeys(names))
    except UsageError as error:
        problem = error.message
    missing = "; ".join(f"{name} is missing" for name in names)
    assert problem == (f"Nothing was done: {missing}." if names else None)


def test_null_is_not_given_in_nested_objects_too() -> None:
    nested: dict[str, Any] = {
        "limits": {"memory": "1g", "cpus": None},
        "providerOptions": {"apiKey": "k", "region": None},
        "mcpMounts": [{"hostPath": "/a", "containerPath": "/b", "readOnly": None}],
    }
    assert create_request(
        parse(CreateArguments, {"projectPath": "/p", **nested})
    ) == create_request(
        parse(
            CreateArguments,
            {
                "projectPath": "/p",
                "limits": {"memory": "1g"},
                "providerOptions": {"apiKey": "k"},
                "mcpMounts": [{"hostPath": "/a", "containerPath": "/b"}],
            },
        )
    )


def test_an_unknown_argument_is_told_even_if_it_is_null() -> None:
    with pytest.raises(UsageError) as caught:
        parse(CommandArguments, {"sessionId": "a", "command": "ls", "workDir": None})
    assert caught.value.message == (
        "Nothing was done: there is no argument 'workDir', did you mean workdir."
    )


def test_numbers_and_truth_values_may_be_text() -> None:
    prompt = {"sessionId": "a", "prompt": "b"}
    assert parse(
        PromptArguments,
        {**prompt, "waitSeconds": "10", "maxTurns": "3", "newConversation": "true"},
    ) == parse(
        PromptArguments, {**prompt, "waitSeconds": 10, "maxTurns": 3, "newConversation": True}
    )
    with pytest.raises(UsageError) as caught:
        parse(PromptArguments, {**prompt, "maxTurns": "3.5"})
    assert caught.value.message.startswith("Nothing was done: maxTurns: ")


def test_mcp_servers_may_be_an_object_or_its_json_text() -> None:
    servers = {"files": {"command": "npx"}}
    forms: list[Any] = [
        {"mcpServers": servers},
        {"mcpServers": json.dumps(servers)},
        json.dumps({"mcpServers": servers}),
    ]
    requests = [
        create_request(parse(CreateArguments, {"projectPath": "/p", "mcpConfig": form}))
        for form in forms
    ]
    assert [each.mcp_config for each in requests] == [{"mcpServers": servers}] * 3


def test_waiting_ends_by_default_before_most_clients_give_up() -> None:
    prompt = parse(PromptArguments, {"sessionId": "a", "prompt": "b"})
    turn = parse(TurnArguments, {"sessionId": "a"})
    assert (prompt.wait_seconds, turn.wait_seconds) == (45.0, 45.0)


def test_a_prompt_is_kept_byte_for_byte() -> None:
    prompt = "--help \"'`$HOME`\n/compact \U0001f600\t{}[]"
    assert parse(PromptArguments, {"sessionId": "a", "prompt": prompt}).prompt == prompt


def test_limits_and_providers_are_the_ones_that_sessions_know() -> None:
    schema = CreateArguments.model_json_schema()
    providers = schema["properties"]["provider"]["anyOf"][0]["enum"]
    assert (set(LimitArguments.model_fields), set(providers)) == (set(LIMITS), set(OPTIONS))


def test_the_description_of_provider_options_names_each_of_them() -> None:
    described = CreateArguments.model_fields["provider_options"].description
    assert described is not None
    names = {name for options in OPTIONS.values() for name in options}
    assert {name for name in names if name not in described} == set()


def test_options_that_are_not_given_keep_the_request_s_defaults() -> None:
    assert create_request(parse(CreateArguments, {"projectPath": "/p"})) == CreateRequest("/p")
    null = dict.fromkeys(("limits", "mcpMounts", "mcpConfig", "timeoutSeconds", "allowedHosts"))
    arguments = parse(CreateArguments, {"projectPath": "/p", **null})
    assert create_request(arguments) == CreateRequest("/p")


def test_limits_mounts_and_servers_reach_the_request_in_its_own_form() -> None:
    arguments = parse(
        CreateArguments,
        {
            "projectPath": "/p",
            "limits": {"memory": "4g", "pids": 100},
            "mcpMounts": [{"hostPath": "/a", "containerPath": "/b"}],
            "mcpConfig": {"mcpServers": {"files": {"command": "npx"}}},
            "readOnlyRootfs": True,
        },
    )
    assert create_request(arguments) == CreateRequest(
        "/p",
        limits={"memory": "4g", "pids": "100"},
        mounts=(Mount("/a", "/b", read_only=True),),
        mcp_config={"mcpServers": {"files": {"command": "npx"}}},
        read_only_root=True,
    )


@pytest.mark.parametrize("ports", [[3000, "8080:80"], '[3000, "8080:80"]', ["3000", "8080:80"]])
def test_ports_are_numbers_or_texts(ports: object) -> None:
    parsed = parse(CreateArguments, {"projectPath": "/p", "ports": ports})
    assert create_request(parsed).ports == ("3000", "8080:80")
    with pytest.raises(UsageError, match=r"ports\.0: input should be a valid string"):
        parse(CreateArguments, {"projectPath": "/p", "ports": [True]})
