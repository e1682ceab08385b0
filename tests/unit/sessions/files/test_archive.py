"""Archives as they are written and read, and everything a hostile one could try."""

from __future__ import annotations

import io
import os
import socket
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from claude_mcp.errors import TransferError
from claude_mcp.placing.descriptors import opened
from claude_mcp.sessions.files import archive
from claude_mcp.sessions.files.archive import Tally, write_archive
from claude_mcp.sessions.files.tar import CHUNK_BYTES
from claude_mcp.sessions.files.unpacking import Limits, read_archive

US = (os.getuid(), os.getgid())
MANY = Limits(size=10**9, files=10**6)
AWKWARD_NAMES = [
    "with space",
    "two\nlines",
    "-rf",
    "--help",
    "'\"$HOME`id`;|&",
    "é",
    os.fsdecode(b"not \xff\xfe text"),
    "x" * 200,
]


def tree(path: Path) -> dict[str, Any]:
    """Every entry: mode and content; a link has its target only."""
    entries: dict[str, Any] = {}
    for each in [path, *path.rglob("*")]:
        name = os.path.relpath(each, path.parent)
        if each.is_symlink():
            entries[name] = f"-> {os.readlink(each)}"
        else:
            mode = stat.S_IMODE(each.stat().st_mode)
            entries[name] = (oct(mode), None if each.is_dir() else each.read_bytes())
    return entries


def write_to(
    pipe: Any,
    source: Path,
    name: str | None = None,
    owner: tuple[int, int] = US,
    tally: Tally | None = None,
) -> None:
    with opened(str(source.parent)) as parent:
        write_archive(parent, str(source), name or source.name, owner, pipe, tally or Tally())


def write(source: Path, name: str | None = None, owner: tuple[int, int] = US) -> bytes:
    pipe = io.BytesIO()
    write_to(pipe, source, name, owner)
    return pipe.getvalue()


def read(
    data: bytes | io.BytesIO,
    directory: Path,
    tally: Tally | None = None,
    *,
    limits: Limits = MANY,
    owner: tuple[int, int] | None = None,
) -> str:
    pipe = io.BytesIO(data) if isinstance(data, bytes) else data
    with opened(str(directory)) as there:
        unpacked = read_archive(pipe, there, owner, tally or Tally(), limits)
        unpacked.set_modes(there, unpacked.name)
    return unpacked.name


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """An empty directory of ours, with something beside it that a hostile archive could want."""
    directory = tmp_path / "beside" / "there"
    directory.mkdir(parents=True)
    (tmp_path / "beside" / "victim").write_text("untouched")
    return directory


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    (path / "sub" / "deep").mkdir(parents=True)
    (path / "empty").mkdir()
    (path / "empty").chmod(0o700)
    (path / "program").write_bytes(b"#!/bin/sh\n")
    (path / "program").chmod(0o755)
    (path / "secret").write_bytes(b"\0" * 1000)
    (path / "secret").chmod(0o400)
    (path / "nothing").write_bytes(b"")
    (path / "large").write_bytes(os.urandom(CHUNK_BYTES * 2 + 7))
    (path / "link").symlink_to("sub/deep")
    (path / "sub" / "up").symlink_to("../program")
    (path / "dangling").symlink_to("no such file")
    (path / "sub" / "read-only").mkdir()
    (path / "sub" / "read-only" / "file").write_text("x")
    (path / "sub" / "read-only").chmod(0o555)
    for name in AWKWARD_NAMES:
        (path / "sub" / name).write_text(name, errors="surrogateescape")
    return path


class TestRoundTrip:
    def test_a_tree_arrives_as_it_was(self, project: Path, there: Path) -> None:
        tally = Tally()
        assert read(write(project), there, tally) == "project"
        assert tree(there / "project") == tree(project)
        content = sum(
            path.stat().st_size
            for path in project.rglob("*")
            if path.is_file() and not path.is_symlink()
        )
        files = len([path for path in project.rglob("*") if path.is_symlink() or path.is_file()])
        assert tally == Tally(files=files, size=content, warnings=[])

    def test_the_writer_counts_what_the_reader_counts(self, project: Path, there: Path) -> None:
        written, read_ = Tally(), Tally()
        pipe = io.BytesIO()
        write_to(pipe, project, "new name", US, written)
        assert read(pipe.getvalue(), there, read_) == "new name"
        assert written == read_
        assert tree(there / "new name")["new name/nothing"] == ("0o644", b"")

    @pytest.mark.parametrize("name", AWKWARD_NAMES)
    def test_a_single_file_may_have_any_name(self, tmp_path: Path, there: Path, name: str) -> None:
        source = tmp_path / name
        source.write_bytes(b"content")
        assert read(write(source), there) == name
        assert tree(there / name) == tree(source)

    def test_a_path_may_be_longer_than_a_header(self, tmp_path: Path, there: Path) -> None:
        deep = tmp_path / "root" / "/".join(["d" * 100] * 5)
        deep.mkdir(parents=True)
        (deep / "file").write_text("x")
        (deep / "link").symlink_to("y" * 250)
        read(write(tmp_path / "root"), there)
        assert tree(there / "root") == tree(tmp_path / "root")

    def test_a_single_link_or_an_empty_directory_arrives(self, tmp_path: Path, there: Path) -> None:
        (tmp_path / "link").symlink_to("elsewhere")
        (tmp_path / "empty").mkdir()
        assert read(write(tmp_path / "link"), there) == "link"
        assert read(write(tmp_path / "empty"), there) == "empty"
        assert os.readlink(there / "link") == "elsewhere"
        assert list((there / "empty").iterdir()) == []

    def test_times_are_kept(self, tmp_path: Path, there: Path) -> None:
        (tmp_path / "old").write_text("x")
        os.utime(tmp_path / "old", (1_000_000_000, 1_000_000_000))
        read(write(tmp_path / "old"), there)
        assert (there / "old").stat().st_mtime == 1_000_000_000


class TestWriting:
    def test_everything_belongs_to_the_given_owner(self, project: Path) -> None:
        with tarfile.open(fileobj=io.BytesIO(write(project, owner=(1234, 5678)))) as written:
            owners = {(each.uid, each.gid, each.uname, each.gname) for each in written}
        assert owners == {(1234, 5678, "", "")}

    def test_an_owner_may_be_beyond_what_a_header_holds(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        data = write(tmp_path / "file", owner=(4_000_000_000, 3))
        with tarfile.open(fileobj=io.BytesIO(data)) as written:
            assert [each.uid for each in written] == [4_000_000_000]

    def test_directories_come_before_what_they_hold(self, project: Path) -> None:
        with tarfile.open(fileobj=io.BytesIO(write(project))) as written:
            names = written.getnames()
        seen = {""}
        for name in names:
            assert os.path.dirname(name) in seen
            seen.add(name)

    def test_what_is_no_file_is_left_out_with_a_warning(self, tmp_path: Path, there: Path) -> None:
        source = tmp_path / "source"
        source.mkdir()
        os.mkfifo(source / "fifo")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(source / "socket"))
        tally, pipe = Tally(), io.BytesIO()
        write_to(pipe, source, "source", US, tally)
        assert sorted(tally.warnings) == [
            f"{source}/fifo is not a file, directory or link and was left out.",
            f"{source}/socket is not a file, directory or link and was left out.",
        ]
        read(pipe.getvalue(), there)
        assert list((there / "source").iterdir()) == []

    def test_a_missing_source_is_named(self, tmp_path: Path) -> None:
        missing = tmp_path / "missing"
        with pytest.raises(TransferError) as caught:
            write(missing)
        assert str(caught.value) == f"{missing} cannot be read: No such file or directory."

    def test_a_file_that_becomes_shorter_is_noticed(self, tmp_path: Path) -> None:
        source = tmp_path / "shrinking"
        source.write_bytes(bytes(CHUNK_BYTES * 3))

        class Pipe(io.BytesIO):
            def write(self, data: Any) -> int:
                os.truncate(source, CHUNK_BYTES)
                return super().write(data)

        with pytest.raises(TransferError, match="shrinking was truncated while it was copied"):
            write_to(Pipe(), source)

    def test_a_file_that_becomes_a_link_is_not_followed(self, tmp_path: Path) -> None:
        source = tmp_path / "file"
        source.write_bytes(b"x" * 100)

        class Pipe(io.BytesIO):
            def write(self, data: Any) -> int:
                source.unlink(missing_ok=True)
                source.symlink_to("/etc/passwd")
                return super().write(data)

        pipe = Pipe()
        write_to(pipe, source)
        with tarfile.open(fileobj=io.BytesIO(pipe.getvalue())) as written:
            content = written.extractfile("file")
            assert content is not None
            assert content.read() == b"x" * 100

    def test_a_pipe_that_nobody_reads_is_not_blamed_on_the_source(self, project: Path) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "wb", buffering=0) as pipe, pytest.raises(BrokenPipeError):
            write_to(pipe, project)


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in {"mode": 0o644, **fields}.items():
        setattr(info, field, value)
    return info


def tar(*members: tarfile.TarInfo | str, content: bytes = b"hostile") -> bytes:
    """An archive of these entries; a name alone that ends with ``/`` is a directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as made:
        for each in members:
            if isinstance(each, str):
                kind = tarfile.DIRTYPE if each.endswith("/") else tarfile.REGTYPE
                each = member(each, kind, mode=0o755)
            if each.isreg():
                each.size = len(content)
                made.addfile(each, io.BytesIO(content))
            else:
                made.addfile(each)
    return buffer.getvalue()


def link(name: str, target: str) -> tarfile.TarInfo:
    return member(name, tarfile.SYMTYPE, linkname=target)


def hard_link(name: str, target: str) -> tarfile.TarInfo:
    return member(name, tarfile.LNKTYPE, linkname=target)


class TestHostile:
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (tar("/etc/passwd"), "The session sent an entry named '/etc/passwd'."),
            (tar("../victim"), "The session sent an entry named '../victim'."),
            (tar("r/", "r/../../victim"), "The session sent an entry named 'r/../../victim'."),
            (tar("r/", "r/.."), "The session sent an entry named 'r/..'."),
            (tar("."), "The session sent an entry named '.'."),
            (tar("./"), "The session sent an entry named './'."),
            (tar("r/", "other"), "The session sent an unexpected entry 'other'."),
            (tar("r", "r2/"), "The session sent an unexpected entry 'r2/'."),
            (tar("r/", link("r/l", "."), "r/l/x"), "Writing"),
            (tar("r/", hard_link("r/h", "/etc/passwd")), "The session sent an entry named"),
            (tar("r/", hard_link("r/h", "../victim")), "The session sent an entry named"),
            (tar("r/", hard_link("r/h", "victim")), "The session sent a link to 'victim'."),
            (tar("r/", hard_link("r/h", "r/missing")), "Writing"),
            (tar("r/", hard_link("r/h", "r")), "Writing"),
            (tar("r", "r"), "Writing"),
            (tar("r/", "r"), "Writing"),
            (tar("r", "r/x"), "Writing"),
            (tar("r/missing/x"), "Writing"),
            (tar("r/", "r/l", link("r/l", "a")), "The link r/l cannot be created"),
            (tar("r/", link("r/l", "a" * 5000)), "The link r/l cannot be created"),
            (tar("r/", link("r/l", "")), "The link r/l cannot be created"),
            (tar("r", link("r", "x")), "The link r cannot be created"),
            (tar(link("r", "x"), "r/"), "The link r cannot be created"),
            (tar("r/", link("r/missing/l", "a")), "The session sent 'r/missing/l' without its"),
            (b"\0" * 10240, "Nothing was copied: the engine found no readable file"),
            (b"x" * 10240, "The session sent a broken archive"),
        ],
    )  # fmt: skip
    def test_an_archive_that_leads_elsewhere_or_is_broken_is_refused(
        self, there: Path, data: bytes, message: str
    ) -> None:
        with pytest.raises(TransferError) as caught:
            read(data, there)
        assert str(caught.value).startswith(message)
        assert (there.parent / "victim").read_text() == "untouched"
        assert sorted(each.name for each in there.parent.iterdir()) == ["there", "victim"]

    @pytest.mark.parametrize(
        "data",
        [
            b"", b"garbage", tar("r")[:700], tar("r")[:515], tar("r")[:1024],
            tar("r/", "r/x")[:512], tar("x" * 300)[:1000],
        ],
    )  # fmt: skip
    def test_an_archive_that_is_cut_off_is_not_complete(self, there: Path, data: bytes) -> None:
        with opened(str(there)) as directory:
            unpacked = read_archive(io.BytesIO(data), directory, None, Tally(), MANY)
        assert unpacked.complete is False

    @pytest.mark.parametrize(
        "target",
        [
            "/etc/passwd",
            "/",
            "..",
            "../",
            "../x",
            "a/../../x",
            "./../x",
            "../r/x",
            "//x",
            "d/../..",
        ],
    )
    def test_a_link_that_leads_out_of_the_tree_is_left_out(self, there: Path, target: str) -> None:
        tally = Tally()
        read(tar("r/", "r/d/", link("r/l", target), "r/kept"), there, tally)
        assert sorted(each.name for each in (there / "r").iterdir()) == ["d", "kept"]
        assert tally == Tally(
            files=1,
            size=7,
            warnings=[
                f"r/l was left out: it links to {target}, which is outside the copied directory."
            ],
        )

    @pytest.mark.parametrize("target", ["x", ".", "d", "d/..", "./d/../d/x", "d/e/../../x", "..x"])
    def test_a_link_that_stays_inside_is_kept(self, there: Path, target: str) -> None:
        read(tar("r/", "r/d/", "r/d/e/", link("r/l", target), link("r/d/l", "../x")), there)
        assert os.readlink(there / "r" / "l") == target
        assert os.readlink(there / "r" / "d" / "l") == "../x"

    @pytest.mark.parametrize("target", ["/x", "a/b", "..", ".", "../x"])
    def test_a_single_link_may_only_name_its_neighbour(self, there: Path, target: str) -> None:
        tally = Tally()
        assert read(tar(link("r", target)), there, tally) == "r"
        assert (list(there.iterdir()), len(tally.warnings)) == ([], 1)

    @pytest.mark.parametrize("swapped", [False, True])
    def test_links_that_lead_out_over_each_other_are_left_out(
        self, there: Path, swapped: bool
    ) -> None:
        links = [link("r/a/b/up", "../.."), link("r/a/b/out", "up/../..")]
        tally = Tally()
        read(tar("r/", "r/a/", "r/a/b/", *links[:: -1 if swapped else 1]), there, tally)
        assert [each.name for each in (there / "r" / "a" / "b").iterdir()] == ["up"]
        assert tally.warnings == [
            "r/a/b/out was left out: it links to up/../.., which is outside the copied directory."
        ]

    def test_nothing_is_made_through_a_link(self, there: Path) -> None:
        links = [
            link("r/a/b/up", "../.."),
            link("r/a/b/out", "up/../.."),
            link("r/a/b/out/planted", "victim"),
        ]
        with pytest.raises(TransferError, match="sent 'r/a/b/out/planted' without its directory"):
            read(tar("r/", "r/a/", "r/a/b/", *links), there)
        assert sorted(each.name for each in there.parent.iterdir()) == ["there", "victim"]

    @pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
    def test_devices_and_the_like_are_left_out(self, there: Path, kind: bytes) -> None:
        tally = Tally()
        device = member("r/device", kind, devmajor=1, devminor=3, mode=0o666)
        read(tar("r/", device, "r/kept"), there, tally)
        assert tally.warnings == ["r/device is not a file, directory or link and was left out."]
        assert [each.name for each in (there / "r").iterdir()] == ["kept"]

    def test_of_a_mode_only_the_permissions_are_taken_over(self, there: Path) -> None:
        members = [
            member("r", tarfile.DIRTYPE, mode=0o7777),
            member("r/setuid", mode=0o6755),
            member("r/odd", mode=0o1000),
        ]
        read(tar(*members), there)
        assert {
            name: oct(stat.S_IMODE((there / name).stat().st_mode))
            for name in ("r", "r/setuid", "r/odd")
        } == {"r": "0o777", "r/setuid": "0o755", "r/odd": "0o0"}

    def test_the_owner_in_the_archive_counts_for_nothing(self, there: Path) -> None:
        read(tar("r/", member("r/x", uid=12345, gid=54321)), there)
        status = (there / "r" / "x").stat()
        assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())

    def test_a_hard_link_inside_is_one(self, there: Path) -> None:
        read(tar("r/", "r/x", hard_link("r/y", "r/x")), there)
        assert (there / "r" / "y").samefile(there / "r" / "x")

    def test_a_symbolic_link_may_have_two_names(self, there: Path) -> None:
        read(tar("r/", link("r/l", "x"), hard_link("r/h", "r/l")), there)
        assert (os.readlink(there / "r" / "l"), os.readlink(there / "r" / "h")) == ("x", "x")

    def test_warnings_are_bounded(self, there: Path) -> None:
        tally = Tally()
        fifos = [member(f"r/{number}", tarfile.FIFOTYPE) for number in range(1000)]
        read(tar("r/", *fifos), there, tally)
        assert len(tally.warnings) == archive.MAX_WARNINGS + 1
        assert tally.warnings[-1] == "More entries were left out."

    def test_an_archive_is_read_to_the_end_of_the_pipe(self, there: Path) -> None:
        """Else the engine that writes it would fail."""
        pipe = io.BytesIO(tar("r") + bytes(3_000_000))
        read(pipe, there)
        assert pipe.read() == b""

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_root_gives_everything_to_the_owner(self, there: Path) -> None:
        data = tar("r/", "r/x", link("r/l", "x"), hard_link("r/h", "r/x"), "r/d/")
        read(data, there, owner=(1234, 5678))
        owners = {
            os.path.relpath(path, there): (path.lstat().st_uid, path.lstat().st_gid)
            for path in [there / "r", *(there / "r").iterdir()]
        }
        names = ("r", "r/x", "r/l", "r/h", "r/d")
        assert owners == dict.fromkeys(names, (1234, 5678))
