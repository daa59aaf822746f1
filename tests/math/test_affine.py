"""The definitions and properties of affine quantization (arXiv:1712.05877)."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from edgewise.math.affine import (
    affine_parameters,
    dequantize,
    fake_quantize,
    fixed_point_parameters,
    min_max_parameters,
    power_of_two,
    quantize,
    symmetric_parameters,
)

reals = st.floats(-1e6, 1e6, width=32)


@given(reals, reals)
@example(1.0, -510.0)  # the nearest zero point would leave nothing above zero
def test_zero_is_on_the_grid_and_the_grid_covers_the_range(a, b):
    low, high = torch.tensor(min(a, b)), torch.tensor(max(a, b))
    scale, zero_point = affine_parameters(low, high)
    assert scale > 0 and -128 <= int(zero_point) <= 127
    assert fake_quantize(torch.zeros(1), scale, zero_point, -128, 127).item() == 0.0
    # No value of the range is clipped (float32's own rounding aside).
    reached = dequantize(torch.tensor([-128, 127]), scale, zero_point, None)
    slack = 1e-5 * scale.item() * 256
    assert reached[0] <= min(low.item(), 0) + slack
    assert reached[1] >= max(high.item(), 0) - slack


@given(st.lists(reals, min_size=1, max_size=50))
def test_error_is_at_most_half_a_step_inside_the_range(values):
    x = torch.tensor(values, dtype=torch.float32)
    scale, zero_point = affine_parameters(x.amin(), x.amax())
    error = (fake_quantize(x, scale, zero_point, -128, 127) - x).abs().max()
    assert error <= scale * 0.5001 + 1e-30


@given(st.lists(reals, min_size=1, max_size=50), st.integers(2, 8))
def test_min_max_loses_half_a_step_of_the_narrowest_grid_that_has_zero(values, bits):
    x = torch.tensor(values, dtype=torch.float32)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    scale, zero_point = min_max_parameters(x.amin(), x.amax(), low, high)
    span = x.amax().clamp(min=0).double() - x.amin().clamp(max=0).double()
    assert scale <= span / (2**bits - 1) * 1.000001 + 1e-30
    assert low <= int(zero_point) <= high
    error = (fake_quantize(x, scale, zero_point, low, high) - x).abs().max()
    assert error <= scale * 0.501 + 1e-30


def test_eight_bit_pixels_around_zero_do_not_fall_on_ties():
    pixels = (torch.arange(256) - 127.5) / 127.5
    scale, _ = affine_parameters(pixels.amin(), pixels.amax())
    distance = (pixels.double() / scale.double()).frac().abs() - 0.5
    assert distance.abs().min() > 1e-4


@given(st.lists(reals, min_size=1, max_size=50), st.integers(2, 8))
def test_fake_quantize_is_idempotent_monotone_and_equals_its_two_halves(values, bits):
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    x = torch.tensor(values, dtype=torch.float32).sort().values
    scale, zero_point = affine_parameters(x.amin(), x.amax(), low, high)
    once = fake_quantize(x, scale, zero_point, low, high)
    assert torch.equal(fake_quantize(once, scale, zero_point, low, high), once)
    assert bool((once.diff() >= 0).all())
    integers = quantize(x, scale, zero_point, low, high, None)
    assert integers.min() >= low and integers.max() <= high
    assert torch.equal(dequantize(integers, scale, zero_point, None), once)


@pytest.mark.parametrize("axis", [0, 1, 3])
def test_equals_torch_per_channel(axis):
    x = torch.randn(3, 4, 5, 6, generator=torch.manual_seed(1))
    other = [i for i in range(4) if i != axis]
    scale, zero_point = symmetric_parameters(x.abs().amax(other))
    want = torch.fake_quantize_per_channel_affine(x, scale, zero_point, axis, -127, 127)
    have = fake_quantize(x, scale, zero_point, -127, 127, axis)
    assert (have - want).abs().max() <= 1e-6


def test_gradient_passes_inside_the_range_and_stops_outside():
    x = torch.tensor([-3.0, -0.5, 0.0, 0.5, 3.0], requires_grad=True)
    scale, zero_point = affine_parameters(torch.tensor(-1.0), torch.tensor(1.0))
    fake_quantize(x, scale, zero_point, -128, 127).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


def test_an_empty_range_still_has_a_usable_scale():
    scale, zero_point = affine_parameters(torch.tensor(0.0), torch.tensor(0.0))
    assert fake_quantize(torch.zeros(3), scale, zero_point, -128, 127).tolist() == [0, 0, 0]
    assert torch.isfinite(1 / scale)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_the_scales_gradient_is_the_papers(axis):
    # arXiv:1902.08153, equation 3, written out for one number at a time.
    torch.manual_seed(0)
    x = 4 * torch.randn(3, 5)
    shape = () if axis is None else (x.shape[axis],)
    scale = torch.full(shape, 0.5, requires_grad=True)
    zero_point = torch.full(shape, 1, dtype=torch.int32)
    gradient = torch.randn(3, 5)
    (got,) = torch.autograd.grad(fake_quantize(x, scale, zero_point, -4, 3, axis), scale, gradient)
    want = torch.zeros(shape)
    for i in range(3):
        for j in range(5):
            steps = float(x[i, j]) / 0.5
            nearest = min(max(round(steps), -5), 2)
            slope = nearest - steps if nearest == round(steps) else nearest
            place = () if axis is None else ((i, j)[axis],)
            want[place] += slope * gradient[i, j]
    shared = x.numel() if axis is None else x.numel() // x.shape[axis]
    torch.testing.assert_close(got, want / (shared * 3) ** 0.5)


def test_blocks_gather_the_gradient_of_their_numbers():
    torch.manual_seed(0)
    x, gradient = 3 * torch.randn(2, 6), torch.randn(2, 6)
    scale = torch.full((2, 3), 0.5, requires_grad=True)
    zero = torch.zeros(2, 3, dtype=torch.int32)
    (got,) = torch.autograd.grad(fake_quantize(x, scale, zero, -4, 3, None), scale, gradient)
    for i in range(2):
        for k in range(3):
            part = slice(2 * k, 2 * k + 2)
            one = torch.tensor(0.5, requires_grad=True)
            y = fake_quantize(x[i, part], one, torch.tensor(0, dtype=torch.int32), -4, 3, None)
            (want,) = torch.autograd.grad(y, one, gradient[i, part])
            torch.testing.assert_close(got[i, k], want)


def test_powers_of_two_are_the_least_that_reach_the_scales():
    scales = torch.cat([torch.logspace(-30, 30, 200, base=2), 2.0 ** torch.arange(-30, 31)])
    have = power_of_two(scales)
    assert torch.equal(have.log2(), have.log2().round())
    assert (have >= scales).all() and (have / 2 < scales).all()
    assert torch.equal(power_of_two(have), have)


@pytest.mark.parametrize(("low", "high"), [(0.0, 3.0), (-1.0, 0.3), (-0.1, 5.0), (0.0, 0.0)])
def test_fixed_point_reaches_both_ends(low, high):
    scale, zero_point = fixed_point_parameters(low, high)
    ends = scale * (torch.tensor([-128, 127]) - zero_point)
    assert ends[0] <= low and ends[1] >= high
    assert int(zero_point) == (-128 if low >= 0 else 0)
