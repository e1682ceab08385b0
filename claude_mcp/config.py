"""One frozen Config: flags > environment > TOML file > defaults.

This is the only module on the host that reads ``os.environ``. The file holds the same names
as the environment, one per line (``ANTHROPIC_API_KEY = "..."``), because programs that start
MCP servers pass on almost no environment.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from claude_mcp.credentials import Secret
from claude_mcp.errors import ConfigError

DEFAULT_IMAGE: Final = "claude-code-custom:latest"
IDLE_SECONDS: Final = 1800.0
PERMISSION_SECONDS: Final = 600.0

AWS_KEY_NAMES: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
CLOUD_SECRET_NAMES: Final = frozenset(
    {
        *AWS_KEY_NAMES,
        "AWS_BEARER_TOKEN_BEDROCK",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "ANTHROPIC_FOUNDRY_API_KEY",
    }
)
SECRET_NAMES: Final = frozenset(
    {
        *CLOUD_SECRET_NAMES,
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "CLAUDE_CODE_OAUTH_TOKEN",
    }
)
SWITCHES: Final = {
    "bedrock": "CLAUDE_CODE_USE_BEDROCK",
    "vertex": "CLAUDE_CODE_USE_VERTEX",
    "foundry": "CLAUDE_CODE_USE_FOUNDRY",
}
"""What makes a cloud the provider of the sessions that ask for none."""
CLOUD_NAMES: Final = frozenset(
    {
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_PROFILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_CONFIG_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        "ANTHROPIC_BEDROCK_BASE_URL",
        "ANTHROPIC_VERTEX_BASE_URL",
        "ANTHROPIC_VERTEX_PROJECT_ID",
        "CLOUD_ML_REGION",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GCE_METADATA_HOST",
        "ANTHROPIC_FOUNDRY_BASE_URL",
        "ANTHROPIC_FOUNDRY_RESOURCE",
    }
)
LIMIT_NAMES: Final = {
    "memory": "CLAUDE_MCP_MEMORY",
    "cpus": "CLAUDE_MCP_CPUS",
    "pids": "CLAUDE_MCP_PIDS",
    "disk": "CLAUDE_MCP_DISK",
}
PROXY_NAMES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
ENGINE_NAMES: Final = frozenset(
    {"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "CONTAINER_HOST", "CONTAINERS_CONF",
     "XDG_RUNTIME_DIR"}
)  # fmt: skip
NAMES: Final = frozenset(
    {
        *SECRET_NAMES,
        *PROXY_NAMES,
        *ENGINE_NAMES,
        *CLOUD_NAMES,
        *SWITCHES.values(),
        *LIMIT_NAMES.values(),
        "ANTHROPIC_BASE_URL",
        "ANTHROPIC_MODEL",
        "ANTHROPIC_SMALL_FAST_MODEL",
        "CLAUDE_MCP_ALLOWED_HOSTS",
        "CLAUDE_MCP_ALLOWED_ROOTS",
        "CLAUDE_MCP_ENGINE",
        "CLAUDE_MCP_IDLE_SECONDS",
        "CLAUDE_MCP_NETWORK",
        "CLAUDE_MCP_NETWORK_FIXED",
        "CLAUDE_MCP_PERMISSION_SECONDS",
        "CLAUDE_MCP_PRIVATE_HOSTS",
        "CLAUDE_MCP_PROXY_IMAGE",
        "CLAUDE_MCP_TRANSFER_BYTES",
        "CLAUDE_MCP_TRANSFER_FILES",
        "CLAUDE_MCP_READ_ONLY_ROOTFS",
        "CLAUDE_MCP_RUNTIME",
        "DEFAULT_CLAUDE_IMAGE",
        "DEFAULT_SESSION_IDLE_TIMEOUT",
        "DEFAULT_SESSION_TIMEOUT",
        "MAX_CONCURRENT_SESSIONS",
        "MCP_CLAUDE_DEBUG",
    }
)
BOOLEANS: Final = frozenset(
    {
        "MCP_CLAUDE_DEBUG",
        "CLAUDE_MCP_NETWORK_FIXED",
        "CLAUDE_MCP_READ_ONLY_ROOTFS",
        *SWITCHES.values(),
    }
)
NUMBERS: Final = frozenset(
    {
        "CLAUDE_MCP_IDLE_SECONDS",
        "CLAUDE_MCP_PERMISSION_SECONDS",
        "CLAUDE_MCP_TRANSFER_BYTES",
        "CLAUDE_MCP_TRANSFER_FILES",
        "DEFAULT_SESSION_IDLE_TIMEOUT",
        "DEFAULT_SESSION_TIMEOUT",
        "MAX_CONCURRENT_SESSIONS",
        *LIMIT_NAMES.values(),
    }
)
TRANSFER_BYTES: Final = 10 * 1024**3
TRANSFER_FILES: Final = 500_000
TRANSFER_BYTES_NAME: Final = "CLAUDE_MCP_TRANSFER_BYTES"
TRANSFER_FILES_NAME: Final = "CLAUDE_MCP_TRANSFER_FILES"
ROOTS_NAME: Final = "CLAUDE_MCP_ALLOWED_ROOTS"
LISTS: Final = {ROOTS_NAME: ROOTS_NAME, "allowedRoots": ROOTS_NAME}
"""Names that may be a list of paths in the file, and the variable that means the same."""
HOST_LISTS: Final = ("CLAUDE_MCP_ALLOWED_HOSTS", "CLAUDE_MCP_PRIVATE_HOSTS")
"""Names of hosts, with commas or spaces between them; in the file also lists."""
FILE_VARIABLE: Final = "CLAUDE_MCP_CONFIG"

_FALSE: Final = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting of this process. ``environment`` is what engine processes are started with."""

    environment: Mapping[str, str] = field(repr=False)
    engine: str | None = None
    image: str = DEFAULT_IMAGE
    debug: bool = False
    api_key: Secret | None = None
    auth_token: Secret | None = None
    oauth_token: Secret | None = None
    base_url: str | None = None
    model: str | None = None
    small_fast_model: str | None = None
    clouds: tuple[str, ...] = ()
    """Those that are switched on; more than one is a contradiction."""
    cloud: Mapping[str, str] = field(default_factory=dict)
    """The variables of the clouds, as far as they are set."""
    cloud_secrets: Mapping[str, Secret] = field(default_factory=dict)
    idle_seconds: float = IDLE_SECONDS
    """How long a session's Claude Code may be idle before it is stopped to free its memory."""
    permission_seconds: float = PERMISSION_SECONDS
    """How long Claude's questions for permission wait before they are denied."""
    limits: Mapping[str, str] = field(default_factory=dict)
    """By the names of ``LIMIT_NAMES``, as they were written."""
    max_sessions: int | None = None
    """How many may run at a time, whoever made them."""
    session_timeout_seconds: float | None = None
    """How long after its creation a session is removed."""
    session_idle_seconds: float | None = None
    """After how long without use."""
    read_only_root: bool = False
    runtime: str | None = None
    network: str = "open"
    """Of sessions that ask for no other."""
    network_fixed: bool = False
    """Sessions can ask for a stricter one only, and for no hosts."""
    allowed_hosts: tuple[str, ...] = ()
    """What every restricted session may reach."""
    private_hosts: tuple[str, ...] = ()
    """The same, and these may be at addresses that are not public."""
    proxy_image: str | None = None
    """What the proxies of restricted sessions run from; None is ``image``."""
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    allowed_roots: tuple[str, ...] = ()
    """Absolute paths; where there are any, sessions get host paths in them and no others."""
    transfer_bytes: int = TRANSFER_BYTES
    """The most that one transfer out of a session may bring."""
    transfer_files: int = TRANSFER_FILES
    files: tuple[str, ...] = field(default=(), compare=False)
    """Where configuration is kept: our directory, and the file that this was read from."""


def default_file(environ: Mapping[str, str]) -> Path:
    home = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "/")) / ".config")
    return Path(home) / "claude-mcp" / "config.toml"


def read_file(path: Path, *, required: bool) -> dict[str, str]:
    """The file's settings; an absent file is empty unless ``required``.

    Raises:
        ConfigError: it cannot be read, is not TOML, or holds a name or value of no use.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if required:
            raise ConfigError(f"There is no configuration file {path}.") from None
        return {}
    except OSError as error:
        raise ConfigError(
            f"The configuration file {path} cannot be read: {error.strerror}."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"The configuration file {path} is not UTF-8 text.") from error
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"The configuration file {path} is not valid TOML: {error}.") from error
    settings: dict[str, str] = {}
    for name, value in values.items():
        if name in HOST_LISTS and isinstance(value, list):
            value = _hosts_text(path, name, value)
        if name in LISTS:
            settings[LISTS[name]] = _roots_text(path, name, value)
            continue
        if name not in NAMES:
            near = difflib.get_close_matches(name.upper(), NAMES, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(sorted(NAMES))}."
            raise ConfigError(
                f"The configuration file {path} has an unknown name {name!r}.", hint=hint
            )
        if isinstance(value, bool) and name in BOOLEANS:
            settings[name] = "1" if value else "0"
        elif isinstance(value, str) or (_is_number(value) and name in NUMBERS):
            settings[name] = str(value)
        else:
            kind = "a number" if name in NUMBERS else "a string"
            kind = "true or false" if name in BOOLEANS else kind
            raise ConfigError(f"In {path}, {name} must be {kind}.")
    return settings


def load(
    environ: Mapping[str, str] | None = None,
    *,
    file: str | None = None,
    engine: str | None = None,
    image: str | None = None,
    debug: bool | None = None,
) -> Config:
    """Read the configuration; ``file``, ``engine``, ``image`` and ``debug`` are flags.

    An empty variable counts as not set.

    Raises:
        ConfigError
    """
    environ = os.environ if environ is None else environ
    named = file or environ.get(FILE_VARIABLE)
    path = Path(named).expanduser() if named else default_file(environ)
    settings = read_file(path, required=bool(named))
    if any(environ.get(name) for name in AWS_KEY_NAMES):
        # Parts of two keys make none.
        settings = {name: value for name, value in settings.items() if name not in AWS_KEY_NAMES}
    for name in NAMES:
        value = environ.get(name) or (environ.get(name.lower()) if name in PROXY_NAMES else None)
        if value:
            settings[name] = value
    settings = {name: value for name, value in settings.items() if value}

    def secret(name: str) -> Secret | None:
        value = settings.get(name, "").strip()
        return Secret(value) if value else None

    return Config(
        environment=_engine_environment(environ, settings),
        engine=engine or settings.get("CLAUDE_MCP_ENGINE"),
        image=image or settings.get("DEFAULT_CLAUDE_IMAGE", DEFAULT_IMAGE),
        debug=_truth(settings, "MCP_CLAUDE_DEBUG") if debug is None else debug,
        api_key=secret("ANTHROPIC_API_KEY"),
        auth_token=secret("ANTHROPIC_AUTH_TOKEN"),
        oauth_token=secret("CLAUDE_CODE_OAUTH_TOKEN"),
        base_url=settings.get("ANTHROPIC_BASE_URL"),
        model=settings.get("ANTHROPIC_MODEL"),
        small_fast_model=settings.get("ANTHROPIC_SMALL_FAST_MODEL"),
        clouds=tuple(cloud for cloud, name in SWITCHES.items() if _truth(settings, name)),
        cloud={name: settings[name] for name in sorted(CLOUD_NAMES) if name in settings},
        cloud_secrets={
            name: found for name in sorted(CLOUD_SECRET_NAMES) if (found := secret(name))
        },
        idle_seconds=_seconds(settings, "CLAUDE_MCP_IDLE_SECONDS") or IDLE_SECONDS,
        permission_seconds=(
            _seconds(settings, "CLAUDE_MCP_PERMISSION_SECONDS") or PERMISSION_SECONDS
        ),
        max_sessions=_count(settings, "MAX_CONCURRENT_SESSIONS"),
        session_timeout_seconds=_seconds(settings, "DEFAULT_SESSION_TIMEOUT"),
        session_idle_seconds=_seconds(settings, "DEFAULT_SESSION_IDLE_TIMEOUT"),
        limits={key: settings[name] for key, name in LIMIT_NAMES.items() if name in settings},
        read_only_root=_truth(settings, "CLAUDE_MCP_READ_ONLY_ROOTFS"),
        runtime=settings.get("CLAUDE_MCP_RUNTIME"),
        network=settings.get("CLAUDE_MCP_NETWORK", "open"),
        network_fixed=_truth(settings, "CLAUDE_MCP_NETWORK_FIXED"),
        allowed_hosts=_hosts(settings, "CLAUDE_MCP_ALLOWED_HOSTS"),
        private_hosts=_hosts(settings, "CLAUDE_MCP_PRIVATE_HOSTS"),
        proxy_image=settings.get("CLAUDE_MCP_PROXY_IMAGE"),
        proxies={name: settings[name] for name in PROXY_NAMES if name in settings},
        allowed_roots=_roots(settings.get(ROOTS_NAME)),
        transfer_bytes=_count(settings, TRANSFER_BYTES_NAME) or TRANSFER_BYTES,
        transfer_files=_count(settings, TRANSFER_FILES_NAME) or TRANSFER_FILES,
        files=(str(default_file(environ).parent), str(path)),
    )


def variable(name: str) -> str | None:
    """A variable that a person named, to keep its value out of the command line."""
    return os.environ.get(name)


def _roots_text(path: Path, name: str, value: object) -> str:
    """As the variable has it. A colon in a path would make two of one, and an empty list nothing
    of a restriction."""
    paths = value.split(os.pathsep) if isinstance(value, str) else value
    if not isinstance(paths, list) or not paths or not all(map(_is_root, paths)):
        raise ConfigError(f"In {path}, {name} must be a list of absolute paths without a colon.")
    return os.pathsep.join(paths)


def _hosts_text(path: Path, name: str, hosts: list[object]) -> str:
    """As the variable has it."""
    if not all(isinstance(host, str) for host in hosts):
        raise ConfigError(f"In {path}, {name} must be a list of strings.")
    return ",".join(map(str, hosts))


def _is_root(value: object) -> bool:
    return isinstance(value, str) and value[:1] in ("/", "~") and os.pathsep not in value


def _roots(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    roots = tuple(os.path.expanduser(root) for root in text.split(os.pathsep) if root)
    if not roots or not all(root.startswith("/") for root in roots):
        raise ConfigError(f"{ROOTS_NAME} must be absolute paths with colons between them.")
    return roots


def _hosts(settings: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(settings.get(name, "").replace(",", " ").split())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _truth(settings: Mapping[str, str], name: str) -> bool:
    return settings.get(name, "").lower() not in _FALSE


def _seconds(settings: Mapping[str, str], name: str) -> float | None:
    """None if it is not set."""
    if name not in settings:
        return None
    try:
        seconds = float(settings[name])
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigError(f"{name} must be a number of seconds, more than 0.")
    return seconds


def _count(settings: Mapping[str, str], name: str) -> int | None:
    """None if it is not set."""
    text = settings.get(name, "1").strip()
    if not re.fullmatch("0*[1-9][0-9]{0,17}", text):
        raise ConfigError(f"{name} must be a whole number, more than 0.")
    return int(text) if name in settings else None


def _engine_environment(environ: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """What the engine's program needs: ours, without the secrets that it has no use for."""
    environment = {name: value for name, value in environ.items() if name not in SECRET_NAMES}
    environment.update({name: settings[name] for name in ENGINE_NAMES if name in settings})
    if "XDG_RUNTIME_DIR" not in environment:
        # Rootless Podman and rootless Docker keep their sockets there.
        directory = Path(f"/run/user/{os.geteuid()}")
        if directory.is_dir() and os.access(directory, os.W_OK):
            environment["XDG_RUNTIME_DIR"] = str(directory)
    return environment
