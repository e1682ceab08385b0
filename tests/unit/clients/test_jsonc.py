from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_mcp.clients.jsonc import Malformed, parse, with_member, without_member

PLAIN = """{
  "a": 1,
  "servers": {
    "one": {"command": "x"}
  }
}
"""
TABS = '{\n\t// mine\n\t"servers": {\n\t\t"one": 1, // the first\n\t},\n}\n'

ADDITIONS = {
    "after the last member": (
        PLAIN,
        '{\n  "a": 1,\n  "servers": {\n    "one": {"command": "x"},\n    "new": {\n'
        '      "k": [1]\n    }\n  }\n}\n',
    ),
    "tabs, comments and commas at the end": (
        TABS,
        '{\n\t// mine\n\t"servers": {\n\t\t"one": 1, // the first\n\t\t"new": {\n'
        '\t\t\t"k": [1]\n\t\t},\n\t},\n}\n',
    ),
    "an empty object": ("{}\n", '{\n  "servers": {\n    "new": {\n      "k": [1]\n    }\n  }\n}\n'),
    "an empty section": (
        '{\n  "servers": {}\n}',
        '{\n  "servers": {\n    "new": {\n      "k": [1]\n    }\n  }\n}',
    ),
    "one line": ('{"a": 1}', '{"a": 1, "servers": {"new": {"k": [1]}}}'),
    "a comment behind the last value": (
        '{\n  "a": 1 // one\n}',
        '{\n  "a": 1, // one\n  "servers": {\n    "new": {\n      "k": [1]\n    }\n  }\n}',
    ),
    "line ends of Windows": (
        '{\r\n  "a": 1\r\n}\r\n',
        '{\r\n  "a": 1,\r\n  "servers": {\r\n    "new": {\r\n      "k": [1]\r\n'
        "    }\r\n  }\r\n}\r\n",
    ),
    "a bracket on the last member's line": (
        '{\n  "a": 1,\n  "b": 2}',
        '{\n  "a": 1,\n  "b": 2,\n  "servers": {\n    "new": {\n      "k": [1]\n    }\n  }\n}',
    ),
    "the last of two sections of one name counts": (
        '{\n  "servers": {"x": 1},\n  "servers": {"y": 1}\n}',
        '{\n  "servers": {"x": 1},\n  "servers": {"y": 1, "new": {\n      "k": [1]\n    }}\n}',
    ),
}


@pytest.mark.parametrize("case", ADDITIONS)
def test_a_member_is_added_and_the_rest_stays(case: str) -> None:
    before, after = ADDITIONS[case]
    changed = with_member(before, ("servers", "new"), {"k": [1]})
    assert parse(changed).data["servers"]["new"] == {"k": [1]}
    if "two sections" not in case:
        assert changed == after


@pytest.mark.parametrize("case", [each for each in ADDITIONS if "empty" not in each])
def test_what_was_added_can_be_taken_out_again(case: str) -> None:
    before, _ = ADDITIONS[case]
    added = with_member(before, ("servers", "new"), {"k": [1]})
    back = without_member(added, ("servers", "new"))
    assert parse(back).data == {"servers": {}, **parse(before).data}
    for line in before.splitlines():
        assert line.strip().rstrip("}").replace(",", "").strip() in back.replace(",", "")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"a": 1, "b": 2, "c": 3}', '{"a": 1, "c": 3}'),
        ('{"a": 1, "b": 2}', '{"a": 1}'),
        ('{"b": 2}', "{}"),
        ('{\n  "b": 2,\n  "c": 3\n}', '{\n  "c": 3\n}'),
        ('{\n  "a": 1, // one\n  "b": 2 // two\n}', '{\n  "a": 1 // one\n}'),
        ('{\n  "a": 1,\n  "b": {\n    "x": 1\n  },\n}', '{\n  "a": 1,\n}'),
        ('{\n  "b": 1,\n  "a": 1,\n  "b": 2\n}', '{\n  "a": 1\n}'),
        ('{\n  "b": 2\n}\n', "{}\n"),
        ('{\r\n  "a": 1,\r\n  "b": 2\r\n}', '{\r\n  "a": 1\r\n}'),
        ('{ // why\n  "b": 2\n}', "{ // why\n}"),
        ('{"a": 1}', '{"a": 1}'),
    ],
)
def test_a_member_is_removed_with_its_line_and_its_comma(before: str, after: str) -> None:
    assert without_member(before, ("b",)) == after


def test_a_value_is_replaced_in_place() -> None:
    text = (
        '{\n  "servers": {\n    "one": {\n      "args": [ 1,\n        2 ], // why\n    },\n  },\n}'
    )
    assert with_member(text, ("servers", "one", "args"), ["x"]) == text.replace(
        "[ 1,\n        2 ]", '["x"]'
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1, column 1: the text ends too early"),
        ('{"a": 1', "line 1, column 8: ',' or '}' is missing"),
        ('{\n  "a" 1}', "line 2, column 7: ':' is missing"),
        ('{"a": }', "line 1, column 7: a value is missing"),
        ("{a: 1}", "line 1, column 2: a name in quotation marks or '}' is missing"),
        ("{'a': 1}", "line 1, column 2: a name in quotation marks or '}' is missing"),
        ('{"a": yes}', "line 1, column 7: 'yes' is no value"),
        ('{"a": 1} x', "line 1, column 10: something follows the end"),
        ('{"a": 1 /* }', "line 1, column 9: ',' or '}' is missing"),
        ("[" * 100_000, "line 1, column 202: it is nested too deep"),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse(text)
    assert str(caught.value) == said


def test_what_stands_where_an_object_should_is_refused() -> None:
    with pytest.raises(Malformed, match="servers is not an object"):
        with_member('{"servers": []}', ("servers", "new"), 1)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.text(max_size=4), VALUES, max_size=4),
    st.sampled_from([None, 2, "\t"]),
    st.text(max_size=4),
    VALUES,
)
def test_any_object_gets_and_loses_any_member(
    data: dict[str, Any], indent: int | str | None, key: str, value: Any
) -> None:
    text = json.dumps(data, indent=indent)
    assert parse(text).data == data
    added = with_member(text, (key,), value)
    assert json.loads(added) == {**data, key: value}
    without = {name: each for name, each in data.items() if name != key}
    assert json.loads(without_member(added, (key,))) == without
