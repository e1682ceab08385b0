"""What a build fetches is recorded, and given again without a network."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from bundling import mirror, offline
from bundling.mirror import Mirror


@pytest.fixture
def upstream() -> Iterator[tuple[str, list[str]]]:
    """A package server: its host, and what was asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            content = b'<a href="https://files.example.org/a/b.whl">b</a>'
            if not self.path.endswith("/"):
                content = b"content of " + self.path.encode()
            self.send_response(404 if "gone" in self.path else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"localhost:{server.server_address[1]}", asked
        server.shutdown()
        thread.join()


def fetch(running: Mirror, path: str) -> bytes:
    """As a client that uses the mirror as its proxy."""
    request = urllib.request.Request(path if "://" in path else f"{running.url}/{path}")
    if "://" in path:
        request.set_proxy(running.url.removeprefix("http://"), "http")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        content: bytes = answer.read()
        return content


def test_what_was_recorded_is_given_again_without_asking(
    upstream: tuple[str, list[str]], tmp_path: Path
) -> None:
    host, asked = upstream
    paths = [f"http://{host}/debian/x_1%3a2.deb", f"http://{host}/simple/uv/"]
    with Mirror(tmp_path, record=True) as recording:
        contents = [fetch(recording, path) for path in paths]
        assert [fetch(recording, path) for path in paths] == contents
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetch(recording, f"http://{host}/gone")
    assert asked == ["/debian/x_1%3a2.deb", "/simple/uv/", "/gone"]
    assert contents[1] == b'<a href="/files.example.org/a/b.whl">b</a>'
    with Mirror(tmp_path) as repeating:
        assert [fetch(repeating, path) for path in paths] == contents
        assert fetch(repeating, f"{host}/simple/uv/") == contents[1]
        assert repeating.through(f"https://{host}/simple") == f"{repeating.url}/{host}/simple"
        for path in (f"{host}/other", f"{host}/simple/uv/?query"):
            with pytest.raises(urllib.error.HTTPError, match=r"40[04]"):
                fetch(repeating, path)
        assert repeating.missing == [f"{host}/other"]
    assert len(asked) == 3
    assert not list(tmp_path.rglob("tmp*"))


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("deb.debian.org/debian/a.deb", "deb.debian.org/debian/a.deb"),
        ("pypi.org/simple/uv/", "pypi.org/simple/uv/index.html"),
        ("registry.npmjs.org/@a%2Fb", "registry.npmjs.org/@a/b"),
        ("localhost:80/a", "localhost:80/a"),
        ("host/../../etc/passwd", None),
        ("host/%2e%2e/%2e%2e/etc/passwd", None),
        ("../etc/passwd", None),
        ("/etc/passwd", None),
        ("host//x", None),
        ("host/a\\b", None),
        ("", None),
    ],
)
def test_an_answer_has_one_place_below_the_directory(path: str, place: str | None) -> None:
    assert mirror.place_of(path) == (Path(place) if place else None)


def test_sources_that_are_none_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.bundles import FakeEngine

    engine = FakeEngine(tmp_path / "engine")
    for name, value in engine.environment().items():
        monkeypatch.setenv(name, value)
    assert offline.main([str(tmp_path), "--engine=docker"]) == 1
    assert "holds no sources of the image" in capsys.readouterr().err
    assert offline.main([str(tmp_path), "--engine=docker", "--record"]) == 1
    assert "is not empty" in capsys.readouterr().err
    assert offline.main([str(tmp_path / "new"), "--engine=docker", "--record"]) == 1
    assert "has no base image" in capsys.readouterr().err


def test_a_build_gets_its_addresses_from_the_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.bundles import FakeEngine

    engine = FakeEngine(tmp_path / "engine")
    (engine.store / "images").write_text(json.dumps({"base:1": "0" * 64}))
    for name, value in {**engine.environment(), "https_proxy": "http://other"}.items():
        monkeypatch.setenv(name, value)
    script = tmp_path / "scripts" / "build-custom-image.sh"
    script.parent.mkdir()
    script.write_text('printf "%s\\n" "$@" >"$FAKE_STORE/argv"; env >"$FAKE_STORE/env"\n')
    addresses = {"NPM_REGISTRY": "https://npm.example.org", "PYPI_INDEX": "https://x/simple"}
    (tmp_path / "sources.json").write_text(
        json.dumps({"base": "base:1", "addresses": addresses, "epoch": "1700000000"})
    )
    assert offline.main([str(tmp_path), "--engine=docker", "--tag=mine:1"]) == 0
    words = (engine.store / "argv").read_text().split()
    assert words == ["--no-install", "--no-cache", "--engine", "docker", "--tag", "mine:1"]
    given = dict(
        line.split("=", 1)
        for line in (engine.store / "env").read_text().splitlines()
        if "=" in line
    )
    proxy = given["http_proxy"]
    assert proxy.startswith("http://127.0.0.1:")
    assert given["NPM_REGISTRY"] == f"{proxy}/npm.example.org"
    assert given["PYPI_INDEX"] == f"{proxy}/x/simple"
    assert given["BASE_IMAGE"] == "base:1"
    assert given["SOURCE_DATE_EPOCH"] == "1700000000"
    assert "Check-Valid-Until=false" in given["APT_OPTIONS"]
    assert "https_proxy" not in given
    script.write_text("exit 1\n")
    assert offline.main([str(tmp_path), "--engine=docker"]) == 1
