"""Bundles that somebody has changed; each is refused, and what is wrong with it is named."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundle_installer import image_archive, machine, manifest, names, opening
from bundle_installer.manifest import ARCHITECTURES
from bundle_installer.refusal import Refused
from bundling import image, packing

from tests.bundles import IMAGE, saved_image, sha256, tar

pytestmark = pytest.mark.skipif(
    machine.this_platform() not in ARCHITECTURES, reason="there are no bundles for it"
)

PLATFORM = machine.this_platform()
REQUIREMENTS = f"requirements/{PLATFORM}-3.12.txt"
Members = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """The files of a bundle that is right, if a small one."""
    directory = tmp_path / "parts"
    (directory / "wheels").mkdir(parents=True)
    (directory / "requirements").mkdir()
    (directory / "images").mkdir()
    with zipfile.ZipFile(directory / "wheels" / "x-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("x.py", "")
    (directory / REQUIREMENTS).write_text("x==1\n")
    (tmp_path / "saved.tar").write_bytes(saved_image(b"a layer"))
    saved = image.rewrite(
        tmp_path / "saved.tar", IMAGE, directory / "images" / f"{PLATFORM}.tar.gz"
    )
    described = {
        "format": 1,
        "version": "1.0",
        "platforms": [PLATFORM],
        "pythons": ["3.12"],
        "glibc": "2.28",
        "images": [
            {
                "platform": PLATFORM,
                "file": f"images/{PLATFORM}.tar.gz",
                "name": IMAGE,
                "config": saved.config,
            }
        ],
    }
    write_manifest(directory, described)
    return directory


def write_manifest(directory: Path, described: dict[str, Any]) -> None:
    files = {}
    for name in packing.files_below(directory):
        if name != manifest.NAME:
            content = (directory / name).read_bytes()
            files[name] = {"sha256": sha256(content), "size": len(content)}
    (directory / manifest.NAME).write_text(json.dumps({**described, "files": files}))


def rewrite_manifest(directory: Path, **changes: Any) -> None:
    write_manifest(directory, json.loads((directory / manifest.NAME).read_text()) | changes)


def archived(parts: Path) -> Path:
    target = parts.parent / "bundle.tar"
    packing.write_archive(parts, "claude-mcp-1.0", target, 0)
    return target


def refusal(source: Path, scratch: Path) -> str:
    with pytest.raises(Refused) as caught, opening.opened(source, scratch, None):
        pytest.fail("it was accepted")
    if source.is_file():
        assert list(scratch.iterdir()) == []
    return str(caught.value)


def test_a_bundle_that_is_right_is_opened(parts: Path, tmp_path: Path) -> None:
    for source in (parts, archived(parts)):
        with opening.opened(source, tmp_path / "scratch", None) as (found, directory):
            assert found.version == "1.0"
            assert (directory / REQUIREMENTS).read_text() == "x==1\n"
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("as_archive", [False, True], ids=["directory", "archive"])
@pytest.mark.parametrize(
    "name", ["wheels/x-1-py3-none-any.whl", REQUIREMENTS, f"images/{PLATFORM}.tar.gz"]
)
@pytest.mark.parametrize("change", ["byte", "longer", "shorter", "gone"])
def test_a_changed_file_is_named(
    parts: Path, tmp_path: Path, name: str, as_archive: bool, change: str
) -> None:
    path = parts / name
    content = path.read_bytes()
    middle = len(content) // 2
    changed = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    path.write_bytes({"byte": changed, "longer": content + b"x"}.get(change, content[:-1]))
    if change == "gone":
        path.unlink()
    said = refusal(archived(parts) if as_archive else parts, tmp_path / "scratch")
    expected = "is missing from the bundle" if change == "gone" else "is damaged"
    assert said.startswith(f"{name} {expected}")


@pytest.mark.parametrize("as_archive", [False, True], ids=["directory", "archive"])
def test_a_file_that_the_manifest_does_not_list_is_named(
    parts: Path, tmp_path: Path, as_archive: bool
) -> None:
    (parts / "wheels" / "more.whl").write_text("x")
    said = refusal(archived(parts) if as_archive else parts, tmp_path / "scratch")
    assert said == "The bundle has a file that its manifest does not list, 'wheels/more.whl'."


def test_a_link_in_the_directory_is_named(parts: Path, tmp_path: Path) -> None:
    path = parts / REQUIREMENTS
    (tmp_path / "elsewhere").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    said = refusal(parts, tmp_path / "scratch")
    assert said == f"The bundle has a member that is no file, {REQUIREMENTS!r}."


def add(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Callable[[Members], None]:
    def change(members: Members) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, link
        content = b"" if kind != tarfile.REGTYPE else b"evil"
        members.append((member, content))

    return change


def swap_first(members: Members) -> None:
    members.append(members.pop(0))


def repeat_last(members: Members) -> None:
    members.append(members[-1])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (add("claude-mcp-1.0/../../evil"), "unsafe name, 'claude-mcp-1.0/../../evil'"),
        (add("/evil"), "unsafe name, '/evil'"),
        (add("../evil"), "unsafe name, '../evil'"),
        (add("claude-mcp-1.0/wheels\\evil"), "unsafe name"),
        (add("claude-mcp-1.0/./evil"), "unsafe name"),
        (add("claude-mcp-1.0/e\nvil"), "unsafe name"),
        (add("evil"), "does not belong there, 'evil'"),
        (add("claude-mcp-1.0/evil"), "does not list, 'evil'"),
        (add("claude-mcp-1.0/l", tarfile.SYMTYPE, "/etc"), "is no file, 'claude-mcp-1.0/l'"),
        (add("claude-mcp-1.0/l", tarfile.LNKTYPE, "/etc/passwd"), "is no file"),
        (add("claude-mcp-1.0/d", tarfile.CHRTYPE), "is no file"),
        (add("claude-mcp-1.0/f", tarfile.FIFOTYPE), "is no file"),
        (add("../d", tarfile.DIRTYPE), "unsafe name, '../d'"),
        (repeat_last, "does not belong there"),
        (swap_first, "does not begin with its manifest.json"),
        (list.clear, "The bundle is empty."),
    ],
)
def test_a_member_that_does_not_belong_there_is_named(
    parts: Path, tmp_path: Path, change: Callable[[Members], None], said: str
) -> None:
    archive = archived(parts)
    with tarfile.open(archive) as opened:
        members: Members = []
        for member in opened:
            content = opened.extractfile(member)
            assert content is not None
            members.append((member, content.read()))
    change(members)
    with tarfile.open(archive, "w") as written:
        for member, data in members:
            member.size = len(data)
            written.addfile(member, io.BytesIO(data))
    assert said in refusal(archive, tmp_path / "a" / "scratch")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("kept", [0, 100, 700, 3_000])
def test_half_an_archive_is_refused(parts: Path, tmp_path: Path, kept: int) -> None:
    archive = archived(parts)
    archive.write_bytes(archive.read_bytes()[:kept])
    said = refusal(archive, tmp_path / "scratch")
    assert "damaged" in said or "missing" in said or "empty" in said


def test_what_is_no_bundle_is_said(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no archive")
    assert "is no bundle" in refusal(tmp_path / "text", tmp_path / "scratch")
    (tmp_path / "empty").mkdir()
    assert "is no bundle" in refusal(tmp_path / "empty", tmp_path / "scratch")


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"version": "../../1"},
        {"version": 1},
        {"platforms": ["windows-x86_64"]},
        {"platforms": [["x"]]},
        {"pythons": ["3.12; rm"]},
        {"pythons": ["3.11"]},  # for which no requirements are listed
        {"glibc": "new"},
        {"images": [{"platform": PLATFORM}]},
        {"images": [{"platform": PLATFORM, "file": "/etc/x", "name": IMAGE, "config": "0" * 64}]},
        {"images": [{"platform": PLATFORM, "file": "LICENSE", "name": "--x", "config": "0" * 64}]},
        {"images": 7},
    ],
)
def test_a_manifest_with_a_wrong_field_is_refused(
    parts: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    rewrite_manifest(parts, **change)
    assert refusal(parts, tmp_path / "scratch").startswith("manifest.json ")


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"format": 1}'])
def test_a_manifest_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(Refused, match=r"manifest\.json"):
        manifest.parse(text.encode())


@pytest.mark.parametrize(
    "files",
    [
        {"../x": {"sha256": "0" * 64, "size": 1}},
        {"x": {"sha256": "0", "size": 1}},
        {"x": {"sha256": "0" * 64, "size": -1}},
        {"x": {"sha256": "0" * 64, "size": True}},
        {"manifest.json": {"sha256": "0" * 64, "size": 1}},
    ],
)
def test_a_manifest_with_a_wrong_file_is_refused(parts: Path, files: dict[str, Any]) -> None:
    described = json.loads((parts / manifest.NAME).read_text())
    described["files"] |= files
    with pytest.raises(Refused):
        manifest.parse(json.dumps(described).encode())


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py", "a/../../evil.py"])
def test_a_wheel_with_a_way_out_is_named(parts: Path, tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(parts / "wheels" / "x-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(name, "")
    rewrite_manifest(parts)
    said = refusal(parts, tmp_path / "scratch")
    assert said == f"x-1-py3-none-any.whl has a member with an unsafe name, {name!r}."


def test_a_wheel_that_is_none_is_named(parts: Path, tmp_path: Path) -> None:
    (parts / "wheels" / "x-1-py3-none-any.whl").write_text("no zip")
    rewrite_manifest(parts)
    assert "x-1-py3-none-any.whl is no wheel" in refusal(parts, tmp_path / "scratch")


def image_of(directory: Path, **changes: Any) -> tuple[Path, manifest.Image]:
    """An archive of an image as a bundle has it, changed, and what its manifest says of it."""
    layer = b"a layer"
    config = json.dumps({"architecture": changes.pop("architecture", ARCHITECTURES[PLATFORM])})
    digest = sha256(config.encode())
    entry = {"Config": f"{digest}.json", "RepoTags": [IMAGE], "Layers": ["one.tar"]}
    entries = changes.pop("entries", [entry | changes.pop("entry", {})])
    files = {f"{digest}.json": config.encode(), "one.tar": layer, **changes.pop("more", {})}
    path = directory / "image.tar"
    path.write_bytes(tar({"manifest.json": json.dumps(entries).encode(), **files}))
    return path, manifest.Image(PLATFORM, "image.tar", IMAGE, changes.pop("config", digest))


def test_the_archive_of_the_image_is_accepted(tmp_path: Path) -> None:
    image_archive.check(*image_of(tmp_path))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"more": {"../../evil": b""}}, "unsafe name, '../../evil'"),
        ({"more": {"/evil": b""}}, "unsafe name, '/evil'"),
        ({"more": {"evil": b""}}, "does not belong there, or lacks it: 'evil'"),
        ({"entry": {"Layers": ["one.tar", "two.tar"]}}, "or lacks it: 'two.tar'"),
        ({"entry": {"RepoTags": [IMAGE, "debian:latest"]}}, "would name its image"),
        ({"entry": {"RepoTags": None}}, "would name its image"),
        ({"entries": []}, "no archive of one image"),
        ({"entries": {"Config": 1}}, "no archive of one image"),
        ({"entries": [{}, {}]}, "no archive of one image"),
        ({"architecture": "riscv64"}, "is for riscv64"),
        ({"config": "0" * 64}, "another image than the manifest says"),
    ],
)
def test_the_archive_of_another_image_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(Refused) as caught:
        image_archive.check(*image_of(tmp_path, **changes))
    assert said in str(caught.value)


def test_an_archive_that_is_none_is_refused(tmp_path: Path) -> None:
    path, described = image_of(tmp_path)
    for content in (b"", b"x" * 2000, path.read_bytes()[:600]):
        path.write_bytes(content)
        with pytest.raises(Refused, match="no archive of one image"):
            image_archive.check(path, described)


@pytest.mark.parametrize("compressed", [False, True])
def test_the_image_s_archive_is_the_same_whoever_saved_it(tmp_path: Path, compressed: bool) -> None:
    (tmp_path / "saved.tar").write_bytes(saved_image(b"a layer"))
    first = image.rewrite(tmp_path / "saved.tar", IMAGE, tmp_path / "first.tar.gz")
    (tmp_path / "saved.tar").write_bytes(saved_image(b"a layer", compressed=compressed))
    second = image.rewrite(tmp_path / "saved.tar", IMAGE, tmp_path / "second.tar.gz")
    assert first == second
    assert (tmp_path / "first.tar.gz").read_bytes() == (tmp_path / "second.tar.gz").read_bytes()
    described = manifest.Image(PLATFORM, "x", IMAGE, first.config)
    image_archive.check(tmp_path / "first.tar.gz", described)


def test_an_image_that_a_bundle_cannot_carry_is_refused(tmp_path: Path) -> None:
    good = saved_image(b"a layer")
    for content, said in (
        (good.replace(b'"linux"', b'"plan9"'), "is for plan9/"),
        (good.replace(b"a layer", b"another"), "is not the one that the image names"),
        (tar({"manifest.json": b"[]"}), "unknown form"),
    ):
        (tmp_path / "saved.tar").write_bytes(content)
        with pytest.raises(Refused, match=said):
            image.rewrite(tmp_path / "saved.tar", IMAGE, tmp_path / "out")


@pytest.mark.parametrize("name", ["a", "a/b.c", "a b", "@x/y-1", "a..b", "ü"])
def test_a_plain_name_is_accepted(name: str) -> None:
    assert names.check_name(name, "It") == name
