"""The lock, its markers, and what of it a machine needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundle_installer.refusal import Refused
from bundling import lock, make, wheels

DIGEST = "0" * 64


def test_the_lock_has_all_that_the_package_needs_and_pip() -> None:
    found = {each.name: each for each in lock.read(make.LOCK)}
    assert {"mcp", "anyio", "pydantic", "pip"} <= found.keys()
    assert "hypothesis" not in found
    wanted = lock.wanted(list(found.values()), "3.12", "linux-x86_64")
    assert "pywin32" not in {each.name for each in wanted}
    assert "uvicorn" in {each.name for each in wanted}


@pytest.mark.parametrize(
    ("marker", "holds"),
    [
        ("", True),
        ("sys_platform == 'win32'", False),
        ("sys_platform != 'emscripten'", True),
        ("python_full_version >= '3.12' and sys_platform == 'linux'", True),
        ("python_version < '3.9'", False),  # as numbers, not as text
        ("python_version < '3.10' or platform_machine == 'x86_64'", True),
        ("(python_version < '3.10' or os_name == 'nt') and sys_platform == 'linux'", False),
        ("platform_python_implementation != 'PyPy'", True),
        ("python_full_version == '3.12.0'", True),
        ("platform_machine in 'x86_64 amd64'", True),
        ("platform_system not in 'Windows Darwin'", True),
    ],
)
def test_a_marker_is_evaluated_for_the_other_machine(marker: str, holds: bool) -> None:
    environment = lock.marker_environment("3.12", "linux-x86_64")
    assert lock.applies(marker, environment) is holds


@pytest.mark.parametrize(
    "marker",
    ["open('/etc/passwd')", "no_such_name == 'x'", "sys_platform ~= '1'", "python_version"],
)
def test_a_marker_that_is_not_understood_is_refused(marker: str) -> None:
    with pytest.raises(Refused, match="not understood"):
        lock.applies(marker, lock.marker_environment("3.12", "linux-x86_64"))


@pytest.mark.parametrize(
    "line",
    [
        "mcp>=2.0",
        "mcp==2.0",
        "mcp==2.0 --hash=md5:0",
        f"mcp==2.0 --hash=sha256:{DIGEST} --index-url=http://x",
        f"-e . --hash=sha256:{DIGEST}",
        "",
    ],
)
def test_a_lock_without_hashes_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "lock").write_text(f"# nothing else\n{line}\n")
    with pytest.raises(Refused):
        lock.read(tmp_path / "lock")


def test_lines_that_go_on_and_markers_are_read(tmp_path: Path) -> None:
    text = f"a-b==1.0 ; sys_platform == 'linux' \\\n    --hash=sha256:{DIGEST} \\\n" + (
        f"    --hash=sha256:{'1' * 64}\n    # via mcp\n"
    )
    (tmp_path / "lock").write_text(text)
    (found,) = lock.read(tmp_path / "lock")
    assert found == lock.Locked("a-b", "1.0", "sys_platform == 'linux'", (DIGEST, "1" * 64))
    assert found.requirement == f"a-b==1.0 --hash=sha256:{DIGEST} --hash=sha256:{'1' * 64}"


def test_wheels_may_need_the_oldest_c_library_and_none_newer() -> None:
    tags = wheels.pip_tags("linux-aarch64")
    assert tags[0] == "manylinux_2_28_aarch64"
    assert {"manylinux_2_17_aarch64", "manylinux2014_aarch64"} <= set(tags)
    assert "manylinux_2_29_aarch64" not in tags
