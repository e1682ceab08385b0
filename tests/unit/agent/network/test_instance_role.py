"""The machine's role, asked for as the AWS SDK would ask."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from cloud_standin import AwsKey, CloudStandin, Known

from claude_mcp.agent.network import instance_role

GIVEN = {
    "Version": 1,
    "AccessKeyId": "ASIAROLE",
    "SecretAccessKey": "secret",
    "SessionToken": "token",
    "Expiration": "2099-01-01T00:00:00Z",
}


@pytest.fixture
def metadata() -> Iterator[str]:
    """The address of EC2's metadata service."""
    known = Known(aws_keys={"ASIAROLE": AwsKey("secret", "token")}, role="ASIAROLE")
    with CloudStandin(known) as running:
        yield running.url


class Container(BaseHTTPRequestHandler):
    """What ECS gives a container, if it shows its token."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["authorization"]))
        given = {
            "AccessKeyId": "ASIAROLE",
            "SecretAccessKey": "secret",
            "Token": "token",
            "Expiration": "2099-01-01T00:00:00Z",
        }
        body = json.dumps(given).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def container() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Container) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_role_of_an_instance_is_had_from_its_metadata(metadata: str) -> None:
    assert instance_role.credentials({"endpoint": metadata}) == GIVEN


def test_the_role_of_a_container_is_had_with_its_token(
    container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:1")  # which is not asked
    assert instance_role.credentials({"fullUri": f"{container}/v1/x", "token": "t"}) == GIVEN
    monkeypatch.setattr(instance_role, "ECS", container)
    assert instance_role.credentials({"relativeUri": "/v2/y"}) == GIVEN
    assert Container.asked == [("/v1/x", "t"), ("/v2/y", None)]


def test_what_is_printed_is_what_the_sdk_reads(
    metadata: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    role = tmp_path / "role.json"
    monkeypatch.setattr(instance_role, "ROLE_PATH", str(role))
    role.write_text(json.dumps({"endpoint": metadata}))
    instance_role.main()
    assert json.loads(capsys.readouterr().out) == GIVEN
    role.write_text(json.dumps({"endpoint": f"{metadata}/elsewhere"}))
    with pytest.raises(SystemExit, match=r"^cannot get the credentials of this machine's role: "):
        instance_role.main()
