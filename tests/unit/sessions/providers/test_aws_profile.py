"""Reading one profile of the host's AWS files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_mcp.errors import UsageError
from claude_mcp.sessions.providers.aws_profile import Profile, parse, resolve

KEYS = "aws_access_key_id = AKIA\naws_secret_access_key = secret-value\n"
EXPORT = (
    "Run 'aws configure export-credentials --profile NAME --format env' and set the variables it "
    "prints, or use a profile that contains keys."
)


def files(tmp_path: Path, credentials: str | None, config: str | None) -> tuple[Path, Path]:
    paths = tmp_path / "credentials", tmp_path / "config"
    for path, text in zip(paths, (credentials, config), strict=True):
        if text is not None:
            path.write_text(text)
    return paths


@pytest.mark.parametrize(
    ("name", "credentials", "config", "expected"),
    [
        (
            "default",
            f"[default]\n{KEYS}",
            None,
            Profile("default", "AKIA", "secret-value", None, None),
        ),
        (
            "work",
            f"[work]\n{KEYS}aws_session_token=t=/+=\n",
            "[default]\nregion=no\n[profile work]\nregion = eu-1 # here\n",
            Profile("work", "AKIA", "secret-value", "t=/+=", "eu-1"),
        ),
        (
            "work",
            None,
            f"[profile work]\n{KEYS}",
            Profile("work", "AKIA", "secret-value", None, None),
        ),
        (
            "work",
            f"[work]\n{KEYS}",
            "[profile work]\naws_access_key_id = OTHER\ns3 =\n  region = no\n",
            Profile("work", "AKIA", "secret-value", None, None),
        ),
        (
            "a b",
            f"\ufeff# a comment\n; another\n\n[ a b ]\nnonsense\n{KEYS.upper()}",
            None,
            Profile("a b", "AKIA", "SECRET-VALUE", None, None),
        ),
    ],
)
def test_a_profile_is_merged_from_both_files(
    tmp_path: Path, name: str, credentials: str | None, config: str | None, expected: Profile
) -> None:
    assert resolve(name, *files(tmp_path, credentials, config)) == expected


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("sso_session = corp\n", "signs in through SSO"),
        ("sso_start_url = https://x\n", "signs in through SSO"),
        (f"role_arn = arn:x\nsource_profile = a\n{KEYS}", "assumes a role"),
        ("web_identity_token_file = /x\n", "assumes a role"),
        ("credential_process = /bin/keys\n", "runs a program"),
    ],
)
def test_a_profile_without_its_keys_is_refused_with_advice(
    tmp_path: Path, config: str, why: str
) -> None:
    with pytest.raises(UsageError) as caught:
        resolve("work", *files(tmp_path, None, f"[profile work]\n{config}"))
    assert str(caught.value) == (
        f"AWS_PROFILE: the profile 'work' {why}, which sessions do not support. {EXPORT}"
    )


@pytest.mark.parametrize("text", ["[work]\nregion = x\n", "[work]\naws_access_key_id = AKIA\n"])
def test_a_profile_with_an_incomplete_key_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"'work' does not contain a complete key\. Run 'aws"):
        resolve("work", *files(tmp_path, text, None))


def test_a_missing_profile_is_reported_with_the_file(tmp_path: Path) -> None:
    paths = files(tmp_path, "[default]\n", "[work]\nregion = x\n")
    with pytest.raises(UsageError) as caught:
        resolve("work", *paths)
    assert str(caught.value) == f"AWS_PROFILE: there is no profile 'work' in {paths[0]}."


def test_an_unreadable_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        resolve("work", tmp_path, tmp_path / "config")


@given(st.text(), st.booleans())
def test_any_text_can_be_parsed(text: str, configuration: bool) -> None:
    for name, values in parse(text, configuration=configuration).items():
        assert name == name.strip() != ""
        for key, value in values.items():
            assert (key, value) == (key.strip().lower(), value.strip())


NAME = st.text("abcdefghijklmnopqrstuvwxyz-_.0123456789", min_size=1)
VALUE = st.text("abcXYZ019/+=#;", max_size=40)


@given(st.dictionaries(NAME, st.dictionaries(NAME, VALUE)))
def test_written_sections_are_parsed_unchanged(sections: dict[str, dict[str, str]]) -> None:
    text = "".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())
        for name, values in sections.items()
    )
    expected = {
        name: {key: "" if value[:1] in ("#", ";") else value for key, value in values.items()}
        for name, values in sections.items()
    }
    assert parse(text, configuration=False) == expected
