"""Recurrent layers, every step written out, compute what PyTorch computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgewise.edge.runners import RUNTIMES
from edgewise.errors import UnsupportedOperator
from edgewise.graph.fold import fold
from edgewise.loading.torch import load_module
from edgewise.lowering import aten_recurrent, lower
from edgewise.lowering.build import build

from . import reference


class Cells(nn.Module):
    """All that a recurrent layer gives, the states with the batch in front."""

    def __init__(self, kind: type[nn.Module], given: bool = False, **options):
        super().__init__()
        self.cells = kind(5, 4, **options)
        self.given, self.first = given, options.get("batch_first", False)

    def forward(self, x):
        start = None
        if self.given:  # a state that is computed from the input
            rows = self.cells.num_layers * (2 if self.cells.bidirectional else 1)
            h = x[:, :1, :4].transpose(0, 1).expand(rows, -1, -1).contiguous()
            start = (h, h * 0.5) if isinstance(self.cells, nn.LSTM) else h
        y, states = self.cells(x if self.first else x.transpose(0, 1), start)
        states = states if isinstance(states, tuple) else (states,)
        return (y if self.first else y.transpose(0, 1), *(s.transpose(0, 1) for s in states))


def program_of(model, batch=3):
    return build(fold(model.module()), model.signature, batch)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(
    "options",
    [
        {"batch_first": True},
        {"num_layers": 2, "bidirectional": True, "given": True},
        {"batch_first": True, "bias": False, "given": True, "bidirectional": True},
    ],
    ids=["plain", "deep", "without_bias"],
)
def test_every_output_is_that_of_pytorch(kind, options):
    torch.manual_seed(0)
    net, x = Cells(kind, **options).eval(), torch.randn(3, 6, 5)
    program = program_of(load_module(net, x))
    for have, want in zip(reference.run(program, x.numpy()), net(x), strict=True):
        assert have.shape == want.shape
        assert np.allclose(have, want.detach().numpy(), atol=1e-6)


def test_a_relu_between_steps():
    net, x = Cells(nn.RNN, nonlinearity="relu", batch_first=True).eval(), torch.randn(3, 6, 5)
    (have, _) = reference.run(program_of(load_module(net, x)), x.numpy())
    assert np.allclose(have, net(x)[0].detach().numpy(), atol=1e-6)


@pytest.mark.parametrize(
    "runtime",
    [pytest.param(r, marks=[pytest.mark.slow] if r == "executorch" else []) for r in RUNTIMES],
)
def test_a_runtime_computes_them_too(runtime, tmp_path):
    torch.manual_seed(0)
    cells = nn.ModuleList([Cells(nn.LSTM, batch_first=True, bidirectional=True), Cells(nn.GRU)])

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.cells = cells

        def forward(self, x):
            return torch.cat([cell(x)[0] for cell in self.cells], 2)

    # Each step is written out, and ExecuTorch's compiler takes seconds for one.
    x = torch.randn(2, 2 if runtime == "executorch" else 3, 5)
    model = load_module(Both().eval(), x)
    path = tmp_path / f"cells{RUNTIMES[runtime].suffixes[0]}"
    artifact = lower(model, runtime, path, data=x.numpy())
    assert artifact.agreement.max_abs < 1e-5


@pytest.mark.parametrize(
    ("net", "steps", "word"),
    [
        (Cells(nn.LSTM, batch_first=True, proj_size=2), 3, "projections"),
        (Cells(nn.GRU, batch_first=True), 5, "over 5 steps, of which 4"),
    ],
)
def test_what_is_not_written_out_is_refused(net, steps, word, monkeypatch):
    monkeypatch.setattr(aten_recurrent, "MOST_STEPS", 4)
    model = load_module(net.eval(), torch.randn(2, steps, 5))
    with pytest.raises(UnsupportedOperator, match=word):
        program_of(model)
