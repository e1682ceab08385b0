"""Seals the tree that a copy begins with, so that its session cannot name another one later.

The key is in a label of the session's container, which the session cannot see. It opens nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets


def new_key() -> str:
    return secrets.token_hex(16)


def seal(key: str, tree: str) -> str:
    return hmac.new(key.encode(), tree.encode(), hashlib.sha256).hexdigest()


def is_intact(key: str, tree: str, sealed: str) -> bool:
    """Whether this seal was made of this tree; never without a key."""
    return bool(key) and hmac.compare_digest(seal(key, tree).encode(), sealed.encode())
