"""Sparsity that rises while a Model is trained."""

from __future__ import annotations

import pytest
import torch

import edgewise as ew
from edgewise.errors import InputError
from edgewise.train.gradual import ALLOCATIONS, CRITERIA, RisingSparsity
from edgewise.train.training import Optimizer, Session, Training

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
        changed = rising(module, step / 20, {})
        assert changed == (zeros(module) > before)
        before = zeros(module)
    assert before == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_what_a_training_keeps_has_all_its_zeros(digits, criterion):
    model = network(8)
    rising = RisingSparsity(0.7, 0.1, 0.5, criterion=criterion)
    training = Training(epochs=4, batch=64, optimizer=Optimizer(rate=0.1), changes=(rising,))
    done = ew.Finetune(training=training)(model, digits)
    assert zeros(done.graph) == pytest.approx(0.7, abs=0.01)
    assert accuracy(done, digits) > 0.5


@pytest.mark.parametrize("allocation", ["layer", "global", "erdos-renyi"])
def test_what_moves_towards_zero_goes_first_however_large(allocation):
    module = network(8).module()
    weights = {name: p for name, p in module.named_parameters() if p.ndim > 1}
    generator = torch.Generator().manual_seed(0)
    scores = {n: torch.randn(w.shape, generator=generator) for n, w in weights.items()}
    gone = {name: torch.zeros_like(w, dtype=torch.bool) for name, w in weights.items()}
    rising = RisingSparsity(0.6, 0.1, 0.5, allocation, stages=4, criterion="movement")
    for step in range(20):
        rising(module, step / 20, scores)
        for name, weight in weights.items():
            now = weight == 0
            assert (now | ~gone[name]).all()  # zeros stay, though their scores have risen
            new, left = scores[name][now & ~gone[name]], scores[name][~now]
            assert not len(new) or not len(left) or new.max() <= left.min()
            gone[name] = now
        scores = {n: s + torch.where(gone[n], 10.0, 0.0) for n, s in scores.items()}
    assert zeros(module) == pytest.approx(0.6, abs=0.01)


def test_scores_are_gradients_times_weights_and_survive_a_restart(digits, tmp_path):
    class Seen:
        needs_movement = True

        def __init__(self, stop):
            self.stop, self.scores, self.total, self.before = stop, {}, {}, {}

        def __repr__(self):
            return "Seen()"

        def __call__(self, module, at, movement):
            now = {n: p.detach().double() for n, p in module.named_parameters() if n in movement}
            for name, before in self.before.items():
                gradient = (before - now[name]) / 0.1  # plain descent at a rate of 0.1
                self.total[name] = self.total.get(name, 0) - gradient * before
            self.before, self.scores = now, {n: s.clone() for n, s in movement.items()}
            if at >= self.stop:
                raise KeyboardInterrupt
            return False

    plain = Optimizer(rate=0.1, momentum=0, decay=0, clip=None, warmup=0)
    model = network(8)

    def scores(folder, stop=2.0):
        seen = Seen(stop)
        training = Training(2, 64, plain, "constant", changes=(seen,))
        session = Session(tmp_path / folder, every=0)
        try:
            ew.Finetune(training=training, session=session)(model, digits)
        except KeyboardInterrupt:
            return None
        return seen

    whole = scores("whole")
    assert whole.scores
    for name, score in whole.scores.items():
        torch.testing.assert_close(score.double(), whole.total[name], rtol=1e-3, atol=1e-4)
    assert scores("again", 0.5) is None
    again = scores("again")
    assert all(torch.equal(s, again.scores[n]) for n, s in whole.scores.items())


def test_bad_calls_are_refused():
    for bad, said in (
        ({"amount": 1.0}, "share"),
        ({"begin": 0.7, "end": 0.6}, "begin"),
        ({"allocation": "fair"}, "lamp"),
        ({"stages": 0}, "at least 1"),
        ({"criterion": "size"}, "magnitude, movement"),
        ({"criterion": "movement"}, "begin above 0"),
        ({"criterion": "movement", "begin": 0.1, "allocation": "lamp"}, "lamp"),
    ):
        with pytest.raises(InputError, match=said):
            RisingSparsity(**bad)
