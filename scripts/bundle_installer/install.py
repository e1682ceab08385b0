"""Installs a verified bundle, virtual environment, image and link, and takes it away again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from bundle_installer import engines, machine, places
from bundle_installer.manifest import ARCHITECTURES, Image, Manifest, requirements_name
from bundle_installer.places import Places
from bundle_installer.progress import say
from bundle_installer.refusal import Refused

INSTALLER_FILES: Final = ("install.sh", "installer.pyz")
"""Kept with the installation, for its end and for the check of the next bundle."""
_SECONDS: Final = 600
_DOCTOR_SECONDS: Final = 120


def install(
    manifest: Manifest, bundle: Path, where: Places, *, engine_name: str | None, image: bool
) -> engines.Engine | None:
    """Make a verified bundle the installation; returns the engine that has the image now.

    Raises:
        Refused: nothing was changed
    """
    where.check_link()
    platform = machine.check_platform(manifest)
    python = machine.find_python(manifest)
    engine = engines.find(engine_name) if image else None
    chosen = _image_for(manifest, engine) if engine is not None else None
    version = where.versions / manifest.id
    before = where.record() or {}
    changed = _make_version(manifest, bundle, version, platform, python)
    try:
        if engine is not None and chosen is not None:
            changed |= _load(chosen, bundle, engine, version, before)
    except Refused:
        if places.read_record(where.current) is None or where.current.resolve() != version:
            shutil.rmtree(version)
        raise
    previous = where.current.resolve().name if before else manifest.id
    if previous != manifest.id or not where.link.is_symlink():
        where.switch(manifest.id)
        changed = True
    if not changed:
        say(f"claude-mcp {manifest.id} is installed already; nothing was changed.")
        return engine
    for name in where.remove_unused(manifest.id, previous):
        say(f"The old version {name} stays, because a program runs from it.")
    say(f"claude-mcp {manifest.version} is installed in {version}; the program is {where.link}.")
    if before and previous != manifest.id:
        say("Sessions run on. A server that runs uses the old version until it is started again.")
    return engine


def _image_for(manifest: Manifest, engine: engines.Engine) -> Image:
    for image in manifest.images:
        if ARCHITECTURES[image.platform] == engine.architecture:
            return image
    have = ", ".join(image.platform for image in manifest.images) or "no platform"
    raise Refused(
        f"The bundle has an image for {have}, and {engine.name} runs containers on "
        f"{engine.architecture}. Install without the image with --no-image."
    )


def _make_version(
    manifest: Manifest, bundle: Path, version: Path, platform: str, python: tuple[str, str]
) -> bool:
    """Make the version's directory; whether it was not there, whole."""
    record = places.read_record(version)
    if record is not None and _runs(version, manifest):
        return False
    shutil.rmtree(version, ignore_errors=True)  # from an installation that was interrupted
    version.mkdir(parents=True)
    try:
        say(f"Making a virtual environment with Python {python[1]}")
        venv = version / "venv"
        _done("The virtual environment", python[0], "-m", "venv", "--without-pip", str(venv))
        requirements = bundle / requirements_name(platform, python[1])
        (pip,) = (bundle / "wheels").glob("pip-*.whl")
        say("Installing the wheels")
        _done(
            "pip", str(venv / "bin" / "python"), str(pip / "pip"), "--isolated", "install",
            "--quiet", "--disable-pip-version-check", "--no-input", "--no-cache-dir", "--no-index",
            "--no-deps", "--require-hashes", "--only-binary=:all:",
            f"--find-links={bundle / 'wheels'}", f"--requirement={requirements}",
        )  # fmt: skip
        for name in INSTALLER_FILES:
            shutil.copy2(bundle / name, version / name)
        if not _runs(version, manifest):
            raise Refused("What was installed does not start.")
        places.write_record(version, {"manifest": manifest.digest, "version": manifest.version,
                                      "images": {}})  # fmt: skip
    except BaseException:
        shutil.rmtree(version, ignore_errors=True)
        raise
    return True


def _runs(version: Path, manifest: Manifest) -> bool:
    try:
        done = _run(str(version / "venv" / "bin" / places.PROGRAM), "--version")
    except OSError:
        return False
    return done.returncode == 0 and done.stdout.strip() == f"claude-mcp {manifest.version}"


def _load(
    image: Image, bundle: Path, engine: engines.Engine, version: Path, before: dict[str, Any]
) -> bool:
    """Load the image unless the engine has it; whether anything was changed."""
    record = places.read_record(version) or {}
    images = record.setdefault("images", {})
    there = engine.image_id(image.name)
    known = images.get(engine.name, {}).get("id")
    if there is not None and there in (image.config, known):
        if known == there:
            return False
    else:
        if there is not None:
            say(f"It replaces the image that {engine.name} calls {image.name} now.")
        engine.load(bundle / image.file)
    loaded = engine.image_id(image.name)
    if loaded is None:
        raise Refused(f"{engine.name} has loaded the image, but not under the name {image.name}.")
    images[engine.name] = {"name": image.name, "id": loaded}
    places.write_record(version, record)
    old = before.get("images", {}).get(engine.name, {}).get("id")
    if old not in (None, loaded) and not engine.remove_image(old):
        say("The old image stays, because containers use it.")
    return True


def doctor(where: Places, engine: engines.Engine | None) -> bool:
    """Show what the installed program's own check finds; whether sessions can be used."""
    say("Checking the installation with 'claude-mcp doctor':")
    chosen = [f"--engine={engine.name}"] if engine else []
    done = subprocess.run(
        [where.link, *chosen, "doctor"], env=_environment(), stdin=subprocess.DEVNULL,
        timeout=_DOCTOR_SECONDS, check=False,
    )  # fmt: skip
    return done.returncode == 0


def uninstall(where: Places, *, leave_sessions: bool) -> None:
    """Remove the program, and the images that it brought and nobody uses.

    Raises:
        Refused: there is nothing, or sessions exist
    """
    record = where.record()
    if record is None:
        raise Refused(f"Nothing is installed in {where.directory}.")
    images = record.get("images", {})
    for name in images:
        sessions = _sessions(where, name)
        if sessions and not leave_sessions:
            raise Refused(
                f"Sessions exist in {name}: {', '.join(sessions)}. Destroy them with "
                "'claude-mcp destroy', or pass --leave-sessions."
            )
    for name, image in images.items():
        with contextlib.suppress(Refused):
            engine = engines.find(name)
            if engine.image_id(image["name"]) != image["id"]:
                continue
            if engine.remove_image(image["name"]):
                say(f"The image {image['name']} is removed from {name}.")
            else:
                say(
                    f"The image {image['name']} stays in {name}: containers use it, or other names."
                )
    where.remove_link()
    where.current.unlink()
    shutil.rmtree(where.versions)
    where.key.unlink(missing_ok=True)
    say(f"claude-mcp is removed from {where.directory}. Its configuration file stays.")


def _sessions(where: Places, engine: str) -> list[str]:
    program = str(where.link_target)
    try:
        done = _run(program, f"--engine={engine}", "list", "--json")
        listed = json.loads(done.stdout)["sessions"]
        return [str(each["sessionName"]) for each in listed]
    except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired):
        say(f"The sessions in {engine} cannot be listed, so whatever is there stays.")
        return []


def _done(what: str, *argv: str) -> None:
    done = _run(*argv)
    if done.returncode:
        words = (done.stderr or done.stdout).strip()[-1000:]
        raise Refused(f"{what} could not be made: {words}" if what != "pip" else
                      f"The wheels could not be installed: {words}")  # fmt: skip


def _run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=_SECONDS, check=False,
    )  # fmt: skip


def _environment() -> dict[str, str]:
    """Without what would lead Python or pip to other packages."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "PYTHON")) and name != "VIRTUAL_ENV"
    }
