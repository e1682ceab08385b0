"""What `doctor` finds of an engine on another machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from claude_mcp.cli import far_side
from claude_mcp.cli.findings import Verdict
from claude_mcp.engine.dialects.docker import DOCKER
from claude_mcp.engine.dialects.podman import REMOTE_PODMAN
from claude_mcp.engine.engine import Engine
from claude_mcp.errors import EngineError

GIB = 1024**2
"""In blocks of 1 KiB."""
CLOCKS = "its clock differs by {} s from this machine's"


FAR_DOCKER = replace(DOCKER, over_network=True)


@dataclass
class Far:
    dialect: Any = FAR_DOCKER
    fails: str = ""
    says: str = ""

    async def check(self) -> None:
        if self.fails == "check":
            raise EngineError("no answer", hint="look")

    async def run_in_image(self, image: str, script: str) -> str:
        if self.fails == "run":
            raise EngineError("no container", hint="look")
        return self.says


async def findings(
    far: Far, environment: Mapping[str, str], image: str | None = None
) -> list[tuple[Verdict, str]]:
    found = await far_side.look(cast(Engine, far), environment, image)
    return [(each.verdict, each.message) for each in found]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("far", "environment", "where"),
    [
        (Far(), {"DOCKER_HOST": "ssh://box"}, "ssh://box"),
        (Far(), {"DOCKER_CONTEXT": "box"}, "box"),
        (Far(), {}, "the default of its program"),
        (
            Far(replace(REMOTE_PODMAN, over_network=True)),
            {"DOCKER_HOST": "ssh://other", "CONTAINER_CONNECTION": "box"},
            "box",
        ),
    ],
)
async def test_it_says_where_the_engine_is(
    far: Far, environment: dict[str, str], where: str
) -> None:
    found = await findings(far, environment)
    assert found[0] == (Verdict.OK, f"another machine: {where}")
    assert [verdict for verdict, _ in found] == [Verdict.OK, Verdict.OK]


@pytest.mark.anyio
async def test_an_address_without_tls_is_a_warning() -> None:
    plain = {"DOCKER_HOST": "tcp://box:2375"}
    assert (await findings(Far(), plain))[1][0] is Verdict.WARNING
    sealed = await findings(Far(), {**plain, "DOCKER_TLS_VERIFY": "1"})
    assert Verdict.WARNING not in [verdict for verdict, _ in sealed]


@pytest.mark.anyio
@pytest.mark.parametrize("fails", ["check", "run"])
async def test_what_does_not_answer_or_run_has_failed(fails: str) -> None:
    assert (await findings(Far(fails=fails), {}, "image"))[-1][0] is Verdict.FAILED


@pytest.mark.anyio
async def test_a_slow_answer_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far_side, "SLOW_SECONDS", 0.0)
    assert (await findings(Far(), {}))[-1][0] is Verdict.WARNING


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            f"1000\noverlay 1 1 {5 * GIB} 1% /\n",
            [
                (
                    Verdict.OK,
                    "a container runs there; its clock differs by 0 s from this machine's",
                ),
                (Verdict.OK, "5 GiB are free for containers there"),
            ],
        ),
        (
            f"1101\noverlay 1 1 {GIB} 99% /\n",
            [
                (Verdict.WARNING, CLOCKS.format(100)),
                (Verdict.WARNING, "only 1 GiB are free for containers there"),
            ],
        ),
        (
            f"899\noverlay 1 1 {5 * GIB} 1% /\n",
            [
                (Verdict.WARNING, CLOCKS.format(100)),
                (Verdict.OK, "5 GiB are free for containers there"),
            ],
        ),
        ("odd", [(Verdict.WARNING, "a container of the session image says something odd: 'odd'")]),
    ],
)
def test_a_container_tells_of_the_clock_and_the_disk(
    said: str, expected: list[tuple[Verdict, str]]
) -> None:
    found = far_side.parse_probe(said, before=1000.0, after=1001.0)
    assert [(each.verdict, each.message) for each in found] == expected
