import pytest
import torch

from edgewise.math.adaround import learn_rounding
from edgewise.math.gptq import round_weights


def layer(groups=1, rows=12, columns=24, top=7):
    """Weights, correlated inputs' second moments, scales."""
    torch.manual_seed(0)
    weight = torch.randn(groups, rows, columns)
    x = torch.randn(groups, columns, 500).cumsum(1)
    return weight, (x @ x.mT).double(), weight.abs().amax(-1) / top


def output_error(integers, weight, hessian, scale):
    difference = (integers * scale[..., None] - weight).double()
    return float(((difference @ hessian) * difference).sum())


@pytest.mark.parametrize("method", [round_weights, learn_rounding])
@pytest.mark.parametrize(("groups", "rows", "columns"), [(1, 12, 24), (6, 2, 9), (3, 4, 18)])
def test_outputs_change_less_than_by_rounding_to_nearest(method, groups, rows, columns):
    weight, hessian, scale = layer(groups, rows, columns)
    integers = method(weight, hessian, scale, -7, 7)
    assert integers.dtype == torch.int32
    assert integers.abs().max() <= 7
    nearest = (weight / scale[..., None]).round().clamp(-7, 7)
    found = output_error(integers, weight, hessian, scale)
    assert found < 0.7 * output_error(nearest, weight, hessian, scale)


def test_uncorrelated_inputs_round_to_nearest():
    weight, _, scale = layer()
    hessian = torch.eye(24, dtype=torch.float64)[None] * torch.rand(24).double()[:, None]
    integers = round_weights(weight, hessian, scale, -7, 7)
    assert torch.equal(integers, (weight / scale[..., None]).round().clamp(-7, 7).int())


def test_weights_on_the_grid_stay():
    weight, hessian, scale = layer()
    integers = torch.randint(-7, 8, weight.shape, dtype=torch.int32)
    assert torch.equal(round_weights(integers * scale[..., None], hessian, scale, -7, 7), integers)


def test_inputs_that_are_always_zero_do_no_harm():
    weight, hessian, scale = layer()
    hessian[:, 3] = hessian[:, :, 3] = 0
    assert round_weights(weight, hessian, scale, -7, 7).abs().max() <= 7
    zero = torch.zeros_like(hessian)
    nearest = (weight / scale[..., None]).round().clamp(-7, 7).int()
    assert torch.equal(round_weights(weight, zero, scale, -7, 7), nearest)


def test_adaround_moves_to_a_neighbour_only():
    weight, hessian, scale = layer()
    integers = learn_rounding(weight, hessian, scale, -7, 7, steps=200)
    assert ((integers - weight / scale[..., None]).abs() <= 1 + 1e-5).all()
