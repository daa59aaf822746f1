import pytest
import torch
from torch import nn

from edgewise.graph.fold import fold
from edgewise.loading.torch import load_module

from ..nets import NETS, loaded

aten = torch.ops.aten


@pytest.mark.parametrize("name", NETS)
def test_folding_changes_no_output_and_not_the_model(name):
    model, x = loaded(name)
    before = model(x)
    folded = fold(model.module())
    with torch.no_grad():
        assert torch.allclose(folded(x)[0], before, rtol=1e-4, atol=1e-5)
    assert torch.equal(model(x), before)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(3, 4, 3),
        nn.Conv2d(3, 4, 3, bias=False),
        nn.Conv2d(6, 4, 3, groups=2),
        nn.ConvTranspose2d(3, 4, 3),
        nn.Linear(3, 4),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_batch_norm_goes_into_the_layer_before_it(layer):
    spatial = {nn.Conv1d: 1, nn.Linear: 0}.get(type(layer), 2)
    norm = (nn.BatchNorm2d if spatial == 2 else nn.BatchNorm1d)(4)
    channels = 6 if getattr(layer, "groups", 1) == 2 else 3
    x = torch.randn(16, channels, *[8] * spatial)
    net = nn.Sequential(layer, norm)
    for _ in range(10):
        net(x)
    model = load_module(net.eval(), x)
    folded = fold(model.module())
    assert not any(n.target is aten.batch_norm.default for n in folded.graph.nodes)
    assert {n for n, _ in folded.named_parameters()} == {"0.weight", "0.bias"}
    with torch.no_grad():
        assert torch.allclose(folded(x)[0], net(x), rtol=1e-4, atol=1e-5)


def test_a_norm_whose_input_is_read_elsewhere_stays():
    class Forked(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

        def forward(self, x):
            y = self.conv(x)
            return self.norm(y) + y

    model = load_module(Forked().eval(), torch.randn(2, 2, 4, 4))
    folded = fold(model.module())
    assert any(n.target is aten.batch_norm.default for n in folded.graph.nodes)
