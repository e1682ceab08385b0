"""Whatever comes: no path gets through, no option into an argv, and nothing but our errors.

Some inputs each; with CLAUDE_MCP_STRESS, 100,000.
"""

from __future__ import annotations

import csv
import io
import os
import random
import tarfile
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_mcp.config import Config
from claude_mcp.engine import argv
from claude_mcp.engine.dialects.docker import DOCKER
from claude_mcp.engine.engine import Container
from claude_mcp.engine.names import REFERENCE, reference
from claude_mcp.engine.spec import BindMount, ContainerSpec
from claude_mcp.errors import TransferError, UsageError
from claude_mcp.placing.descriptors import empty, opened
from claude_mcp.sessions import labels, marks
from claude_mcp.sessions.create.mounts import bind_mount
from claude_mcp.sessions.create.request import Mount
from claude_mcp.sessions.files.archive import Tally
from claude_mcp.sessions.files.unpacking import Limits, read_archive
from claude_mcp.sessions.paths import policy
from claude_mcp.sessions.session import check_name, container_name

EXAMPLES = 100_000 if os.environ.get("CLAUDE_MCP_STRESS") else 60
often = settings(
    # Hypothesis finds more in fewer, and its memory grows with each; dice make the rest.
    max_examples=min(EXAMPLES, 2_000),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
pytestmark = pytest.mark.timeout(3600 if EXAMPLES > 1000 else 120)

# Names that mean something to a shell, an option parser, a path or a tar, among any others.
text = st.text(max_size=40)
TELLING = (
    ["", "/", "..", ".", "-", "--", "--privileged", "-v=/:/host", "a", "l", "r", "\n", "\0", ",",
     '"', "=", "$(id)", "é", "\udcff", "\ud800", " ", "~", ".ssh", ".SSH", "etc", "tmp", "home"]
)  # fmt: skip
telling = st.sampled_from(TELLING)
word = st.lists(telling | text, min_size=1, max_size=4).map("".join)
path = st.lists(word, max_size=5).map("/".join)


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A home with credentials, links of several kinds that lead there, and a project."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        (root / "home" / ".ssh").mkdir(parents=True)
        (root / "project" / "a").mkdir(parents=True)
        for name, target in (("l", "../home/.ssh"), ("r", "/"), ("up", ".."), ("a/l", "../l")):
            (root / "project" / name).symlink_to(target)
        yield root


def forbidden(root: Path, real: str) -> bool:
    """Said another way than the policy does: what no session may have of this home."""
    home = os.path.realpath(root / "home")
    keys = f"{home}/.ssh"
    return (
        real in ("/", "/tmp", "/etc", home)
        or real.startswith(("/etc/", "/usr/bin", "/proc", "/sys", "/dev", f"{keys}/"))
        or f"{keys}/".startswith(f"{real.rstrip('/')}/")
    )


ODD_PARTS = ["a", "l", "r", "up", "..", ".", "", "project", "home", ".ssh", "etc", "tmp", "proc"]


@often
@given(st.lists(st.sampled_from(ODD_PARTS) | word, max_size=7))
def test_no_path_gets_past_the_policy(root: Path, parts: list[str]) -> None:
    config = Config(environment={"HOME": str(root / "home")})
    value = "/".join([str(root / "project"), *parts])
    try:
        allowed = policy.project(value, config).path
    except UsageError:
        return
    assert allowed == os.path.realpath(value)
    assert not forbidden(root, allowed)


@often
@given(word, path)
def test_no_mount_takes_a_place_of_the_session(root: Path, source: str, target: str) -> None:
    config = Config(environment={"HOME": str(root / "home")})
    value = f"{root}/project/{source}"
    try:
        mount = bind_mount(Mount(value, target), config)
    except UsageError:
        return
    assert not forbidden(root, mount.source)
    assert os.path.normpath(mount.target) not in ("/", "//", "/workspace", "/run/claude-mcp")
    assert ".." not in mount.target.split("/")


@often
@given(
    name=word, image=word, command=st.lists(word, max_size=3),
    made_labels=st.dictionaries(word, word, max_size=3),
    environment=st.dictionaries(word, word, max_size=3), inherited=st.lists(word, max_size=2),
    mounts=st.lists(st.builds(BindMount, word, word, st.booleans()), max_size=3),
    workdir=st.none() | word, user=st.none() | word, hosts=st.lists(word, max_size=2),
)  # fmt: skip
def test_no_value_becomes_an_option_of_create(
    name: str,
    image: str,
    command: list[str],
    made_labels: dict[str, str],
    environment: dict[str, str],
    inherited: list[str],
    mounts: list[BindMount],
    workdir: str | None,
    user: str | None,
    hosts: list[str],
) -> None:
    spec = ContainerSpec(
        name=name, image=image, command=tuple(command), labels=made_labels,
        environment=environment, inherited=tuple(inherited), mounts=tuple(mounts),
        workdir=workdir, user=user, extra_hosts=tuple(hosts),
    )  # fmt: skip
    try:
        made = argv.create_argv("docker", DOCKER, spec)
    except UsageError:
        return
    known = {
        "--pull", "--name", "--interactive", "--init", "--label", "--cap-drop", "--security-opt",
        "--user", "--workdir", "--add-host", "--mount", "--env", "--entrypoint",
        "--oom-score-adj",
    }  # fmt: skip
    options = made[2 : len(made) - len(command) - 1]
    assert made[len(made) - len(command) - 1 :] == (image, *command)
    assert not image.startswith("-")
    assert {option.partition("=")[0] for option in options} <= known
    given_ = [option.removeprefix("--mount=") for option in options if option[:8] == "--mount="]
    for mount, value in zip(mounts, given_, strict=True):
        (fields,) = csv.reader(io.StringIO(value, newline=""))
        assert fields[:3] == ["type=bind", f"source={mount.source}", f"target={mount.target}"]
        assert fields[3:] == (["readonly"] if mount.read_only else [])


@often
@given(word | text, st.lists(word, max_size=2), path)
def test_no_reference_becomes_an_option(ref: str, command: list[str], there: str) -> None:
    builders: list[tuple[Any, ...]] = [
        (argv.start_argv,), (argv.remove_argv,), (argv.start_attached_argv,), (argv.logs_argv, 5),
        (argv.exec_argv, command), (argv.copy_in_argv, f"/{there}"),
    ]  # fmt: skip
    for build, *rest in builders:
        try:
            made = build("docker", ref, *rest)
        except UsageError:
            continue
        assert REFERENCE.fullmatch(ref)
        at = [each.partition(":")[0] for each in made].index(ref, 2 if len(made) > 2 else 1)
        assert all(each == "-" or each.startswith("--") for each in made[2:at])


@often
@given(st.dictionaries(st.sampled_from([marks.SESSION, labels.NAME, labels.PROJECT,
                       labels.PROVIDER, labels.CREDENTIALS]) | word, word, max_size=6),
       word, word, word, st.integers())  # fmt: skip
def test_labels_of_any_container_are_read(
    found: dict[str, str], id_: str, created: str, status: str, code: int
) -> None:
    container = Container(id_, "n", created, status, code, "", "i", found)
    session = labels.session_of(container)
    assert (session is not None) == (marks.SESSION in found)


@often
@given(word)
def test_a_session_name_is_refused_or_makes_a_containers_name(name: str) -> None:
    try:
        checked = check_name(name)
    except UsageError:
        return
    assert reference(container_name(checked)).startswith("claude-mcp-")


def made_up(dice: random.Random) -> Any:
    """A maker of words like those above."""

    def word() -> str:
        parts = [dice.choice(TELLING) for _ in range(dice.randrange(1, 5))]
        if dice.random() < 0.3:
            parts.append("".join(map(chr, dice.choices(range(0x250), k=dice.randrange(8)))))
        return "".join(parts)

    return word


def test_none_of_many_made_up_values_gets_through_either(root: Path) -> None:
    """The checks above, on values made by dice."""
    dice = random.Random(21)
    word = made_up(dice)

    def words(most: int) -> list[str]:
        return [word() for _ in range(dice.randrange(most + 1))]

    def pairs(most: int) -> dict[str, str]:
        return {word(): word() for _ in range(dice.randrange(most + 1))}

    def check(test: Any, *args: Any) -> None:
        test.hypothesis.inner_test(*args)

    ours = [marks.SESSION, labels.NAME, labels.PROVIDER, labels.CREDENTIALS, labels.PLACES,
            labels.EXPIRES, labels.GIT]  # fmt: skip
    for _ in range(EXAMPLES):
        mounts = [BindMount(word(), word(), dice.random() < 0.5) for _ in range(dice.randrange(3))]
        check(test_no_value_becomes_an_option_of_create, word(), word(), words(3), pairs(3),
              pairs(3), words(2), mounts, dice.choice((None, word())), dice.choice((None, word())),
              words(2))  # fmt: skip
        check(test_no_reference_becomes_an_option, word(), words(2), "/".join(words(4)))
        found = {**pairs(2), **{dice.choice(ours): word() for _ in range(dice.randrange(4))}}
        check(test_labels_of_any_container_are_read, found, word(), word(), word(), 1)
        check(test_a_session_name_is_refused_or_makes_a_containers_name, word())
        check(test_no_mount_takes_a_place_of_the_session, root, word(), "/".join(words(4)))
        parts = dice.choices([*ODD_PARTS, word()], k=dice.randrange(8))
        check(test_no_path_gets_past_the_policy, root, parts)


kinds = st.sampled_from(
    [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE,
     tarfile.FIFOTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, b"x", b"g", b"L", b"K", b"S", b"V", b"~"]
)  # fmt: skip
entry_name = (
    st.lists(st.sampled_from(["r", "a", "b", "l", "..", ".", ""]) | word, max_size=4)
    .map("/".join).map(lambda rest: f"r/{rest}")
)  # fmt: skip


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """Entries that make sense one by one, then a few bytes changed, or an end too early."""
    data = b""
    for _ in range(draw(st.integers(0, 6))):
        info = tarfile.TarInfo(draw(entry_name | word))
        info.type, info.mode = draw(kinds), draw(st.integers(0, 0o7777))
        info.linkname = draw(path)
        info.mtime = draw(st.integers(-(2**33), 2**40))
        content = draw(st.binary(max_size=600))
        info.size = draw(st.just(len(content)) | st.integers(0, 2**70))
        try:
            data += info.tobuf(
                draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])),
                "utf-8", "surrogateescape",
            )  # fmt: skip
        except ValueError:  # what the standard library itself cannot write
            continue
        data += content + bytes(-len(content) % 512)
    data += bytes(1024)
    for position, byte in draw(st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)),
                                        max_size=2)):  # fmt: skip
        if position < len(data):
            data = data[:position] + bytes([byte]) + data[position + 1 :]
    return data[: draw(st.just(len(data)) | st.integers(0, len(data)))]


def unpack(data: bytes, root: Path) -> None:
    """Unpack it, or meet our error; either way nothing is outside, and nothing is odd inside."""
    there = root / "there"
    there.mkdir(exist_ok=True)
    before = sorted(os.listdir(root))
    tally = Tally()
    with opened(str(there)) as directory:
        with suppress(TransferError):
            unpacked = read_archive(io.BytesIO(data), directory, None, tally, Limits(10_000, 50))
            unpacked.set_modes(directory, unpacked.name)
        reading = os.open(".", os.O_RDONLY, dir_fd=directory)
    try:
        assert sorted(os.listdir(root)) == before
        assert tally.size <= 10_000
        real = os.path.realpath(there)
        for path_, directories, files in os.walk(there):
            for name in (*directories, *files):
                whole = os.path.join(path_, name)
                assert os.lstat(whole).st_mode & 0o7000 == 0
                if os.path.islink(whole) and path_ != str(there):
                    assert f"{os.path.realpath(whole)}/".startswith(f"{real}/")
        empty(reading)
    finally:
        os.close(reading)


@often
@given(archives() | st.binary(max_size=3000))
def test_no_archive_gets_out_of_its_directory_or_breaks_the_reader(root: Path, data: bytes) -> None:
    unpack(data, root)


def test_no_archive_of_odd_entries_does_either(root: Path) -> None:
    """Made by dice, because that is a hundred times as fast."""
    dice = random.Random(20)
    names = ["r", "r/", "r/a", "r/a/b", "r/l", "r/l/x", "r/a/../x", "/r", "../r", "r/..", "r//a",
             "q", "", "r/" + "d/" * 300, "r/\udcff", "r/a\nb", "."]  # fmt: skip
    targets = ["", ".", "..", "a", "../a", "../..", "/etc", "r/a", "r/l", "l", "l/..", "a/l/../..",
               "/", "r", "b/../../..", "x" * 5000]  # fmt: skip
    types = [b"0", b"5", b"2", b"1", b"\0", b"3", b"6", b"7", b"x", b"L", b"K", b"g", b"S", b"V"]
    for _ in range(EXAMPLES):
        data = bytearray()
        for _ in range(dice.randrange(1, 7)):
            info = tarfile.TarInfo(dice.choice(names))
            info.type = dice.choice(types[: dice.choice((4, 4, 14))])
            info.linkname = dice.choice(targets)
            info.mode = dice.choice((0, 0o644, 0o755, 0o7777))
            content = bytes(dice.choice((0, 0, 7, 600, 9000)))
            info.size = dice.choice((len(content), len(content), 2**33))
            data += info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
            data += content + bytes(-len(content) % 512)
        data += bytes(1024)
        for _ in range(dice.choice((0, 0, 0, 1, 3))):
            data[dice.randrange(len(data))] = dice.randrange(256)
        unpack(bytes(data[: dice.choice((len(data), dice.randrange(len(data))))]), root)


@pytest.mark.parametrize("kind", [b"0", b"x", b"L", b"K", b"g", b"V"])
@pytest.mark.parametrize("size", [2**33, 2**80])
def test_a_header_that_claims_much_costs_little(tmp_path: Path, kind: bytes, size: int) -> None:
    info = tarfile.TarInfo("r")
    info.type, info.size = kind, size
    pipe = io.BytesIO(info.tobuf(tarfile.GNU_FORMAT) + bytes(100_000))
    complete = False
    tracemalloc.start()
    try:
        with opened(str(tmp_path)) as directory, suppress(TransferError):
            complete = read_archive(pipe, directory, None, Tally(), Limits(10_000, 50)).complete
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert not complete
    assert os.listdir(tmp_path) == []
