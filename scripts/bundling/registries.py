"""What the npm registry and the Python index say of a package: versions, hashes of its files."""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
from typing import Any, Final
from urllib.parse import quote

from bundle_installer.refusal import Refused

NPM: Final = "https://registry.npmjs.org"
PYPI: Final = "https://pypi.org/simple"
MAX_BYTES: Final = 256 * 1024 * 1024
_SECONDS: Final = 60
_NPM_FORM: Final = "application/vnd.npm.install-v1+json"
_PYTHON_FORM: Final = "application/vnd.pypi.simple.v1+json"
_RELEASE: Final = re.compile(r"\d+(?:\.\d+)*")


def npm_versions(package: str) -> dict[str, str]:
    """The integrity of each release of an npm package, by version.

    Raises:
        Refused
    """
    described = _fetched(f"{_npm()}/{quote(package, safe='@')}", _NPM_FORM)
    try:
        return {
            version: str(each["dist"]["integrity"])
            for version, each in described["versions"].items()
            if _RELEASE.fullmatch(version) and "deprecated" not in each
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise Refused(f"The npm registry describes {package} in another form.") from error


def npm_latest(package: str) -> str:
    """The version that ``npm install`` takes.

    Raises:
        Refused
    """
    described = _fetched(
        f"{_npm()}/{quote(package, safe='@')}", "application/vnd.npm.install-v1+json"
    )
    try:
        return str(described["dist-tags"]["latest"])
    except (KeyError, TypeError) as error:
        raise Refused(f"The npm registry names no latest version of {package}.") from error


def python_wheels(package: str) -> dict[str, dict[str, str]]:
    """The SHA-256 of each wheel, by version and file name; releases only, none that was withdrawn.

    Raises:
        Refused
    """
    index = (os.environ.get("PYPI_INDEX") or PYPI).rstrip("/")
    described = _fetched(f"{index}/{package}/", _PYTHON_FORM)
    found: dict[str, dict[str, str]] = {}
    try:
        for each in described["files"]:
            name = each["filename"]
            if not name.endswith(".whl") or each.get("yanked"):
                continue
            version = name.split("-")[1]
            if _RELEASE.fullmatch(version):
                found.setdefault(version, {})[name] = str(each["hashes"]["sha256"])
    except (KeyError, TypeError, AttributeError) as error:
        raise Refused(f"The Python index describes {package} in another form.") from error
    return found


def newest(versions: list[str]) -> str:
    """The highest of these versions, which are numbers.

    Raises:
        Refused: there is none
    """
    if not versions:
        raise Refused("The registry has no release to update to.")
    return max(versions, key=lambda version: [int(part) for part in version.split(".")])


def _npm() -> str:
    return (os.environ.get("NPM_REGISTRY") or NPM).rstrip("/")


def _fetched(url: str, accept: str) -> dict[str, Any]:
    request = urllib.request.Request(url, headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            content = answer.read(MAX_BYTES + 1)
        value = json.loads(content) if len(content) <= MAX_BYTES else None
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise Refused(f"{url} gave no answer that can be used: {error}.") from error
    if not isinstance(value, dict):
        raise Refused(f"{url} gave no answer that can be used.")
    return value
