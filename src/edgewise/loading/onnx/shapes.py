"""Operators that move, join, cut, select and count: shapes in, shapes out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .rows import Op, host, row
from .values import Constant, Stored, as_array, dtype_of, known, outside, symbolic

__all__: list[str] = []


def integers(values: Any) -> list[Any]:
    """An array or attribute as a list of Python integers (and symbolic sizes)."""
    if isinstance(values, np.ndarray):
        values = values.reshape(-1)
    return [v if symbolic(v) else int(v) for v in values]


def axes_of(op: Op, given: Any, rank: int, name: str = "axes") -> list[int] | None:
    """Axes from an input (newer operator sets) or an attribute, counted from the front."""
    found = op.get(name) if given is None else given
    return None if found is None else [op.axis(a, rank) for a in integers(found)]


@row("Shape", raw=True)
def shape(op, x):
    sizes = list(extent(x))
    return _sizes(sizes[slice(op.get("start", 0), op.get("end"))])


@row("Size", raw=True)
def size(op, x):
    return _sizes([math.prod(extent(x))]).reshape(())


def extent(x: Any) -> Any:
    return (x.tensor if isinstance(x, Constant) else x.real if isinstance(x, Stored) else x).shape


def _sizes(values: list[Any]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return settled(array)


def settled(array: np.ndarray) -> np.ndarray:
    """An array of objects as numbers again, where none of them depends on the batch."""
    if array.dtype != object or any(map(symbolic, array.flat)):
        return array
    flat = array.reshape(-1).tolist()
    kind = (
        np.bool_
        if flat and all(isinstance(v, bool | np.bool_) for v in flat)
        else np.float32
        if any(isinstance(v, float | np.floating) for v in flat)
        else np.int64
    )
    return array.astype(kind)


@row("Reshape", numbers=(1,), moves=True)
def reshape(op, x, target=None):
    wanted = integers(op["shape"] if target is None else target)
    if not op.get("allowzero", 0):
        if any(not symbolic(w) and w == 0 and i >= x.ndim for i, w in enumerate(wanted)):
            raise op.fail(f"it copies an axis that its input {tuple(x.shape)} does not have")
        wanted = [x.shape[i] if not symbolic(w) and w == 0 else w for i, w in enumerate(wanted)]
    return x.reshape(_with_batch(op, x, wanted))


@host("Reshape")
def host_reshape(op, x, target):
    return x.reshape(integers(target))


def _with_batch(op: Op, x: torch.Tensor, wanted: list[Any]) -> list[Any]:
    """Sizes that were written down for one batch size, opened for every other.

    The elements before the batch axis are as many in the output as in the input: where the file
    has the batch size, or a multiple of it, at that place, stands -1.
    """
    at = next((i for i, s in enumerate(x.shape) if symbolic(s)), None)
    if op.batch is None or at is None or any(map(symbolic, wanted)):
        return wanted
    count = math.prod(_at(op, s) for s in x.shape)
    written = list(wanted)
    if -1 in written:
        others = -math.prod(written)
        written[written.index(-1)] = count // others if others else 0
    # In the order of memory: `lead` blocks, the batch, `trail` elements. Where an axis holds the
    # batch and more, the batch comes first or last in it; `Net` tries both.
    more = _at(op, x.shape[at]) // op.batch
    lead, trail = math.prod(x.shape[:at]), math.prod(x.shape[at + 1 :])
    places = []
    for before, after in ((lead, more * trail), (lead * more, trail)):
        for i, extent in enumerate(written):
            ahead, behind = math.prod(written[:i]), math.prod(written[i + 1 :])
            if extent % op.batch or not ahead or not behind or before % ahead or after % behind:
                continue
            exact = (ahead == before, behind == after)
            if any(exact):
                kept = exact[1] if len(written) < x.ndim else exact[0]
                turned = (before != lead) == (op.batch_last and len(written) > x.ndim)
                places.append((all(exact), turned, kept, -i))
    if not places:
        return wanted
    i = -max(places)[-1]
    return [*written[:i], -1, *written[i + 1 :]]


def _at(op: Op, size: Any) -> int:
    """A size at the file's batch; the exporter sees two samples."""
    return size.node.hint * op.batch // 2 if symbolic(size) else size


@row("Flatten", moves=True)
def flatten(op, x):
    axis = op.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    if not 0 <= axis <= x.ndim:
        raise op.fail(f"it names axis {axis} of a tensor with {x.ndim}")
    if axis == 1 and x.ndim > 1:
        return torch.flatten(x, 1)
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@row("Transpose", moves=True)
def transpose(op, x):
    order = op.get("perm", tuple(range(x.ndim))[::-1])
    if sorted(order) != list(range(x.ndim)):
        raise op.fail(f"it permutes {x.ndim} axes by {tuple(order)}")
    return x.permute(order)


@row("Squeeze", numbers=(1,), moves=True)
def squeeze(op, x, axes=None):
    found = axes_of(op, axes, x.ndim)
    if found is None:
        found = [i for i, s in enumerate(x.shape) if not symbolic(s) and s == 1]
    if any(not symbolic(x.shape[a]) and x.shape[a] != 1 for a in found):
        raise op.fail(f"it takes the axes {found} out of {tuple(x.shape)}, where not all are 1")
    return x.squeeze(tuple(found)) if found else x


@row("Unsqueeze", numbers=(1,), moves=True)
def unsqueeze(op, x, axes=None):
    given = op["axes"] if axes is None else axes
    rank = x.ndim + len(integers(given))
    for axis in sorted(op.axis(a, rank) for a in integers(given)):
        x = x.unsqueeze(axis)
    return x


@host("Squeeze")
def host_squeeze(op, x, axes=None):
    found = axes_of(op, axes, x.ndim)
    return np.squeeze(x, None if found is None else tuple(found))


@host("Unsqueeze")
def host_unsqueeze(op, x, axes=None):
    return np.expand_dims(x, tuple(integers(op["axes"] if axes is None else axes)))


@host("Transpose")
def host_transpose(op, x):
    return np.transpose(x, op.get("perm"))


@row("Concat", moves=True)
def concat(op, *xs):
    axis = op.axis(op["axis"], xs[0].ndim)
    batch = next((x.shape[0] for x in xs if x.ndim and symbolic(x.shape[0])), None)
    if axis and batch is not None and op.batch == 1:
        # A token that was written down for a batch of one joins every sample.
        xs = [
            x if symbolic(x.shape[0]) or x.shape[0] != 1 else x.expand(batch, *x.shape[1:])
            for x in xs
        ]
    return torch.cat(list(xs), axis)


@host("Concat")
def host_concat(op, *xs):
    return np.concatenate(xs, op["axis"])


@row("Split", numbers=(1,), moves=True)
def split(op, x, sizes=None):
    axis = op.axis(op.get("axis", 0), x.ndim)
    sizes = op.get("split") if sizes is None else sizes
    if sizes is not None:
        return tuple(torch.split(x, integers(sizes), axis))
    parts = op.get("num_outputs", len(op.node.outputs))
    return tuple(torch.split(x, -(-x.shape[axis] // parts), axis))


@host("Split")
def host_split(op, x, sizes=None):
    axis = op.get("axis", 0)
    sizes = op.get("split") if sizes is None else sizes
    if sizes is None:
        return tuple(np.array_split(x, len(op.node.outputs), axis))
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis))


@row("Expand", numbers=(1,), moves=True)
def expand(op, x, target):
    wanted = integers(target)
    rank = max(x.ndim, len(wanted))
    have = [1] * (rank - x.ndim) + list(x.shape)
    wanted = [1] * (rank - len(wanted)) + wanted
    # A size of the input that is not 1 stays: the batch too, whatever the file has there.
    sizes = [h if symbolic(h) or h != 1 else w for h, w in zip(have, wanted, strict=True)]
    return x.expand(sizes)


@host("Expand")
def host_expand(op, x, target):
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(integers(target))))


@row("Tile", numbers=(1,))
def tile(op, x, repeats):
    return x.repeat(integers(repeats)) if len(repeats) else x


@host("Tile")
def host_tile(op, x, repeats):
    return np.tile(x, integers(repeats))


@row("ConstantOfShape", numbers=(0,))
def constant_of_shape(op, target):
    if (value := op.get("value")) is None:
        return torch.zeros(integers(target))
    return torch.full(
        integers(target), value.numbers.reshape(-1)[0].item(), dtype=value.tensor.dtype
    )


@host("ConstantOfShape")
def host_constant_of_shape(op, target):
    sizes = integers(target)
    if any(map(symbolic, sizes)) or math.prod(sizes) > 4096:
        return NotImplemented
    value = op.get("value")
    return np.full(sizes, 0, np.float32) if value is None else np.resize(value.numbers, sizes)


@row("Constant", raw=True)
def constant(op):
    for name, dtype in (("value_float", torch.float32), ("value_floats", torch.float32),
                        ("value_int", torch.int64), ("value_ints", torch.int64)):  # fmt: skip
        if name in op.node.attributes:
            with outside():
                return Constant.of(torch.tensor(op[name], dtype=dtype))
    if not isinstance(op.get("value"), Constant):
        raise op.fail("its value is no dense tensor of numbers")
    return op["value"]


@row("Range", raw=True)
def arange(op, *limits):
    if not all(map(known, limits)):
        raise op.fail("its limits are computed from data, where a Model needs sizes that are known")
    first, last, step = (as_array(v).reshape(-1)[0] for v in limits)
    if step == 0:
        raise op.fail("its step is 0")
    if any(symbolic(v) for v in (first, last, step)):
        return torch.arange(first, last, step)
    return torch.arange(first.item(), last.item(), step.item(), dtype=dtype_of(limits[0]))


@row("DepthToSpace", moves=True)
def depth_to_space(op, x):
    n, c, h, w = x.shape
    b = op["blocksize"]
    if op.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, b)
    x = x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(n, c // b**2, h * b, w * b)


@row("SpaceToDepth", moves=True)
def space_to_depth(op, x):
    n, c, h, w = x.shape
    b = op["blocksize"]
    x = x.reshape(n, c, h // b, b, w // b, b)
    if op.get("mode", "DCR") == "CRD":
        return x.permute(0, 1, 3, 5, 2, 4).reshape(n, c * b * b, h // b, w // b)
    return x.permute(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


@host("ReduceProd")
def host_product(op, x, axes=None):
    keep = bool(op.get("keepdims", 1))
    found = op.get("axes") if axes is None else axes
    where = None if found is None else tuple(integers(found))
    return np.asarray(np.prod(x, axis=where, keepdims=keep))


@host("Range")
def host_range(op, start, limit, delta):
    values = [v.reshape(-1)[0] for v in (start, limit, delta)]
    if any(map(symbolic, values)) or not values[2]:
        return NotImplemented
    if abs(values[1] - values[0]) > 4096 * abs(values[2]):
        return NotImplemented
    return np.arange(*values)
