"""Lists what an image consists of; runs in it, with the standard library of Python 3.9."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path("/usr/local")
NPM = ROOT / "lib" / "node_modules"


def debian() -> list[dict[str, str]]:
    form = "${Package}\t${Version}\t${Architecture}\n"
    try:
        printed = _output("dpkg-query", "--show", f"--showformat={form}")
    except FileNotFoundError:
        return []
    rows = [line.split("\t") for line in printed.splitlines()]
    return [
        {"name": name, "version": version, "architecture": cpu, "licence": debian_licence(name)}
        for name, version, cpu in rows
    ]


def debian_licence(package: str) -> str:
    """The licences that the package's copyright file names, if it has the readable form."""
    try:
        text = Path("/usr/share/doc", package, "copyright").read_text(errors="replace")
    except OSError:
        return "not stated"
    if not text.startswith("Format:"):
        return f"see /usr/share/doc/{package}/copyright"
    names = re.findall(r"^License:[ \t]*(\S.*)$", text, re.MULTILINE)
    return ", ".join(sorted({name.strip() for name in names})) or "not stated"


def npm() -> list[dict[str, str]]:
    found = {}
    for path in NPM.rglob("package.json"):
        try:
            package = json.loads(path.read_text())
            name, version = package["name"], package["version"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        # A directory below a package may have a package.json of its own that names nothing.
        if isinstance(name, str) and isinstance(version, str):
            found[name, version] = str(package.get("license") or "not stated")
    return [
        {"name": name, "version": version, "licence": licence}
        for (name, version), licence in sorted(found.items())
    ]


def programs() -> dict[str, str]:
    found = {}
    for name in ("claude", "node", "npm", "uv", "python3", "git"):
        try:
            printed = _output(name, "--version")
        except (FileNotFoundError, subprocess.SubprocessError):
            continue
        version = re.search(r"\d+\.\d+[\w.]*", printed)
        if version is not None:
            found[name] = version[0]
    return found


def _output(*argv: str) -> str:
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    return done.stdout


if __name__ == "__main__":
    json.dump({"debian": debian(), "npm": npm(), "programs": programs()}, sys.stdout)
