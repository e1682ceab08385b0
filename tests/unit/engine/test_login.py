"""The variables of programs that log in to a cluster or a registry."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from claude_mcp import config
from claude_mcp.engine import login
from claude_mcp.engine.environment import engine_environment

SECRETS = {"AWS_SECRET_ACCESS_KEY", "AZURE_CLIENT_SECRET", "AAD_SERVICE_PRINCIPAL_CLIENT_SECRET"}
FURTHER = {"ANTHROPIC_API_KEY": "sk-ant", "AWS_BEARER_TOKEN_BEDROCK": "b", "AWS_ENDPOINT_URL": "e"}


def test_a_login_has_its_clouds_variables_and_no_other() -> None:
    given = dict.fromkeys((name for names in login.VARIABLES.values() for name in names), "x")
    assert given.keys() >= SECRETS
    assert login.variables({**given, **FURTHER, "PATH": "/bin"}) == given


def test_no_other_call_of_an_engine_has_them() -> None:
    given = dict.fromkeys((name for names in login.VARIABLES.values() for name in names), "x")
    assert not engine_environment({"PATH": "/bin", **given}, given).keys() & given.keys()


def test_a_tunnel_of_ssh_has_them(tmp_path: Path) -> None:
    (tmp_path / "ssh").write_text("#!/bin/sh\n")
    (tmp_path / "ssh").chmod(0o755)
    place = {"PATH": str(tmp_path), "DOCKER_HOST": "ssh://box"}
    assert engine_environment(place, {"AWS_PROFILE": "team"})["AWS_PROFILE"] == "team"


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_the_configuration_keeps_them_apart(name: str) -> None:
    loaded = config.load({"CLAUDE_MCP_CONFIG": os.devnull, name: "not-to-be-shown"})
    assert loaded.login == {name: "not-to-be-shown"}
    assert "not-to-be-shown" not in repr(replace(loaded, environment={}))
