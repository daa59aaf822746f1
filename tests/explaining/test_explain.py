"""Real files on real runtimes: those of other tools that are traps, and our own."""

import numpy as np
import pytest

import edgewise as ew
from edgewise.edge import runners, specimen
from edgewise.edge.place import HERE
from edgewise.errors import InputError, ModelError
from edgewise.explaining.findings import findings
from edgewise.explaining.trace import Trace

from . import traps

LAYERS = ["0", "2", "6"]  # of traps.net, those with weights


def shares(found) -> bool:
    """Whether they come to the whole; what takes less than a microsecond may count as nothing."""
    whole = float(any(o.us for o in found.operators))
    return sum(o.share for o in found.operators) == pytest.approx(whole)


def named(path, runs=3) -> dict[str, tuple[str, ...]]:
    return {f.name: f.layers for f in ew.explain(path, runs=runs).findings}


def test_signed_activations_of_another_tool(tmp_path):
    pytest.importorskip("onnxruntime")
    path = traps.signed(tmp_path)
    found = {f.name: f for f in ew.explain(path, runs=3).findings}
    trap = found["int8 activations"]
    assert trap.layers == ("0/Conv.0_quant_token_1", "2/Conv.2_quant_token_4")
    assert trap.us > 0 and 0 < trap.share <= 1


def test_conversions_before_each_layer_and_none_behind(tmp_path):
    pytest.importorskip("onnxruntime")
    assert "Q/DQ that did not fuse" in named(traps.inputs_only(tmp_path))


def test_int16_activations(tmp_path):
    pytest.importorskip("ai_edge_litert")
    small = ew.Quantize("16x8")(traps.model(), traps.samples(8))
    found = named(ew.lower(small, "litert", tmp_path / "wide.tflite").path)
    assert set(LAYERS[:2]) <= set(found["int16 activations"])


def test_convolutions_quantized_at_run_time(tmp_path):
    pytest.importorskip("ai_edge_litert")
    assert len(named(traps.at_run_time(tmp_path))["dynamic convolutions"]) == 2


def test_an_int8_transformer_where_there_is_bfloat16(tmp_path):
    pytest.importorskip("openvino")
    from torch import nn, zeros

    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    model = ew.load(layer, example=zeros(1, 5, 8))
    x = np.random.default_rng(0).normal(size=(8, 5, 8)).astype(np.float32)
    path = ew.lower(ew.Quantize("int8")(model, x), "openvino", tmp_path / "net.xml").path
    from edgewise.edge.profiling import profile

    operators = profile(path, runs=2).operators
    for flags, names in ((["amx_bf16"], {"bfloat16 unused"}), (["avx2"], set())):
        trace = Trace("openvino", {"architecture": "x86_64", "flags": flags}, operators)
        assert {f.name for f in findings(trace)} & {"bfloat16 unused"} == names


@pytest.mark.parametrize("runtime", ["litert", "onnxruntime", "openvino"])
def test_our_own_files_have_no_trap_and_the_layers_names(tmp_path, runtime):
    try:
        runners.probe(runtime)
    except ew.EdgewiseError as error:
        pytest.skip(str(error))
    small = ew.Quantize("int8")(traps.model(), traps.samples(8))
    path = tmp_path / f"net{runners.get(runtime).suffixes[0]}"
    found = ew.explain(ew.lower(small, runtime, path), runs=3)
    assert (found.runtime, found.threads, found.runs) == (runtime, 1, 3)
    assert found.latency_ms > 0
    assert shares(found)
    traps_found = {"int8 activations", "Q/DQ that did not fuse", "dynamic convolutions"}
    assert not traps_found & {f.name for f in found.findings}
    assert set(LAYERS) <= {o.layer for o in found.operators}


def test_a_file_of_executorch_is_profiled_without_names():
    pytest.importorskip("executorch")
    found = ew.explain(specimen.path_of("executorch"), runs=3)
    kinds = [o.kind for o in found.operators]
    assert any(kind.startswith("Convolution (NHWC, QC8)") for kind in kinds)
    assert {o.kernel for o in found.operators} == {"XNNPACK"}
    assert shares(found)


def test_what_is_no_artifact_is_refused(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="suffix"):
        ew.explain(tmp_path / "x.bin")
    with pytest.raises(InputError, match="runs"):
        ew.explain(tmp_path / "x.onnx", runs=0)


def test_what_each_layer_costs_on_a_runtime():
    pytest.importorskip("ai_edge_litert")
    model, x = traps.model(), traps.samples(8)
    costs = ew.layer_costs(model, x, "litert", runs=3)
    assert list(costs) == LAYERS
    assert all(set(of) == {8, 32} and min(of.values()) >= 0 for of in costs.values())
    whole = sum(of[32] for of in costs.values())
    found = ew.allocate(model, x, whole, cost=costs)
    assert found.cost <= whole
    assert {*found.bits, *found.keep_float} == set(LAYERS)


def test_a_runtime_that_does_not_name_the_layers_is_refused():
    pytest.importorskip("onnxruntime")
    with pytest.raises(InputError, match="does not name 0, 2 in its profile"):
        ew.layer_costs(traps.model(), traps.samples(8), "onnxruntime", runs=2)


def test_an_emulated_device_tells_no_time(tmp_path):
    class Emulated(type(HERE)):
        name, timed = "emulated:cortex-a72", False

    with pytest.raises(InputError, match="emulated:cortex-a72 is emulated"):
        ew.explain(tmp_path / "x.onnx", device=Emulated())
