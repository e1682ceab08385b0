"""Ways past a restricted network by the proxy's own socket, or without what leads to it."""

from __future__ import annotations

import os
import shlex
import socket
from pathlib import Path

import anyio
import pytest

from claude_mcp.contract import places
from claude_mcp.proxy.policy import from_json
from claude_mcp.sessions.create.request import CreateRequest, Mount, NetworkName
from claude_mcp.sessions.create.start import create
from claude_mcp.sessions.registry import Sessions
from claude_mcp.sessions.turns import commands
from claude_mcp.sessions.turns import prompts as turns
from tests.network_world import OTHER, World, connect, get
from tests.restricted import own_address
from tests.witnesses import PATIENCE_SECONDS, Witness

FLOOD = 2000


# 11: the proxy's own socket


@pytest.mark.once
@pytest.mark.parametrize(
    "opening",
    [
        b'{"session": "SESSION"}',
        b'{"session": "SESSION", "decision": "allowed", "policy": {"allowed": ["OTHER"]}}',
        b'{"session": ["SESSION"], "watch": false, "host": "OTHER", "allowed": true}',
        b'{"watch": true}',
        b'{"watch": "true"}',
        b"[]",
        b"null",
        b"",
        b"\xff{",
        b"[" * 7_000,
        b'{"session": "' + b"x" * 20_000 + b'"}',
        b"1" * 5_000,
    ],
    ids=[
        "another-session", "a-policy", "odd", "watch", "almost-watch", "list", "null", "empty",
        "binary", "nested", "long", "number",
    ],
)  # fmt: skip
async def test_a_forged_first_line_opens_nothing(world: World, opening: bytes) -> None:
    """Spoken to the socket itself, and not by way of the session's forwarder."""
    opening = opening.replace(b"SESSION", world.neighbour.name.encode())
    opening = opening.replace(b"OTHER", f"{OTHER}:{world.site.port}".encode())
    place = f"{OTHER}:{world.site.port}"
    requests = [get(f"http://{place}/", place), connect(place)]
    pieces = [opening + b"\n" + request for request in requests]
    for answer in await world.send(*pieces, where=places.PROXY_SOCKET):
        assert "200" not in answer
        assert '"allowed"' not in answer
        assert "tunnel" not in answer
    assert await world.visits() == []
    assert world.visits_behind(OTHER, world.site.port) == []


@pytest.mark.once
async def test_an_authorization_in_a_first_line_goes_nowhere(world: World) -> None:
    """It is for a further proxy; where there is none, nobody hears of it. What the client says to
    this proxy itself is not passed on either."""
    opening = b'{"session": "x", "http": "Basic c2VjcmV0", "https": "Basic c2VjcmV0"}\n'
    at = world.allowed
    fields = ("Proxy-Authorization: Basic c2VjcmV0", "Proxy-Connection: keep-alive")
    answers = await world.send(
        opening + get(f"http://{at}/", at, *fields),
        opening + connect(at) + get("/", at, *fields),
        where=places.PROXY_SOCKET,
    )
    assert [answer[-7:] for answer in answers] == ["welcome"] * 2
    visits = await world.visits()
    assert len(visits) == 2
    assert not any(b"c2VjcmV0" in each or b"Proxy" in each for each in visits)


async def test_the_socket_can_be_neither_replaced_nor_removed(world: World) -> None:
    """The control is the proxy's own container, and that both see the same directory."""
    write = """
import ctypes, errno, json, os, socket, sys
path = sys.argv[1].strip('[]"')
directory = os.path.dirname(path)
libc = ctypes.CDLL(None, use_errno=True)
def call(function, *arguments):
    if function(*arguments):
        raise OSError(ctypes.get_errno(), "refused")
def bind():
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(directory + "/another")
attempts = {
    "unlink": lambda: os.unlink(path),
    "rename": lambda: os.rename(path, directory + "/moved"),
    "over": lambda: os.rename("/tmp/mine", path),
    "link": lambda: os.link(path, directory + "/linked"),
    "symlink": lambda: os.symlink("/tmp", directory + "/link"),
    "chmod": lambda: os.chmod(path, 0),
    "bind": bind,
    "file": lambda: open(directory + "/file", "w").close(),
    "mkdir": lambda: os.mkdir(directory + "/directory"),
    "remount": lambda: call(libc.mount, b"none", directory.encode(), None, 32, None),
    "writable": lambda: call(libc.mount, b"none", directory.encode(), None, 32 | 4096, None),
    "umount": lambda: call(libc.umount2, directory.encode(), 2),
    "cover": lambda: call(libc.mount, b"tmpfs", directory.encode(), b"tmpfs", 0, None),
}
open("/tmp/mine", "w").close()
found = {}
for name, attempt in attempts.items():
    try:
        attempt()
        found[name] = "done"
    except OSError as error:
        found[name] = errno.errorcode[error.errno]
print(json.dumps(found))
"""
    found = await world.python(world.restricted, write, places.PROXY_SOCKET)
    assert set(found.values()) <= {"EROFS", "EPERM", "EACCES", "EXDEV"}, found
    assert {found[each] for each in ("unlink", "chmod", "file", "bind")} == {"EROFS"}
    mark = f"{places.PROXY_DIRECTORY}/mark"
    world.bare("exec", world.proxy, "touch", mark)
    assert "mark" in (await world.run(world.restricted, f"ls {places.PROXY_DIRECTORY}")).split()
    world.bare("exec", world.proxy, "rm", mark)
    assert await world.visits() == []


@pytest.mark.near("looks into the mounted project")
@pytest.mark.parametrize(
    "opening",
    [
        '{"watch": true}\\n',
        *(pytest.param(each, marks=pytest.mark.once) for each in ('{"session": "x"}\\n', "", "{")),
    ],
)
async def test_a_flood_of_connections_leaves_room_for_others(world: World, opening: str) -> None:
    """While one session holds as many as it gets, its neighbour's requests are served, and those
    to the model."""
    flood = f"""
import os, resource, socket, time
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
here, there = "/workspace/flooded", "/workspace/enough"
children = []
for _ in range(4):  # of which each has descriptors of its own
    child = os.fork()
    if not child:
        sockets = []
        for _ in range({FLOOD} // 4):
            s = socket.socket(socket.AF_UNIX)
            sockets.append(s)
            try:
                s.connect({places.PROXY_SOCKET!r})
                s.sendall(b'{opening}')
            except OSError:
                pass
        open(here + str(os.getpid()), "w").close()
        while not os.path.exists(there):
            time.sleep(0.02)
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
    os.unlink(here + str(child))
os.unlink(there)
"""
    project = Path(world.restricted.project_path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.run, world.restricted, shlex.join(("python3", "-c", flood)))
        with anyio.fail_after(PATIENCE_SECONDS):
            while len(list(project.glob("flooded*"))) < 4:
                await anyio.sleep(0.02)
        try:
            for _ in range(20):
                answer = await world.curl(f"http://{world.allowed}/", session=world.neighbour)
                assert answer == (0, "welcome")
            assert len(await world.visits()) == 20
            assert world.restricted.proxy is not None
            (model,) = from_json(world.restricted.proxy.policy).provider
            words = ("--output", "/dev/null", "--write-out", "%{http_code}", f"http://{model}/")
            assert await world.curl(*words, session=world.neighbour) == (0, "200")
            turn = await turns.prompt(
                await world.sessions.open(world.neighbour.id), "Say hello.", turn_id=None
            )
            assert turn.status == "completed"
        finally:
            (project / "enough").touch()
    assert await world.visits() == []


# 12: the environment


async def test_without_the_proxys_variables_nothing_is_reached(
    world: World, elsewhere: Witness
) -> None:
    variables = " ".join(
        f"-u {name}" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    )
    url = f"http://{own_address()}:{elsewhere.port}"
    for command in (
        f"env {variables} curl --max-time 20 {url}/restricted",
        f"curl --max-time 20 --noproxy '*' {url}/restricted",
        f"env -i /usr/bin/python3 -c 'import urllib.request as r; r.urlopen(\"{url}/restricted\")'",
        f"env -i git ls-remote {url}/restricted",
    ):
        done = await commands.run(await world.sessions.open(world.restricted.id), command)
        assert done.exit_code != 0
    assert await world.run(world.open, f"curl {url}/open") == "welcome"
    (visit,) = elsewhere.until("open")
    assert visit.startswith(b"GET /open")


# A way out that no proxy sees: the host's own sockets in what a session sees


@pytest.mark.near("mounts a directory")
@pytest.mark.xdist_group("world")  # where proxies are counted
@pytest.mark.parametrize("network", ["open", "restricted", "none"])
async def test_sockets_of_the_host_in_a_mount_are_told_of(
    sessions: Sessions, project: Path, tmp_path: Path, name: str, network: NetworkName
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{data}/database")
        os.chmod(f"{data}/database", 0o777)
        listener.listen()
        request = CreateRequest(
            str(project),
            session_name=name,
            network=network,
            mounts=(Mount(str(data), "/data"),),
        )
        created = await create(sessions, request)
        try:
            script = "import socket; socket.socket(socket.AF_UNIX).connect('/data/database')"
            run = await commands.run(await sessions.open(name), f'python3 -c "{script}"')
        finally:
            await sessions.destroy(name)
    assert (run.exit_code, run.stderr) == (0, "")  # which is why it must be told of
    said = f"programs of this host through their Unix sockets, in spite of its network: {data}/"
    assert any(said in warning for warning in created.warnings) == (network != "open")
