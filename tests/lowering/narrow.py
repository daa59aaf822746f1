"""Programs with float activations and quantized weights: one scheme a case.

@pytest.mark.parametrize("case", cases("int4-weights", group=32), ids=str)
"""

from __future__ import annotations

import numpy as np

from edgewise.lowering.program import NO_CLAMP, Dynamic, Quant, Tensor

from .programs import Case, Sketch
from .reference import real

__all__ = ["cases", "weight_of"]

RELU = (0.0, float("inf"))


def weight_of(
    s: Sketch, shape: tuple[int, ...], bits: int, group: int | None = None, affine: bool = False
) -> Tensor:
    """A random weight with one scale an output channel, or for `group` inputs."""
    array = s.random.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape)
    most = 2 ** (bits - 1) - 1
    rows = array.reshape(shape[0], -1 if group is None else shape[1] // group, group or 1)
    largest = np.abs(rows).max(2) if group else np.abs(rows).max((1, 2))
    scale = (largest / most).astype(np.float32)
    along = scale[..., None] if group else scale.reshape(-1, 1, 1)
    zero_point = np.zeros(scale.shape, np.int32)
    if affine:
        zero_point = s.random.integers(-most - 1, most + 1, scale.shape, np.int32)
        zero_point[0, 0] = 3
    data = np.rint(rows / along) + zero_point.reshape(along.shape if group else (-1, 1, 1))
    data = data.clip(-most - affine, most).reshape(shape).astype(np.int8)
    axis = None if group else 0
    quant = Quant(scale, zero_point, f"int{bits}", axis)
    tensor = Tensor(f"weight{len(s._values)}", shape, quant=quant, data=data)
    s._values[tensor.name] = real(tensor)
    return tensor


def cases(
    bits: int,
    group: int | None = None,
    dynamic: Dynamic | None = None,
    batch: int = 1,
    affine: bool = False,
) -> list[Case]:
    """Linears of two and three axes with and without bias and clamp, and convolutions.

    Convolutions, which are never dynamic, have 8 bits and one scale a channel. `affine` weights
    have a zero point for each scale.
    """
    more = {} if dynamic is None else {"dynamic": dynamic}
    found = []

    def linear(name: str, shape: tuple[int, ...], bias: bool = True, clamp=NO_CLAMP) -> None:
        s = Sketch(seed=len(found))
        x = s.input(batch, *shape)
        weight = weight_of(s, (24, shape[-1]), bits, group, affine)
        y = s.op("linear", x, weight, s.parameter(24) if bias else None, clamp=clamp, **more)
        found.append(s.close(name, y))

    linear("linear", (64,))
    linear("linear_3d", (5, 64), clamp=RELU)
    linear("linear_no_bias", (5, 64), bias=False)
    linear("linear_4d_clamp", (3, 5, 64), clamp=(-0.5, 0.75))
    s = Sketch(seed=9)
    x = s.input(batch, 7, 64)
    parts = [
        s.op("linear", x, weight_of(s, (32, 64), bits, group, affine), s.parameter(32),
             clamp=NO_CLAMP, **more)
        for _ in range(3)
    ]  # fmt: skip
    summed = s.op("add", s.op("mul", *parts[:2], clamp=NO_CLAMP), parts[2], clamp=NO_CLAMP)
    last = s.op(
        "linear", summed, weight_of(s, (10, 32), bits, group, affine), None, clamp=NO_CLAMP, **more
    )
    found.append(s.close("linears_of_one_input", last))
    if dynamic is None:
        for name, groups, shape in (("conv", 1, (16, 8, 3, 3)), ("depthwise", 8, (8, 1, 3, 3))):
            s = Sketch(seed=3)
            y = s.op(
                "conv", s.input(batch, 8, 9, 7), weight_of(s, shape, 8), s.parameter(shape[0]),
                stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=groups, clamp=RELU,
            )  # fmt: skip
            found.append(s.close(name, y))
    return found
