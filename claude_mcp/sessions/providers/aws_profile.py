"""Reads one profile from the host's AWS files, so that the files need not be mounted.

Both files are INI variants. In the configuration file a profile's section is ``[profile NAME]`` or
``[default]``, and an indented line continues a nested value. The rule: an error message never
contains a value from a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from claude_mcp.errors import UsageError

MAX_BYTES: Final = 1024 * 1024
_SECTION: Final = re.compile(r"\[\s*(?:(profile)\s+)?([^\]]*?)\s*\]")
_ELSEWHERE: Final = {
    "sso_session": "signs in through SSO",
    "sso_start_url": "signs in through SSO",
    "role_arn": "assumes a role",
    "web_identity_token_file": "assumes a role",
    "credential_process": "runs a program",
    "login_session": "uses a console login",
}

Sections = dict[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Profile:
    name: str
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(repr=False)
    region: str | None


def parse(text: str, *, configuration: bool) -> Sections:
    """The sections of a file by profile name; other sections and lines are ignored."""
    sections: Sections = {}
    current: dict[str, str] | None = None
    for line in text.removeprefix("\ufeff").splitlines():
        if not line.strip() or line.lstrip()[0] in "#;":
            continue
        if header := _SECTION.match(line):
            word, name = header.groups()
            # Only the configuration file marks profiles with this word, except for `default`.
            named = not configuration or word is not None or name == "default"
            name = f"profile {name}" if word and not configuration else name
            current = sections.setdefault(name, {}) if named and name else None
        elif current is not None and not line[0].isspace() and "=" in line:
            key, _, value = line.partition("=")
            current[key.strip().lower()] = re.split(r"\s[#;]", value, maxsplit=1)[0].strip()
    return sections


def read(path: Path, *, configuration: bool) -> Sections:
    """The sections of a file; a missing file has none.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    return parse(text, configuration=configuration)


def resolve(name: str, credentials_path: Path, config_path: Path) -> Profile:
    """The keys of one profile.

    Raises:
        UsageError: the profile does not exist or does not contain keys.
    """
    given = read(credentials_path, configuration=False).get(name)
    configured = read(config_path, configuration=True).get(name)
    if given is None and configured is None:
        raise UsageError(f"AWS_PROFILE: there is no profile {name!r} in {credentials_path}.")
    values: Mapping[str, str] = {**(configured or {}), **(given or {})}
    key_id = values.get("aws_access_key_id")
    secret = values.get("aws_secret_access_key")
    how = next((words for key, words in _ELSEWHERE.items() if values.get(key)), None)
    # The keys of a profile that assumes a role only serve to assume it.
    assumes = "role_arn" in values
    if not key_id or not secret or assumes:
        why = f"{how}, which sessions do not support" if how else "does not contain a complete key"
        raise UsageError(
            f"AWS_PROFILE: the profile {name!r} {why}. Run 'aws configure export-credentials "
            "--profile NAME --format env' and set the variables it prints, or use a profile that "
            "contains keys."
        )
    return Profile(
        name, key_id, secret, values.get("aws_session_token") or None, values.get("region") or None
    )
