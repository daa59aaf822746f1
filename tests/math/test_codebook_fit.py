"""Values and choices for what a layer gives: no turn costs more than what it began from."""

from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.math import codebook_fit
from edgewise.math.codebook import kmeans
from edgewise.math.codebook_fit import choose, cost, fit_values, improve, settle, values_of


def layer(groups, shared, scaled, seed):
    """Weights, Hessian, codebook, units and zeros of a random layer."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(groups, 6, 20, generator=generator).double()
    zero = torch.rand(weight.shape, generator=generator) < 0.2
    weight[zero] = 0
    x = torch.randn(groups, 15, 20, generator=generator).double()
    hessian = x.mT @ x + 0.1 * torch.eye(20)
    unit = torch.ones_like(weight)
    if scaled:
        unit = (0.5 + torch.rand(groups, 6, 1, generator=generator).double()).expand(weight.shape)
    rows = (weight / unit).reshape(1 if shared else groups * 6, -1)
    return weight, hessian, kmeans(rows, 6)[0], unit, zero


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 2), st.booleans(), st.booleans(), st.integers(0, 9))
def test_no_turn_costs_more_and_zeros_stay(groups, shared, scaled, seed):
    weight, hessian, codebook, unit, zero = layer(groups, shared, scaled, seed)
    at, swept = choose(weight, hessian, codebook, unit, zero)
    torch.testing.assert_close(swept, values_of(codebook, at, unit))
    costs = [cost(weight, hessian, swept).sum()]
    for _ in range(3):
        codebook, at = fit_values(weight, hessian, codebook, at, unit)
        assert (codebook.diff(dim=1) >= 0).all()
        costs.append(cost(weight, hessian, values_of(codebook, at, unit)).sum())
        at = improve(weight, hessian, codebook, at, unit, zero)
        found = values_of(codebook, at, unit)
        costs.append(cost(weight, hessian, found).sum())
        assert (found[zero] == 0).all()
    assert all(after <= before * (1 + 1e-6) for before, after in pairwise(costs))
    assert costs[-1] < 0.9 * costs[0]


def test_the_values_are_the_least_squares_solution():
    weight, hessian, codebook, unit, zero = layer(1, False, False, 0)
    at, _ = choose(weight, hessian, codebook, unit, zero)
    best, at = fit_values(weight, hessian, codebook, at, unit)
    least = cost(weight, hessian, values_of(best, at, unit))
    for place in range(6):
        for by in (-1e-3, 1e-3):
            moved = best.clone()
            moved[:, place] += torch.where(best[:, place] == 0, 0, by)
            assert (cost(weight, hessian, values_of(moved, at, unit)) >= least - 1e-9).all()


def test_columns_in_blocks_are_as_columns_one_by_one(monkeypatch):
    weight, hessian, codebook, unit, zero = layer(2, True, True, 3)
    at, _ = choose(weight, hessian, codebook, unit, zero)
    whole = improve(weight, hessian, codebook, at, unit, zero)
    monkeypatch.setattr(codebook_fit, "BLOCK", 7)
    assert torch.equal(improve(weight, hessian, codebook, at, unit, zero), whole)


def test_what_is_fixed_stays_so():
    weight, hessian, codebook, unit, zero = layer(2, True, True, 1)
    same, at = settle(weight, hessian, codebook, unit, zero, 2, fixed=True)
    assert torch.equal(same, codebook)
    free, better = settle(weight, hessian, codebook, unit, zero, 2)
    costs = [cost(weight, hessian, values_of(*v, unit)).sum() for v in ((same, at), (free, better))]
    assert costs[1] < costs[0]
