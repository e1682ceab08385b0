"""What a hostile session sends in place of its work, on a real engine.

The session's git is replaced: it hands over what a test has forged. The unit tests of
``sessions.git`` go through far more of it, without an engine.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import pytest

from claude_mcp.errors import (
    ClaudeMcpError,
    TransferError,
    UsageError,
    WorkConflict,
    WorkRefused,
    WorkUnsaved,
)
from claude_mcp.sessions.create.request import CreateRequest
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.turns import commands
from claude_mcp.sessions.workspaces.applying import Mode, apply_changes
from claude_mcp.sessions.workspaces.changes import get_changes
from tests.engine_fixtures import Bare
from tests.snapshots import differences, git, is_sound, snapshot
from tests.unit.sessions.git.conftest import World, entry, number, pack, plant

pytestmark = [
    pytest.mark.anyio, pytest.mark.usefixtures("committer"), pytest.mark.timeout(600),
]  # fmt: skip
WHOLE = bool(os.environ.get("CLAUDE_MCP_STRESS"))
FORGED: Final = "/tmp/forged"
BRANCH_NAME: Final = "/tmp/branch"
HOSTILE_GIT: Final = f"""\
mv /usr/bin/git /usr/bin/git.real
cat >/usr/bin/git <<'END'
#!/bin/sh
case " $* " in
*" bundle create "*) for each; do case $each in *.bundle) rm -rf "$each"; \
if [ -x {FORGED}.sh ]; then . {FORGED}.sh; else cp -a {FORGED} "$each"; fi;; esac; done;;
*" symbolic-ref "*) cat {BRANCH_NAME};;
*" rev-list --max-count=1 "*) echo something;;
*) exec /usr/bin/git.real "$@";;
esac
END
chmod 755 /usr/bin/git
"""
PERMISSIVE: Final = (
    "-c", "core.protectNTFS=false", "-c", "core.protectHFS=false", "-c", "fsck.fatal=",
    "-c", "transfer.fsckObjects=false",
)  # fmt: skip


class Forger:
    """A clone in which anything can be made into a commit, and commits into a bundle."""

    def __init__(self, directory: Path, host: Path, branch: str) -> None:
        git(host, "clone", "--quiet", ".", str(directory))
        self.directory, self.branch = directory, branch
        self.base = git(host, "rev-parse", "HEAD")

    def git(self, *words: str, data: bytes | None = None) -> str:
        return git(self.directory, *words, data=data)

    def object(self, kind: str, data: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", "--literally", "-t", kind, data=data)

    def tree(self, *entries: tuple[str, bytes, str]) -> str:
        rows = [
            f"{mode} ".encode() + name + b"\0" + bytes.fromhex(of) for mode, name, of in entries
        ]
        return self.object("tree", b"".join(rows))

    def at(self, *names: bytes, mode: str = "100755", content: bytes = b"#!/bin/sh\n") -> str:
        """A tree whose only file is at this path."""
        which = self.object("blob", content)
        for name in reversed(names[1:]):
            which, mode = self.tree((mode, name, which)), "40000"
        return self.tree((mode, names[0], which))

    def commit(self, tree: str) -> str:
        return self.git("commit-tree", tree, "-p", self.base, "-m", "forged")

    def bundle(self, tree: str) -> bytes:
        """A bundle of a commit with this tree."""
        self.git("update-ref", f"refs/heads/{self.branch}", self.commit(tree))
        path = self.directory.with_name("bundle")
        self.git("bundle", "create", "-q", str(path), f"refs/heads/{self.branch}", f"^{self.base}")
        return path.read_bytes()

    def header(self, tip: str) -> bytes:
        return f"# v2 git bundle\n-{self.base}\n{tip} refs/heads/{self.branch}\n\n".encode()

    def of_objects(self, *entries: bytes, count: int | None = None) -> bytes:
        """A bundle of the commit ``text``, whose tree is empty, and of these objects."""
        tree = self.object("tree", b"")
        who = "a <a@example.org> 1 +0000"
        text = f"tree {tree}\nparent {self.base}\nauthor {who}\ncommitter {who}\n\nx\n".encode()
        tip = hashlib.sha1(b"commit %d\0" % len(text) + text).hexdigest()
        plain = (entry(COMMIT, text), entry(TREE, b""))
        count = None if count is None else count + len(plain)
        return self.header(tip) + pack(*plain, *entries, count=count)


COMMIT, TREE, BLOB, OFS_DELTA, REF_DELTA = 1, 2, 3, 6, 7


@dataclass(frozen=True)
class Case:
    forge: Callable[[Forger], bytes | str]
    """A bundle, or what the session's shell does to make the file ``$each``."""
    reason: str
    control: Callable[[Path, Forger], bool] | None = None
    """Whether a permissive git that takes the same bundle does what must not happen."""
    in_ci: bool = False


def checked_out(*names: bytes) -> Callable[[Path, Forger], bool]:
    def look(host: Path, forger: Forger) -> bool:
        git(host, *PERMISSIVE, "checkout", "--quiet", "taken")
        return os.path.lexists(os.path.join(os.fsencode(host), *names))

    return look


def listed(host: Path, forger: Forger) -> bool:
    """Git does not check it out, but takes it into the repository."""
    return bool(git(host, "ls-tree", "-r", "taken"))


def hook(name: bytes, *, in_ci: bool = False) -> Case:
    path = (name, b"hooks", b"post-checkout")
    control = listed if name.lower() == b".git" else checked_out(*path)
    return Case(lambda forger: forger.bundle(forger.at(*path)), "hasDotgit", control, in_ci)


def link(target: bytes, reason: str, *, in_ci: bool = False) -> Case:
    return Case(
        lambda forger: forger.bundle(
            forger.at(b"sub", b"link", mode="120000", content=target)
        ),
        reason, checked_out(b"sub", b"link"), in_ci,
    )  # fmt: skip


def modules(text: str, *, in_ci: bool = False) -> Case:
    content = f'[submodule "x"]\n\tpath = x\n{text}'.encode()
    return Case(
        lambda forger: forger.bundle(forger.at(b".gitmodules", mode="100644", content=content)),
        "gitmodules", checked_out(b".gitmodules"), in_ci,
    )  # fmt: skip


def twice(forger: Forger) -> bytes:
    """A link and a directory of one name, so that what is in the one is written to the other's."""
    target = forger.object("blob", b"../outside")
    below = forger.tree(("100644", b"x", forger.object("blob", b"x")))
    return forger.bundle(forger.tree(("120000", b"d", target), ("40000", b"d", below)))


def gitlink(forger: Forger) -> bytes:
    return forger.bundle(forger.tree(("160000", b"sub", forger.base)))


def through_a_link(forger: Forger) -> bytes:
    """``a`` leads to ``b/..``, and ``b`` to a directory deeper in the tree or out of it."""
    one, other = forger.object("blob", b"b/../../outside"), forger.object("blob", b".")
    return forger.bundle(forger.tree(("120000", b"a", one), ("120000", b"b", other)))


def bad_checksum(forger: Forger) -> bytes:
    good = forger.bundle(forger.at(b"a", mode="100644"))
    return good[:-1] + bytes([good[-1] ^ 1])


def bomb(forger: Forger) -> bytes:
    """Half a gigabyte of zeros and a byte, in some hundred kilobytes."""
    packer, size = zlib.compressobj(9), 512 * 1024**2 + 1
    zeros = b"".join(packer.compress(bytes(2**20)) for _ in range(512))
    data = zeros + packer.compress(b"\0") + packer.flush()
    first = bytes([BLOB << 4 | size & 15 | 0x80]) + number(size >> 4)
    return forger.of_objects(first + data)


def delta_bomb(forger: Forger) -> bytes:
    """Each delta copies its base sixteen times: 1,000 of them make more than there are atoms."""
    base = b"x" * 1_000_000
    head = entry(BLOB, base)
    copies = b"".join(b"\xf0\x40\x42\x0f" for _ in range(60))
    delta = number(len(base)) + number(60 * len(base)) + copies
    return forger.of_objects(head, *[
        entry(REF_DELTA, delta, between=hashlib.sha1(b"blob %d\0" % len(base) + base).digest())
        for _ in range(100)
    ])  # fmt: skip


def own_base(forger: Forger) -> bytes:
    delta = number(1) + number(1) + b"\x01x"
    return forger.of_objects(entry(REF_DELTA, delta, between=bytes(20)))


CASES: Final = {
    "a hook in .git": hook(b".git"),
    "a hook in .GIT": hook(b".GIT", in_ci=True),
    "a hook in git~1": hook(b"git~1"),
    "a hook in .git and a dot": hook(b".git."),
    "a hook in .git and a space": hook(b".git "),
    "a hook in .git with an invisible character": hook(".g\u200cit".encode()),
    "a hook in a stream of .git": hook(b".git::$INDEX_ALLOCATION"),
    "a path that climbs": Case(
        lambda forger: forger.bundle(forger.at(b"..", b"outside", b"x")), "hasDotdot", listed
    ),
    "a name with a slash": Case(
        lambda forger: forger.bundle(forger.at(b"../outside/x")), "fullPathname", listed
    ),
    "an absolute link": link(b"/etc/passwd", "absolute link", in_ci=True),
    "a link that climbs": link(b"../../outside", "out of the tree"),
    "a link to .git": link(b"../.git/config", "link into a repository"),
    "a link through a link": Case(
        through_a_link, "could lead, out of the tree", checked_out(b"a")
    ),
    "a link and a directory of one name": Case(twice, "duplicateEntries", listed),
    "a submodule": Case(gitlink, "new submodule", listed),
    "a submodule's address that is an option": modules("\turl = -u./payload\n"),
    "a submodule's address with upload-pack": modules("\turl = --upload-pack=touch\n", in_ci=True),
    "a submodule's update that is a program": modules("\turl = x\n\tupdate = !touch x\n"),
    "a pack with another checksum": Case(bad_checksum, "index-pack failed", in_ci=True),
    "fewer objects than said": Case(lambda f: f.of_objects(count=1), "The bundle's pack is "),
    "more objects than said": Case(
        lambda f: f.of_objects(entry(BLOB, b"x"), count=0), "does not end after its last object"
    ),
    "four thousand million objects": Case(
        lambda f: f.of_objects(count=2**32 - 3), "4294967295 objects"
    ),
    "an object that inflates": Case(bomb, "an object of 536870913 bytes"),
    "differences that inflate": Case(delta_bomb, "more than 4294967296 bytes", in_ci=True),
    "a difference to nothing": Case(own_base, "index-pack failed"),
    "ten thousand refs": Case(
        lambda f: f.header(f.base)[:-1]
        + b"".join(b"%s refs/heads/%d\n" % (f.base.encode(), n) for n in range(10_000))
        + b"\n" + pack(),
        "header is too long",
    ),
    "a header without an end": Case(
        lambda f: "{ echo '# v2 git bundle'; yes \"-$(printf %040d 1)\" | head -c 300000000; } "
        '>"$each"',
        "header is too long",
    ),
    "a bundle of a million million bytes": Case(
        lambda f: 'truncate -s 1T "$each"', "bytes", in_ci=True
    ),
    "a pipe": Case(lambda f: 'mkfifo "$each"', "something else"),
    "a directory": Case(lambda f: 'mkdir -p "$each/x"', "more than 1 files and directories"),
    "a link to a file of the host": Case(lambda f: 'ln -s /etc/passwd "$each"', ""),
}  # fmt: skip
NAMES: Final = (
    "-x", "--upload-pack=touch", "../../x", "refs/heads/../../x", "a@{1}", "@{", "x.lock", "a..b",
    "a b", "a\\b", "/", ".x", "a//b", "HEAD:x", "a~1", "a^", "x" * 300,
)  # fmt: skip


@pytest.fixture
def host(project: Path, tmp_path: Path) -> Path:
    git(project, "init", "--quiet", "--initial-branch=main")
    (project / "a.txt").write_text("one\n")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "first")
    (tmp_path / "outside").mkdir()
    return project


class Hostile:
    """A session that hands over what was forged."""

    def __init__(self, sessions: Sessions, bare: Bare, name: str, container: str) -> None:
        self._sessions, self._bare, self._name = sessions, bare, name
        self._container = container
        self.shell(HOSTILE_GIT)
        self.calls_its_branch(f"claude/{name}")

    def shell(self, script: str, data: bytes = b"") -> None:
        self._bare.feed("exec", "-i", "--user=0", self._container, "sh", "-c", script, data=data)

    def calls_its_branch(self, name: str) -> None:
        self.shell(f"cat >{BRANCH_NAME}", f"{name}\n".encode())

    def holds(self, forged: bytes | str) -> None:
        if isinstance(forged, str):
            self.shell(f"cat >{FORGED}.sh && chmod 755 {FORGED}.sh", forged.encode())
        else:
            self.shell(f"rm -f {FORGED}.sh && cat >{FORGED} && chmod 644 {FORGED}", forged)

    async def apply(self, mode: Mode = "branch", **options: object) -> str:
        """What became of the branch, or why nothing did."""
        handle = await self._sessions.open(self._name)
        return (await apply_changes(handle, mode, **options)).outcome  # type: ignore[arg-type]


@pytest.fixture
async def hostile(sessions: Sessions, host: Path, name: str, bare: Bare) -> Hostile:
    made = await create(sessions, CreateRequest(str(host), session_name=name, workspace="clone"))
    return Hostile(sessions, bare, name, made.session.container_id)


@pytest.mark.once
async def test_nothing_that_a_hostile_session_sends_is_taken(
    hostile: Hostile,
    host: Path,
    name: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    elsewhere = tmp_path_factory.mktemp("forger")
    forger = Forger(elsewhere / "clone", host, f"claude/{name}")
    before = snapshot(tmp_path)
    wrong = []
    for title, case in CASES.items():
        if not (WHOLE or case.in_ci):
            continue
        forged = case.forge(forger)
        hostile.holds(forged)
        try:
            said = await hostile.apply()
        except (WorkRefused, TransferError) as error:
            said = error.message
            if case.reason not in said:
                wrong.append(f"{title}: {said}")
        else:
            wrong.append(f"{title} was taken")
        if changed := differences(before, snapshot(tmp_path)):
            wrong.append(f"{title} changed {changed}")
        if case.control is not None:
            assert isinstance(forged, bytes)
            victim = elsewhere / "victim"
            git(elsewhere, "clone", "--quiet", str(host), "victim")
            (elsewhere / "bundle").write_bytes(forged)
            git(victim, *PERMISSIVE, "fetch", "--quiet", str(elsewhere / "bundle"),
                f"+refs/heads/{forger.branch}:refs/heads/taken")  # fmt: skip
            assert case.control(victim, forger), f"{title} is not what it should be"
            subprocess.run(["rm", "-rf", victim], check=True)
    assert not wrong, "\n".join(wrong)

    # The same way in is open to what is harmless.
    hostile.holds(forger.bundle(forger.at(b"new", mode="100644")))
    assert await hostile.apply() == "created"
    is_sound(host)


@pytest.mark.once
async def test_no_name_of_a_branch_becomes_an_option_or_a_path(
    hostile: Hostile,
    host: Path,
    name: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    forger = Forger(tmp_path_factory.mktemp("forger") / "clone", host, f"claude/{name}")
    bundle = forger.bundle(forger.at(b"new", mode="100644"))
    before = snapshot(tmp_path)
    names = NAMES if WHOLE else NAMES[:3]
    for each in names:
        hostile.calls_its_branch(each)
        hostile.holds(bundle.replace(forger.branch.encode(), each.encode()))
        with pytest.raises((UsageError, WorkRefused)):
            await hostile.apply()
        assert differences(before, snapshot(tmp_path)) == []
    hostile.calls_its_branch("some/other")
    hostile.holds(bundle.replace(forger.branch.encode(), b"some/other"))
    for each in names:  # the same as what the caller asks for
        with pytest.raises(ClaudeMcpError):
            await hostile.apply(branch=each)
        assert differences(before, snapshot(tmp_path)) == []
    assert await hostile.apply() == "created"


@pytest.mark.once
async def test_no_program_that_the_host_has_configured_is_run(
    sessions: Sessions, host: Path, name: str, tmp_path: Path
) -> None:
    """Neither when a session is made nor when its work comes back, whatever attributes it sets."""
    marker = plant(World(host, host, host, ""), tmp_path)
    (host / "a.txt").write_text("uncommitted\n")
    await create(
        sessions,
        CreateRequest(str(host), session_name=name, workspace="clone", include_uncommitted=True),
    )
    handle = await sessions.open(name)
    attributes = "* filter=evil diff=evil merge=evil text eol=crlf"
    done = await commands.run(
        handle, f"echo '{attributes}' >.gitattributes && git add -A && git commit -qm work"
    )
    assert done.exit_code == 0, done.stderr
    (host / "a.txt").write_text("one\n")
    await apply_changes(handle, "patch", patch=str(tmp_path / "patch"))
    await apply_changes(handle)
    await apply_changes(handle, "files", paths=["a.txt"])
    await apply_changes(handle, "merge")
    assert not marker.exists()
    assert (host / "a.txt").read_text() == "uncommitted\n"
    git(host, "checkout", "--quiet", "HEAD~1", check=False)
    assert marker.exists(), "this git runs no program either"


@pytest.mark.once
@pytest.mark.parametrize("ignores_case", [pytest.param(False, marks=pytest.mark.stress), True])
async def test_names_that_some_systems_take_for_one_reach_nothing_else(
    hostile: Hostile,
    host: Path,
    name: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    ignores_case: bool,
) -> None:
    """A link and a directory whose names differ in case or in how an accent is written."""
    forger = Forger(tmp_path_factory.mktemp("forger") / "clone", host, f"claude/{name}")
    git(host, "config", "core.ignorecase", str(ignores_case).lower())
    git(host, "config", "core.precomposeunicode", str(ignores_case).lower())
    (host / "inside").mkdir()
    before = snapshot(tmp_path)
    link, text = forger.object("blob", b"inside"), forger.object("blob", b"x")
    below = forger.tree(("100644", b"x", text))
    names = (b"D", b"d", "\u00e9".encode(), "e\u0301".encode())
    tree = sorted([(b"D", "120000", link), (b"d", "40000", below),
                   (names[2], "120000", link), (names[3], "40000", below)])  # fmt: skip
    hostile.holds(forger.bundle(forger.tree(*((mode, each, of) for each, mode, of in tree))))
    assert await hostile.apply() == "created"
    with contextlib.suppress(WorkConflict):
        await hostile.apply("files", paths=["."])
    with contextlib.suppress(WorkConflict):
        await hostile.apply("merge")
    expected = [f"project/{os.fsdecode(each)}" for each in names]
    allowed = (
        *(f"project/{each}" for each in ("a.txt", ".git/")), *expected, "project/.git",
    )  # fmt: skip
    assert differences(before, snapshot(tmp_path), allowed) == []
    assert list((host / "inside").iterdir()) == []
    is_sound(host)


@pytest.mark.stress
async def test_a_million_refs_of_the_session_stay_there(
    sessions: Sessions, host: Path, name: str, bare: Bare
) -> None:
    await create(sessions, CreateRequest(str(host), session_name=name, workspace="clone"))
    handle = await sessions.open(name)
    done = await commands.run(
        handle,
        "echo x >x && git add x && git commit -qm work && git pack-refs --all && "
        'seq -f "$(git rev-parse HEAD) refs/heads/x%07.0f" 1000000 >>.git/packed-refs && '
        "git rev-parse x1000000",
    )
    assert done.exit_code == 0, done.stderr
    assert [each.path for each in (await get_changes(handle)).files] == ["x"]
    with pytest.raises(WorkUnsaved, match="1 commit"):
        await sessions.destroy(name)
    assert (await apply_changes(handle)).outcome == "created"
    assert git(host, "for-each-ref", "--format=%(refname)").splitlines() == [
        f"refs/heads/claude/{name}", "refs/heads/main",
    ]  # fmt: skip
    await sessions.destroy(name)


@pytest.mark.once
async def test_a_bundle_that_is_never_ready_can_be_given_up(
    hostile: Hostile,
    host: Path,
    name: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    forger = Forger(tmp_path_factory.mktemp("forger") / "clone", host, f"claude/{name}")
    before = snapshot(tmp_path)
    hostile.holds(": >/tmp/reached; exec sleep 1000")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hostile.apply)
        await anyio.to_thread.run_sync(
            hostile.shell, "until [ -e /tmp/reached ]; do sleep 0.1; done"
        )
        tasks.cancel_scope.cancel()
    assert differences(before, snapshot(tmp_path)) == []
    hostile.holds(forger.bundle(forger.at(b"new", mode="100644")))
    assert await hostile.apply() == "created"  # nothing of it is in the way
