"""This machine: which wheels run on it, and with which Python."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from typing import Final

from bundle_installer.manifest import Manifest
from bundle_installer.refusal import Refused

_MACHINES: Final = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
_SECONDS: Final = 30


def this_platform() -> str:
    machine = platform.machine().lower()
    return f"{platform.system().lower()}-{_MACHINES.get(machine, machine)}"


def check_platform(manifest: Manifest) -> str:
    """The platform of this machine, if the bundle is for it.

    Raises:
        Refused
    """
    ours = this_platform()
    if ours not in manifest.platforms:
        names = ", ".join(manifest.platforms)
        raise Refused(f"The bundle is for {names}, and this machine is {ours}.")
    library = _c_library()
    if library is None or _numbers(library) < _numbers(manifest.glibc):
        have = f"glibc {library}" if library else "another C library"
        raise Refused(f"The bundle needs glibc {manifest.glibc} or later; this machine has {have}.")
    return ours


def find_python(manifest: Manifest) -> tuple[str, str]:
    """A Python that the bundle has wheels for, this one if possible: its program and version.

    Raises:
        Refused
    """
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if ours in manifest.pythons:
        return sys.executable, ours
    for version in manifest.pythons:
        program = shutil.which(f"python{version}")
        if program is not None and _runs(program, version):
            return program, version
    raise Refused(
        f"The bundle has wheels for Python {', '.join(manifest.pythons)}. This is Python {ours}, "
        "and none of those is on PATH."
    )


def _runs(program: str, version: str) -> bool:
    """A program of that name may be a shim for a version that is not there."""
    code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run(
            [program, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.strip() == version


def _c_library() -> str | None:
    """The version of glibc; None with another C library."""
    try:
        named = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return None
    name, _, version = named.partition(" ")
    return version if name == "glibc" and version else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])
