"""Masks keep exactly what they promise; what is solved costs least."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.math.sparse_solve import least_squares, sparsegpt
from edgewise.math.sparsity import (
    Pattern,
    as_matrix,
    as_weight,
    erdos_renyi,
    lamp,
    largest,
    shared,
)

few = settings(max_examples=20, deadline=None)


def layer(groups=1, rows=10, columns=24):
    torch.manual_seed(0)
    x = torch.randn(groups, columns, 400).cumsum(1)
    return torch.randn(groups, rows, columns), (x @ x.mT / 400).double()


def cost(v, weight, hessian):
    change = v.double() - weight.double()
    return float(((change @ hessian) * change).sum())


@few
@given(st.integers(0, 60), st.integers(0, 3))
def test_exactly_so_many_stay_and_a_mask_is_its_own(keep, seed):
    score = torch.randint(0, 5, (60,), generator=torch.Generator().manual_seed(seed)).float()
    mask = largest(score, keep)
    assert int(mask.sum()) == keep
    assert not keep or keep == 60 or score[mask].min() >= score[~mask].max()
    assert torch.equal(largest(torch.where(mask, score, -1.0), keep), mask)


@few
@given(st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 8)]), st.integers(1, 4), st.integers(1, 3))
def test_of_each_m_neighbours_n_stay(pattern, rows, groups):
    keep, of = pattern
    score = torch.rand(rows, groups * of)
    mask = Pattern.parse(f"{keep}:{of}").mask(score, 0.9)
    assert (mask.view(rows, groups, of).sum(2) == keep).all()


@few
@given(st.integers(1, 3), st.integers(1, 3), st.floats(0, 0.99))
def test_blocks_are_zero_or_not_together(rows, columns, zeros):
    mask = Pattern.parse(f"{rows}x{columns}").mask(torch.rand(4 * rows, 5 * columns), zeros)
    blocks = mask.reshape(4, rows, 5, columns).float().mean((1, 3))
    assert set(blocks.flatten().tolist()) <= {0.0, 1.0}
    assert int((blocks == 0).sum()) == round(zeros * 20)


def test_patterns_lie_over_input_channels():
    weight = torch.arange(2 * 4 * 3 * 3.0).view(2, 4, 3, 3)
    assert torch.equal(as_matrix(weight)[0, :4], weight[0, :, 0, 0])
    assert torch.equal(as_weight(as_matrix(weight), weight), weight)
    linear = torch.arange(12.0).view(4, 3)  # (inputs, outputs)
    assert torch.equal(as_matrix(linear, 0), linear.T)
    assert torch.equal(as_weight(as_matrix(linear, 0), linear, 0), linear)


@pytest.mark.parametrize("text", ["4:2", "2:2", "0:4", "x", "0x1", "1000x1"])
def test_what_is_no_pattern_is_refused(text):
    with pytest.raises(ValueError, match="found"):
        Pattern.parse(text)


@few
@given(st.lists(st.tuples(*[st.integers(1, 20)] * 2), min_size=1, max_size=5), st.floats(0, 0.99))
def test_erdos_renyi_shares_make_the_whole(shapes, zeros):
    shares = erdos_renyi(shapes, zeros)
    sizes = [a * b for a, b in shapes]
    assert all(0 <= share <= 1 for share in shares)
    total = sum(share * size for share, size in zip(shares, sizes, strict=True))
    assert total == pytest.approx(zeros * sum(sizes), abs=1e-6)


def test_lamp_is_the_square_over_those_not_smaller():
    assert lamp(torch.tensor([[1.0, -2.0, 3.0]])).tolist() == [[1 / 14, 4 / 13, 1.0]]


def test_shared_masks_keep_the_largest_of_all():
    masks = shared({"a": torch.tensor([5.0, 1.0]), "b": torch.tensor([[4.0], [2.0]])}, 0.5)
    assert masks["a"].tolist() == [True, False] and masks["b"].tolist() == [[True], [False]]


@pytest.mark.parametrize("groups", [1, 3])
def test_solving_is_the_least_change_of_outputs(groups):
    weight, hessian = layer(groups)
    mask = largest(weight.abs(), 12)
    plain = weight * mask
    solved = least_squares(weight, hessian, plain, mask, steps=200)
    assert (solved[~mask] == 0).all()
    assert cost(solved, weight, hessian) < 0.8 * cost(plain, weight, hessian)
    free = mask[0, 0]  # against the direct solution of one row
    want = torch.linalg.solve(hessian[0][free][:, free], (hessian[0] @ weight[0, 0].double())[free])
    torch.testing.assert_close(solved[0, 0, free], want, rtol=1e-6, atol=1e-8)
    costs = [
        cost(least_squares(weight, hessian, plain, mask, n), weight, hessian) for n in range(9)
    ]
    assert all(a >= b for a, b in pairwise(costs))


@pytest.mark.parametrize(("keep", "of"), [(0, 0), (2, 4)])
def test_sparsegpt_changes_outputs_less_than_magnitude(keep, of):
    weight, hessian = layer()
    found = sparsegpt(weight, hessian, 0.5, keep, of)
    assert int((found == 0).sum()) == weight.numel() // 2
    if of:
        assert ((found != 0).view(10, -1, of).sum(2) == keep).all()
    plain = weight * largest(weight.abs().flatten(), weight.numel() // 2).view_as(weight)
    assert cost(found, weight, hessian) < 0.5 * cost(plain, weight, hessian)
    again = sparsegpt(found, hessian, 0.5, keep, of)
    torch.testing.assert_close(again, found)
