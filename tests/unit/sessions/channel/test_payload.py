"""The agent's code as it travels into a container."""

from __future__ import annotations

import ast
import base64
import io
import os
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest

from claude_mcp.contract import places
from claude_mcp.sessions.channel import payload

MAX_VARIABLE_BYTES = 128 * 1024
"""The kernel takes no single variable that is longer."""


def files(archive: str | None = None) -> dict[str, bytes]:
    """What travels: the agent's archive, or another."""
    archived = payload.archive() if archive is None else archive
    with zipfile.ZipFile(io.BytesIO(zlib.decompress(base64.b64decode(archived)))) as bundle:
        return {name: bundle.read(name) for name in bundle.namelist()}


def test_only_the_agent_and_what_it_imports_travels() -> None:
    rooms = {"/".join(name.split("/")[1:-1]).partition("/")[0] for name in files()}
    assert rooms == {"", "agent", "claude", "contract", "placing", "ports", "proxy"}
    assert "claude_mcp/agent/turns/driver.py" in files()
    assert files()["claude_mcp/__init__.py"] == b""


def test_of_the_proxy_a_session_has_the_forwarder_only() -> None:
    proxy = {name for name in files() if name.startswith("claude_mcp/proxy/")}
    assert proxy == {
        f"claude_mcp/proxy/{name}.py" for name in ("__init__", "connections", "forwarder")
    }


def test_only_the_proxy_travels_to_a_proxy() -> None:
    travels = files(payload.proxy_archive())
    assert {os.path.dirname(name) for name in travels} == {"claude_mcp", "claude_mcp/proxy"}
    assert b"def main(" in travels["claude_mcp/proxy/server.py"]
    assert len(payload.proxy_archive()) < MAX_VARIABLE_BYTES * 3 / 4


def test_each_side_of_published_ports_has_its_half_only() -> None:
    ports = {name for name in files() if name.startswith("claude_mcp/ports/")}
    assert ports == {"claude_mcp/ports/__init__.py", "claude_mcp/ports/inside.py"}
    assert files(payload.ports_archive()).keys() == {
        "claude_mcp/__init__.py",
        "claude_mcp/ports/__init__.py",
        "claude_mcp/ports/outside.py",
        "claude_mcp/proxy/__init__.py",
        "claude_mcp/proxy/connections.py",
    }


def test_the_archive_depends_on_nothing_but_the_code() -> None:
    before = payload.archive()
    payload.archive.cache_clear()
    with zipfile.ZipFile(
        io.BytesIO(zlib.decompress(base64.b64decode(payload.archive())))
    ) as bundle:
        assert {each.date_time for each in bundle.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert payload.archive() == before


def test_the_archive_fits_into_its_variables() -> None:
    variables = payload.variables(payload.archive())
    assert "".join(variables.values()) == payload.archive()
    assert len(variables) <= len(places.PAYLOAD_VARIABLES)
    for name, value in variables.items():
        assert len(f"{name}={value}") < MAX_VARIABLE_BYTES


@pytest.mark.parametrize("size", [0, 1, payload.PART_CHARS, payload.PART_CHARS + 1])
def test_an_archive_is_cut_into_parts_in_their_order(size: int) -> None:
    packed = "ab" * (size // 2) + "c" * (size % 2)
    parts = payload.variables(packed)
    assert "".join(parts[name] for name in places.PAYLOAD_VARIABLES if name in parts) == packed


def test_the_code_is_understood_by_the_oldest_python_that_an_image_may_have() -> None:
    for name, source in files().items():
        ast.parse(source, name, feature_version=(3, 9))


def test_the_code_imports_the_standard_library_and_itself() -> None:
    imported = set()
    for source in files().values():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                imported.add(node.module or "")
    ours = {name for name in imported if name.partition(".")[0] == "claude_mcp"}
    others = {name.partition(".")[0] for name in imported - ours}
    assert others <= sys.stdlib_module_names
    assert {".".join(name.split(".")[:2]) for name in ours} == {
        "claude_mcp",
        "claude_mcp.agent",
        "claude_mcp.claude",
        "claude_mcp.contract",
        "claude_mcp.placing",
        "claude_mcp.ports",
        "claude_mcp.proxy",
    }


def test_every_module_can_be_imported_without_the_hosts_packages(tmp_path: Path) -> None:
    archive = tmp_path / "agent.zip"
    archive.write_bytes(zlib.decompress(base64.b64decode(payload.archive())))
    modules = [name[:-3].replace("/", ".") for name in files() if not name.endswith("__.py")]
    script = f"import sys; sys.path.insert(0, {str(archive)!r}); import {', '.join(modules)}"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_settings_are_an_argument_of_their_own() -> None:
    command = payload.agent_command('{"model": "--help $HOME"}')
    assert command[:4] == ("python3", "-I", "-S", "-c")
    assert command[5:] == ('{"model": "--help $HOME"}',)
    assert payload.connect_command()[:4] == ("python3", "-I", "-S", "-c")
    assert len(payload.connect_command()) == 5


def test_an_old_python_is_refused_in_words() -> None:
    boot = payload.agent_command("{}")[4]
    pretend = "import sys; sys.version_info = (3, 8, 1)\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", pretend + boot],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        1,
        "claude-mcp: python3 is 3.8 here; 3.9 or later is needed\n",
    )
