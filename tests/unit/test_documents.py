"""The documents name only what exists, and name everything that users can use."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp.types import Tool

from claude_mcp import config_names, errors
from claude_mcp.cli.grammar import ALIASES, COMMANDS
from claude_mcp.cli.options import Parser
from claude_mcp.server.tools import tools
from claude_mcp.sessions.providers.options import OPTIONS

REPOSITORY = Path(__file__).parents[2]
README = REPOSITORY / "README.md"
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
OURS = "agent|claude|cli|contract|docs|engine|placing|proxy|scripts|server|sessions|tests|views"
PATH = re.compile(rf"`((?:{OURS}|\.ci|\.github)/[\w./-]*|[\w-]+\.py)`")
PLACES = (REPOSITORY, REPOSITORY / "claude_mcp")
DEVELOPER_PAGES = ("architecture.md", "contributing.md", "threat-model.md", "security.md")


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def text_of(page: Path) -> str:
    """Without fenced code, which has no links and names paths of other machines."""
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).strip().replace(" ", "-") for each in headings}


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """The file and the anchor of each link that stays in the repository."""
    for target in LINK.findall(text_of(page)):
        if "://" not in target and not target.startswith("mailto:"):
            path, _, anchor = target.partition("#")
            yield ((page.parent / path).resolve() if path else page), anchor


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    broken = [
        f"{target.name}#{anchor}"
        for target, anchor in links(page)
        if not target.exists() or (anchor and anchor not in anchors(target))
    ]
    assert broken == []


def test_every_page_is_reachable_from_the_readme() -> None:
    reached = set()
    waiting = [README]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            waiting += [target for target, _ in links(page) if target.suffix == ".md"]
    assert set(PAGES) <= reached


def exists(path: str) -> bool:
    """A page may leave out the package and, for a module that it calls a room, the suffix."""
    return any((place / name).exists() for place in PLACES for name in (path, f"{path}.py"))


@pytest.mark.parametrize(
    "page", [each for each in PAGES if each.name in DEVELOPER_PAGES], ids=name_of
)
def test_each_file_of_ours_that_a_page_names_exists(page: Path) -> None:
    assert [path for path in PATH.findall(text_of(page)) if not exists(path)] == []


def section(page: str, heading: str) -> str:
    """The text below the heading of the third level that begins with ``heading``, in backticks."""
    found = re.findall(
        rf"^### `{heading}\b[^\n]*\n(.*?)(?=^#|\Z)",
        (REPOSITORY / "docs" / page).read_text(),
        re.MULTILINE | re.DOTALL,
    )
    assert len(found) == 1, f"{page} has {len(found)} sections on {heading}"
    return str(found[0])


@pytest.mark.parametrize("tool", tools(), ids=lambda tool: str(tool.name))
def test_each_tool_and_argument_is_documented(tool: Tool) -> None:
    text = section("tools.md", tool.name)
    properties = tool.input_schema["properties"]
    assert [name for name in properties if f"`{name}`" not in text] == []
    assert f"`{tool.name}`" in README.read_text()


@pytest.mark.parametrize("tool", tools(), ids=lambda tool: str(tool.name))
def test_a_tools_table_names_only_its_arguments(tool: Tool) -> None:
    rows = re.findall(r"^\| (`[^|]+) \|", section("tools.md", tool.name), re.MULTILINE)
    named = {name.strip("`") for row in rows for name in row.split(", ")}
    assert named <= set(tool.input_schema["properties"])


def options_of(command: str) -> list[str]:
    parser = Parser("claude-mcp", "", "")
    COMMANDS[command][2](parser)
    return [option for option in parser.options if option != "--help"]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_and_option_is_documented(command: str) -> None:
    page = (REPOSITORY / "docs" / "command-line.md").read_text()
    everywhere = page[: page.index("## Sessions")]
    text = section("command-line.md", command) + everywhere
    missing = [each for each in options_of(command) if not re.search(rf"`{each}[` ]", text)]
    assert missing == []


@pytest.mark.parametrize("alias", ALIASES)
def test_each_alias_is_documented_with_its_command(alias: str) -> None:
    assert f"`{alias}` is the same" in section("command-line.md", ALIASES[alias])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_commands_section_names_only_its_options(command: str) -> None:
    named = set(re.findall(r"`(--[a-z-]+)", section("command-line.md", command)))
    assert named <= set(options_of(command))


CONFIGURATION_NAMES = (
    *(each.name for each in config_names.TABLE), *config_names.ALIASES, config_names.FILE_VARIABLE
)  # fmt: skip


@pytest.mark.parametrize("name", CONFIGURATION_NAMES)
def test_each_configuration_name_is_documented(name: str) -> None:
    pages = ("configuration.md", "providers.md")
    assert any(f"`{name}`" in (REPOSITORY / "docs" / page).read_text() for page in pages)


def test_documented_defaults_of_the_configuration_are_the_real_ones() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| `?([\w.:-]+)`? \|",
        (REPOSITORY / "docs" / "configuration.md").read_text(),
        re.MULTILINE,
    )
    documented = dict(rows)
    values = re.compile(r"[\d.]+|true|false|[\w-]+:\w+")
    defaults = {
        each.name: each.default for each in config_names.TABLE if values.fullmatch(each.default)
    }
    assert len(defaults) > 5
    assert {name: documented.get(name) for name in defaults} == defaults


@pytest.mark.parametrize("provider", OPTIONS)
def test_each_provider_and_option_is_documented(provider: str) -> None:
    text = (REPOSITORY / "docs" / "providers.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith(f"| `{provider}` |"))
    rest = text[text.index("All of them also take") :].partition(".")[0]
    assert [name for name in OPTIONS[provider] if f"`{name}`" not in row + rest] == []


def test_the_exit_codes_of_all_errors_are_documented() -> None:
    page = (REPOSITORY / "docs" / "command-line.md").read_text()
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert {error.exit_code for error in error_types(errors.ClaudeMcpError)} <= documented


def error_types(error: type[errors.ClaudeMcpError]) -> Iterator[type[errors.ClaudeMcpError]]:
    yield error
    for each in error.__subclasses__():
        yield from error_types(each)


def test_ci_runs_every_python_that_the_package_names() -> None:
    metadata = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    named = re.findall(r"Python :: (3\.\d+)", " ".join(metadata["classifiers"]))
    workflow = (REPOSITORY / ".github" / "workflows" / "ci.yml").read_text()
    matrix = re.search(r"python: \[(.*)\]", workflow)
    assert matrix is not None
    assert re.findall(r"3\.\d+", matrix[1]) == named
    assert metadata["requires-python"] == f">={named[0]}"
