"""From stored numbers to a model's inputs: convert what is certain, refuse what is a guess."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..edge.artifact import shape_text
from ..errors import DataError
from ..record import Signature, TensorSpec
from .options import Options

__all__ = ["Fitting"]

Where = Callable[[int], str]

# Share of the signature's range by which rounding may overstep it.
RANGE_TOLERANCE = 1e-5


@dataclass(frozen=True, eq=False)
class Fitting:
    """Turns one batch of a source into the inputs and targets of one model.

    Attributes:
        order: the model's class index for each of the source's, where they differ.
    """

    signature: Signature
    options: Options
    order: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.options.converts and not any(_is_float(spec) for spec in self.signature.inputs):
            raise DataError(
                f"the model takes {self.signature.inputs[0].dtype} and normalises by itself: leave "
                "out scale and normalize"
            )

    def __call__(
        self, inputs: tuple[np.ndarray, ...], targets: np.ndarray | None, where: Where
    ) -> tuple[tuple[np.ndarray, ...], np.ndarray | None]:
        """Args: `where` names the sample at a position of the batch."""
        specs = self.signature.inputs
        if len(inputs) != len(specs):
            raise DataError(
                f"the model takes {len(specs)} inputs ({', '.join(s.name for s in specs)}), "
                f"{where(0)} has {len(inputs)}: name the arrays of the data after the inputs"
            )
        fitted = tuple(
            _fit(array, spec, self.options, where)
            for array, spec in zip(inputs, specs, strict=True)
        )
        if targets is not None and targets.dtype.kind == "f":
            _refuse(~np.isfinite(targets), where, "has a target that is NaN or infinite")
        if targets is not None and self.order is not None:
            targets = self.order[targets]
        return fitted, targets


def _fit(array: np.ndarray, spec: TensorSpec, options: Options, where: Where) -> np.ndarray:
    """One input: axes, scale, dtype, then the checks."""
    array = _arrange(array, spec, where)
    if _is_float(spec):
        array = _rescale(array, spec, options, where)
    array = _cast(array, spec, where)
    if spec.range is not None:
        low, high = spec.range
        slack = (high - low) * RANGE_TOLERANCE
        outside = (array < low - slack) | (array > high + slack)
        if outside.any():
            hint = "scale=1/255" if (low, high) == (0.0, 1.0) else "scale= or normalize="
            _refuse(
                outside,
                where,
                f"has {array[outside][0]:g} where input '{spec.name}' takes {low:g} to {high:g}: "
                f"give {hint}, or put the normalisation into the model with "
                "load(..., normalize=...)",
            )
    return np.ascontiguousarray(array)


def _arrange(array: np.ndarray, spec: TensorSpec, where: Where) -> np.ndarray:
    """Move or add the channel axis where the signature's layout leaves no doubt."""
    candidates = [lambda a: a]
    channel = spec.layout.find("C")
    if channel > 0 and len(spec.shape) > 2:
        if array.ndim == len(spec.shape):
            # Channels are first or last: the data have them where the model has not.
            other = -1 if channel == 1 else 1
            candidates.append(lambda a: np.moveaxis(a, other, channel))
        if array.ndim == len(spec.shape) - 1 and spec.shape[channel] == 1:
            candidates.append(lambda a: np.expand_dims(a, channel))
    for arrange in candidates:
        arranged = arrange(array)
        if arranged.ndim == len(spec.shape) and all(
            want in (None, have) for want, have in zip(spec.shape, arranged.shape, strict=True)
        ):
            return arranged
    layout = f" ({spec.layout})" if spec.layout else ""
    raise DataError(
        f"input '{spec.name}' takes {spec.dtype} of shape {shape_text(spec)}{layout}, {where(0)} "
        f"is {array.dtype} of shape {array.shape[1:]}: reshape the data"
    )


def _rescale(array: np.ndarray, spec: TensorSpec, options: Options, where: Where) -> np.ndarray:
    """Scale and normalise; refuse 8-bit numbers, pixels mostly, whose meaning nobody gave."""
    scale, normalize = options.scale, options.normalize
    if array.dtype in (np.uint8, np.int8) and scale is None and normalize is None:
        least, most = np.iinfo(array.dtype).min, np.iinfo(array.dtype).max
        if spec.range is not None and spec.range[0] <= least and spec.range[1] >= most:
            return array
        raise DataError(
            f"{where(0)} has {array.dtype} numbers from {least} to {most} and input '{spec.name}' "
            f"takes {spec.dtype}: give scale=1/255 (0 to 1), normalize=(mean, std), or scale=1 (as "
            "they are), or put the normalisation into the model with load(..., normalize=...)"
        )
    if scale is None:
        scale = 1 / 255 if array.dtype == np.uint8 else 1.0
    if array.dtype.kind != "f":
        array = array.astype(np.float32)
    if scale != 1:
        array = array * array.dtype.type(scale)
    if normalize is None:
        return array
    if {"H", "W"} <= set(spec.layout):
        outside = (array < 0) | (array > 1 + RANGE_TOLERANCE)
        if outside.any():
            _refuse(
                outside,
                where,
                f"has {array[outside][0]:g}, and normalize takes values in 0..1: give scale= too",
            )
    mean, std = (_by_channel(values, array, spec) for values in normalize)
    return (array - mean) / std


def _by_channel(values: Sequence[float] | float, array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """A mean or deviation, shaped to lie along the channels (the last axis without a layout)."""
    flat = np.atleast_1d(np.asarray(values, array.dtype))
    axis = spec.layout.find("C") if "C" in spec.layout else array.ndim - 1
    if flat.size not in (1, array.shape[axis]):
        raise DataError(
            f"normalize has {flat.size} numbers, input '{spec.name}' of shape {shape_text(spec)} "
            f"has {array.shape[axis]} channels: give one number, or one a channel"
        )
    return flat.reshape([-1 if i == axis else 1 for i in range(array.ndim)])


def _cast(array: np.ndarray, spec: TensorSpec, where: Where) -> np.ndarray:
    """To the signature's dtype, where every number keeps its value (floats: up to rounding)."""
    if array.dtype.kind == "f":
        _refuse(~np.isfinite(array), where, f"has NaN or infinity in input '{spec.name}'")
    if array.dtype == spec.dtype:
        return array
    with np.errstate(invalid="ignore", over="ignore"):
        cast = array.astype(spec.dtype)
    lost = ~np.isfinite(cast) if _is_float(spec) else cast != array
    if lost.any():
        _refuse(
            lost,
            where,
            f"has {array[lost][0]:g} in input '{spec.name}', which {spec.dtype} cannot hold: give "
            "the numbers as they were before any scaling or normalisation",
        )
    return cast


def _refuse(bad: np.ndarray, where: Where, what: str) -> None:
    """Raise for the first sample that has a True."""
    if bad.any():
        first = int(bad.reshape(len(bad), -1).any(axis=1).argmax())
        raise DataError(f"{where(first)} {what}")


def _is_float(spec: TensorSpec) -> bool:
    return spec.dtype.startswith("float")
