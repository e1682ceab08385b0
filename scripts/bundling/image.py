"""The session image of a bundle: saved by the engine, and written anew in its smallest form.

The archive that is written is the same, byte for byte, for the same image, whichever engine saved
it. ``bundle_installer.image_archive`` says what it may hold.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from bundle_installer.image_archive import MANIFEST
from bundle_installer.manifest import ARCHITECTURES
from bundle_installer.refusal import Refused

INVENTORY: Final = Path(__file__).with_name("inventory.py")
_SECONDS: Final = 900
_CHUNK: Final = 1024 * 1024
_GZIP: Final = b"\x1f\x8b"
_LEVEL: Final = 6


@dataclass(frozen=True, slots=True)
class Saved:
    name: str
    platform: str
    config: str
    layers: tuple[str, ...]


def save(engine: str, name: str, target: Path, scratch: Path) -> Saved:
    """Write the archive of an image that the engine has.

    Raises:
        Refused: it has none of that name, or one that a bundle cannot carry
    """
    raw = scratch / "saved.tar"
    with raw.open("wb") as file:
        done = subprocess.run(
            [engine, "save", name], stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.PIPE,
            timeout=_SECONDS, check=False,
        )  # fmt: skip
    if done.returncode:
        raise Refused(
            f"{engine} cannot save {name}: {done.stderr.decode(errors='replace').strip()}"
        )
    try:
        return rewrite(raw, name, target)
    finally:
        raw.unlink()


def rewrite(raw: Path, name: str, target: Path) -> Saved:
    """Write the image in an archive of ``docker save`` or ``podman save`` anew.

    Raises:
        Refused: it has another form
    """
    with tarfile.open(raw) as archive:
        try:
            (entry,) = json.loads(_content(archive, MANIFEST))
            config = _content(archive, entry["Config"])
            described = json.loads(config)
            digests = [each.removeprefix("sha256:") for each in described["rootfs"]["diff_ids"]]
            layers = list(zip(digests, entry["Layers"], strict=True))
        except (KeyError, ValueError, TypeError) as error:
            raise Refused(f"The archive of {name} has an unknown form: {error}.") from error
        platform = _platform(described, name)
        digest = hashlib.sha256(config).hexdigest()
        entry = {
            "Config": f"{digest}.json",
            "RepoTags": [name],
            "Layers": [f"{each}.tar" for each in digests],
        }
        with (
            target.open("wb") as file,
            gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.GNU_FORMAT) as written,
        ):
            _add(written, MANIFEST, json.dumps([entry]).encode())
            _add(written, f"{digest}.json", config)
            for layer, member in dict(layers).items():
                _copy_layer(archive, member, layer, written)
    return Saved(name, platform, digest, tuple(digests))


def _platform(described: dict[str, Any], name: str) -> str:
    for platform, architecture in ARCHITECTURES.items():
        if (described.get("os"), described.get("architecture")) == ("linux", architecture):
            return platform
    raise Refused(f"{name} is for {described.get('os')}/{described.get('architecture')}.")


def _copy_layer(archive: tarfile.TarFile, member: str, digest: str, into: tarfile.TarFile) -> None:
    """Copy a layer, uncompressed; an engine may have saved it compressed."""
    size, found = 0, hashlib.sha256()
    with _layer(archive, member) as content:
        while chunk := content.read(_CHUNK):
            size += len(chunk)
            found.update(chunk)
    if found.hexdigest() != digest:
        raise Refused(f"The layer {member} is not the one that the image names.")
    info = tarfile.TarInfo(f"{digest}.tar")
    info.size = size
    with _layer(archive, member) as content:
        into.addfile(info, content)


def _layer(archive: tarfile.TarFile, member: str) -> IO[bytes]:
    file = archive.extractfile(member)
    if file is None:
        raise Refused(f"The layer {member} is no file.")
    packed = file.read(len(_GZIP)) == _GZIP
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[return-value]


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    return file.read()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def inventory(engine: str, name: str) -> dict[str, Any]:
    """The Debian packages, npm packages and programs in an image, as it says itself.

    Raises:
        Refused: it cannot be run here, or does not answer
    """
    with INVENTORY.open("rb") as program:
        done = subprocess.run(
            [engine, "run", "--rm", "--interactive", "--network=none", "--entrypoint=python3", name,
             "-"],
            stdin=program, capture_output=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
    try:
        if done.returncode:
            raise ValueError(done.stderr.decode(errors="replace").strip()[-500:])
        value = json.loads(done.stdout)
        if not isinstance(value, dict):
            raise ValueError("no object")
    except ValueError as error:
        raise Refused(f"What {name} consists of cannot be listed: {error}") from error
    return value
