"""Turns the stderr of Docker and Podman into typed errors.

Rules are conservative: a failure gets a type only if the engine's own wording matches. Everything
else stays an ``EngineError`` with the engine's last line.
"""

from __future__ import annotations

import re
from typing import Final

from claude_mcp.engine import link_failures
from claude_mcp.engine.process import Completed
from claude_mcp.errors import EngineError, EngineUnavailable, ImageNotFound, ImageUnfit

LAST_LINE_CHARS: Final = 300

NO_SUCH_CONTAINER: Final = re.compile(
    r"no such container|no container with name or ID|no such object", re.IGNORECASE
)
HALF_REMOVED: Final = re.compile(
    r'getting container from store "([0-9a-f]{64})": container not known'
)
"""Podman's words for a container whose removal failed halfway. ``ps`` still lists it."""
BEING_REMOVED: Final = re.compile(r"removal of container \S+ is already in progress", re.IGNORECASE)
"""Docker's words if another call is removing the container."""
BUSY: Final = re.compile(r"device or resource busy", re.IGNORECASE)
PORT_IN_USE: Final = re.compile(
    r"(?:127\.0\.0\.1:|port )(\d+)\b.*(?:address already in use|port is already allocated)"
    r"|address already in use|port is already allocated",
    re.IGNORECASE,
)
"""A port of the host that a container would publish is taken; the port, if it is named."""
NAME_IN_USE: Final = re.compile(
    r"container name \S+ is already in use|name \S+ is in use: container already exists",
    re.IGNORECASE,
)
NO_SUCH_PATH: Final = re.compile(
    r"could not find the file|could not be found on container|lstat .*: no such file"
    r"|destination (\S+ )?must be a directory",
    re.IGNORECASE,
)
DISAPPEARED: Final = re.compile(r"copier: file disappeared while reading")
"""Podman's warning about a file that it left out of an archive. It reports success nevertheless,
even if the whole container was removed."""
NO_SUCH_VOLUME: Final = re.compile(r"no such volume", re.IGNORECASE)
NOT_RUNNING: Final = re.compile(
    r"is not running|container state improper|can only create exec sessions on running containers"
    r"|cannot exec in a stopped (container|state)|is paused",
    re.IGNORECASE,
)
EXEC_FAILED: Final = re.compile(r"OCI runtime exec failed: ")
"""How the line begins that Docker writes to the stdout of an ``exec`` whose program did not
start."""
PROCESS_LIMIT: Final = re.compile(
    r"(?<!connect: )resource temporarily unavailable|can't start new thread|newosproc"
    r"|pthread_create failed",
    re.IGNORECASE,
)
"""No further process can start in a container: its limit is reached. The same words after
``connect`` are about a socket whose queue is full: a daemon or a shim that is too busy."""
AMBIGUOUS: Final = re.compile(
    r"multiple IDs found with provided prefix|more than one (container|result)", re.IGNORECASE
)
_NO_SUCH_IMAGE: Final = re.compile(
    r"no such image|image not known|unable to find image|image does not exist"
    r"|manifest unknown|failed to find image",
    re.IGNORECASE,
)
_NO_DAEMON: Final = re.compile(
    r"cannot connect to the docker daemon|is the docker daemon running"
    r"|failed to connect to the docker api|error during connect",
    re.IGNORECASE,
)
_NO_SERVICE: Final = re.compile(
    r"unable to connect to Podman( socket)?:|cannot connect to podman", re.IGNORECASE
)
"""Only a Podman that was told to use a service says so."""
_NO_PERMISSION: Final = re.compile(
    r"permission denied while trying to connect|dial unix \S+ connect: permission denied",
    re.IGNORECASE,
)
_NO_PROGRAM: Final = re.compile(
    r"executable file [`'\"]?\S+?[`'\"]? not found in \$PATH|exec: \S+: stat \S+ no such file"
    r"|executable file not found|exec \S+ failed: No such file or directory"  # tini
    r"|failed to exec pid1:\s*No such file",  # catatonit
    re.IGNORECASE,
)
_REFUSED: Final = {
    "cpus": re.compile(
        r"NanoCPUs can not be set|Range of CPUs is from"  # Docker
        r"|controller [`'\"]?cpu[`'\"]? is not available"  # crun
        r"|cpu\.(max|cfs_quota_us|cfs_period_us)\b",  # runc
        re.IGNORECASE,
    ),
    "memory": re.compile(
        r"controller [`'\"]?memory[`'\"]? is not available"
        r"|memory\.(max|swap\.max|limit_in_bytes|memsw\.limit_in_bytes)\b",
        re.IGNORECASE,
    ),
    "pids": re.compile(
        r"controller [`'\"]?pids[`'\"]? is not available|\bpids\.max\b", re.IGNORECASE
    ),
    "disk": re.compile(
        r"--storage-opt is (not )?supported|storage option overlay\.size"
        r"|storage option (size|\S+\.size)|storage-opt",
        re.IGNORECASE,
    ),
}
"""How engines and runtimes refuse a limit that they cannot set on this host."""
_IGNORED: Final = re.compile(
    r"limit\w* (are|is) not supported|limitation discarded|limit discarded"
    r"|memory limited without swap",
    re.IGNORECASE,
)
"""How they warn that they created a container without a limit."""
_NO_RUNTIME: Final = re.compile(
    r"unknown runtime specified|unknown or invalid runtime name|OCI runtime \S+ not found",
    re.IGNORECASE,
)
_NO_LOGIN: Final = re.compile(
    r"/run/user/\d+\S*: (permission denied|no such file)|address of session bus"
    r"|sd-bus call|RunRoot is pointing to a path .* which is not writable",
    re.IGNORECASE,
)
"""A rootless engine lacks what a login session gives its user."""
_WARNING: Final = re.compile(r'time="[^"]*" level=(warning|info) |Emulate Docker CLI using podman')
_CLIENT_LINE: Final = re.compile(
    r'time="[^"]*" level=\w+ msg=|Emulate Docker CLI using podman|WARNING: '
)
_CONFIGURED: Final = (
    (re.compile(r"container-init binary not found"), "init_path"),
    (re.compile(r"opening seccomp profile failed"), "seccomp_profile"),
    (re.compile(r"AppArmor profile .* not loaded"), "apparmor_profile"),
    (re.compile(r"failed to create new hosts file"), "base_hosts_file"),
    (re.compile(r"error setting rlimit|\[Errno 27\] File too large"), "default_ulimits"),
    (re.compile(r"OCI hooks|error running hook", re.IGNORECASE), "hooks_dir"),
    (re.compile(r"duplicate mount destination"), "volumes"),
    (re.compile(r"not compatible with NoCgroups"), "cgroups"),
    (re.compile(r"cannot use systemd cgroups manager"), "cgroup_manager"),
    (re.compile(r"/attr/current: invalid argument"), "label_users"),
    (re.compile(r"doesn't support --log-tag"), "log_tag"),
    (re.compile(r"unknown event logger type"), "events_logger"),
    (re.compile(r"failed to open \d+ locks"), "num_locks"),
    (re.compile(r"checking platform of image .*: open "), "image_copy_tmp_dir"),
    (
        re.compile(r"decode configuration|finding config on system|validating containers config"),
        "what the message names",
    ),
)
"""Failures that a setting of the engine's configuration causes, in a container of any kind."""
NO_REASON: Final = "it gave no reason."
NO_REASON_HINT: Final = (
    "Run 'claude-mcp doctor': it names what the engine's configuration does to every session."
)
_NO_SOURCE: Final = re.compile(
    r"bind source path does not exist: (?P<docker>[\s\S]+?)\.?\s*(?:\nSee '.*\s*)?\Z"
    r"|statf?s? (?P<podman>/[\s\S]+?): no such file or directory"
)
"""A path may have line breaks."""
ELSEWHERE_HINT: Final = (
    "The engine runs on another machine or in another container. Run claude-mcp where it runs, or "
    "give it these files at the same path."
)
CONFIGURED_SOURCE_HINT: Final = (
    "Correct the engine's configuration (volumes or devices in containers.conf): no session asks "
    "for this path."
)
_STOPPED_READING: Final = re.compile(r"io: read/write on closed pipe")
"""Podman's client says so of an archive that its service read only in part. The service keeps the
reason to its own log."""
_NO_SPACE: Final = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)


def last_line(stderr: str, pattern: re.Pattern[str] | None = None) -> str:
    """The last line of stderr as a sentence, without the prefixes that engines add.

    With ``pattern``, the last line that matches it.
    """
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    # Docker ends many failures with a pointer to its help, and those of `start` with names.
    noise = ("See '", "Run 'docker", "Usage:", "Error: failed to start containers:")
    lines = [line for line in lines if not line.startswith(noise)]
    # The client's own warnings may follow the reason.
    lines = [line for line in lines if not _WARNING.match(line)] or lines
    if pattern is not None:
        lines = [line for line in lines if pattern.search(line)]
    if not lines:
        return NO_REASON
    line = lines[-1]
    line = re.sub(r'^time="[^"]*" level=\w+ msg="(.*)"$', r"\1", line)
    line = re.sub(r"^(Error response from daemon: |Error: |\* )+", "", line)
    if len(line) > LAST_LINE_CHARS:
        line = line[: LAST_LINE_CHARS // 2] + " ... " + line[-LAST_LINE_CHARS // 2 :]
    return line if line.endswith((".", "?", "!")) else f"{line}."


def without_client_lines(log: str) -> str:
    """The stderr of ``logs --timestamps`` without what the client says itself.

    A line of the container begins with its time.
    """
    return "".join(
        line for line in re.findall(r"[^\n]*\n|[^\n]+", log) if not _CLIENT_LINE.match(line)
    )


def classify(engine_name: str, tried: str, stderr: str) -> EngineError:
    """The error for a failed engine call. ``tried`` completes "<Engine> could not ..."."""
    message = f"{engine_name} could not {tried}: "
    errors = "\n".join(line for line in stderr.splitlines() if not _WARNING.match(line))
    if _NO_PERMISSION.search(stderr):
        return EngineUnavailable(
            f"{engine_name} refused access to its socket: {last_line(stderr, _NO_PERMISSION)}",
            hint="Add your user to the group that owns the socket (often 'docker') and log in "
            "again, or use Podman: set CLAUDE_MCP_ENGINE=podman.",
        )
    why = link_failures.reason(errors)
    if why is not None:
        return EngineUnavailable(
            f"{engine_name} cannot be reached: {why.said} ({link_failures.quoted(why, errors)}).",
            hint=why.hint,
        )
    if _NO_DAEMON.search(stderr):
        return EngineUnavailable(
            f"{engine_name}'s daemon does not answer: {last_line(stderr, _NO_DAEMON)}",
            hint="Start it (for example 'systemctl start docker'), correct DOCKER_HOST or "
            "DOCKER_CONTEXT, or use Podman: set CLAUDE_MCP_ENGINE=podman.",
        )
    if _NO_SERVICE.search(stderr):
        return EngineUnavailable(
            f"Podman's service does not answer: {last_line(stderr, _NO_SERVICE)}",
            hint="Start it (for example 'systemctl start podman.socket'), or correct "
            "CONTAINER_HOST or CONTAINER_CONNECTION.",
        )
    if _NO_LOGIN.search(errors):
        return EngineError(
            f"{message}{last_line(errors, _NO_LOGIN)}",
            hint="A rootless engine needs a login session of its user: log in as that user (su and "
            "sudo are not enough), or run 'loginctl enable-linger' for it, and let XDG_RUNTIME_DIR "
            "name its directory.",
        )
    if _NO_RUNTIME.search(stderr):
        return EngineError(
            f"{message}{last_line(stderr, _NO_RUNTIME)}",
            hint="Install the runtime and declare it in the engine's configuration, or choose "
            "another runtime.",
        )
    if _NO_SPACE.search(stderr):
        return EngineError(
            f"{message}{last_line(stderr, _NO_SPACE)}",
            hint="Free some space, or remove old sessions with 'claude-mcp prune'.",
        )
    if _STOPPED_READING.search(errors):
        return EngineError(
            f"{message}its service stopped reading and does not say why. Most often the disk there "
            "is full.",
            hint="Free some space in the session and on the engine's machine. The log of Podman's "
            "service has the reason.",
        )
    if _NO_SUCH_IMAGE.search(stderr):
        return ImageNotFound(f"{message}{last_line(stderr, _NO_SUCH_IMAGE)}")
    if _NO_PROGRAM.search(stderr):
        return ImageUnfit(f"{message}{last_line(stderr, _NO_PROGRAM)}")
    setting = next((name for pattern, name in _CONFIGURED if pattern.search(stderr)), None)
    hint = (
        f"Correct the engine's configuration ({setting} in containers.conf)." if setting else None
    )
    reason = last_line(stderr)
    if reason == NO_REASON:
        hint = NO_REASON_HINT
    return EngineError(f"{message}{reason}", hint=hint)


def missing_source(stderr: str) -> str | None:
    """The path to mount that the engine could not find."""
    match = _NO_SOURCE.search(stderr)
    return match and (match["docker"] or match["podman"])


def refused_limit(stderr: str) -> str | None:
    """The field of ``Limits`` because of which the engine refused a container, if any."""
    return next((name for name, pattern in _REFUSED.items() if pattern.search(stderr)), None)


def ignored_limits(stderr: str) -> tuple[str, ...]:
    """The engine's warnings about limits that it did not set on a new container."""
    lines = dict.fromkeys(line for line in stderr.splitlines() if _IGNORED.search(line))
    return tuple(last_line(line).removeprefix("WARNING: ") for line in lines)


def matches(pattern: re.Pattern[str], completed: Completed) -> bool:
    """Whether a call failed with this wording."""
    return completed.returncode != 0 and pattern.search(completed.err) is not None
