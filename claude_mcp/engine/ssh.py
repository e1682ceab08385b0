"""The ssh that Docker's client starts: ours, which starts the user's own with options.

Podman speaks ssh itself and starts no program.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

DIRECTORY: Final = Path(__file__).with_name("ssh_client")
PROGRAM: Final = "CLAUDE_MCP_SSH"
"""The variable that tells our ``ssh`` where the user's own is."""


def with_options(environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` in which ``ssh`` is ours; unchanged if there is no ssh, or ours cannot run.

    Without ours, ssh asks nothing either, because it has no terminal; but it has no key of ours.
    """
    import shutil  # every start of the program would wait for it

    ours = DIRECTORY / "ssh"
    path = environment.get("PATH", os.defpath)
    theirs = shutil.which("ssh", path=path)
    if theirs is None or theirs == str(ours) or not os.access(ours, os.X_OK):
        return dict(environment)
    return {**environment, "PATH": f"{DIRECTORY}{os.pathsep}{path}", PROGRAM: theirs}
