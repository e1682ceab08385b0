from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def waits_for_its_programs(patient: None) -> None:
    """Each test here does."""
