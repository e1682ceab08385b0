"""What a session may send at most, and where its links lead."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from claude_mcp.errors import TransferError
from claude_mcp.placing.descriptors import MAX_DEPTH
from claude_mcp.sessions.files import unpacking
from claude_mcp.sessions.files.archive import Tally
from claude_mcp.sessions.files.unpacking import Limits, leads_outside
from tests.unit.sessions.files.test_archive import MANY, link, member, read, tar


def refused(data: bytes, there: Path, limits: Limits = MANY) -> str:
    with pytest.raises(TransferError) as caught:
        read(data, there, limits=limits)
    return str(caught.value)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    path = tmp_path / "there"
    path.mkdir()
    return path


def test_too_many_bytes_are_refused_before_they_are_written(there: Path) -> None:
    data = tar("r/", "r/a", "r/b", content=b"x" * 600)
    assert read(data, there, limits=Limits(1200, 3)) == "r"
    (there / "r").rename(there / "done")
    assert refused(data, there, Limits(1199, 3)) == (
        "Nothing was copied: the session sent more than 1199 bytes. "
        "Copy less at once, or raise CLAUDE_MCP_TRANSFER_BYTES."
    )
    assert sorted(os.listdir(there / "r")) == ["a"]


def test_a_file_that_only_claims_to_be_large_is_refused_at_once(there: Path) -> None:
    """As the hole of a sparse file does."""
    info = tarfile.TarInfo("r")
    info.size = 2**50
    assert refused(info.tobuf(), there).startswith(
        "Nothing was copied: the session sent more than 1000000000 bytes"
    )
    assert os.listdir(there) == []


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE])
def test_too_many_entries_of_any_kind_are_refused(there: Path, kind: bytes) -> None:
    many = [member(f"r/{number}", kind, linkname="x", mode=0o755) for number in range(100)]
    assert refused(tar("r/", *many), there, Limits(1, 100)) == (
        "Nothing was copied: the session sent more than 100 files and directories. "
        "Copy less at once, or raise CLAUDE_MCP_TRANSFER_FILES."
    )


def test_the_memory_for_an_archive_is_bounded(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MAX_REMEMBERED_BYTES", 10_000)
    links = [link(f"r/{number}", "x" * 4000) for number in range(3)]
    assert refused(tar("r/", *links), there) == (
        "The session sent too many directories and links. "
        "Pack them into an archive in the session and copy the archive."
    )


def test_a_tree_at_the_depth_limit_arrives_and_a_deeper_one_is_refused(there: Path) -> None:
    def deep(levels: int) -> bytes:
        return tar(*("d/" * level for level in range(1, levels + 1)))

    read(deep(MAX_DEPTH), there)
    assert len(list(there.rglob("*"))) == MAX_DEPTH
    (there / "d").rename(there / "done")
    assert "nested too deeply: at most 256 levels." in refused(deep(MAX_DEPTH + 1), there)


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1777, 0o7777])
@pytest.mark.parametrize("name", ["r", "r/"])
def test_special_mode_bits_are_dropped(there: Path, mode: int, name: str) -> None:
    kind = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
    read(tar(member(name, kind, mode=mode)), there)
    assert (there / "r").stat().st_mode & 0o7000 == 0


def test_a_directory_without_permissions_still_gets_its_content(there: Path) -> None:
    read(tar(member("r", tarfile.DIRTYPE, mode=0), "r/d/", "r/d/f"), there)
    assert (there / "r").stat().st_mode & 0o777 == 0
    (there / "r").chmod(0o700)
    assert (there / "r/d/f").read_bytes() == b"hostile"


def test_a_file_is_never_larger_than_its_header_declares(there: Path) -> None:
    info = tarfile.TarInfo("r")
    info.size = 3
    tally = Tally()
    read(info.tobuf() + b"abcdefgh".ljust(512, b"\0") + bytes(1024), there, tally)
    assert (there / "r").read_bytes() == b"abc"
    assert tally == Tally(files=1, size=3)


def test_a_link_sent_twice_is_refused(there: Path) -> None:
    data = tar("r/", link("r/l", "a"), link("r/l", "b"))
    assert refused(data, there) == "The session sent 'r/l' twice."


def test_a_directory_below_a_link_is_refused(there: Path, tmp_path: Path) -> None:
    """The link is there already: a process of the session's user put it into the staging."""
    (there / "r").mkdir()
    (there / "r" / "d").symlink_to(tmp_path)
    info = io.BytesIO(tar("r/d/x"))
    with pytest.raises(TransferError, match="Writing r/d/x failed: Not a directory"):
        read(info, there)
    assert sorted(os.listdir(tmp_path)) == ["there"]


def test_an_entry_never_follows_a_link_of_the_same_name(there: Path, tmp_path: Path) -> None:
    (there / "r").symlink_to(tmp_path / "planted")
    for data in (tar("r"), tar("r/")):
        assert "Writing r" in refused(data, there)
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize(
    ("name", "links", "outside"),
    [
        ("r/l", {"r/l": "x"}, False),
        ("r/l", {"r/l": ".."}, True),
        ("r/l", {"r/l": "/"}, True),
        ("r/d/l", {"r/d/l": "../x"}, False),
        ("r/d/l", {"r/d/l": "../../x"}, True),
        ("r/l", {"r/l": "m/..", "r/m": "d/e"}, False),
        ("r/l", {"r/l": "m/../..", "r/m": "d/e"}, False),
        ("r/l", {"r/l": "m/../..", "r/m": "d"}, True),
        ("r/l", {"r/l": "m/x", "r/m": "/etc"}, True),
        ("r/l", {"r/l": "m", "r/m": "l"}, True),
        ("r/l", {"r/l": "l/l"}, True),
        ("r/l", {"r/l": "x/" * 300}, True),
        ("r/l", {"r/l": "d/" + "../d/" * 300}, False),
    ],
)
def test_a_link_is_resolved_through_other_links(
    name: str, links: dict[str, str], outside: bool
) -> None:
    known = {tuple(key.split("/")): value for key, value in links.items()}
    assert leads_outside(tuple(name.split("/")), known) is outside


def test_links_that_expand_exponentially_are_bounded() -> None:
    known: dict[tuple[str, ...], str] = {
        ("r", str(number)): "/".join([str(number + 1)] * 100) for number in range(60)
    }
    assert leads_outside(("r", "0"), known) is True
