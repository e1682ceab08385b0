"""The stand-ins of the clouds: what they take for a proof, and how they answer."""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.error
import urllib.request
import zlib
from email.message import Message

import pytest
from cloud_standin import (
    AwsKey,
    CloudStandin,
    Known,
    RsaKey,
    eventstream_message,
    proves_aws_key,
    proves_google_key,
    service_account,
)

KEY_ID, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
SIGNATURE = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
TARGET = "/?Action=ListUsers&Version=2010-05-08"


def headers(**values: str) -> Message:
    message = Message()
    for name, value in values.items():
        message[name.replace("_", "-")] = value
    return message


def example(signature: str = SIGNATURE, **more: str) -> Message:
    """The worked example of AWS's documentation of its signatures."""
    return headers(
        host="iam.amazonaws.com",
        content_type="application/x-www-form-urlencoded; charset=utf-8",
        x_amz_date="20150830T123600Z",
        authorization=f"AWS4-HMAC-SHA256 Credential={KEY_ID}/20150830/us-east-1/iam/aws4_request, "
        f"SignedHeaders=content-type;host;x-amz-date, Signature={signature}",
        **more,
    )


def test_a_signature_is_checked_as_aws_does() -> None:
    known = Known(aws_keys={KEY_ID: AwsKey(SECRET)})
    assert proves_aws_key(known, "GET", TARGET, example(), b"")
    wrong = Known(aws_keys={KEY_ID: AwsKey(SECRET.lower())})
    assert not proves_aws_key(wrong, "GET", TARGET, example(), b"")
    assert not proves_aws_key(Known(), "GET", TARGET, example(), b"")
    assert not proves_aws_key(known, "GET", TARGET, example("0" * 64), b"")
    assert not proves_aws_key(known, "GET", TARGET, example(), b"another body")
    assert not proves_aws_key(known, "GET", "/?Action=Other", example(), b"")
    assert not proves_aws_key(known, "GET", TARGET, example(x_amz_security_token="t"), b"")
    with_token = Known(aws_keys={KEY_ID: AwsKey(SECRET, "t")})
    assert not proves_aws_key(with_token, "GET", TARGET, example(), b"")


def test_a_bearer_token_is_checked() -> None:
    known = Known(bearer_tokens=frozenset({"known"}))
    found = [
        proves_aws_key(known, "POST", "/", headers(authorization=value), b"")
        for value in ("Bearer known", "Bearer unknown", "Basic known", "")
    ]
    assert found == [True, False, False, False]


def jwt(key: RsaKey, issuer: str) -> str:
    def part(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    head = part(b'{"alg":"RS256"}') + "." + part(json.dumps({"iss": issuer}).encode())
    size = (key.n.bit_length() + 7) // 8
    digest = bytes.fromhex("3031300d060960864801650304020105000420")
    digest += hashlib.sha256(head.encode()).digest()
    padded = b"\0\1" + b"\xff" * (size - len(digest) - 3) + b"\0" + digest
    signature = pow(int.from_bytes(padded, "big"), key.d, key.n)
    return f"{head}.{part(signature.to_bytes(size, 'big'))}"


def test_a_token_that_an_account_signed_is_checked() -> None:
    key, other = RsaKey.new(), RsaKey.new()
    known = Known(google_keys={"a@x": key}, google_token="of the metadata")
    tokens = (
        jwt(key, "a@x"),
        jwt(other, "a@x"),
        jwt(key, "b@x"),
        "of the metadata",
        "a.b.c",
        "x",
    )
    found = [proves_google_key(known, headers(authorization=f"Bearer {each}")) for each in tokens]
    assert found == [True, False, False, True, False, False]
    assert json.loads(service_account("a@x", key))["private_key"] == key.pem()


def test_an_event_is_framed_as_aws_frames_it() -> None:
    message = eventstream_message(b'{"bytes":""}')
    total, size, check = (int.from_bytes(message[at : at + 4], "big") for at in (0, 4, 8))
    assert (total, check) == (len(message), zlib.crc32(message[:8]))
    assert int.from_bytes(message[-4:], "big") == zlib.crc32(message[:-4])
    assert message[12:].startswith(b"\x0b:event-type\x07\x00\x05chunk")
    assert message[12 + size : -4] == b'{"bytes":""}'


@pytest.mark.parametrize(
    ("path", "name", "value", "code"),
    [
        ("/model/a.model%3A0/invoke", "authorization", "Bearer known", 200),
        ("/model/a.model%3A0/invoke", "authorization", "Bearer unknown", 403),
        (
            "/v1/projects/p/locations/l/publishers/anthropic/models/m:rawPredict",
            "authorization",
            "Bearer google",
            200,
        ),
        (
            "/v1/projects/p/locations/l/publishers/anthropic/models/m:rawPredict",
            "authorization",
            "Bearer known",
            403,
        ),
        ("/anthropic/v1/messages", "x-api-key", "key", 200),
        ("/anthropic/v1/messages", "api-key", "other", 403),
        ("/elsewhere", "x-api-key", "key", 403),
    ],
)
def test_only_who_proves_something_is_answered(path: str, name: str, value: str, code: int) -> None:
    known = Known(
        bearer_tokens=frozenset({"known"}),
        google_token="google",
        foundry_keys=frozenset({"key"}),
    )
    body = json.dumps({"messages": [{"role": "user", "content": "hello"}]}).encode()
    with CloudStandin(known) as running:
        request = urllib.request.Request(running.url + path, body, {name: value})
        try:
            with urllib.request.urlopen(request) as answer:
                found, said = answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                found, said = error.code, json.load(error)
    assert found == code
    if code == 200:
        assert said["content"] == [{"type": "text", "text": "ok: hello"}]
