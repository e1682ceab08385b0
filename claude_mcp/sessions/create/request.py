"""What a caller asks of a new session, and what the caller gets.

Each option is declared here once. Front ends derive from it what they offer, and ``plan_session``
reads the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from claude_mcp.sessions.option import Option, option
from claude_mcp.sessions.providers.options import ProviderRequest

if TYPE_CHECKING:
    from claude_mcp.sessions.mcp.servers import McpServer
    from claude_mcp.sessions.session import Session


NetworkName = Literal["open", "restricted", "none"]
WorkspaceName = Literal["bind", "clone", "copy"]


@dataclass(frozen=True, slots=True)
class Mount:
    """An additional host path for the session; both paths are absolute."""

    host_path: str
    container_path: str
    read_only: bool = True


LIMITS: Final[Mapping[str, Option]] = {
    "memory": Option(
        "memory limit, such as 4g; 0: no limit",
        flag="--memory",
        metavar="SIZE",
        configured="CLAUDE_MCP_MEMORY",
    ),
    "cpus": Option(
        "CPU limit, such as 1.5; 0: no limit",
        flag="--cpus",
        metavar="N",
        configured="CLAUDE_MCP_CPUS",
    ),
    "pids": Option(
        "limit on processes and threads; 0: no limit",
        flag="--pids",
        metavar="N",
        configured="CLAUDE_MCP_PIDS",
    ),
    "disk": Option(
        "limit on files outside the project; 0: no limit",
        flag="--disk",
        metavar="SIZE",
        configured="CLAUDE_MCP_DISK",
    ),
}
"""The keys of ``CreateRequest.limits``."""


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """None, or an empty value, means the server's default."""

    project_path: str = field(
        metadata=option(
            "absolute path on the host; /workspace in the session",
            flag="PROJECT",
            terminal="the project's directory",
        )
    )
    session_name: str | None = field(default=None, metadata=option("unique name", flag="--name"))
    workspace: WorkspaceName | None = field(
        default=None,
        metadata=option(
            "clone, copy: its own; bind: mounted",
            flag="--workspace",
            metavar="KIND",
            terminal="bind (mount the project), clone (its own git clone) or copy (its own files)",
            configured="CLAUDE_MCP_WORKSPACE",
        ),
    )
    base_ref: str | None = field(
        default=None,
        metadata=option(
            "clone: where to begin, not HEAD",
            flag="--base-ref",
            metavar="REF",
            terminal="clone: branch, tag or commit to begin at, instead of HEAD",
        ),
    )
    include_uncommitted: bool | None = field(
        default=None,
        metadata=option(
            "clone: uncommitted too",
            flag="--include-uncommitted",
            terminal="clone: bring uncommitted changes of tracked files along",
        ),
    )
    include: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "clone: untracked files",
            flag="--include",
            metavar="PATTERN",
            repeatable=True,
            terminal="clone: untracked files along, as in .gitignore",
        ),
    )
    exclude: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "copy: without these",
            flag="--exclude",
            metavar="PATTERN",
            repeatable=True,
            terminal="copy: files to leave out, as in .gitignore",
        ),
    )
    image: str | None = field(
        default=None,
        metadata=option(
            "image, not the default",
            flag="--image",
            configured="DEFAULT_CLAUDE_IMAGE",
        ),
    )
    model: str | None = field(
        default=None,
        metadata=option(
            "Claude model for all prompts",
            flag="--model",
            configured="ANTHROPIC_MODEL",
        ),
    )
    provider: ProviderRequest = field(default_factory=ProviderRequest)
    strict_permissions: bool = field(
        default=False,
        metadata=option(
            "ask before actions that need permission",
            flag="--strict-permissions",
        ),
    )
    trust_project: bool = field(
        default=False,
        metadata=option(
            "load the project's hooks, .mcp.json and settings",
            flag="--trust-project",
        ),
    )
    trust_git: bool = field(
        default=False,
        metadata=option(
            "make .git/config and .git/hooks writable; git on the host obeys them",
            flag="--trust-git",
        ),
    )
    mounts: tuple[Mount, ...] = field(
        default=(),
        metadata=option(
            "additional host paths",
            argument="mcpMounts",
            flag="--mount",
            metavar="HOST:CONTAINER[:rw]",
            repeatable=True,
            terminal="additional host path, read-only without :rw",
        ),
    )
    mcp_config: Mapping[str, Any] | None = field(
        default=None,
        metadata=option(
            "MCP servers for the Claude inside",
            flag="--mcp-config",
            metavar="FILE",
            terminal="JSON file with mcpServers for the Claude inside; '-' reads stdin",
        ),
    )
    limits: Mapping[str, str] = field(
        default_factory=dict,
        metadata=option("such as 512m, 4g; 0: no limit"),
    )
    persistent_volume: str | None = field(
        default=None,
        metadata=option(
            "Kubernetes: size of a volume for its files",
            flag="--persistent-volume",
            metavar="SIZE",
            terminal="Kubernetes: size of a volume that keeps its files, such as 10g; 0: none",
            configured="CLAUDE_MCP_PERSISTENT_VOLUME",
        ),
    )
    read_only_root: bool | None = field(
        default=None,
        metadata=option(
            "only the project, and /tmp in memory, are writable",
            argument="readOnlyRootfs",
            flag="--read-only",
            configured="CLAUDE_MCP_READ_ONLY_ROOTFS",
        ),
    )
    timeout_seconds: float | None = field(
        default=None,
        metadata=option(
            "remove after this many seconds; 0: never",
            flag="--timeout",
            metavar="SECONDS",
            minimum=0,
            configured="DEFAULT_SESSION_TIMEOUT",
        ),
    )
    idle_timeout_seconds: float | None = field(
        default=None,
        metadata=option(
            "remove after this many idle seconds; 0: never",
            flag="--idle-timeout",
            metavar="SECONDS",
            minimum=0,
            configured="DEFAULT_SESSION_IDLE_TIMEOUT",
        ),
    )
    runtime: str | None = field(
        default=None,
        metadata=option(
            "OCI runtime, such as runsc",
            flag="--runtime",
            metavar="NAME",
            configured="CLAUDE_MCP_RUNTIME",
        ),
    )
    network: NetworkName | None = field(
        default=None,
        metadata=option(
            "'restricted' reaches only its provider and allowedHosts",
            flag="--network",
            metavar="NAME",
            terminal="open, restricted (only the provider and the allowed hosts) or none",
            configured="CLAUDE_MCP_NETWORK",
        ),
    )
    allowed_hosts: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "such as pypi.org, *.example.org, example.org:8443",
            flag="--allow",
            metavar="HOST",
            repeatable=True,
            terminal="host that a restricted session may reach, such as pypi.org, *.example.org "
            "or files.example.org:8443",
            configured="CLAUDE_MCP_ALLOWED_HOSTS",
        ),
    )
    ports: tuple[str, ...] = field(
        default=(),
        metadata=option(
            "ports of its servers, such as 3000, or HOST:PORT, for URLs on this host",
            flag="--port",
            metavar="[HOST:]PORT",
            repeatable=True,
            terminal="port of a server in the session, to be published on this host's loopback",
        ),
    )
    engine: str | None = field(
        default=None,
        metadata=option("one of several engines; default: the one with the most room"),
    )
    client: str = ""
    """Who asks, as the client calls itself; see ``Session.client``."""


@dataclass(frozen=True, slots=True)
class Created:
    session: Session
    engine: str
    warnings: tuple[str, ...]
    mcp_servers: tuple[McpServer, ...] = ()
    reason: str | None = None
    """Why on this engine, if one of several was chosen for it."""
