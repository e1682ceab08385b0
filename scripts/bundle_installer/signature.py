"""The manifest's signature, made and checked by OpenSSH's ``ssh-keygen -Y``.

OpenSSH is on almost every machine that people administer, its keys are those that people have, and
a signature is bound to a purpose. A key inside the bundle would prove nothing, so none is there.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from bundle_installer.refusal import Refused

PURPOSE: Final = "claude-mcp-bundle"
"""The signature's namespace; also the name that a key is given for the check."""
_SECONDS: Final = 60
_MAX_KEY_BYTES: Final = 100_000


def sign(file: Path, key: Path) -> Path:
    """Sign a file with a private key, or with a public one whose private half an agent holds.

    Raises:
        Refused
    """
    target = file.with_name(f"{file.name}.sig")
    target.unlink(missing_ok=True)
    # It may ask for the key's passphrase, so it has our terminal.
    done = subprocess.run(
        [_program(), "-Y", "sign", "-q", "-f", key, "-n", PURPOSE, file],
        stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if done.returncode or not target.exists():
        raise Refused(f"{file.name} could not be signed with {key}: {done.stderr.strip()}")
    return target


def check(content: bytes, signature: Path, key: Path) -> None:
    """Check that one of the public keys in ``key``, one a line, has signed this.

    Raises:
        Refused
    """
    with tempfile.TemporaryDirectory(prefix="claude-mcp-install-") as directory:
        allowed = Path(directory) / "allowed"
        allowed.write_text("".join(f"{PURPOSE} {line}\n" for line in _keys(key)))
        done = subprocess.run(
            [_program(), "-Y", "verify", "-f", allowed, "-I", PURPOSE, "-n", PURPOSE,
             "-s", signature],
            input=content, capture_output=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        raise Refused(f"The manifest is not signed with a key of {key}: {said[0]}")


def _keys(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            lines = file.read(_MAX_KEY_BYTES).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"The key {path} cannot be read: {error}.") from error
    keys = [line for line in lines if line.strip() and not line.startswith("#")]
    if not keys or any("PRIVATE KEY" in line for line in keys):
        raise Refused(f"{path} holds no public key, such as the content of id_ed25519.pub.")
    return keys


def _program() -> str:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise Refused("ssh-keygen is missing, which checks signatures: install OpenSSH's client.")
    return program
