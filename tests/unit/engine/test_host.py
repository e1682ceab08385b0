"""What this machine has, read from files as a kernel shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_mcp.engine import host


def test_selinux_is_on_where_its_file_system_is_mounted(tmp_path: Path) -> None:
    assert host.has_selinux(tmp_path) is False
    (tmp_path / "selinux").mkdir()
    (tmp_path / "selinux/enforce").write_text("0")
    assert host.has_selinux(tmp_path) is True


@pytest.mark.parametrize(
    ("release", "answer"),
    [
        ("6.1.0-28-amd64", True),
        ("5.14.0-503.el9", True),
        ("5.10.0", False),
        ("4.18.0", False),
        ("?", False),
    ],
)
def test_processes_are_counted_by_namespace_since_5_14(release: str, answer: bool) -> None:
    assert host.counts_processes_by_namespace(release) is answer


def test_this_machine_has_memory_and_a_cpu() -> None:
    assert host.memory_bytes() > 0
    assert host.cpus() > 0
