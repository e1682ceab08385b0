"""Opens a bundle, an archive or the directory it was unpacked into, and verifies all of it.

The rule: whatever differs from the manifest is named, and a failure leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from bundle_installer import image_archive, signature
from bundle_installer import manifest as manifests
from bundle_installer.manifest import Manifest
from bundle_installer.names import check_name, check_wheel
from bundle_installer.progress import Progress, say
from bundle_installer.refusal import Refused

MAX_SIGNATURE_BYTES: Final = 100_000
_CHUNK: Final = 1024 * 1024


@contextmanager
def opened(source: Path, scratch: Path, key: Path | None) -> Iterator[tuple[Manifest, Path]]:
    """The verified manifest of a bundle, and the directory with its files.

    An archive is unpacked below ``scratch``, and removed from there in the end.

    Raises:
        Refused
    """
    if source.is_dir():
        manifest = _read_directory(source, key)
        _check_contents(manifest, source)
        yield manifest, source
        return
    directory = scratch / "unpacked"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    try:
        manifest = _unpack(source, directory, key)
        _check_contents(manifest, directory)
        yield manifest, directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _read_directory(source: Path, key: Path | None) -> Manifest:
    raw = _small(source / manifests.NAME, manifests.MAX_BYTES)
    signed = source / manifests.SIGNATURE
    _check_signature(raw, signed if os.path.lexists(signed) else None, key)
    manifest = manifests.parse(raw)
    found = set(_files_below(source)) - {manifests.NAME, manifests.SIGNATURE}
    _check_complete(manifest, found)
    progress = Progress("Verifying the bundle", manifest.total_bytes)
    for path in sorted(manifest.files):
        with (source / path).open("rb") as file:
            _compare(manifest, path, file, progress, lambda _: None)
    return manifest


def _files_below(directory: Path) -> Iterator[str]:
    """Raises Refused for whatever is neither file nor directory."""
    for root, directories, files in os.walk(directory):
        for name in (*directories, *files):
            path = Path(root) / name
            relative = path.relative_to(directory).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                yield relative
            elif not stat.S_ISDIR(mode):
                raise Refused(f"The bundle has a member that is no file, {relative!r}.")


def _unpack(source: Path, directory: Path, key: Path | None) -> Manifest:
    try:
        with tarfile.open(source, "r:") as archive:
            return _unpack_members(archive, directory, key)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise Refused(f"{source} is no bundle, or a damaged one: {error}.") from error


def _unpack_members(archive: tarfile.TarFile, directory: Path, key: Path | None) -> Manifest:
    """The manifest is first, the signature second, if there is one."""
    manifest: Manifest | None = None
    raw: bytes | None = None
    progress: Progress | None = None
    found: set[str] = set()
    for member in archive:
        full = check_name(member.name, "The bundle")
        _, separator, path = full.partition("/")
        if not (member.isreg() or member.isdir()) or member.sparse is not None:
            raise Refused(f"The bundle has a member that is no file, {full!r}.")
        if member.isdir():
            continue
        if not separator or path in found:
            raise Refused(f"The bundle has a member that does not belong there, {full!r}.")
        content = archive.extractfile(member)
        assert content is not None
        if raw is None:
            if path != manifests.NAME or member.size > manifests.MAX_BYTES:
                raise Refused(f"The bundle does not begin with its {manifests.NAME}.")
            raw = content.read()
            (directory / manifests.NAME).write_bytes(raw)
            continue
        if path == manifests.SIGNATURE and manifest is None:
            if member.size > MAX_SIGNATURE_BYTES:
                raise Refused(f"{path} is larger than {MAX_SIGNATURE_BYTES} bytes.")
            (directory / path).write_bytes(content.read())
            continue
        if manifest is None or progress is None:
            manifest = _checked_manifest(raw, directory, key)
            progress = Progress("Unpacking and verifying the bundle", manifest.total_bytes)
        _place(manifest, path, content, directory, progress)
        found.add(path)
    if raw is None:
        raise Refused("The bundle is empty.")
    manifest = manifest or _checked_manifest(raw, directory, key)
    _check_complete(manifest, found)
    return manifest


def _checked_manifest(raw: bytes, directory: Path, key: Path | None) -> Manifest:
    signed = directory / manifests.SIGNATURE
    _check_signature(raw, signed if signed.exists() else None, key)
    return manifests.parse(raw)


def _place(
    manifest: Manifest, path: str, content: IO[bytes], directory: Path, progress: Progress
) -> None:
    target = directory / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        _compare(manifest, path, content, progress, file.write)


def _compare(
    manifest: Manifest,
    path: str,
    content: IO[bytes],
    progress: Progress,
    write: Callable[[bytes], object],
) -> None:
    expected = manifest.files.get(path)
    if expected is None:
        raise Refused(f"The bundle has a file that its manifest does not list, {path!r}.")
    digest = hashlib.sha256()
    size = 0
    while chunk := content.read(min(_CHUNK, expected.size - size + 1)):
        size += len(chunk)
        if size > expected.size:
            break
        digest.update(chunk)
        write(chunk)
        progress.add(len(chunk))
    if size != expected.size or digest.hexdigest() != expected.sha256:
        raise Refused(
            f"{path} is damaged: it is not what the manifest says. Nothing was installed; "
            "copy the bundle again."
        )


def _check_complete(manifest: Manifest, found: set[str]) -> None:
    for path in sorted(found - manifest.files.keys()):
        raise Refused(f"The bundle has a file that its manifest does not list, {path!r}.")
    for path in sorted(manifest.files.keys() - found):
        raise Refused(f"{path} is missing from the bundle. Nothing was installed; copy it again.")


def _check_signature(raw: bytes, signed: Path | None, key: Path | None) -> None:
    if key is not None and signed is None:
        raise Refused(f"The bundle is not signed, and {key} asks for a signature.")
    if signed is None:
        return
    if key is None:
        say("The bundle is signed, but no --key was given to check that with.")
        return
    if not stat.S_ISREG(signed.lstat().st_mode):
        raise Refused(f"The bundle has a member that is no file, {signed.name!r}.")
    signature.check(raw, signed, key)
    say(f"The signature is right: a key of {key} made it.")


def _check_contents(manifest: Manifest, directory: Path) -> None:
    for path in sorted(manifest.files):
        if path.startswith("wheels/"):
            check_wheel(directory / path)
    for image in manifest.images:
        image_archive.check(directory / image.file, image)


def _small(path: Path, limit: int) -> bytes:
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise Refused(f"{path} is no file.")
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise Refused(f"{path.parent} is no bundle: {error}.") from error
