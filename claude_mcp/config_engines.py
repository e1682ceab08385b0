"""The engines that the configuration file names: its tables ``[engines.NAME]``.

Values only: where an engine is, is ``engine.address``'s to check.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from claude_mcp.engine import pod_options
from claude_mcp.engine.address import KUBERNETES, EngineAddress, EngineName
from claude_mcp.errors import ConfigError

KEYS: Final[Mapping[str, str]] = {
    "kind": "kubernetes, or left out for Docker and Podman",
    "program": "docker, podman, or a path to one",
    "host": "address: unix://, tcp:// or ssh://",
    "context": "Docker context, Podman connection, or context of Kubernetes",
    "connection": "the same as context",
    "tls": "directory with ca.pem, cert.pem and key.pem for tcp://",
    "ssh_key": "file of a private key for ssh://; it has no passphrase",
    "namespace": "namespace of Kubernetes",
    "kubeconfig": "file that says where the cluster is",
    **{each.key: each.text for each in pod_options.OPTIONS},
}
"""What a table may hold: strings, and lists of strings for ``LISTS``."""
LISTS: Final = frozenset(each.key for each in pod_options.OPTIONS if each.is_list)
PATHS: Final = ("tls", "ssh_key", "kubeconfig")
_VARIABLES: Final = {
    "CLAUDE_MCP_ENGINE_HOST": "host",
    "CLAUDE_MCP_ENGINE_CONTEXT": "context",
    "CLAUDE_MCP_ENGINE_TLS": "tls",
    "CLAUDE_MCP_ENGINE_SSH_KEY": "ssh_key",
    "CLAUDE_MCP_ENGINE_NAMESPACE": "namespace",
    "CLAUDE_MCP_ENGINE to kubernetes": 'kind to "kubernetes"',
    "KUBECONFIG": "kubeconfig",
    **{each.variable: each.key for each in pod_options.OPTIONS},
}
"""How an address calls the same, if it does not come from a table."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")


def parse(path: Path, tables: object) -> dict[str, EngineAddress]:
    """The engines by name, in the file's order.

    Raises:
        ConfigError: a name, a key or a value cannot be used.
    """
    if not isinstance(tables, dict) or not all(isinstance(each, dict) for each in tables.values()):
        raise ConfigError(
            f"In {path}, engines must be tables.", hint="Begin each with [engines.NAME]."
        )
    return {name: _address(path, name, table) for name, table in tables.items()}


def _address(path: Path, name: str, table: Mapping[str, object]) -> EngineAddress:
    if name.lower() in (*EngineName, KUBERNETES):
        key = "kind" if name.lower() == KUBERNETES else "program"
        raise ConfigError(
            f"In {path}, an engine is called {name!r}, which is the name of a program.",
            hint=f'Choose another name, and write {key} = "{name.lower()}" in its table.',
        )
    if _NAME.fullmatch(name) is None:
        raise ConfigError(
            f"In {path}, {name[:60]!r} cannot be the name of an engine.",
            hint="A name has letters, digits, '.', '_' and '-', at most 40, and begins with a "
            "letter or digit.",
        )
    where = f"[engines.{name}] in {path}"
    values: dict[str, str] = {}
    for key, value in table.items():
        if key not in KEYS:
            raise ConfigError(f"{where} has an unknown key {key!r}.", hint=_meant(key))
        text = _text(key, value)
        if not text:
            kind = "a list of strings, or a string," if key in LISTS else "a string"
            raise ConfigError(f"{key} of {where} must be {kind} that is not empty.")
        values[key] = _absolute(where, key, text) if key in PATHS else text
    _settle_kind(where, values)
    connection = values.pop("connection", None)
    if connection is not None and "context" in values:
        raise ConfigError(f"{where} has a context and a connection.", hint="Remove one of them.")
    pods = {each.key: values.pop(each.key) for each in pod_options.OPTIONS if each.key in values}
    try:
        return EngineAddress(**({"context": connection} if connection else {}), **values, pods=pods)
    except ConfigError as error:
        hint = error.hint
        for variable, key in _VARIABLES.items():
            hint = hint and hint.replace(variable, key)
        raise ConfigError(f"{where}: {error.message}", hint=hint) from None


def _text(key: str, value: object) -> str:
    """A value as a variable would have it; empty if it is of another kind."""
    if key in LISTS and isinstance(value, list):
        words = [each for each in value if isinstance(each, str)]
        return ",".join(words) if len(words) == len(value) else ""
    return value if isinstance(value, str) else ""


def _settle_kind(where: str, values: dict[str, str]) -> None:
    """Kubernetes is a program to everybody else."""
    kind = values.pop("kind", None)
    if kind is None:
        return
    if kind != KUBERNETES:
        raise ConfigError(
            f"kind of {where} can only be {KUBERNETES}.",
            hint="For Docker and Podman, leave it out and write program.",
        )
    if "program" in values:
        raise ConfigError(
            f"{where} has a kind and a program.", hint="Remove program: kubectl is used."
        )
    values["program"] = kind


def _absolute(where: str, key: str, value: str) -> str:
    path = os.path.expanduser(value)
    if not path.startswith("/"):
        raise ConfigError(f"{key} of {where} must be an absolute path.")
    return path


def _meant(key: str) -> str:
    """DOCKER_HOST means host, as hots does."""
    for word in (key.lower(), key.lower().rpartition("_")[2]):
        if near := difflib.get_close_matches(word, KEYS, n=1):
            return f"Did you mean {near[0]}?"
    return f"Known: {', '.join(KEYS)}."


def check_program(program: str, engines: Mapping[str, EngineAddress], path: str | None) -> None:
    """Raises ConfigError for what is neither a program nor the name of one of these engines.

    ``path`` is where programs are looked for.
    """
    import shutil

    known = (*EngineName, KUBERNETES)
    if program in known or "/" in program or shutil.which(program, path=path):
        return
    near = difflib.get_close_matches(program, engines, n=1)
    named = f"Configured: {', '.join(engines)}."
    raise ConfigError(
        f"There is no engine {program[:60]!r}.",
        hint=f"Did you mean {near[0]}? {named}" if near else named,
    )
