"""What is simulated is what runs: the very integers, on every runtime."""

import numpy as np
import pytest

from edgewise.compress.quantize import Quantize
from edgewise.edge.runners import RUNTIMES
from edgewise.loading.torch import load_module
from edgewise.lowering import lower

from ..nets import NETS, make

# An average over windows of even size falls on ties, which runtimes round their own ways.
EXACT = [name for name in NETS if name != "branches"]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", EXACT)
def test_a_runtime_gives_the_integers_of_the_model(name, runtime, tmp_path):
    net, x = make(name)
    model = Quantize("int8")(load_module(net, x[:1]), {"calibration": x.numpy()})
    path = tmp_path / f"net{RUNTIMES[runtime].suffixes[0]}"
    agreement = lower(model, runtime, path, data=x.numpy()).agreement
    assert agreement.n >= 8
    assert np.rint(agreement.max_steps) == 0 and agreement.max_steps < 0.01
