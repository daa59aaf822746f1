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
