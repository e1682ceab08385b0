"""Lines of Claude Code's debug log, as it writes them."""

from __future__ import annotations

import pytest

from claude_mcp.claude.debug_log import MAX_WORDS, ApiError, api_error, is_line

HEAD = b"2026-11-29T11:22:55.537Z [ERROR] "


def failed(rest: bytes, attempt: int = 3) -> bytes:
    return HEAD + b"API error (attempt %d/11): " % attempt + rest + b"\n"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (
            failed(b"403 403 The security token included in the request is invalid."),
            ApiError(3, "The security token included in the request is invalid."),
        ),
        (
            failed(b'529 529 {"type":"error","error":{"type":"o","message":"Too  busy"}}', 10),
            ApiError(10, "Too busy"),
        ),
        (failed(b'400 400 {"message":"No \\ud800 model"}'), ApiError(3, "No ? model")),
        (failed(b'401 401 {"error":"bad token"}'), ApiError(3, "bad token")),
        (failed(b'401 401 {"code":7}'), ApiError(3, '{"code":7}')),
        (failed(b"401 401 {half"), ApiError(3, "{half")),
        (failed(b"undefined Connection error."), ApiError(3, "Connection error.")),
        (failed(b"404 404 status code (no body)"), ApiError(3, "status code (no body)")),
        (
            HEAD + b'"API error (attempt 1/11): 502 502 <html>\\r\\n<h1>Bad Gateway</h1></html>"\n',
            ApiError(1, "Bad Gateway"),
        ),
        (failed(b"500 500 " + b"x" * 1000), ApiError(3, "x" * MAX_WORDS)),
        (failed(b"500 500 " + b"[" * 100_000), ApiError(3, "[" * MAX_WORDS)),
        (
            failed(b'500 500 {"error":' + b"[" * 100_000),
            ApiError(3, ('{"error":' + "[" * 300)[:300]),
        ),
        (failed(b"500 500 \xff"), ApiError(3, "\ufffd")),
        (HEAD + b"Bedrock ListInferenceProfiles failed: no.\n", None),
        (HEAD + b'"API error', None),
        (b"API error (attempt 1/11): 500 500 forged\n", None),
        (b"\n", None),
    ],
)
def test_the_words_of_a_service_are_read_from_the_line_about_a_failed_request(
    line: bytes, error: ApiError | None
) -> None:
    assert api_error(line) == error


@pytest.mark.parametrize(
    ("line", "logged"),
    [
        (HEAD + b"anything\n", True),
        (HEAD, True),
        (b"2026-11-29T11:22:55Z [DEBUG] x", True),
        (b"2026-11-29 it ended\n", False),
        (b"", False),
    ],
)
def test_lines_of_the_debug_log_are_told_from_the_rest_of_stderr(line: bytes, logged: bool) -> None:
    assert is_line(line) is logged
