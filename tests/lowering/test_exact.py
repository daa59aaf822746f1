"""What is simulated is what runs: the very integers, on every runtime."""

import numpy as np
import pytest

from edgewise.compress.quantize import Quantize
from edgewise.edge.runners import RUNTIMES
from edgewise.loading.torch import load_module
from edgewise.lowering import lower

from ..nets import NETS, make, quantized

# An average over windows of even size falls on ties, which runtimes round their own ways.
EXACT = [name for name in NETS if name != "branches"]


@pytest.mark.parametrize(
    ("name", "bits", "runtime"),
    [("residual", 4, runtime) for runtime in RUNTIMES]
    + [(*row, "litert") for row in (("inverted", 5), ("shuffle", 3))],
)
def test_values_of_fewer_bits_are_clamped_alike(name, bits, runtime, tmp_path):
    net, x = make(name)
    step = Quantize("int8", activation_bits=bits, weight_bits=bits, ranges="percentile")
    model = step(load_module(net, x[:1]), {"calibration": x.numpy()})
    path = tmp_path / f"net{RUNTIMES[runtime].suffixes[0]}"
    # Larger than what was seen, so that much is clamped.
    agreement = lower(model, runtime, path, data=4 * x.numpy()).agreement
    assert np.rint(agreement.max_steps) == 0 and agreement.max_steps < 0.01


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", EXACT)
def test_a_runtime_gives_the_integers_of_the_model(name, runtime, tmp_path):
    model, x = quantized(name)
    path = tmp_path / f"net{RUNTIMES[runtime].suffixes[0]}"
    agreement = lower(model, runtime, path, data=x.numpy()).agreement
    assert agreement.n >= 8
    assert np.rint(agreement.max_steps) == 0 and agreement.max_steps < 0.01
