import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgewise.compress.quantize import Quantize
from edgewise.compress.smooth import AWQ, SmoothQuant
from edgewise.edge.runners import RUNTIMES
from edgewise.errors import DataError, InputError, StepError
from edgewise.loading.torch import load_module
from edgewise.lowering import lower
from edgewise.lowering.capabilities import capabilities

OUTLIERS = 40.0


class Attention(nn.Module):
    """A pre-norm transformer block in the manner of Llama, its norms with outlier channels."""

    def __init__(self, width=32, heads=4):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.gate, self.up = nn.Linear(width, 64), nn.Linear(width, 64)
        self.down = nn.Linear(64, width)
        with torch.no_grad():
            for norm in (self.norm1, self.norm2):
                norm.weight[:2] *= OUTLIERS

    def forward(self, x):
        h = self.norm1(x)
        q, k, v = (
            f(h).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for f in (self.query, self.key, self.value)
        )
        weights = torch.softmax(q @ k.transpose(-1, -2) / 3, -1)
        x = x + self.out((weights @ v).transpose(1, 2).flatten(2))
        h = self.norm2(x)
        return x + self.down(F.relu(self.gate(h)) * self.up(h))


@pytest.fixture(scope="module")
def subject():
    torch.manual_seed(0)
    x = torch.randn(32, 8, 32)
    return load_module(Attention(), x[:1]), x.numpy()


def error(model, reference, x):
    want = reference(x)
    return float(np.square(model(x) - want).sum() / np.square(want - want.mean()).sum())


STEPS = [
    (SmoothQuant(), Quantize("int8")),
    (AWQ(group=16), Quantize("int4-weights", group=16)),
    (AWQ(bits=8, group=None), Quantize("int8-weights")),
]


@pytest.mark.parametrize(("step", "quantize"), STEPS)
def test_the_function_stays_and_quantization_costs_less(subject, step, quantize):
    model, x = subject
    data = {"calibration": x}
    scaled = step(model, data)
    assert np.allclose(scaled(x), model(x), atol=1e-3 * np.abs(model(x)).max())
    plain, better = (error(quantize(m, data), model, x) for m in (model, scaled))
    assert better < 0.7 * plain


def test_every_linear_is_scaled_or_named_with_a_reason(subject):
    model, x = subject
    scaled = SmoothQuant()(model, {"calibration": x})
    plan = SmoothQuant().plan(model, _as_data(x, model))
    assert {(row.layers, row.giver) for row in plan.values.values()} == {
        (("query", "key", "value"), "norm1"), (("gate", "up"), "norm2"), (("down",), "gate"),
    }  # fmt: skip
    assert list(plan.skipped) == ["out"] == list(scaled.lineage[-1].skipped)


def test_full_strength_evens_out_what_layers_read(subject):
    model, x = subject
    first, second = (
        SmoothQuant(1.0).plan(m, _as_data(x, model)).values
        for m in (model, SmoothQuant(1.0)(model, {"calibration": x}))
    )
    assert any(max(row.factors) > 10 * min(row.factors) for row in first.values())
    for row in second.values():
        assert np.allclose(row.factors, 1.0, atol=1e-3)


def test_each_value_says_what_it_gained(subject):
    model, x = subject
    rows = AWQ(group=16).plan(model, _as_data(x, model)).values.values()
    assert all(row.after <= row.before for row in rows)
    assert sum(row.after for row in rows) < 0.7 * sum(row.before for row in rows)
    assert AWQ(group=5).plan(model, _as_data(x, model)).skipped["gate"].startswith("its 32 inputs")


# ExecuTorch takes long to compile; what it makes of such layers is tested elsewhere.
@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if name != "executorch"])
@pytest.mark.parametrize(
    ("step", "scheme"), [(SmoothQuant(), "int8"), (AWQ(group=32), "int4-dynamic")]
)
def test_the_runtimes_agree(subject, step, scheme, runtime, tmp_path):
    model, x = subject
    scaled = step(model, {"calibration": x})
    target = capabilities(runtime)
    group = 32 if target.support(scheme).groups else None
    small = Quantize(scheme, target=target, group=group)(scaled, {"calibration": x})
    path = tmp_path / f"net{RUNTIMES[runtime].suffixes[0]}"
    agreement = lower(small, runtime, path, data=x).agreement
    assert agreement.n >= 8  # and `lower` refuses what disagrees


def test_post_norm_blocks_are_left_alone_with_a_reason():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    x = torch.randn(4, 5, 16)
    model = load_module(nn.Sequential(layer), x[:1])
    plan = SmoothQuant().plan(model, _as_data(x.numpy(), model))
    assert "others read what it reads, too" in plan.skipped.values()
    assert all(row.giver.endswith("linear1") for row in plan.values.values())


def test_bad_calls_are_refused(subject):
    model, x = subject
    for make, word in (
        (lambda: SmoothQuant(1.5), "strength"), (lambda: SmoothQuant(samples=0), "samples"),
        (lambda: AWQ(bits=1), "bits"), (lambda: AWQ(group=0), "group"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=word):
            make()
    with pytest.raises(DataError, match="give data="):
        AWQ()(model)
    with pytest.raises(StepError, match="quantized already"):
        SmoothQuant()(Quantize("int8-weights")(model), {"calibration": x})
    with pytest.raises(DataError, match="NaN or infinite"):
        SmoothQuant()(model, {"calibration": np.full_like(x, 1e30)})


def _as_data(x, model):
    from edgewise.data import as_data

    return as_data({"calibration": x}, signature=model.signature)
