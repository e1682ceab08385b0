"""The rules of the design's "Rooms", held by reading every module's syntax tree."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "claude_mcp"
MODULES = sorted(str(file.relative_to(PACKAGE)) for file in PACKAGE.rglob("*.py"))

ROOT = {"errors", "config", "credentials", "contract"}
# What each room may import of ours, besides itself.
MAY_IMPORT = {
    "errors": set(),
    "contract": set(),
    "placing": set(),
    "credentials": {"contract"},
    "config": {"errors", "credentials"},
    "engine": ROOT,
    "claude": {"contract"},
    "proxy": set(),
    "agent": {"claude", "contract", "placing"},
    "sessions": {*ROOT, "engine", "claude", "proxy", "placing"},
    "views": {*ROOT, "sessions"},
    "server": {*ROOT, "engine", "sessions", "views"},
    # `serve` is the server.
    "cli": {*ROOT, "engine", "sessions", "views", "server"},
    "__main__": {"cli"},
    "__init__": set(),
}
FRONT_ENDS = {"server", "cli", "__main__"}
INSIDE = {"agent", "claude", "contract", "placing", "proxy"}
THIRD_PARTY = {"anyio": {"engine", "sessions", "server", "cli"}, "pydantic": {"server"},
               "mcp": {"server"}, "mcp_types": {"server"}}  # fmt: skip

STARTS_PROCESSES = {"subprocess", "multiprocessing", "pty"}
PROCESS_CALLS = {"system", "popen", "fork", "forkpty", "posix_spawn", "posix_spawnp",
                 "create_subprocess_exec", "create_subprocess_shell", "subprocess_exec",
                 "subprocess_shell", "run_process", "open_process"}  # fmt: skip
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb"}


def room_of(module: str) -> str:
    return module.partition("/")[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported; of ``from a import b`` it is ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def violations(module: str, source: str) -> list[str]:
    """Every broken rule as one sentence; ``module`` is a path in the package."""
    room = room_of(module)
    tree = ast.parse(source)
    starts_processes = module == "engine/process.py" or room == "agent"
    reads_environment = module == "config.py" or room == "agent"
    found = []
    for line, name in imports(tree):
        top, _, rest = name.partition(".")
        if top == "claude_mcp":
            target = rest.partition(".")[0]
            if target in MAY_IMPORT and target not in {room, *MAY_IMPORT[room]}:
                found.append(f"{module}:{line}: {room} imports {target}")
            if room in FRONT_ENDS and rest.startswith(("engine.process", "engine.argv")):
                found.append(f"{module}:{line}: a front end imports {rest}")
        elif top not in sys.stdlib_module_names and room not in THIRD_PARTY.get(top, set()):
            found.append(f"{module}:{line}: {room} imports {top}")
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
            case ast.keyword(arg="shell", value=ast.Constant(value=True)) if room not in INSIDE:
                found.append(f"{module}:{node.value.lineno}: shell=True")
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr=attribute)):
                starts = attribute in PROCESS_CALLS or (
                    owner == "os" and attribute.startswith(("exec", "spawn"))
                )
                if owner in ("os", "asyncio", "anyio", "loop") and starts and not starts_processes:
                    found.append(f"{module}:{node.lineno}: a process is started with {attribute}")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_module_keeps_the_rules_of_its_room(module: str) -> None:
    assert room_of(module) in MAY_IMPORT
    assert violations(module, (PACKAGE / module).read_text()) == []


@pytest.mark.parametrize("module", [each for each in MODULES if room_of(each) in INSIDE])
def test_what_runs_inside_is_python_3_9(module: str) -> None:
    ast.parse((PACKAGE / module).read_text(), feature_version=(3, 9))


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("engine/a.py", "import claude_mcp.sessions.labels", "engine imports sessions"),
        ("engine/a.py", "from claude_mcp.claude import protocol", "engine imports claude"),
        ("engine/a.py", "from claude_mcp import claude", "engine imports claude"),
        ("claude/a.py", "def f():\n from claude_mcp import errors", "claude imports errors"),
        ("agent/a.py", "from claude_mcp.errors import UsageError", "agent imports errors"),
        ("agent/a.py", "import anyio", "agent imports anyio"),
        ("sessions/a.py", "from claude_mcp.cli import main", "sessions imports cli"),
        ("sessions/a.py", "from pydantic import BaseModel", "sessions imports pydantic"),
        ("cli/a.py", "from mcp.server import Server", "cli imports mcp"),
        ("cli/a.py", "import requests", "cli imports requests"),
        (
            "cli/a.py",
            "from claude_mcp.engine import process",
            "a front end imports engine.process",
        ),
        (
            "server/a.py",
            "from claude_mcp.engine.argv import create_argv",
            "a front end imports engine.argv.create_argv",
        ),
        ("sessions/a.py", "import subprocess", "a process is started with subprocess"),
        (
            "engine/a.py",
            "asyncio.create_subprocess_exec()",
            "a process is started with create_subprocess_exec",
        ),
        ("cli/a.py", "os.execvp('a', [])", "a process is started with execvp"),
        ("engine/a.py", "os.environ['A']", "the environment is read"),
        ("engine/a.py", "from os import getenv", "the environment is read"),
        ("sessions/a.py", "print('a')", "print"),
        ("engine/process.py", "run('a', shell=True)", "shell=True"),
    ],
)
def test_a_broken_rule_is_found(module: str, source: str, found: str) -> None:
    line = source.count("\n") + 1
    assert violations(module, source) == [f"{module}:{line}: {found}"]


def test_every_room_is_there() -> None:
    rooms = {room_of(module) for module in MODULES}
    assert rooms == set(MAY_IMPORT)
