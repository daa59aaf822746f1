import pytest
import torch
from torch import nn

from edgewise.compress.quantize import Quantize
from edgewise.edge.runners import RUNTIMES
from edgewise.errors import UnsupportedOperator
from edgewise.loading.torch import load_module
from edgewise.lowering import lower
from edgewise.lowering.refusals import refusals

from ..nets import NETS, loaded


class Volumes(nn.Module):
    """A convolution in three dimensions, which some runtimes lack, between two that all take."""

    def __init__(self):
        super().__init__()
        self.before = nn.Conv2d(2, 4, 3)
        self.volume = nn.Conv3d(4, 4, 1)
        self.other = nn.Conv3d(4, 2, 1)
        self.after = nn.Linear(6, 3)

    def forward(self, x):
        y = self.other(self.volume(self.before(x).unsqueeze(2))).squeeze(2)
        return self.after(y)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_every_runtime_takes_what_it_is_known_to_take(name, precision):
    model, x = loaded(name)
    if precision == "int8":
        model = Quantize("int8")(model, {"calibration": x.numpy()})
    assert [r.layers for r in refusals(model)] == [{}] * len(RUNTIMES)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_refusal_is_known_before_lowering_and_all_are_listed(runtime, tmp_path):
    model = load_module(Volumes(), torch.zeros(1, 2, 8, 8))
    (found,) = refusals(model, [runtime])
    if not found.layers:
        lower(model, runtime, tmp_path / f"net{RUNTIMES[runtime].suffixes[0]}")
        return
    assert set(found.layers) == {"volume", "other"}
    with pytest.raises(UnsupportedOperator) as error:
        lower(model, runtime, tmp_path / f"net{RUNTIMES[runtime].suffixes[0]}")
    assert str(error.value) in found.layers.values()


def test_an_operator_that_no_runtime_takes_is_named_for_each():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    found = refusals(load_module(Odd(), torch.zeros(1, 4)))
    assert all(len(r.layers) == 1 and "bessel_j0" in next(iter(r.layers.values())) for r in found)
