"""Low rank: what is left out is the tail of the sizes, and all factors give the weight back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.math.low_rank import rank, svd, tucker2

few = settings(max_examples=15, deadline=None)


def inputs(size, seed, dead=False):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 4 * size, generator=generator, dtype=torch.float64)
    x *= torch.logspace(-2, 1, size)[:, None]
    if dead:
        x[0] = 0
    return x


@few
@given(st.integers(1, 9), st.integers(1, 9), st.booleans(), st.booleans(), st.integers(0, 9))
def test_the_error_of_each_rank_is_the_tail_of_the_sizes(rows, columns, seen, dead, seed):
    torch.manual_seed(seed)
    weight = torch.randn(rows, columns)
    x = inputs(columns, seed, dead) if seen else torch.eye(columns, dtype=torch.float64)
    left, sizes, right = svd(weight, x @ x.T if seen else None)
    assert (sizes.diff() <= 0).all()
    for n in range(1, len(sizes) + 1):
        error = torch.linalg.norm((left[:, :n] @ right[:n] - weight) @ x)
        want = torch.linalg.norm(sizes[n:])
        assert float(error) == pytest.approx(float(want), rel=1e-3, abs=1e-3 * float(sizes[0]))


def test_looking_at_inputs_loses_less_of_what_the_layer_gives():
    torch.manual_seed(0)
    weight, x = torch.randn(12, 10), inputs(10, 0)
    errors = []
    for moments in (None, x @ x.T):
        left, _, right = svd(weight, moments)
        errors.append(torch.linalg.norm((left[:, :4] @ right[:4] - weight) @ x))
    assert errors[1] < 0.5 * errors[0]


@few
@given(st.integers(1, 6), st.integers(1, 6), st.booleans(), st.data())
def test_tucker_loses_at_most_both_tails(outputs, entered, seen, data):
    torch.manual_seed(0)
    weight = torch.randn(outputs, entered, 3, 2)
    x = inputs(entered, 0) if seen else torch.eye(entered, dtype=torch.float64)
    up, out_sizes, core, down, in_sizes = tucker2(weight, x @ x.T if seen else None)
    n = data.draw(st.integers(1, len(out_sizes)))
    m = data.draw(st.integers(1, len(in_sizes)))
    found = torch.einsum("on,nmhw,mi->oihw", up[:, :n], core[:n, :m], down[:m])
    error = torch.einsum("oihw,ix->ohwx", found - weight, x).square().sum()
    bound = out_sizes[n:].square().sum() + in_sizes[m:].square().sum()
    assert error <= bound * 1.001 + 1e-5 * out_sizes[0].square()


def test_the_rank_is_the_least_that_keeps_the_error():
    sizes = torch.tensor([4.0, 2.0, 2.0, 1.0])  # squares 16, 4, 4, 1
    assert [rank(sizes, e) for e in (0.0, 0.19, 0.2, 0.44, 0.45, 0.59, 0.6, 1.0)] == [
        4, 4, 3, 3, 2, 2, 1, 1,
    ]  # fmt: skip
