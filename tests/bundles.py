"""A small bundle for tests: wheels made by hand, and an engine that is a program of a few lines.

The installer, Python's virtual environments and pip are the real ones.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from bundle_installer import machine
from bundle_installer.manifest import ARCHITECTURES
from bundling import make, packing

PYTHON: Final = f"{sys.version_info[0]}.{sys.version_info[1]}"
IMAGE: Final = "claude-code-custom:latest"
SECONDS: Final = 300

PROGRAM: Final = """
import json, os, sys
def main():
    words = [word for word in sys.argv[1:] if not word.startswith("--engine")]
    if words == ["--version"]:
        print("claude-mcp {version}")
    elif words == ["doctor"]:
        print("ok  doctor of {version}")
        return int(os.environ.get("DOCTORS_CODE", "0"))
    elif words == ["list", "--json"]:
        names = os.environ.get("SESSIONS", "").split()
        print(json.dumps({{"sessions": [{{"sessionName": name}} for name in names]}}))
    elif words == ["serve"]:
        print("serving", flush=True)
        sys.stdin.read()
"""

ENGINE: Final = """
import gzip, io, json, os, sys, tarfile
from pathlib import Path
store = Path(os.environ["FAKE_STORE"])
words = sys.argv[1:]
with (store / "log").open("a") as log:
    log.write(" ".join(words[:2]) + "\\n")
images = json.loads((store / "images").read_text())
if words[0] == "version":
    print((store / "architecture").read_text())
elif words[0] == "save":
    sys.stdout.buffer.write((store / "saved.tar").read_bytes())
elif words[0] == "run":
    print(json.dumps({"debian": [{"name": "git", "version": "1:2", "architecture": "amd64",
                                  "licence": "GPL-2"}],
                      "npm": [{"name": "npm", "version": "11.0.0", "licence": "Artistic-2.0"}],
                      "programs": {"claude": "2.1.0", "uv": "0.13.9"}}))
elif words[0] == "load":
    if (store / "full").exists():
        sys.exit("no space left on device")
    with tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read())) as archive:
        (entry,) = json.load(archive.extractfile("manifest.json"))
    images[entry["RepoTags"][0]] = entry["Config"].removesuffix(".json")
    images[images[entry["RepoTags"][0]]] = images[entry["RepoTags"][0]]
elif words[:2] == ["image", "inspect"]:
    if words[3] not in images:
        sys.exit(1)
    names = [name for name in images if ":" in name and images[name] == images[words[3]]]
    print("sha256:" + images[words[3]] if words[2] == "--format={{.Id}}" else len(names))
elif words[:2] == ["image", "rm"]:
    removed = images[words[2]]
    images = {name: each for name, each in images.items() if each != removed}
(store / "images").write_text(json.dumps(images))
"""


class FakeEngine:
    """A ``docker`` on PATH that keeps images in a directory."""

    def __init__(self, directory: Path) -> None:
        self.store = directory / "store"
        self.store.mkdir(parents=True)
        self.bin = directory / "bin"
        self.bin.mkdir()
        program = self.bin / "docker"
        program.write_text(f"#!{sys.executable}\n{ENGINE}")
        program.chmod(0o755)
        (self.store / "images").write_text("{}")
        self.is_for(machine.this_platform())

    def is_for(self, platform: str) -> None:
        (self.store / "architecture").write_text(ARCHITECTURES[platform])

    @property
    def images(self) -> dict[str, str]:
        found = json.loads((self.store / "images").read_text())
        return {name: each for name, each in found.items() if ":" in name}

    @property
    def log(self) -> list[str]:
        return (self.store / "log").read_text().splitlines()

    def has(self, layer: bytes) -> None:
        """What ``save`` writes: an image with this layer."""
        (self.store / "saved.tar").write_bytes(saved_image(layer))

    def environment(self) -> dict[str, str]:
        names = ("HOME", "TMPDIR", "LANG")
        kept = {name: os.environ[name] for name in names if name in os.environ}
        path = os.pathsep.join([str(self.bin), os.path.dirname(sys.executable), os.environ["PATH"]])
        return {**kept, "PATH": path, "FAKE_STORE": str(self.store)}


def saved_image(layer: bytes, *, platform: str | None = None, compressed: bool = False) -> bytes:
    """The archive that ``docker save`` writes of an image with one layer."""
    config = json.dumps(
        {
            "architecture": ARCHITECTURES[platform or machine.this_platform()],
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer)}"]},
        }
    ).encode()
    entry = {"Config": "abc.json", "RepoTags": [IMAGE], "Layers": ["one/layer.tar"]}
    return tar(
        {
            "one/VERSION": b"1.0",
            "one/layer.tar": gzip.compress(layer) if compressed else layer,
            "abc.json": config,
            "manifest.json": json.dumps([entry]).encode(),
            "repositories": b"{}",
        }
    )


def make_bundle(
    directory: Path, engine: FakeEngine, *options: str, version: str = "1.0", layer: bytes = b"one"
) -> Path:
    """Make a bundle in a directory; its archive."""
    directory.mkdir(parents=True, exist_ok=True)
    engine.has(layer)
    source = directory / "wheels"
    source.mkdir()
    write_wheel(
        source,
        "claude-mcp",
        version,
        {"fake_program.py": PROGRAM.format(version=version)},
        "[console_scripts]\nclaude-mcp = fake_program:main\n",
    )
    ours = next(source.iterdir())
    write_wheel(source, "some-library", "2.0", {"some_library.py": "X = 1\n"})
    write_pip(source)
    lines = ["# A lock of a test."]
    for wheel in sorted(source.iterdir()):
        if wheel != ours:
            name, number = wheel.name.split("-")[:2]
            lines.append(f"{name}=={number} \\\n    --hash=sha256:{sha256(wheel.read_bytes())}")
    (directory / "lock").write_text("\n".join(lines) + "\n")
    argv = [
        f"--output={directory / 'bundle.tar'}", f"--wheel={ours}", f"--wheel-dir={source}",
        f"--lock={directory / 'lock'}", f"--python={PYTHON}", "--engine=docker", *options,
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "bundling.make", *argv],
        env={**engine.environment(), "PYTHONPATH": str(make.CHECKOUT / "scripts"),
             "SOURCE_DATE_EPOCH": "1700000000"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def install(
    engine: FakeEngine, bundle: Path, target: Path, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run install.sh of a bundle, or the one that is beside an archive, for a directory."""
    script = bundle / "install.sh" if bundle.is_dir() else bundle.parent / "trusted" / "install.sh"
    archive = [] if bundle.is_dir() else [str(bundle)]
    return subprocess.run(
        ["sh", str(script), *archive, f"--directory={target}", *options],
        env={**engine.environment(), **environment}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip


def unpack(archive: Path, target: Path) -> Path:
    """Unpack as a person would; the directory that was in it."""
    target.mkdir(parents=True)
    with tarfile.open(archive) as opened:
        opened.extractall(target, filter="data")
    (directory,) = target.iterdir()
    return directory


def members(archive: Path) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(archive) as opened:
        for member in opened:
            content = opened.extractfile(member)
            assert content is not None
            yield member, content.read()


def write_members(target: Path, found: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with tarfile.open(target, "w") as archive:
        for member, content in found:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def repack(directory: Path, target: Path, **changes: Any) -> Path:
    """An archive of an unpacked bundle with a manifest that is true to it, but for the changes."""
    path = directory / "manifest.json"
    manifest = json.loads(path.read_text()) | changes
    for name, file in manifest["files"].items():
        content = (directory / name).read_bytes()
        file.update(sha256=sha256(content), size=len(content))
    path.write_text(json.dumps(manifest))
    packing.write_archive(directory, "claude-mcp", target, 0)
    return target


def write_wheel(
    directory: Path, name: str, version: str, files: Mapping[str, str], entry_points: str = ""
) -> None:
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    contents = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        "Classifier: License :: OSI Approved :: MIT License\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    if entry_points:
        contents[f"{info}/entry_points.txt"] = entry_points
    record = ""
    for path, text in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
        record += f"{path},sha256={digest.rstrip('=')},{len(text.encode())}\n"
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    with zipfile.ZipFile(directory / f"{stem}-py3-none-any.whl", "w") as wheel:
        for path, text in contents.items():
            wheel.writestr(zipfile.ZipInfo(path), text)


def write_pip(directory: Path) -> None:
    """The pip of the test environment as a wheel, which runs without being installed."""
    found = importlib.util.find_spec("pip")
    assert found is not None, "the test environment has no pip"
    assert found.origin is not None
    package = Path(found.origin).parent
    version = importlib.metadata.version("pip")
    target = directory / f"pip-{version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w", strict_timestamps=False) as wheel:
        for path in sorted([*package.rglob("*"), *package.parent.glob("pip-*.dist-info/*")]):
            if path.is_file() and path.suffix != ".pyc":
                wheel.write(path, path.relative_to(package.parent))


def tar(files: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
