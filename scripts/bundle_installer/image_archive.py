"""The archive of an image: Docker's own format in its smallest form, which Podman loads too.

It holds ``manifest.json``, one configuration and its layers, and nothing else: an archive with a
second image, or another name for it, could replace an image of the engine that is none of ours.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import zlib
from pathlib import Path
from typing import Any, Final

from bundle_installer.manifest import ARCHITECTURES, Image
from bundle_installer.names import check_name
from bundle_installer.refusal import Refused

MANIFEST: Final = "manifest.json"
MAX_MEMBERS: Final = 1_000
MAX_JSON_BYTES: Final = 4 * 1024 * 1024
_ERRORS: Final = (OSError, EOFError, tarfile.TarError, zlib.error, ValueError, LookupError,
                  TypeError, AttributeError, RecursionError)  # fmt: skip
"""What reading a hostile archive, and the JSON in it, can raise."""


def check(path: Path, image: Image) -> None:
    """Check that an archive is that image, for that platform, and holds nothing else.

    Raises:
        Refused
    """
    try:
        names, texts = _members(path)
        described = json.loads(texts[MANIFEST])
        (entry,) = described
        config = texts[entry["Config"]]
        architecture = json.loads(config)["architecture"]
        tags = entry["RepoTags"]
        expected = {MANIFEST, entry["Config"], *entry["Layers"]}
    except _ERRORS as error:
        raise Refused(f"{path.name} is no archive of one image: {_said(error)}.") from error
    if names != expected:
        name = min(names ^ expected)
        raise Refused(
            f"{path.name} has a member that does not belong there, or lacks it: {name!r}."
        )
    if tags != [image.name]:
        raise Refused(f"{path.name} would name its image {tags}, not {image.name}.")
    if hashlib.sha256(config).hexdigest() != image.config:
        raise Refused(f"{path.name} holds another image than the manifest says.")
    if architecture != ARCHITECTURES[image.platform]:
        raise Refused(f"{path.name} is for {architecture}, not for {image.platform}.")


def _members(path: Path) -> tuple[set[str], dict[str, bytes]]:
    """All names, and the content of the small members."""
    names: set[str] = set()
    texts: dict[str, bytes] = {}
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            name = check_name(member.name, path.name)
            if not member.isreg() or name in names or len(names) >= MAX_MEMBERS:
                raise Refused(f"{path.name} has a member that does not belong there, {name!r}.")
            names.add(name)
            if name.endswith(".json") and member.size <= MAX_JSON_BYTES:
                content = archive.extractfile(member)
                assert content is not None
                texts[name] = content.read()
    return names, texts


def _said(error: BaseException) -> Any:
    return f"{type(error).__name__} {error}".strip()
