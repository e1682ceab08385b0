"""A fake Docker: an executable that keeps its containers in a directory and has an agent inside.

It answers the verbs that sessions use, and writes every call to ``calls``, so that a test can
say what was asked of the engine. Commands run for real on this machine; the command ``hang``
and the prompt ``hang`` wait until they are cancelled, and write ``cancelled`` to ``calls``.
"""

# ruff: noqa: T201
from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claude_mcp.contract import places
from claude_mcp.proxy import READY

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from claude_mcp.sessions.network.access import Access

COMMAND_ID = "6b0b0f3e-0000-4000-8000-00000000000c"
VERSION = {"Client": {"Version": "24.0.0", "ApiVersion": "1.43"}, "Server": {"Version": "24.0.0"}}
INFO = {"KernelVersion": "6.1.0", "MemoryLimit": True, "CpuCfsQuota": True, "PidsLimit": True}


def install(directory: Path) -> Path:
    """Make the executable; ``directory`` holds its state."""
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / "docker"
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); "
        f"from tests.unit.fake_engine import main; sys.exit(main({str(directory)!r}))"
    )
    # Every connection asks for the version: a shell is many times faster to answer.
    program.write_text(
        "#!/bin/sh\n"
        f"cd {shlex.quote(str(directory))}\n"
        f'echo "$1" >>calls\n'
        f'[ "$1" = version ] && exec echo {shlex.quote(json.dumps(VERSION))}\n'
        f'exec {shlex.quote(sys.executable)} -IS -c {shlex.quote(code)} "$@"\n'
    )
    program.chmod(0o755)
    return program


def answer_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have calls that end by themselves answered in this process, which is many times faster."""
    import anyio.lowlevel

    from claude_mcp.engine import process

    run = process.run

    async def answer(argv: Sequence[str], **options: Any) -> process.Completed:
        program, verb, *_ = argv
        if verb == "version" or program == "git":
            return await run(argv, **options)
        await anyio.lowlevel.checkpoint()
        Engine(Path(program).parent).note(verb)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(str(Path(program).parent), argv[1:])
        return process.Completed(
            tuple(argv), code, out.getvalue().encode(), err.getvalue().encode()
        )

    monkeypatch.setattr(process, "run", answer)


def add_session(program: Path, name: str, project: Path, access: Access | None = None) -> str:
    """A running session, without the calls that make one; returns its id."""
    from claude_mcp.sessions import labels
    from claude_mcp.sessions.network import access as network
    from claude_mcp.sessions.providers.credentials import CredentialSource
    from claude_mcp.sessions.session import ID_CHARS, container_name

    access = access or network.OPEN
    container = new_container(
        container_name(name),
        "claude-code-custom:latest",
        labels.session_labels(
            name=name,
            project_path=str(project),
            provider="anthropic",
            credentials=CredentialSource.SERVER,
            access=access,
        ),
    )
    engine = Engine(program.parent)
    engine.save({**container, "status": "running"}, *(volume.name for volume in access.volumes))
    return str(container["id"][:ID_CHARS])


def new_container(name: str, image: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "id": f"{zlib.crc32(name.encode()):08x}" * 8,
        "name": name,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "status": "created",
        "exitCode": 0,
        "error": "",
        "started": "",
        "finished": "0001-01-01T00:00:00Z",
        "image": image,
        "labels": labels,
        "host": {"Memory": 2**31, "NanoCpus": 1_500_000_000, "PidsLimit": None},
    }


def calls(program: Path) -> list[str]:
    """The verbs that were called so far, and what the agent noted."""
    file = program.parent / "calls"
    return file.read_text().split() if file.exists() else []


def work(program: Path) -> list[str]:
    """The same without the questions whether the engine answers, which a slow machine adds."""
    return [each for each in calls(program) if each != "version"]


STATS = {
    "BlockIO": "0B / 8.19kB",
    "CPUPerc": "12.34%",
    "MemPerc": "0.08%",
    "MemUsage": "142.5MiB / 2GiB",
    "NetIO": "1.05kB / --",
    "PIDs": "21",
}


class Engine:
    def __init__(self, state: Path) -> None:
        self.state = state

    def security_options(self) -> list[str]:
        profile = "unconfined" if (self.state / "unconfined").exists() else "builtin"
        return [f"name=seccomp,profile={profile}"]

    def note(self, word: str) -> None:
        with (self.state / "calls").open("a") as file:
            file.write(f"{word}\n")

    def write(self, name: str, text: str) -> None:
        """Replace a file at once: another call may be reading it."""
        new = self.state / f"{name}.{os.getpid()}"
        new.write_text(text)
        new.replace(self.state / name)

    def containers(self) -> list[dict[str, Any]]:
        found = []
        for file in sorted(self.state.glob("*.json")):
            with contextlib.suppress(FileNotFoundError):  # another call has just removed it
                found.append(json.loads(file.read_text()))
        return found

    def find(self, reference: str) -> dict[str, Any] | None:
        for container in self.containers():
            if container["name"] == reference or container["id"].startswith(reference):
                return container
        return None

    def save(self, container: dict[str, Any], *volumes: str) -> None:
        """Keep a container; volumes that it uses are there from then on."""
        for volume in volumes:
            (self.state / f"{volume}.volume").touch()
            container.setdefault("volumes", []).append(volume)
        self.write(f"{container['id']}.json", json.dumps(container))

    def ids(self, argv: list[str]) -> int:
        label, given, value = argv[-1].removeprefix("--filter=label=").partition("=")
        for each in self.containers():
            if label in each["labels"] and (not given or each["labels"][label] == value):
                print(each["id"])
        return 0

    def remove_volume(self, name: str) -> int:
        if any(name in each.get("volumes", ()) for each in self.containers()):
            return fail(f"Error response from daemon: remove {name}: volume is in use - [0]")
        if not (self.state / f"{name}.volume").exists():
            return fail(f"Error response from daemon: get {name}: no such volume")
        (self.state / f"{name}.volume").unlink()
        return 0

    def create(self, argv: list[str]) -> int:
        options = dict(word[2:].split("=", 1) for word in argv if word.startswith("--name="))
        labels = dict(
            word.removeprefix("--label=").split("=", 1)
            for word in argv
            if word.startswith("--label=")
        )
        image = argv[argv.index("--entrypoint=") + 1]
        name = options["name"]
        if image == "missing:latest":
            return fail("Error: No such image: missing:latest")
        if self.find(name):
            return fail(f'Conflict. The container name "/{name}" is already in use by another.')
        refused = {"no-cpu:latest": "--cpus=", "no-memory:latest": "--memory="}.get(image, "never")
        limited = any(word.startswith(refused) for word in argv)
        container = {**new_container(name, image, labels), "limited": limited}
        binds = [word for word in argv if word.startswith("--mount=type=bind")]
        self.write("binds", "\n".join(binds))
        mount = "--mount=type=volume,source="
        self.save(
            container,
            *(word[len(mount) :].partition(",")[0] for word in argv if word.startswith(mount)),
        )
        print(container["id"])
        return 0

    def start(self, argv: list[str]) -> int:
        container = self.find(argv[-1])
        if container is None:
            return fail(f"Error response from daemon: No such container: {argv[-1]}")
        if "--attach" not in argv:
            self.save({**container, "status": "running"})
            return 0
        if container["image"] == "hang:latest":
            self.note("hanging")
            sys.stdin.read()
            return 0
        if container["limited"]:
            controller = container["image"].removeprefix("no-").removesuffix(":latest")
            return fail(
                f"Error: OCI runtime error: crun: the requested cgroup controller `{controller}` "
                "is not available"
            )
        if {"claude-mcp.proxy-of", "claude-mcp.ports-of"} & container["labels"].keys():
            if container["image"] == "broken:latest":
                return fail("Traceback\nValueError: the policy is broken")
            self.save({**container, "status": "running"})
            print(f"talk\n{READY}", flush=True)
            sys.stdin.read()
            return 0
        handed = json.loads(sys.stdin.readline())["secrets"]
        self.write("servers", json.dumps(handed.get("mcpConfig")))
        lacking = {"unfit:latest": "claude", "plain:latest": "git-lfs"}
        missing = [f"missing={lacking[image]}"] if (image := container["image"]) in lacking else []
        print(places.READY + " ".join(["writable", *missing]), flush=True)
        line = sys.stdin.readline().strip()
        if line.startswith(places.PROBE):
            print(places.PROBED + places.PROBED_OK, flush=True)
            line = sys.stdin.readline().strip()
        if line == places.COMMIT:
            self.save({**container, "status": "running"})
            print(places.COMMITTED, flush=True)
        return 0

    def stats(self, argv: list[str]) -> int:
        """As Docker prints them; the file ``ended`` makes the first call miss a container."""
        if (self.state / "ended").exists():
            (self.state / "ended").unlink()
            return fail(f"Error response from daemon: No such container: {argv[-1]}")
        for each in argv[4:]:
            print(json.dumps({**STATS, "ID": each, "Container": each}))
        return 0

    def mounts(self, id: str) -> int:
        """Of the container in which a server runs: what a test wrote to ``mounts``."""
        file = self.state / "mounts"
        if not file.exists():
            return fail(f"Error response from daemon: No such container: {id}")
        print(file.read_text())
        return 0

    def inspect(self, argv: list[str]) -> int:
        if "--format={{json .Mounts}}" in argv:
            return self.mounts(argv[-1])
        missing = False
        for reference in argv[2:]:
            if reference.startswith("--"):
                continue
            container = self.find(reference)
            if container is None:
                missing = True
            else:
                print(json.dumps(container))
        return fail("Error: No such container") if missing else 0

    def remove(self, argv: list[str]) -> int:
        container = self.find(argv[-1])
        if container is None:
            return fail("Error: No such container")
        (self.state / f"{container['id']}.json").unlink(missing_ok=True)
        print(argv[-1])
        return 0

    def agent(self) -> int:
        """Greets, and reads requests as the real agent does, one at a time."""
        answer(0, event={"greeting": True})
        for line in sys.stdin:
            request = json.loads(line)
            if request["op"] == "cancel":
                self.note("cancelled")
                answer(request["args"]["id"], error={"code": "cancelled", "message": "cancelled"})
            elif "hang" in (request["args"].get("command"), request["args"].get("prompt")):
                self.note("hanging")
            else:
                operation = getattr(self, request["op"])
                answer(request["id"], ok=operation(request["id"], request["args"]))
        return 0

    def command(self, number: int, args: dict[str, Any]) -> dict[str, Any]:
        if args["command"] == "forge":
            return result("\ud800\x1b]0;title\x07", "", 0)
        if args["command"] == "slow":
            return {**result("", "", 124), "timedOut": True}
        if args["command"] == "much":
            return {**result("head\ntail\n", "", 0), "stdoutBytes": args["limitBytes"] + 1000}
        import subprocess

        done = subprocess.run(
            ["sh", "-c", args["command"]], capture_output=True, text=True, check=False
        )
        return result(done.stdout, done.stderr, done.returncode)

    def follow_command(self, number: int, args: dict[str, Any]) -> dict[str, Any]:
        """A command that says three lines to who reads on from the beginning, and then ends."""
        identifier = args.get("commandId", COMMAND_ID)
        running = {**result("", "", 0), "exitCode": None, "status": "running"}
        running["commandId"] = identifier
        match args.get("cursor"), args.get("waitSeconds"):
            case None, 0:
                return running
            case None, _:
                return {**result("one\ntwo\n", "three\n", 4), "commandId": identifier}
            case 0, _:
                return {**running, "stdout": "one\n", "cursor": 1, "more": True}
            case 1, _:
                return {**running, "stdout": "two\n", "cursor": 2}
            case _:
                ended = result("", "three\n", 4)
                return {**ended, "commandId": identifier, "cursor": 3, "missing": 5}

    def commands(self, number: int, args: dict[str, Any]) -> dict[str, Any]:
        entry = {
            "commandId": COMMAND_ID, "command": "npm run\x1b dev", "status": "running",
            "background": True, "startedAt": "2026-01-02T03:04:05Z",
        }  # fmt: skip
        ended = {**entry, "status": "completed", "exitCode": 0, "command": "ls"}
        return {"commands": [ended, {**entry, "status": "forged"}, entry]}

    def stop_command(self, number: int, args: dict[str, Any]) -> dict[str, Any]:
        self.note("stopped")
        return {**result("", "", 143), "commandId": args["commandId"], "status": "stopped"}

    def turn(self, number: int, args: dict[str, Any]) -> dict[str, Any]:
        answer(number, event={"progress": "Bash: ls"})
        usage = {"input_tokens": 3, "output_tokens": 2}
        done = {"conversationId": "c-1", "numTurns": 1, "durationMs": 1500, "usage": usage}
        if args["prompt"] == "fail":
            return {**done, "status": "failed", "error": "401 invalid key"}
        if args["prompt"] == "deny":
            denial = {"toolName": "Bash", "toolInput": {"command": "rm x"}}
            return {
                **done, "status": "completed", "result": "I may not.", "permissionDenials": [denial]
            }  # fmt: skip
        said = {key: value for key, value in args.items() if key != "turnId" and value}
        return {**done, "status": "completed", "result": json.dumps(said), "costUsd": 0.0123}

    def configure(self, number: int, args: dict[str, Any]) -> dict[str, Any]:
        servers = args["secrets"].get("mcpConfig")
        self.write("servers", json.dumps(servers))
        return {}

    def mcp(self, number: int, args: dict[str, Any]) -> dict[str, Any]:
        """Each server that was handed over last is connected, unless its command is missing."""
        servers = json.loads((self.state / "servers").read_text())["mcpServers"]
        failed = {"status": "failed", "error": "there is no program\n'missing'"}
        connected = {"status": "connected", "error": None}
        return {
            "mcpServers": [
                {"name": name, **(failed if server.get("command") == "missing" else connected)}
                for name, server in servers.items()
            ]
        }

    def ping(self, number: int, args: dict[str, Any]) -> dict[str, Any]:
        return {}

    def status(self, number: int, args: dict[str, Any]) -> dict[str, Any]:
        return {"turnRunning": False, "lastActivityAt": "2026-01-02T03:04:05Z", "costUsd": 0.5}


def result(stdout: str, stderr: str, code: int) -> dict[str, Any]:
    return {
        "exitCode": code,
        "stdout": stdout,
        "stderr": stderr,
        "stdoutBytes": len(stdout),
        "stderrBytes": len(stderr),
        "durationMs": 12,
        "timedOut": False,
    }


def answer(number: int, **fields: Any) -> None:
    print(json.dumps({"id": number, **fields}), flush=True)


def fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


def main(state: str, argv: Sequence[str] = ()) -> int:
    engine = Engine(Path(state))
    argv = [*argv] or sys.argv[1:]
    match argv[0]:
        case "create":
            return engine.create(argv)
        case "start":
            return engine.start(argv)
        case "container":
            return engine.inspect(argv)
        case "ps":
            return engine.ids(argv)
        case "volume":
            return engine.remove_volume(argv[-1])
        case "rm":
            return engine.remove(argv)
        case "exec":
            return engine.agent()
        case "logs" if "--follow" in argv:
            print("2026-01-02T03:04:05.000000000Z session started", file=sys.stderr, flush=True)
            print("2026-01-02T03:04:06.000000000Z it goes on", flush=True)
            return 0
        case "logs":
            print("2026-01-02T03:04:05.000000000Z session started", file=sys.stderr)
            return 0
        case "stats":
            return engine.stats(argv)
        case "info":
            print(json.dumps({**INFO, "SecurityOptions": engine.security_options()}))
            return 0
        case "image":
            print("sha256:0" if argv[-1] != "missing:latest" else "")
            return 0 if argv[-1] != "missing:latest" else 1
        case _:
            return fail(f"unknown command: {argv[0]}")
