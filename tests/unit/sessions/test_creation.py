"""What a session is called when nobody gave it a name."""

from __future__ import annotations

import re

import pytest

from claude_mcp.sessions.creation import _default_name
from claude_mcp.sessions.labels import check_name, container_name


@pytest.mark.parametrize(
    ("project", "slug"),
    [
        ("/home/me/fix-tests", "fix-tests"),
        ("/home/me/my project", "my-project"),
        ("/home/me/.dotfiles", "dotfiles"),
        ("/home/me/--privileged", "privileged"),
        ("/home/me/two\nlines", "two-lines"),
        ("/home/me/日本語", "session"),
        ("/home/me/" + "x" * 200, "x" * 40),
        ("/home/me/not \udcff text", "not-text"),
    ],
)
def test_a_default_name_says_the_project_and_is_its_own_container_name(
    project: str, slug: str
) -> None:
    names = {_default_name(project) for _ in range(10)}
    assert len(names) > 1
    for name in names:
        assert re.fullmatch(re.escape(slug) + "-[0-9a-f]{4}", name)
        assert container_name(check_name(name)) == f"claude-mcp-{name}"
