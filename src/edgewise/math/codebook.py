"""Codebooks: weights that share a few values, and the index of each.

`lookup` is also the operator ``torch.ops.edgewise.lookup``: the way in which a Model's graph says
that a weight is clustered. Its gradient with respect to a value is the sum over all weights that
share it (Han et al. 2016, "Deep Compression", arXiv:1510.00149, section 3.3), and none with respect
to a value that is zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["NF4", "STARTS", "kmeans", "lookup", "nearest", "powers_of_two"]

# Dettmers et al. 2023, "QLoRA" (arXiv:2305.14314), appendix E: quantiles of a normal distribution.
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip
STARTS = ("linear", "density", "random")


def powers_of_two(bits: int) -> tuple[float, ...]:
    """Zero and plus and minus 1, 1/2, 1/4 ...: the values that shifts multiply by.

    Miyashita et al. 2016, "Convolutional Neural Networks using Logarithmic Data Representation"
    (arXiv:1603.01025), section 3, with a sign, a zero and (2^bits - 2) / 2 magnitudes.
    """
    sizes = [2.0**-i for i in range(2 ** (bits - 1) - 1)]
    return (*(-s for s in sizes), 0.0, *reversed(sizes))


@torch.library.custom_op("edgewise::lookup", mutates_args=())
def lookup(codebook: Tensor, indices: Tensor, scale: Tensor | None = None) -> Tensor:
    """The weight: ``codebook[indices]``, times `scale` where there is one.

    Args:
        codebook: float32 (values,), or (channels, values), a codebook for each index of axis 0.
        indices: uint8, of the weight's shape.
        scale: float32, as many axes as `indices`, each of 1 or a divisor: one for each block.
    """
    if codebook.ndim == 1:
        weight = codebook[indices.long()]
    else:
        weight = codebook.gather(1, indices.long().flatten(1)).view(indices.shape)
    return weight if scale is None else _blocks(weight, scale).mul(_ends(scale)).view_as(weight)


@lookup.register_fake
def _(codebook, indices, scale=None):
    return codebook.new_empty(indices.shape)


def _remember(ctx, inputs, output):
    ctx.save_for_backward(*(x for x in inputs if x is not None))


def _summed(ctx, gradient):
    codebook, indices, *scale = ctx.saved_tensors
    at = indices.long()
    of_scale = None
    if scale:
        values = lookup(codebook, indices)
        inner = list(range(1, 2 * gradient.ndim, 2))
        of_scale = _blocks(gradient * values, scale[0]).sum(inner)
        gradient = (_blocks(gradient, scale[0]) * _ends(scale[0])).view_as(gradient)
    if codebook.ndim == 2:
        rows = torch.arange(len(codebook)).view(-1, *[1] * (at.ndim - 1))
        at = at + rows * codebook.shape[1]
    total = torch.zeros(codebook.numel(), dtype=gradient.dtype)
    total.index_add_(0, at.flatten(), gradient.flatten())
    total = torch.where(codebook == 0, 0.0, total.view(codebook.shape))  # zeros stay zero
    return total, None, of_scale


def _blocks(x: Tensor, scale: Tensor) -> Tensor:
    """Each axis as two: the blocks, and what is in one."""
    pairs = zip(scale.shape, x.shape, strict=True)
    return x.reshape([n for blocks, size in pairs for n in (blocks, size // blocks)])


def _ends(scale: Tensor) -> Tensor:
    return scale.reshape([n for blocks in scale.shape for n in (blocks, 1)])


lookup.register_autograd(_summed, setup_context=_remember)


def nearest(values: Tensor, codebook: Tensor) -> Tensor:
    """The index (int64) of the nearest value of each row's sorted codebook; the lower of a tie.

    Args:
        values: (rows, n).
        codebook: (rows, k), ascending.
    """
    middles = (codebook[:, 1:] + codebook[:, :-1]) / 2
    return torch.searchsorted(middles.contiguous(), values.contiguous())


def kmeans(
    values: Tensor,
    size: int,
    start: str = "linear",
    weights: Tensor | None = None,
    *,
    rounds: int = 50,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Codebooks of least squared error, and the index of each value; zeros stay zero.

    Lloyd's algorithm, arXiv:1510.00149, sections 3.1 and 3.2: begun from values spread evenly
    over the range, over the distribution, or drawn. Each round makes the error less or ends. Where
    there are zeros, one value is zero and the others are for what is not.

    Args:
        values: (rows, n), each row with a codebook of its own.
        size: values of a codebook, at least 2.
        start: one of `STARTS`.
        weights: like `values`, what each squared error counts; None for one.

    Returns:
        float32 (rows, size), ascending, and int64 like `values`.
    """
    x = values.double()
    importance = torch.ones_like(x) if weights is None else weights.double()
    zero = x == 0
    pinned = bool(zero.any())
    codebook = _start(x, zero, size - pinned, start, seed)
    counts = torch.where(zero, 0.0, importance) if pinned else importance
    for _ in range(rounds):
        at = nearest(x, codebook)
        total = torch.zeros_like(codebook).scatter_add_(1, at, counts)
        middle = torch.zeros_like(codebook).scatter_add_(1, at, counts * x)
        moved = torch.where(total > 0, middle / total.clamp(min=1e-300), codebook)
        moved = moved.sort(1).values
        if torch.equal(moved, codebook):
            break
        codebook = moved
    codebook = codebook.float()
    at = nearest(values.float(), codebook)
    if not pinned:
        return codebook, at
    place = (codebook < 0).sum(1, keepdim=True)  # of the zero among the others
    codebook = torch.cat([codebook, torch.zeros(len(x), 1)], 1).sort(1).values
    return codebook, torch.where(zero, place, at + (at >= place))


def _start(x: Tensor, zero: Tensor, size: int, start: str, seed: int) -> Tensor:
    if x.shape[1] <= size:  # every value can be had as it is
        ordered = x.sort(1).values
        return torch.cat([ordered, ordered[:, -1:].expand(-1, size - x.shape[1])], 1)
    if start == "linear":
        low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
        return low + (high - low) * torch.linspace(0, 1, size, dtype=torch.float64)
    if start == "random":
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randint(x.shape[1], (len(x), size), generator=generator)
        return x.gather(1, drawn).sort(1).values
    # Even shares of what is not zero: zeros are sorted to the end and not counted.
    ordered = torch.where(zero, math.inf, x).sort(1).values
    n = (~zero).sum(1, keepdim=True).clamp(min=1)
    share = (torch.arange(size) + 0.5) / size
    return ordered.gather(1, (share * n).long().clamp(max=x.shape[1] - 1)).nan_to_num(posinf=0.0)
