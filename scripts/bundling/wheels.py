"""The wheels of a bundle: ours, made from what git knows, and those that the lock names."""

from __future__ import annotations

import email
import email.message
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bundle_installer.refusal import Refused

from bundling import lock
from bundling.lock import Locked

GLIBC: Final = (2, 28)
"""The oldest C library that the wheels may need: that of the oldest distributions with a Python
that is new enough."""
_SECONDS: Final = 900
_CLASSIFIER: Final = "License :: "


@dataclass(frozen=True, slots=True)
class Wheel:
    """What a wheel says of itself."""

    file: str
    name: str
    version: str
    licence: str
    sha256: str


def pip_tags(platform: str) -> list[str]:
    """The tags of the wheels for a platform such as linux-x86_64, the newest first."""
    machine = platform.partition("-")[2]
    return [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC[1], 4, -1)] + [
        f"{name}_{machine}" for name in ("manylinux2014", "manylinux2010", "manylinux1")
    ]


def download(
    locked: list[Locked],
    pythons: list[str],
    platforms: list[str],
    target: Path,
    source: Path | None,
) -> dict[tuple[str, str], list[Locked]]:
    """Put the wheels for each Python and platform into a directory; returns which are for which.

    ``source`` is a directory to take them from; without it, pip's own configuration says where.

    Raises:
        Refused: there is no such wheel, or it has another hash
    """
    chosen: dict[tuple[str, str], list[Locked]] = {}
    for platform in platforms:
        for python in pythons:
            entries = lock.wanted(locked, python, platform)
            chosen[platform, python] = entries
            _pip_download(entries, python, platform, target, source)
    return chosen


def _pip_download(
    entries: list[Locked], python: str, platform: str, target: Path, source: Path | None
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        requirements = Path(directory) / "requirements.txt"
        requirements.write_text("".join(f"{each.requirement}\n" for each in entries))
        argv = [
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
            "--no-input", "--no-deps", "--require-hashes", "--only-binary=:all:",
            f"--dest={target}", f"--python-version={python}", "--implementation=cp",
            *(f"--platform={tag}" for tag in pip_tags(platform)),
            f"--requirement={requirements}",
        ]  # fmt: skip
        if source is not None:
            argv += ["--no-index", f"--find-links={source.absolute()}"]
        _run(argv, f"The wheels for Python {python} on {platform} could not be fetched")


def build_ours(checkout: Path, target: Path, epoch: int) -> Path:
    """Our wheel, from what git knows; the same bytes for the same sources and time.

    Raises:
        Refused
    """
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "source"
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=checkout, capture_output=True, text=True, check=True, timeout=60,
        ).stdout  # fmt: skip
        for name in filter(None, listed.split("\0")):
            if os.path.lexists(checkout / name):
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(checkout / name, source / name, follow_symlinks=False)
        built = Path(directory) / "built"
        argv = [sys.executable, "-m", "build", "--wheel", f"--outdir={built}", str(source)]
        _run(argv, "Our wheel could not be built", SOURCE_DATE_EPOCH=str(epoch))
        (wheel,) = built.glob("*.whl")
        return Path(shutil.copy2(wheel, target))


def described(path: Path) -> Wheel:
    """Name, version and licence of a wheel.

    Raises:
        Refused: it has no metadata
    """
    with zipfile.ZipFile(path) as archive:
        names = [
            name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)
        ]
        if len(names) != 1:
            raise Refused(f"{path.name} has no metadata.")
        metadata = email.message_from_bytes(archive.read(names[0]))
    return Wheel(
        file=path.name,
        name=str(metadata["Name"]),
        version=str(metadata["Version"]),
        licence=_licence(metadata),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def _licence(metadata: email.message.Message) -> str:
    """As the package words it: an expression, a classifier, or one line of text."""
    if expression := metadata["License-Expression"]:
        return str(expression)
    classifiers = [
        str(each).rpartition(" :: ")[2]
        for each in metadata.get_all("Classifier") or []
        if str(each).startswith(_CLASSIFIER)
    ]
    text = " ".join(str(metadata["License"] or "").split())
    return " AND ".join(classifiers) or (text if 0 < len(text) <= 80 else "not stated")


def requirements(entries: list[Locked], ours: Wheel) -> str:
    """What pip installs on the other side, ours included."""
    lines = [each.requirement for each in entries if each.name != "pip"]
    return "\n".join([f"{ours.name}=={ours.version} --hash=sha256:{ours.sha256}", *lines]) + "\n"


def _run(argv: list[str], failure: str, **environment: str) -> None:
    done = subprocess.run(
        argv, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise Refused("\n".join([f"{failure}:", *words]))
