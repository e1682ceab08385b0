"""The documents name only what exists, and name everything that users can use."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp.types import Tool

from claude_mcp import config_names, errors
from claude_mcp.agent.channel import connections
from claude_mcp.agent.commands import records, registry
from claude_mcp.agent.commands.command import TIMEOUT_EXIT_CODE
from claude_mcp.agent.commands.output import SEGMENT_BYTES as SEGMENT
from claude_mcp.agent.store import journal
from claude_mcp.cli.flags import Parser
from claude_mcp.cli.grammar import ALIASES, COMMANDS
from claude_mcp.contract import operations, places
from claude_mcp.engine import argv
from claude_mcp.placing import descriptors
from claude_mcp.proxy import exchange, forwarder, slots
from claude_mcp.server.arguments import WAIT_SECONDS
from claude_mcp.server.tools import BY_NAME, tools
from claude_mcp.sessions import limits, pruning, session
from claude_mcp.sessions.channel import channel
from claude_mcp.sessions.files import tar, unpacking
from claude_mcp.sessions.git import directories, guard
from claude_mcp.sessions.git import files as git_files
from claude_mcp.sessions.mcp import servers
from claude_mcp.sessions.providers.options import OPTIONS
from claude_mcp.sessions.turns import commands

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


def test_every_command_and_every_tool_has_an_example() -> None:
    page = (REPOSITORY / "docs" / "examples.md").read_text()
    found = re.findall(r"^### `([\w-]+)`\n\n```", page, re.MULTILINE)
    missing = [name for name in (*COMMANDS, *BY_NAME) if name not in found]
    assert missing == [], "add them to scripts/example_story.py, then run scripts/examples"
    assert set(found) <= {*COMMANDS, *BY_NAME}


@pytest.mark.parametrize("tool", tools(), ids=lambda tool: str(tool.name))
def test_each_tool_and_argument_is_documented(tool: Tool) -> None:
    text = section("tools.md", tool.name)
    properties = tool.input_schema["properties"]
    assert [name for name in properties if f"`{name}`" not in text] == []
    assert f"`{tool.name}`" in README.read_text()


@pytest.mark.parametrize("tool", tools(), ids=lambda tool: str(tool.name))
def test_each_field_of_a_tools_result_is_documented(tool: Tool) -> None:
    text = section("tools.md", tool.name).partition("Returns ")[2]
    if "the same as `execute_in_session`" in text:
        text += section("tools.md", "execute_in_session")
    names = [name for name in fields(tool.output_schema) if name != "next"]  # in each result
    assert [name for name in names if f"`{name}`" not in text] == []


def fields(schema: object) -> Iterator[str]:
    """The names of all properties in a JSON Schema, also of nested objects."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for part in (*schema.get("properties", {}).values(), schema.get("items")):
            yield from fields(part)


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
    if "options of `create`" in text:
        text += section("command-line.md", "create") + section("command-line.md", "prompt")
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


MIB = limits.MIB


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("tools.md", f"| `waitSeconds` | {WAIT_SECONDS:g} |"),
        ("tools.md", f"| `timeoutSeconds` | {commands.TIMEOUT_SECONDS:g} |"),
        ("tools.md", f"limited to {commands.OUTPUT_BYTES // 1024} KiB"),
        ("tools.md", f"its exit code is {TIMEOUT_EXIT_CODE}."),
        ("tools.md", f"latest {SEGMENT // MIB} to {2 * SEGMENT // MIB} MiB of each command"),
        ("tools.md", f"At most {registry.MAX_UNATTENDED} commands run"),
        ("tools.md", f"The last {registry.KEPT_IN_MEMORY} commands that ended"),
        ("tools.md", f"where the last {records.MAX_KEPT} are kept"),
        ("tools.md", f"with up to {records.MAX_KEPT_BYTES // MIB} MiB in all"),
        ("tools.md", f"last {2 * journal.SEGMENT_BYTES // MIB} MiB of events"),
        ("tools.md", f"at least {limits.LEAST_DEFAULT_MEMORY // limits.GIB} GiB"),
        ("tools.md", f"{limits.DEFAULT_PIDS} processes"),
        ("tools.md", f"(default {limits.DEFAULT_TMPFS_BYTES // limits.GIB} GiB)"),
        ("permissions.md", f"({config_names.PERMISSION_SECONDS:g}, fixed"),
        ("mcp-servers.md", f"waits up to {servers.WAIT_SECONDS:g} s"),
        ("networks.md", f"http://127.0.0.1:{places.PROXY_PORT}"),
        ("networks.md", f"(3 times); {exchange.ADVICE}."),
        ("networks.md", f"wait up to {forwarder.PATIENCE_SECONDS:g} s"),
        ("threat-model.md", f"{descriptors.MAX_DEPTH} nested directories"),
        ("threat-model.md", f"{tar.MAX_EXTENSION_BYTES // MIB} MiB of extended header"),
        ("threat-model.md", f"{unpacking.MAX_REMEMBERED_BYTES // MIB} MiB of names"),
        ("threat-model.md", f"at most {directories.MAX_DIRECTORIES:,} directories"),
        ("threat-model.md", f"and {git_files.MAX_FILES:,} files"),
        ("threat-model.md", f"stops after {directories.WALK_SECONDS:g} s"),
        ("threat-model.md", f"after {guard.COMPARE_SECONDS:g} s later on"),
        ("threat-model.md", f"idle for {slots.IDLE_SECONDS:g} s"),
        ("threat-model.md", f"`oom_score_adj` {argv.OOM_SCORE} "),
        ("threat-model.md", f"{limits.DEFAULT_PIDS} processes and threads"),
        ("architecture.md", f"at most {channel.MAX_ANSWER_BYTES // MIB} MiB each"),
        ("architecture.md", f"at most {connections.MAX_LINE_BYTES // MIB} MiB each"),
        ("architecture.md", f"idle channel after {connections.IDLE_SECONDS:g} s"),
        ("architecture.md", f"ends itself with exit code {places.EXPIRED_EXIT_CODE}"),
        ("architecture.md", f"exits with code {places.ABANDONED_EXIT_CODE};"),
    ],
)
def test_a_figure_in_a_page_is_the_one_in_the_code(page: str, words: str) -> None:
    text = " ".join((REPOSITORY / "docs" / page).read_text().split())
    assert words in text


def test_the_architecture_page_lists_the_operations_of_the_agent() -> None:
    page = (REPOSITORY / "docs" / "architecture.md").read_text()
    table = page[page.index("| operation |") : page.index("## Threads")]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    listed = {name.strip("`") for row in rows for name in row.split(", ")}
    assert listed == {*operations_of_the_agent(), operations.CANCEL}


def operations_of_the_agent() -> set[str]:
    """The constants of the contract that stand before its first class."""
    source = inspect.getsource(operations).partition("\nclass ")[0]
    return set(re.findall(r'^[A-Z_]+(?:: Final)? = "([\w-]+)"$', source, re.MULTILINE))


def test_the_threat_model_has_the_deadlines_for_expired_sessions() -> None:
    text = " ".join((REPOSITORY / "docs" / "threat-model.md").read_text().split())
    assert (session.OVERDUE_SECONDS, pruning.UNANSWERED_SECONDS) == (2 * 60, 60 * 60)
    assert "within two minutes after its time" in text
    assert "an hour after its time" in text
