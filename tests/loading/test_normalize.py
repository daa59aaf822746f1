from dataclasses import replace

import pytest
import torch

from edgewise.errors import InputError
from edgewise.loading import load
from edgewise.loading.normalize import normalized
from edgewise.loading.torch import load_module

from ..nets import make

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


def test_takes_raw_pixels_and_computes_the_same():
    net, x = make("residual")
    model = load(net, x[:1], normalize=(MEAN, STD))
    pixels = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (MEAN, STD))
    with torch.no_grad():
        want = net((pixels / 255 - mean) / std)
    assert torch.allclose(model(pixels), want, atol=1e-5)
    (spec,) = model.signature.inputs
    assert (spec.dtype, spec.range, spec.layout) == ("uint8", (0.0, 255.0), "NCHW")
    assert model.lineage[-1].step == "normalize"


def test_channels_are_where_the_layout_says():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4 * 5 * 3, 2))
    model = load_module(net, torch.zeros(1, 4, 5, 3))
    (spec,) = model.signature.inputs
    signature = replace(model.signature, inputs=(replace(spec, layout="NHWC"),))
    model = normalized(replace(model, signature=signature), MEAN, STD)
    pixels = torch.randint(0, 256, (5, 4, 5, 3), dtype=torch.uint8)
    with torch.no_grad():
        want = net((pixels / 255 - torch.tensor(MEAN)) / torch.tensor(STD))
    assert torch.allclose(model(pixels), want, atol=1e-5)


@pytest.mark.parametrize(("mean", "std"), [((0.5, 0.5), 1.0), (0.5, 0.0), (0.5, (1, 1, -1))])
def test_numbers_that_do_not_fit_are_refused(mean, std):
    net, x = make("residual")
    with pytest.raises(InputError, match="must be one number or 3"):
        normalized(load_module(net, x[:1]), mean, std)
