"""Recurrent layers, written out step by step: each step becomes ordinary operators.

Gates, equations and default activations as in ONNX, operators RNN, GRU and LSTM.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from .rows import Op, row
from .values import symbolic

__all__: list[str] = []

MOST_STEPS = 1024

ACTIVATIONS: dict[str, Callable] = {
    "sigmoid": lambda x, a, b: torch.sigmoid(x),
    "tanh": lambda x, a, b: torch.tanh(x),
    "relu": lambda x, a, b: F.relu(x),
    "affine": lambda x, a, b: x * (1.0 if a is None else a) + (0.0 if b is None else b),
    "leakyrelu": lambda x, a, b: F.leaky_relu(x, 0.01 if a is None else a),
    "hardsigmoid": lambda x, a, b: torch.clamp(
        x * (0.2 if a is None else a) + (0.5 if b is None else b), 0.0, 1.0
    ),
    "elu": lambda x, a, b: F.elu(x, 1.0 if a is None else a),
    "softsign": lambda x, a, b: F.softsign(x),
    "softplus": lambda x, a, b: F.softplus(x),
}


class _Cell:
    """One direction: its weights, activations and one step."""

    def __init__(self, op: Op, w, r, bias, peephole, functions: list[Callable]):
        self.op, self.w, self.r, self.functions, self.peephole = op, w, r, functions, peephole
        self.hidden = r.shape[-1]
        count = w.shape[0]
        self.input_bias = None if bias is None else bias[:count]
        self.state_bias = None if bias is None else bias[count:]

    def squash(self, which: int, x: torch.Tensor) -> torch.Tensor:
        clip = self.op.get("clip")
        return self.functions[which](x if clip is None else torch.clamp(x, -clip, clip))

    def rnn(self, x, h, c):
        return self.squash(0, x + F.linear(h, self.r, self.state_bias)), c

    def gru(self, x, h, c):
        n = self.hidden
        first = None if self.state_bias is None else self.state_bias[: 2 * n]
        last = None if self.state_bias is None else self.state_bias[2 * n :]
        update, reset = (x[:, : 2 * n] + F.linear(h, self.r[: 2 * n], first)).split(n, 1)
        update, reset = self.squash(0, update), self.squash(0, reset)
        if self.op.get("linear_before_reset", 0):
            new = x[:, 2 * n :] + reset * F.linear(h, self.r[2 * n :], last)
        else:
            new = x[:, 2 * n :] + F.linear(reset * h, self.r[2 * n :], last)
        new = self.squash(1, new)
        return (1 - update) * new + update * h, c

    def lstm(self, x, h, c):
        i, o, f, g = (x + F.linear(h, self.r, self.state_bias)).split(self.hidden, 1)
        p = self.peephole
        if p is not None:
            p = p.split(self.hidden)
            i, f = i + p[0] * c, f + p[2] * c
        i = self.squash(0, i)
        f = 1 - i if self.op.get("input_forget", 0) else self.squash(0, f)
        c = f * c + i * self.squash(1, g)
        if p is not None:
            o = o + p[1] * c
        return self.squash(0, o) * self.functions[2](c), c


GATES = {
    "RNN": (_Cell.rnn, ("tanh",)),
    "GRU": (_Cell.gru, ("sigmoid", "tanh")),
    "LSTM": (_Cell.lstm, ("sigmoid", "tanh", "tanh")),
}


@row("RNN", "GRU", "LSTM")
def recurrent(op, x, w, r, bias=None, lengths=None, h=None, c=None, peephole=None):
    """Returns Y (steps, directions, batch, hidden), Y_h, and for an LSTM Y_c."""
    batch_first = bool(op.get("layout", 0))
    if batch_first:
        x = x.transpose(0, 1)
        h, c = (None if s is None else s.transpose(0, 1) for s in (h, c))
    steps, batch = x.shape[:2]
    if symbolic(steps):
        raise op.fail("the batch lies on its axis of time")
    if steps > MOST_STEPS:
        raise op.fail(f"it has {steps} steps, {MOST_STEPS} can be written out")
    step, defaults = GATES[op.kind]
    direction = op.get("direction", "forward")
    reverse = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    if direction not in reverse or w.shape[0] != len(reverse[direction]):
        raise op.fail(f"its direction '{direction}' does not fit {w.shape[0]} sets of weights")
    functions = _activations(op, defaults, w.shape[0])
    sequences, lasts, cells = [], [], []
    for d, backward in enumerate(reverse[direction]):
        own = functions[d * len(defaults) : (d + 1) * len(defaults)]
        cell = _Cell(op, w[d], r[d], None if bias is None else bias[d],
                     None if peephole is None else peephole[d], own)  # fmt: skip
        state = _state(h, d, batch, cell.hidden, x)
        memory = _state(c, d, batch, cell.hidden, x)
        projected = F.linear(x, cell.w, cell.input_bias)
        outputs = [None] * steps
        for t in reversed(range(steps)) if backward else range(steps):
            new, kept = step(cell, projected[t], state, memory)
            if lengths is None:
                outputs[t], state, memory = new, new, kept
                continue
            live = (t < lengths).unsqueeze(1)
            outputs[t] = torch.where(live, new, torch.zeros_like(new))
            state, memory = torch.where(live, new, state), torch.where(live, kept, memory)
        sequences.append(torch.stack(outputs))
        lasts.append(state)
        cells.append(memory)
    y, y_h, y_c = torch.stack(sequences, 1), torch.stack(lasts), torch.stack(cells)
    if batch_first:
        y, y_h, y_c = y.permute(2, 0, 1, 3), y_h.transpose(0, 1), y_c.transpose(0, 1)
    return (y, y_h, y_c) if op.kind == "LSTM" else (y, y_h)


def _state(given, direction: int, batch, hidden: int, x: torch.Tensor) -> torch.Tensor:
    """The first state; one that was written down for a batch of one serves every sample."""
    if given is None:
        return torch.zeros(batch, hidden, dtype=x.dtype)
    state = given[direction]
    if not symbolic(state.shape[0]) and state.shape[0] == 1:
        return state.expand(batch, hidden)
    return state


def _activations(op: Op, defaults: tuple[str, ...], directions: int) -> list[Callable]:
    names = [n.lower() for n in op.get("activations", defaults * directions)]
    if len(names) != len(defaults) * directions or not set(names) <= set(ACTIVATIONS):
        raise op.fail(f"its activations are {', '.join(names)}")
    alphas, betas = op.get("activation_alpha", ()), op.get("activation_beta", ())

    def bound(i: int, name: str) -> Callable:
        a = alphas[i] if i < len(alphas) else None
        b = betas[i] if i < len(betas) else None
        return lambda x: ACTIVATIONS[name](x, a, b)

    return [bound(i, name) for i, name in enumerate(names)]
