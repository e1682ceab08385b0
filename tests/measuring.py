"""How a process that a test starts with an environment of its own is measured too."""

from __future__ import annotations

import os

MEASURED = {
    name: os.environ[name]
    for name in ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
    if name in os.environ
}
"""What coverage tells the processes of a measured one; nothing if nothing is measured."""
