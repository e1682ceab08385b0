"""What a bundle consists of: CycloneDX JSON for programs, a table of licences for people."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from bundling.image import Saved
from bundling.wheels import Wheel

SPECIFICATION: Final = "1.5"
_SPACE: Final = uuid.UUID("6f1c7f0e-0c0b-4c53-9d57-0b7f5f6c1c55")
"""Makes the same serial number for the same bundle."""
_PROGRAM_LICENCES: Final = {"uv": "MIT OR Apache-2.0"}
_EXPRESSION: Final = re.compile(r"[A-Za-z0-9.+-]+(?: (?:AND|OR|WITH) [A-Za-z0-9.+-]+)*")


def components(
    wheels: Sequence[Wheel], images: Sequence[tuple[Saved, Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """Everything in the bundle, each thing once, sorted by its reference."""
    found = [_wheel(each) for each in wheels]
    for image, inventory in images:
        found.append(_image(image))
        found += [_debian(each) for each in inventory.get("debian", [])]
        found += [_npm(each) for each in inventory.get("npm", [])]
        found += _programs(inventory)
    unique: dict[str, dict[str, Any]] = {}
    for each in found:
        known = unique.setdefault(each["bom-ref"], each)
        if known is not each and "hashes" in each:
            known["hashes"] = sorted(
                known["hashes"] + [one for one in each["hashes"] if one not in known["hashes"]],
                key=lambda one: str(one["content"]),
            )
    return [unique[reference] for reference in sorted(unique)]


def document(
    version: str, epoch: int, found: Sequence[dict[str, Any]], ours: Wheel
) -> dict[str, Any]:
    """The bill of materials. ``epoch`` is when the bundle was made, in seconds."""
    root = _wheel(ours)
    others = [each for each in found if each["bom-ref"] != root["bom-ref"]]
    references = sorted(each["bom-ref"] for each in others)
    serial = uuid.uuid5(_SPACE, "\n".join([version, str(epoch), ours.sha256, *references]))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": root,
        },
        "components": others,
        "dependencies": [{"ref": root["bom-ref"], "dependsOn": references}],
    }


def licences(found: Sequence[Mapping[str, Any]]) -> str:
    """A table of everything with version and licence."""
    rows = ["component\tversion\tlicence"]
    for each in found:
        (licence,) = each["licenses"]
        word = licence.get("expression") or licence["license"]["name"]
        kind = each["purl"].partition("/")[0].removeprefix("pkg:")
        rows.append(f"{kind}/{each['name']}\t{each['version']}\t{word}")
    return "\n".join(rows) + "\n"


def _wheel(wheel: Wheel) -> dict[str, Any]:
    name = re.sub(r"[-_.]+", "-", wheel.name).lower()
    found = _component("library", name, wheel.version, wheel.licence, f"pkg:pypi/{name}")
    found["hashes"] = [{"alg": "SHA-256", "content": wheel.sha256}]
    return found


def _image(image: Saved) -> dict[str, Any]:
    name, _, tag = image.name.partition(":")
    found = _component(
        "container", name, tag or "latest", "see its components", f"pkg:oci/{quote(name)}"
    )
    found["hashes"] = [{"alg": "SHA-256", "content": image.config}]
    return found


def _debian(package: Mapping[str, str]) -> dict[str, Any]:
    found = _component(
        "library", package["name"], package["version"], package["licence"],
        f"pkg:deb/debian/{quote(package['name'])}",
    )  # fmt: skip
    found["purl"] += f"?arch={package['architecture']}"
    found["bom-ref"] = found["purl"]
    return found


def _npm(package: Mapping[str, str]) -> dict[str, Any]:
    name = quote(package["name"], safe="/")
    return _component(
        "library", package["name"], package["version"], package["licence"], f"pkg:npm/{name}"
    )


def _programs(inventory: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Programs that no package of the image's lists."""
    versions = inventory.get("programs", {})
    found = []
    if "claude" in versions:
        found.append(_component(
            "application", "@anthropic-ai/claude-code", versions["claude"],
            "Anthropic's Commercial Terms of Service", "pkg:npm/%40anthropic-ai/claude-code",
        ))  # fmt: skip
    if "node" in versions:
        found.append(_component("application", "node", versions["node"], "MIT", "pkg:npm/node"))
    if "uv" in versions:
        licence = _PROGRAM_LICENCES["uv"]
        found.append(_component("application", "uv", versions["uv"], licence, "pkg:pypi/uv"))
    return found


def _component(kind: str, name: str, version: str, licence: str, purl: str) -> dict[str, Any]:
    located = f"{purl}@{quote(version, safe='.+-~:')}"
    stated: dict[str, Any] = {"license": {"name": licence}}
    if _EXPRESSION.fullmatch(licence) and " " in licence:
        stated = {"expression": licence}
    return {
        "type": kind,
        "bom-ref": located,
        "name": name,
        "version": version,
        "licenses": [stated],
        "purl": located,
    }
