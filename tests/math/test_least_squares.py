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


@pytest.mark.parametrize("intercept", [False, True])
def test_few_rows_are_trusted_less(intercept):
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(1, 20, 20, generator=generator) * torch.linspace(0.1, 3, 20)
    found = []
    for rows in (10, 100, 100_000):
        normal = Normal(1, 20, 1)
        x = torch.randn(rows, 1, 20, generator=generator) @ mixed + 1
        normal.add(x, x[..., :1])
        found.append(normal.shrinkage(intercept))
    assert found[0] > 4 * found[1] > 16 * found[2] > 0 and found[2] < 1e-3


def test_shrinking_brings_the_moments_closer_to_those_of_all_inputs():
    generator = torch.Generator().manual_seed(1)
    mixed = torch.randn(30, 30, generator=generator).double()
    true = mixed.mT @ mixed
    x = (torch.randn(20, 30, generator=generator).double() @ mixed)[:, None]
    normal = Normal(1, 30, 1)
    normal.add(x, x[..., :1])
    ridge = normal.shrinkage(False)
    seen = normal.gram[0, :30, :30] / 20
    shrunk = (seen + ridge * seen.trace() / 30 * torch.eye(30)) / (1 + ridge)
    assert (shrunk - true).norm() < 0.9 * (seen - true).norm()
