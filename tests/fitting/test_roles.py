"""What chooses never tells."""

from __future__ import annotations

import numpy as np
import pytest

import edgewise as ew
from edgewise.errors import DataError
from edgewise.fitting.roles import assign


def used(split) -> set[int]:
    return set() if split is None else set(map(int, split.indices))


def test_selection_and_test_share_no_sample(net, stripes):
    roles = assign(ew.load_data(stripes, net.signature), 0)
    assert not used(roles.selection) & used(roles.test)
    assert (len(roles.selection), len(roles.test)) == (150, 150)
    y = stripes["evaluation"][1]
    assert abs(y[roles.selection.indices].mean() - 0.5) < 0.01
    assert roles.data.evaluation is None and roles.labelled


def test_without_evaluation_samples_some_are_kept_from_training(net):
    x = np.zeros((400, 1, 8, 8), np.float32)
    roles = assign(ew.load_data(x, net.signature, calibration=100), 0)
    held = used(roles.selection) | used(roles.test)
    assert not roles.labelled and len(held) == 150
    assert not held & used(roles.data.training)
    assert not held & used(roles.data.calibration)
    assert any("held back" in note for note in roles.notes)


def test_too_few_samples_are_refused(net):
    data = {"calibration": np.zeros((10, 1, 8, 8), np.float32),
            "evaluation": (np.zeros((30, 1, 8, 8), np.float32), np.arange(30) % 2)}  # fmt: skip
    with pytest.raises(DataError, match="too few to choose on one half and test on the other"):
        assign(ew.load_data(data, net.signature), 0)
