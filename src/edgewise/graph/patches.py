"""A layer as a matrix product: what it reads in columns, what it gives in rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from .canonical import bound

__all__ = ["drawn", "groups_of", "outputs", "patches"]

aten = torch.ops.aten
UNFOLDED = 16 << 20  # bytes of patches at a time


def groups_of(node: fx.Node) -> int:
    """The groups of a convolution; 1 for a linear."""
    return bound(node).get("groups", 1)


def patches(node: fx.Node, x: Tensor, kernel: torch.Size) -> Tensor:
    """What the layer multiplies its weights with, at each place of each sample.

    Args:
        node: a linear, or a convolution of one or two dimensions, not transposed.
        x: its input: (..., inputs) of a linear, else (N, channels, *spatial).
        kernel: the spatial axes of its weight; empty for a linear.

    Returns:
        (groups, columns, n), in the columns' order of the flattened weight.
    """
    if node.target is aten.linear.default:
        return x.reshape(-1, x.shape[-1]).T[None]
    a = bound(node)
    size, stride, dilation = (list(v) for v in (kernel, a["stride"], a["dilation"]))
    padding = a["padding"]
    if x.ndim == 3:  # a signal is an image of one line
        x, size, stride, dilation = x.unsqueeze(2), [1, *size], [1, *stride], [1, *dilation]
        padding = padding if isinstance(padding, str) else [0, *padding]
    if isinstance(padding, str):
        total = [d * (k - 1) * (padding == "same") for d, k in zip(dilation, size, strict=True)]
        x = F.pad(x, [v for t in reversed(total) for v in (t // 2, t - t // 2)])
        padding = [0, 0]
    columns = F.unfold(x, size, dilation, padding, stride)  # (N, channels * kernel, places)
    groups = groups_of(node)
    return columns.transpose(0, 1).reshape(groups, columns.shape[1] // groups, -1)


def outputs(node: fx.Node, y: Tensor) -> Tensor:
    """What the layer gives, (groups, rows, n), in the order of `patches`."""
    at = -1 if node.target is aten.linear.default else 1
    rows = y.movedim(at, 0)
    groups = groups_of(node)
    return rows.reshape(groups, rows.shape[0] // groups, -1)


def drawn(
    node: fx.Node,
    kernel: torch.Size,
    x: Tensor,
    y: Tensor,
    share: float,
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Positions drawn from a batch, about `share` for each sample, as `patches` and `outputs`.

    The patches of a few samples are in memory at a time: they take many times what `x` does.
    """
    each = x[:1].nbytes * kernel.numel()
    size = max(1, UNFOLDED // max(1, each))
    for at in range(0, len(x), size):
        columns = patches(node, x[at : at + size], kernel)
        given = outputs(node, y[at : at + size])
        wanted = round(share * (min(at + size, len(x)) - at))
        if wanted < columns.shape[-1]:
            chosen = torch.randint(columns.shape[-1], (max(1, wanted),), generator=generator)
            columns, given = columns[..., chosen], given[..., chosen]
        yield columns, given
