"""Criteria against their equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgewise.math.importance import CRITERIA, Activity, Evidence, Slices, of_those_left


def evidence(units: int = 5, seed: int = 0) -> Evidence:
    torch.manual_seed(seed)
    return Evidence(
        "g",
        (
            Slices("a.weight", "weight", False, torch.randn(units, 6), torch.randn(3, units, 6)),
            Slices("bn.weight", "scale", False, torch.randn(units, 1), torch.randn(3, units, 1)),
            Slices("bn.bias", "other", False, torch.randn(units, 1)),
            Slices("b.weight", "weight", True, torch.randn(units, 4), torch.randn(3, units, 4)),
        ),
        Activity(torch.rand(units), torch.rand(units)),
        seed,
    )


@pytest.mark.parametrize("name", CRITERIA)
def test_one_number_a_unit_that_follows_the_unit(name):
    whole = evidence()
    score = CRITERIA[name].score(whole)
    assert score.shape == (5,) and torch.isfinite(score).all() and (score >= 0).all()
    if name == "random":
        return
    turned = torch.tensor([3, 1, 4, 0, 2])
    other = Evidence(
        "g",
        tuple(
            Slices(
                s.parameter, s.kind, s.summed, s.values[turned],
                None if s.gradients is None else s.gradients[:, turned],
            )
            for s in whole.slices
        ),
        Activity(whole.activity.total[turned], whole.activity.zeros[turned]),
    )  # fmt: skip
    torch.testing.assert_close(CRITERIA[name].score(other), score[turned])


def test_whole_groups_are_scored():
    a, b = evidence(), evidence(seed=1)
    mixed = Evidence("g", (*a.slices[:3], b.slices[3]))
    for name in ("l1", "l2", "lamp"):
        score = CRITERIA[name].score
        assert not torch.equal(score(a), score(mixed))


@pytest.mark.parametrize(("name", "summed"), [("fisher", True), ("taylor", False)])
def test_fisher_and_taylor_are_squares_of_the_change_of_a_linear_loss(name, summed):
    found = evidence()
    (row,) = [r for r in found.weights if r.summed == summed]
    for unit in range(5):
        joint = single = 0.0
        for gradient in row.gradients:
            without = row.values.clone()
            without[unit] = 0
            joint += float((gradient * (row.values - without)).sum()) ** 2 / 2
            single += sum(
                float(g * w) ** 2 for g, w in zip(gradient[unit], row.values[unit], strict=True)
            )
        want = joint if name == "fisher" else single
        assert float(CRITERIA[name].score(found)[unit]) == pytest.approx(want, rel=1e-4)


def test_the_geometric_median_goes_first():
    angles = torch.linspace(0, 6.28, 9)[:-1]
    points = torch.cat([torch.stack([angles.cos(), angles.sin()], 1), torch.zeros(1, 2)])
    found = Evidence("g", (Slices("w", "weight", False, points),))
    assert CRITERIA["fpgm"].score(found).argmin() == 8


def test_lamp_gives_the_strongest_unit_one():
    score = CRITERIA["lamp"].score(evidence())
    assert score.max() == 1
    assert score.argsort().equal(CRITERIA["l2"].score(evidence()).argsort())


def test_draws_are_repeatable():
    score = CRITERIA["random"].score
    assert torch.equal(score(evidence(seed=3)), score(evidence(seed=3)))
    assert not torch.equal(score(evidence(seed=3)), score(evidence(seed=4)))


# What makes scores of different groups comparable.
units = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30).map(np.array)


@given(units)
def test_the_order_in_a_group_stays(score):
    found = of_those_left(score)
    assert (score[np.argsort(found, kind="stable")] == np.sort(score)).all()


@given(units, st.floats(1e-3, 1e3))
def test_the_unit_of_a_group_does_not_matter(score, factor):
    np.testing.assert_allclose(of_those_left(score * factor), of_those_left(score), rtol=1e-9)


@given(units)
def test_a_unit_is_worth_what_it_is_to_those_that_are_left(score):
    ordered, found = np.sort(score), np.sort(of_those_left(score))
    for k in range(len(ordered)):
        own = [ordered[i] / np.sqrt(np.mean(ordered[i:] ** 2)) for i in range(k + 1)]
        assert found[k] == pytest.approx(max(own), rel=1e-9)


def test_a_group_without_small_units_loses_none_first():
    uneven, even = np.array([0.1, 0.2, 5.0, 6.0]), np.array([1.0, 1.1, 1.2, 1.3])
    assert np.sort(of_those_left(uneven))[1] < of_those_left(even).min()


def test_what_is_infinite_stays_and_zeros_are_no_error():
    found = of_those_left(np.array([2.0, -np.inf, 0.5]))
    assert found[1] == -np.inf and found[2] < found[0] < np.inf
    found = of_those_left(np.array([1.0, np.inf, 0.5]))
    assert np.isinf(found[1]) and found[2] < found[0] < np.inf
    assert (of_those_left(np.zeros(3)) == 0).all()
