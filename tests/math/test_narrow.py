import pytest
import torch

from edgewise.math.narrow import narrow

NUMBERS = [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]


def finite(number):
    """Every finite number of that kind, float64, in order."""
    if number.itemsize == 1:
        bits = torch.arange(256, dtype=torch.int16).to(torch.uint8)
    else:
        bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    values = bits.view(number).double()
    return values[values.isfinite()].unique()


@pytest.mark.parametrize("number", NUMBERS)
def test_each_weight_becomes_the_nearest_number(number):
    torch.manual_seed(0)
    known = finite(number)
    weight = torch.randn(1, 400) * torch.logspace(-6, 1, 400)
    weight[0, 0] = float(known[-1]) if number.itemsize == 1 else 3.0  # the scale is 1
    have = narrow(weight, number, 0)
    at = torch.searchsorted(known, weight.double()).clamp(1, len(known) - 1)
    least = torch.minimum((known[at] - weight).abs(), (known[at - 1] - weight).abs())
    assert torch.equal((have.double() - weight).abs(), least)
    assert have.dtype == (number if number.itemsize == 2 else torch.bfloat16)


@pytest.mark.parametrize("number", NUMBERS[2:])
def test_a_channel_of_any_size_keeps_its_digits(number):
    torch.manual_seed(0)
    weight = torch.randn(6, 50) * torch.logspace(-8, 8, 6)[:, None]
    weight[3] = 0
    have = narrow(weight, number, 0).float()
    steps = 2.0 ** -(torch.finfo(number).bits - 1 - (4 if number is NUMBERS[2] else 5) + 1)
    close = (have - weight).abs() <= steps * weight.abs() + 2e-4 * weight.abs().amax(1, True)
    assert close.all() and not have[3].any()
    assert torch.equal(narrow(have, number, 0).float(), have)
    assert torch.equal(narrow(weight.T, number, 1).float(), have.T)
    assert torch.equal(narrow(weight * 8, number, 0).float(), have * 8)


@pytest.mark.parametrize("number", NUMBERS)
def test_what_is_too_large_ends_at_the_largest(number):
    have = narrow(torch.tensor([[3e38, -3e38, 1.0]]), number, 0)
    assert have.isfinite().all() and have[0, 0] == -have[0, 1] > 0
