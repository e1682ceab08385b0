"""What the configuration asks of pods: how it is written, and what is refused."""

from __future__ import annotations

import pytest

from claude_mcp.engine import pod_options
from claude_mcp.engine.pod_options import OPTIONS, PodOptions, Toleration
from claude_mcp.errors import ConfigError


def test_nothing_is_asked_unless_it_is_configured() -> None:
    assert pod_options.parse({}) == PodOptions()


def test_each_option_is_a_field() -> None:
    assert [each.key for each in OPTIONS] == [*PodOptions.__slots__]


def test_lists_are_separated_by_commas_or_blanks() -> None:
    parsed = pod_options.parse({"pull_secrets": "a, b", "tolerations": "x=y:NoSchedule z"})
    assert parsed == PodOptions(
        pull_secrets=("a", "b"), tolerations=(Toleration("x", "y", "NoSchedule"), Toleration("z"))
    )


def test_variables_and_keys_say_the_same() -> None:
    given = {each.key: each.key for each in OPTIONS}
    assert pod_options.of_environment(pod_options.variables(given)) == given


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("pull_secrets", "A", "'A' is not the name of an object"),
        ("pull_policy", "always", "one of IfNotPresent, Always, Never"),
        ("node_selector", "ssd", "'ssd' is not a label"),
        ("node_selector", "disk=a/b", "'disk=a/b' is not a label"),
        ("tolerations", "a=b:Never", "'a=b:Never' is not a taint"),
        ("tolerations", "a:", "'a:' is not a taint"),
        ("tolerations", "-a", "'-a' is not a taint"),
        ("priority_class", "a b", "'a b' is not the name of an object"),
        ("labels", "=a", "'=a' is not a label"),
        ("labels", "claude-mcp.id=1", "'claude-mcp.id' cannot be set"),
        ("storage_class", "-x", "'-x' is not the name of an object"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_correct(key: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        pod_options.parse({key: value})
    assert caught.value.hint == f"Correct CLAUDE_MCP_KUBERNETES_{key.upper()}."
