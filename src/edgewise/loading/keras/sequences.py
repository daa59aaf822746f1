"""Layers over time: recurrent ones, unrolled, and attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .activations import activation
from .layer import Config, Layer, build, row
from .weights import Weights

__all__: list[str] = []

MAX_STEPS = 1000  # each becomes a dozen operators

# Given the projected input of one step and the state before it (None at first): the state after.
Step = Callable[[nn.Module, Tensor, tuple[Tensor, ...] | None], tuple[Tensor, ...]]


def _recurrent(c: Config, step: Step, **parameters: np.ndarray | None) -> Layer:
    """Walk over time; the state begins at zero and its first tensor is the output."""
    c.only("stateful", False)
    backwards, sequences = (
        bool(c.get("go_backwards", False)),
        bool(c.get("return_sequences", False)),
    )
    with_state = bool(c.get("return_state", False))

    def compute(p: nn.Module, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        if x.shape[1] > MAX_STEPS:
            raise c.fail(f"{x.shape[1]} steps are more than the {MAX_STEPS} that are unrolled")
        steps = F.linear(x, p.weight_ih, p.bias_ih).unbind(1)
        state, outputs = None, []
        for projected in reversed(steps) if backwards else steps:
            state = step(p, projected, state)
            outputs.append(state[0])
        result = torch.stack(outputs, 1) if sequences else state[0]
        return (result, *state) if with_state else result

    return Layer(compute, **parameters)


def _cell_weights(c: Config, w: Weights) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    cell = w.part("cell", "")
    if c.get("use_bias", True):
        kernel, recurrent, bias = cell.read("kernel", "recurrent_kernel", "bias")
    else:
        (kernel, recurrent), bias = cell.read("kernel", "recurrent_kernel"), None
    return kernel.T, recurrent.T, bias


@row("SimpleRNN")
def simple(c: Config, w: Weights) -> nn.Module:
    act = activation(c) if "activation" in c.values else torch.tanh
    kernel, recurrent, bias = _cell_weights(c, w)

    def step(p, x, state):
        return (act(x if state is None else x + F.linear(state[0], p.weight_hh)),)

    return _recurrent(c, step, weight_ih=kernel, weight_hh=recurrent, bias_ih=bias)


@row("LSTM")
def lstm(c: Config, w: Weights) -> nn.Module:
    """Hochreiter & Schmidhuber 1997, gates in the order input, forget, cell, output."""
    act, gate = activation(c), activation(c, "recurrent_activation")
    kernel, recurrent, bias = _cell_weights(c, w)

    def step(p, x, state):
        if state is not None:
            x = x + F.linear(state[0], p.weight_hh)
        i, f, g, o = x.chunk(4, -1)
        cell = gate(i) * act(g)
        if state is not None:
            cell = cell + gate(f) * state[1]
        return gate(o) * act(cell), cell

    return _recurrent(c, step, weight_ih=kernel, weight_hh=recurrent, bias_ih=bias)


@row("GRU")
def gru(c: Config, w: Weights) -> nn.Module:
    """Cho et al. 2014 (arXiv:1406.1078), gates in the order update, reset, new."""
    act, gate = activation(c), activation(c, "recurrent_activation")
    kernel, recurrent, bias = _cell_weights(c, w)
    after = bool(c.get("reset_after", True))
    hidden_bias = None
    if bias is not None and after:
        bias, hidden_bias = bias
    units = recurrent.shape[1]

    def step(p, x, state):
        x_z, x_r, x_n = x.chunk(3, -1)
        if state is None and (p.bias_hh is None or not after):
            return ((1 - gate(x_z)) * act(x_n),)
        if state is None:
            z, r, n = p.bias_hh.chunk(3, -1)
            return ((1 - gate(x_z + z)) * act(x_n + gate(x_r + r) * n),)
        (h,) = state
        if after:
            z, r, n = F.linear(h, p.weight_hh, p.bias_hh).chunk(3, -1)
            z, new = gate(x_z + z), x_n + gate(x_r + r) * n
        else:
            z, r = F.linear(h, p.weight_hh[: 2 * units]).chunk(2, -1)
            z, new = gate(x_z + z), x_n + F.linear(gate(x_r + r) * h, p.weight_hh[2 * units :])
        return (z * h + (1 - z) * act(new),)

    return _recurrent(
        c, step, weight_ih=kernel, weight_hh=recurrent, bias_ih=bias, bias_hh=hidden_bias
    )


def _inner(c: Config, key: str, **changes: Any) -> Config:
    """The configuration of a layer inside this one."""
    value = c[key]
    if not (isinstance(value, Mapping) and isinstance(value.get("config"), Mapping)):
        raise c.fail(f"its '{key}' is no layer")
    name = str(value["config"].get("name", key))
    config = {**value["config"], **changes}
    return Config(f"{c.name}/{name}", str(value.get("class_name")), config, c.generation)


@row("Bidirectional")
def bidirectional(c: Config, w: Weights) -> nn.Module:
    """Schuster & Paliwal 1997; the second reads from the end, its outputs turned round again."""
    ahead = _inner(c, "layer")
    if isinstance(c.get("backward_layer"), Mapping):
        behind = _inner(c, "backward_layer")
    else:
        behind = replace(
            ahead, values={**ahead.values, "go_backwards": not ahead.get("go_backwards", False)}
        )
    c.only("merge_mode", "concat", "sum", "mul", "ave")
    if ahead.get("return_state", False):
        raise c.fail("return_state is not supported")
    mode, sequences = c.get("merge_mode", "concat"), bool(ahead.get("return_sequences", False))

    def compute(p: nn.Module, x: Tensor) -> Tensor:
        a, b = p.forward_layer(x), p.backward_layer(x)
        if sequences:
            b = torch.stack(b.unbind(1)[::-1], 1)
        if mode == "concat":
            return torch.cat([a, b], -1)
        return a * b if mode == "mul" else a + b if mode == "sum" else (a + b) * 0.5

    return Layer(
        compute,
        forward_layer=build(ahead, w.part("forward_layer", "forward")),
        backward_layer=build(behind, w.part("backward_layer", "backward")),
    )


@row("TimeDistributed")
def time_distributed(c: Config, w: Weights) -> nn.Module:
    """The same layer at every step: time is taken for a part of the batch."""
    inner = build(_inner(c, "layer"), w.part("layer", ""))

    def compute(p: nn.Module, x: Tensor) -> Tensor:
        y = p.layer(x.reshape(-1, *x.shape[2:]))
        return y.reshape(-1, x.shape[1], *y.shape[1:])

    return Layer(compute, layer=inner)


@row("MultiHeadAttention")
def attention(c: Config, w: Weights) -> nn.Module:
    """Vaswani et al. 2017 (arXiv:1706.03762), section 3.2.2."""
    heads, size = int(c["num_heads"]), int(c["key_dim"])
    c.only("attention_axes", None, [1], (1,))
    named = {}
    for name, attribute in (
        ("query", "query_dense"),
        ("key", "key_dense"),
        ("value", "value_dense"),
    ):
        kernel, bias = _projection(c, w.part(attribute, name))
        bias = None if bias is None else bias.reshape(-1)
        named[name] = Layer(_linear, weight=kernel.reshape(len(kernel), -1).T, bias=bias)
    kernel, bias = _projection(c, w.part("output_dense", "attention_output"))
    named["output"] = Layer(_linear, weight=kernel.reshape(-1, kernel.shape[-1]).T, bias=bias)

    def split(x: Tensor) -> Tensor:
        return x.reshape(-1, x.shape[1], heads, x.shape[2] // heads).transpose(1, 2)

    def compute(p: nn.Module, query: Tensor, value: Tensor, key: Tensor | None = None,
                use_causal_mask: bool = False) -> Tensor:  # fmt: skip
        q, k, v = p.query(query), p.key(value if key is None else key), p.value(value)
        x = F.scaled_dot_product_attention(
            split(q), split(k), split(v), is_causal=use_causal_mask, scale=size**-0.5
        )
        return p.output(x.transpose(1, 2).reshape(-1, query.shape[1], v.shape[2]))

    return Layer(compute, **named)


def _projection(c: Config, w: Weights) -> tuple[np.ndarray, np.ndarray | None]:
    if not c.get("use_bias", True):
        return w.read("kernel")[0], None
    kernel, bias = w.read("kernel", "bias")
    return kernel, bias


def _linear(p: nn.Module, x: Tensor) -> Tensor:
    return F.linear(x, p.weight, p.bias)
