"""The page of examples shows what the program prints."""

from __future__ import annotations

import os
import re

import example_pages
import pytest

from claude_mcp.engine.docker_cli import DockerCliEngine


@pytest.mark.docker  # the page was made on it
@pytest.mark.once
@pytest.mark.timeout(500)
@pytest.mark.parametrize(
    "part",
    [
        "session",
        "setting_up",
        "tools",
        pytest.param("terminals", marks=pytest.mark.stress),
    ],
)
def test_the_page_of_examples_shows_what_the_program_prints(
    engine: DockerCliEngine, part: str
) -> None:
    made = example_pages.sections(part, os.environ, engine.program)
    assert made
    for name, blocks in made.items():
        assert on_the_page(name) == example_pages.section(name, blocks), (
            "the page differs: read what changed, then run scripts/examples"
        )


def on_the_page(name: str) -> str:
    found = re.search(
        rf"^### `{name}`\n.*?(?=^\#{{2,3}} |\Z)",
        example_pages.PAGE.read_text(),
        re.MULTILINE | re.DOTALL,
    )
    assert found is not None, f"{example_pages.PAGE.name} has no section on {name}"
    return found[0].rstrip() + "\n"
