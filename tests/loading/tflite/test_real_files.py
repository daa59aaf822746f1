"""The models of MLPerf Tiny and MobileNetV2, as their makers converted them.

`benchmarks.tflite_doors` tries them on every runtime, with more samples.
"""

import numpy as np
import pytest
import torch

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

from edgewise import lower
from edgewise.compress.quantize import Quantize
from edgewise.graph.canonical import FAKE_QUANTIZE
from edgewise.loading import load

from .files import original

TINY = "mlperf_tiny"
FLOAT = [
    "ad01/ad01_fp32", "ic01/pretrainedResnet", "vww01/vww_96_float",
]  # fmt: skip
INT8 = [
    "ad01/ad01_int8", "ic01/pretrainedResnet_quant", "kws01/kws_ref_model_int8",
    "sww01/str_ww_ref_model", "vww01/vww_96_int8",
]  # fmt: skip
MOBILENETS = ["mobilenet_v2_1.0_224_quant", "tf2_mobilenet_v2_1.0_224_ptq"]


@pytest.fixture(scope="module")
def spoken(shared_data):
    """The 1,000 sounds as the int8 file takes them, as real numbers, and what is said."""
    with np.load(shared_data / TINY / "kws01" / "kws01_eval_mfcc_int8.npz") as file:
        raw = file["x"][..., None]
        return raw, ((raw.astype(np.float32) - 83) * np.float32(0.5847029)), file["y"]


def real(grid, raw):
    scale, zero_point = grid
    return (raw.astype(np.float32) - zero_point) * np.float32(scale)


def input_grid(model):
    fake = next(n for n in model.graph.graph.nodes if n.target is FAKE_QUANTIZE)
    scale, zero_point = (getattr(model.graph, node.target) for node in fake.args[1:3])
    return float(scale), int(zero_point)


def clean(model) -> bool:
    """At most one permute, and named parameters only."""
    permutes = sum(n.target is torch.ops.aten.permute.default for n in model.graph.graph.nodes)
    names = [name.rpartition(".") for name, _ in model.graph.named_parameters()]
    return permutes <= 1 and all(owner and leaf in ("weight", "bias") for owner, _, leaf in names)


def test_keyword_spotting_in_float_is_right_in_901_of_1000(shared_data, spoken):
    """Its weights are int8, its activations float."""
    _, x, y = spoken
    model = load(shared_data / TINY / "kws01" / "kws_ref_model_float32.tflite")
    assert (model(x).argmax(1) == y).mean() == 0.901
    assert clean(model)


def test_keyword_spotting_in_int8_is_litert_s_own_and_comes_back(shared_data, spoken, tmp_path):
    path = shared_data / TINY / "kws01" / "kws_ref_model_int8.tflite"
    raw, x, y = spoken
    model = load(path)
    own = original(path, raw)[0][:, 0]
    right, ours = ((v.argmax(1) == y).sum() for v in (own, model(x)))
    assert abs(int(right) - int(ours)) <= 1
    again = lower(model, "litert", tmp_path / "again.tflite")
    have = np.concatenate([again.run(one[None]) for one in x])
    assert np.array_equal(have, real((1 / 256, -128), own))


@pytest.mark.parametrize("name", FLOAT)
def test_float_files(name, shared_data):
    path = shared_data / TINY / f"{name}.tflite"
    model = load(path)
    assert clean(model)
    assert not model.quantized
    shape = [s or 4 for s in model.signature.inputs[0].shape]
    x = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    (want,) = original(path, x)
    assert np.abs(model(x) - want[:, 0]).max() <= 1e-5 * max(1, np.abs(want).max())


@pytest.mark.parametrize("name", INT8)
def test_int8_files(name, shared_data):
    path = shared_data / TINY / f"{name}.tflite"
    model = load(path)
    assert clean(model)
    shape = [s or 8 for s in model.signature.inputs[0].shape]
    raw = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    have = model(real(input_grid(model), raw))
    (want,) = original(path, raw)
    assert (have.argmax(1) == want[:, 0].argmax(1)).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", MOBILENETS)
def test_mobilenet_comes_back_bit_for_bit(name, shared_data, tmp_path):
    path = shared_data / "imagenet_mobilenetv2" / f"{name}.tflite"
    model = load(path)
    assert clean(model)
    raw = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3)).astype(np.uint8)
    scale, zero_point = input_grid(model)
    x = real((scale, zero_point + 128), raw)
    (want,) = original(path, raw)
    again = lower(model, "litert", tmp_path / "again.tflite")
    have = np.concatenate([again.run(one[None]) for one in x])
    assert np.array_equal(have, real((1 / 256, 0), want[:, 0]))


def test_a_float_file_is_quantized_like_any_other_model(shared_data, tmp_path):
    model = load(shared_data / TINY / "vww01" / "vww_96_float.tflite")
    x = np.random.default_rng(0).uniform(0, 1, (32, 96, 96, 3)).astype(np.float32)
    small = Quantize("int8")(model, {"calibration": x})
    assert np.abs(small(x) - model(x)).max() < 0.1
    model.save(tmp_path / "net.pt2")
    assert np.array_equal(load(tmp_path / "net.pt2")(x[:2]), model(x[:2]))
    assert lower(small, "litert", tmp_path / "net.tflite").agreement.top1 == 1.0
