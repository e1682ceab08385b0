"""Local stand-ins for Bedrock, Vertex and Foundry, scripted as the one for the Messages API is.

All three answer at one address and are told apart by their paths. The rule: a request that does
not prove a known credential is refused with 403, so an answer is the proof. Standard library only.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from messages_standin import Answer, Handler, Standin

METADATA_TOKEN_SECONDS = 3_600
METADATA_EXPIRY = "2099-01-01T00:00:00Z"
_BEDROCK = re.compile(r"/model/([^/]+)/(invoke|invoke-with-response-stream)")
_VERTEX = re.compile(
    r"(?:/v1)?/projects/([^/]+)/locations/([^/]+)/publishers/anthropic/models/"
    r"([^/:]+):(rawPredict|streamRawPredict)"
)
_FOUNDRY = ("/v1/messages", "/anthropic/v1/messages")
_SHA256_PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")
"""What PKCS #1 puts before a SHA-256 digest."""


@dataclass(frozen=True)
class AwsKey:
    secret: str
    session_token: str | None = None


@dataclass(frozen=True)
class RsaKey:
    """A key pair for tests; far too small for anything else."""

    n: int
    e: int
    d: int
    p: int
    q: int

    @classmethod
    def new(cls, bits: int = 1024) -> RsaKey:
        e = 65_537
        while True:
            p, q = _prime(bits // 2), _prime(bits // 2)
            if p != q and (p - 1) % e and (q - 1) % e:
                return cls(p * q, e, pow(e, -1, (p - 1) * (q - 1)), p, q)

    def pem(self) -> str:
        """PKCS #1, as OpenSSL reads it."""
        numbers = (
            0, self.n, self.e, self.d, self.p, self.q,
            self.d % (self.p - 1), self.d % (self.q - 1), pow(self.q, -1, self.p),
        )  # fmt: skip
        content = b"".join(_der(0x02, n.to_bytes(n.bit_length() // 8 + 1, "big")) for n in numbers)
        text = base64.encodebytes(_der(0x30, content)).decode()
        return f"-----BEGIN RSA PRIVATE KEY-----\n{text}-----END RSA PRIVATE KEY-----\n"

    def verifies(self, signature: bytes, message: bytes) -> bool:
        size = (self.n.bit_length() + 7) // 8
        digest = _SHA256_PREFIX + hashlib.sha256(message).digest()
        padded = b"\0\1" + b"\xff" * (size - len(digest) - 3) + b"\0" + digest
        return pow(int.from_bytes(signature, "big"), self.e, self.n).to_bytes(size, "big") == padded


def service_account(email: str, key: RsaKey, project: str = "a-project") -> str:
    """A Google service account of another universe: its requests carry a JWT that it signs itself.

    Those of Google's own universe first fetch a token from an address of Google's.
    """
    return json.dumps(
        {
            "type": "service_account",
            "project_id": project,
            "private_key_id": hashlib.sha256(str(key.n).encode()).hexdigest(),
            "private_key": key.pem(),
            "client_email": email,
            "client_id": "1",
            "token_uri": "https://oauth2.standin.example/token",
            "universe_domain": "standin.example",
        }
    )


@dataclass(frozen=True)
class Known:
    """Who may ask: what a request must prove one of."""

    aws_keys: Mapping[str, AwsKey] = field(default_factory=dict)
    """By key id."""
    bearer_tokens: frozenset[str] = frozenset()
    """For Bedrock."""
    google_keys: Mapping[str, RsaKey] = field(default_factory=dict)
    """By the service account's address."""
    foundry_keys: frozenset[str] = frozenset()
    role: str | None = None
    """The id of the AWS key that the machine's metadata service gives out."""
    google_token: str | None = None
    """What the machine's metadata service gives out for Vertex."""


class BedrockAnswer(Answer):
    content_type = "application/vnd.amazon.eventstream"

    def event(self, kind: str, **values: object) -> None:
        data = json.dumps({"type": kind, **values}).encode()
        payload = json.dumps({"bytes": base64.b64encode(data).decode()}).encode()
        self._http.send_chunk(eventstream_message(payload))


class CloudHandler(Handler):
    server: Any

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.startswith("/computeMetadata/v1/instance"):
            self.server.standin.record(self, {})
            self._give_account(path)
        elif path.startswith("/latest/meta-data/iam/security-credentials/"):
            self.server.standin.record(self, {})
            self._give_role(path)
        elif path == "/inference-profiles":
            self.server.standin.record(self, {})
            self.send_json(200, {"inferenceProfileSummaries": []})
        else:
            super().do_GET()

    def do_PUT(self) -> None:
        """The metadata service of EC2 wants a token of its own to be asked with."""
        self.server.standin.record(self, {})
        self._send_text("a-metadata-token")

    def _give_role(self, path: str) -> None:
        known: Known = self.server.standin.known
        key = known.aws_keys.get(known.role or "")
        if key is None or self.headers["x-aws-ec2-metadata-token"] != "a-metadata-token":
            self.send_json(404, {})
        elif path.endswith("/"):
            self._send_text("a-role")
        else:
            given = {
                "Code": "Success",
                "Type": "AWS-HMAC",
                "AccessKeyId": known.role,
                "SecretAccessKey": key.secret,
                "Token": key.session_token,
                "LastUpdated": METADATA_EXPIRY,
                "Expiration": METADATA_EXPIRY,
            }
            self.send_json(200, given)

    def _give_account(self, path: str) -> None:
        known: Known = self.server.standin.known
        flavor = {"Metadata-Flavor": "Google"}  # the client takes no answer without it
        if path.endswith("/token") and known.google_token:
            token = {"access_token": known.google_token, "token_type": "Bearer"}
            self.send_json(200, {**token, "expires_in": METADATA_TOKEN_SECONDS}, flavor)
        else:
            self.send_json(200 if path.endswith("/instance") else 404, {}, flavor)

    def _send_text(self, text: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("x-aws-ec2-metadata-token-ttl-seconds", str(METADATA_TOKEN_SECONDS))
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(data)
        except ValueError:
            body = {}
        known: Known = self.server.standin.known
        path = urlsplit(self.path).path
        kind: type[Answer] = Answer
        if bedrock := _BEDROCK.fullmatch(path):
            body |= {"model": unquote(bedrock[1]), "stream": bedrock[2] != "invoke"}
            proven = proves_aws_key(known, self.command, self.path, self.headers, data)
            kind = BedrockAnswer
        elif vertex := _VERTEX.fullmatch(path):
            body |= {"model": unquote(vertex[3]), "stream": vertex[4] != "rawPredict"}
            proven = proves_google_key(known, self.headers)
        else:
            key = self.headers["api-key"] or self.headers["x-api-key"]
            proven = path in _FOUNDRY and key in known.foundry_keys
        conversation = self.server.standin.record(self, body)
        answer = kind(self, body, len(data))
        if proven:
            self.perform(answer, conversation)
        else:
            answer.fail(403, text="no known credential signs this request")


class CloudStandin(Standin):
    """`known` may be replaced while it runs."""

    handler = CloudHandler

    def __init__(self, known: Known, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(host, port)
        self.known = known


def eventstream_message(payload: bytes) -> bytes:
    """One event in AWS's binary framing: lengths, their checksum, headers, payload, checksum."""
    headers = b"".join(
        struct.pack("!B", len(name)) + name + struct.pack("!BH", 7, len(value)) + value
        for name, value in (
            (b":event-type", b"chunk"),
            (b":content-type", b"application/json"),
            (b":message-type", b"event"),
        )
    )
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack("!I", zlib.crc32(message))


def proves_aws_key(known: Known, method: str, target: str, headers: Message, body: bytes) -> bool:
    """A known bearer token, or a signature (AWS4-HMAC-SHA256) of this request with a known key."""
    scheme, _, rest = (headers["authorization"] or "").partition(" ")
    if scheme == "Bearer":
        return rest in known.bearer_tokens
    fields = dict(part.strip().split("=", 1) for part in rest.split(",") if "=" in part)
    key_id, *scope = fields.get("Credential", "").split("/")
    key = known.aws_keys.get(key_id)
    if scheme != "AWS4-HMAC-SHA256" or key is None or len(scope) != 4:
        return False
    if headers["x-amz-security-token"] != key.session_token:
        return False
    signed = fields.get("SignedHeaders", "").split(";")
    url = urlsplit(target)
    query = sorted(parse_qsl(url.query, keep_blank_values=True))
    canonical = "\n".join(
        (
            method,
            quote(url.path, safe="/-_.~"),
            "&".join(f"{quote(n, safe='-_.~')}={quote(v, safe='-_.~')}" for n, v in query),
            *(f"{name}:{' '.join((headers[name] or '').split())}" for name in signed),
            "",
            ";".join(signed),
            hashlib.sha256(body).hexdigest(),
        )
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(("AWS4-HMAC-SHA256", headers["x-amz-date"] or "", "/".join(scope), digest))
    signing = f"AWS4{key.secret}".encode()
    for part in (*scope, text):
        signing = hmac.digest(signing, part.encode(), "sha256")
    return hmac.compare_digest(signing.hex(), fields.get("Signature", ""))


def proves_google_key(known: Known, headers: Message) -> bool:
    """A known token, or one that a known service account signed itself (RS256)."""
    scheme, _, token = (headers["authorization"] or "").partition(" ")
    if scheme != "Bearer":
        return False
    if known.google_token is not None and token == known.google_token:
        return True
    signed, _, signature = token.rpartition(".")
    key = known.google_keys.get(google_account(token) or "")
    return key is not None and key.verifies(_unpadded(signature), signed.encode())


def google_account(token: str) -> str | None:
    """Whose JWT this is, unverified."""
    try:
        claims = json.loads(_unpadded(token.split(".")[1]))
    except (IndexError, ValueError):
        return None
    return claims.get("iss") if isinstance(claims, dict) else None


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _prime(bits: int) -> int:
    while True:
        number = secrets.randbits(bits) | 1 | 3 << bits - 2
        if all(pow(base, number - 1, number) == 1 for base in (2, 3, 5, 7, 11, 13)):
            return number
