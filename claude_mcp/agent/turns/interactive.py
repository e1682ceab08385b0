"""What Claude Code on a terminal needs in its own files, and where its conversation went on."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping

from claude_mcp.agent.store import files
from claude_mcp.claude import providers
from claude_mcp.contract import places

_CONVERSATION = re.compile(r"([0-9a-f-]{36})\.jsonl")
_KEY_CHARACTERS = 20
"""Claude Code remembers an approved key by its last characters (measured)."""


def prepare(environment: Mapping[str, str], secrets: providers.Credentials) -> None:
    """Answer what Claude Code asks a new user, as far as the session's settings have answered it:
    which directory is trusted, that it may act without asking, which key is used."""
    path = os.path.join(_directory(environment), ".claude.json")
    try:
        known = json.loads(files.read(path))
    except (OSError, ValueError, RecursionError):
        known = {}
    known = known if isinstance(known, dict) else {}
    known["hasCompletedOnboarding"] = known["bypassPermissionsModeAccepted"] = True
    projects = known.get("projects")
    known["projects"] = projects = projects if isinstance(projects, dict) else {}
    here = projects.get(places.WORKSPACE)
    here = here if isinstance(here, dict) else {}
    projects[places.WORKSPACE] = {**here, "hasTrustDialogAccepted": True}
    values = (*secrets.descriptors.values(), *secrets.environment.values())
    approved = [secret[-_KEY_CHARACTERS:] for secret in values]
    known["customApiKeyResponses"] = {"approved": approved, "rejected": []}
    files.replace(path, json.dumps(known).encode())


def latest(environment: Mapping[str, str], since: float) -> str | None:
    """The conversation that Claude Code wrote to last, if that was after ``since``."""
    name = re.sub(r"[^a-zA-Z0-9]", "-", places.WORKSPACE)
    directory = os.path.join(environment["HOME"], ".claude", "projects", name)
    found: list[tuple[float, str]] = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                match = _CONVERSATION.fullmatch(entry.name)
                if match and entry.is_file(follow_symlinks=False):
                    found.append((entry.stat().st_mtime, match[1]))
    except OSError:
        return None
    changed, conversation = max(found, default=(0.0, ""))
    return conversation if changed >= since else None


def _directory(environment: Mapping[str, str]) -> str:
    return environment.get("CLAUDE_CONFIG_DIR") or environment["HOME"]
