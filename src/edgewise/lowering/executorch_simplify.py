"""A Program said with the operators that XNNPACK runs, with equal results.

XNNPACK's partitioner refuses slices with steps, signals, padded averages, and means that drop
their axes. What it refuses runs in portable kernels between two calls of XNNPACK; said
differently, the whole Program is one call. The slices of a CIFAR ResNet's shortcut (every other
pixel, then channels of zeros) are a tenth of an int8 ResNet-20's time otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from .program import NO_CLAMP, Op, Program, Quant, Tensor

__all__ = ["simplify"]

# Attributes with an entry a spatial axis -> the entry that says nothing.
SPATIAL = {"kernel": 1, "stride": 1, "dilation": 1, "padding": (0, 0)}


def simplify(program: Program) -> tuple[Op, ...]:
    """The operators to lower instead of the Program's own; inputs and outputs stay."""
    ops: Iterable[Op] = _with_picks(program.ops)
    for rewrite in (_picked, _averaged, _as_image, _unpadded):
        ops = [simpler for op in ops for simpler in rewrite(op)]
    return _live(_without_detours(ops), program.outputs)


# --- every n-th pixel ---------------------------------------------------------------------------


def _with_picks(ops: Iterable[Op]) -> Iterator[Op]:
    """A slice with steps over an image, and channels of zeros around it, become one ``pick``."""
    slices: dict[str, Op] = {}
    for op in ops:
        if op.kind == "slice" and _steps_over_pixels(op):
            slices[op.output.name] = op
            yield replace(op, kind="pick", attrs={**op.attrs, "zeros": (0, 0)})
        elif op.kind == "pad" and op.inputs[0].name in slices and _pads_channels(op):
            cut = slices[op.inputs[0].name]
            attrs = {**cut.attrs, "zeros": op.attrs["padding"][1]}
            yield Op("pick", cut.inputs, op.output, attrs, op.layer)
        else:
            yield op


def _steps_over_pixels(op: Op) -> bool:
    step = op.attrs["step"]
    over_pixels = len(step) == 4 and step[:2] == (1, 1) and step != (1, 1, 1, 1)
    return over_pixels and op.output.dtype == "float32"


def _pads_channels(op: Op) -> bool:
    """Whether a pad adds zeros, and to the channels alone."""
    padded = {axis for axis, pair in enumerate(op.attrs["padding"]) if any(pair)}
    return op.attrs["mode"] == "constant" and op.attrs["value"] == 0 and padded == {1}


def _picked(op: Op) -> Iterator[Op]:
    """A ``pick`` as a 1x1 convolution of which each output is one input or zero.

    Exactly, also in integers, where input and output are on one grid and the weights' scale is 1.
    """
    if op.kind != "pick":
        yield op
        return
    x, y, start, step = op.inputs[0], op.output, op.attrs["start"], op.attrs["step"]
    before, after = op.attrs["zeros"]
    channels = y.shape[1] - before - after
    counts = (y.shape[0], channels, *y.shape[2:])
    stop = tuple(s + k * (n - 1) + 1 for s, k, n in zip(start, step, counts, strict=True))
    # The convolution leaves out by itself what lies behind the last pixel.
    whole = all(
        s == 0 and (size - 1) // k == (e - 1) // k
        for size, s, e, k in zip(x.shape, start, stop, step, strict=True)
    )
    if not whole:
        shape = tuple(e - s for s, e in zip(start, stop, strict=True))
        part = Tensor(f"{y.name}.part", shape, x.dtype, x.quant)
        attrs = {"start": start, "stop": stop, "step": (1,) * 4}
        yield Op("slice", (x,), part, attrs, op.layer)
        x = part
    groups = 1 if before or after else channels
    weight = np.zeros((y.shape[1], channels // groups, 1, 1), np.int8)
    every = np.arange(channels)
    weight[before + every, every if groups == 1 else 0] = 1
    attrs = {
        "stride": step[2:], "padding": ((0, 0),) * 2, "dilation": (1, 1),
        "groups": groups, "clamp": NO_CLAMP,
    }  # fmt: skip
    kernel = _ones_and_zeros(f"{y.name}.pick", weight, x.quant)
    yield Op("conv", (x, kernel, None), y, attrs, op.layer)


def _ones_and_zeros(name: str, weight: np.ndarray, like: Quant | None) -> Tensor:
    if like is None:
        return Tensor(name, weight.shape, data=weight.astype(np.float32))
    n = len(weight)
    quant = Quant(np.ones(n, np.float32), np.zeros(n, np.int32), axis=0)
    return Tensor(name, weight.shape, quant=quant, data=weight)


# --- shapes that XNNPACK knows ------------------------------------------------------------------


def _averaged(op: Op) -> Iterator[Op]:
    """A mean over all pixels in the one form that runs on integers: of an image, axes kept."""
    x, y = op.inputs[0], op.output
    spatial = tuple(range(2, len(x.shape)))
    if op.kind == "mean":
        over_pixels = tuple(sorted(a % len(x.shape) for a in op.attrs["axes"])) == spatial
    else:
        over_pixels = (
            op.kind == "avg_pool"
            and tuple(op.attrs["kernel"]) == x.shape[2:]
            and not any(map(any, op.attrs["padding"]))
        )
    if not over_pixels or len(x.shape) > 4:
        yield op
        return
    if len(spatial) == 1:
        x = yield from _reshaped(x, f"{y.name}.image", (*x.shape[:2], 1, x.shape[2]), op.layer)
    kept = y
    if len(y.shape) != 4:
        kept = Tensor(f"{y.name}.kept", (*x.shape[:2], 1, 1), y.dtype, y.quant)
    yield Op("mean", (x,), kept, {"axes": (2, 3), "keepdim": True}, op.layer)
    if kept is not y:
        yield Op("reshape", (kept,), y, {"shape": y.shape}, op.layer)


def _as_image(op: Op) -> Iterator[Op]:
    """A convolution or pooling of a signal (N, C, W) as one of an image of height one."""
    x, y = op.inputs[0], op.output
    computed = op.kind == "conv" and op.inputs[1].data is None
    if op.kind not in ("conv", "max_pool", "avg_pool") or len(x.shape) != 3 or computed:
        yield op
        return
    image = yield from _reshaped(x, f"{y.name}.image", _high(x.shape), op.layer)
    wide = Tensor(f"{y.name}.wide", _high(y.shape), y.dtype, y.quant)
    attrs = {k: (SPATIAL[k], *v) if k in SPATIAL else v for k, v in op.attrs.items()}
    others = op.inputs[1:]
    if others:
        weight, bias = others
        shape = _high(weight.shape)
        others = replace(weight, shape=shape, data=weight.data.reshape(shape)), bias
    yield Op(op.kind, (image, *others), wide, attrs, op.layer)
    yield Op("reshape", (wide,), y, {"shape": y.shape}, op.layer)


def _unpadded(op: Op) -> Iterator[Op]:
    """An average over whole windows, which is all that XNNPACK has: padding is laid out before.

    Where padding does not count, attribute `shares` is what then makes up for it.
    """
    if op.kind != "avg_pool":
        yield op
        return
    x, pads = op.inputs[0], op.attrs["padding"]
    shares = None
    if any(map(any, pads)):
        shares = None if op.attrs["count_include_pad"] else _window_shares(op)
        pads = ((0, 0), (0, 0), *pads)
        shape = tuple(n + sum(pair) for n, pair in zip(x.shape, pads, strict=True))
        padded = Tensor(f"{op.output.name}.padded", shape, x.dtype, x.quant)
        attrs = {"padding": pads, "mode": "constant", "value": 0.0}
        yield Op("pad", (x,), padded, attrs, op.layer)
        x = padded
    yield replace(op, inputs=(x,), attrs={**op.attrs, "shares": shares})


def _window_shares(op: Op) -> np.ndarray:
    """Window size over its number of pixels inside the image, of shape (1, 1, height, width)."""
    shares = np.ones((1, 1), np.float32)
    rows = zip(
        op.inputs[0].shape[2:], op.output.shape[2:],
        op.attrs["kernel"], op.attrs["stride"], op.attrs["padding"], strict=True,
    )  # fmt: skip
    for size, outputs, kernel, stride, (before, _) in rows:
        first = np.arange(outputs) * stride - before
        inside = np.minimum(first + kernel, size) - np.maximum(first, 0)
        shares = shares[..., None] * (kernel / inside)
    return shares.astype(np.float32)


def _high(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:2], 1, *shape[2:])


def _reshaped(x: Tensor, name: str, shape: tuple[int, ...], layer: str):
    """Yields the reshape and returns its output."""
    y = Tensor(name, shape, x.dtype, x.quant)
    yield Op("reshape", (x,), y, {"shape": shape}, layer)
    return y


# --- cleaning up --------------------------------------------------------------------------------


def _without_detours(ops: Iterable[Op]) -> list[Op]:
    """Of reshapes in a row the last alone, and none that changes nothing."""
    makers: dict[str, Op] = {}
    same: dict[str, Tensor] = {}
    result = []
    for op in ops:
        op = replace(op, inputs=tuple(t and same.get(t.name, t) for t in op.inputs))
        if op.kind == "reshape":
            before = makers.get(op.inputs[0].name)
            if before is not None and before.kind == "reshape":
                op = replace(op, inputs=before.inputs)
            if op.inputs[0].shape == op.output.shape:
                same[op.output.name] = op.inputs[0]
        makers[op.output.name] = op
        result.append(op)
    return result


def _live(ops: list[Op], outputs: tuple[Tensor, ...]) -> tuple[Op, ...]:
    """The operators that an output depends on."""
    needed = {t.name for t in outputs}
    kept = []
    for op in reversed(ops):
        if op.output.name in needed:
            needed |= {t.name for t in op.inputs if t is not None}
            kept.append(op)
    return tuple(kept[::-1])
