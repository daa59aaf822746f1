"""Grids that values span themselves, and grids of blocks, against their definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgewise.math.affine import (
    dequantize,
    fake_quantize,
    fake_quantize_dynamic,
    quantize,
    symmetric_parameters,
)

WIDTHS = [(-127, 127), (-128, 127), (0, 255), (-7, 7)]
numbers = st.integers(0, 2**31).map(
    lambda seed: torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(seed)) * 10
)


@given(
    numbers, st.sampled_from(WIDTHS), st.sampled_from([(0, None), (1, None), (-1, None), (-1, 4)])
)
def test_error_is_at_most_half_a_step_of_the_own_range(x, width, granularity):
    """One step where the zero point was rounded: the range then ends up to half a step off."""
    axis, group = granularity
    rows = x if group is None else x.unflatten(-1, (-1, group))
    share = {-1: -1, 0: (1, 2), 1: (0, 2)}[axis]
    low, high = (f(share, keepdim=True) for f in (rows.amin, rows.amax))
    if width[0] == -width[1]:
        step = rows.abs().amax(share, keepdim=True) / width[1]
        bound = 0.5
    else:
        step = (high.clamp(min=0) - low.clamp(max=0)) / (width[1] - width[0])
        bound = 1.0
    got = fake_quantize_dynamic(x, *width, axis, group).reshape(rows.shape)
    assert ((got - rows).abs() <= step * (bound + 1e-3)).all()


@given(numbers, st.sampled_from(WIDTHS))
def test_tokens_and_samples_do_not_know_of_each_other(x, width):
    whole = fake_quantize_dynamic(x, *width, 0)
    assert torch.equal(whole[1:2], fake_quantize_dynamic(x[1:2], *width, 0))
    turned = fake_quantize_dynamic(x.transpose(0, 1), *width, 1)
    assert torch.equal(turned.transpose(0, 1), whole)
    whole = fake_quantize_dynamic(x, *width, -1)
    assert torch.equal(whole[:, 2:3], fake_quantize_dynamic(x[:, 2:3], *width, -1))


@given(numbers)
def test_symmetric_is_idempotent(x):
    once = fake_quantize_dynamic(x, -127, 127, -1)
    again = fake_quantize_dynamic(once, -127, 127, -1)
    assert torch.allclose(once, again, rtol=1e-6, atol=0)


def test_zeros_stay_zeros_and_every_number_passes_its_gradient():
    x = torch.zeros(2, 4, requires_grad=True)
    y = fake_quantize_dynamic(x, -128, 127, -1)
    assert not y.any()
    y.sum().backward()
    assert (x.grad == 1).all()


def test_is_what_onnx_defines():
    """DynamicQuantizeLinear, opset 11, whose integers begin at 0."""
    x = np.random.default_rng(0).normal(1, 3, (4, 7)).astype(np.float32)
    low, high = min(x.min(), 0), max(x.max(), 0)
    scale = np.float32((high - low) / np.float32(255))
    zero = np.clip(np.rint(0 - low / scale), 0, 255)
    want = (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale
    got = fake_quantize_dynamic(torch.from_numpy(x)[None], 0, 255, 0)[0].numpy()
    np.testing.assert_allclose(got, want, rtol=1e-6)
    # Where the integers begin changes nothing.
    moved = fake_quantize_dynamic(torch.from_numpy(x)[None], -128, 127, 0)[0].numpy()
    np.testing.assert_allclose(moved, want, rtol=1e-6)


@pytest.mark.parametrize("group", [1, 4, 32])
def test_blocks_equal_a_channel_axis_of_reshaped_weights(group):
    weight = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
    rows = weight.reshape(-1, group)
    scale, zero = symmetric_parameters(rows.abs().amax(1), 7)
    want = fake_quantize(rows, scale, zero, -7, 7, 0).reshape(weight.shape)
    grid = scale.reshape(6, -1), zero.reshape(6, -1)
    assert torch.equal(fake_quantize(weight, *grid, -7, 7), want)
    integers = quantize(weight, *grid, -7, 7, None)
    assert torch.equal(dequantize(integers, *grid, None), want)


def test_blocks_pass_the_gradient_inside_the_range():
    weight = torch.tensor([[0.5, 9.0, 0.5, 9.0]], requires_grad=True)
    scale = torch.tensor([[1.0, 2.0]])
    fake_quantize(weight, scale, torch.zeros(1, 2, dtype=torch.int32), -7, 7).sum().backward()
    assert weight.grad.tolist() == [[1, 0, 1, 1]]
