"""Exit codes and stderr as real engines gave them, and what becomes of them.

The texts are those of Docker 28.2 in front of engine 20.10, and of Podman 4.3.
"""

from __future__ import annotations

import re

import pytest

from claude_mcp.engine import failures
from claude_mcp.engine.process import Completed
from claude_mcp.errors import (
    EngineError,
    EngineUnavailable,
    ImageNotFound,
    ImageUnfit,
)

DOCKER_NO_CONTAINER = "Error response from daemon: No such container: nosuch\n"
DOCKER_PORT_IN_USE = (
    "Error response from daemon: driver failed programming external connectivity on endpoint c "
    "(7dfc01e9): Error starting userland proxy: listen tcp4 127.0.0.1:4120: bind: address already "
    "in use\n"
)
DOCKER_PORT_ALLOCATED = (
    "Error response from daemon: driver failed programming external connectivity on endpoint c "
    "(7dfc01e9): Bind for 127.0.0.1:4120 failed: port is already allocated\n"
)
PODMAN_PORT_IN_USE = (
    "Error: unable to start container c137e22b: cannot listen on the TCP port: listen tcp4 "
    "127.0.0.1:4120: bind: address already in use\n"
)
PASTA_PORT_IN_USE = (
    "Error: unable to start container c137e22b: pasta failed with exit code 1:\n"
    "Failed to bind port 4120 (Address already in use) for option '-t 127.0.0.1/4120:20000'\n"
)
DOCKER_NAME_IN_USE = (
    'Error response from daemon: Conflict. The container name "/a" is already in use by container '
    '"6df80de7c8ae90272c5bd7de3f26cb2002973dac19c8559265a44a749ee1313b". You have to remove (or '
    "rename) that container to be able to reuse that name.\n"
)
DOCKER_DOWN = (
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. "
    "Is the docker daemon running?\n"
)
DOCKER_FORBIDDEN = (
    "permission denied while trying to connect to the Docker daemon socket at "
    'unix:///var/run/docker.sock: Get "http://%2Fvar%2Frun%2Fdocker.sock/v1.50/containers/json": '
    "dial unix /var/run/docker.sock: connect: permission denied\n"
)
PODMAN_NO_CONTAINER = 'Error: no container with name or ID "nosuch" found: no such container\n'
PODMAN_NAME_IN_USE = (
    'Error: creating container storage: the container name "a" is already in use by '
    "29d26cb97639ffe25a585fc2578b832efb0425ee2d3314542c1cc3e4cced1f84. You have to remove that "
    "container to be able to reuse that name: that name is already in use\n"
)
PODMAN_DOWN = (
    "Cannot connect to Podman. Please verify your connection to the Linux system using `podman "
    "system connection list`, or try `podman machine init` and `podman machine start` to manage a "
    "new Linux VM\n"
    'Error: unable to connect to Podman socket: Get "http://d/v4.3.1/libpod/_ping": '
    "dial unix /nonexist: connect: no such file or directory\n"
)


@pytest.mark.parametrize(
    ("pattern", "stderr"),
    [
        (failures.NO_SUCH_CONTAINER, DOCKER_NO_CONTAINER),
        (failures.NO_SUCH_CONTAINER, "Error: No such object: nosuch\n"),
        (failures.NO_SUCH_CONTAINER, PODMAN_NO_CONTAINER),
        (
            failures.NO_SUCH_CONTAINER,
            "Error: inspecting object: no such container nosuch\n",
        ),
        (failures.NAME_IN_USE, DOCKER_NAME_IN_USE),
        (failures.NAME_IN_USE, PODMAN_NAME_IN_USE),
        (failures.PORT_IN_USE, DOCKER_PORT_IN_USE),
        (failures.PORT_IN_USE, PODMAN_PORT_IN_USE),
        (
            failures.NO_SUCH_PATH,
            "Error response from daemon: Could not find the file /nope in container c\n",
        ),
        (failures.NO_SUCH_PATH, 'destination "c:/nope" must be a directory\n'),
        (
            failures.NO_SUCH_PATH,
            'Error: "/nope" could not be found on container c: no such file or directory\n',
        ),
        (
            failures.NO_SUCH_PATH,
            "Error: destination must be a directory when copying from stdin\n",
        ),
        (
            failures.NOT_RUNNING,
            "Error response from daemon: Container 6df80de7c8ae is not running\n",
        ),
        (
            failures.NOT_RUNNING,
            "Error response from daemon: Container c is paused, unpause the container before exec",
        ),
        (
            failures.NOT_RUNNING,
            "Error: can only create exec sessions on running containers: "
            "container state improper\n",
        ),
        (
            failures.AMBIGUOUS,
            "Error response from daemon: Multiple IDs found with provided prefix: ab\n",
        ),
        (
            failures.AMBIGUOUS,
            'Error: more than one result for container name or ID "ab": container already exists\n',
        ),
    ],
)
def test_an_engines_wording_counts_only_if_the_call_failed(
    pattern: re.Pattern[str], stderr: str
) -> None:
    assert failures.matches(pattern, Completed(("docker",), 1, b"", stderr.encode()))
    assert not failures.matches(pattern, Completed(("docker",), 0, b"", stderr.encode()))


@pytest.mark.parametrize(
    ("stderr", "kind", "message"),
    [
        (
            DOCKER_DOWN,
            EngineUnavailable,
            "Docker's daemon does not answer: Cannot connect to the Docker daemon at "
            "unix:///var/run/docker.sock. Is the docker daemon running?",
        ),
        (
            DOCKER_FORBIDDEN,
            EngineUnavailable,
            "Docker refused access to its socket: permission denied while trying to connect to "
            "the Docker daemon socket at unix:///var/run/docker.sock: Get "
            '"http://%2Fvar%2Frun%2Fdocker.sock/v1.50/containers/json": dial unix '
            "/var/run/docker.sock: connect: permission denied.",
        ),
        (
            PODMAN_DOWN,
            EngineUnavailable,
            "Podman's service does not answer: unable to connect to Podman socket: Get "
            '"http://d/v4.3.1/libpod/_ping": dial unix /nonexist: connect: no such file or '
            "directory.",
        ),
        (
            "Error response from daemon: No such image: i:1\n",
            ImageNotFound,
            "Docker could not create it: No such image: i:1.",
        ),
        (
            "Error: i:1: image not known\n",
            ImageNotFound,
            "Docker could not create it: i:1: image not known.",
        ),
        (
            "Error response from daemon: failed to create shim task: OCI runtime create failed: "
            'runc create failed: unable to start container process: exec: "python3": executable '
            "file not found in $PATH: unknown\nError: failed to start containers: c\n",
            ImageUnfit,
            "Docker could not create it: failed to create shim task: OCI runtime create failed: "
            'runc create failed: unable to start container process: exec: "python3": executable '
            "file not found in $PATH: unknown.",
        ),
        (
            "[FATAL tini (6)] exec python3 failed: No such file or directory\n",
            ImageUnfit,
            "Docker could not create it: [FATAL tini (6)] exec python3 failed: No such file or "
            "directory.",
        ),
        (
            "ERROR (catatonit:6): failed to exec pid1: No such file or directory\n",
            ImageUnfit,
            "Docker could not create it: ERROR (catatonit:6): failed to exec pid1: No such file or "
            "directory.",
        ),
        (
            'Error: unable to start container "29d2": runc: runc create failed: unable to start '
            'container process: exec: "python3": executable file not found in $PATH: OCI runtime '
            "attempted to invoke a command that was not found\n",
            ImageUnfit,
            'Docker could not create it: unable to start container "29d2": runc: runc create '
            'failed: unable to start container process: exec: "python3": executable file not found '
            "in $PATH: OCI runtime attempted to invoke a command that was not found.",
        ),
        (
            "Error response from daemon: mkdir /var/lib/docker/overlay2/x: no space left on "
            "device\n",
            EngineError,
            "Docker could not create it: mkdir /var/lib/docker/overlay2/x: no space left on "
            "device.",
        ),
    ],
)
def test_known_wording_gives_a_failure_its_type(
    stderr: str, kind: type[EngineError], message: str
) -> None:
    error = failures.classify("Docker", "create it", stderr)
    assert (type(error), error.message) == (kind, message)


def test_a_failure_that_users_can_fix_has_a_hint() -> None:
    hints = {
        stderr: failures.classify("Docker", "start it", stderr).hint
        for stderr in (
            DOCKER_DOWN,
            DOCKER_FORBIDDEN,
            PODMAN_DOWN,
            "write /x: no space left on device",
        )
    }
    assert hints == {
        DOCKER_DOWN: "Start it (for example 'systemctl start docker'), correct DOCKER_HOST or "
        "DOCKER_CONTEXT, or use Podman: set CLAUDE_MCP_ENGINE=podman.",
        DOCKER_FORBIDDEN: "Add your user to the group that owns the socket (often 'docker') and "
        "log in again, or use Podman: set CLAUDE_MCP_ENGINE=podman.",
        PODMAN_DOWN: "Start it (for example 'systemctl start podman.socket'), or correct "
        "CONTAINER_HOST or CONTAINER_CONNECTION.",
        "write /x: no space left on device": "Free some space, or remove old sessions with "
        "'claude-mcp prune'.",
    }


@pytest.mark.parametrize(
    "said",
    [
        "invalid reference format",
        "Container c not found in the daemon's records of images",
        "permission denied",
        "the file daemon.json is not valid",
        "open /x: no such file or directory",
        "OCI runtime error: something new",
    ],
)
def test_an_unknown_failure_keeps_the_engines_own_words(said: str) -> None:
    error = failures.classify("Podman", "create container a", f"Error: {said}\n")
    assert type(error) is EngineError
    assert str(error) == f"Podman could not create container a: {said}."


@pytest.mark.parametrize(
    ("stderr", "line"),
    [
        ("", "it gave no reason."),
        ("\n \n", "it gave no reason."),
        ("first\nlast\n\n", "last."),
        ("is it?\n", "is it?"),
        ("Error: Error response from daemon: what.\n", "what."),
        ("docker: what.\nSee 'docker create --help'.\n", "docker: what."),
        ("what\n\nUsage:  docker create\n\nRun 'docker create --help' for more\n", "what."),
        ("Error response from daemon: what\nError: failed to start containers: c\n", "what."),
        ('time="2026-01-01T00:00:00Z" level=error msg="the \\"cause\\""\n', 'the \\"cause\\".'),
    ],
)
def test_the_last_line_is_shown_without_prefixes(stderr: str, line: str) -> None:
    assert failures.last_line(stderr) == line


def test_a_warning_of_the_client_is_not_the_reason_of_a_failure() -> None:
    warning = 'time="2026-11-29T09:19:17Z" level=warning msg="Using cgroups-v1 which is deprecated"'
    assert failures.last_line(
        f"Error: it broke\n{warning}\nEmulate Docker CLI using podman. x\n"
    ) == ("it broke.")
    assert failures.last_line(warning) == "Using cgroups-v1 which is deprecated."


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "init_path",
            "Error: container-init binary not found on the host: stat /nowhere/init: no such file "
            "or directory",
        ),
        ("seccomp_profile", "Error: opening seccomp profile failed: open /nowhere: no such file"),
        ("base_hosts_file", "Error: creating hosts file: failed to create new hosts file: open /x"),
        ("default_ulimits", "Error: runc: error setting rlimit type 6: operation not permitted"),
        ("default_ulimits", "OSError: [Errno 27] File too large"),
        ("hooks_dir", 'Error: setting up OCI Hooks: parsing hook "/h/x.json": version check'),
        ("hooks_dir", "Error: runc: error running hook #0: error running hook: exit status 1"),
        ("label_users", "Error: read /proc/thread-self/attr/current: invalid argument"),
        ("volumes", "Error: /workspace: duplicate mount destination"),
        ("cgroups", "Error: requested OCI runtime runc is not compatible with NoCgroups"),
        (
            "cgroup_manager",
            "Error: runc: systemd not running on this host, cannot use systemd cgroups manager",
        ),
        (
            "log_tag",
            "[conmon:e] k8s-file doesn't support --log-tag\nError: write child: broken pipe",
        ),
        ("events_logger", 'time="x" level=error msg="unknown event logger type: NOSUCH"'),
        (
            "num_locks",
            "Error: failed to open 64 locks in /libpod_lock: numerical result out of range",
        ),
        (
            "image_copy_tmp_dir",
            "Error: checking platform of image localhost/a: inspecting image: open /nowhere/1: no "
            "such file or directory",
        ),
        (
            "what the message names",
            'time="x" level=error msg="reading system config: decode configuration /c: toml"',
        ),
        (
            "what the message names",
            'time="x" level=error msg="validating containers config: log size max should be"',
        ),
    ],
)
def test_a_failure_that_containers_conf_causes_names_the_setting(setting: str, said: str) -> None:
    error = failures.classify("Podman", "create container a", said)
    assert error.hint == f"Correct the engine's configuration ({setting} in containers.conf)."


def test_a_failure_without_a_reason_leads_to_doctor() -> None:
    error = failures.classify("Podman", "start session container a", "")
    assert error.hint == failures.NO_REASON_HINT


def test_a_service_that_stopped_reading_is_likely_out_of_disk() -> None:
    error = failures.classify("Podman", "copy into c", "Error: io: read/write on closed pipe\n")
    assert error.message == (
        "Podman could not copy into c: its service stopped reading and does not say why. Most "
        "often the disk there is full."
    )
    assert "Free some space" in (error.hint or "")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/nowhere/a b", 'type "bind": bind source path does not exist: /nowhere/a b\n'),
        ("/nowhere", "Error: statfs /nowhere: no such file or directory\n"),
        ("/dev/nosuch", "Error: stat /dev/nosuch: no such file or directory\n"),
        (None, "Error: no such image\n"),
        (
            "/home/me/a\nb.c",
            'invalid mount config for type "bind": bind source path does not exist: /home/me/a\n'
            "b.c.\nSee 'docker create --help'.\n",
        ),
        ("/home/me/a\nb", "Error: statfs /home/me/a\nb: no such file or directory\n"),
    ],
)
def test_a_path_that_the_engine_does_not_have_is_found(path: str | None, said: str) -> None:
    assert failures.missing_source(said) == path


def test_a_missing_login_session_is_not_taken_for_a_missing_runtime() -> None:
    stderr = (
        'Error: runc: time="2026-11-29T09:41:34Z" level=error msg="mkdir /run/user/4242: '
        'permission denied": OCI permission denied\n'
    )
    hint = failures.classify("Podman", "start it", stderr).hint or ""
    assert "loginctl enable-linger" in hint
    # Podman only warns of it, and the reason is another one.
    warned = 'time="2026-11-29T09:41:34Z" level=warning msg="address of session bus"\n'
    reason = 'Error: default OCI runtime "crun" not found: invalid argument\n'
    hint = failures.classify("Podman", "start it", warned + reason).hint or ""
    assert hint.startswith("Install the runtime")


def test_a_very_long_last_line_loses_its_middle() -> None:
    assert failures.last_line("a" * 1000 + "b" * 1000) == f"{'a' * 150} ... {'b' * 150}."


def test_a_failure_is_classified_by_stderr_alone() -> None:
    completed = Completed(("podman",), 125, b"No such image", b"Error: \xff what\n")
    error = failures.classify("Podman", "list containers", completed.err)
    assert str(error) == "Podman could not list containers: \N{REPLACEMENT CHARACTER} what."


@pytest.mark.parametrize(
    ("limit", "stderr"),
    [
        (
            "cpus",
            "Error response from daemon: NanoCPUs can not be set, as your kernel does not support "
            "CPU CFS scheduler or the cgroup is not mounted\n",
        ),
        (
            "cpus",
            "Error: OCI runtime error: crun: the requested cgroup controller `cpu` is not "
            "available\n",
        ),
        (
            "memory",
            "Error: OCI runtime error: crun: the requested cgroup controller `memory` is not "
            "available\n",
        ),
        (
            "pids",
            "Error: OCI runtime error: crun: the requested cgroup controller `pids` is not "
            "available\n",
        ),
        (
            "cpus",
            "runc create failed: unable to start container process: error setting cgroup config "
            "for procHooks process: openat2 /sys/fs/cgroup/a/cpu.max: no such file or directory\n",
        ),
        (
            "disk",
            "Error response from daemon: --storage-opt is supported only for overlay over xfs "
            "with 'pquota' mount option\n",
        ),
        (
            "disk",
            "Error: storage option overlay.size and overlay.inodes only supported for backingFS "
            "XFS. Found extfs\n",
        ),
        (None, DOCKER_NO_CONTAINER),
        (None, "Error: crun: the requested cgroup controller `cpuset` is not available\n"),
    ],
)
def test_the_limit_that_an_engine_refuses_is_named(limit: str | None, stderr: str) -> None:
    assert failures.refused_limit(stderr) == limit


def test_each_limit_that_was_left_out_is_reported_once() -> None:
    ignored = "Resource limits are not supported and ignored on cgroups V1 rootless systems\n"
    stderr = f"{ignored}WARNING: something else\n{ignored}"
    assert failures.ignored_limits(stderr) == (
        "Resource limits are not supported and ignored on cgroups V1 rootless systems.",
    )
    assert failures.ignored_limits("") == ()


@pytest.mark.parametrize(
    "stderr",
    [
        "Error response from daemon: Unknown runtime specified runsc\n",
        "Error response from daemon: unknown or invalid runtime name: runsc\n",
        'Error: default OCI runtime "runsc" not found: invalid argument\n',
    ],
)
def test_a_missing_runtime_has_a_hint(stderr: str) -> None:
    error = failures.classify("Docker", "create it", stderr)
    assert error.hint == (
        "Install the runtime and declare it in the engine's configuration, or choose another "
        "runtime."
    )


@pytest.mark.parametrize(
    ("stderr", "port"),
    [
        (DOCKER_PORT_IN_USE, "4120"),
        (DOCKER_PORT_ALLOCATED, "4120"),
        (PODMAN_PORT_IN_USE, "4120"),
        (PASTA_PORT_IN_USE, "4120"),
        ("Error: address already in use\n", None),
    ],
)
def test_the_port_that_is_in_use_is_named(stderr: str, port: str | None) -> None:
    found = failures.PORT_IN_USE.search(stderr)
    assert found is not None
    assert found[1] == port
