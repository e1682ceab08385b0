"""Why a client did not reach its engine over ssh or TLS, and what to do about it.

Only for the stderr of a client that says itself that it could not connect.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Reason(NamedTuple):
    pattern: re.Pattern[str]
    said: str
    """Completes "<Engine> cannot be reached: "."""
    hint: str


def _reason(pattern: str, said: str, hint: str) -> Reason:
    return Reason(re.compile(pattern, re.IGNORECASE), said, hint)


_BY_HAND: Final = "Connect once by hand with ssh, as the user that runs claude-mcp"
REASONS: Final = (
    _reason(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|knownhosts: key mismatch"
        r"|ssh: host key mismatch",
        "the host has another ssh key than before",
        "Ask who administers the host whether its key was changed. If it was, remove the old one "
        "with 'ssh-keygen -R HOST', and connect once by hand.",
    ),
    _reason(
        r"Host key verification failed|knownhosts: key is unknown",
        "its ssh host key is not known here",
        f"{_BY_HAND}, and compare the host's key before you accept it.",
    ),
    _reason(
        r"UNPROTECTED PRIVATE KEY FILE|bad permissions",
        "others may read the private key, so ssh does not use it",
        "Run 'chmod 600' on the key.",
    ),
    _reason(
        r"Permission denied \([^)]*\)|unable to authenticate|no supported methods remain",
        "it accepts none of your ssh keys, and ssh asks nobody for a password",
        "Set CLAUDE_MCP_ENGINE_SSH_KEY to a key without a passphrase that the host accepts, or let "
        "an ssh agent hold it (SSH_AUTH_SOCK).",
    ),
    _reason(
        r"this private key is passphrase protected|bcrypt_pbkdf: empty password"
        r"|incorrect passphrase|parse private key",
        "the private key needs a passphrase, and nobody can be asked for it",
        "Let an ssh agent hold the key (SSH_AUTH_SOCK), or use a key without a passphrase.",
    ),
    _reason(
        r"Identity file \S+ not accessible|open \S+: no such file or directory.*ssh",
        "there is no such private key",
        "Correct CLAUDE_MCP_ENGINE_SSH_KEY or CONTAINER_SSHKEY.",
    ),
    _reason(
        r"Could not resolve hostname|no such host|Name or service not known",
        "there is no host of this name",
        "Correct the name in the engine's address.",
    ),
    _reason(
        r"exec: \"ssh\": executable file not found",
        "there is no ssh on PATH",
        "Install an ssh client (for example 'apt-get install openssh-client').",
    ),
    _reason(
        r"docker: (command )?not found|docker: No such file",
        "the host has no docker command for this ssh user",
        "Install Docker there, or correct that user's PATH for ssh. If the host runs Podman, set "
        "CLAUDE_MCP_ENGINE=podman and give the path of its socket in the address.",
    ),
    _reason(
        r"certificate has expired or is not yet valid",
        "its certificate has expired or is not valid yet",
        "Compare the clocks of both machines, or renew the certificate.",
    ),
    _reason(
        r"certificate is (not )?valid for|doesn't contain any IP SANs",
        "its certificate is for another name",
        "Use a name from the certificate in the engine's address.",
    ),
    _reason(
        r"certificate signed by unknown authority|failed to verify certificate",
        "its certificate is of an authority that ca.pem does not name",
        "Put the certificate of the daemon's authority into ca.pem in CLAUDE_MCP_ENGINE_TLS.",
    ),
    _reason(
        r"remote error: tls: \S+.*|tls: certificate required",
        "the daemon does not accept the client's certificate",
        "Let the daemon's own authority sign cert.pem in CLAUDE_MCP_ENGINE_TLS.",
    ),
    _reason(
        r"client sent an HTTP request to an HTTPS server|server gave HTTP response to HTTPS client"
        r"|first record does not look like a TLS handshake",
        "one side speaks TLS and the other does not",
        "Set CLAUDE_MCP_ENGINE_TLS for a daemon with TLS, and remove it for one without.",
    ),
    _reason(
        r"(could not read CA certificate|unable to resolve docker endpoint: open) .*"
        r"|open \S+\.pem: no such file.*",
        "a certificate cannot be read",
        "Put ca.pem, cert.pem and key.pem into the directory that CLAUDE_MCP_ENGINE_TLS names.",
    ),
    _reason(
        r"context \S+: context not found|context \S+ does not exist",
        "there is no context of this name",
        "List them with 'docker context ls'.",
    ),
    _reason(
        r"connection \S+ not found",
        "there is no connection of this name",
        "List them with 'podman system connection list'.",
    ),
    _reason(
        r"ssh: rejected: connect failed",
        "the host has no service at this socket",
        "Start it there (for example 'systemctl enable --now podman.socket', with --user for a "
        "rootless one), or correct the path in the engine's address.",
    ),
    _reason(
        r"No route to host|Network is unreachable|Connection timed out|i/o timeout"
        r"|Operation timed out",
        "the host does not answer",
        "Check the network and the address, and whether the host runs.",
    ),
    _reason(
        r"Connection refused|Connection reset|kex_exchange_identification|broken pipe"
        r"|connection to the server was closed|Connection closed by",
        "nothing takes connections at this address",
        "Check the host and the port, and whether the ssh server or the daemon runs there.",
    ),
)
"""The first that fits is told."""
_CONNECTING: Final = re.compile(
    r"error during connect|cannot connect to the docker daemon|is the docker daemon running"
    r"|failed to connect to the docker api|unable to resolve docker endpoint"
    r"|unable to connect to Podman|cannot connect to podman|failed to connect: "
    r"|failed to read identity|read cli flags: connection",
    re.IGNORECASE,
)
"""How a client says that it did not reach its engine."""
_FAR: Final = re.compile(
    r"\bssh\b|\btcp\b|read identity|tcp://|ssh://|tls:|x509|HTTPS"
    r"|docker endpoint|\.pem|cli flags: connection"
)
"""What shows that it was not one of this machine."""


def reason(stderr: str) -> Reason | None:
    """Why a client did not reach an engine elsewhere; None if it is not known or another matter."""
    if _CONNECTING.search(stderr) is None or _FAR.search(stderr) is None:
        return None
    return next((each for each in REASONS if each.pattern.search(stderr)), None)


def quoted(found: Reason, stderr: str) -> str:
    """The words of ``stderr`` that show the reason."""
    match = found.pattern.search(stderr)
    assert match is not None
    return match[0].strip().rstrip(".")[:200]
