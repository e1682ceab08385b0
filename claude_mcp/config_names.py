"""Every name of the configuration, with its kind, its default and one sentence.

A name is declared here once: in the environment and in the file it is the same. What ``config``
needs to know of it, and what the documentation says, comes from ``TABLE``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from claude_mcp.engine import pod_options

DEFAULT_IMAGE: Final = "claude-code-custom:latest"
IDLE_SECONDS: Final = 1800.0
PERMISSION_SECONDS: Final = 600.0
TRANSFER_BYTES: Final = 10 * 1024**3
TRANSFER_FILES: Final = 500_000

FILE_VARIABLE: Final = "CLAUDE_MCP_CONFIG"
"""Names the configuration file, so it cannot stand in the file."""
TRANSFER_BYTES_NAME: Final = "CLAUDE_MCP_TRANSFER_BYTES"
TRANSFER_FILES_NAME: Final = "CLAUDE_MCP_TRANSFER_FILES"
ROOTS_NAME: Final = "CLAUDE_MCP_ALLOWED_ROOTS"
HEADERS_NAME: Final = "ANTHROPIC_CUSTOM_HEADERS"
TOKEN_NAME: Final = "CLAUDE_MCP_TOKEN"
TOKEN_FILE_NAME: Final = "CLAUDE_MCP_TOKEN_FILE"
TOKENS_FILE_NAME: Final = "CLAUDE_MCP_TOKENS_FILE"
HOSTS_NAME: Final = "CLAUDE_MCP_HTTP_HOSTS"
ORIGINS_NAME: Final = "CLAUDE_MCP_HTTP_ORIGINS"
URL_NAME: Final = "CLAUDE_MCP_HTTP_URL"
ISSUER_NAME: Final = "CLAUDE_MCP_OIDC_ISSUER"
AUDIENCE_NAME: Final = "CLAUDE_MCP_OIDC_AUDIENCE"
CLAIM_NAME: Final = "CLAUDE_MCP_OIDC_CLAIM"


class Toolset(StrEnum):
    """A named set of MCP tools; `core` is always listed."""

    CORE = "core"
    CREDENTIALS = "credentials"
    HISTORY = "history"
    STATS = "stats"


ALL_TOOLSETS: Final = "all"
TOOLSETS_NAME: Final = "CLAUDE_MCP_TOOLSETS"


class Kind(StrEnum):
    """What the file may hold for a name. Every kind may be a string there."""

    TEXT = "a string"
    SECRET = "a string that is secret"
    BOOLEAN = "true or false"
    NUMBER = "a number"
    PATHS = "a list of absolute paths without a colon"
    WORDS = "a list of strings"


class Use(StrEnum):
    """Where a name applies."""

    SERVER = "the server and the command line"
    SESSIONS = "sessions that ask for nothing else"
    LIMITS = "limits of sessions that ask for no other"
    ANTHROPIC = "the provider anthropic"
    CLOUD = "a cloud provider"
    SWITCH = "the choice of a cloud provider"
    PROXY = "requests to the provider through a proxy"
    HTTP = "the server over HTTP"
    ENGINE = "the engine's program"


class Name(NamedTuple):
    """One name of the configuration; ``text`` is what the documentation says of it."""

    name: str
    kind: Kind
    use: Use
    text: str
    default: str = ""


_T, _S, _B, _N = Kind.TEXT, Kind.SECRET, Kind.BOOLEAN, Kind.NUMBER
# fmt: off
TABLE: Final = (
    Name("ANTHROPIC_API_KEY", _S, Use.ANTHROPIC, "API key"),
    Name("ANTHROPIC_AUTH_TOKEN", _S, Use.ANTHROPIC, "bearer token; wins over the API key"),
    Name("CLAUDE_CODE_OAUTH_TOKEN", _S, Use.ANTHROPIC, "subscription token; used without a key"),
    Name("ANTHROPIC_BASE_URL", _T, Use.ANTHROPIC, "address of a gateway"),
    Name(HEADERS_NAME, _S, Use.ANTHROPIC, "headers of requests, one `Name: value` a line"),
    Name("ANTHROPIC_MODEL", _T, Use.SESSIONS, "model", "Claude Code's own"),
    Name("ANTHROPIC_SMALL_FAST_MODEL", _T, Use.SESSIONS, "small model", "Claude Code's own"),
    Name("CLAUDE_CODE_USE_BEDROCK", _B, Use.SWITCH, "use Bedrock"),
    Name("CLAUDE_CODE_USE_VERTEX", _B, Use.SWITCH, "use Vertex"),
    Name("CLAUDE_CODE_USE_FOUNDRY", _B, Use.SWITCH, "use Foundry"),
    Name("AWS_ACCESS_KEY_ID", _S, Use.CLOUD, "Bedrock: access key; its three parts go together"),
    Name("AWS_SECRET_ACCESS_KEY", _S, Use.CLOUD, "Bedrock: secret of the access key"),
    Name("AWS_SESSION_TOKEN", _S, Use.CLOUD, "Bedrock: session token of the access key"),
    Name("AWS_BEARER_TOKEN_BEDROCK", _S, Use.CLOUD, "Bedrock: bearer token"),
    Name("AWS_REGION", _T, Use.CLOUD, "Bedrock: region"),
    Name("AWS_DEFAULT_REGION", _T, Use.CLOUD, "Bedrock: region, without AWS_REGION"),
    Name("AWS_PROFILE", _T, Use.CLOUD, "Bedrock: profile in the AWS files"),
    Name("AWS_SHARED_CREDENTIALS_FILE", _T, Use.CLOUD, "Bedrock: path of the credentials file"),
    Name("AWS_CONFIG_FILE", _T, Use.CLOUD, "Bedrock: path of the configuration file"),
    Name("AWS_CONTAINER_CREDENTIALS_FULL_URI", _T, Use.CLOUD, "Bedrock: ECS metadata address"),
    Name("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", _T, Use.CLOUD, "Bedrock: ECS metadata path"),
    Name("AWS_CONTAINER_AUTHORIZATION_TOKEN", _S, Use.CLOUD, "Bedrock: ECS metadata token"),
    Name("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", _T, Use.CLOUD, "Bedrock: file with that token"),
    Name("AWS_EC2_METADATA_DISABLED", _T, Use.CLOUD, "Bedrock: do not use the EC2 role"),
    Name("AWS_EC2_METADATA_SERVICE_ENDPOINT", _T, Use.CLOUD, "Bedrock: EC2 metadata address"),
    Name("ANTHROPIC_BEDROCK_BASE_URL", _T, Use.CLOUD, "Bedrock: address of a gateway"),
    Name("ANTHROPIC_VERTEX_PROJECT_ID", _T, Use.CLOUD, "Vertex: project"),
    Name("CLOUD_ML_REGION", _T, Use.CLOUD, "Vertex: region"),
    Name("GOOGLE_APPLICATION_CREDENTIALS", _T, Use.CLOUD, "Vertex: path of the credentials file"),
    Name("GCE_METADATA_HOST", _T, Use.CLOUD, "Vertex: metadata address"),
    Name("ANTHROPIC_VERTEX_BASE_URL", _T, Use.CLOUD, "Vertex: address of a gateway"),
    Name("ANTHROPIC_FOUNDRY_API_KEY", _S, Use.CLOUD, "Foundry: API key"),
    Name("ANTHROPIC_FOUNDRY_RESOURCE", _T, Use.CLOUD, "Foundry: resource"),
    Name("ANTHROPIC_FOUNDRY_BASE_URL", _T, Use.CLOUD, "Foundry: address, instead of a resource"),
    Name("HTTP_PROXY", _T, Use.PROXY, "proxy for http"),
    Name("HTTPS_PROXY", _T, Use.PROXY, "proxy for https"),
    Name("NO_PROXY", _T, Use.PROXY, "hosts that are reached without the proxy"),
    Name("DEFAULT_CLAUDE_IMAGE", _T, Use.SESSIONS, "session image", DEFAULT_IMAGE),
    Name("CLAUDE_MCP_MEMORY", _N, Use.LIMITS, "memory, such as 4g; 0: no limit"),
    Name("CLAUDE_MCP_CPUS", _N, Use.LIMITS, "CPUs; 0: no limit"),
    Name("CLAUDE_MCP_PIDS", _N, Use.LIMITS, "processes and threads; 0: no limit"),
    Name("CLAUDE_MCP_DISK", _N, Use.LIMITS, "files outside the project; 0: no limit"),
    Name(
        "CLAUDE_MCP_PERSISTENT_VOLUME",
        _N,
        Use.SESSIONS,
        "Kubernetes: size of a volume that keeps a session's files, such as 10g; 0: none",
    ),
    Name("CLAUDE_MCP_READ_ONLY_ROOTFS", _B, Use.SESSIONS, "read-only root file system", "false"),
    Name("CLAUDE_MCP_RUNTIME", _T, Use.SESSIONS, "OCI runtime", "the engine's own"),
    Name("DEFAULT_SESSION_TIMEOUT", _N, Use.SESSIONS, "seconds from creation to removal", "never"),
    Name("DEFAULT_SESSION_IDLE_TIMEOUT", _N, Use.SESSIONS, "idle seconds until removal", "never"),
    Name(
        "CLAUDE_MCP_IDLE_SECONDS",
        _N,
        Use.SERVER,
        "idle seconds until Claude Code is stopped to free its memory",
        f"{IDLE_SECONDS:g}",
    ),
    Name(
        "CLAUDE_MCP_PERMISSION_SECONDS",
        _N,
        Use.SERVER,
        "seconds until an unanswered permission request is denied",
        f"{PERMISSION_SECONDS:g}",
    ),
    Name("CLAUDE_MCP_WORKSPACE", _T, Use.SESSIONS, "workspace: bind, clone or copy", "bind"),
    Name("CLAUDE_MCP_NETWORK", _T, Use.SESSIONS, "network: open, restricted or none", "open"),
    Name(
        "CLAUDE_MCP_NETWORK_FIXED",
        _B,
        Use.SERVER,
        "sessions may only ask for a stricter network, and for nothing that adds a host",
        "false",
    ),
    Name(
        "CLAUDE_MCP_ALLOWED_HOSTS",
        Kind.WORDS,
        Use.SERVER,
        "hosts that every restricted session may reach; separated by commas or spaces",
    ),
    Name(
        "CLAUDE_MCP_PRIVATE_HOSTS",
        Kind.WORDS,
        Use.SERVER,
        "the same, and these may be at private addresses, or be addresses",
    ),
    Name(
        "CLAUDE_MCP_PROXY_IMAGE",
        _T,
        Use.SERVER,
        "image for proxies, and for the containers of published ports",
        "the session image",
    ),
    Name(
        ROOTS_NAME,
        Kind.PATHS,
        Use.SERVER,
        "the only directories from which sessions get host paths; separated by colons",
    ),
    Name(
        TOOLSETS_NAME,
        Kind.WORDS,
        Use.SERVER,
        f"sets of MCP tools to list beside `core`, separated by commas: "
        f"{', '.join(list(Toolset)[1:])}, or {ALL_TOOLSETS}",
    ),
    Name("MAX_CONCURRENT_SESSIONS", _N, Use.SERVER, "running sessions on this engine", "no limit"),
    Name(
        TRANSFER_BYTES_NAME,
        _N,
        Use.SERVER,
        "bytes that one transfer may bring out of a session",
        str(TRANSFER_BYTES),
    ),
    Name(
        TRANSFER_FILES_NAME,
        _N,
        Use.SERVER,
        "files and directories that one transfer may bring out",
        str(TRANSFER_FILES),
    ),
    Name(TOKEN_NAME, _S, Use.HTTP, "the operator's token, which sees all sessions"),
    Name(TOKEN_FILE_NAME, _T, Use.HTTP, "file with the operator's token"),
    Name(TOKENS_FILE_NAME, _T, Use.HTTP, "TOML file with named tokens"),
    Name(
        HOSTS_NAME,
        Kind.WORDS,
        Use.HTTP,
        "names under which clients may reach the server, beside localhost on the loopback",
    ),
    Name(ORIGINS_NAME, Kind.WORDS, Use.HTTP, "origins of web pages that may call the server"),
    Name(URL_NAME, _T, Use.HTTP, "the server's address for clients, with an identity provider"),
    Name(ISSUER_NAME, _T, Use.HTTP, "issuer of an OpenID Connect identity provider"),
    Name(AUDIENCE_NAME, _T, Use.HTTP, "audience of its tokens", "the server's address"),
    Name(CLAIM_NAME, _T, Use.HTTP, "claim of its tokens that names a session's owner", "sub"),
    Name(
        "CLAUDE_MCP_ENGINE",
        _T,
        Use.SERVER,
        "docker, podman, a path to one, or kubernetes",
        "what answers",
    ),
    Name(
        "CLAUDE_MCP_ENGINE_HOST",
        _T,
        Use.SERVER,
        "address of the engine: unix://, tcp:// or ssh://",
        "this machine",
    ),
    Name(
        "CLAUDE_MCP_ENGINE_CONTEXT",
        _T,
        Use.SERVER,
        "Docker context, Podman connection, or context of Kubernetes",
    ),
    Name(
        "CLAUDE_MCP_ENGINE_NAMESPACE",
        _T,
        Use.SERVER,
        "namespace of Kubernetes",
        "the context's own",
    ),
    *(
        Name(
            each.variable,
            Kind.WORDS if each.is_list else _T,
            Use.SERVER,
            f"Kubernetes: {each.text}",
            each.default,
        )
        for each in pod_options.OPTIONS
    ),
    Name(
        "CLAUDE_MCP_ENGINE_TLS",
        _T,
        Use.SERVER,
        "directory with ca.pem, cert.pem and key.pem for tcp://",
    ),
    Name(
        "CLAUDE_MCP_ENGINE_SSH_KEY",
        _T,
        Use.SERVER,
        "file of a private key for ssh://; it has no passphrase",
        "the user's own",
    ),
    Name("MCP_CLAUDE_DEBUG", _B, Use.SERVER, "log debug messages to stderr", "false"),
    Name("DOCKER_HOST", _T, Use.ENGINE, "passed on"),
    Name("DOCKER_CONTEXT", _T, Use.ENGINE, "passed on"),
    Name("DOCKER_CONFIG", _T, Use.ENGINE, "passed on"),
    Name("DOCKER_CERT_PATH", _T, Use.ENGINE, "passed on"),
    Name("DOCKER_TLS_VERIFY", _T, Use.ENGINE, "passed on"),
    Name("CONTAINER_HOST", _T, Use.ENGINE, "passed on"),
    Name("CONTAINER_CONNECTION", _T, Use.ENGINE, "passed on"),
    Name("CONTAINER_SSHKEY", _T, Use.ENGINE, "passed on"),
    Name("CONTAINERS_CONF", _T, Use.ENGINE, "passed on"),
    Name("KUBECONFIG", _T, Use.ENGINE, "passed on"),
    Name("XDG_RUNTIME_DIR", _T, Use.ENGINE, "passed on"),
)
# fmt: on
"""Every name of the environment and the file; what depends on kind or use is derived below."""


def names(*uses: Use) -> tuple[str, ...]:
    return tuple(each.name for each in TABLE if each.use in uses)


KINDS: Final = {each.name: each.kind for each in TABLE}
SECRET_NAMES: Final = frozenset(name for name, kind in KINDS.items() if kind is Kind.SECRET)
CLOUD_SECRET_NAMES: Final = SECRET_NAMES & frozenset(names(Use.CLOUD))
CLOUD_NAMES: Final = frozenset(names(Use.CLOUD)) - SECRET_NAMES
PROXY_NAMES: Final = names(Use.PROXY)
HTTP_NAMES: Final = tuple(name for name in names(Use.HTTP) if name not in SECRET_NAMES)
AWS_KEY_NAMES: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
SWITCHES: Final = {name.rpartition("_")[2].lower(): name for name in names(Use.SWITCH)}
"""The variables that make a cloud the provider of sessions that ask for none."""
LIMIT_NAMES: Final = {name.rpartition("_")[2].lower(): name for name in names(Use.LIMITS)}
ALIASES: Final = {"allowedRoots": ROOTS_NAME}
"""Other names in the file."""

_IMAGE: Final = "Set it in the session's image, if the image is yours alone."
_MODEL: Final = "Set ANTHROPIC_MODEL or ANTHROPIC_SMALL_FAST_MODEL, or pass a model to the session."
_MTLS: Final = (
    "Client certificates are not supported. Let a gateway on this machine present the certificate, "
    "and set ANTHROPIC_BASE_URL to the gateway."
)
_CA: Final = (
    "If the provider's certificate needs it, add the certificate authority to the session's image: "
    "build it with --extra-ca."
)
_SKIP: Final = "Requests are always authenticated. Give the gateway a key or token that it accepts."
_ASSUME: Final = "Run 'aws configure export-credentials' and set the variables that it prints."
NOT_USED: Final = {
    "CLAUDE_CODE_CLIENT_CERT": _MTLS,
    "CLAUDE_CODE_CLIENT_KEY": _MTLS,
    "CLAUDE_CODE_CLIENT_KEY_PASSPHRASE": _MTLS,
    "NODE_EXTRA_CA_CERTS": _CA,
    "NODE_TLS_REJECT_UNAUTHORIZED": _CA,
    "ALL_PROXY": "Set HTTPS_PROXY and HTTP_PROXY; SOCKS is not supported.",
    "ANTHROPIC_FOUNDRY_AUTH_TOKEN": "Set ANTHROPIC_FOUNDRY_API_KEY.",
    "ANTHROPIC_DEFAULT_OPUS_MODEL": _MODEL,
    "ANTHROPIC_DEFAULT_SONNET_MODEL": _MODEL,
    "ANTHROPIC_DEFAULT_HAIKU_MODEL": _MODEL,
    "CLAUDE_CODE_SUBAGENT_MODEL": _MODEL,
    "CLAUDE_CODE_SKIP_BEDROCK_AUTH": _SKIP,
    "CLAUDE_CODE_SKIP_VERTEX_AUTH": _SKIP,
    "CLAUDE_CODE_SKIP_FOUNDRY_AUTH": _SKIP,
    "AWS_ROLE_ARN": _ASSUME,
    "AWS_WEB_IDENTITY_TOKEN_FILE": _ASSUME,
    "ANTHROPIC_BETAS": _IMAGE,
    "API_TIMEOUT_MS": _IMAGE,
    "CLAUDE_CODE_EXTRA_BODY": _IMAGE,
    "CLAUDE_CODE_MAX_OUTPUT_TOKENS": _IMAGE,
    "CLAUDE_CODE_MAX_RETRIES": _IMAGE,
    "DISABLE_PROMPT_CACHING": _IMAGE,
    "MAX_THINKING_TOKENS": _IMAGE,
}
"""Variables that Claude Code reads, but not from our environment, and what to do instead."""


def misspelt(name: str) -> str | None:
    """The known name that an unknown one was probably meant to be."""
    ours = [each.name for each in TABLE if each.use not in (Use.ENGINE, Use.PROXY)]
    import difflib  # only mistakes need it

    near = difflib.get_close_matches(name, ours, n=1, cutoff=0.9)
    if near:
        return near[0]
    words = set(name.split("_"))
    shortened = (
        each
        for each in ours
        if each.startswith(_OURS) and words < set(each.split("_")) and each[:3] == name[:3]
    )
    return next(shortened, None) if len(words) > 1 else None


_OURS: Final = ("DEFAULT_", "MAX_CONCURRENT_", "MCP_CLAUDE_")
"""How those of our own names begin that have no prefix in common."""
