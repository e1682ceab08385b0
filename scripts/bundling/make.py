"""Makes a bundle: gathers its parts in a directory, then writes manifest, signature, archive."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any, Final

from bundle_installer import engines, machine, manifest, signature
from bundle_installer.progress import say
from bundle_installer.refusal import Refused

from bundling import image, lock, packing, sbom, wheels
from bundling.image import Saved

CHECKOUT: Final = Path(__file__).resolve().parents[2]
LOCK: Final = CHECKOUT / "scripts" / "requirements.lock"
INSTALLER: Final = CHECKOUT / "scripts" / "bundle_installer"
DEFAULT_IMAGE: Final = "claude-code-custom:latest"


def main(argv: list[str]) -> int:
    options = _options(argv)
    try:
        with tempfile.TemporaryDirectory(
            prefix="claude-mcp-bundle-", dir=options.scratch
        ) as scratch:
            archive = make(options, Path(scratch))
    except Refused as refusal:
        say(str(refusal))
        return 1
    print(archive)
    return 0


def make(options: argparse.Namespace, scratch: Path) -> Path:
    """Make the bundle that the options ask for; returns its archive.

    Raises:
        Refused
    """
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    parts = scratch / "parts"
    for name in ("wheels", "requirements", "images"):
        (parts / name).mkdir(parents=True)
    pythons = options.python or supported_pythons()
    platforms = options.platform or [machine.this_platform()]
    for platform in platforms:
        if platform not in manifest.ARCHITECTURES:
            names = ", ".join(manifest.ARCHITECTURES)
            raise Refused(f"There are no bundles for {platform}: choose from {names}.")
    say(f"Gathering wheels for Python {', '.join(pythons)} on {', '.join(platforms)}")
    chosen = wheels.download(
        lock.read(options.lock), pythons, platforms, parts / "wheels", options.wheel_dir
    )
    if options.wheel:
        ours = wheels.described(Path(shutil.copy2(options.wheel, parts / "wheels")))
    else:
        ours = wheels.described(wheels.build_ours(CHECKOUT, parts / "wheels", epoch))
    for (platform, python), entries in chosen.items():
        path = parts / manifest.requirements_name(platform, python)
        path.write_text(wheels.requirements(entries, ours))
    images = _images(options, platforms, parts, scratch)
    _add_installer(parts)
    shutil.copy2(CHECKOUT / "LICENSE", parts / "LICENSE")
    shutil.copy2(options.lock, parts / "requirements.lock")
    if options.sources is not None:
        say("Adding what the image is built from")
        shutil.copytree(options.sources, parts / "sources")
    found = sbom.components([wheels.described(each) for each in _wheel_files(parts)], images)
    _write_json(parts / "sbom.cdx.json", sbom.document(ours.version, epoch, found, ours))
    (parts / "licences.tsv").write_text(sbom.licences(found))
    described = {
        "format": manifest.FORMAT,
        "version": ours.version,
        "made": epoch,
        "platforms": platforms,
        "pythons": pythons,
        "glibc": ".".join(str(number) for number in wheels.GLIBC),
        "images": [
            {"platform": each.platform, "file": _image_file(each), "name": each.name,
             "config": each.config}
            for each, _ in images
        ],
        "programs": {each.platform: listed["programs"] for each, listed in images},
        "files": {path: _file(parts / path) for path in packing.files_below(parts)},
    }  # fmt: skip
    _write_json(parts / manifest.NAME, described)
    manifest.parse((parts / manifest.NAME).read_bytes())
    if options.sign:
        signature.sign(parts / manifest.NAME, options.sign)
    return _write(options, parts, f"claude-mcp-{ours.version}", platforms, epoch)


def supported_pythons() -> list[str]:
    """Those that the package's metadata names."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    lead = "Programming Language :: Python :: 3."
    return [
        f"3.{each.removeprefix(lead)}" for each in project["classifiers"] if each.startswith(lead)
    ]


def _images(
    options: argparse.Namespace, platforms: list[str], parts: Path, scratch: Path
) -> list[tuple[Saved, dict[str, Any]]]:
    if options.no_image:
        return []
    engine = engines.find(options.engine).name
    saved: list[tuple[Saved, dict[str, Any]]] = []
    for name in options.image or [os.environ.get("DEFAULT_CLAUDE_IMAGE") or DEFAULT_IMAGE]:
        say(f"Saving {name} from {engine}")
        temporary = scratch / "image.tar.gz"
        one = image.save(engine, name, temporary, scratch)
        if one.platform in (each.platform for each, _ in saved):
            raise Refused(f"There are two images for {one.platform}.")
        temporary.rename(parts / _image_file(one))
        saved.append((one, image.inventory(engine, name)))
    missing = [each for each in platforms if each not in (one.platform for one, _ in saved)]
    if missing:
        raise Refused(
            f"No image is for {', '.join(missing)}: name one for each platform with --image, or "
            "make the bundle with --no-image."
        )
    return saved


def _image_file(saved: Saved) -> str:
    return f"images/{saved.platform}.tar.gz"


def _add_installer(parts: Path) -> None:
    """install.sh, and the installer as one file, which is the same for the same code."""
    shutil.copy2(INSTALLER / "install.sh", parts / "install.sh")
    (parts / "install.sh").chmod(0o755)
    packing.write_program(parts / "installer.pyz", "bundle_installer.__main__", [INSTALLER])


def _write(
    options: argparse.Namespace, parts: Path, name: str, platforms: list[str], epoch: int
) -> Path:
    target: Path = options.output
    if target.is_dir() or not target.suffix:
        target.mkdir(parents=True, exist_ok=True)
        target = target / f"{name}-{'-'.join(platforms)}.tar"
    say(f"Writing {target}")
    temporary = target.with_name(f".{target.name}.new")
    packing.write_archive(parts, name, temporary, epoch)
    temporary.replace(target)
    with target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    target.with_name(f"{target.name}.sha256").write_text(f"{digest}  {target.name}\n")
    if options.sign:
        # For a check before anything in the archive is run.
        signature.sign(target, options.sign)
    say(f"{target.stat().st_size / 1e6:.0f} MB, SHA-256 {digest}")
    return target


def _wheel_files(parts: Path) -> list[Path]:
    return sorted((parts / "wheels").glob("*.whl"))


def _file(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "size": path.stat().st_size}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bundle", description=__doc__)
    add = parser.add_argument
    add("--output", type=Path, default=CHECKOUT / "dist", help="the archive, or a directory for it "
        "(default: dist)")  # fmt: skip
    add("--python", action="append", help="a Python version such as 3.12, may be given again "
        "(default: all that are supported)")  # fmt: skip
    add("--platform", action="append", help=f"one of {', '.join(manifest.ARCHITECTURES)}, may be "
        "given again (default: this machine's)")  # fmt: skip
    add("--image", action="append", help="the session image; one for each platform (default: "
        f"DEFAULT_CLAUDE_IMAGE, else {DEFAULT_IMAGE})")  # fmt: skip
    add("--no-image", action="store_true", help="leave the image out")
    add("--engine", help="docker or podman, which has the image (default: the one that answers)")
    add("--sign", type=Path, help="an SSH key to sign with: the private one, or the public one of "
        "an agent's")  # fmt: skip
    add("--sources", type=Path, help="also add what the image is built from: a directory of "
        "scripts/build-offline --record")  # fmt: skip
    add("--wheel", type=Path, help="this wheel of ours (default: built from the checkout)")
    add("--wheel-dir", type=Path, help="take the other wheels from there (default: from the index "
        "that pip is configured for)")  # fmt: skip
    add("--lock", type=Path, default=LOCK, help="the lock (default: scripts/requirements.lock)")
    add("--scratch", type=Path, help="where there is room for two images (default: TMPDIR)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
