"""Sparsity that rises while a Model is trained."""

from __future__ import annotations

import pytest

import edgewise as ew
from edgewise.errors import InputError
from edgewise.train.gradual import ALLOCATIONS, RisingSparsity
from edgewise.train.training import Optimizer, Training

from .conftest import accuracy, network


def zeros(module) -> float:
    weights = [p for p in module.parameters() if p.ndim > 1]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def test_the_share_follows_the_cubic_and_ends_at_the_amount():
    rising = RisingSparsity(0.8, 0.2, 0.6, stages=1000)
    assert rising.share(0.1) == 0 and rising.share(0.6) == rising.share(0.99) == 0.8
    assert rising.share(0.4) == pytest.approx(0.8 * (1 - 0.5**3), abs=0.002)


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_zeros_rise_and_never_go_back(allocation):
    module = network(8).module()
    rising = RisingSparsity(0.8, 0.0, 0.5, allocation, stages=10)
    before = 0.0
    for step in range(20):
        changed = rising(module, step / 20)
        assert changed == (zeros(module) > before)
        before = zeros(module)
    assert before == pytest.approx(0.8, abs=0.01)


def test_what_a_training_keeps_has_all_its_zeros(digits):
    model = network(8)
    training = Training(
        epochs=4, batch=64, optimizer=Optimizer(rate=0.1), changes=(RisingSparsity(0.7, 0, 0.5),)
    )
    done = ew.Finetune(training=training)(model, digits)
    assert zeros(done.graph) == pytest.approx(0.7, abs=0.01)
    assert accuracy(done, digits) > 0.5


def test_bad_calls_are_refused():
    for bad, said in (
        ({"amount": 1.0}, "share"),
        ({"begin": 0.7, "end": 0.6}, "begin"),
        ({"allocation": "fair"}, "lamp"),
        ({"stages": 0}, "at least 1"),
    ):
        with pytest.raises(InputError, match=said):
            RisingSparsity(**bad)
