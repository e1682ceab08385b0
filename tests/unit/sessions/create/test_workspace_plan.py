"""Which kind of workspace a session gets, and what does not go together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from claude_mcp.config import Config
from claude_mcp.contract.wording import worded
from claude_mcp.engine.dialects.docker import DOCKER
from claude_mcp.errors import ConfigError, UsageError
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.workspace import choose
from claude_mcp.sessions.paths.policy import Project


class Engine:
    title = "Pods"

    def __init__(self, **dialect: Any) -> None:
        self.dialect = replace(DOCKER, **dialect)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(str(tmp_path), 0, 0)


def chosen(project: Project, config: Any = None, engine: Any = None, **request: Any) -> Any:
    wanted = CreateRequest(project.path, **request)
    engine = cast("Any", engine or Engine())
    return choose(Config(environment={}, **(config or {})), wanted, engine, project)


@pytest.mark.parametrize("kind", ["bind", "clone", "copy"])
def test_the_request_or_else_the_setting_decides(project: Project, kind: Any) -> None:
    assert chosen(project, {"workspace": kind}) == (kind, ())
    assert chosen(project, {"workspace": "copy"}, workspace=kind) == (kind, ())


def test_an_unknown_setting_is_named(project: Project) -> None:
    with pytest.raises(ConfigError) as caught:
        chosen(project, {"workspace": "mirror"})
    assert caught.value.message == "CLAUDE_MCP_WORKSPACE must be bind, clone or copy."


def test_an_unknown_kind_that_was_asked_for_is_not_the_settings_fault(project: Project) -> None:
    with pytest.raises(UsageError) as caught:
        chosen(project, workspace="clon")
    assert type(caught.value) is UsageError
    assert worded(caught.value.message) == "workspace must be bind, clone or copy."


@pytest.mark.parametrize("is_repository", [True, False])
def test_an_engine_without_mounts_gets_another_kind(project: Project, is_repository: bool) -> None:
    if is_repository:
        (Path(project.path) / ".git").symlink_to("nowhere")
    kind = "clone" if is_repository else "copy"
    warning = f"The session has a {kind}: Pods cannot mount the project."
    assert chosen(project, engine=Engine(bind_mounts=False)) == (kind, (warning,))


@pytest.mark.parametrize(
    ("archives", "hint"), [(True, "Use the workspace 'clone' or 'copy'."), (False, None)]
)
def test_an_engine_without_mounts_refuses_one_that_is_wanted(
    project: Project, archives: bool, hint: str | None
) -> None:
    engine = Engine(bind_mounts=False, archive_copies=archives)
    with pytest.raises(UsageError) as caught:
        chosen(project, engine=engine, workspace="bind")
    assert caught.value.message == "Pods cannot mount a project directory of this host."
    assert caught.value.hint == hint


@pytest.mark.parametrize("kind", ["clone", "copy"])
def test_an_engine_without_archives_has_only_mounts(project: Project, kind: Any) -> None:
    engine = Engine(archive_copies=False)
    assert chosen(project, engine=engine) == ("bind", ())
    with pytest.raises(UsageError, match="Pods cannot copy a project of this host"):
        chosen(project, engine=engine, workspace=kind)


@pytest.mark.parametrize("kind", ["clone", "copy"])
def test_a_read_only_root_has_no_room(project: Project, kind: Any) -> None:
    for config, more in (({}, {"read_only_root": True}), ({"read_only_root": True}, {})):
        with pytest.raises(UsageError, match="which is read-only"):
            chosen(project, config, workspace=kind, **more)
        assert chosen(project, config, workspace="bind", **more) == ("bind", ())
    given = {"read_only_root": True}
    assert chosen(project, given, workspace=kind, read_only_root=False) == (kind, ())


@pytest.mark.parametrize(
    ("option", "value", "name", "kind"),
    [
        ("base_ref", "main", "baseRef", "clone"),
        ("include_uncommitted", True, "includeUncommitted", "clone"),
        ("include_uncommitted", False, "includeUncommitted", "clone"),
        ("include", ("a",), "include", "clone"),
        ("exclude", ("a",), "exclude", "copy"),
        ("trust_git", True, "trustGit", "bind"),
    ],
)
def test_options_belong_to_a_kind(
    project: Project, option: str, value: Any, name: str, kind: str
) -> None:
    assert chosen(project, workspace=kind, **{option: value}) == (kind, ())
    for other in {"bind", "clone", "copy"} - {kind}:
        with pytest.raises(UsageError) as caught:
            chosen(project, workspace=other, **{option: value})
        assert worded(caught.value.message) == (
            f"{name} belongs to the workspace {kind!r}, not to {other!r}."
        )
