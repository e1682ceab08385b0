"""Verifies tokens of an OpenID Connect identity provider.

Only signatures with the provider's published keys count. A token's owner is one of its claims.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import anyio
import httpx2
import jwt

from claude_mcp.config import Config
from claude_mcp.config_names import AUDIENCE_NAME, CLAIM_NAME, ISSUER_NAME, URL_NAME
from claude_mcp.errors import ConfigError
from claude_mcp.server.http.tokens import Grant

logger = logging.getLogger(__name__)

ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
)  # fmt: skip
"""Of public keys only: with a shared secret, the published key could forge a token."""
LEEWAY_SECONDS: Final = 30.0
"""How much the clocks of provider and server may differ."""
FETCH_SECONDS: Final = 10.0
MAX_DOCUMENT_BYTES: Final = 1024 * 1024
FRESH_SECONDS: Final = 600.0
"""How long fetched keys are used without a question."""
AGAIN_SECONDS: Final = 30.0
"""The least time between two questions: a forged token may name any key."""
STALE_SECONDS: Final = 86_400.0
"""How long keys are used while the provider does not answer."""
MAX_TOKEN_CHARS: Final = 16 * 1024
MAX_CLAIM_CHARS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Provider:
    issuer: str
    audience: str
    claim: str = "sub"


@dataclass(frozen=True, slots=True)
class Verified:
    grant: Grant
    subject: str
    expires: int


def provider_of(config: Config) -> Provider | None:
    """Raises ConfigError if the configured provider cannot be used."""
    issuer = config.http.get(ISSUER_NAME)
    if issuer is None:
        return None
    audience = config.http.get(AUDIENCE_NAME) or config.http.get(URL_NAME)
    if audience is None:
        raise ConfigError(
            f"{ISSUER_NAME} needs {AUDIENCE_NAME} or {URL_NAME}: a token for another program "
            "would be accepted otherwise."
        )
    _check_address(issuer, ISSUER_NAME)
    return Provider(issuer, audience, config.http.get(CLAIM_NAME, "sub"))


def _check_address(address: str, what: str) -> str:
    try:
        url = httpx2.URL(address)
    except httpx2.InvalidURL:
        url = httpx2.URL()
    local = url.scheme == "http" and url.host in ("127.0.0.1", "localhost", "::1")
    if (url.scheme != "https" and not local) or not url.host:
        raise ConfigError(f"{what} must be an https address, not {address[:200]!r}.")
    return address


class IdentityProvider:
    def __init__(self, provider: Provider, subjects: Mapping[str, Grant]) -> None:
        self._provider = provider
        self._subjects = subjects
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._asked_at = float("-inf")
        self._asking = anyio.Lock()

    async def verify(self, token: str) -> Verified | None:
        """What a token allows; None if it cannot be trusted."""
        if len(token) > MAX_TOKEN_CHARS:
            return None
        try:
            header = jwt.get_unverified_header(token)
            key = await self._key(str(header.get("kid", "")))
            if key is None:
                logger.info("a token names a key that %s does not have", self._provider.issuer)
                return None
            # The key says which algorithms it is for; the token's own word counts for nothing.
            claims = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=self._provider.audience,
                issuer=self._provider.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", self._provider.claim]},
            )
        except jwt.PyJWTError as error:
            logger.info("a token is refused: %s", type(error).__name__)
            return None
        value = claims.get(self._provider.claim)
        if not isinstance(value, str) or not 0 < len(value) <= MAX_CLAIM_CHARS:
            logger.info("a token is refused: its claim %s is no text", self._provider.claim)
            return None
        # The claim may be secret or odd, and a label is neither.
        unnamed = hashlib.sha256(f"{self._provider.issuer}\0{value}".encode()).hexdigest()[:24]
        grant = self._subjects.get(value) or Grant(owner=f"oidc.{unnamed}")
        return Verified(grant, value, int(claims["exp"]))

    async def _key(self, kid: str) -> jwt.PyJWK | None:
        async with self._asking:
            now = anyio.current_time()
            known = kid in self._keys and now < self._fetched_at + FRESH_SECONDS
            if not known and now >= self._asked_at + AGAIN_SECONDS:
                self._asked_at = now
                await self._refresh()
            if now >= self._fetched_at + STALE_SECONDS:
                self._keys = {}
            return self._keys.get(kid)

    async def _refresh(self) -> None:
        try:
            with anyio.fail_after(FETCH_SECONDS):
                self._keys = await self._fetch()
            self._fetched_at = anyio.current_time()
        except (httpx2.HTTPError, TimeoutError, ValueError, ConfigError) as error:
            logger.warning(
                "the keys of %s cannot be fetched: %s", self._provider.issuer, error or "no answer"
            )

    async def _fetch(self) -> dict[str, jwt.PyJWK]:
        base = self._provider.issuer.rstrip("/")
        async with httpx2.AsyncClient(timeout=FETCH_SECONDS, follow_redirects=False) as client:
            described = await _document(client, f"{base}/.well-known/openid-configuration")
            if described.get("issuer") != self._provider.issuer:
                raise ValueError(f"it calls itself {str(described.get('issuer'))[:200]!r}")
            address = _check_address(str(described.get("jwks_uri")), "jwks_uri")
            published = (await _document(client, address)).get("keys")
        keys = {}
        for each in published if isinstance(published, list) else []:
            try:
                key = jwt.PyJWK.from_dict(each)
            except (jwt.PyJWTError, AttributeError, TypeError):
                continue  # of a kind that is not known here
            if key.public_key_use in (None, "sig") and key.algorithm_name in ALGORITHMS:
                keys[key.key_id or ""] = key
        return keys


async def _document(client: httpx2.AsyncClient, address: str) -> dict[str, Any]:
    """Raises ValueError if it is no JSON object of a bounded size."""
    content = bytearray()
    async with client.stream("GET", address) as response:
        response.raise_for_status()
        async for part in response.aiter_bytes():
            content += part
            if len(content) > MAX_DOCUMENT_BYTES:
                raise ValueError(f"{address} answers more than {MAX_DOCUMENT_BYTES} bytes")
    document = json.loads(content)
    if not isinstance(document, dict):
        raise ValueError(f"{address} answers no JSON object")
    return document
