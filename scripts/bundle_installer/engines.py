"""The container engine that is there: Docker or Podman, through its command line."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bundle_installer.progress import Progress
from bundle_installer.refusal import Refused

NAMES: Final = ("docker", "podman")
_ARCHITECTURE: Final = {
    "docker": ("version", "--format={{.Server.Arch}}"),
    "podman": ("info", "--format={{.Host.Arch}}"),
}
"""Fails where the engine does not answer, and with a ``docker`` that is Podman in disguise."""
_SECONDS: Final = 60
_LOAD_SECONDS: Final = 1800
_CHUNK: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Engine:
    name: str
    architecture: str
    """Of the machine that runs the containers, in the engine's words."""

    def image_id(self, name: str) -> str | None:
        done = _run(self.name, "image", "inspect", "--format={{.Id}}", name)
        return done.stdout.strip().removeprefix("sha256:") if done.returncode == 0 else None

    def load(self, archive: Path, what: str = "session") -> None:
        """Load an image, with progress; ``what`` names it there.

        Raises:
            Refused: the engine does not take it
        """
        progress = Progress(f"Loading the {what} image into {self.name}", archive.stat().st_size)
        process = subprocess.Popen(
            [self.name, "load", "--quiet"], env=_environment(),
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        timer = threading.Timer(_LOAD_SECONDS, process.kill)
        timer.start()
        said: list[bytes] = []
        assert process.stdin is not None
        assert process.stderr is not None
        reader = threading.Thread(
            target=lambda pipe: said.append(pipe.read()), args=[process.stderr]
        )
        reader.start()
        try:
            # One that stops reading has failed, and says why.
            with (
                contextlib.suppress(BrokenPipeError),
                archive.open("rb") as file,
                gzip.GzipFile(fileobj=file) as unpacked,  # Podman 4.3 takes no compressed one
                process.stdin as stdin,
            ):
                done = 0
                while chunk := unpacked.read(_CHUNK):
                    stdin.write(chunk)
                    progress.add(file.tell() - done)
                    done = file.tell()
            process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            timer.cancel()
            reader.join()
            process.stderr.close()
        if process.returncode:
            words = b"".join(said).decode(errors="replace").strip()[-500:]
            raise Refused(f"{self.name} could not load the image: {words or 'it gave no reason'}")

    def remove_image(self, image: str) -> bool:
        """Remove an image that no container uses and that has at most the name it is called by."""
        tags = _run(self.name, "image", "inspect", "--format={{len .RepoTags}}", image)
        named = not all(char in "0123456789abcdef" for char in image)
        if tags.returncode or int(tags.stdout) != int(named):
            return False
        return _run(self.name, "image", "rm", image).returncode == 0


def find(wanted: str | None) -> Engine:
    """The engine of that name, or the first one that answers.

    Raises:
        Refused
    """
    names = (wanted,) if wanted else NAMES
    for name in names:
        if name not in NAMES:
            raise Refused(f"There is no engine {name!r}: it is docker or podman.")
        if shutil.which(name) is None:
            continue
        done = _run(name, *_ARCHITECTURE[name])
        if done.returncode == 0 and done.stdout.strip():
            return Engine(name, done.stdout.strip())
        if wanted:
            words = done.stderr.strip().splitlines()[-1:] or ["it gave no reason"]
            raise Refused(f"{name} does not answer: {words[0]}")
    raise Refused(
        f"No container engine answers: tried {' and '.join(names)}. Start one, or install without "
        "the image with --no-image."
    )


def _environment() -> Mapping[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8", "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}


def _run(*argv: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 1, "", f"no answer within {_SECONDS} s")
