"""What the configuration asks of every pod of a cluster.

Each option is declared here once: ``OPTIONS`` has its key in a table ``[engines.NAME]``, and the
variable of the environment follows from that. Values are written as ``kubectl`` takes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from claude_mcp.errors import ConfigError

PREFIX: Final = "CLAUDE_MCP_KUBERNETES_"
PULL_POLICIES: Final = ("IfNotPresent", "Always", "Never")
EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
RESERVED: Final = "claude-mcp."
"""How our own labels begin; the configuration may set no such label."""
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_PART: Final = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_KEY: Final = re.compile(rf"([a-z0-9]([a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_PART}")
_VALUE: Final = re.compile(rf"({_PART})?")
_SHOWN_CHARS: Final = 80


@dataclass(frozen=True, slots=True)
class Toleration:
    """A taint of nodes that pods tolerate."""

    key: str
    value: str | None = None
    """None is any."""
    effect: str | None = None
    """None is every one."""


@dataclass(frozen=True, slots=True)
class PodOptions:
    pull_secrets: tuple[str, ...] = ()
    pull_policy: str = PULL_POLICIES[0]
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    priority_class: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    storage_class: str | None = None


@dataclass(frozen=True, slots=True)
class Option:
    """How an option is given; ``parse`` raises ConfigError."""

    key: str
    text: str
    parse: Callable[[str], Any]
    default: str = ""
    is_list: bool = False

    @property
    def variable(self) -> str:
        return PREFIX + self.key.upper()


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ConfigError(
            f"{text[:_SHOWN_CHARS]!r} is not the name of an object of Kubernetes: it has "
            "lower-case letters, digits, '-' and '.'."
        )
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(map(_name, _words(text)))


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _pull_policy(text: str) -> str:
    if text not in PULL_POLICIES:
        raise ConfigError(f"The pull policy is one of {', '.join(PULL_POLICIES)}.")
    return text


def _pairs(text: str) -> dict[str, str]:
    pairs = {}
    for word in _words(text):
        key, equals, value = word.partition("=")
        if not equals or not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
            raise ConfigError(
                f"{word[:_SHOWN_CHARS]!r} is not a label of Kubernetes, such as disk=ssd or "
                "example.org/team=platform."
            )
        pairs[key] = value
    return pairs


def _labels(text: str) -> dict[str, str]:
    pairs = _pairs(text)
    for key in pairs:
        if key.startswith(RESERVED):
            raise ConfigError(
                f"The label {key[:_SHOWN_CHARS]!r} cannot be set: those that begin with "
                f"'{RESERVED}' say what a session is."
            )
    return pairs


def _tolerations(text: str) -> tuple[Toleration, ...]:
    return tuple(map(_toleration, _words(text)))


def _toleration(word: str) -> Toleration:
    taint, colon, effect = word.partition(":")
    key, equals, value = taint.partition("=")
    effects = not colon or effect in EFFECTS
    if not effects or not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
        raise ConfigError(
            f"{word[:_SHOWN_CHARS]!r} is not a taint: write KEY=VALUE:EFFECT, KEY:EFFECT or KEY; "
            f"the effect is one of {', '.join(EFFECTS)}."
        )
    return Toleration(key, value if equals else None, effect or None)


OPTIONS: Final = (
    Option("pull_secrets", "secrets for pulling the image", _names, is_list=True),
    Option(
        "pull_policy",
        "when nodes pull the image: IfNotPresent, Always or Never",
        _pull_policy,
        default=PULL_POLICIES[0],
    ),
    Option("node_selector", "labels of nodes that may run sessions", _pairs, is_list=True),
    Option("tolerations", "taints that pods tolerate", _tolerations, is_list=True),
    Option("priority_class", "PriorityClass of pods", _name, default="the cluster's own"),
    Option("labels", "further labels of pods and claims", _labels, is_list=True),
    Option("storage_class", "StorageClass of claims", _name, default="the cluster's own"),
)


def parse(given: Mapping[str, str]) -> PodOptions:
    """The options by their keys, as text; lists are separated by commas or blanks.

    Raises:
        ConfigError: a value cannot be used.
    """
    values = {}
    for each in OPTIONS:
        if each.key not in given:
            continue
        try:
            values[each.key] = each.parse(given[each.key])
        except ConfigError as error:
            raise ConfigError(error.message, hint=f"Correct {each.variable}.") from None
    return PodOptions(**values)


def of_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What the variables hold, by the options' keys."""
    ours = (each for each in OPTIONS if each.variable in environment)
    return {each.key: environment[each.variable] for each in ours}


def variables(given: Mapping[str, str]) -> dict[str, str]:
    """The reverse of ``of_environment``."""
    return {each.variable: given[each.key] for each in OPTIONS if each.key in given}
