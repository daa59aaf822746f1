"""Pairs of operators that are one: what no runtime does for integers, done for all of them.

A padded convolution in TensorFlow's manner and a slice along each axis come from the exporter as
operators of their own. Left so, each reads and writes a whole activation: six per cent of an int8
MobileNetV2 on ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from .program import Op

__all__ = ["merge"]


def merge(ops: Iterable[Op]) -> list[Op]:
    """The operators with each second of a pair doing what both did.

    The first of the pair stays in the list: others may read it.
    """
    made: dict[str, Op] = {}
    merged = []
    for op in ops:
        first = made.get(op.inputs[0].name)
        if first is not None and (first.kind, op.kind) in PAIRS:
            op = PAIRS[first.kind, op.kind](first, op) or op
        made[op.output.name] = op
        merged.append(op)
    return merged


def _pad_conv(pad: Op, conv: Op) -> Op | None:
    """Zeros around the image are the convolution's own padding."""
    padding, attrs = pad.attrs["padding"], pad.attrs
    zeros = attrs["mode"] == "constant" and attrs.get("value", 0.0) == 0
    if not zeros or any(map(any, padding[:2])) or any(min(pair) < 0 for pair in padding):
        return None
    sums = tuple(
        (before + more_before, after + more_after)
        for (before, after), (more_before, more_after) in zip(
            conv.attrs["padding"], padding[2:], strict=True
        )
    )
    inputs = (pad.inputs[0], *conv.inputs[1:])
    return replace(conv, inputs=inputs, attrs={**conv.attrs, "padding": sums})


def _slice_slice(first: Op, second: Op) -> Op:
    """Every `step`-th of every `step`-th element."""
    start, stop, step = [], [], []
    for axis, size in enumerate(second.output.shape):
        begin, by = first.attrs["start"][axis], first.attrs["step"][axis]
        start.append(begin + second.attrs["start"][axis] * by)
        step.append(by * second.attrs["step"][axis])
        stop.append(start[-1] + (size - 1) * step[-1] + 1)
    attrs = {"start": tuple(start), "stop": tuple(stop), "step": tuple(step)}
    return replace(second, inputs=first.inputs, attrs=attrs)


PAIRS: dict[tuple[str, str], Callable[[Op, Op], Op | None]] = {
    ("pad", "conv"): _pad_conv,
    ("slice", "slice"): _slice_slice,
}
