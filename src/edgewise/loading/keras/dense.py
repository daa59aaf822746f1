"""Layers that know no neighbourhood: dense, embedding, normalisations, merging."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .activations import activation
from .layer import Config, Layer, channels_first, channels_last, row
from .weights import Weights

__all__: list[str] = []


@row("Dense")
def dense(c: Config, w: Weights) -> nn.Module:
    kernel, bias = (
        w.read("kernel", "bias") if c.get("use_bias", True) else (*w.read("kernel"), None)
    )
    act = activation(c)
    return Layer(
        lambda p, x: act(F.linear(x, p.weight, p.bias)), weight=np.transpose(kernel), bias=bias
    )


@row("Embedding")
def embedding(c: Config, w: Weights) -> nn.Module:
    c.only("mask_zero", False)
    (table,) = w.read("embeddings")
    return Layer(lambda p, x: F.embedding(x.long(), p.weight), weight=table)


# --- normalisation ------------------------------------------------------------------------------


def _affine(c: Config, w: Weights, *more: str) -> list[np.ndarray | None]:
    """Gamma and beta, None where the layer has none, and what else it has."""
    names = [
        n for n, have in (("gamma", c.get("scale", True)), ("beta", c.get("center", True))) if have
    ]
    found = dict(zip([*names, *more], w.read(*names, *more), strict=True))
    return [found.get(name) for name in ("gamma", "beta", *more)]


def _one_axis(c: Config) -> int:
    axis = c.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if not isinstance(axis, int):
        raise c.fail(f"axis={axis!r} should be one axis")
    return axis


@row("BatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization")
def batch_norm(c: Config, w: Weights) -> nn.Module:
    """Ioffe & Szegedy 2015 (arXiv:1502.03167), with the statistics of training."""
    c.only("renorm", False)
    gamma, beta, mean, variance = _affine(c, w, "moving_mean", "moving_variance")
    axis, eps = _one_axis(c), float(c.get("epsilon", 1e-3))

    def compute(p: nn.Module, x: Tensor) -> Tensor:
        at = axis % x.ndim
        if at not in (1, x.ndim - 1):
            raise c.fail(f"axis={axis} is neither the first nor the last")
        x = x if at == 1 else channels_first(x)
        x = F.batch_norm(x, p.running_mean, p.running_var, p.weight, p.bias, False, 0.0, eps)
        return x if at == 1 else channels_last(x)

    statistics = {"running_mean": mean, "running_var": variance}
    return Layer(compute, statistics, weight=gamma, bias=beta)


@row("LayerNormalization")
def layer_norm(c: Config, w: Weights) -> nn.Module:
    """Ba et al. 2016 (arXiv:1607.06450), over the last axes."""
    c.only("rms_scaling", False)
    gamma, beta = _affine(c, w)
    axis, eps = c.get("axis", -1), float(c.get("epsilon", 1e-3))
    axes = [axis] if isinstance(axis, int) else list(axis)

    def compute(p: nn.Module, x: Tensor) -> Tensor:
        if sorted(a % x.ndim for a in axes) != list(range(x.ndim - len(axes), x.ndim)):
            raise c.fail(f"axis={axis} are not the last axes")
        return F.layer_norm(x, x.shape[x.ndim - len(axes) :], p.weight, p.bias, eps)

    return Layer(compute, weight=gamma, bias=beta)


@row("GroupNormalization")
def group_norm(c: Config, w: Weights) -> nn.Module:
    """Wu & He 2018 (arXiv:1803.08494)."""
    c.only("axis", -1)
    gamma, beta = _affine(c, w)
    groups, eps = int(c.get("groups", 32)), float(c.get("epsilon", 1e-3))

    def compute(p: nn.Module, x: Tensor) -> Tensor:
        count = x.shape[-1] if groups == -1 else groups
        return channels_last(F.group_norm(channels_first(x), count, p.weight, p.bias, eps))

    return Layer(compute, weight=gamma, bias=beta)


@row("UnitNormalization")
def unit_norm(c: Config, w: Weights) -> nn.Module:
    axis = _one_axis(c)
    return Layer(
        lambda p, x: x * torch.rsqrt(torch.clamp((x * x).sum(axis, keepdim=True), min=1e-12))
    )


@row("Rescaling")
def rescaling(c: Config, w: Weights) -> nn.Module:
    numbers = {key: np.asarray(c.get(key, default), np.float32)
               for key, default in (("scale", 1.0), ("offset", 0.0))}  # fmt: skip
    if all(v.ndim == 0 for v in numbers.values()):
        scale, offset = (float(v) for v in numbers.values())
        return Layer(lambda p, x: x * scale + offset if offset else x * scale)
    return Layer(lambda p, x: x * p.scale + p.offset, numbers)


@row("Normalization")
def normalization(c: Config, w: Weights) -> nn.Module:
    """(x - mean) / sqrt(variance), adapted to data or given."""
    axis = c.get("axis", -1)
    if axis not in (-1, None, [-1], []):
        raise c.fail(f"axis={axis!r} is not the last")
    mean, variance = c.get("mean"), c.get("variance")
    if mean is None:
        mean, variance = w.read("mean", "variance")
    mean, variance = (np.asarray(v, np.float32) for v in (mean, variance))
    deviation = np.maximum(np.sqrt(variance), 1e-7)
    statistics = {"mean": mean.reshape(-1), "deviation": deviation.reshape(-1)}
    if c.get("invert", False):
        return Layer(lambda p, x: x * p.deviation + p.mean, statistics)
    return Layer(lambda p, x: (x - p.mean) / p.deviation, statistics)


# --- several tensors into one -------------------------------------------------------------------


def _merging(combine: Callable[[list[Tensor]], Tensor]):
    def make(c: Config, w: Weights) -> nn.Module:
        return Layer(
            lambda p, tensors: combine(
                _alike([tensors] if isinstance(tensors, Tensor) else tensors)
            )
        )

    return make


def _alike(tensors: list[Tensor]) -> list[Tensor]:
    """Of one rank: Keras puts axes of size 1 behind the batch of the shorter ones."""
    rank = max(t.ndim for t in tensors)
    return [t if t.ndim == rank else t.reshape(-1, *[1] * (rank - t.ndim), *t.shape[1:])
            for t in tensors]  # fmt: skip


row("Add")(_merging(lambda ts: functools.reduce(operator.add, ts)))
row("Subtract")(_merging(lambda ts: ts[0] - ts[1]))
row("Multiply")(_merging(lambda ts: functools.reduce(operator.mul, ts)))
row("Average")(_merging(lambda ts: functools.reduce(operator.add, ts) * (1 / len(ts))))
row("Maximum")(_merging(lambda ts: functools.reduce(torch.maximum, ts)))
row("Minimum")(_merging(lambda ts: functools.reduce(torch.minimum, ts)))


@row("Concatenate")
def concatenate(c: Config, w: Weights) -> nn.Module:
    axis = _one_axis(c)
    return Layer(
        lambda p, tensors: torch.cat([tensors] if isinstance(tensors, Tensor) else tensors, axis)
    )
