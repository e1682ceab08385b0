"""Argv for the verbs that ask an engine what it is and which containers it has.

They change nothing, so a call may begin before anybody needs its answer; see ``ahead``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from claude_mcp.engine.names import key, reference

Argv = tuple[str, ...]

INSPECT_FORMAT: Final = (
    '{"id":{{json .ID}},"name":{{json .Name}},"created":{{json .Created}},'
    '"status":{{json .State.Status}},"exitCode":{{json .State.ExitCode}},'
    '"started":{{json .State.StartedAt}},"finished":{{json .State.FinishedAt}},'
    '"error":{{json .State.Error}},"image":{{json .Config.Image}},"labels":{{json .Config.Labels}},'
    # As a whole: in a template, the engines spell its fields differently.
    '"host":{{json .HostConfig}}}'
)

STATES_FORMAT: Final = "{{.ID}}\t{{.Names}}\t{{.State}}"


def version_argv(program: str) -> Argv:
    return (program, "version", "--format={{json .}}")


def info_argv(program: str) -> Argv:
    return (program, "info", "--format={{json .}}")


def connections_argv(program: str) -> Argv:
    """The remote services that Podman knows, one a line: name, address, whether it is the default.

    Podman 4.3 may add a star to the default's name.
    """
    fields = "{{.Name}}\t{{.URI}}\t{{.Default}}"
    return (program, "system", "connection", "list", f"--format={fields}")


def context_argv(program: str) -> Argv:
    """The address of Docker's context, of the one that the environment or its file chooses."""
    return (program, "context", "inspect", "--format={{.Endpoints.docker.Host}}")


def list_ids_argv(program: str, label: str, value: str | None = None) -> Argv:
    filtered = key(label) if value is None else f"{key(label)}={value}"
    return (program, "ps", "--all", "--quiet", "--no-trunc", f"--filter=label={filtered}")


def list_states_argv(program: str, label: str) -> Argv:
    filtered = f"--filter=label={key(label)}"
    return (program, "ps", "--all", "--no-trunc", filtered, f"--format={STATES_FORMAT}")


def inspect_argv(program: str, refs: Sequence[str]) -> Argv:
    checked = (reference(ref) for ref in refs)
    return (program, "container", "inspect", f"--format={INSPECT_FORMAT}", *checked)


def mounts_argv(program: str, ref: str) -> Argv:
    return (program, "container", "inspect", "--format={{json .Mounts}}", reference(ref))
