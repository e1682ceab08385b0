"""The tokens of the configuration: which are taken, and what is said of the others."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from claude_mcp.config import Config
from claude_mcp.credentials import Secret
from claude_mcp.errors import ConfigError
from claude_mcp.server.http import serving, tokens
from claude_mcp.server.http.tokens import OPERATOR, Grant

TOKEN = "0123456789abcdef-secret"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.toml"


def loaded(file: Path, text: str, **changes: object) -> tokens.Tokens:
    file.write_text(text)
    config = Config({}, http={"CLAUDE_MCP_TOKENS_FILE": str(file)})
    return tokens.load(replace(config, **changes))  # type: ignore[arg-type]


def test_each_token_finds_its_grant(file: Path) -> None:
    digest = hashlib.sha256(b"of-the-other-team").hexdigest()
    text = f"""
    [one]
    token = "{TOKEN}"
    roots = ["/srv/one"]
    tools = ["list_sessions"]
    max_sessions = 3
    memory = "2g"
    cpus = 1.5
    [two]
    sha256 = "{digest}"
    [three]
    subject = "alice@example.com"
    """
    found = loaded(file, text, http_token=Secret("of-the-operator-0123"))
    assert found.find("of-the-operator-0123") == OPERATOR
    assert found.find(TOKEN) == Grant(
        owner="one",
        roots=("/srv/one",),
        tools=frozenset({"list_sessions"}),
        max_sessions=3,
        limits={"memory": "2g", "cpus": "1.5"},
    )
    assert found.find("of-the-other-team") == Grant(owner="two")
    assert dict(found.subjects) == {"alice@example.com": Grant(owner="three")}
    assert [found.find(wrong) for wrong in ("", TOKEN[:-1], digest, "\udc80")] == [None] * 4
    assert len(found) == 3


def test_a_grant_changes_what_the_server_allows() -> None:
    config = Config({}, allowed_roots=("/srv",), limits={"memory": "8g", "pids": "100"})
    grant = Grant("one", ("/srv/one",), frozenset({"list_sessions"}), 3, {"memory": "2g"})
    assert grant.applied_to(config) == replace(
        config,
        owner="one",
        allowed_roots=("/srv/one",),
        tools=frozenset({"list_sessions"}),
        max_own_sessions=3,
        limits={"memory": "2g", "pids": "100"},
        limits_fixed=True,
    )
    assert OPERATOR.applied_to(config) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[one]\ntoken = "short"', "is shorter than 16 characters"),
        ("[one]", "needs a token, the sha256 of one"),
        ('[one]\nsha256 = "abc"', "needs a token, the sha256 of one"),
        ('[one]\nsubject = "a"\n[two]\nsubject = "a"', "that no other entry has"),
        (f'[one]\ntoken = "{TOKEN}"\n[two]\ntoken = "{TOKEN}"', "Two entries have the same token"),
        (f'[Team One]\ntoken = "{TOKEN}"', "is not valid TOML"),
        (f'["Team One"]\ntoken = "{TOKEN}"', "'Team One' is none"),
        (f'one = "{TOKEN}"', "'one' is none"),
        (f'[one]\ntoken = "{TOKEN}"\nroot = "/"', "has an unknown name 'root'"),
        (f'[one]\ntoken = "{TOKEN}"\nroots = "/srv"', "must be a list of absolute paths"),
        (f'[one]\ntoken = "{TOKEN}"\nroots = ["srv"]', "must be a list of absolute paths"),
        (f'[one]\ntoken = "{TOKEN}"\nroots = ["/home"]', "is outside the server's own: /srv"),
        (f'[one]\ntoken = "{TOKEN}"\ntools = []', "must be a list of names"),
        (f'[one]\ntoken = "{TOKEN}"\ntools = ["make_tea"]', "There is no tool 'make_tea'"),
        (f'[one]\ntoken = "{TOKEN}"\nmax_sessions = 0', "a whole number greater than 0"),
        (f'[one]\ntoken = "{TOKEN}"\nmax_sessions = true', "a whole number greater than 0"),
        (f'[one]\ntoken = "{TOKEN}"\nmemory = ["4g"]', "must be numbers or sizes"),
        (f'[one]\ntoken = "{TOKEN}"\nmemory = "much"', "cannot be used: CLAUDE_MCP_MEMORY must be"),
        ("\0", "is not valid TOML"),
    ],
)
def test_a_file_with_a_mistake_is_refused_without_its_secrets(
    file: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(file, text, allowed_roots=("/srv",))
    assert message in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config({}, http={"CLAUDE_MCP_TOKENS_FILE": str(file)})
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        tokens.load(config)
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        tokens.load(config)
    monkeypatch.setattr(tokens, "MAX_FILE_BYTES", 10)
    file.write_bytes(b"x" * 11)
    with pytest.raises(ConfigError, match="is larger than 10 bytes"):
        tokens.load(config)


def test_the_operator_s_token_comes_from_the_environment_or_a_file(file: Path) -> None:
    file.write_text(f"{TOKEN}\n")
    from_file = Config({}, http={"CLAUDE_MCP_TOKEN_FILE": str(file)})
    assert tokens.load(from_file).find(TOKEN) == OPERATOR
    both = replace(from_file, http_token=Secret("of-the-environment"))
    assert tokens.load(both).find(TOKEN) is None
    file.write_text("\n")
    with pytest.raises(ConfigError, match="is shorter than 16 characters"):
        tokens.load(from_file)
    with pytest.raises(ConfigError, match="is shorter than 16 characters"):
        tokens.load(Config({}, http_token=Secret("short")))


class TestAccess:
    """Whom a server lets in that other machines can reach."""

    HOSTS: ClassVar[dict[str, str]] = {"CLAUDE_MCP_HTTP_HOSTS": "mcp.example.com"}

    def test_it_needs_a_token_and_its_names(self) -> None:
        with pytest.raises(ConfigError, match="needs a token") as caught:
            serving.access(Config({}, http=self.HOSTS), local=False)
        assert "openssl rand -hex 32" in str(caught.value.hint)
        with pytest.raises(ConfigError, match="needs the names"):
            serving.access(Config({}, http_token=Secret(TOKEN)), local=False)
        found = serving.access(Config({}, http=self.HOSTS, http_token=Secret(TOKEN)), local=False)
        assert found.verifier is not None
        assert found.hosts == ("mcp.example.com",)

    def test_on_the_loopback_it_needs_neither(self) -> None:
        assert serving.access(Config({}), local=True).verifier is None
        assert serving.access(Config({}, http_token=Secret(TOKEN)), local=True).verifier is not None

    def test_a_subject_needs_an_identity_provider(self, file: Path) -> None:
        file.write_text('[one]\nsubject = "alice"\n')
        with pytest.raises(ConfigError, match="there is no identity provider"):
            serving.access(Config({}, http={"CLAUDE_MCP_TOKENS_FILE": str(file)}), local=True)

    @pytest.mark.parametrize(
        ("http", "message"),
        [
            ({"CLAUDE_MCP_OIDC_ISSUER": "https://id.example.com"}, "needs CLAUDE_MCP_OIDC_AUD"),
            (
                {
                    "CLAUDE_MCP_OIDC_ISSUER": "http://id.example.com",
                    "CLAUDE_MCP_OIDC_AUDIENCE": "a",
                },
                "must be an https address",
            ),
            (
                {"CLAUDE_MCP_OIDC_ISSUER": "https://", "CLAUDE_MCP_OIDC_AUDIENCE": "a"},
                "must be an https address",
            ),
            ({"CLAUDE_MCP_HTTP_URL": "mcp.example.com"}, "must be an address such as"),
        ],
    )
    def test_addresses_must_be_usable(self, http: dict[str, str], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            serving.access(Config({}, http=http), local=True)
