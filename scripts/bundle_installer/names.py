"""Names of members, of the bundle and of what is in it.

The rule: a name that could lead out of the directory it is unpacked into is refused, and named.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Final

from bundle_installer.refusal import Refused

MAX_NAME_CHARS: Final = 1_000


def check_name(name: str, where: str) -> str:
    """The name itself, if it is a plain relative path.

    Raises:
        Refused
    """
    parts = name.split("/")
    if (
        not name
        or len(name) > MAX_NAME_CHARS
        or "\\" in name
        or any(ord(char) < 32 or ord(char) == 127 for char in name)
        or any(part in ("", ".", "..") for part in parts)
    ):
        raise Refused(f"{where} has a member with an unsafe name, {name[:200]!r}.")
    return name


def check_wheel(path: Path) -> None:
    """Check every name in a wheel.

    Raises:
        Refused
    """
    try:
        with zipfile.ZipFile(path) as wheel:
            for each in wheel.namelist():
                check_name(each.removesuffix("/"), path.name)
    except (OSError, zipfile.BadZipFile) as error:
        raise Refused(f"{path.name} is no wheel: {error}.") from error
