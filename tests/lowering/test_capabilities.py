"""What a runtime is said to make of a scheme: complete, true of its lowering, and documented."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgewise.compress.quantize import Quantize
from edgewise.compress.schemes import SCHEMES
from edgewise.edge import runners
from edgewise.errors import InputError, MissingExtra, StepError
from edgewise.loading import load
from edgewise.lowering import lower
from edgewise.lowering.capabilities import ROWS, capabilities, markdown

from .. import nets

DOCUMENT = Path(__file__).parents[2] / "docs" / "quantization.md"
PAIRS = [(runtime, row.scheme) for runtime, rows in ROWS.items() for row in rows]
WITHOUT_DATA = [
    (runtime, row.scheme)
    for runtime, rows in ROWS.items()
    for row in rows
    if row.speed != "none" and SCHEMES[row.scheme].activations != "static"
]


def test_every_runtime_has_a_row_for_every_scheme():
    assert ROWS.keys() == runners.RUNTIMES.keys()
    for rows in ROWS.values():
        assert {row.scheme for row in rows} == SCHEMES.keys()


@pytest.mark.parametrize(("runtime", "scheme"), PAIRS)
def test_a_row_is_whole(runtime, scheme):
    row = capabilities(runtime).support(scheme)
    assert row.speed in ("fast", "float", "slow", "none")
    assert row.reason
    if row.speed == "none":
        assert not (row.layers or row.groups or row.dynamic)
        return
    assert set(row.layers) <= {"conv", "linear"}
    assert row.layers
    assert (row.dynamic != "") == (SCHEMES[scheme].activations == "dynamic")
    if row.dynamic == "group":
        assert row.groups


def test_unknown_runtimes_and_schemes_are_refused():
    with pytest.raises(InputError, match="tflite"):
        capabilities("tflite")
    with pytest.raises(InputError, match="nothing is known of 'int3' on litert"):
        capabilities("litert").support("int3")


def test_the_documentation_holds_the_table():
    assert markdown() in DOCUMENT.read_text()


@pytest.fixture(scope="module")
def block():
    """A transformer block wide enough for groups of 32, and inputs."""
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(64, 4, 128, activation="gelu", batch_first=True)
    x = torch.randn(8, 6, 64)
    return load(layer.eval(), example=x[:1]).with_samples((x.numpy(),))


@pytest.mark.parametrize(("runtime", "scheme"), WITHOUT_DATA)
def test_what_is_supported_lowers_and_agrees(runtime, scheme, block, tmp_path):
    try:
        runners.probe(runtime)
    except MissingExtra as error:
        pytest.skip(str(error))
    support = capabilities(runtime).support(scheme)
    group = {"group": min(support.groups)} if "int4" in scheme and support.groups else {}
    small = Quantize(scheme, target=capabilities(runtime), **group)(block)
    path = tmp_path / f"m{runners.get(runtime).suffixes[0]}"
    artifact = lower(small, runtime, path)
    assert artifact.precision == scheme
    assert artifact.agreement.mean_steps < (0.5 if "dynamic" in scheme else 0.05)


def test_activations_of_16_bits_run_on_litert_with_a_warning(tmp_path):
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    net, x = nets.make("residual")
    model = load(net, example=x[:1])
    with pytest.warns(UserWarning, match="'16x8' is slower than float on litert"):
        small = Quantize("16x8", target=capabilities("litert"))(model, {"calibration": x.numpy()})
    want = model(x.numpy())
    eight = Quantize("int8")(model, {"calibration": x.numpy()})
    errors = [np.abs(m(x.numpy()) - want).mean() for m in (small, eight)]
    assert errors[0] < 0.7 * errors[1]  # the weights have 8 bits in both
    artifact = lower(small, "litert", tmp_path / "m.tflite")
    assert artifact.precision == "16x8"
    assert artifact.agreement.top1 == 1


def test_weights_of_more_than_8_bits_are_numbers_of_float32_in_a_file(block, tmp_path):
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    with pytest.raises(StepError, match="onnxruntime has no kernel for weights of more than 8"):
        Quantize("int8-weights", target=capabilities("onnxruntime"), weight_bits=12)(block)
    artifact = lower(
        Quantize("int8-weights", weight_bits=12)(block), "onnxruntime", tmp_path / "m.onnx"
    )
    assert artifact.precision == "float32"
    assert artifact.agreement.mean_steps < 1e-4


@pytest.mark.parametrize(
    ("runtime", "scheme"), [p for p in PAIRS if capabilities(p[0]).support(p[1]).speed == "none"]
)
def test_what_is_not_supported_is_refused_without_data(runtime, scheme, block):
    with pytest.raises(StepError, match=f"{runtime} does not run '{scheme}'"):
        Quantize(scheme, target=capabilities(runtime))(block)


@pytest.mark.parametrize("scheme", ["int8-weights", "int8-dynamic"])
@pytest.mark.parametrize("name", ["encoder", "tokens"])
def test_small_transformers_run_alike_on_litert(name, scheme, tmp_path):
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    net, x = nets.make(name)
    model = load(net, example=x[:1]).with_samples((x.numpy(),))
    small = Quantize(scheme, target=capabilities("litert"))(model)
    artifact = lower(small, "litert", tmp_path / "m.tflite")
    assert artifact.agreement.top1 == 1
    assert np.isfinite(artifact.agreement.max_abs)


@pytest.mark.parametrize("runtime", sorted(ROWS))
def test_convolutions_quantized_at_run_time_are_not_had_and_warn(runtime):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(64, 4))
    model = load(net.eval(), example=torch.zeros(1, 3, 6, 6))
    with pytest.warns(
        UserWarning, match=f"convolutions stay in float .*float on {runtime}; 'int8'"
    ):
        small = Quantize("int8-dynamic", target=capabilities(runtime))(model)
    assert "0" in small.lineage[-1].skipped
