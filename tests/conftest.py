"""What the tests of every room share."""

from __future__ import annotations

import os
from pathlib import Path

# Before anything imports numpy or torch: the workers share the cores, and threads of several
# workers that wait for each other spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# A deadline is a timed assertion, which a busy machine fails; examples are the same every time.
settings.register_profile("edgewise", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("edgewise")

__all__ = ["shared_data"]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data and weights beside the checkout; the test is skipped without it."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("EDGEWISE_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no data at {folder}: set EDGEWISE_SHARED_DATA to the folder of real data")
    return folder
