"""Builds the session image without a network, from what a build with one has recorded.

A directory of sources holds the base image, every file that was fetched, the Dockerfile and this
program. ``scripts/build-offline --record`` makes it; a bundle can carry it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from bundle_installer import engines
from bundle_installer.engines import Engine
from bundle_installer.progress import say
from bundle_installer.refusal import Refused

from bundling import image, packing
from bundling.mirror import Mirror
from bundling.registries import NPM, PYPI

SCRIPTS: Final = Path(__file__).resolve().parents[1]
"""Of the checkout; inside of ``build.pyz`` it is that file."""
BASES: Final = ("docker.io/library/debian:bookworm-slim", "localhost/claude-mcp-base:bookworm")
BUILD_FILES: Final = (
    "Dockerfile.custom",
    "scripts/build-custom-image.sh",
    "scripts/setup.sh",
)
PROGRAM: Final = "build.pyz"
_DESCRIBED: Final = "sources.json"
_BASE: Final = "base.tar.gz"
_FILES: Final = "files"
_BUILD_SECONDS: Final = 3600
_NOT_PASSED: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def record(directory: Path, engine: Engine, tag: str | None) -> None:
    """Build the image, and keep all that the build needs.

    Raises:
        Refused
    """
    if directory.exists() and any(directory.iterdir()):
        raise Refused(f"{directory} is not empty.")
    directory.mkdir(parents=True, exist_ok=True)
    base = _find_base(engine)
    say(f"Saving the base image {base}")
    with tempfile.TemporaryDirectory(prefix="claude-mcp-base-") as scratch:
        saved = image.save(engine.name, base, directory / _BASE, Path(scratch))
    addresses = {
        "NPM_REGISTRY": os.environ.get("NPM_REGISTRY") or NPM,
        "PYPI_INDEX": os.environ.get("PYPI_INDEX") or PYPI,
    }
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or str(int(time.time()))
    described = {
        "base": base,
        "platform": saved.platform,
        "addresses": addresses,
        "epoch": epoch,
    }
    for name in BUILD_FILES:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(SCRIPTS.parent / name, directory / name)
    packages = [SCRIPTS / "bundle_installer", SCRIPTS / "bundling"]
    packing.write_program(directory / PROGRAM, "bundling.offline", packages)
    (directory / _DESCRIBED).write_text(json.dumps(described, indent=1) + "\n")
    with Mirror(directory / _FILES, record=True) as mirror:
        _build(directory, engine, tag, described, mirror)


def build(directory: Path, engine: Engine, tag: str | None) -> None:
    """Build the image from the sources in a directory.

    Raises:
        Refused
    """
    try:
        described = json.loads((directory / _DESCRIBED).read_text())
        base = str(described["base"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise Refused(f"{directory} holds no sources of the image: {error}.") from error
    if engine.image_id(base) is None:
        engine.load(directory / _BASE, "base")
    with Mirror(directory / _FILES) as mirror:
        _build(directory, engine, tag, described, mirror)


def _build(
    directory: Path, engine: Engine, tag: str | None, described: dict[str, Any], mirror: Mirror
) -> None:
    """Without a cache, so that everything is fetched, and the same for the same sources."""
    environment = {
        name: value for name, value in os.environ.items() if name.lower() not in _NOT_PASSED
    }
    for name, address in described["addresses"].items():
        environment[name] = mirror.through(address)
    environment |= {
        "BASE_IMAGE": described["base"],
        "http_proxy": mirror.url,
        "SOURCE_DATE_EPOCH": described["epoch"],
        # Debian's indexes say until when they are to be used.
        "APT_OPTIONS": "-o=Acquire::Check-Valid-Until=false",
    }
    script = str(directory / "scripts" / "build-custom-image.sh")
    argv = ["bash", script, "--no-install", "--no-cache", "--engine", engine.name]
    argv += ["--tag", tag] if tag else []
    done = subprocess.run(
        argv, env=environment, stdin=subprocess.DEVNULL, timeout=_BUILD_SECONDS, check=False
    )
    if done.returncode:
        missing = [path for path in mirror.missing if "/by-hash/" not in path][-5:]
        words = f" Not among the sources: {', '.join(missing)}." if missing else ""
        raise Refused(f"The image could not be built.{words}")


def _find_base(engine: Engine) -> str:
    given = os.environ.get("BASE_IMAGE")
    for name in (given,) if given else BASES:
        if engine.image_id(name) is not None:
            return name
    raise Refused(
        f"{engine.name} has no base image: scripts/build-custom-image.sh fetches one. Run it once."
    )


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "directory", nargs="?", type=Path, default=Path(sys.argv[0]).resolve().parent,
        help="the sources (default: the directory of this program)",
    )  # fmt: skip
    parser.add_argument("--record", action="store_true", help="make the directory, with a network")
    parser.add_argument("--engine", help="docker or podman (default: the first that answers)")
    parser.add_argument("--tag", help="the image's name (default: that of the session image)")
    options = parser.parse_args(argv)
    try:
        work = record if options.record else build
        work(options.directory.absolute(), engines.find(options.engine), options.tag)
    except Refused as refusal:
        say(str(refusal))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
