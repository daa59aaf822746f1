"""Rows of `edgewise.lowering.aten.TABLE` for recurrent layers: every step written out.

Runtimes disagree about recurrent operators (the order of gates, which bias is where, what may be
quantized) or have none; they agree about products. What a layer makes of its whole input is one
linear; each step then adds a linear of the state before it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .aten import Emit, row
from .aten_moves import pieces, reshaped, sliced
from .program import NO_CLAMP, Tensor

__all__: list[str] = []

aten = torch.ops.aten
MOST_STEPS = 1024  # each becomes a dozen operators

# What the layer makes of one step's input and of the state, and the state: the state after.
Step = Callable[[Emit, Tensor, Tensor, list[Tensor]], list[Tensor]]


def lstm(emit: Emit, x: Tensor, h: Tensor, state: list[Tensor]) -> list[Tensor]:
    """Hochreiter & Schmidhuber 1997; gates in the order input, forget, cell, output."""
    gates = _gates(emit, _add(emit, x, h), 4)
    i, f, o = (_like(emit, "sigmoid", gates[k]) for k in (0, 1, 3))
    new = _mul(emit, i, _like(emit, "tanh", gates[2]))
    cell = _add(emit, _mul(emit, f, state[1]), new)
    return [_mul(emit, o, _like(emit, "tanh", cell)), cell]


def gru(emit: Emit, x: Tensor, h: Tensor, state: list[Tensor]) -> list[Tensor]:
    """Cho et al. 2014 (arXiv:1406.1078); gates in the order reset, update, new."""
    (x_r, x_z, x_n), (h_r, h_z, h_n) = _gates(emit, x, 3), _gates(emit, h, 3)
    reset, update = (_like(emit, "sigmoid", _add(emit, a, b)) for a, b in ((x_r, h_r), (x_z, h_z)))
    new = _like(emit, "tanh", _add(emit, x_n, _mul(emit, reset, h_n)))
    back = emit("sub", state[0], new, shape=new.shape, clamp=NO_CLAMP)
    return [_add(emit, new, _mul(emit, update, back))]


def rnn_tanh(emit: Emit, x: Tensor, h: Tensor, state: list[Tensor]) -> list[Tensor]:
    """Elman 1990."""
    return [_like(emit, "tanh", _add(emit, x, h))]


def rnn_relu(emit: Emit, x: Tensor, h: Tensor, state: list[Tensor]) -> list[Tensor]:
    """Le et al. 2015 (arXiv:1504.00941)."""
    return [_like(emit, "clamp", _add(emit, x, h), clamp=(0.0, float("inf")))]


def _unrolled(step: Step) -> Callable:
    def function(emit, input, hx, params, has_biases, num_layers, bidirectional, batch_first, **_):
        first = list(hx) if isinstance(hx, list | tuple) else [hx]
        each = 4 if has_biases else 2
        sides = 2 if bidirectional else 1
        time = 1 if batch_first else 0
        if len(params) != each * num_layers * sides:
            raise emit.fail("a recurrent layer with projections")
        if input.shape[time] > MOST_STEPS:
            raise emit.fail(
                f"a recurrent layer over {input.shape[time]} steps, of which {MOST_STEPS} can be "
                "written out: cut the sequence into pieces"
            )
        x, last = input, []
        for depth in range(num_layers):
            outputs = []
            for side in range(sides):
                at = depth * sides + side
                state = [_part(emit, s, at) for s in first]
                weights = params[each * at :][:each]
                sequence, state = _walk(emit, step, x, weights, state, time, backwards=side == 1)
                outputs.append(sequence)
                last.append(state)
            x = _joined(emit, outputs, 2)
        rows = [
            _joined(emit, [reshaped(emit, s, (1, *s.shape)) for s in states], 0)
            for states in zip(*last, strict=True)
        ]
        return x, *rows

    return function


for name, step in {"lstm": lstm, "gru": gru, "rnn_tanh": rnn_tanh, "rnn_relu": rnn_relu}.items():
    row(getattr(aten, name).input)(_unrolled(step))


def _walk(
    emit: Emit,
    step: Step,
    x: Tensor,
    weights: list[Tensor],
    state: list[Tensor],
    time: int,
    backwards: bool,
) -> tuple[Tensor, list[Tensor]]:
    """One direction of one layer: its outputs in the order of time, and its last state."""
    (of_input, of_state), biases = weights[:2], [*weights[2:], None, None]
    projected = _linear(emit, x, of_input, biases[0])
    steps = pieces(emit, projected, time, [1] * x.shape[time])
    outputs = []
    for now in reversed(steps) if backwards else steps:
        now = reshaped(emit, now, (state[0].shape[0], now.shape[2]))
        state = step(emit, now, _linear(emit, state[0], of_state, biases[1]), state)
        shape = list(state[0].shape)
        shape.insert(time, 1)
        outputs.append(reshaped(emit, state[0], shape))
    return _joined(emit, outputs[::-1] if backwards else outputs, time), state


def _linear(emit: Emit, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if x.data is not None and weight.data is not None and weight.quant is None:
        product = x.data @ weight.data.T
        return emit.constant(product if bias is None else product + bias.data)
    shape = (*x.shape[:-1], weight.shape[0])
    return emit("linear", x, weight, bias, shape=shape, dtype=x.dtype, clamp=NO_CLAMP)


def _part(emit: Emit, x: Tensor, index: int) -> Tensor:
    """One of the states that lie side by side on the first axis."""
    if x.data is not None:
        return emit.constant(x.data[index])
    return reshaped(emit, sliced(emit, x, 0, index, index + 1), x.shape[1:])


def _joined(emit: Emit, parts: list[Tensor], axis: int) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    shape = list(parts[0].shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    return emit("concat", *parts, shape=shape, dtype=parts[0].dtype, axis=axis)


def _gates(emit: Emit, x: Tensor, count: int) -> tuple[Tensor, ...]:
    width = x.shape[1] // count
    if x.data is not None:
        return tuple(emit.constant(x.data[:, i * width :][:, :width]) for i in range(count))
    return pieces(emit, x, 1, [width] * count)


def _like(emit: Emit, kind: str, x: Tensor, **attrs: object) -> Tensor:
    return emit(kind, x, shape=x.shape, dtype=x.dtype, **attrs)


def _add(emit: Emit, a: Tensor, b: Tensor) -> Tensor:
    return emit("add", a, b, shape=a.shape, dtype=a.dtype, clamp=NO_CLAMP)


def _mul(emit: Emit, a: Tensor, b: Tensor) -> Tensor:
    return emit("mul", a, b, shape=a.shape, dtype=a.dtype, clamp=NO_CLAMP)
