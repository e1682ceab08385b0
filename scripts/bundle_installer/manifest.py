"""The manifest: what a bundle consists of, and for which machines it is.

Whoever made the bundle may be an enemy: every field is checked before it is used.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from bundle_installer.names import check_name
from bundle_installer.refusal import Refused

FORMAT: Final = 1
NAME: Final = "manifest.json"
SIGNATURE: Final = "manifest.json.sig"
MAX_BYTES: Final = 16 * 1024 * 1024
ARCHITECTURES: Final = {"linux-x86_64": "amd64", "linux-aarch64": "arm64"}
"""The platforms that a bundle can be for, with the engines' names for their processors."""
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_IMAGE: Final = re.compile(r"[a-z0-9][a-z0-9._/:-]{0,254}")


@dataclass(frozen=True, slots=True)
class File:
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Image:
    platform: str
    file: str
    """Its path in the bundle."""
    name: str
    config: str
    """SHA-256 of its configuration, which most engines use as its id."""


@dataclass(frozen=True, slots=True)
class Manifest:
    version: str
    platforms: tuple[str, ...]
    pythons: tuple[str, ...]
    glibc: str
    """The oldest C library that the wheels run with."""
    images: tuple[Image, ...]
    files: dict[str, File]
    digest: str
    """SHA-256 of the manifest itself."""

    @property
    def id(self) -> str:
        """Names an installation of this bundle."""
        return f"{self.version}-{self.digest[:12]}"

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.files.values())


def requirements_name(platform: str, python: str) -> str:
    """Where a bundle lists the wheels for a machine, with their hashes."""
    return f"requirements/{platform}-{python}.txt"


def parse(raw: bytes) -> Manifest:
    """Read a manifest.

    Raises:
        Refused
    """
    if len(raw) > MAX_BYTES:
        raise Refused(f"{NAME} is larger than {MAX_BYTES} bytes.")
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{NAME} is damaged: it is no JSON.") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise Refused(f"{NAME} has another format than {FORMAT}: this installer cannot read it.")
    try:
        manifest = Manifest(
            version=_text(value["version"], _VERSION),
            platforms=tuple(_choice(each, ARCHITECTURES) for each in value["platforms"]),
            pythons=tuple(_text(each, re.compile(r"3\.\d{1,3}")) for each in value["pythons"]),
            glibc=_text(value["glibc"], re.compile(r"\d{1,3}\.\d{1,3}")),
            images=tuple(_image(each) for each in value["images"]),
            files={check_name(path, NAME): _file(each) for path, each in value["files"].items()},
            digest=hashlib.sha256(raw).hexdigest(),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refused(f"{NAME} is damaged: {type(error).__name__} {error}.") from error
    needed = [requirements_name(each, python) for each in manifest.platforms
              for python in manifest.pythons]  # fmt: skip
    for path in [*needed, *(each.file for each in manifest.images)]:
        if path not in manifest.files:
            raise Refused(f"{NAME} is damaged: it does not list {path}.")
    for path in (NAME, SIGNATURE):
        if path in manifest.files:
            raise Refused(f"{NAME} is damaged: it lists {path}.")
    return manifest


def _file(value: dict[str, Any]) -> File:
    size = value["size"]
    if type(size) is not int or size < 0:
        raise ValueError(f"size {size!r}")
    return File(_text(value["sha256"], _DIGEST), size)


def _image(value: dict[str, Any]) -> Image:
    return Image(
        platform=_choice(value["platform"], ARCHITECTURES),
        file=value["file"],
        name=_text(value["name"], _IMAGE),
        config=_text(value["config"], _DIGEST),
    )


def _choice(value: Any, choices: dict[str, str]) -> str:
    if value not in choices:
        raise ValueError(f"platform {value!r}")
    return str(value)


def _text(value: Any, form: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise ValueError(f"value {value!r}")
    return value
