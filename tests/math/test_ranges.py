import pytest
import torch

from edgewise.math.affine import affine_parameters
from edgewise.math.ranges import RANGES, least_error, mean_squared_error, octav, percentile

torch.manual_seed(0)
SAMPLES = {
    "normal": torch.randn(1 << 15),
    "relu": torch.randn(1 << 15).relu(),
    "long tail": torch.distributions.StudentT(2.5).sample((1 << 15,)),
    "image": torch.randint(0, 256, (1 << 15,)) / 127.5 - 1,
    "negative": -torch.rand(1 << 15),
    "constant": torch.full((1 << 10,), 3.0),
    "zero": torch.zeros(1 << 10),
}


def ends(x):
    return float(x.min()), float(x.max())


def error(x, low, high):
    scale, zero_point = affine_parameters(torch.tensor(low), torch.tensor(high))
    steps = torch.round(x / scale).clamp(-128 - zero_point, 127 - zero_point)
    return float(((steps * scale - x) ** 2).mean())


@pytest.mark.parametrize("method", RANGES)
@pytest.mark.parametrize("name", SAMPLES)
def test_a_range_lies_within_the_ends_and_is_useful(method, name):
    x = SAMPLES[name]
    low, high = RANGES[method](x, *ends(x))
    # Zero is on every grid, whatever the ends.
    assert min(ends(x)[0], 0) <= low <= max(high, 0) and min(low, 0) <= high <= max(ends(x)[1], 0)
    if name != "long tail":  # there the few largest values are nearly all of the power
        assert error(x, low, high) <= 0.02 * max(float((x**2).mean()), 1e-12)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_least_squared_error_is_least(name):
    x = SAMPLES[name]
    least = error(x, *mean_squared_error(x, *ends(x)))
    for method in RANGES.values():
        assert least <= error(x, *method(x, *ends(x))) * 1.02 + 1e-12


def test_octav_is_near_the_least_squared_error_of_a_symmetric_clip():
    x = SAMPLES["long tail"]
    x = torch.cat([x, -x])
    found = octav(x, *ends(x))[1]
    clips = torch.linspace(0.5, float(x.max()), 400)

    def clipped(c):
        noise = (c**2 * 4.0**-8 / 3 * (x.abs() <= c)).sum() + (
            (x.abs() - c).clamp(min=0) ** 2
        ).sum()
        return float(noise)

    assert clipped(torch.tensor(found)) <= 1.05 * min(map(clipped, clips))


def test_percentile_leaves_out_what_it_says():
    x = torch.arange(10_001.0)
    low, high = percentile(x, 0.0, 10_000.0, share=0.99)
    assert (low, high) == pytest.approx((50.0, 9950.0), abs=1)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_scales_of_rows_beat_those_that_span_all(bits):
    rows = torch.distributions.StudentT(3.0).sample((16, 200))
    top = 2 ** (bits - 1) - 1

    def total(scale):
        steps = torch.round(rows / scale[:, None]).clamp(-top, top)
        return ((steps * scale[:, None] - rows) ** 2).sum(1)

    assert (total(least_error(rows, bits)) <= total(rows.abs().amax(1) / top) * (1 + 1e-5)).all()
