"""Layers become products: the same function at full rank, fewer MACs at less."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import edgewise as ew
from edgewise.compress.factorize import FactorizationPlan, Factorize
from edgewise.compress.quantize import Quantize
from edgewise.edge.runners import RUNTIMES
from edgewise.errors import InputError, StepError
from edgewise.loading.torch import load_module
from edgewise.lowering import lower


class Thin(nn.Module):
    """Every layer is of low rank already: stride, padding, dilation, a linear, a 1x1."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.deep = nn.Conv2d(16, 24, 3, padding="same", dilation=2)
        self.point = nn.Conv2d(24, 20, 1, 2, 1)
        self.depth = nn.Conv2d(20, 20, 3, groups=20)
        self.head = nn.Linear(20, 12)
        with torch.no_grad():
            for conv in (self.deep, self.point):
                down, up = torch.randn(3, conv.in_channels), torch.randn(conv.out_channels, 2)
                core = torch.randn(2, 3, *conv.kernel_size) / 8
                conv.weight.copy_(torch.einsum("on,nmhw,mi->oihw", up, core, down))
            self.head.weight.copy_(torch.randn(12, 2) @ torch.randn(2, 20))

    def forward(self, x):
        x = self.deep(self.norm(self.wide(x)).relu()).relu()
        return self.head(self.depth(self.point(x).relu()).mean((2, 3)))


def thin():
    torch.manual_seed(0)
    x = torch.randn(32, 3, 16, 16)
    return load_module(Thin().eval(), x[:1]), x.numpy()


@pytest.mark.parametrize("data", [False, True])
def test_what_is_of_low_rank_stays_the_same_function(data, tmp_path):
    model, x = thin()
    plans: list[FactorizationPlan] = []
    step = Factorize(error=1e-2)
    small = step(model, {"calibration": x} if data else None, show=plans.append)
    (plan,) = plans
    assert {row.weight: row.ranks for row in plan.layers} == {
        "deep.weight": (3, 2), "point.weight": (2,), "head.weight": (2,),
    }  # fmt: skip
    assert set(plan.skipped) == {"wide", "depth"} and "no fewer MACs" in plan.skipped["wide"]
    np.testing.assert_allclose(small(x), model(x), rtol=1e-3, atol=1e-3 * np.abs(model(x)).max())
    assert plan.macs == (ew.inspect(model).macs, ew.inspect(small).macs)
    assert plan.macs[1] < plan.macs[0]
    names = {n for n, _ in small.graph.named_parameters()}
    assert {"deep.first.weight", "deep.core.weight", "deep.last.weight", "deep.bias"} <= names
    assert "deep.weight" not in names and "rank 3 and 2" in str(plan)
    again = ew.load(small.save(tmp_path / "f.pt2"))
    assert np.array_equal(again(x), small(x))


@pytest.mark.parametrize("signal", [False, True])
def test_macs_are_met(signal):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv1d(8, 16, 5, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 8, 12)
    )  # fmt: skip
    model = load_module(net.eval(), torch.zeros(1, 8, 16)) if signal else thin()[0]
    plans: list[FactorizationPlan] = []
    small = Factorize(macs=0.5)(model, show=plans.append)
    (plan,) = plans
    assert plan.macs[1] <= 0.5 * plan.macs[0]
    assert ew.inspect(small).macs == plan.macs[1]
    assert plan.layers and all(row.macs[1] < row.macs[0] for row in plan.layers)


def test_more_error_takes_fewer_macs():
    torch.manual_seed(0)
    model = load_module(nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32)),
                        torch.zeros(1, 32))  # fmt: skip
    found = []
    for error in (0.5, 0.7, 0.9):
        plan = Factorize(error=error).plan(model, None)
        assert all(row.error <= error for row in plan.layers)
        found.append(plan.macs[1])
    assert found == sorted(found, reverse=True) and found[-1] < found[0]
    kept = Factorize(error=0.9, keep=("2",)).plan(model, None)
    assert [row.weight for row in kept.layers] == ["0.weight"]
    assert kept.skipped == {"2": "kept as asked"}


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_runtimes_take_the_factors_in_int8(runtime, tmp_path):
    if runtime not in RUNTIMES:
        pytest.skip(f"{runtime} is not installed")
    model, x = thin()
    small = Quantize("int8")(Factorize(error=0.01)(model), {"calibration": x})
    artifact = lower(small, runtime, tmp_path / f"f{RUNTIMES[runtime].suffixes[0]}")
    assert np.rint(artifact.agreement.max_steps) == 0


def test_bad_calls_are_refused():
    for wrong in ({"error": 1.0}, {"macs": 0.0},
                  {"error": 0.1, "samples": 0}):  # fmt: skip
        with pytest.raises(InputError):
            Factorize(**wrong)
    model, x = thin()
    with pytest.raises(StepError, match="quantized already"):
        Factorize(error=0.1)(Quantize("int8")(model, {"calibration": x}))
    with pytest.raises(StepError, match="stay at least"):
        Factorize(macs=0.01)(model)
