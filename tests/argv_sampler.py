"""Who shows a secret in its command line?"""

from __future__ import annotations

import threading
from pathlib import Path


class ArgvSampler:
    """Reads the argv of every process of the host, over and over."""

    def __init__(self, *sentinels: str) -> None:
        self._sentinels = [each.encode() for each in sentinels]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.found: set[bytes] = set()
        self.rounds = 0

    def __enter__(self) -> ArgvSampler:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.is_set():
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    argv = (process / "cmdline").read_bytes()
                except OSError:
                    continue
                if any(each in argv for each in self._sentinels):
                    self.found.add(argv[:200])
            self.rounds += 1
