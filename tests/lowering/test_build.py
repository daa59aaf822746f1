"""A Program computes what the graph computes: the reference interpreter against the Model."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgewise.errors import UnsupportedOperator
from edgewise.graph.canonical import FAKE_QUANTIZE
from edgewise.graph.fold import fold
from edgewise.loading.torch import load_module
from edgewise.lowering.build import build, untranslatable
from edgewise.lowering.program import KINDS, NO_CLAMP, QUANTIZABLE, VALUE_PRESERVING

from ..nets import NETS, loaded, make, quantized
from . import reference


def program_of(model, batch=3):
    return build(fold(model.module()), model.signature, batch)


@pytest.mark.parametrize("name", NETS)
def test_float_programs_compute_what_the_model_computes(name):
    model, x = loaded(name)
    (have,) = reference.run(program_of(model), x[:3].numpy())
    assert np.allclose(have, model(x[:3]).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_quantized_programs_compute_what_the_model_computes(name):
    model, x = quantized(name)
    program = program_of(model)
    (have,) = reference.run(program, x[:3].numpy())
    step = reference.output_step(program, program.outputs[0]) or np.ptp(have) / 255
    # One rounding that falls to the other side may move an output by a step.
    assert np.abs(have - model(x[:3]).numpy()).max() <= 1.01 * step


@pytest.mark.parametrize("name", NETS)
def test_what_programs_promise_holds(name):
    model, _ = quantized(name)
    program = program_of(model)
    known = {t.name for t in program.inputs}
    for op in program.ops:
        assert op.kind in KINDS
        tensors = [t for t in op.inputs if t is not None]
        assert all(t.data is not None or t.name in known for t in tensors)
        known.add(op.output.name)
        activations = [t for t in tensors if t.data is None and t.dtype == "float32"]
        if op.kind == "quantize":
            assert activations[0].quant is None and op.output.quant is not None
        elif op.kind == "dequantize":
            assert activations[0].quant is not None and op.output.quant is None
        elif op.output.quant is not None:
            assert op.kind in QUANTIZABLE
            assert all(t.quant is not None for t in activations)
            if op.kind in VALUE_PRESERVING:
                assert all(t.quant.same(op.output.quant) for t in activations)
        else:
            assert all(t.quant is None for t in tensors)
    assert all(t.quant is None and t.name in known for t in program.outputs)


def test_clamps_go_into_the_operator_before_them():
    net, x = make("residual")
    program = program_of(load_module(net, x[:1]))
    assert "clamp" not in {op.kind for op in program.ops}
    assert [op.attrs["clamp"] for op in program.ops if op.kind == "conv"] == [
        (0.0, float("inf")),
        NO_CLAMP,
    ]


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


weight = torch.randn(8, 4, 3, 3, generator=torch.manual_seed(0))
CALLS = {
    "conv_same": lambda x: F.conv2d(x, weight, padding="same", dilation=2),
    "conv_valid": lambda x: F.conv2d(x, weight, padding="valid", stride=2),
    "transposed": lambda x: F.conv_transpose2d(x, weight.transpose(0, 1), None, 2, 1, 1),
    "scalar": lambda x: 2 - (x * 3 + 1) / 4,
    "alpha": lambda x: torch.add(x, x[:, :1], alpha=0.5),
    "rsub": lambda x: torch.rsub(x, 1.5),
    "powers": lambda x: x**2 + x.abs() ** 0.5 + torch.square(x) + torch.reciprocal(x.abs() + 1),
    "unary": lambda x: torch.exp(-x.abs()) + torch.erf(x) + torch.sqrt(x.abs()) + x.sin() + x.cos(),
    "activations": lambda x: F.silu(x) + F.gelu(x) + F.hardswish(x) + F.hardsigmoid(x) + F.elu(x),
    "clamps": lambda x: F.relu6(x) + F.hardtanh(x) + x.clamp(-0.5, 0.7) + x.clamp(max=0.1),
    "softmax": lambda x: F.softmax(x, 1) + F.log_softmax(x, -1) + F.softplus(x),
    "group_norm": lambda x: F.group_norm(x, 2, torch.arange(1.0, 5), torch.ones(4)),
    "layer_norm": lambda x: F.layer_norm(x, x.shape[2:]),
    "max_pool": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max_pool_ceil": lambda x: F.max_pool2d(x, 2, 2, ceil_mode=True),
    "avg_pool": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "adaptive": lambda x: F.adaptive_avg_pool2d(x[:, :, :6, :6], (3, 2)),
    "global_max": lambda x: F.adaptive_max_pool2d(x, 1),
    "reductions": lambda x: x.sum((2, 3)) + x.amax((2, 3)) + x.amin((2, 3)) + x.mean((2, 3)),
    "moves": lambda x: x.transpose(1, 2).flatten(2).unsqueeze(1).squeeze(1).movedim(1, 2),
    "split": lambda x: torch.cat(x.split([1, 3], 1)[::-1], 1) + torch.stack(x.unbind(1), 1),
    "select": lambda x: x[:, 2] + x[:, -1] + x.narrow(1, 0, 1)[:, 0],
    "roll": lambda x: x.roll((2, -1), (2, 3)) + x.roll(9, 1) + x.roll(7, -1),
    "repeat": lambda x: x.repeat(1, 2, 1, 1) + x[:, :1].expand(-1, 8, -1, -1),
    "pads": lambda x: F.pad(x, (1, 2, 0, 1), value=2.0) + F.pad(x, (1, 2, 0, 1), mode="replicate"),
    "reflect_crop": lambda x: F.pad(F.pad(x, (2, 1, 1, 1), mode="reflect"), (-1, 0, 0, -1)),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
    "channel_shuffle": lambda x: F.channel_shuffle(x, 2),
    "resize": lambda x: F.interpolate(x, scale_factor=2) + F.interpolate(
        x, scale_factor=2, mode="bilinear"
    ),
    "matmul": lambda x: x @ x.transpose(-1, -2),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "cast": lambda x: x.to(torch.float64).to(torch.float32) + (x * 10).int().float(),
    "positions": lambda x: x + torch.arange(x.shape[-1], dtype=torch.float32),
    "view_by_size": lambda x: x.view(x.shape[0], -1).view(x.size(0), 2, -1),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_rows_of_the_aten_table(name):
    x = torch.randn(3, 4, 7, 7, generator=torch.manual_seed(2))
    model = load_module(Call(CALLS[name]), x)
    (have,) = reference.run(program_of(model), x.numpy())
    want = model(x).numpy()
    assert have.shape == want.shape
    assert np.allclose(have, want, rtol=1e-4, atol=1e-5)


def test_embeddings_are_rows_of_a_table():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(11, 6)
            self.head = nn.Linear(6, 2)

        def forward(self, tokens):
            return self.head(self.table(tokens).mean(1))

    tokens = torch.randint(0, 11, (3, 5), generator=torch.manual_seed(0))
    model = load_module(Words(), tokens)
    (have,) = reference.run(program_of(model), tokens.numpy())
    assert np.allclose(have, model(tokens).numpy(), atol=1e-6)


def test_what_is_computed_once_needs_no_row():
    model = load_module(
        Call(lambda x: x + torch.arange(4.0).gather(0, torch.tensor([3, 1, 1, 0]))),
        torch.randn(2, 4),
    )
    assert untranslatable(fold(model.module()), model.signature) == {}
    x = np.zeros((3, 4), np.float32)
    assert reference.run(program_of(model), x)[0].tolist() == [[3, 1, 1, 0]] * 3


def test_an_operator_without_a_row_is_named_with_its_layer():
    model = load_module(Call(lambda x: torch.fft.rfft(x).abs()), torch.randn(2, 8))
    with pytest.raises(UnsupportedOperator, match="fft"):
        program_of(model)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(4), nn.GroupNorm(2, 4)], ids=["batch", "group"])
def test_the_quantized_gain_of_a_normalisation_stands_for_real_numbers(norm):
    """As in ONNX files whose initializers all went through DequantizeLinear."""
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, -1.0, 2.0, 0.25]))
    x = torch.randn(3, 4, 5, 5)
    model = load_module(nn.Sequential(nn.AvgPool2d(1), norm), x[:1])
    module = model.module()
    (gain,) = [n for n in module.graph.nodes if n.op == "get_attr" and n.target.endswith("weight")]
    for name, value in (("s", torch.tensor(2 / 127)), ("z", torch.zeros((), dtype=torch.int32))):
        module.register_buffer(name, value)
    with module.graph.inserting_after(gain):
        fake = module.graph.call_function(FAKE_QUANTIZE)
    gain.replace_all_uses_with(fake)
    with module.graph.inserting_before(fake):
        grid = [module.graph.get_attr(name) for name in ("s", "z")]
    fake.args = (gain, *grid, -127, 127, None)
    module.recompile()
    program = build(module, model.signature, 3)
    want = module(x)[0].detach().numpy()
    assert np.allclose(reference.run(program, x.numpy())[0], want, atol=1e-5)
