"""Normal equations against a direct solution."""

from __future__ import annotations

import pytest
import torch

from edgewise.math.least_squares import Normal


@pytest.mark.parametrize("intercept", [False, True])
def test_streamed_equations_give_the_direct_solution(intercept):
    torch.manual_seed(0)
    x, y = torch.randn(200, 2, 5) + 1, torch.randn(200, 2, 3)
    normal = Normal(2, 5, 3)
    for a, b in zip(x.split(30), y.split(30), strict=True):
        normal.add(a, b)
    weight, shift = normal.solve(torch.zeros(2, 3, 5), 1e-12, intercept)
    for g in range(2):
        inputs = x[:, g].double()
        if intercept:
            inputs = torch.cat([inputs, torch.ones(200, 1)], 1)
        want = torch.linalg.lstsq(inputs, y[:, g].double()).solution
        torch.testing.assert_close(weight[g].T, want[:5], rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(shift[g], want[5] if intercept else torch.zeros(3).double())


def test_a_strong_ridge_keeps_the_weights():
    normal = Normal(1, 4, 2)
    normal.add(torch.randn(50, 1, 4), torch.randn(50, 1, 2))
    start = torch.randn(1, 2, 4)
    weight, _ = normal.solve(start, 1e9, False)
    torch.testing.assert_close(weight.float(), start)
