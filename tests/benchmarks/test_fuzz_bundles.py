"""A few hundred wrong bundles; `python -m benchmarks.fuzz bundles` tries as many as you like."""

import pytest
from benchmarks.fuzz_bundles import attack

pytest.importorskip("cryptography", reason="signs and checks signatures")


def test_wrong_bundles_are_refused_and_change_nothing():
    found = attack(120, seed=3)
    assert found.total() == 120
    assert sum(count for outcome, count in found.items() if "refused" in outcome) > 60
