"""The command `config`: what is in force, and where each value comes from; changes of the file."""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from claude_mcp import config_file
from claude_mcp.cli.drawing import columns, table
from claude_mcp.cli.providers import secret
from claude_mcp.cli.terminal import for_terminal, talk, write, write_json
from claude_mcp.config import Config, origins, read_engines
from claude_mcp.config_names import KINDS, PROXY_NAMES, SECRET_NAMES, TABLE
from claude_mcp.errors import UsageError

HEAD: Final = ("NAME", "VALUE", "FROM")
HIDDEN: Final = "(secret, set)"
_PASSWORD: Final = re.compile(r"(://)[^/@\s]*@")


def settings(arguments: argparse.Namespace, config: Config) -> int:
    file = Path(config.files[1])
    match arguments.action:
        case None:
            _show(_rows(file, arguments), arguments, file)
        case "set" if arguments.name and arguments.value is not None:
            name = config_file.known(arguments.name)
            value = arguments.value
            if _is_secret(name, value):
                forms = "env:VARIABLE, file:PATH or - (stdin) instead of the value"
                value = secret(name, value, forms).rstrip("\n")
            config_file.change(file, name, value)
            talk(f"{name} is set in {file}.")
            _tell_overridden(file, name)
        case "unset" if arguments.name and arguments.value is None:
            name = config_file.known(arguments.name)
            config_file.change(file, name, None)
            talk(f"{name} is not set in {file} any more.")
            _tell_overridden(file, name)
        case _:
            raise UsageError(
                "This is not understood.",
                hint="Use 'claude-mcp config', 'claude-mcp config set NAME VALUE' or "
                "'claude-mcp config unset NAME'.",
            )
    return 0


def _is_secret(name: str, value: str) -> bool:
    """Whether a value may not be typed. Addresses may, unless they contain a password."""
    if name in SECRET_NAMES:
        return True
    is_address = name in PROXY_NAMES or name.endswith("_BASE_URL")
    elsewhere = value == "-" or value.startswith(("env:", "file:"))
    return is_address and (elsewhere or _PASSWORD.search(value) is not None)


def _rows(file: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Every setting; ``source`` is None for one that is not set."""
    found = origins(file)
    flags = {
        name: str(value)
        for name, value in (
            ("CLAUDE_MCP_ENGINE", arguments.engine),
            ("CLAUDE_MCP_ENGINE_HOST", arguments.engine_host),
            ("MCP_CLAUDE_DEBUG", "1"),
        )
        if value and (name != "MCP_CLAUDE_DEBUG" or arguments.debug)
    }
    defaults = {each.name: each.default for each in TABLE}
    rows = []
    for name in KINDS:
        value, source = found.get(name, (None, None))
        if name in flags:
            value, source = flags[name], "flag"
        is_secret = name in SECRET_NAMES
        rows.append(
            {
                "name": name,
                "value": None if value is None else HIDDEN if is_secret else _shown(value),
                "source": source,
                "default": defaults.get(name) or None,
            }
        )
    return rows


def _engines(file: Path) -> dict[str, dict[str, str]]:
    """What the file says of each engine; no key is secret, and no address has a password."""
    found = {}
    for name, address in read_engines(file).items():
        fields = asdict(address)
        options = fields.pop("pods")
        found[name] = {key: value for key, value in fields.items() if value is not None} | options
    return found


def _shown(value: str) -> str:
    """A value without the password of an address."""
    return _PASSWORD.sub(r"\1***@", value)


def _show(rows: list[dict[str, Any]], arguments: argparse.Namespace, file: Path) -> None:
    engines = _engines(file)
    if arguments.json:
        write_json({"file": str(file), "settings": rows, "engines": engines})
        return
    listed = [
        (row["name"], row["value"] or row["default"], row["source"] or "default")
        for row in rows
        if row["source"] or (arguments.all and row["default"])
    ]
    listed += [
        (f"engines.{name}.{key}", value, "file")
        for name, table_of in engines.items()
        for key, value in (table_of or {"program": "(what answers)"}).items()
    ]
    if listed:
        lines = table([HEAD, *listed], columns(sys.stdout))
        write("".join(f"{for_terminal(line)}\n" for line in lines))
    missing = "" if file.exists() else ", which does not exist"
    talk(f"The configuration file is {file}{missing}.")


def _tell_overridden(file: Path, name: str) -> None:
    if origins(file).get(name, ("", ""))[1] == "environment":
        talk(f"warning: the environment variable {name} is set, and is used instead.")
