"""Tests that share something belong to a group, which one of pytest's processes runs."""

from __future__ import annotations

import pytest


@pytest.mark.xdist_group("kept")
def test_a_group_of_tests_is_kept_together(request: pytest.FixtureRequest) -> None:
    """pytest-xdist appends the group to a test's id, and some versions of pytest ignore that."""
    if request.config.getoption("loadgroup", False):
        assert request.node.nodeid.endswith("@kept")
    else:
        assert request.node.get_closest_marker("xdist_group").args == ("kept",)
