import numpy as np
import pytest
import torch

from edgewise.compress.dequantize import Dequantize
from edgewise.compress.quantize import Quantize
from edgewise.errors import StepError
from edgewise.loading.torch import load_module

from ..nets import NETS, loaded, make


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("scheme", ["int8", "int8-dynamic"])
def test_a_float_model_near_the_one_that_was_quantized(name, scheme):
    model, x = loaded(name)
    data = {"calibration": x.numpy()}
    small = Quantize(scheme)(model, data)
    if not small.quantized:
        return  # it has no layer that this scheme takes
    plain = Dequantize()(small)
    assert not plain.quantized
    want = model(x.numpy())
    assert np.abs(plain(x.numpy()) - want).mean() < 0.02 * np.ptp(want)
    again = Quantize("int8")(plain, data)  # any step takes it
    assert np.abs(again(x.numpy()) - want).mean() < 0.05 * np.ptp(want)


def test_weights_keep_the_numbers_of_their_integers():
    net, x = make("perceptron")
    small = Quantize("int8-weights")(load_module(net, x[:1]))
    assert np.allclose(Dequantize()(small)(x.numpy()), small(x.numpy()), atol=1e-6)


def test_a_float_model_is_refused():
    net, x = make("perceptron")
    with pytest.raises(StepError, match="float already"):
        Dequantize()(load_module(net, torch.zeros(1, *x.shape[1:])))
