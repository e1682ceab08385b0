"""The sessions, made once for all tests of this directory that use them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from messages_standin import Standin

from claude_mcp.config import load
from claude_mcp.engine.docker_cli import DockerCliEngine
from claude_mcp.sessions.create import start
from claude_mcp.sessions.create.request import CreateRequest, NetworkName
from claude_mcp.sessions.registry import Sessions, open_sessions
from claude_mcp.sessions.session import Session
from tests.engine_fixtures import Bare, environment_with
from tests.network_world import (
    ALLOWED,
    FURTHER_PORT,
    METADATA,
    OTHER,
    PUBLIC,
    PUBLIC_ADDRESS,
    UNKNOWN,
    World,
    welcome,
)
from tests.restricted import give_names, own_address, rewrite
from tests.witnesses import Witness, watching, watching_inside


@pytest.fixture(scope="package")
def site() -> Iterator[Witness]:
    with watching(answer=welcome) as site:
        yield site


@pytest.fixture(scope="package")
async def world(
    engine: DockerCliEngine,
    standin: Standin,
    site: Witness,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[World]:
    config = replace(
        load(environment_with(standin), engine=engine.program),
        private_hosts=(f"{ALLOWED}:{site.port}",),
        proxies={},
    )
    hosts = (f"{PUBLIC}:{site.port}", PUBLIC, f"{UNKNOWN}:{site.port}")
    bare = Bare(engine)
    async with contextlib.AsyncExitStack() as stack:
        sessions = await stack.enter_async_context(open_sessions(config))

        async def create(network: NetworkName, *allowed: str) -> Session:
            created = await start.create(
                sessions,
                CreateRequest(
                    str(tmp_path_factory.mktemp("project")), network=network, allowed_hosts=allowed
                ),
            )
            stack.push_async_callback(sessions.destroy, created.session.id)
            return created.session

        restricted = await create("restricted", *hosts)
        neighbour = await create("restricted", *hosts)
        assert restricted.proxy is not None
        assert restricted.proxy == neighbour.proxy
        names = {
            ALLOWED: own_address(),
            OTHER: PUBLIC_ADDRESS,
            PUBLIC: PUBLIC_ADDRESS,
        }
        give_names(bare, restricted, names)
        rewrite(bare, restricted.proxy.name, "ResolvConfPath", lambda _: "nameserver 127.0.0.1\n")
        behind = stack.enter_context(
            watching_inside(
                bare,
                config.image,
                restricted.proxy.name,
                addresses=[PUBLIC_ADDRESS, METADATA],
                ports=[53, 80, site.port, FURTHER_PORT],
            )
        )
        yield World(
            sessions=sessions,
            bare=bare,
            image=config.image,
            rootless=engine.dialect.rootless,
            restricted=restricted,
            neighbour=neighbour,
            open=await create("open"),
            site=site,
            behind=behind,
            names=names,
        )


@pytest.fixture
def elsewhere() -> Iterator[Witness]:
    """At every address of this machine, where nobody is allowed to go."""
    with watching(answer=welcome) as witness:
        yield witness


@pytest.fixture
async def restricted(sessions: Sessions, project: Path, name: str) -> AsyncIterator[Session]:
    request = CreateRequest(str(project), session_name=name, network="restricted")
    created = await start.create(sessions, request)
    yield created.session
    await sessions.destroy(created.session.id)
