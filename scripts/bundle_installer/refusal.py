"""The one error of the installer: what is wrong, and what to do."""

from __future__ import annotations


class Refused(Exception):
    """Nothing was changed, or what was changed is undone."""
