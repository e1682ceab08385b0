"""Archives and programs of one file, the same byte for byte for the same contents."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bundle_installer import manifest

FIRST: Final = (manifest.NAME, manifest.SIGNATURE)
"""The installer reads these before anything else."""
_DATE: Final = (1980, 1, 1, 0, 0, 0)


def write_archive(parts: Path, name: str, target: Path, epoch: int) -> None:
    """The files of a directory as an archive, in a directory of that name."""
    files = files_below(parts)
    ordered = [*(each for each in FIRST if each in files),
               *(each for each in files if each not in FIRST)]  # fmt: skip
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in ordered:
            member = tarfile.TarInfo(f"{name}/{path}")
            member.size = (parts / path).stat().st_size
            member.mode = 0o755 if path.endswith(".sh") else 0o644
            member.mtime = epoch
            with (parts / path).open("rb") as file:
                archive.addfile(member, file)


def files_below(directory: Path) -> list[str]:
    found = (path for path in directory.rglob("*") if path.is_file())
    return sorted(path.relative_to(directory).as_posix() for path in found)


def write_program(target: Path, start: str, packages: Sequence[Path]) -> None:
    """Python packages as one file that any Python runs; the module ``start`` has ``main``."""
    lines = f"import sys\nfrom {start} import main\nsys.exit(main(sys.argv[1:]))\n"
    contents = {"__main__.py": lines.encode()}
    for package in packages:
        for path in package.glob("*.py"):
            contents[f"{package.name}/{path.name}"] = path.read_bytes()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, contents[name], zipfile.ZIP_DEFLATED)
