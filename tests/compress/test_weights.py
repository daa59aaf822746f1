"""Weight-only and dynamic schemes: what the graph then says, and how far off it computes."""

import numpy as np
import pytest
import torch
from torch import nn

from edgewise.compress.quantize import Quantize
from edgewise.errors import InputError, StepError
from edgewise.graph.canonical import FAKE_QUANTIZE
from edgewise.loading import load
from edgewise.loading.torch import load_module
from edgewise.math.affine import fake_quantize_dynamic
from edgewise.support import Capabilities, Support

from ..nets import NETS, loaded

DYNAMIC = fake_quantize_dynamic._opoverload
# scheme -> largest mean error as a share of the output's range, on nets of a dozen inputs a layer
ERRORS = {
    "int8-weights": 0.01,
    "int4-weights": 0.15,
    "int4-affine": 0.15,
    "int8-dynamic": 0.015,
    "int4-dynamic": 0.15,
    "float16": 0.001,
}


def quantized(name, scheme, **more):
    model, x = loaded(name)
    if "int4" in scheme:
        more.setdefault("group", 2)
    return model, Quantize(scheme, **more)(model), x.numpy()


@pytest.mark.parametrize("scheme", ERRORS)
@pytest.mark.parametrize("name", NETS)
def test_close_to_the_float_model_and_dynamic_in_batch(name, scheme):
    model, small, x = quantized(name, scheme)
    want = model(x)
    assert np.abs(small(x) - want).mean() / np.ptp(want) < ERRORS[scheme]
    np.testing.assert_allclose(small(x[:5]), small(x)[:5], atol=0.02 * np.ptp(want))
    assert small.lineage[-1].params["scheme"] == scheme


@pytest.mark.parametrize("scheme", ERRORS)
@pytest.mark.parametrize("name", NETS)
def test_every_layer_is_quantized_or_named_with_a_reason(name, scheme):
    _, small, _ = quantized(name, scheme)
    skipped = small.lineage[-1].skipped
    assert all(skipped.values())
    for node in small.graph.graph.nodes:
        kind = getattr(node.target, "__name__", "").split(".")[0]
        if kind not in ("conv1d", "conv2d", "linear"):
            continue
        weight = node.args[1]
        if weight.op == "get_attr":
            assert weight.target.rpartition(".")[0] in skipped
        elif scheme == "float16":
            assert getattr_of(small, weight.args[0]).dtype == torch.float16
        else:
            assert weight.target is FAKE_QUANTIZE
            assert (node.args[0].target is DYNAMIC) == ("dynamic" in scheme)


def getattr_of(model, node):
    return dict([*model.graph.named_parameters(), *model.graph.named_buffers()])[node.target]


def test_float16_is_torch_s_half_and_ends_at_its_largest():
    net = nn.Linear(4, 2)
    with torch.no_grad():
        net.weight[0, 0] = 1e6
    small = Quantize("float16")(load_module(net, torch.zeros(1, 4)))
    x = torch.eye(4)
    want = net.weight.clamp(-65504, 65504).half().float().T + net.bias
    assert torch.allclose(small(x), want)


def test_blocks_are_what_the_definition_says():
    net = nn.Linear(64, 6)
    small = Quantize("int4-weights", group=16)(load_module(net, torch.zeros(1, 64)))
    rows = net.weight.detach().reshape(6, 4, 16)
    scale = rows.abs().amax(2, keepdim=True) / 7
    want = (torch.round(rows / scale) * scale).reshape(6, 64).T + net.bias
    assert torch.allclose(small(torch.eye(64)), want, atol=1e-6)


def test_affine_blocks_span_what_they_hold():
    net = nn.Linear(64, 6)
    with torch.no_grad():
        net.weight.copy_(torch.rand(6, 64) - 0.2)
    small = Quantize("int4-affine", group=16)(load_module(net, torch.zeros(1, 64)))
    rows = net.weight.detach().reshape(6, 4, 16)
    step = (rows.amax(2) - rows.amin(2).clamp(max=0)) / 15
    have = small(torch.eye(64)).T - net.bias.detach()[:, None]
    error = (have.reshape(rows.shape) - rows).abs().amax(2)
    assert (error <= 0.501 * step).all()
    assert (step < 0.7 * rows.abs().amax(2) / 7).all()  # a symmetric grid's


@pytest.mark.parametrize("bits", [2, 5, 9, 12, 16])
def test_weights_of_2_to_16_bits_alone(bits):
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    model = load_module(net, torch.zeros(1, 8))
    small = Quantize("int8-weights", weight_bits={"*": bits, "2": 8})(model)
    fakes = [n for n in small.graph.graph.nodes if n.target is FAKE_QUANTIZE]
    most = [2 ** (b - 1) - 1 for b in (bits, 8)]
    assert [n.args[3:5] for n in fakes] == [(-m, m) for m in most]
    weight = net[0].weight.detach()
    scale = weight.abs().amax(1, keepdim=True) / most[0]
    have = getattr_of(small, fakes[0].args[1])
    assert torch.allclose(have[:, None], scale)


def test_tied_weights_are_quantized_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 8))

        def forward(self, x):
            return x @ self.weight @ self.weight + nn.functional.linear(x, self.weight)

    small = Quantize("int8-dynamic")(load_module(Tied().eval(), torch.zeros(1, 8)))
    fakes = [n for n in small.graph.graph.nodes if n.target is FAKE_QUANTIZE]
    assert len(fakes) == 2  # by columns for the products, by rows for the linear
    dynamic = [n for n in small.graph.graph.nodes if n.target is DYNAMIC]
    assert len(dynamic) == 2  # the input, and the first product


@pytest.mark.parametrize("scheme", ERRORS)
def test_survives_its_file(scheme, tmp_path):
    _, small, x = quantized("encoder", scheme)
    again = load(small.save(tmp_path / "m.pt2"))
    assert np.array_equal(again(x), small(x))
    assert again.lineage == small.lineage


def test_can_be_trained_further():
    net = nn.Linear(8, 2)
    small = Quantize("int4-dynamic", group=4)(load_module(net, torch.zeros(1, 8))).module()
    x = torch.randn(4, 8, requires_grad=True)
    small(x)[0].sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is not None for p in small.parameters())


def test_groups_that_do_not_divide_leave_the_layer_alone():
    model = load_module(nn.Sequential(nn.Linear(6, 64), nn.Linear(64, 2)), torch.zeros(1, 6))
    small = Quantize("int4-weights")(model)
    assert small.lineage[-1].skipped == {"0": "its 6 inputs cannot be divided into groups of 32"}


@pytest.mark.parametrize(
    "arguments",
    [
        {"scheme": "int3"},
        {"scheme": "int8", "group": 32},
        {"scheme": "int4-weights", "group": 0},
        {"scheme": "int8-weights", "weight_bits": 17},
        {"scheme": "int8", "weight_bits": 9},
        {"scheme": "int4-affine", "weight_bits": 4},
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments):
    with pytest.raises(InputError):
        Quantize(**arguments)


TARGET = Capabilities(
    "wonder",
    (
        Support("int8-weights", "none", "it has no such kernel"),
        Support("int8-dynamic", "slow", "2.6", ("linear",), dynamic="sample"),
        Support("int4-weights", "fast", "0.5", ("linear",), groups=(4, 8)),
        Support("int4-dynamic", "fast", "0.4", ("linear",), dynamic="token"),
        Support("int4-affine", "none", "it has no such kernel"),
    ),
)


def test_what_the_target_does_not_run_is_refused_before_anything_else():
    model = load_module(nn.Linear(8, 2), torch.zeros(1, 8))
    with pytest.raises(StepError, match="wonder does not run 'int8-weights': it has no such"):
        Quantize("int8-weights", target=TARGET)(model)
    with pytest.raises(StepError, match="groups of 2: choose one of 4, 8"):
        Quantize("int4-weights", target=TARGET, group=2)(model)
    with pytest.raises(InputError, match="nothing is known of 'float16' on wonder"):
        Quantize("float16", target=TARGET)(model)


def test_what_the_target_runs_slowly_warns():
    model = load_module(nn.Linear(8, 2), torch.zeros(1, 8))
    with pytest.warns(UserWarning, match=r"slower than float on wonder \(latency by float's: 2.6"):
        small = Quantize("int8-dynamic", target=TARGET)(model)
    (node,) = [n for n in small.graph.graph.nodes if n.target is DYNAMIC]
    assert node.args[1:] == (-128, 127, 0)  # a range for each sample, as the target has it


def test_the_target_s_granularity_is_taken():
    model = load_module(nn.Linear(8, 2), torch.zeros(1, 8))
    small = Quantize("int4-weights", target=TARGET)(model)
    scales = [b for n, b in small.graph.named_buffers() if n.endswith("_scale")]
    assert [tuple(s.shape) for s in scales] == [(2, 2)]  # groups of 4
    small = Quantize("int4-dynamic", target=TARGET)(model)
    scales = [b for n, b in small.graph.named_buffers() if n.endswith("_scale")]
    assert [tuple(s.shape) for s in scales] == [(2,)]  # it takes one a channel
