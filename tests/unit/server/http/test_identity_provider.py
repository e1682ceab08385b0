"""Tokens of an identity provider: a provider on the loopback signs them, and the server asks it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt import algorithms

from claude_mcp.config import Config
from claude_mcp.server.http import identity_provider
from claude_mcp.server.http.identity_provider import IdentityProvider, Provider
from claude_mcp.server.http.tokens import Grant
from tests.unit.server.http.conftest import INITIALIZE, JSON, served

pytestmark = pytest.mark.anyio

AUDIENCE = "https://mcp.example.com/mcp"
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def published(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    match key:
        case rsa.RSAPrivateKey():
            found = algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        case ec.EllipticCurvePrivateKey():
            found = algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        case _:
            found = algorithms.OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**found, "kid": kid, **more}


class StandIn:
    """An identity provider; a test may change what it answers."""

    def __init__(self) -> None:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stand_in.asked.append(self.path)
                body = stand_in.documents.get(self.path)
                self.send_response(404 if body is None else 200)
                self.end_headers()
                self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        self.asked: list[str] = []
        self.documents: dict[str, Any] = {
            "/.well-known/openid-configuration": {
                "issuer": self.issuer,
                "jwks_uri": f"{self.issuer}/keys",
            },
            "/keys": {
                "keys": [
                    published(RSA, "rsa", alg="RS256", use="sig"),
                    published(EC, "ec"),
                    published(ED, "ed"),
                    published(RSA, "for-encryption", use="enc"),
                    {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0", "kid": "shared"},
                    {"kty": "unheard-of", "kid": "odd"},
                    "nonsense",
                ]
            },
        }

    def token(self, key: Any = RSA, kid: str = "rsa", alg: str = "RS256", **claims: Any) -> str:
        given = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": "alice",
            "exp": int(time.time()) + 600,
            **claims,
        }
        kept = {name: value for name, value in given.items() if value is not None}
        return jwt.encode(kept, key, alg, {"kid": kid})


@pytest.fixture
def provider() -> Iterator[StandIn]:
    stand_in = StandIn()
    thread = threading.Thread(target=stand_in.server.serve_forever, args=(0.01,))
    thread.start()
    yield stand_in
    stand_in.server.shutdown()
    stand_in.server.server_close()
    thread.join()


@pytest.fixture
def verifier(provider: StandIn) -> IdentityProvider:
    known = {"bob": Grant(owner="team-red")}
    return IdentityProvider(Provider(provider.issuer, AUDIENCE), known)


@pytest.mark.parametrize(
    ("key", "kid", "alg"), [(RSA, "rsa", "RS256"), (EC, "ec", "ES256"), (ED, "ed", "EdDSA")]
)
async def test_a_signed_token_is_its_subject_s(
    provider: StandIn, verifier: IdentityProvider, key: Any, kid: str, alg: str
) -> None:
    found = await verifier.verify(provider.token(key, kid, alg))
    assert found is not None
    assert found.subject == "alice"
    assert found.grant.owner.startswith("oidc.")
    assert "alice" not in found.grant.owner
    again = await verifier.verify(provider.token(key, kid, alg, aud=["other", AUDIENCE]))
    assert again is not None
    assert again.grant == found.grant
    bobs = await verifier.verify(provider.token(key, kid, alg, sub="bob"))
    assert bobs is not None
    assert bobs.grant == Grant(owner="team-red")


async def test_tokens_that_prove_nothing_are_refused(
    provider: StandIn, verifier: IdentityProvider
) -> None:
    other = rsa.generate_private_key(65537, 2048)
    shared = "secret-secret-secret-secret-secret"
    now = int(time.time())
    refused = {
        "nonsense": "a.b.c",
        "no token": "x",
        "very long": "x" * 20_000,
        "another key": provider.token(other),
        "another algorithm": provider.token(alg="RS512"),
        "a shared secret": provider.token(shared, "shared", "HS256"),
        "no signature": jwt.encode({"sub": "alice"}, "", "none"),
        "a key for encryption": provider.token(kid="for-encryption"),
        "an unknown key": provider.token(kid="unknown"),
        "another issuer": provider.token(iss="https://evil.example"),
        "another audience": provider.token(aud="https://other.example"),
        "no audience": provider.token(aud=None),
        "over": provider.token(exp=now - 60),
        "without an end": provider.token(exp=None),
        "not yet": provider.token(nbf=now + 600),
        "without a subject": provider.token(sub=None),
        "an empty subject": provider.token(sub=""),
        "a long subject": provider.token(sub="x" * 1_001),
    }
    assert {why: await verifier.verify(token) for why, token in refused.items()} == (
        dict.fromkeys(refused)
    )
    assert await verifier.verify(provider.token()) is not None


async def test_the_owner_can_be_another_claim(provider: StandIn) -> None:
    verifier = IdentityProvider(Provider(provider.issuer, AUDIENCE, "team"), {})
    red = await verifier.verify(provider.token(team="red"))
    same = await verifier.verify(provider.token(team="red", sub="bob"))
    blue = await verifier.verify(provider.token(team="blue"))
    assert red is not None
    assert same is not None
    assert blue is not None
    assert red.grant == same.grant != blue.grant
    assert await verifier.verify(provider.token()) is None
    assert await verifier.verify(provider.token(team=["red"])) is None


async def test_keys_are_fetched_once_and_an_unknown_one_is_asked_for_again_later(
    provider: StandIn, verifier: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        assert await verifier.verify(provider.token()) is not None
        assert await verifier.verify(provider.token(kid="new")) is None
    assert len(provider.asked) == 2
    provider.documents["/keys"] = {"keys": [published(RSA, "new")]}
    assert await verifier.verify(provider.token(kid="new")) is None
    monkeypatch.setattr(identity_provider, "AGAIN_SECONDS", 0.0)
    assert await verifier.verify(provider.token(kid="new")) is not None
    assert await verifier.verify(provider.token()) is None


async def test_known_keys_outlive_a_provider_that_does_not_answer(
    provider: StandIn, verifier: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await verifier.verify(provider.token()) is not None
    monkeypatch.setattr(identity_provider, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(identity_provider, "FRESH_SECONDS", 0.0)
    provider.documents.clear()
    assert await verifier.verify(provider.token()) is not None
    monkeypatch.setattr(identity_provider, "STALE_SECONDS", 0.0)
    assert await verifier.verify(provider.token()) is None


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/.well-known/openid-configuration", {"issuer": "https://evil.example"}),
        ("/.well-known/openid-configuration", ["no", "object"]),
        ("/.well-known/openid-configuration", b"no JSON"),
        ("/.well-known/openid-configuration", b"x" * (1024 * 1024 + 1)),
        ("/.well-known/openid-configuration", None),
        ("/keys", {"keys": None}),
        ("/keys", None),
    ],
)
async def test_a_provider_that_answers_oddly_verifies_nothing(
    provider: StandIn, verifier: IdentityProvider, path: str, document: Any
) -> None:
    provider.documents[path] = document
    assert await verifier.verify(provider.token()) is None


async def test_keys_at_an_address_without_encryption_are_not_fetched(
    provider: StandIn, verifier: IdentityProvider
) -> None:
    known = provider.documents["/.well-known/openid-configuration"]
    known["jwks_uri"] = "http://evil.example/keys"
    assert await verifier.verify(provider.token()) is None


async def test_over_http_the_provider_s_tokens_count_and_it_is_named(
    config: Config, provider: StandIn
) -> None:
    http = {"CLAUDE_MCP_OIDC_ISSUER": provider.issuer, "CLAUDE_MCP_HTTP_URL": AUDIENCE}
    async with served(replace(config, http=http)) as server:
        for token, code in ((provider.token(), 200), (provider.token(aud="other"), 401)):
            async with server.http(token, **JSON) as client:
                answer = await client.post("/mcp", json=INITIALIZE)
                assert answer.status_code == code
        where = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"
        assert f'resource_metadata="{where}"' in answer.headers["www-authenticate"]
        async with server.http() as client:
            described = (await client.get("/.well-known/oauth-protected-resource/mcp")).json()
        assert described["resource"] == AUDIENCE
        assert [each.rstrip("/") for each in described["authorization_servers"]] == [
            provider.issuer
        ]
