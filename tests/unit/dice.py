"""Made-up JSON for tests that try many inputs: cheaper than Hypothesis, and as odd."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from typing import Any

INPUTS = 100_000 if os.environ.get("CLAUDE_MCP_STRESS") else 500

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**63, -(2**70), 0.0, -0.5, 1e308, float("inf"), float("nan"),
    "", " ", "a", "\0", "\n", "\udcff", "\ud800", "é" * 50, "x" * 5000, [], {}, [[]], {"": None},
)  # fmt: skip


class Dice:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def value(self, depth: int = 3) -> Any:
        """Anything that JSON can hold."""
        choose = self.random
        if depth and choose.random() < 0.3:
            return [self.value(depth - 1) for _ in range(choose.randrange(4))]
        if depth and choose.random() < 0.3:
            return {str(self.value(0))[:20]: self.value(depth - 1) for _ in range(3)}
        return choose.choice(ODD)

    def bent(self, value: Any, chance: float = 0.1) -> Any:
        """A value of which parts are missing, swapped or something else."""
        if self.random.random() < chance:
            return self.value()
        if isinstance(value, dict):
            kept = {k: v for k, v in value.items() if self.random.random() > chance / 2}
            return {key: self.bent(each, chance) for key, each in kept.items()}
        if isinstance(value, (list, tuple)):
            return [self.bent(each, chance) for each in value]
        return value

    def line(self, samples: Sequence[Any]) -> bytes:
        """One of the samples, bent, as a line of JSON; now and then broken or very deep."""
        fate = self.random.random()
        if fate < 0.02:
            return self.random.randbytes(self.random.randrange(60)).replace(b"\n", b"")
        if fate < 0.03:
            depth = self.random.choice((50, 500, 5_000))
            return b'{"type":' + b"[" * depth + b"]" * depth + b"}"
        line = json.dumps(self.bent(self.random.choice(samples))).encode()
        if fate < 0.1:
            at = self.random.randrange(len(line) + 1)
            line = (
                line[:at] + self.random.choice((b"", b"}", b'"', b"\xff", b"\\")) + line[at + 1 :]
            )
        return line
