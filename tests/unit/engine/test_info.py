"""What engines say of themselves, in their own formats."""

from __future__ import annotations

import json
from typing import Any

import pytest

from claude_mcp.engine.info import (
    IMAGE_STORE,
    NO_CONTROLLER,
    REMOTE_DISK,
    UNDELEGATED,
    EngineInfo,
    parse_info,
)
from claude_mcp.errors import EngineError

KERNEL = "6.1.0-28-amd64"


def docker(able: bool = True, *, rootless: bool = False, driver_type: str = "") -> dict[str, Any]:
    """The fields that we read of Docker 20.10 to 28."""
    options = ["name=seccomp,profile=default", *(["name=rootless"] if rootless else [])]
    status = [
        ["Backing Filesystem", "extfs"],
        *([["driver-type", driver_type]] * bool(driver_type)),
    ]
    return {
        "MemoryLimit": able,
        "CpuCfsQuota": able,
        "PidsLimit": able,
        "DriverStatus": status,
        "SecurityOptions": options,
        "KernelVersion": KERNEL,
    }


def podman(*controllers: str, rootless: bool = False, remote: bool = False) -> dict[str, Any]:
    """The fields that we read of Podman 4.3 to 5.4."""
    return {
        "host": {
            "cgroupControllers": list(controllers),
            "security": {"rootless": rootless},
            "serviceIsRemote": remote,
            "kernel": KERNEL,
        }
    }


ALL = ("cpuset", "cpu", "memory", "pids")


@pytest.mark.parametrize(
    ("answer", "rootless", "ignored"),
    [
        (docker(), False, {}),
        (docker(False), False, dict.fromkeys(("memory", "cpus", "pids"), NO_CONTROLLER)),
        (docker(rootless=True), True, {}),
        (
            docker(False, rootless=True),
            True,
            dict.fromkeys(("memory", "cpus", "pids"), UNDELEGATED),
        ),
        (docker(driver_type="io.containerd.snapshotter.v1"), False, {"disk": IMAGE_STORE}),
        (docker() | {"DriverStatus": None, "SecurityOptions": None}, False, {}),
        (podman(*ALL), False, {}),
        (podman(*ALL, remote=True), False, {"disk": REMOTE_DISK}),
        (podman("memory", "pids", rootless=True), True, {"cpus": UNDELEGATED}),
        (podman(rootless=True), True, dict.fromkeys(("memory", "cpus", "pids"), UNDELEGATED)),
    ],
)
def test_an_engine_says_which_limits_it_ignores(
    answer: dict[str, Any], rootless: bool, ignored: dict[str, str]
) -> None:
    assert parse_info(json.dumps(answer) + "\n") == EngineInfo(rootless, KERNEL, ignored)


def test_an_engine_says_that_it_applies_no_seccomp_filter() -> None:
    answer = docker() | {"SecurityOptions": ["name=seccomp,profile=unconfined"]}
    assert parse_info(json.dumps(answer)) == EngineInfo(False, KERNEL, {}, unconfined=True)


@pytest.mark.parametrize(
    "stdout", ["", "[]", "null", "{}", '{"host": {}}', '{"host": null}', "[" * 100_000]
)
def test_a_malformed_answer_is_an_error(stdout: str) -> None:
    with pytest.raises(EngineError, match="answer to info is malformed"):
        parse_info(stdout)
