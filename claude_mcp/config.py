"""One frozen Config: flags > environment > TOML file > defaults.

This is the only module on the host that reads ``os.environ``. The file holds the same names
as the environment, one per line (``ANTHROPIC_API_KEY = "..."``), because programs that start
MCP servers pass on almost no environment. ``config_names`` declares the names.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from claude_mcp.config_names import (
    ALIASES,
    ALL_TOOLSETS,
    AWS_KEY_NAMES,
    CLOUD_NAMES,
    CLOUD_SECRET_NAMES,
    DEFAULT_IMAGE,
    FILE_VARIABLE,
    HEADERS_NAME,
    HTTP_NAMES,
    IDLE_SECONDS,
    KINDS,
    LIMIT_NAMES,
    NOT_USED,
    PERMISSION_SECONDS,
    PROXY_NAMES,
    ROOTS_NAME,
    SECRET_NAMES,
    SWITCHES,
    TOKEN_NAME,
    TOOLSETS_NAME,
    TRANSFER_BYTES,
    TRANSFER_BYTES_NAME,
    TRANSFER_FILES,
    TRANSFER_FILES_NAME,
    Kind,
    Toolset,
    Use,
    names,
)
from claude_mcp.credentials import Secret
from claude_mcp.engine import login, pod_options
from claude_mcp.engine.address import KUBERNETES, EngineAddress
from claude_mcp.errors import ConfigError

ENGINES: Final = "engines"
"""The table of the file that holds a table for each engine."""
_FALSE: Final = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting of this process. ``environment`` is that of engine processes."""

    environment: Mapping[str, str] = field(repr=False)
    login: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Further variables for the programs that log in to a cluster or a registry."""
    engine: str | None = None
    """The engine's program."""
    engine_name: str | None = None
    """What the configuration file calls the engine, if it does."""
    engines: Mapping[str, EngineAddress] = field(default_factory=dict)
    """The engines that are used together, by name; if there are any, ``engine`` is none."""
    image: str = DEFAULT_IMAGE
    debug: bool = False
    api_key: Secret | None = None
    auth_token: Secret | None = None
    oauth_token: Secret | None = None
    custom_headers: Secret | None = None
    """One ``Name: value`` a line."""
    base_url: str | None = None
    model: str | None = None
    small_fast_model: str | None = None
    clouds: tuple[str, ...] = ()
    """The clouds that are switched on; more than one is a contradiction."""
    cloud: Mapping[str, str] = field(default_factory=dict)
    """The clouds' variables that are set."""
    cloud_secrets: Mapping[str, Secret] = field(default_factory=dict)
    idle_seconds: float = IDLE_SECONDS
    """Claude Code is stopped after being idle for this long, to free its memory."""
    permission_seconds: float = PERMISSION_SECONDS
    """Unanswered permission requests are denied after this time."""
    limits: Mapping[str, str] = field(default_factory=dict)
    """Unparsed; the keys are those of ``LIMIT_NAMES``."""
    max_sessions: int | None = None
    """Maximum number of running sessions on this engine, including those of other programs."""
    owner: str = ""
    """Whose sessions these are: other owners' sessions do not exist here. Empty for the operator,
    who sees all."""
    max_own_sessions: int | None = None
    """Maximum number of running sessions of the owner."""
    limits_fixed: bool = False
    """Sessions may only ask for less than ``limits``."""
    tools: frozenset[str] | None = None
    """The only MCP tools that the owner may use; None is no restriction."""
    http: Mapping[str, str] = field(default_factory=dict)
    """What is set of the server over HTTP, by its names in ``config_names``."""
    http_token: Secret | None = None
    session_timeout_seconds: float | None = None
    """A session is removed this long after its creation."""
    session_idle_seconds: float | None = None
    """A session is removed after being unused for this long."""
    persistent_volume: str | None = None
    """Unparsed; see ``sessions.limits.kept_bytes``."""
    read_only_root: bool = False
    runtime: str | None = None
    workspace: str = "bind"
    """The workspace of sessions that ask for none."""
    network: str = "open"
    """The network of sessions that ask for none."""
    network_fixed: bool = False
    """Sessions may only ask for a stricter network, and for nothing that adds a host."""
    allowed_hosts: tuple[str, ...] = ()
    """Hosts that every restricted session may reach."""
    private_hosts: tuple[str, ...] = ()
    """The same, but these may be at private addresses."""
    proxy_image: str | None = None
    """The image of the proxies of restricted sessions; None means ``image``."""
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    allowed_roots: tuple[str, ...] = ()
    """Absolute paths; if there are any, sessions get only host paths below them."""
    transfer_bytes: int = TRANSFER_BYTES
    """Upper bounds of one transfer out of a session."""
    transfer_files: int = TRANSFER_FILES
    toolsets: frozenset[Toolset] = frozenset({Toolset.CORE})
    """The sets of MCP tools that the server lists."""
    files: tuple[str, ...] = field(default=(), compare=False)
    """Paths of the configuration: our directory, and the file that was read."""

    def on(self, name: str) -> Config:
        """The same for one of ``engines`` alone."""
        address = self.engines[name]
        return replace(
            self,
            environment=address.environment(self.environment),
            engine=address.program,
            engine_name=name,
            engines={},
        )


@dataclass(frozen=True, slots=True)
class UserDirectories:
    """Where one user's programs keep their settings."""

    system: str
    """As ``sys.platform`` names it."""
    home: Path
    xdg: Path
    """``XDG_CONFIG_HOME``, or its default."""
    roaming: Path
    """``APPDATA`` of Windows, or its default."""
    claude: Path
    """Where Claude Code keeps ``.claude.json``: ``CLAUDE_CONFIG_DIR``, or the home."""

    @property
    def applications(self) -> Path:
        """Where the system wants programs with windows to keep their settings."""
        if self.system == "darwin":
            return self.home / "Library" / "Application Support"
        return self.roaming if self.system == "win32" else self.xdg


def default_file(environ: Mapping[str, str]) -> Path:
    home = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "/")) / ".config")
    return Path(home) / "claude-mcp" / "config.toml"


def read_file(path: Path, *, required: bool) -> dict[str, str]:
    """The file's settings; an absent file is empty unless ``required``.

    Raises:
        ConfigError: it cannot be read, is not TOML, or contains an unknown name or a wrong value.
    """
    return _settings(path, _values(path, required=required))


def read_engines(path: Path) -> dict[str, EngineAddress]:
    """The engines that the file names; raises as ``read_file`` does."""
    return _engines(path, _values(path, required=False))


def _engines(path: Path, values: Mapping[str, Any]) -> dict[str, EngineAddress]:
    if ENGINES not in values:
        return {}
    from claude_mcp.config_engines import parse

    return parse(path, values[ENGINES])


def _values(path: Path, *, required: bool) -> dict[str, Any]:
    """What the file holds, unchecked."""
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
    import tomllib  # only who has a file needs it

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"The configuration file {path} is not valid TOML: {error}.") from error


def _settings(path: Path, values: Mapping[str, Any]) -> dict[str, str]:
    settings: dict[str, str] = {}
    for given, value in values.items():
        if given == ENGINES:
            continue
        name = ALIASES.get(given, given)
        if name not in KINDS:
            raise _unknown_name(path, name)
        setting = _text(KINDS[name], value)
        if setting is None:
            raise ConfigError(f"In {path}, {given} must be {_expected(KINDS[name])}.")
        settings[name] = setting
    return settings


def _unknown_name(path: Path, name: str) -> ConfigError:
    if name in NOT_USED:
        return ConfigError(f"{name} in {path} would have no effect.", hint=NOT_USED[name])
    import difflib  # only mistakes need it

    near = difflib.get_close_matches(name.upper(), KINDS, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(sorted(KINDS))}."
    return ConfigError(f"The configuration file {path} has an unknown name {name!r}.", hint=hint)


def _text(kind: Kind, value: object) -> str | None:
    """The value as the environment variable would have it; None if it is of another kind."""
    match kind, value:
        case Kind.PATHS, str() | list():
            # A colon in a path would split it, and an empty list would restrict nothing.
            paths = value.split(os.pathsep) if isinstance(value, str) else value
            return os.pathsep.join(paths) if paths and all(map(_is_root, paths)) else None
        case Kind.WORDS, list():
            hosts = [host for host in value if isinstance(host, str)]
            return ",".join(hosts) if len(hosts) == len(value) else None
        case Kind.BOOLEAN, bool():
            return "1" if value else "0"
        case Kind.NUMBER, int() | float() if not isinstance(value, bool):
            return str(value)
        case _, str():
            return value
    return None


def _expected(kind: Kind) -> str:
    return Kind.TEXT if kind is Kind.SECRET else kind


def load(
    environ: Mapping[str, str] | None = None,
    *,
    file: str | None = None,
    engine: str | None = None,
    engine_host: str | None = None,
    image: str | None = None,
    debug: bool | None = None,
) -> Config:
    """Read the configuration; what follows ``environ`` are flags.

    Raises:
        ConfigError
    """
    environ = os.environ if environ is None else environ
    named = file or environ.get(FILE_VARIABLE)
    path = Path(named).expanduser() if named else default_file(environ)
    values = _values(path, required=bool(named))
    settings = _merged(environ, _settings(path, values))

    def secret(name: str) -> Secret | None:
        value = settings.get(name, "").strip()
        return Secret(value) if value else None

    engines = _engines(path, values)
    name, address = _chosen(engines, settings, engine, engine_host)
    if engines and name is None and address.program is not None:
        from claude_mcp.config_engines import check_program

        check_program(address.program, engines, environ.get("PATH"))
    environment = _engine_environment(environ, settings)
    default = EngineAddress(ssh_key=_expanded(settings, "CLAUDE_MCP_ENGINE_SSH_KEY"))
    return Config(
        environment=address.environment(default.environment(environment)),
        login=login.variables(environ),
        engine=address.program,
        engine_name=name,
        engines={} if name or address.program or address.named else engines,
        image=image or settings.get("DEFAULT_CLAUDE_IMAGE", DEFAULT_IMAGE),
        debug=_truth(settings, "MCP_CLAUDE_DEBUG") if debug is None else debug,
        api_key=secret("ANTHROPIC_API_KEY"),
        auth_token=secret("ANTHROPIC_AUTH_TOKEN"),
        oauth_token=secret("CLAUDE_CODE_OAUTH_TOKEN"),
        custom_headers=secret(HEADERS_NAME),
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
        persistent_volume=settings.get("CLAUDE_MCP_PERSISTENT_VOLUME"),
        read_only_root=_truth(settings, "CLAUDE_MCP_READ_ONLY_ROOTFS"),
        runtime=settings.get("CLAUDE_MCP_RUNTIME"),
        workspace=settings.get("CLAUDE_MCP_WORKSPACE", "bind"),
        network=settings.get("CLAUDE_MCP_NETWORK", "open"),
        network_fixed=_truth(settings, "CLAUDE_MCP_NETWORK_FIXED"),
        allowed_hosts=_words(settings, "CLAUDE_MCP_ALLOWED_HOSTS"),
        private_hosts=_words(settings, "CLAUDE_MCP_PRIVATE_HOSTS"),
        proxy_image=settings.get("CLAUDE_MCP_PROXY_IMAGE"),
        proxies={name: settings[name] for name in PROXY_NAMES if name in settings},
        allowed_roots=_roots(settings.get(ROOTS_NAME)),
        transfer_bytes=_count(settings, TRANSFER_BYTES_NAME) or TRANSFER_BYTES,
        transfer_files=_count(settings, TRANSFER_FILES_NAME) or TRANSFER_FILES,
        http={name: settings[name] for name in HTTP_NAMES if name in settings},
        http_token=secret(TOKEN_NAME),
        toolsets=_toolsets(_words(settings, TOOLSETS_NAME)),
        files=(str(default_file(environ).parent), str(path)),
    )


def _chosen(
    engines: Mapping[str, EngineAddress],
    settings: Mapping[str, str],
    program: str | None,
    host: str | None,
) -> tuple[str | None, EngineAddress]:
    """The engine to use and its name, if it has one; neither if all of ``engines`` are used.

    ``program`` and ``host`` are flags.
    """
    name = program or settings.get("CLAUDE_MCP_ENGINE")
    if name is not None and name in engines:
        if host is None:
            return name, engines[name]
        if program is not None:
            raise ConfigError(
                f"The engine {name} has an address of its own.",
                hint="Pass --engine with its name, or --engine-host, not both.",
            )
        return None, EngineAddress(program=engines[name].program, host=host)
    address = _address(settings, program, host)
    if len(engines) == 1 and address.program is None and not address.named:
        return next(iter(engines.items()))
    return None, address


def _address(settings: Mapping[str, str], program: str | None, host: str | None) -> EngineAddress:
    """Where the engine is; a host given by a flag replaces a configured one or a context."""
    place = {} if host else settings
    certificates = settings if (host or "tcp:").startswith("tcp:") else {}
    program = program or settings.get("CLAUDE_MCP_ENGINE")
    return EngineAddress(
        program=program,
        host=host or place.get("CLAUDE_MCP_ENGINE_HOST"),
        context=place.get("CLAUDE_MCP_ENGINE_CONTEXT"),
        tls=_expanded(certificates, "CLAUDE_MCP_ENGINE_TLS"),
        ssh_key=_expanded(settings, "CLAUDE_MCP_ENGINE_SSH_KEY"),
        # What is for Kubernetes is left alone if another engine is named for once.
        namespace=place.get("CLAUDE_MCP_ENGINE_NAMESPACE") if program == KUBERNETES else None,
        pods=pod_options.of_environment(settings) if program == KUBERNETES else {},
    )


def _expanded(settings: Mapping[str, str], name: str) -> str | None:
    """A configured path, absolute; None if it is not set."""
    path = settings.get(name)
    return None if path is None else os.path.abspath(os.path.expanduser(path))


def _merged(environ: Mapping[str, str], file: Mapping[str, str]) -> dict[str, str]:
    """Environment over file; empty values count as not set."""
    settings = dict(file)
    if any(environ.get(name) for name in AWS_KEY_NAMES):
        # The parts of a key belong together: none of the file's may complete the environment's.
        settings = {name: value for name, value in settings.items() if name not in AWS_KEY_NAMES}
    for name in KINDS:
        value = environ.get(name) or (environ.get(name.lower()) if name in PROXY_NAMES else None)
        if value:
            settings[name] = value
    return {name: value for name, value in settings.items() if value}


def origins(file: Path, environ: Mapping[str, str] | None = None) -> dict[str, tuple[str, str]]:
    """The value of every setting that is set, as text, and ``environment`` or ``file``.

    Raises:
        ConfigError: the file cannot be read.
    """
    environ = os.environ if environ is None else environ
    found = read_file(file, required=False)
    alone = _merged(environ, {})
    return {
        name: (value, "environment" if name in alone else "file")
        for name, value in _merged(environ, found).items()
    }


def user_directories(environ: Mapping[str, str] | None = None) -> UserDirectories:
    """Where the programs of the user who runs us keep their settings."""
    environ = os.environ if environ is None else environ
    home = Path(environ.get("HOME") or os.path.expanduser("~"))

    def place(name: str, default: Path) -> Path:
        # A relative path means nothing to a program that another one starts.
        return Path(found) if (found := environ.get(name, "")).startswith("/") else default

    return UserDirectories(
        system=sys.platform,
        home=home,
        xdg=place("XDG_CONFIG_HOME", home / ".config"),
        roaming=Path(environ.get("APPDATA") or home / "AppData" / "Roaming"),
        claude=place("CLAUDE_CONFIG_DIR", home),
    )


def default_file_of_user() -> str:
    """Where a program finds its configuration that nobody told of another."""
    return str(default_file(os.environ))


def shell_only(config: Config, environ: Mapping[str, str] | None = None) -> list[str]:
    """The settings that the environment has and the configuration file has not, by name.

    Raises:
        ConfigError: the file cannot be read
    """
    environ = os.environ if environ is None else environ
    file = read_file(Path(config.files[1]), required=False)
    shared = {FILE_VARIABLE, "XDG_RUNTIME_DIR", *PROXY_NAMES}
    return sorted(name for name in KINDS if environ.get(name) and name not in {*file, *shared})


def passed_descriptors(environ: Mapping[str, str] | None = None) -> range:
    """The listening sockets that systemd passed to this process; see sd_listen_fds(3)."""
    environ = os.environ if environ is None else environ
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not re.fullmatch("[1-9][0-9]?", count):
        return range(0)
    return range(3, 3 + int(count))


def variable(name: str) -> str | None:
    """An environment variable that the user named, to keep its value out of the command line."""
    return os.environ.get(name)


def _is_root(value: object) -> bool:
    return isinstance(value, str) and value[:1] in ("/", "~") and os.pathsep not in value


def _roots(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    roots = tuple(os.path.expanduser(root) for root in text.split(os.pathsep) if root)
    if not roots or not all(root.startswith("/") for root in roots):
        raise ConfigError(f"{ROOTS_NAME} must be absolute paths separated by colons.")
    return roots


def _words(settings: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(settings.get(name, "").replace(",", " ").split())


def _toolsets(names: tuple[str, ...]) -> frozenset[Toolset]:
    known = [*Toolset, ALL_TOOLSETS]
    for name in names:
        if name.lower() not in known:
            import difflib  # only mistakes need it

            near = difflib.get_close_matches(name.lower(), known, n=1)
            raise ConfigError(
                f"{TOOLSETS_NAME} has an unknown set {name[:40]!r}.",
                hint=f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}.",
            )
    chosen = {name.lower() for name in names}
    return frozenset(
        each for each in Toolset if each in chosen | {Toolset.CORE} or ALL_TOOLSETS in chosen
    )


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
        raise ConfigError(f"{name} must be a number of seconds greater than 0.")
    return seconds


def _count(settings: Mapping[str, str], name: str) -> int | None:
    """None if it is not set."""
    text = settings.get(name, "1").strip()
    if not re.fullmatch("0*[1-9][0-9]{0,17}", text):
        raise ConfigError(f"{name} must be a whole number greater than 0.")
    return int(text) if name in settings else None


def _engine_environment(environ: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """Our environment, without the secrets, which the engine's program does not need."""
    environment = {name: value for name, value in environ.items() if name not in SECRET_NAMES}
    environment.update({name: settings[name] for name in names(Use.ENGINE) if name in settings})
    if "XDG_RUNTIME_DIR" not in environment:
        # Rootless Podman and rootless Docker have their sockets there.
        directory = Path(f"/run/user/{os.geteuid()}")
        if directory.is_dir() and os.access(directory, os.W_OK):
            environment["XDG_RUNTIME_DIR"] = str(directory)
    return environment
