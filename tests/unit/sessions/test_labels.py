"""A session and the labels of its container are one and the same."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from claude_mcp.contract.places import ABANDONED_EXIT_CODE
from claude_mcp.engine import names
from claude_mcp.engine.engine import Container
from claude_mcp.errors import UsageError
from claude_mcp.sessions.labels import (
    CREATING_SECONDS,
    NOT_DESCRIBED,
    PLACES,
    session_labels,
    session_of,
)
from claude_mcp.sessions.network.access import (
    EGRESS_LABEL,
    NETWORK_LABEL,
    PROXY_LABEL,
    Access,
    Network,
    Proxy,
    proxy_from_json,
)
from claude_mcp.sessions.providers.credentials import CredentialSource
from claude_mcp.sessions.session import (
    MAX_NAME_CHARS,
    Session,
    Status,
    check_name,
    container_name,
    normalized_time,
    parse_time,
)

ID = "6df80de7c8ae90272c5bd7de3f26cb2002973dac19c8559265a44a749ee1313b"
NOW = datetime(2026, 11, 23, 6, 27, 0, tzinfo=UTC)
CONTAINER = Container(
    id=ID,
    name="claude-mcp-fix-tests",
    created="2026-11-23T06:26:12.098159999Z",
    status="running",
    exit_code=0,
    error="",
    image="claude-code-custom:latest",
    labels=session_labels(
        name="fix tests",
        project_path="/home/me/a b",
        provider="anthropic",
        credentials=CredentialSource.SERVER,
    ),
)
AWKWARD_NAMES = [
    "fix tests",
    "fix-tests ",
    "-fix-tests",
    "--privileged",
    "fix/tests",
    "../../etc",
    ".",
    "ä",
    "日本語",
    "'\"$HOME`id`",
    "two\nlines",
    "x" * 63,
    "x" * 64,
    "X" * MAX_NAME_CHARS,
    "\U0001f600" * 100,
]


def test_labels_describe_the_session() -> None:
    assert session_of(CONTAINER, NOW) == Session(
        id="6df80de7c8ae",
        container_id=ID,
        name="fix tests",
        container_name="claude-mcp-fix-tests",
        project_path="/home/me/a b",
        image="claude-code-custom:latest",
        provider="anthropic",
        credentials=CredentialSource.SERVER,
        status=Status.RUNNING,
        created_at="2026-11-23T06:26:12Z",
    )


def test_the_labels_are_these() -> None:
    assert CONTAINER.labels == {
        "claude-mcp.session": "1",
        "claude-mcp.name": "fix tests",
        "claude-mcp.project": "/home/me/a b",
        "claude-mcp.provider": "anthropic",
        "claude-mcp.credentials": "server",
    }


@pytest.mark.parametrize("labels", [{}, {"claude-mcp.name": "a"}, {"com.example": "1"}])
def test_a_container_without_our_label_is_no_session(labels: dict[str, str]) -> None:
    assert session_of(replace(CONTAINER, labels=labels), NOW) is None


@pytest.mark.parametrize(
    ("label", "places"),
    [
        ('{"region":"eu-1"}', {"region": "eu-1"}),
        ("", {}),
        ("{", {}),
        ("[1]", {}),
        ('{"region":1}', {}),
    ],
)
def test_places_of_its_own_are_in_a_label(label: str, places: dict[str, str]) -> None:
    session = session_of(replace(CONTAINER, labels={**CONTAINER.labels, PLACES: label}), NOW)
    assert session is not None
    assert session.places == places
    if places:
        written = session_labels(
            name="a",
            project_path="/p",
            provider="bedrock",
            credentials=CredentialSource.SERVER,
            places=places,
        )
        assert written[PLACES] == label


def test_a_container_with_only_our_label_is_a_session_with_what_is_known() -> None:
    session = session_of(
        replace(CONTAINER, labels={"claude-mcp.session": "2", "claude-mcp.credentials": "magic"}),
        NOW,
    )
    assert session is not None
    assert (session.name, session.project_path, session.provider, session.credentials) == (
        "fix-tests",
        NOT_DESCRIBED,
        "",
        CredentialSource.NONE,
    )


@pytest.mark.parametrize(
    ("name", "container"),
    [
        ("fix-tests", "claude-mcp-fix-tests"),
        ("a", "claude-mcp-a"),
        ("A.b_c-1", "claude-mcp-A.b_c-1"),
        ("fix tests", "claude-mcp-fix-tests-ee9cbc7286"),
        ("ä", "claude-mcp-33e6d73fee"),
        ("proxy-0123456789", "claude-mcp-proxy-0123456789"),
        ("proxy-0123456789abcdef", "claude-mcp-proxy-0123456789abcdef-28d012ce9a"),
    ],
)
def test_the_container_of_a_name_never_changes(name: str, container: str) -> None:
    """An old session would not be found any more."""
    assert container_name(name) == container


def test_a_name_that_no_session_can_have_is_looked_up_all_the_same() -> None:
    assert container_name("a\udcff") not in (container_name("a"), container_name("a\udcfe"))


def test_every_name_has_a_container_of_its_own_that_the_engine_takes() -> None:
    made = [container_name(name) for name in AWKWARD_NAMES]
    assert len(set(made)) == len(AWKWARD_NAMES)
    for container in made:
        assert names.reference(container) == container
        assert re.fullmatch(r"claude-mcp-[a-zA-Z0-9_.-]{1,63}", container)


def test_no_session_has_the_container_of_a_proxy() -> None:
    proxy = Proxy("0123456789abcdef", "image:1", "{}")
    for name in ("proxy-0123456789abcdef", "proxy 0123456789abcdef", "proxy-0123456789abcdef\n"):
        assert container_name(name) != proxy.name


@pytest.mark.parametrize("name", AWKWARD_NAMES)
def test_a_name_may_be_awkward(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "A session's name cannot be empty."),
        (" \n", "A session's name cannot be empty."),
        ("x" * 101, "A session's name has at most 100 characters."),
        ("a\0b", "A session's name cannot contain a NUL character."),
        ("a\ud800", "A session's name must be valid Unicode."),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_name(name)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        # Docker, Podman, Podman's older text form, and without a fraction or a zone
        ("2026-11-23T06:26:12.098159999Z", (6, 26, 12, 98159)),
        ("2026-11-23T07:26:12.098159999+01:00", (6, 26, 12, 98159)),
        ("2026-11-23 06:26:12.098159999 +0000 UTC", (6, 26, 12, 98159)),
        ("2026-11-23 07:26:12.5 +0100 CET m=+0.1", (6, 26, 12, 500000)),
        ("2026-11-23T06:26:12Z", (6, 26, 12, 0)),
        ("2026-11-23T06:26:12", (6, 26, 12, 0)),
    ],
)
def test_times_of_both_engines_are_read(written: str, moment: tuple[int, int, int, int]) -> None:
    assert parse_time(written) == datetime(2026, 11, 23, *moment, tzinfo=UTC)
    assert normalized_time(written) == "2026-11-23T06:26:12Z"


@pytest.mark.parametrize("written", ["", "yesterday", "2026-13-45T06:26:12Z", "2026-11-23"])
def test_an_unparsable_time_stays_unchanged(written: str) -> None:
    assert parse_time(written) is None
    assert normalized_time(written) == written


@pytest.mark.parametrize(
    ("container", "status"),
    [
        ("running", Status.RUNNING),
        ("paused", Status.PAUSED),
        ("exited", Status.STOPPED),
        ("stopped", Status.STOPPED),
        ("stopping", Status.STOPPED),
        ("restarting", Status.STOPPED),
        ("dead", Status.REMOVING),
        ("removing", Status.REMOVING),
        ("", Status.BROKEN),
        ("something new", Status.BROKEN),
    ],
)
def test_the_status_follows_the_containers(container: str, status: Status) -> None:
    session = session_of(replace(CONTAINER, status=container), NOW)
    assert session is not None
    assert session.status is status


@pytest.mark.parametrize("state", ["created", "configured", "initialized"])
def test_a_container_that_never_started_is_broken_after_a_while(state: str) -> None:
    created = NOW - timedelta(seconds=CREATING_SECONDS)

    def status(age: float, error: str = "", created_at: str = "") -> Status | None:
        moment = (created - timedelta(seconds=age)).isoformat()
        made = replace(CONTAINER, status=state, created=created_at or moment, error=error)
        session = session_of(made, NOW)
        return session.status if session else None

    assert [status(-1), status(0), status(1)] == [Status.CREATING, Status.BROKEN, Status.BROKEN]
    assert status(-1, error="no such device") is Status.BROKEN
    assert status(-1, created_at="garbage") is Status.BROKEN


@pytest.mark.parametrize("state", ["exited", "stopped"])
def test_a_session_whose_creation_was_abandoned_is_broken(state: str) -> None:
    ended = replace(CONTAINER, status=state, exit_code=ABANDONED_EXIT_CODE)
    session = session_of(ended, NOW)
    assert session is not None
    assert session.status is Status.BROKEN


def test_a_container_that_its_engine_ended_for_good_is_broken_and_says_why() -> None:
    lost = session_of(replace(CONTAINER, status="lost", error="Evicted: low on memory"), NOW)
    assert lost is not None
    assert (lost.status, lost.ended) == (Status.BROKEN, "Evicted: low on memory")


def test_a_home_in_memory_does_not_outlive_a_stop() -> None:
    labels = session_labels(
        name="a",
        project_path="/p",
        provider="anthropic",
        credentials=CredentialSource.NONE,
        home_in_memory=True,
    )
    for status, expected in (("running", Status.RUNNING), ("exited", Status.BROKEN)):
        session = session_of(replace(CONTAINER, labels=labels, status=status), NOW)
        assert session is not None
        assert session.status is expected


# The network.

ALLOWING = Proxy("0123456789abcdef", "image:1", '{"allowed": ["*.example.org", "pypi.org:8443"]}')


def made(access: Access) -> dict[str, str]:
    return session_labels(
        name="a",
        project_path="/p",
        provider="anthropic",
        credentials=CredentialSource.NONE,
        access=access,
    )


@pytest.mark.parametrize(
    ("access", "added"),
    [
        (Access(Network.OPEN), {}),
        (Access(Network.NONE), {"claude-mcp.network": "none"}),
        (
            Access(Network.RESTRICTED, ALLOWING),
            {
                "claude-mcp.network": "restricted",
                "claude-mcp.egress": "0123456789abcdef",
                "claude-mcp.proxy": ALLOWING.to_json(),
            },
        ),
    ],
)
def test_a_session_remembers_its_network_and_its_proxy(
    access: Access, added: dict[str, str]
) -> None:
    labels = made(access)
    plain = made(Access(Network.OPEN))
    assert {key: value for key, value in labels.items() if key not in plain} == added
    session = session_of(replace(CONTAINER, labels=labels), NOW)
    assert session is not None
    assert (session.network, session.proxy) == (access.network.value, access.proxy)
    if session.proxy is not None:
        assert json.loads(session.proxy.policy)["allowed"] == ["*.example.org", "pypi.org:8443"]
    hash(session)


@pytest.mark.parametrize(
    "label",
    [
        "",
        "{",
        "null",
        "[]",
        '"text"',
        "5",
        "{}",
        '{"id": "a", "image": "b"}',
        '{"id": "a", "image": "b", "policy": null}',
        '{"id": "a", "image": "b", "policy": "[]"}',
        '{"id": "a", "image": "b", "policy": "5"}',
        '{"id": "a", "image": "b", "policy": "{\\"allowed\\": 5}"}',
        '{"id": "a", "image": "b", "policy": "{\\"allowed\\": [5]}"}',
        '{"id": "a", "image": "b", "policy": "{\\"allowed\\": [\\"*\\"]}"}',
        '{"id": "a", "image": "b", "policy": "{\\"http\\": [1]}"}',
        '{"id": "a", "image": "b", "policy": "{\\"http\\": null}"}',
        '{"id": "a", "image": "b", "policy": "{\\"direct\\": 5}"}',
        '{"id": ' + "9" * 5000 + "}",
        "[" * 200_000,
        '{"id": ' + "[" * 200_000,
        json.dumps({"id": "a", "image": "b", "policy": "[" * 200_000}),
    ],
)
def test_a_damaged_proxy_is_none(label: str) -> None:
    assert proxy_from_json(label) is None
    labels = {**made(Access(Network.RESTRICTED, ALLOWING)), PROXY_LABEL: label}
    session = session_of(replace(CONTAINER, labels=labels), NOW)
    assert session is not None
    assert (session.network, session.proxy) == ("restricted", None)


def test_labels_of_a_network_may_be_forged() -> None:
    forged = {**made(Access(Network.OPEN)), NETWORK_LABEL: "host", EGRESS_LABEL: "--all"}
    session = session_of(replace(CONTAINER, labels=forged), NOW)
    assert session is not None
    assert (session.network, session.proxy) == ("host", None)


def test_a_label_describes_the_whole_proxy() -> None:
    assert proxy_from_json(ALLOWING.to_json()) == ALLOWING
    assert ALLOWING.name == "claude-mcp-proxy-0123456789abcdef"
    assert names.reference(ALLOWING.name) == ALLOWING.name
