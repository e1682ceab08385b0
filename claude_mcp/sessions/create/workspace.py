"""Which workspace a new session gets, and what a clone or copy consists of."""

from __future__ import annotations

import os
from dataclasses import dataclass

import anyio.to_thread

from claude_mcp.config import Config
from claude_mcp.contract.wording import named
from claude_mcp.contract.workspaces import BIND, CLONE, COPY
from claude_mcp.engine.engine import Engine
from claude_mcp.errors import ConfigError, GitNotFound, UsageError
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.git import seed
from claude_mcp.sessions.git.program import Git
from claude_mcp.sessions.git.seed import SeedPlan, SeedRequest
from claude_mcp.sessions.paths import policy
from claude_mcp.sessions.paths.policy import Project
from claude_mcp.sessions.session import branch_name


@dataclass(frozen=True, slots=True)
class Workspace:
    """``seed`` is what a clone or copy is made of; None for a mount."""

    kind: str
    seed: SeedPlan | None
    warnings: tuple[str, ...]

    @property
    def directory(self) -> str:
        """Where the project is in /workspace; empty if it is all of it."""
        return "" if self.seed is None else self.seed.directory

    @property
    def is_without_base(self) -> bool:
        """Whether it is a copy, or the clone of a repository without commits."""
        return self.seed is not None and self.base is None

    @property
    def base(self) -> str | None:
        """The commit that a clone begins with."""
        return None if self.seed is None else self.seed.seed.base


async def settle(
    config: Config,
    engine: Engine,
    request: CreateRequest,
    project: Project,
    name: str,
    unmountable: bool = False,
) -> Workspace:
    """The workspace of a new session called ``name``.

    ``unmountable`` says that the engine was found not to see the project.

    Raises:
        UsageError, ConfigError: the project cannot be had in this way; see ``choose``.
        GitError: git on the host failed.
    """
    kind, warnings = choose(config, request, engine, project, unmountable)
    if kind == CLONE and warnings and not await _has_git(config):
        kind, warnings = COPY, _instead(COPY, engine)
    if kind == BIND:
        return Workspace(kind, None, warnings)
    planned = await seed.plan(
        Git(config.environment),
        project.path,
        SeedRequest(
            kind=kind,
            branch=branch_name(name),
            base_ref=request.base_ref,
            include_uncommitted=bool(request.include_uncommitted),
            include=request.include,
            exclude=request.exclude,
        ),
    )
    if planned.directory:
        # The session gets more than the project, so that must be allowed too.
        await anyio.to_thread.run_sync(_check_repository, planned.project, config)
    return Workspace(kind, planned, (*warnings, *planned.warnings))


def _check_repository(top: str, config: Config) -> None:
    policy.check(top, f"The repository {top!r} of the project", config, os.stat(top).st_uid)


async def _has_git(config: Config) -> bool:
    try:
        await Git(config.environment).version()
    except GitNotFound:
        return False
    return True


def _instead(kind: str, engine: Engine) -> tuple[str, ...]:
    return (f"The session has a {kind}: {engine.title} cannot mount the project.",)


def is_open(config: Config, request: CreateRequest) -> bool:
    """Whether another kind may take the place of a mount, because nobody asked for one."""
    return request.workspace is None and config.workspace == BIND


def choose(
    config: Config,
    request: CreateRequest,
    engine: Engine,
    project: Project,
    unmountable: bool = False,
) -> tuple[str, tuple[str, ...]]:
    """The kind of workspace, and a warning if it is another than by default.

    Raises:
        UsageError, ConfigError: there is no such kind, or not here, or an option is of another.
    """
    wanted = request.workspace or config.workspace
    if wanted not in (BIND, CLONE, COPY):
        if request.workspace:
            raise UsageError(f"{named('workspace')} must be bind, clone or copy.")
        raise ConfigError("CLAUDE_MCP_WORKSPACE must be bind, clone or copy.")
    warnings: tuple[str, ...] = ()
    dialect = engine.dialect
    unmountable = unmountable and is_open(config, request) and dialect.archive_copies
    if wanted == BIND and (unmountable or not dialect.bind_mounts):
        if request.workspace or not dialect.archive_copies:
            raise UsageError(
                f"{engine.title} cannot mount a project directory of this host.",
                hint="Use the workspace 'clone' or 'copy'." if dialect.archive_copies else None,
            )
        wanted = CLONE if os.path.lexists(os.path.join(project.path, ".git")) else COPY
        warnings = _instead(wanted, engine)
    if wanted != BIND and not dialect.archive_copies:
        raise UsageError(f"{engine.title} cannot copy a project of this host into a session.")
    if wanted != BIND and (
        config.read_only_root if request.read_only_root is None else request.read_only_root
    ):
        raise UsageError(
            f"The workspace {wanted!r} is kept in the session's root file system, which is "
            "read-only.",
            hint="Use the workspace 'bind', or a writable root file system.",
        )
    for option, given, kind in (
        ("baseRef", request.base_ref is not None, CLONE),
        ("includeUncommitted", request.include_uncommitted is not None, CLONE),
        ("include", bool(request.include), CLONE),
        ("exclude", bool(request.exclude), COPY),
        ("trustGit", request.trust_git, BIND),
    ):
        if given and wanted != kind:
            raise UsageError(
                f"{named(option)} belongs to the workspace {kind!r}, not to {wanted!r}."
            )
    return wanted, warnings
