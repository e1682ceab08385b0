"""What a session says is read into the contract's classes, whatever it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from claude_mcp.errors import AgentError
from claude_mcp.sessions.channel.answers import read


class Part(NamedTuple):
    name: str
    size: int = 0


class Whole(NamedTuple):
    exit_code: int
    cost_usd: float
    done: bool
    text: str | None = None
    parts: tuple[Part, ...] = ()
    usage: Mapping[str, Any] = {}
    anything: object = None


HONEST = {"exitCode": 3, "costUsd": 1, "done": True}


def test_an_honest_answer_is_read_as_it_is() -> None:
    answer = {
        **HONEST,
        "text": "x",
        "parts": [{"name": "a", "size": 1}, {"name": "b"}],
        "usage": {"a": 1},
        "anything": [3],
    }
    parts = (Part("a", 1), Part("b"))
    assert read(Whole, answer) == Whole(3, 1.0, True, "x", parts, {"a": 1}, [3])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("exitCode", None),
        ("exitCode", "3"),
        ("exitCode", True),
        ("exitCode", 1.5),
        ("exitCode", -1),
        ("exitCode", 2**60),
        ("costUsd", float("nan")),
        ("costUsd", float("inf")),
        ("costUsd", False),
        ("done", 1),
        ("done", None),
    ],
)
def test_a_required_field_of_another_type_makes_an_answer_unusable(key: str, value: object) -> None:
    with pytest.raises(AgentError, match=r"^The session's agent sent an unusable answer\.$"):
        read(Whole, {**HONEST, key: value})
    fallback = read(Whole, {**HONEST, key: value}, Whole(9, 9.0, False))
    assert [fallback.exit_code == 9, fallback.cost_usd == 9, not fallback.done] == [
        name == key for name in HONEST
    ]


@pytest.mark.parametrize("answer", [None, 3, "x", [], {}])
def test_what_is_no_object_lacks_every_field(answer: object) -> None:
    with pytest.raises(AgentError):
        read(Whole, answer)
    assert read(Whole, answer, Whole(1, 2.0, True)) == Whole(1, 2.0, True)


def test_an_optional_field_of_another_type_has_its_default() -> None:
    forged = {"text": 3, "parts": {"name": "a"}, "usage": [], "unknown": 1}
    assert read(Whole, {**HONEST, **forged}) == Whole(3, 1.0, True)


def test_unusable_entries_of_a_list_are_left_out() -> None:
    parts = [None, 3, {}, {"name": 3}, {"name": "a", "size": "x"}, [{"name": "a"}]]
    assert read(Whole, {**HONEST, "parts": parts}).parts == (Part("a", 0),)
