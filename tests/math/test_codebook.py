"""Codebooks: k-means never makes the error larger, zeros stay zero, gradients sum up."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.math.codebook import NF4, STARTS, kmeans, lookup, nearest, powers_of_two

few = settings(max_examples=20, deadline=None)


def error(values, codebook, at, weights=None):
    squares = (codebook.gather(1, at) - values).double().square()
    return float((squares * (1 if weights is None else weights)).sum())


@few
@given(st.integers(2, 16), st.sampled_from(STARTS), st.booleans(), st.integers(0, 5))
def test_each_round_makes_the_error_less_and_zeros_stay(size, start, sparse, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(3, 60, generator=generator)
    weights = torch.rand(3, 60, generator=generator)
    if sparse:
        values[torch.rand(3, 60, generator=generator) < 0.5] = 0
    errors = []
    for rounds in (0, 1, 2, 5, 20):
        codebook, at = kmeans(values, size, start, weights, rounds=rounds, seed=seed)
        assert codebook.shape == (3, size) and (codebook.diff(dim=1) >= 0).all()
        found = codebook.gather(1, at)
        if sparse:
            assert (found[values == 0] == 0).all()
        errors.append(error(values, codebook, at, weights))
    assert all(b <= a * (1 + 1e-5) + 1e-9 for a, b in pairwise(errors))


@pytest.mark.parametrize("start", STARTS[:2])
def test_a_value_for_each_loses_nothing(start):
    values = torch.tensor([[0.5, -1.0, 0.5, 0.0, 2.0, 2.0]])
    codebook, at = kmeans(values, 4, start)
    assert torch.equal(codebook.gather(1, at), values)


@pytest.mark.parametrize("start", STARTS)
def test_fewer_numbers_than_values_stay_as_they_are(start):
    values = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    values[0, 3] = 0.0
    codebook, at = kmeans(values, 16, start)
    assert codebook.shape == (5, 16) and torch.equal(codebook.gather(1, at), values)


def test_nearest_takes_the_lower_of_a_tie():
    at = nearest(torch.tensor([[-3.0, 0.5, 0.51, 9.0]]), torch.tensor([[0.0, 1.0]]))
    assert at.tolist() == [[0, 0, 1, 1]]


def test_fixed_codebooks():
    assert len(NF4) == 16 and list(NF4) == sorted(NF4) and 0.0 in NF4
    assert powers_of_two(3) == (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0)


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_gradients_are_summed_over_what_shares_a_value(channels, scaled):
    torch.manual_seed(0)
    codebook = torch.randn(*([4] if channels else []), 5, requires_grad=True)
    indices = torch.randint(0, 5, (4, 6, 3), dtype=torch.uint8)
    scale = torch.rand(2, 3, 1, requires_grad=True) if scaled else None
    weight = lookup(codebook, indices, scale)
    plain = codebook.double()
    rows = torch.arange(4).view(4, 1, 1)
    want = plain[rows, indices.long()] if channels else plain[indices.long()]
    if scaled:
        want = want * scale.double().repeat_interleave(2, 0).repeat_interleave(2, 1)
    torch.testing.assert_close(weight, want.float())
    upstream = torch.randn(4, 6, 3)
    learned = [x for x in (codebook, scale) if x is not None]
    have = torch.autograd.grad((weight * upstream).sum(), learned)
    torch.testing.assert_close(have, torch.autograd.grad((want * upstream).sum(), learned))
    torch.library.opcheck(
        lookup, (codebook.detach(), indices, None if scale is None else scale.detach())
    )
