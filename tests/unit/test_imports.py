"""Holds the rules of the rooms, by reading the syntax tree of every module.

The rooms and the imports they may have are the table in ``docs/architecture.md``.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "claude_mcp"
PAGE = REPOSITORY / "docs" / "architecture.md"
MODULES = sorted(file.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*.py"))
COLUMNS = ("room", "what lives there", "its rule", "runs in", "imports")


@dataclass(frozen=True, slots=True)
class Room:
    """``runs_in`` is host, session, proxy or both; ``imports`` names rooms and packages."""

    runs_in: str
    imports: frozenset[str]


def table_of_rooms() -> dict[str, Room]:
    rooms = {}
    lines = PAGE.read_text().splitlines()
    for line in lines[lines.index("| " + " | ".join(COLUMNS) + " |") + 2 :]:
        if not line.startswith("|"):
            break
        name, _, rule, runs_in, imports = (cell.strip() for cell in line.strip("|").split("|"))
        assert rule, f"{name} has no rule"
        name = name.strip("`").removesuffix(".py").rstrip("/")
        assert name not in rooms, f"{name} is listed twice"
        named = frozenset(each.strip("` ") for each in imports.split(","))
        rooms[name] = Room(runs_in, named - {"nothing"})
    return rooms


ROOMS = table_of_rooms()
ANYBODYS = "the package"
"""Files that only name a package; they may import nothing, and everybody may import them."""

THIRD_PARTY = {"anyio", "pydantic", "mcp", "starlette", "uvicorn", "httpx2", "jwt"}
FRONT_ENDS = {"server", "server/http", "cli", "__main__"}
ENGINE_ONLY = ("engine.process", "engine.ahead", "engine.argv", "engine.questions")
"""What no front end imports."""
STARTS_PROCESSES = {"subprocess", "multiprocessing", "pty"}
PROCESS_CALLS = {"system", "popen", "fork", "forkpty", "posix_spawn", "posix_spawnp",
                 "create_subprocess_exec", "create_subprocess_shell", "subprocess_exec",
                 "subprocess_shell", "run_process", "open_process"}  # fmt: skip
RESTARTS = {("cli/__init__.py", "execv")}
"""Which module may replace our own process, and how."""
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb"}


def room_of(path: str) -> str | None:
    """The room of a module or of an imported name, with slashes and without the package."""
    parts = path.removesuffix(".py").split("/")
    for length in range(len(parts), 0, -1):
        if (name := "/".join(parts[:length])) in ROOMS:
            return name
    within_rooms = any(name.startswith(f"{parts[0]}/") for name in ROOMS)
    is_package = len(parts) == 1 or parts[1:] == ["__init__"]
    return ANYBODYS if not within_rooms or is_package else None


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported; of ``from a import b`` it is ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def imported_rooms(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of each room and third-party package that is imported."""
    for line, name in imports(tree):
        top, _, rest = name.partition(".")
        if top == "claude_mcp":
            target = room_of(rest.replace(".", "/"))
            if target != ANYBODYS:
                yield line, target or rest
        elif top not in sys.stdlib_module_names:
            yield line, top


def violations(module: str, source: str) -> list[str]:
    """Every broken rule as one sentence; ``module`` is a path in the package."""
    room = room_of(module)
    assert room is not None, f"{module} belongs to no room in docs/architecture.md"
    tree = ast.parse(source)
    in_agent = module.startswith("agent/")
    starts_processes = module in ("engine/process.py", "engine/ahead.py") or in_agent
    reads_environment = module == "config.py" or in_agent
    allowed = {room, *ROOMS[room].imports} if room in ROOMS else set()
    found = [
        f"{module}:{line}: {room} imports {target}, which docs/architecture.md does not allow"
        for line, target in imported_rooms(tree)
        if target not in allowed
    ]
    for line, name in imports(tree):
        top, _, rest = name.partition(".")
        if room in FRONT_ENDS and rest.startswith(ENGINE_ONLY):
            found.append(f"{module}:{line}: a front end imports {rest}")
        if top in STARTS_PROCESSES and not starts_processes:
            found.append(f"{module}:{line}: a process is started with {top}")
        if top == "os" and rest in ENVIRONMENT and not reads_environment:
            found.append(f"{module}:{line}: the environment is read")
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr=attribute):
                if attribute in ENVIRONMENT and not reads_environment:
                    found.append(f"{module}:{node.lineno}: the environment is read")
            case ast.Call(func=ast.Name(id="print")) if room != "cli":
                found.append(f"{module}:{node.lineno}: print")
            case ast.keyword(arg="shell", value=ast.Constant(value=True)) if is_host(room):
                found.append(f"{module}:{node.value.lineno}: shell=True")
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr=attribute)):
                starts = attribute in PROCESS_CALLS or (
                    owner == "os" and attribute.startswith(("exec", "spawn"))
                )
                starts = starts and not starts_processes and (module, attribute) not in RESTARTS
                if owner in ("os", "asyncio", "anyio", "loop") and starts:
                    found.append(f"{module}:{node.lineno}: a process is started with {attribute}")
    return found


def is_host(room: str) -> bool:
    return room not in ROOMS or ROOMS[room].runs_in == "host"


def circles(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """The strongly connected components that have more than one node."""
    reachable = {node: reached_from(node, graph) for node in graph}
    found: list[set[str]] = []
    for node in sorted(graph):
        circle = {other for other in reachable[node] if node in reachable[other]}
        if len(circle) > 1 and circle not in found:
            found.append(circle)
    return found


def reached_from(start: str, graph: Mapping[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        for node in graph[waiting.pop()] - reached:
            reached.add(node)
            waiting.append(node)
    return reached


def modules_by_name() -> dict[str, Path]:
    names = {}
    for module in MODULES:
        name = module.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        names["" if name == "__init__" else name] = PACKAGE / module
    return names


def module_graph() -> dict[str, set[str]]:
    names = modules_by_name()
    graph = {}
    for name, file in names.items():
        targets = set()
        for _, imported in imports(ast.parse(file.read_text())):
            top, _, rest = imported.partition(".")
            if top == "claude_mcp":
                targets.add(rest if rest in names else rest.rpartition(".")[0])
        graph[name] = targets - {name}
    return graph


@pytest.mark.parametrize("module", MODULES)
def test_a_module_keeps_the_rules_of_its_room(module: str) -> None:
    assert violations(module, (PACKAGE / module).read_text()) == []


@pytest.mark.parametrize("module", [each for each in MODULES if not is_host(room_of(each) or "")])
def test_code_for_containers_is_python_3_9(module: str) -> None:
    ast.parse((PACKAGE / module).read_text(), feature_version=(3, 9))


def test_code_for_containers_imports_no_code_of_the_host() -> None:
    inside = {name for name in ROOMS if not is_host(name)}
    assert {"contract", "placing", "claude", "proxy", "agent/main", "agent/boot"} <= inside
    for name in inside:
        assert ROOMS[name].imports <= inside, f"{name} imports code of the host"


def test_every_room_of_the_table_exists() -> None:
    assert {room_of(module) for module in MODULES} - {ANYBODYS} == set(ROOMS)


def test_the_table_names_only_rooms_and_known_packages() -> None:
    assert {each for room in ROOMS.values() for each in room.imports} <= {*ROOMS, *THIRD_PARTY}
    assert {room.runs_in for room in ROOMS.values()} == {"host", "session", "proxy", "both"}


def test_the_picture_of_the_layers_agrees_with_the_table() -> None:
    text = PAGE.read_text()
    box = text[text.index("┌─ sessions") : text.index("└───", text.index("┌─ sessions"))]
    layers = [line.strip("│ ").split() for line in box.splitlines()[1:] if line.strip("│ ")]
    height = {f"sessions/{name}": row for row, names in enumerate(layers) for name in names}
    assert set(height) == {name for name in ROOMS if name.startswith("sessions/")}
    upwards = [
        f"{name} imports {target}"
        for name in height
        for target in ROOMS[name].imports & set(height)
        if height[target] < height[name]
    ]
    assert upwards == []


def test_every_import_that_the_table_allows_is_used() -> None:
    used: dict[str, set[str]] = {name: set() for name in ROOMS}
    for module in MODULES:
        room = room_of(module)
        if room in ROOMS:
            tree = ast.parse((PACKAGE / module).read_text())
            used[room] |= {target for _, target in imported_rooms(tree)} - {room}
    unused = {
        name: sorted(room.imports - used[name])
        for name, room in ROOMS.items()
        if room.imports - used[name]
    }
    assert unused == {}, "remove these from the table in docs/architecture.md"


def test_rooms_do_not_import_each_other_in_a_circle() -> None:
    assert circles({name: set(room.imports & set(ROOMS)) for name, room in ROOMS.items()}) == []


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    assert circles(module_graph()) == []


def test_a_circle_is_found_whole_and_without_what_only_leads_to_it() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"f"}, "f": {"e", "a"}}
    assert circles(graph) == [{"b", "c"}, {"e", "f"}]


def test_the_module_graph_sees_imports_in_functions_and_for_type_checking() -> None:
    graph = module_graph()
    assert "server.app" in graph["cli.commands"], "inside a function"
    assert "engine.engine" in graph["sessions.pruning"], "for type checking only"


def not_allowed(room: str, target: str) -> str:
    return f"{room} imports {target}, which docs/architecture.md does not allow"


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        (
            "engine/a.py",
            "import claude_mcp.sessions.labels",
            not_allowed("engine", "sessions/labels"),
        ),
        (
            "engine/a.py",
            "from claude_mcp.claude import protocol",
            not_allowed("engine", "claude"),
        ),
        ("engine/a.py", "from claude_mcp import claude", not_allowed("engine", "claude")),
        (
            "claude/a.py",
            "def f():\n from claude_mcp import errors",
            not_allowed("claude", "errors"),
        ),
        (
            "agent/store/a.py",
            "from claude_mcp.errors import UsageError",
            not_allowed("agent/store", "errors"),
        ),
        (
            "agent/store/a.py",
            "from claude_mcp.agent.turns import queue",
            not_allowed("agent/store", "agent/turns"),
        ),
        (
            "sessions/channel/a.py",
            "from claude_mcp.sessions.registry import Sessions",
            not_allowed("sessions/channel", "sessions/registry"),
        ),
        (
            "sessions/turns/a.py",
            "import claude_mcp.sessions.b",
            "sessions/turns imports sessions.b",
        ),
        ("agent/turns/a.py", "import anyio", not_allowed("agent/turns", "anyio")),
        (
            "sessions/turns/a.py",
            "from claude_mcp.cli import main",
            not_allowed("sessions/turns", "cli"),
        ),
        (
            "sessions/turns/a.py",
            "from pydantic import BaseModel",
            not_allowed("sessions/turns", "pydantic"),
        ),
        ("cli/a.py", "from mcp.server import Server", not_allowed("cli", "mcp")),
        ("cli/a.py", "import requests", not_allowed("cli", "requests")),
        (
            "cli/a.py",
            "from claude_mcp.engine import process",
            "a front end imports engine.process",
        ),
        (
            "server/a.py",
            "import claude_mcp.views\nfrom claude_mcp.engine import argv",
            "a front end imports engine.argv",
        ),
        ("sessions/git/a.py", "import subprocess", "a process is started with subprocess"),
        (
            "engine/a.py",
            "asyncio.create_subprocess_exec()",
            "a process is started with create_subprocess_exec",
        ),
        ("cli/a.py", "os.execvp('a', [])", "a process is started with execvp"),
        ("engine/a.py", "os.environ['A']", "the environment is read"),
        ("engine/a.py", "from os import getenv", "the environment is read"),
        ("sessions/turns/a.py", "print('a')", "print"),
        ("engine/process.py", "run('a', shell=True)", "shell=True"),
    ],
)
def test_a_broken_rule_is_found(module: str, source: str, found: str) -> None:
    line = source.count("\n") + 1
    broken = violations(module, source)
    assert broken
    assert broken[-1].startswith(f"{module}:{line}: {found}")


def test_a_module_outside_every_room_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"sessions/new\.py belongs to no room"):
        violations("sessions/new.py", "")
