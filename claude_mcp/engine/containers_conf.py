"""What of ``containers.conf`` no option of Podman's command line can undo; see containers.conf(5).

Only for people who ask what surrounds their sessions: sessions themselves report what they got.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "containers": (
        "annotations", "apparmor_profile", "base_hosts_file", "cgroupns", "cgroups", "devices",
        "env", "init_path", "label", "mounts", "seccomp_profile", "volumes",
    ),
    "engine": ("hooks_dir",),
}  # fmt: skip
"""The settings that reach every container, by their tables."""
SYSTEM: Final = (Path("/usr/share/containers"), Path("/etc/containers"))
NAME: Final = "containers.conf"


def passed_on(environment: Mapping[str, str], uid: int) -> dict[str, Path]:
    """The settings that reach every container of ``uid``, with the files that have them.

    A file that cannot be read or parsed is left out: Podman itself reports that.
    """
    found: dict[str, Path] = {}
    for file in _files(environment, uid):
        try:
            tables: Any = tomllib.loads(file.read_text("utf-8"))
        except (OSError, ValueError):
            continue
        for table, names in SETTINGS.items():
            values = tables.get(table)
            given = values if isinstance(values, dict) else {}
            # A later file replaces what an earlier one has; Podman 5 can add to a list.
            found.update((name, file) for name in names if given.get(name))
    return found


def _files(environment: Mapping[str, str], uid: int) -> Iterator[Path]:
    """The files that Podman reads, in their order."""
    if only := environment.get("CONTAINERS_CONF"):
        yield Path(only)
    else:
        for directory in (*SYSTEM, *_of_user(environment, uid)):
            yield directory / NAME
            yield from sorted((directory / f"{NAME}.d").glob("*.conf"))
    if override := environment.get("CONTAINERS_CONF_OVERRIDE"):
        yield Path(override)


def _of_user(environment: Mapping[str, str], uid: int) -> Iterator[Path]:
    home = environment.get("HOME")
    if uid == 0 or not home:
        return
    yield Path(environment.get("XDG_CONFIG_HOME") or Path(home, ".config"), "containers")
