"""Directories of ours for a while, among the system's temporary files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from claude_mcp.placing import descriptors
from claude_mcp.placing.staging import staging


@contextmanager
def directory() -> Iterator[str]:
    """A directory of mode 0700; one that a killed process left is removed by a later call.

    Raises:
        OSError: it cannot be made.
    """
    parent = os.path.realpath(tempfile.gettempdir())
    with descriptors.opened(parent) as above, staging(above) as (name, _):
        yield os.path.join(parent, name)
