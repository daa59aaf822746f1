import torch

from edgewise.math.affine import fake_quantize, symmetric_parameters
from edgewise.math.smoothing import activation_aware, smoothing


def test_half_strength_gives_inputs_and_weights_one_range():
    x, w = torch.rand(8) + 0.1, torch.rand(8) + 0.1
    s = smoothing(x, w, 0.5)
    assert torch.allclose(x / s, w * s)
    assert torch.allclose(x / smoothing(x, w, 1.0), torch.ones(8, dtype=torch.float64))
    assert torch.allclose(w * smoothing(x, w, 0.0), torch.ones(8, dtype=torch.float64))


def test_dead_channels_stay_as_they_are():
    s = smoothing(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 0.0, 4.0]))
    assert s[:2].tolist() == [1.0, 1.0] and torch.isfinite(s).all()


def rounded(weight):
    scale, zero_point = symmetric_parameters(weight.abs().amax(1), 7)
    return fake_quantize(weight, scale, zero_point, -7, 7, 0)


def test_the_search_never_does_worse_and_says_the_true_error():
    torch.manual_seed(0)
    x = torch.randn(256, 16)
    x[:, 3] *= 30
    weights = [torch.randn(12, 16), torch.randn(5, 16)]
    factors, before, after = activation_aware(x, weights, rounded)
    assert factors[3] == factors.max() and after < 0.5 * before
    for s, error in ((torch.ones(16), before), (factors.float(), after)):
        found = sum(float((((x / s) @ rounded(w * s).T - x @ w.T) ** 2).sum()) for w in weights)
        assert abs(found - error) < 1e-3 * error


def test_equal_channels_need_no_factors():
    x = torch.ones(4, 6)
    factors, before, after = activation_aware(x, [torch.randn(3, 6)], rounded)
    assert torch.equal(factors, torch.ones(6, dtype=torch.float64)) and before == after
