"""Holds the rule that a message names an argument as its reader knows it.

Reads every text in the rooms that all front ends use. What a tool and the command line name
differently must be marked there (see ``contract.wording``), and each front end must know it.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from claude_mcp.cli import grammar, parser
from claude_mcp.cli.words import word
from claude_mcp.contract.wording import named
from claude_mcp.server.tools import tools
from claude_mcp.sessions.create.request import LIMITS
from claude_mcp.sessions.providers.options import OPTIONS

PACKAGE = Path(__file__).parents[2] / "claude_mcp"
OF_ONE_FRONT_END = ("cli/", "server/", "clients/", "views/next_steps.py", "views/transcript.py")
"""What only one front end shows; the two modules of ``views`` are the server's."""
MODULES = sorted(
    name
    for file in PACKAGE.rglob("*.py")
    if not (name := file.relative_to(PACKAGE).as_posix()).startswith(OF_ONE_FRONT_END)
)
ARGUMENTS = {name for tool in tools() for name in tool.input_schema["properties"]}
TOOLS = {tool.name for tool in tools()}
PROVIDER_OPTIONS = {name for names in OPTIONS.values() for name in names}
FLAGS = {
    flag
    for name in grammar.COMMANDS
    for action in parser.command_parser(name)._actions
    for flag in (*action.option_strings, str(action.metavar))
}
OTHER_PROGRAMS = re.compile(r"'(?:git|aws|systemctl|\{\} rm|claude-mcp (?:config|image)) [^']*'")
"""Commands of other programs, and what no tool can do: to change the configuration, to build an
image."""
EXCEPTIONS: Mapping[str, frozenset[str]] = {
    # What is wrong with a flag itself, when the program starts.
    "config.py": frozenset({"--engine", "--engine-host"}),
    # Of 'image build', which no tool can do.
    "config_names.py": frozenset({"--extra-ca"}),
    # Claude in the session reads it, who has neither.
    "proxy/exchange.py": frozenset({"allowedHosts"}),
    # The tool's description of the option.
    "sessions/create/request.py": frozenset({"allowedHosts"}),
    # Of a question, as the tool returned it.
    "views/text.py": frozenset({"requestId"}),
}
"""Texts of which only one front end's users can be the readers."""


def sentences(module: str) -> Iterator[str]:
    """The texts with more than one word, except docstrings; what is put in is shown as ``{}``."""
    tree = ast.parse((PACKAGE / module).read_text())
    skipped = {
        id(each)
        for node in ast.walk(tree)
        for each in (
            node.values
            if isinstance(node, ast.JoinedStr)
            else [node.value]
            if isinstance(node, ast.Expr)
            else []
        )
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (each.value if isinstance(each, ast.Constant) else "{}" for each in node.values)
            text = "".join(map(str, parts))
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in skipped
        ):
            text = node.value
        else:
            continue
        if " " in text.strip():
            yield text


def of_one_front_end(text: str) -> set[str]:
    """The words in a text that only a tool or only the command line has."""
    text = OTHER_PROGRAMS.sub("", text)
    camel = {name for name in ARGUMENTS | PROVIDER_OPTIONS if re.search("[a-z][A-Z]", name)}
    words = set(re.findall(r"[A-Za-z_]+", text)) & (camel | TOOLS)
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+(?![\w=-])", text)) & FLAGS
    return words | flags


@functools.cache
def marked() -> set[str]:
    """Every name that some message marks."""
    return {
        str(node.args[0].value)
        for module in MODULES
        for node in ast.walk(ast.parse((PACKAGE / module).read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "named"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }


@pytest.mark.parametrize("module", MODULES)
def test_no_text_names_what_only_one_front_end_has(module: str) -> None:
    found = {name for text in sentences(module) for name in of_one_front_end(text)}
    assert found - {"mcpServers"} == EXCEPTIONS.get(module, frozenset())


def test_texts_mark_names() -> None:
    assert marked() >= {"includeUncommitted", "apiKey", "newConversation", "set_credentials"}


@pytest.mark.parametrize("name", sorted(marked()))
def test_a_marked_name_is_one_of_the_tools(name: str) -> None:
    assert name in ARGUMENTS | TOOLS | PROVIDER_OPTIONS


@pytest.mark.parametrize("name", sorted(marked() - {"useBedrock"}))
def test_the_command_line_has_a_word_for_a_marked_name(name: str) -> None:
    """Except for the switch of the tool alone, which nobody can have used there."""
    shown = word(name)
    if shown.startswith("'claude-mcp "):
        assert shown.strip("'").partition(" ")[2] in grammar.COMMANDS
    else:
        assert shown.partition(" ")[0] in FLAGS


@pytest.mark.parametrize("name", LIMITS)
def test_the_command_line_has_a_flag_for_each_limit(name: str) -> None:
    assert word(f"limits.{name}") == f"--{name}"


def test_a_word_of_one_front_end_is_found() -> None:
    assert of_one_front_end("Use turnId, list_turns or --turn-id.") == {
        "turnId",
        "list_turns",
        "--turn-id",
    }
    assert of_one_front_end(f"Use {named('turnId')[1:-1]}.") == {"turnId"}
    assert of_one_front_end("Run 'git config --global' or an ordinary word.") == set()
