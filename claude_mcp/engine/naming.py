"""What in the user's environment and configuration names an engine.

An engine that is named is the only one that is used: if it does not work, that is an error.
Another engine would run sessions where the user does not expect them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from claude_mcp.engine.address import VARIABLES, EngineName

_NAMED: Final = re.compile(r"\A.*? names? this engine, so no other is used instead\.")
DEFAULT_CONTEXT: Final = "default"
MAX_CONFIG_BYTES: Final = 1024 * 1024


def named_by(name: EngineName, environment: Mapping[str, str]) -> tuple[str, ...]:
    """What names this engine: variables, or the current context in Docker's configuration."""
    found = tuple(variable for variable in VARIABLES[name] if environment.get(variable))
    if name is EngineName.DOCKER and not {"DOCKER_HOST", "DOCKER_CONTEXT"} & set(found):
        file = _docker_config(environment)
        if _current_context(file) not in ("", DEFAULT_CONTEXT):
            found = (*found, f"'currentContext' in {file}")
    return found


def first_program(program: str | None, environment: Mapping[str, str]) -> str:
    """The program that detection asks first, if the caller names none itself."""
    if program is not None:
        return program
    named = (name for name in EngineName if named_by(name, environment))
    return next(named, next(iter(EngineName))).value


def hint(names: tuple[str, ...], advice: str | None) -> str:
    """What to do about an engine that was named and does not work.

    ``advice`` is the failure's own hint.
    """
    listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    verb, pronoun = ("names", "it") if len(names) == 1 else ("name", "them")
    general = f"Correct or remove {pronoun}, or choose an engine with CLAUDE_MCP_ENGINE."
    return f"{listed} {verb} this engine, so no other is used instead. {advice or general}"


def hint_of(table: str, advice: str | None) -> str:
    """The same for an engine of the configuration file; ``advice`` may be what ``hint`` returned.

    Variables that we have set for such an engine are not told of.
    """
    rest = _NAMED.sub("", advice or "").strip()
    return f"The configuration file's [{table}] names this engine. {rest}".rstrip()


def _docker_config(environment: Mapping[str, str]) -> Path:
    directory = environment.get("DOCKER_CONFIG")
    return Path(directory or f"{environment.get('HOME', '')}/.docker") / "config.json"


def _current_context(file: Path) -> str:
    """Docker's current context; empty if none is set or the file cannot be read."""
    try:
        with file.open("rb") as opened:
            config: Any = json.loads(opened.read(MAX_CONFIG_BYTES))
        context = config.get("currentContext")
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""  # Docker warns of such a file and goes on with its defaults
    return context if isinstance(context, str) else ""
