"""Rate against distortion: fewer bits for the same error, the same grid, zeros where asked."""

from __future__ import annotations

import pytest
import torch

from edgewise.math.rate import (
    LARGEST,
    code_lengths,
    common_steps,
    grid_steps,
    rate_distortion,
)


def layer(groups=2, rows=12, columns=30):
    torch.manual_seed(0)
    x = torch.randn(groups, columns, 400).cumsum(1)
    return torch.randn(groups, rows, columns), (x @ x.mT / 400).double()


def costs(integers, weight, hessian, step):
    error = (integers * step).double() - weight.double()
    return (
        float(((error @ hessian) * error).sum()),
        float(code_lengths(integers)[integers.long() + LARGEST].sum()),
    )


def test_code_lengths_are_those_of_the_distribution():
    integers = torch.tensor([0] * 600 + [1] * 300 + [-1] * 300)
    bits = code_lengths(integers)
    assert bits[LARGEST] < bits[LARGEST + 1] == bits[LARGEST - 1] < bits[0]
    assert float((2**-bits).sum()) == pytest.approx(1)


def test_distortion_and_bits_together_are_less_than_by_rounding_to_nearest():
    weight, hessian = layer()
    weights, steps = torch.ones(2, 12), torch.full((2, 12), 0.4)
    previous = None
    for slope in (0.0, 0.02, 0.1):
        found = rate_distortion(weight, hessian, steps, weights, slope)
        assert found.dtype == torch.int32
        have = costs(found, weight, hessian, 0.4)
        near = costs((weight / 0.4).round(), weight, hessian, 0.4)
        assert have[0] + slope * have[1] < near[0] + slope * near[1]
        assert previous is None or have[1] < previous  # a dearer bit buys fewer
        previous = have[1]


def test_what_is_zero_stays_and_integers_have_eight_bits():
    weight, hessian = layer()
    stays = torch.rand(weight.shape) < 0.5
    found = rate_distortion(
        weight * stays, hessian, torch.full((2, 12), 1e-3), torch.ones(2, 12), 1e-6, stays
    )
    assert (found[~stays] == 0).all() and found.abs().max() == LARGEST


def test_steps_are_finer_where_more_is_at_stake():
    steps = grid_steps(1e-6, torch.tensor([[1.0, 4.0]]), torch.tensor([2.0]))
    assert float(steps[0, 0] / steps[0, 1]) == pytest.approx(2)


def test_the_grid_of_weights_that_are_on_one_is_found():
    torch.manual_seed(0)
    steps = torch.rand(6) + 0.1
    integers = torch.randint(-40, 41, (6, 50))
    integers[:, :3] = torch.tensor([0, 2, 3])  # nothing larger than the step divides both
    found = common_steps(integers * steps[:, None])
    torch.testing.assert_close(found, steps)
    assert (common_steps(torch.randn(4, 50)) == 0).all()
    assert (common_steps(torch.zeros(2, 5)) == 0).all()
