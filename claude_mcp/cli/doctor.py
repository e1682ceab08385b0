"""Checks what a session needs; each failed check says what to do."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio

from claude_mcp import __version__, config
from claude_mcp.cli.findings import Finding, Verdict
from claude_mcp.config_names import FILE_VARIABLE, KINDS, NOT_USED, misspelt
from claude_mcp.errors import ClaudeMcpError, ConfigError, EngineError, UsageError, ungrouped

if TYPE_CHECKING:
    from claude_mcp.engine.dialects.dialect import Dialect
    from claude_mcp.engine.engine import Engine
    from claude_mcp.sessions.providers.resolve import Provider
    from claude_mcp.sessions.registry import Sessions


PROVED: Final = ", if the cluster enforces NetworkPolicies; each creation proves that it does"
CREDENTIALS: Final = {
    "anthropic": (),
    "bedrock": (
        "AWS_BEARER_TOKEN_BEDROCK",
        "AWS_ACCESS_KEY_ID",
        "AWS_PROFILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ),
    "vertex": ("GOOGLE_APPLICATION_CREDENTIALS",),
    "foundry": ("ANTHROPIC_FOUNDRY_API_KEY",),
}
"""In order of precedence."""


async def examine(sessions: Sessions, file: str | None) -> list[Finding]:
    """Run every check; ``file`` is the configuration file given by a flag."""
    python = ".".join(str(number) for number in sys.version_info[:3])
    findings = [
        Finding("program", Verdict.OK, f"claude-mcp {__version__}, Python {python}"),
        _configuration(sessions.config, file),
        *_unknown_variables(sessions.config),
    ]
    found: dict[Sessions, list[Finding]] = {}

    async def look(one: Sessions) -> None:
        found[one] = await _engine(one)

    with ungrouped():
        async with anyio.create_task_group() as tasks:
            for one in sessions.members:
                tasks.start_soon(look, one)
    return findings + [each for one in sessions.members for each in found[one]]


async def _engine(sessions: Sessions) -> list[Finding]:
    """What concerns one engine, with its name, if it has one."""
    settings, name = sessions.config, sessions.config.engine_name
    try:
        engine = await sessions.engine()
        dialect = engine.dialect
        kind = _kind(dialect)
        if await _is_remapped(engine):
            kind += ", whose users are remapped"
        if dialect.in_virtual_machine:
            kind += ", in a virtual machine"
        title = f"{dialect.title} {engine.version} ({engine.program}), {kind}"
        findings = [
            Finding("engine", Verdict.OK, title),
            (image := await _image(engine, settings.image)),
            *await _far_side(engine, settings, image),
            *_containers_conf(settings, dialect),
            *await _seccomp(engine),
            *await _limits(settings, engine),
            *_provider(settings, engine),
        ]
    except ClaudeMcpError as error:
        findings = [Finding("engine", Verdict.FAILED, error.message, error.hint)]
    return [replace(each, engine=name) for each in findings]


def _kind(dialect: Dialect) -> str:
    from claude_mcp.engine.dialects.dialect import ContainerUser

    if dialect.container_user is ContainerUser.APART:
        return "whose sessions meet the Pod Security Standard 'restricted'"
    return "rootless" if dialect.rootless else "as root"


async def _is_remapped(engine: Engine) -> bool:
    try:
        return (await engine.info()).remapped
    except EngineError:
        return False  # ``_seccomp`` says so


async def _far_side(engine: Engine, settings: config.Config, image: Finding) -> list[Finding]:
    from claude_mcp.cli import far_side

    if not engine.dialect.over_network:
        return []
    there = settings.image if image.verdict is Verdict.OK else None
    return await far_side.look(engine, settings.environment, there)


def _configuration(settings: config.Config, file: str | None) -> Finding:
    environment = settings.environment
    named = file or environment.get(FILE_VARIABLE)
    path = Path(named).expanduser() if named else config.default_file(environment)
    if not path.exists():
        return Finding("configuration", Verdict.OK, f"no file {path}; only the environment is used")
    if path.is_file() and path.stat().st_mode & 0o077:
        return Finding(
            "configuration",
            Verdict.WARNING,
            f"{path} is readable by other users of this machine",
            f"If it contains secrets, run: chmod 600 {path}",
        )
    return Finding("configuration", Verdict.OK, str(path))


def _unknown_variables(settings: config.Config) -> list[Finding]:
    """Variables without effect: misspelt ones, and those that only Claude Code itself reads."""
    found = []
    for name in sorted(settings.environment.keys() - {*KINDS, FILE_VARIABLE}):
        hint = NOT_USED.get(name)
        if hint is not None and settings.environment[name]:
            text = f"the variable {name} is not used: sessions do not get it"
            found.append(Finding("configuration", Verdict.WARNING, text, hint))
            continue
        near = misspelt(name)
        if name.startswith("CLAUDE_MCP_") or near:
            hint = f"Did you mean {near}?" if near else None
            text = f"the variable {name} is unknown and has no effect"
            found.append(Finding("configuration", Verdict.WARNING, text, hint))
    return found


def _containers_conf(settings: config.Config, dialect: Dialect) -> list[Finding]:
    from claude_mcp.engine.containers_conf import passed_on

    if not dialect.reads_containers_conf:
        return []
    found = passed_on(settings.environment, os.geteuid())
    return [
        Finding(
            "engine",
            Verdict.WARNING,
            f"{file} applies to every session: {', '.join(sorted(names))}",
            "Remove what sessions should not have.",
        )
        for file in dict.fromkeys(found.values())
        if (names := [name for name, where in found.items() if where == file])
    ]


async def _seccomp(engine: Engine) -> list[Finding]:
    try:
        info = await engine.info()
    except EngineError as error:
        return [Finding("engine", Verdict.WARNING, error.message, error.hint)]
    if not info.unconfined:
        return []
    text = f"{engine.title} gives sessions no seccomp filter"
    hint = "Remove seccomp-profile from the daemon's configuration (daemon.json)."
    return [Finding("engine", Verdict.WARNING, text, hint)]


async def _image(engine: Engine, image: str) -> Finding:
    from claude_mcp.sessions.create.start import BUILD_HINT

    try:
        there = await engine.image_exists(image)
    except ClaudeMcpError as error:
        return Finding("image", Verdict.FAILED, error.message, error.hint)
    if there:
        return Finding("image", Verdict.OK, f"{image} exists")
    return Finding("image", Verdict.FAILED, f"{engine.title} has no image {image}", BUILD_HINT)


async def _limits(settings: config.Config, engine: Engine) -> list[Finding]:
    from claude_mcp.sessions import limits

    try:
        info = await limits.info_for(engine, settings, {})
        found = limits.contain(settings, engine.dialect, {}, info)
    except (UsageError, EngineError) as error:
        return [Finding("limits", Verdict.FAILED, error.message, error.hint)]
    warnings = [Finding("limits", Verdict.WARNING, each) for each in found.warnings]
    return [Finding("limits", Verdict.OK, limits.described(found)), *warnings]


def _provider(settings: config.Config, engine: Engine) -> list[Finding]:
    from claude_mcp.sessions.providers.resolve import resolve

    try:
        chosen = resolve(settings, engine.dialect)
    except UsageError as error:
        return [Finding("provider", Verdict.FAILED, error.message, error.hint)]
    findings = [Finding("provider", Verdict.OK, _described(chosen))]
    given = _credentials(settings, chosen.name)
    if given:
        unused = f"; not used: {', '.join(given[1:])}" if given[1:] else ""
        findings.append(Finding("credentials", Verdict.OK, f"{given[0]} is set{unused}"))
    findings += [Finding("credentials", Verdict.WARNING, each) for each in chosen.warnings]
    return [*findings, _network(settings, engine, chosen)]


def _network(settings: config.Config, engine: Engine, chosen: Provider) -> Finding:
    """The network of sessions that ask for none."""
    from claude_mcp.sessions.network.access import Network
    from claude_mcp.sessions.network.policy import settle

    try:
        network = settle(settings, engine.dialect, None, (), chosen, "").network.value
        # Settings for restricted sessions must be valid too, whatever the default network is.
        proxy = settle(settings, engine.dialect, "restricted", (), chosen, "").proxy
    except UsageError as error:
        if isinstance(error, ConfigError) or settings.network == Network.RESTRICTED:
            return Finding("network", Verdict.FAILED, error.message, error.hint)
        return Finding("network", Verdict.OK, f"{settings.network}; {error.message}")
    assert proxy is not None
    reached = ", ".join(proxy.reached_hosts)
    proved = PROVED if engine.dialect.network_policies else ""
    return Finding(
        "network", Verdict.OK, f"{network}; a restricted session reaches {reached}{proved}"
    )


def _described(chosen: Provider) -> str:
    """The provider, its places and its model."""
    places = {
        "region": chosen.credentials.region,
        "projectId": chosen.credentials.project_id,
        "resource": chosen.credentials.resource,
        "baseUrl": chosen.credentials.base_url,
    }
    parts = [f"{name} {value}" for name, value in places.items() if value]
    model = f"model {chosen.model}" if chosen.model else "Claude Code's default model"
    return ", ".join([chosen.name, *parts, model])


def _credentials(settings: config.Config, name: str) -> list[str]:
    """The set variables with credentials for this provider; the first one is used."""
    return [
        variable
        for variable in CREDENTIALS[name]
        if variable in settings.cloud or variable in settings.cloud_secrets
    ] + [
        variable
        for variable, value in (
            ("ANTHROPIC_AUTH_TOKEN", settings.auth_token),
            ("ANTHROPIC_API_KEY", settings.api_key),
            ("CLAUDE_CODE_OAUTH_TOKEN", settings.oauth_token),
        )
        if value is not None and name == "anthropic"
    ]


def usable(findings: list[Finding]) -> bool:
    return all(each.verdict is not Verdict.FAILED for each in findings)


def to_text(findings: list[Finding]) -> str:
    lines = []
    for each in findings:
        what = each.what if each.engine is None else f"{each.what} ({each.engine})"
        lines.append(f"{each.verdict.value:8} {what}: {each.message}\n")
        if each.hint:
            lines.append(f"{'':8} {each.hint}\n")
    return "".join(lines)


def to_json(findings: list[Finding]) -> dict[str, Any]:
    """A finding has the name of an engine only if that has one."""
    fields = [
        {key: value for key, value in asdict(each).items() if key != "engine" or value}
        for each in findings
    ]
    return {"usable": usable(findings), "findings": fields}
