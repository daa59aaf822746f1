"""Resizing and sampling of images.

A resize along one axis is a matrix: outputs by inputs. Where the matrix is the one of a mode that
torch has, torch's operator is taken, which every runtime has a kernel for.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .rows import Op, row
from .shapes import integers
from .values import symbolic, typed

__all__: list[str] = []

LARGEST = 2**12  # elements along a resized axis
TORCH = {1: "linear", 2: "bilinear", 3: "trilinear"}


def _places(op: Op, size: int, out: int, scale: float, region: tuple[float, float]) -> np.ndarray:
    """Where each output lies on the input's axis (ONNX, Resize, coordinate_transformation_mode)."""
    x = np.arange(out, dtype=np.float64)
    mode = op.get("coordinate_transformation_mode", "half_pixel")
    if op.version < 11:
        mode = "asymmetric"
    length = scale * size
    if mode == "half_pixel":
        return (x + 0.5) / scale - 0.5
    if mode == "pytorch_half_pixel":
        return (x + 0.5) / scale - 0.5 if length > 1 else np.zeros(out)
    if mode == "align_corners":
        return x * (size - 1) / (length - 1) if length != 1 else np.zeros(out)
    if mode == "asymmetric":
        return x / scale
    if mode == "tf_half_pixel_for_nn":
        return (x + 0.5) / scale
    if mode == "half_pixel_symmetric":
        adjusted = out / length
        centre = size / 2
        return centre * (1 - adjusted) + (x + 0.5) / scale - 0.5
    if mode == "tf_crop_and_resize":
        start, end = region
        if out > 1:
            return start * (size - 1) + x * (end - start) * (size - 1) / (out - 1)
        return np.full(out, 0.5 * (start + end) * (size - 1))
    raise op.fail(f"its coordinates are transformed by '{mode}'")


def _nearest(op: Op, places: np.ndarray) -> np.ndarray:
    how = op.get("nearest_mode", "round_prefer_floor") if op.version >= 11 else "floor"
    if how == "round_prefer_floor":
        return np.ceil(places - 0.5)
    if how == "round_prefer_ceil":
        return np.floor(places + 0.5)
    return np.floor(places) if how == "floor" else np.ceil(places)


def _kernel(mode: str, distance: np.ndarray, a: float) -> np.ndarray:
    """Weight by distance: linear, or cubic (Keys 1981, equation 4, with a free `a`)."""
    d = np.abs(distance)
    if mode == "linear":
        return np.maximum(1 - d, 0)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _matrix(
    op: Op, size: int, out: int, scale: float, region: Any
) -> tuple[np.ndarray, np.ndarray]:
    """(out, size) weights, and which outputs lie outside of the input."""
    mode = op.get("mode", "nearest")
    places = _places(op, size, out, scale, region)
    outside = (places < 0) | (places > size - 1)
    if mode == "nearest":
        index = np.clip(_nearest(op, places), 0, size - 1).astype(int)
        return np.eye(size)[index], outside
    stretch = min(scale, 1.0) if op.get("antialias", 0) else 1.0
    reach = math.ceil((1 if mode == "linear" else 2) / stretch)
    taps = np.floor(places)[:, None] + np.arange(-reach, reach + 2)
    weights = _kernel(mode, (places[:, None] - taps) * stretch, op.get("cubic_coeff_a", -0.75))
    if op.get("exclude_outside", 0):
        weights = np.where((taps < 0) | (taps > size - 1), 0.0, weights)
    weights = weights / weights.sum(1, keepdims=True)
    matrix = np.zeros((out, size))
    rows = np.broadcast_to(np.arange(out)[:, None], taps.shape)
    np.add.at(matrix, (rows, np.clip(taps, 0, size - 1).astype(int)), weights)
    return matrix, outside


@row("Upsample", numbers=(1,), moves=True)
def upsample(op, x, scales=None):
    return resize(op, x, None, np.asarray(op["scales"] if scales is None else scales), None)


@row("Resize", numbers=(1, 2, 3))
def resize(op, x, region=None, scales=None, sizes=None):
    if op.version == 10:
        region, scales = None, region
    axes = [op.axis(a, x.ndim) for a in op.get("axes", range(x.ndim))]
    scales = None if scales is None or not scales.size else [float(s) for s in scales]
    if (scales is None) == (sizes is None or not sizes.size):
        raise op.fail("it needs either scales or sizes")
    have = [x.shape[a] for a in axes]
    if scales is None:
        wanted = integers(sizes)
        policy = op.get("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            ratios = [w / h for w, h in zip(wanted, have, strict=True)]
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            wanted = [math.floor(ratio * h + 0.5) for h in have]
            scales = [ratio] * len(have)
        else:
            scales = [
                1.0 if symbolic(h) else w / h if h else 1.0
                for w, h in zip(wanted, have, strict=True)
            ]
        wanted = [h if symbolic(h) else w for w, h in zip(wanted, have, strict=True)]
    else:
        if len(scales) != len(axes) or not all(0 < s < 2**20 for s in scales):
            raise op.fail(f"its scales {scales} do not fit")
        wanted = [h if s == 1.0 else math.floor(h * s) for h, s in zip(have, scales, strict=True)]
    steps = []
    for i, axis in enumerate(axes):
        crop = op.get("coordinate_transformation_mode") == "tf_crop_and_resize"
        region_ = (float(region[i]), float(region[i + len(axes)])) if crop else (0.0, 1.0)
        if not symbolic(have[i]) and (wanted[i] != have[i] or scales[i] != 1.0 or crop):
            if not symbolic(wanted[i]) and max(wanted[i], have[i]) > LARGEST:
                raise op.fail(f"it resizes {have[i]} to {wanted[i]}")
            if symbolic(wanted[i]):
                raise op.fail("it resizes by the batch")
            steps.append((axis, *_matrix(op, have[i], wanted[i], scales[i], region_), wanted[i]))
    if (short := _torch_resize(op, x, steps)) is not None:
        return short
    y, kind = x, x.dtype
    for axis, matrix, outside, _ in steps:
        if op.get("mode", "nearest") == "nearest":
            y = torch.index_select(y, axis, torch.from_numpy(matrix.argmax(1)))
        else:
            weights = torch.from_numpy(matrix).to(kind if kind.is_floating_point else torch.float32)
            y = torch.matmul(typed(y.movedim(axis, -1), weights.dtype), weights.t()).movedim(
                -1, axis
            )
        if op.get("coordinate_transformation_mode") == "tf_crop_and_resize" and outside.any():
            shape = [-1 if a == axis else 1 for a in range(x.ndim)]
            mask = torch.from_numpy(outside).reshape(shape)
            y = torch.where(mask, op.get("extrapolation_value", 0.0), y)
    return typed(y, kind)


def _torch_resize(op: Op, x: torch.Tensor, steps: list) -> torch.Tensor | None:
    """`F.interpolate`, where it computes the very same."""
    axes, mode = x.ndim - 2, op.get("mode", "nearest")
    if axes not in TORCH or [s[0] for s in steps] != list(range(2, x.ndim)):
        return None
    if not x.dtype.is_floating_point or mode == "cubic" or op.get("antialias", 0):
        return None
    for align in (None,) if mode == "nearest" else (False, True):
        same = True
        for axis, matrix, outside, out in steps:
            size = x.shape[axis]
            if mode == "nearest":
                theirs = np.eye(size)[np.arange(out) * size // out]
            else:
                if align:
                    places = np.arange(out) * (size - 1) / max(out - 1, 1)
                else:
                    places = (np.arange(out) + 0.5) * size / out - 0.5
                places = np.clip(places, 0, size - 1)
                theirs = np.maximum(1 - np.abs(places[:, None] - np.arange(size)), 0)
            crop = op.get("coordinate_transformation_mode") == "tf_crop_and_resize"
            same = same and not (crop and outside.any()) and np.allclose(matrix, theirs, atol=1e-9)
        if same:
            size = [s[3] for s in steps]
            return F.interpolate(
                x, size, mode="nearest" if mode == "nearest" else TORCH[axes], align_corners=align
            )
    return None


@row("GridSample")
def grid_sample(op, x, grid):
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(op.get("mode", "linear"), op.get("mode"))
    mode = mode or "bilinear"
    if mode == "bicubic" and x.ndim != 4:
        raise op.fail("it samples volumes cubically")
    return F.grid_sample(
        x, grid, mode, op.get("padding_mode", "zeros"), bool(op.get("align_corners", 0))
    )
