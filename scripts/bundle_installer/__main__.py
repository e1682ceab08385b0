"""The installer of a bundle: verifies it, installs it, checks the installation."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from bundle_installer import install, opening, places
from bundle_installer.places import Places
from bundle_installer.progress import say
from bundle_installer.refusal import Refused

FAILED: Final = 1
DOCTOR_FAILED: Final = 3
_EPILOGUE: Final = """\
Exit code 0: installed, and 'claude-mcp doctor' finds no failure. 1: refused or failed; nothing was
installed. 2: wrong options. 3: installed, and doctor found something to be done."""


def main(argv: list[str]) -> int:
    options = _options(argv)
    where = places.default_places(options.directory, options.bin)
    try:
        if options.verify:
            key = Path(options.key) if options.key else None
            with (
                tempfile.TemporaryDirectory(prefix="claude-mcp-verify-") as scratch,
                opening.opened(Path(options.bundle), Path(scratch), key) as (manifest, _),
            ):
                say(f"The bundle is whole: claude-mcp {manifest.id}.")
            return 0
        existed = where.directory.exists()
        with places.locked(where):
            try:
                return _work(options, where)
            finally:
                _tidy(where, existed)
    except Refused as refusal:
        say(str(refusal))
        return FAILED
    except KeyboardInterrupt:
        say("Interrupted; the next run begins anew.")
        return 130


def _work(options: argparse.Namespace, where: Places) -> int:
    if options.uninstall:
        install.uninstall(where, leave_sessions=options.leave_sessions)
        return 0
    given = Path(options.key).absolute() if options.key else None
    key = given or (where.key if where.key.exists() else None)
    with opening.opened(Path(options.bundle).absolute(), where.directory, key) as (manifest, files):
        engine = install.install(
            manifest, files, where, engine_name=options.engine, image=not options.no_image
        )
    if given is not None and not where.key.exists():
        shutil.copyfile(given, where.key)
    return 0 if install.doctor(where, engine) else DOCTOR_FAILED


def _tidy(where: Places, existed: bool) -> None:
    """Leave no empty directories where nothing is installed."""
    if where.record() is not None:
        return
    with contextlib.suppress(OSError):
        where.versions.rmdir()
    with contextlib.suppress(OSError):
        where.bin.relative_to(where.directory)
        where.bin.rmdir()
    (where.directory / ".lock").unlink(missing_ok=True)
    if not existed or not any(where.directory.iterdir()):
        with contextlib.suppress(OSError):
            where.directory.rmdir()


def _options(argv: list[str]) -> argparse.Namespace:
    here = Path(sys.argv[0]).resolve().parent
    parser = argparse.ArgumentParser(prog="install.sh", description=__doc__, epilog=_EPILOGUE)
    add = parser.add_argument
    add("bundle", nargs="?", default=str(here), help="the archive, or the directory it was "
        "unpacked into (default: the one of install.sh)")  # fmt: skip
    add("--engine", help="docker or podman (default: the first that answers)")
    add("--no-image", action="store_true", help="install the program only")
    add("--key", help="a file with public keys, one of which must have signed the bundle; it is "
        "remembered for later bundles")  # fmt: skip
    add("--directory", help="where to install (default: /opt/claude-mcp as root, else "
        "~/.local/share/claude-mcp)")  # fmt: skip
    add("--bin", help="where to put the link to the program (default: /usr/local/bin as root, else "
        "~/.local/bin; with --directory, its bin)")  # fmt: skip
    add("--verify", action="store_true", help="only verify the bundle")
    add("--uninstall", action="store_true", help="remove the installation")
    add(
        "--leave-sessions",
        action="store_true",
        help="with --uninstall: sessions may exist, and stay",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
