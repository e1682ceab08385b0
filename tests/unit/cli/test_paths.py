from __future__ import annotations

from pathlib import Path

import pytest

from claude_mcp.cli.paths import endpoints, parse_mount
from claude_mcp.errors import UsageError


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        ("a.txt", "fix:/tmp/", ("fix", True, "{here}/a.txt", "/tmp/")),
        ("dir/", "fix:notes", ("fix", True, "{here}/dir/", "notes")),
        ("./a:b", "fix:/tmp", ("fix", True, "{here}/a:b", "/tmp")),
        ("/a:b", "fix:/c:d", ("fix", True, "/a:b", "/c:d")),
        ("fix:/tmp/a b", ".", ("fix", False, "/tmp/a b", "{here}")),
        ("fix:a", "../b", ("fix", False, "a", "{parent}/b")),
        ("fix:a", "/", ("fix", False, "a", "/")),
    ],
)
def test_one_of_two_paths_is_in_a_session(
    source: str,
    destination: str,
    expected: tuple[str, bool, str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    session, into, first, second = expected
    places = {"here": str(tmp_path), "parent": str(tmp_path.parent)}
    assert endpoints(source, destination) == (
        session,
        into,
        first.format(**places),
        second.format(**places),
    )


@pytest.mark.parametrize(
    ("source", "destination", "message"),
    [
        ("a", "b", "Neither path is in a session."),
        ("./fix:a", "b", "Neither path is in a session."),
        ("a:/x", "b:/y", "Both paths are in sessions; copy by way of the host."),
        ("a:", "b", "'a:' lacks the path in the session."),
    ],
)
def test_copy_requires_exactly_one_path_in_a_session(
    source: str, destination: str, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        endpoints(source, destination)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/a:/b", ("/a", "/b", True)),
        ("/a:/b:ro", ("/a", "/b", True)),
        ("/a b:/c d:rw", ("/a b", "/c d", False)),
    ],
)
def test_a_mount_is_read_only_unless_told_otherwise(
    value: str, expected: tuple[str, str, bool]
) -> None:
    assert parse_mount(value) == expected


@pytest.mark.parametrize("value", ["", "/a", ":/b", "/a:", "/a:/b:rx", "/a:/b:rw:rw"])
def test_a_malformed_mount_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="is not HOST:CONTAINER or HOST:CONTAINER:rw"):
        parse_mount(value)
