"""Host and agent use the keys that the contract declares, and all of them."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import claude_mcp
from claude_mcp.contract import handover, operations, settings
from claude_mcp.contract.messages import Malformed, from_json, key, to_json

PACKAGE = Path(claude_mcp.__file__).parent
SIDES = [
    *(PACKAGE / "agent").rglob("*.py"),
    *(PACKAGE / "sessions").rglob("*.py"),
    PACKAGE / "claude" / "providers.py",
]
TREES = {str(file.relative_to(PACKAGE)): ast.parse(file.read_text()) for file in SIDES}

# The names of variables that hold a message as JSON.
MESSAGES = {"result", "outcome", "answer", "args", "secrets", "settings", "request.args"}


def messages(module: ModuleType) -> dict[str, Any]:
    """The messages that a module declares."""
    return {
        name: kind
        for name, kind in inspect.getmembers(module, inspect.isclass)
        if hasattr(kind, "_fields") and kind.__module__ == module.__name__
    }


DECLARED = {**messages(operations), **messages(settings), **messages(handover)}
FIELDS = {field for kind in DECLARED.values() for field in kind._fields}
OPERATIONS = {
    name: value
    for name, value in vars(operations).items()
    if name.isupper() and isinstance(value, str)
}


def used_keys(tree: ast.AST) -> set[str]:
    """The literal keys with which messages are read as JSON."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(
                value=ast.Name() | ast.Attribute() as value, slice=ast.Constant(name)
            ):
                held = ast.unparse(value)
            case ast.Call(
                func=ast.Attribute(value=value, attr="get"), args=[ast.Constant(name), *_]
            ):
                held = ast.unparse(value)
            case _:
                continue
        if held in MESSAGES and isinstance(name, str):
            found.add(name)
    return found


@pytest.mark.parametrize("module", [each for each in TREES if not each.startswith("sessions/pro")])
def test_no_key_is_used_that_is_not_declared(module: str) -> None:
    assert used_keys(TREES[module]) <= {key(field) for field in FIELDS}


def used_names() -> set[str]:
    """Every attribute, keyword and literal on either side."""
    found = set()
    for tree in TREES.values():
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                    found.add(name)
                case ast.Constant(value=str(name)):
                    found.add(name)
                case ast.ImportFrom(names=names):
                    found |= {alias.name for alias in names}
    return found


def test_every_declared_key_is_used() -> None:
    used = used_names()
    assert {field for field in FIELDS if field not in used and key(field) not in used} == set()


def test_every_operation_and_every_message_is_used() -> None:
    contract = ast.parse(inspect.getsource(operations))
    nested = {node.id for node in ast.walk(contract) if isinstance(node, ast.Name)}
    assert {*OPERATIONS, *DECLARED} - used_names() - nested == set()
    assert set(OPERATIONS) <= used_names()


def test_an_operation_is_named_by_its_constant_only() -> None:
    names = {OPERATIONS[name] for name in ("PING", "CONFIGURE", "RESPOND", "RECEIVE", "ARRIVED")}
    for module, tree in TREES.items():
        literals = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert literals & names == set(), module


@pytest.mark.parametrize("name", DECLARED)
def test_a_message_has_keys_of_its_own(name: str) -> None:
    keys = [key(field) for field in DECLARED[name]._fields]
    assert len({*keys}) == len(keys)


def test_a_message_becomes_json_and_comes_back() -> None:
    turn = operations.SubmitTurn("id", "prompt", tools=("Bash",), max_budget_usd=0.5)
    json = {"turnId": "id", "prompt": "prompt", "tools": ["Bash"], "maxBudgetUsd": 0.5}
    assert to_json(turn) == json
    assert from_json(operations.SubmitTurn, {**json, "tools": ("Bash",)}) == turn


def test_nested_messages_become_json_too() -> None:
    reports = operations.McpReports((operations.McpReport("a", "failed", "why"),))
    assert to_json(reports) == {"mcpServers": [{"name": "a", "status": "failed", "error": "why"}]}


def test_default_values_are_left_out_and_unknown_keys_ignored() -> None:
    assert to_json(operations.FollowTurn()) == {}
    assert from_json(operations.FollowTurn, {"of a later version": 1}) == operations.FollowTurn()


@pytest.mark.parametrize("values", [None, 3, "x", [], {}, {"turnId": "id"}])
def test_what_lacks_a_required_key_is_malformed(values: object) -> None:
    with pytest.raises(Malformed):
        from_json(operations.SubmitTurn, values)


def test_each_part_of_a_handover_travels_alone_or_with_the_other() -> None:
    credential = handover.Credential("apiKey", "secret-value")
    credentials = handover.Credentials("anthropic", credential, {}, ("secret-value",))
    servers = handover.McpServers({"mcpServers": {}}, ())
    for given in (
        handover.Handover(),
        handover.Handover(credentials),
        handover.Handover(mcp_servers=servers),
        handover.Handover(credentials, servers),
    ):
        back = handover.Handover.from_json(given.to_json())
        assert back.to_json() == given.to_json()


def test_no_secret_is_shown_by_a_handover() -> None:
    credential = handover.Credential("keys", secret_access_key="secret-value")
    proxies = {"HTTP_PROXY": "http://user:secret-value@proxy.example"}
    credentials = handover.Credentials("bedrock", credential, proxies, ("secret-value",))
    servers = handover.McpServers({"mcpServers": {"a": "secret-value"}}, ("secret-value",))
    assert "secret-value" not in repr(handover.Handover(credentials, servers))
