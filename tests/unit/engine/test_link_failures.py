"""Why an engine elsewhere was not reached, by what clients said when they were made to fail."""

from __future__ import annotations

import pytest

from claude_mcp.engine.failures import classify
from claude_mcp.errors import EngineUnavailable

SSH = (
    'error during connect: Get "http://docker.example.com/v1.50/version": command [ssh -o '
    "ConnectTimeout=30 -T -l root -p 42821 -- 127.0.0.1 docker system dial-stdio] has exited with "
    "exit status 255, make sure the URL is valid, and Docker 18.09 or later is installed on the "
    "remote host: stderr="
)
TLS = 'error during connect: Get "https://127.0.0.1:2376/v1.50/version": '


@pytest.mark.parametrize(
    ("stderr", "said", "hint"),
    [
        (f"{SSH}Host key verification failed.", "host key is not known", "compare the host's key"),
        (
            f"{SSH}@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification "
            "failed.",
            "another ssh key than before",
            "ssh-keygen -R",
        ),
        (
            f"{SSH}root@127.0.0.1: Permission denied (publickey).",
            "none of your ssh keys",
            "CLAUDE_MCP_ENGINE_SSH_KEY",
        ),
        (
            f"{SSH}Warning: Identity file /nosuch not accessible: No such file or directory.",
            "no such private key",
            "CLAUDE_MCP_ENGINE_SSH_KEY",
        ),
        (
            f"{SSH}ssh: connect to host 127.0.0.1 port 1: Connection refused",
            "nothing takes connections",
            "ssh server",
        ),
        (
            f"{SSH}ssh: connect to host 10.9.9.9 port 22: No route to host",
            "does not answer",
            "network",
        ),
        (
            f"{SSH}ssh: Could not resolve hostname nosuch.invalid: Name or service not known",
            "no host of this name",
            "Correct the name",
        ),
        (f"{SSH}sh: 1: docker: not found", "no docker command", "CLAUDE_MCP_ENGINE=podman"),
        (
            'error during connect: Get "http://docker.example.com/v1.50/version": exec: "ssh": '
            "executable file not found in $PATH",
            "no ssh on PATH",
            "openssh-client",
        ),
        (
            'error during connect: Get "http://nosuch.invalid:2376/v1.50/version": dial tcp: '
            "lookup nosuch.invalid on 10.255.255.53:53: no such host",
            "no host of this name",
            "Correct the name",
        ),
        (
            'Failed to initialize: unable to resolve docker endpoint: context "nosuch": context '
            "not found: open /root/.docker/contexts/meta/9e/meta.json: no such file or directory",
            "no context of this name",
            "docker context ls",
        ),
        (
            f"{TLS}tls: failed to verify certificate: x509: certificate signed by unknown "
            "authority",
            "ca.pem does not name",
            "CLAUDE_MCP_ENGINE_TLS",
        ),
        (
            f"{TLS}tls: failed to verify certificate: x509: certificate is valid for 10.0.0.1, not "
            "127.0.0.1",
            "for another name",
            "name from the certificate",
        ),
        (
            f"{TLS}tls: failed to verify certificate: x509: certificate has expired or is not yet "
            "valid: current time 2026",
            "expired",
            "clocks",
        ),
        (f"{TLS}remote error: tls: certificate required", "client's certificate", "cert.pem"),
        (
            "Error response from daemon: Client sent an HTTP request to an HTTPS server. error "
            "during connect",
            "speaks TLS",
            "remove it",
        ),
        (
            "Error: unable to connect to Podman socket: failed to connect: ssh: handshake failed: "
            "ssh: unable to authenticate, attempted methods [none], no supported methods remain",
            "none of your ssh keys",
            "SSH_AUTH_SOCK",
        ),
        (
            "Error: unable to connect to Podman socket: failed to connect: dial tcp 127.0.0.1:1: "
            "connect: connection refused",
            "nothing takes connections",
            "port",
        ),
        (
            "Error: failed to connect: ssh: handshake failed: knownhosts: key mismatch",
            "another ssh key than before",
            "ssh-keygen -R",
        ),
        (
            'Error: failed to read identity "/key": bcrypt_pbkdf: empty password',
            "needs a passphrase",
            "SSH_AUTH_SOCK",
        ),
        (
            'Error: unable to connect to Podman socket: Get "http://d/v4.3.1/libpod/_ping": ssh: '
            "rejected: connect failed (open failed)",
            "no service at this socket",
            "podman.socket",
        ),
    ],
)
def test_a_client_that_did_not_reach_its_engine_is_explained(
    stderr: str, said: str, hint: str
) -> None:
    error = classify("Docker", "report its version", stderr)
    assert type(error) is EngineUnavailable
    assert error.message.startswith("Docker cannot be reached: ")
    assert said in error.message
    assert hint in (error.hint or "")
    assert len(error.message) < 300


@pytest.mark.parametrize(
    "stderr",
    [
        "git@example.com: Permission denied (publickey).",
        "ssh: connect to host example.com port 22: Connection refused",
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon "
        "running?",
    ],
)
def test_what_a_program_in_a_container_says_is_not_taken_for_the_client_s_words(
    stderr: str,
) -> None:
    assert "cannot be reached" not in classify("Docker", "reach the session", stderr).message
