import pytest
import torch

from edgewise.math.moments import Moments


@pytest.mark.parametrize("groups", [1, 3])
def test_sums_by_batches_give_the_error_of_any_weights(groups):
    torch.manual_seed(groups)
    x, true = torch.randn(groups, 5, 200) + 2, torch.randn(groups, 4, 5)
    y = true @ x + 0.1 * torch.randn(groups, 4, 200) + 1
    moments = Moments()
    for at in (slice(0, 50), slice(50, 51), slice(51, 200)):
        moments.add(x[..., at], y[..., at])
    weight = (true + 0.05 * torch.randn_like(true)).double()
    bias = moments.bias(weight).reshape(groups, 4, 1)
    have = weight @ x.double() + bias
    assert torch.allclose(
        (have - y).mean(-1), torch.zeros(groups, 4, dtype=torch.float64), atol=1e-6
    )
    variance = ((y - y.mean(-1, keepdim=True)) ** 2).sum()
    assert moments.error(weight) == pytest.approx(
        float(((have - y) ** 2).sum() / variance), rel=1e-5
    )
    centred = (x - x.mean(-1, keepdim=True)).double()
    assert torch.allclose(moments.inputs(), centred @ centred.mT, rtol=1e-5, atol=1e-4)


def test_behind_a_clamp_the_bias_is_for_what_passes():
    torch.manual_seed(0)
    x = torch.randn(1, 3, 4000)
    y = torch.tensor([[[1.0, 2.0, -1.0]]]) @ x
    weight = torch.tensor([[[1.0, 2.0, -1.5]]], dtype=torch.float64)
    y[y < 0] -= 100  # no matter how far below zero
    moments = Moments((0.0, float("inf")))
    for part in (slice(0, 1000), slice(1000, 4000)):
        moments.add(x[..., part], y[..., part])
    passes = y[0, 0] > 0
    want = (y.double() - weight @ x.double())[0, 0, passes].mean()
    assert moments.bias(weight).item() == pytest.approx(float(want), rel=1e-6)
    never = Moments((1e6, float("inf")))
    never.add(x, y)
    plain = Moments()
    plain.add(x, y)
    assert torch.equal(never.bias(weight), plain.bias(weight))
