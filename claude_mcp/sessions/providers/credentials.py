"""Where a session's credentials come from."""

from __future__ import annotations

from enum import StrEnum


class CredentialSource(StrEnum):
    """Decides who must supply a session's credentials again after it has lost them."""

    SERVER = "server"
    SESSION = "session"
    NONE = "none"
