"""A bundle is made, installed, updated, refused and removed; the engine is a fake one."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from bundle_installer import machine, places
from bundle_installer.manifest import ARCHITECTURES

from tests.bundles import IMAGE, FakeEngine, install, make_bundle, repack, sha256, unpack

pytestmark = [
    pytest.mark.skipif(
        machine.this_platform() not in ARCHITECTURES, reason="there are no bundles for it"
    ),
    pytest.mark.xdist_group("bundle"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of a bundle, with its installer unpacked beside it."""
    directory = tmp_path_factory.mktemp("bundle")
    archive = make_bundle(directory / "made", FakeEngine(directory / "engine"))
    unpack(archive, directory / "unpacked").rename(archive.parent / "trusted")
    return archive


@pytest.fixture
def engine(tmp_path: Path) -> FakeEngine:
    return FakeEngine(tmp_path / "engine")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "installed"


def snapshot(directory: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(directory)): (path.lstat().st_mtime_ns, path.read_bytes())
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_an_installation_works_and_a_second_run_changes_nothing(
    made: Path, engine: FakeEngine, target: Path
) -> None:
    done = install(engine, made, target)
    assert done.returncode == 0, done.stderr
    assert "doctor of 1.0" in done.stdout
    for words in ("Unpacking and verifying", "100 %", "Loading the session image into docker"):
        assert words in done.stderr
    program = target / "bin" / "claude-mcp"
    printed = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert printed.stdout == "claude-mcp 1.0\n"
    assert engine.images.keys() == {IMAGE}
    before = snapshot(target)
    for bundle in (made, made.parent / "trusted"):
        again = install(engine, bundle, target)
        assert again.returncode == 0, again.stderr
        assert "nothing was changed" in again.stderr
    assert snapshot(target) == before
    assert engine.log.count("load --quiet") == 1
    assert sorted(path.name for path in target.iterdir()) == [".lock", "bin", "current", "versions"]
    # An image that is gone is loaded again. What doctor finds is told by the exit code.
    (engine.store / "images").write_text("{}")
    once_more = install(engine, made, target, DOCTORS_CODE="1")
    assert once_more.returncode == 3, once_more.stderr
    assert engine.images.keys() == {IMAGE}
    assert "Installing the wheels" not in once_more.stderr


def test_without_an_engine_nothing_is_installed(
    made: Path, engine: FakeEngine, target: Path
) -> None:
    (engine.bin / "docker").write_text("#!/bin/sh\necho it is dead >&2\nexit 1\n")
    done = install(engine, made, target, "--engine=docker")
    assert (done.returncode, target.exists()) == (1, False)
    assert "docker does not answer: it is dead" in done.stderr


def test_a_failure_to_load_leaves_nothing(made: Path, engine: FakeEngine, target: Path) -> None:
    (engine.store / "full").touch()
    done = install(engine, made, target)
    assert (done.returncode, target.exists()) == (1, False)
    assert "docker could not load the image: no space left on device" in done.stderr


def test_another_program_of_that_name_is_not_replaced(
    made: Path, engine: FakeEngine, target: Path
) -> None:
    other = target / "bin" / "claude-mcp"
    other.parent.mkdir(parents=True)
    other.write_text("mine")
    done = install(engine, made, target)
    assert done.returncode == 1
    assert f"{other} is there, and not from this installer" in done.stderr
    assert [path for path in target.rglob("*") if path.is_file()] == [other]


def test_uninstalling_removes_all_but_what_is_not_ours(
    made: Path, engine: FakeEngine, target: Path
) -> None:
    assert install(engine, made, target).returncode == 0
    kept = target / "current"
    refused = install(engine, kept, target, "--uninstall", SESSIONS="work other")
    assert refused.returncode == 1
    assert "Sessions exist in docker: work, other." in refused.stderr
    assert (target / "bin" / "claude-mcp").exists()
    done = install(engine, kept, target, "--uninstall")
    assert done.returncode == 0, done.stderr
    assert (target.exists(), engine.images) == (False, {})
    again = install(engine, made, target, "--uninstall")
    assert again.returncode == 1
    assert f"Nothing is installed in {target}" in again.stderr


def test_an_update_leaves_a_program_that_runs_its_files(
    made: Path, engine: FakeEngine, target: Path, tmp_path: Path
) -> None:
    bundles = [
        made,
        *(
            make_bundle(tmp_path / name, engine, version=name, layer=name.encode())
            for name in ("1.1", "1.2")
        ),
    ]
    for archive in bundles[1:]:
        (archive.parent / "trusted").symlink_to(made.parent / "trusted")
    assert install(engine, bundles[0], target).returncode == 0
    old_image = engine.images[IMAGE]
    serving = subprocess.Popen(
        [target / "bin" / "claude-mcp", "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with serving:
        assert serving.stdout is not None
        assert serving.stdout.readline() == b"serving\n"
        for archive in bundles[1:]:
            done = install(engine, archive, target)
            assert done.returncode == 0, done.stderr
            assert "Sessions run on." in done.stderr
        versions = [path.name.partition("-")[0] for path in (target / "versions").iterdir()]
        assert sorted(versions) == ["1.0", "1.1", "1.2"]
        assert "The old version 1.0-" in done.stderr
    assert "doctor of 1.2" in done.stdout
    assert engine.images.keys() == {IMAGE}
    assert engine.images[IMAGE] != old_image
    assert old_image not in (engine.store / "images").read_text()
    where = places.default_places(str(target), None)
    newer = [path.name for path in (target / "versions").iterdir() if "1.0-" not in path.name]
    assert where.remove_unused(*newer) == []
    assert sorted(path.name for path in (target / "versions").iterdir()) == sorted(newer)


def test_the_bundle_of_another_platform_is_refused(
    made: Path, engine: FakeEngine, target: Path, tmp_path: Path
) -> None:
    ours = machine.this_platform()
    (other,) = ARCHITECTURES.keys() - {ours}
    directory = unpack(made, tmp_path / "other")
    for path in (directory / "requirements").iterdir():
        path.rename(path.with_name(path.name.replace(ours, other)))
    manifest = json.loads((directory / "manifest.json").read_text())
    files = {name.replace(f"{ours}-3", f"{other}-3"): each
             for name, each in manifest["files"].items()}  # fmt: skip
    repack(directory, tmp_path / "other.tar", platforms=[other], files=files)
    done = install(engine, directory, target)
    assert (done.returncode, target.exists()) == (1, False)
    assert f"The bundle is for {other}, and this machine is {ours}." in done.stderr


def test_an_engine_of_another_platform_is_refused(
    made: Path, engine: FakeEngine, target: Path
) -> None:
    ours = machine.this_platform()
    (other,) = ARCHITECTURES.keys() - {ours}
    engine.is_for(other)
    done = install(engine, made, target)
    assert (done.returncode, target.exists()) == (1, False)
    assert f"image for {ours}, and docker runs containers on {ARCHITECTURES[other]}" in done.stderr


def test_a_newer_c_library_is_asked_for(
    made: Path, engine: FakeEngine, target: Path, tmp_path: Path
) -> None:
    directory = unpack(made, tmp_path / "newer")
    repack(directory, tmp_path / "newer.tar", glibc="9.99")
    done = install(engine, directory, target)
    assert (done.returncode, target.exists()) == (1, False)
    assert "The bundle needs glibc 9.99 or later; this machine has" in done.stderr


def make_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, made: Path) -> tuple[Path, Path]:
    """A signed bundle and the key."""
    directory = tmp_path_factory.mktemp("signed")
    key = make_key(directory / "key")
    archive = make_bundle(
        directory / "made", FakeEngine(directory / "engine"), f"--sign={key}", version="2.0"
    )
    (archive.parent / "trusted").symlink_to(made.parent / "trusted")
    return archive, key.with_suffix(".pub")


def test_a_signed_bundle_is_installed_and_its_key_is_remembered(
    signed: tuple[Path, Path], made: Path, engine: FakeEngine, target: Path, tmp_path: Path
) -> None:
    archive, key = signed
    other = make_key(tmp_path / "other").with_suffix(".pub")
    refused = install(engine, archive, target, f"--key={other}")
    assert (refused.returncode, target.exists()) == (1, False)
    assert f"The manifest is not signed with a key of {other}" in refused.stderr
    (engine.bin / "docker").unlink()
    done = install(engine, archive, target, f"--key={key}", "--no-image")
    assert done.returncode == 0, done.stderr
    assert "The signature is right" in done.stderr
    unsigned = install(engine, made, target, "--no-image")
    assert unsigned.returncode == 1
    assert "The bundle is not signed" in unsigned.stderr
    assert "doctor of 2.0" in install(engine, archive, target, "--no-image").stdout


def test_a_changed_manifest_is_not_what_was_signed(
    signed: tuple[Path, Path], engine: FakeEngine, target: Path, tmp_path: Path
) -> None:
    archive, key = signed
    directory = unpack(archive, tmp_path / "changed")
    repack(directory, tmp_path / "changed.tar")
    for options in ([f"--key={key}"], [f"--key={key}", "--verify"]):
        done = install(engine, directory, target, *options)
        assert (done.returncode, target.exists()) == (1, False)
        assert "not signed with a key of" in done.stderr


def test_the_archive_as_a_whole_is_signed_too(signed: tuple[Path, Path], tmp_path: Path) -> None:
    """Before anything in it is run."""
    archive, key = signed
    (tmp_path / "allowed").write_text(f"us {key.read_text()}")
    with archive.open("rb") as file:
        done = subprocess.run(
            ["ssh-keygen", "-Y", "verify", "-f", tmp_path / "allowed", "-I", "us", "-n",
             "claude-mcp-bundle", "-s", f"{archive}.sig"],
            stdin=file, capture_output=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = archive.with_name(f"{archive.name}.sha256").read_text()
    assert printed == f"{sha256(archive.read_bytes())}  {archive.name}\n"


def test_the_same_parts_make_the_same_archive(made: Path, tmp_path: Path) -> None:
    again = make_bundle(tmp_path / "again", FakeEngine(tmp_path / "other"))
    assert sha256(again.read_bytes()) == sha256(made.read_bytes())


def test_a_person_reads_what_is_in_the_bundle(made: Path) -> None:
    directory = made.parent / "trusted"
    table = (directory / "licences.tsv").read_text().splitlines()
    assert "pypi/some-library\t2.0\tMIT License" in table
    assert "deb/git\t1:2\tGPL-2" in table
    document = json.loads((directory / "sbom.cdx.json").read_text())
    assert {each["purl"] for each in document["components"]} >= {
        "pkg:pypi/some-library@2.0", "pkg:npm/npm@11.0.0", "pkg:deb/debian/git@1:2?arch=amd64",
        "pkg:npm/%40anthropic-ai/claude-code@2.1.0",
    }  # fmt: skip
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["programs"][machine.this_platform()]["claude"] == "2.1.0"
    on_disk = {path.relative_to(directory).as_posix()
               for path in directory.rglob("*") if path.is_file()}  # fmt: skip
    assert manifest["files"].keys() == on_disk - {"manifest.json"}
    assert os.access(directory / "install.sh", os.X_OK)
