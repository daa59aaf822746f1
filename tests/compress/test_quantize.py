import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from edgewise.compress.quantize import Quantize
from edgewise.data import load_data
from edgewise.errors import DataError, InputError, StepError
from edgewise.graph.canonical import FAKE_QUANTIZE, layer
from edgewise.graph.fold import CONVOLUTIONS
from edgewise.graph.placement import MOVES, SPLITS
from edgewise.loading.torch import load_module
from edgewise.lowering import lower

from ..nets import NETS, loaded, make
from ..nets import quantized as int8_of


def quantized(name):
    model, x = loaded(name)
    return model, int8_of(name)[0], x.numpy()


def fakes(model):
    return [n for n in model.graph.graph.nodes if n.target is FAKE_QUANTIZE]


@pytest.mark.parametrize("name", NETS)
def test_close_to_the_float_model_and_dynamic_in_batch(name):
    model, small, x = quantized(name)
    want = model(x)
    error = np.abs(small(x) - want).mean() / np.ptp(want)
    assert 0 < error < 0.03
    assert np.array_equal(small(x[:5]), small(x)[:5])


@pytest.mark.parametrize("name", NETS)
def test_every_layer_is_quantized_or_named_with_a_reason(name):
    _, small, _ = quantized(name)
    weights = {"conv1d", "conv2d", "linear"}
    for node in small.graph.graph.nodes:
        if node.op == "call_function" and node.target.__name__.split(".")[0] in weights:
            assert node.args[1].target is FAKE_QUANTIZE, node
            assert node.args[0].target is FAKE_QUANTIZE, node
    assert all(small.lineage[-1].skipped.values())
    assert small.lineage[-1].step == "quantize"


@pytest.mark.parametrize("name", NETS)
def test_activations_and_weights_lie_on_their_grids(name):
    _, small, _ = quantized(name)
    inner = dict(small.graph.named_buffers())
    for node in fakes(small):
        zero_point = inner[node.args[2].target]
        quant_min, quant_max, axis = node.args[3:6]
        if node.args[0].op == "get_attr":
            assert (quant_min, quant_max) == (-127, 127) and not zero_point.any()
        else:
            assert (quant_min, quant_max, axis) == (-128, 127, None)
            assert -128 <= int(zero_point) <= 127


@pytest.mark.parametrize("name", ["residual", "branches", "shuffle"])
def test_values_that_only_move_keep_the_grid_they_came_on(name):
    _, small, _ = quantized(name)
    moved = [f for f in fakes(small) if f.args[0].target in MOVES]
    assert moved
    for fake in moved:
        before = fake.args[0].all_input_nodes
        before = [s.args[0] if s.target in SPLITS else s for s in before]
        before = [s for s in before if s.target is FAKE_QUANTIZE]
        assert {s.args[1].target for s in before} == {fake.args[1].target}


def test_a_clamp_is_part_of_the_layer_before_it():
    _, small, _ = quantized("residual")
    for node in small.graph.graph.nodes:
        if node.op == "call_function" and "relu" in node.name and node.target is not FAKE_QUANTIZE:
            assert node.args[0].target is not FAKE_QUANTIZE
            assert [u.target for u in node.users] == [FAKE_QUANTIZE]


def test_min_max_ranges_are_those_of_the_data():
    net, x = make("perceptron")
    plan = Quantize("int8").plan(load_module(net, x[:1]), load_data({"calibration": x.numpy()}))
    first = plan.activations[0]
    assert (first.low, first.high) == (x.min().item(), x.max().item())
    assert first.scale == pytest.approx((first.high - first.low) / 255, rel=0.01)


def test_a_dead_channel_with_a_bias_keeps_its_bias():
    net = nn.Sequential(nn.Conv2d(2, 3, 1))
    net[0].weight.data[1] = 0
    net[0].bias.data[:] = torch.tensor([0.1, 2.0, -0.3])
    x = torch.randn(32, 2, 4, 4)
    small = Quantize("int8")(load_module(net, x), {"calibration": x.numpy()})
    assert np.abs(small(x.numpy())[:, 1] - 2.0).max() < 0.05
    plan = Quantize("int8").plan(load_module(net, x), load_data({"calibration": x.numpy()}))
    (weight,), (input_scale, _) = plan.weights, [r.scale for r in plan.activations]
    bias_steps = net[0].bias.abs() / (input_scale * torch.tensor(weight.scales))
    assert (bias_steps < 2**31).all()


def test_layers_kept_float_are_float_and_said_so():
    model, x = loaded("residual")
    small = Quantize("int8", keep_float=("conv2",))(model, {"calibration": x.numpy()})
    assert small.lineage[-1].skipped["conv2"] == "kept float as asked"
    conv2 = next(n for n in small.graph.graph.nodes if n.name == "conv2_conv2d")
    assert conv2.args[1].op == "get_attr"
    with pytest.raises(InputError, match="conv2"):
        Quantize("int8", keep_float=("conv3",))(model, {"calibration": x.numpy()})


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_what_layers_read_may_have_fewer_bits(bits):
    net, x = make("residual")
    model, data = load_module(net, x[:1]), {"calibration": x.numpy()}
    step = Quantize("int8", activation_bits={"*": bits, "conv1": 8}, ranges="mse")
    small = step(model, data)
    limits = {}
    for node in small.graph.graph.nodes:
        if node.target in CONVOLUTIONS:
            limits[layer(node)] = node.args[0].args[3:5]
    assert limits == {"conv1": (-128, 127), "conv2": (128 - 2**bits, 127),
                      "head": (128 - 2**bits, 127)}  # fmt: skip
    fake = next(f for f in fakes(small) if [layer(u) for u in f.users] == ["head"])
    taken = torch.fx.Interpreter(small.graph, garbage_collect_values=False)
    with torch.no_grad():
        taken.run(x)
    assert 1 < len(taken.env[fake].unique()) <= 2**bits
    # The outputs of the network are read by no layer.
    last = next(f for f in fakes(small) if [u.op for u in f.users] == ["output"])
    assert last.args[3:5] == (-128, 127)


def test_bad_calls_are_refused_with_a_sentence():
    model, x = loaded("perceptron")
    with pytest.raises(InputError, match="int9"):
        Quantize("int9")
    with pytest.raises(DataError, match="calibration"):
        Quantize("int8")(model)
    small = Quantize("int8")(model, {"calibration": x.numpy()})
    with pytest.raises(StepError, match="already"):
        Quantize("int8")(small, {"calibration": x.numpy()})
    broken = x.numpy().copy()
    broken[3, 2] = np.nan
    with pytest.raises(DataError):
        Quantize("int8")(model, {"calibration": broken})


def test_real_digits_keep_their_accuracy():
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    y = torch.tensor(digits.target)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(12, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for step in range(60):
        at = slice(128 * (step % 10), 128 * (step % 10) + 128)
        loss = nn.functional.cross_entropy(net(x[at]), y[at])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model = load_module(net.eval(), x[:1])
    small = Quantize("int8")(model, {"calibration": x[:256].numpy()})
    test = slice(1300, None)
    float_accuracy = (model(x[test]).argmax(1) == y[test]).float().mean()
    int8_accuracy = (small(x[test]).argmax(1) == y[test]).float().mean()
    assert float_accuracy > 0.85 and abs(float_accuracy - int8_accuracy) < 0.015


@pytest.mark.parametrize("whole", [True, False])
def test_an_average_over_the_whole_image_has_a_grid_of_its_own(whole, tmp_path):
    torch.manual_seed(0)
    size = 8 if whole else 4
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(size), nn.Flatten(),
        nn.Linear(8 * (8 // size) ** 2, 4),
    )  # fmt: skip
    x = torch.randn(64, 3, 8, 8)
    model = load_module(net, x[:1])
    small = Quantize("int8")(model, {"calibration": x.numpy()})
    targets = [n.target for n in small.graph.graph.nodes]
    assert (torch.ops.aten.mean.dim in targets) == whole
    assert np.abs(small(x.numpy()) - model(x.numpy())).max() < 0.05
    if whole:  # no ties: every runtime rounds as the Model does
        agreement = lower(small, "litert", tmp_path / "net.tflite", data=x.numpy()).agreement
        assert agreement.max_steps < 0.01
