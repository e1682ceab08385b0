"""Which settings of Podman's configuration reach every container."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_mcp.engine import containers_conf


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(containers_conf, "SYSTEM", (tmp_path / "usr", tmp_path / "etc"))
    for each in ("usr", "etc/containers.conf.d", "home/.config/containers"):
        (tmp_path / each).mkdir(parents=True)
    return tmp_path


def write(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def test_settings_that_no_option_undoes_are_found_with_their_files(files: Path) -> None:
    write(files / "usr" / "containers.conf", '[containers]\nvolumes = ["/a:/a"]\n')
    etc = write(
        files / "etc" / "containers.conf",
        '[containers]\nprivileged = true\n[engine]\nhooks_dir = ["/hooks"]\n',
    )
    part = write(
        files / "etc" / "containers.conf.d" / "our.conf", '[containers]\nvolumes = ["/b:/b"]\n'
    )
    home = write(
        files / "home" / ".config" / "containers" / "containers.conf",
        '[containers]\nseccomp_profile = "unconfined"\ndevices = []\n',
    )
    environment = {"HOME": str(files / "home")}
    assert containers_conf.passed_on(environment, 0) == {"volumes": part, "hooks_dir": etc}
    assert containers_conf.passed_on(environment, 1000) == {
        "volumes": part,
        "hooks_dir": etc,
        "seccomp_profile": home,
    }


def test_a_file_that_is_named_replaces_all_others(files: Path) -> None:
    write(files / "etc" / "containers.conf", '[containers]\nvolumes = ["/a:/a"]\n')
    only = write(files / "only", '[containers]\ninit_path = "/nowhere"\n')
    more = write(files / "more", '[containers]\nenv = ["A=1"]\n')
    environment = {"CONTAINERS_CONF": str(only), "CONTAINERS_CONF_OVERRIDE": str(more)}
    assert containers_conf.passed_on(environment, 0) == {"init_path": only, "env": more}


@pytest.mark.parametrize(
    "text", ["[containers", "containers = 1", "[containers]\nvolumes = ''", ""]
)
def test_a_file_that_says_nothing_usable_is_left_out(files: Path, text: str) -> None:
    named = write(files / "named", text)
    assert containers_conf.passed_on({"CONTAINERS_CONF": str(named)}, 0) == {}
