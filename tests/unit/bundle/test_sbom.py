"""The bill of materials, against the rules of CycloneDX 1.5 for what we use of it."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest
from bundling import inventory, sbom
from bundling.image import Saved
from bundling.wheels import Wheel

OURS: Final = Wheel("claude_mcp-1.0-py3-none-any.whl", "claude-mcp", "1.0", "MIT", "a" * 64)
WHEELS: Final = [
    OURS,
    Wheel("x_y-2.0-cp311-cp311-any.whl", "X.y", "2.0", "Apache-2.0 OR BSD-2-Clause", "b" * 64),
    Wheel("x_y-2.0-cp312-cp312-any.whl", "X.y", "2.0", "Apache-2.0 OR BSD-2-Clause", "c" * 64),
]
INVENTORY: Final[dict[str, Any]] = {
    "debian": [
        {"name": "libc6", "version": "2.36-9+deb12u1", "architecture": "amd64", "licence": "LGPL"}
    ],
    "npm": [{"name": "@npmcli/fs", "version": "4.0.0", "licence": "ISC"}],
    "programs": {"claude": "2.1.0", "node": "24.1.0", "uv": "0.13.9", "git": "2.39"},
}
IMAGE: Final = Saved("claude-code-custom:latest", "linux-x86_64", "d" * 64, ("e" * 64,))


def made() -> dict[str, Any]:
    found = sbom.components(WHEELS, [(IMAGE, INVENTORY)])
    return sbom.document("1.0", 1_700_000_000, found, OURS)


@pytest.mark.stress
def test_the_document_follows_the_official_schema() -> None:
    """Needs ``cyclonedx-python-lib[json-validation]``, which nothing else here uses."""
    validation = pytest.importorskip("cyclonedx.validation.json")
    schema = pytest.importorskip("cyclonedx.schema")
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_5)
    assert validator.validate_str(json.dumps(made())) is None
    assert validator.validate_str(json.dumps({**made(), "unknown": 1})) is not None


def test_the_document_keeps_to_the_format() -> None:
    document = made()
    assert document["bomFormat"] == "CycloneDX"
    assert document["specVersion"] == "1.5"
    assert re.fullmatch(
        r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        document["serialNumber"],
    )
    assert document["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    components = [*document["components"], document["metadata"]["component"]]
    references = [each["bom-ref"] for each in components]
    assert len(set(references)) == len(references)
    for each in components:
        assert each["type"] in ("library", "application", "container")
        assert each["name"]
        assert each["version"]
        assert re.fullmatch(r"pkg:(pypi|npm|deb|oci)/[^ ]+@[^ ]+", each["purl"])
        (stated,) = each["licenses"]
        assert stated.keys() in ({"expression"}, {"license"})
        for one in each.get("hashes", []):
            assert one["alg"] == "SHA-256"
            assert re.fullmatch("[0-9a-f]{64}", one["content"])
    (depends,) = document["dependencies"]
    assert depends["ref"] == document["metadata"]["component"]["bom-ref"]
    assert set(depends["dependsOn"]) == set(references) - {depends["ref"]}


def test_the_same_bundle_has_the_same_document() -> None:
    assert json.dumps(made()) == json.dumps(made())


def test_wheels_for_several_pythons_are_one_component_with_all_hashes() -> None:
    (found,) = [each for each in made()["components"] if each["name"] == "x-y"]
    assert [each["content"] for each in found["hashes"]] == ["b" * 64, "c" * 64]
    assert found["licenses"] == [{"expression": "Apache-2.0 OR BSD-2-Clause"}]


def test_the_table_says_each_licence() -> None:
    rows = sbom.licences(sbom.components(WHEELS, [(IMAGE, INVENTORY)])).splitlines()
    assert "npm/@anthropic-ai/claude-code\t2.1.0\tAnthropic's Commercial Terms of Service" in rows
    assert "deb/libc6\t2.36-9+deb12u1\tLGPL" in rows
    assert "pypi/uv\t0.13.9\tMIT OR Apache-2.0" in rows
    assert "npm/@npmcli/fs\t4.0.0\tISC" in rows


def test_an_image_s_inventory_is_read_where_there_are_no_packages() -> None:
    """It runs in the image; here are its functions on this machine."""
    assert inventory.programs()["python3"].startswith("3.")
    assert inventory.debian_licence("no-such-package") == "not stated"
    assert isinstance(inventory.debian(), list)
    assert isinstance(inventory.npm(), list)
