"""Scales that are powers of two, and weights that stay floats of fewer bits."""

import numpy as np
import pytest
import torch

from edgewise.compress.quantize import Quantize
from edgewise.edge.runners import RUNTIMES
from edgewise.errors import InputError, StepError
from edgewise.graph.canonical import FAKE_QUANTIZE
from edgewise.inspection import inspect
from edgewise.loading import load
from edgewise.lowering import lower
from edgewise.lowering.capabilities import capabilities

from ..nets import loaded


def subject(name):
    model, x = loaded(name)
    return model, x.numpy()


@pytest.mark.parametrize("name", ["residual", "inverted"])
def test_every_scale_is_a_power_of_two(name):
    model, x = subject(name)
    small = Quantize("int8-pow2")(model, {"calibration": x})
    constants = dict(small.graph.named_buffers())
    for node in small.graph.graph.nodes:
        if node.target is FAKE_QUANTIZE:
            scale, zero_point = (constants[a.target] for a in node.args[1:3])
            mantissa, _ = torch.frexp(scale)
            assert (mantissa == 0.5).all()
            assert ((zero_point == 0) | (zero_point == -128)).all()
    want, plain = model(x), Quantize("int8")(model, {"calibration": x})(x)
    error, usual = (np.abs(y - want).mean() / np.ptp(want) for y in (small(x), plain))
    assert 0 < error < max(0.03, 4 * usual)


# ExecuTorch takes long to compile; its kernels are LiteRT's.
@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if name != "executorch"])
def test_runtimes_run_it_as_int8(runtime, tmp_path):
    model, x = subject("residual")
    step = Quantize("int8-pow2", target=capabilities(runtime))
    small = step(model, {"calibration": x})
    path = tmp_path / f"net{RUNTIMES[runtime].suffixes[0]}"
    artifact = lower(small, runtime, path, data=x)
    # Sums fall on ties, which some runtimes round up where the others round to even.
    assert artifact.precision == "int8" and artifact.agreement.max_steps <= 2.01


@pytest.mark.parametrize("scheme", ["bfloat16", "float8-e4m3", "float8-e5m2"])
def test_floats_of_fewer_bits_are_simulated_and_expanded(scheme, tmp_path):
    model, x = subject("residual")
    small = Quantize(scheme)(model)
    want = model(x)
    error = np.abs(small(x) - want).mean() / np.ptp(want)
    assert 0 < error < {"bfloat16": 0.002, "float8-e4m3": 0.02, "float8-e5m2": 0.04}[scheme]
    again = load(small.save(tmp_path / "net.pt2"))
    assert np.array_equal(again(x), small(x))
    assert {row.precision for row in inspect(small).layers if row.parameters} == {"bfloat16"}
    artifact = lower(small, "onnxruntime", tmp_path / "net.onnx", data=x)
    assert artifact.precision == "float32" and artifact.agreement.max_steps < 0.01
    with pytest.raises(StepError, match="the file would hold them so"):
        Quantize(scheme, target=capabilities("litert"))(model)


def test_bits_belong_to_the_schemes_that_have_them():
    model, x = subject("residual")
    small = Quantize("int8-pow2", weight_bits=4)(model, {"calibration": x})
    weights = [n for n in small.graph.graph.nodes if n.target is FAKE_QUANTIZE]
    assert {n.args[4] for n in weights if n.args[0].op == "get_attr"} == {7}
    for scheme, option in (("int8-pow2", "activation_bits"), ("float8-e4m3", "weight_bits")):
        with pytest.raises(InputError, match=f"{option} belongs to"):
            Quantize(scheme, **{option: 4})
