"""What package formats say of us: the registry's ``server.json`` and Claude Desktop's manifest.

Everything in them comes from ``pyproject.toml``, the version and the configuration's table.
``build-mcpb`` and ``release`` run this file.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any, Final

from claude_mcp import __version__
from claude_mcp.config_names import TABLE, Kind
from claude_mcp.server.identity import TITLE

CHECKOUT: Final = Path(__file__).resolve().parent.parent
SERVER_SCHEMA: Final = (
    "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
)
_USER_SETTINGS: Final = {
    "ANTHROPIC_API_KEY": "API key",
    "CLAUDE_CODE_OAUTH_TOKEN": "Subscription token",
    "ANTHROPIC_BASE_URL": "Gateway",
    "CLAUDE_MCP_ENGINE": "Container engine",
    "CLAUDE_MCP_ALLOWED_ROOTS": "Allowed directories",
}
"""What a package asks its user for, by the name of the configuration. None is required: the
configuration file holds them too."""


def project() -> dict[str, Any]:
    """The table ``project`` of ``pyproject.toml``."""
    table: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return table


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def manifest() -> dict[str, Any]:
    """The manifest of the Claude Desktop extension, format 0.4; ``uv`` of the client runs it."""
    settings = {row.name: row for row in TABLE if row.name in _USER_SETTINGS}
    return {
        "manifest_version": "0.4",
        "name": project()["name"],
        "display_name": TITLE,
        "version": __version__,
        "description": project()["description"],
        "author": {"name": "The claude-mcp project"},
        "icon": "icon.png",
        "server": {
            "type": "uv",
            "entry_point": "claude_mcp/__main__.py",
            "mcp_config": {
                "command": "uv",
                "args": ["run", "--directory", "${__dirname}", "claude-mcp", "serve"],
                "env": {name: f"${{user_config.{name.lower()}}}" for name in _USER_SETTINGS},
            },
        },
        "tools_generated": True,
        "keywords": project()["keywords"],
        "license": project()["license"],
        "compatibility": {
            "platforms": ["darwin", "linux"],
            "runtimes": {"python": project()["requires-python"]},
        },
        "user_config": {
            name.lower(): {
                "type": "string",
                "title": title,
                "description": f"{_sentence(settings[name].text)}. Empty: what the configuration "
                "file says.",
                "sensitive": settings[name].kind is Kind.SECRET,
                "required": False,
                "default": "",
            }
            for name, title in _USER_SETTINGS.items()
        },
    }


def server_json(name: str, repository: str) -> dict[str, Any]:
    """The entry for the MCP registry. ``name`` is reverse DNS, such as ``io.github.me/claude-mcp``.

    Raises:
        ValueError: the registry does not take that name
    """
    if not re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", name):
        raise ValueError(f"{name!r} is no name for the registry, such as io.github.me/claude-mcp")
    settings = {row.name: row for row in TABLE if row.name in _USER_SETTINGS}
    return {
        "$schema": SERVER_SCHEMA,
        "name": name,
        "title": TITLE,
        "description": project()["description"],
        "version": __version__,
        "repository": {"url": repository, "source": "github"},
        "packages": [
            {
                "registryType": "pypi",
                "identifier": project()["name"],
                "version": __version__,
                "runtimeHint": "uvx",
                "transport": {"type": "stdio"},
                "packageArguments": [{"type": "positional", "value": "serve"}],
                "environmentVariables": [
                    {
                        "name": name,
                        "description": _sentence(settings[name].text),
                        "isRequired": False,
                        "isSecret": settings[name].kind is Kind.SECRET,
                    }
                    for name in _USER_SETTINGS
                ],
            }
        ],
    }


def bundled_files() -> dict[str, Path]:
    """What the extension holds besides its manifest, by the name inside."""
    sources = sorted(
        path
        for path in (CHECKOUT / "claude_mcp").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    names = ["pyproject.toml", "README.md", "LICENSE"]
    files = {str(path.relative_to(CHECKOUT)): path for path in sources}
    files.update({name: CHECKOUT / name for name in names})
    files["icon.png"] = CHECKOUT / "scripts" / "claude-plugin" / ".claude-plugin" / "icon.png"
    return files


def write_archive(target: Path, contents: dict[str, bytes]) -> None:
    """A zip archive that is the same, byte for byte, for the same contents."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, contents[name], zipfile.ZIP_DEFLATED)


def main(what: str, directory: str, *rest: str) -> int:
    """Write ``mcpb`` or ``registry`` into a directory, and print the path."""
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    if what == "mcpb":
        described = manifest()
        target /= f"{described['name']}-{described['version']}.mcpb"
        contents = {name: path.read_bytes() for name, path in bundled_files().items()}
        write_archive(target, {**contents, "manifest.json": _written(described)})
    else:
        try:
            entry = server_json(*rest)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        target /= "server.json"
        target.write_bytes(_written(entry))
    print(target)
    return 0


def _written(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
