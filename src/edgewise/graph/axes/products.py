"""Settling: from what the rules wrote down to the channels of the whole graph."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .trace import Product, Trace

__all__ = ["Channels", "settle"]

OTHER = "only one of the axes that make up one can be cut"


class Channels:
    """Which numbers are one channel, and which channels are fixed.

    Attributes:
        of: the channel of each number, int (count,).
        reason: for each channel the index of the reason why it is fixed, -1 where it is free.
    """

    def __init__(self, trace: Trace):
        n = trace.count
        a = np.concatenate([e[0] for e in trace.equal] or [np.empty(0, int)])
        b = np.concatenate([e[1] for e in trace.equal] or [np.empty(0, int)])
        edges = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(n, n))
        total, self.of = connected_components(edges, directed=False)
        self.reason = np.full(total, -1)
        for ids, reasons in reversed(trace.fixed):  # the first reason stays
            self.reason[self.of[ids]] = -1 - reasons

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """The channel of each position, negative where it is fixed."""
        channel = self.of[np.maximum(ids, 0)]
        return np.where((ids < 0) | (self.reason[channel] >= 0), -1, channel)


def settle(trace: Trace) -> Channels:
    """Decide which factor of each product can be cut, and find the channels.

    What leaves no choice goes first: factors that are fixed already, wholes that are equal along
    an axis. Then the outermost factor is taken (attention: heads, not the numbers in them), the
    longest where the rule says so or where another product has the same factors in another order
    (a channel shuffle).
    """
    pending = list(trace.products)
    channels = Channels(trace)
    while pending:
        undecided = []
        for product in pending:
            factor = _forced(product, channels)
            if factor is None:
                undecided.append(product)
            else:
                _decide(trace, product, factor)
        if len(undecided) == len(pending):
            undecided = _choose(trace, undecided, channels)
        pending = undecided
        channels = Channels(trace)
    return channels


def _free(product: Product, channels: Channels) -> list[int]:
    return [i for i, f in enumerate(product.factors) if (channels(f) >= 0).any()]


def _forced(product: Product, channels: Channels) -> int | None:
    """The factor that can be cut (any, if none can), None while there is a choice."""
    free = _free(product, channels)
    whole = channels(product.whole)
    if len(free) <= 1 or (whole < 0).all():
        return free[0] if free else 0
    # Where the whole is the same along all axes but one already, that one is it.
    for i in free:
        others = tuple(k for k in range(whole.ndim) if k != i)
        lines = whole.transpose(i, *others).reshape(whole.shape[i], -1)
        if (lines == lines[:, :1]).all():
            return i
    return None


def _choose(trace: Trace, pending: list[Product], channels: Channels) -> list[Product]:
    """Take the preferred factor of each; those that share an axis with one before wait."""
    keys = [[channels(f).tobytes() for f in product.factors] for product in pending]
    orders: dict[tuple[bytes, ...], set[tuple[bytes, ...]]] = {}
    for key in keys:
        orders.setdefault(tuple(sorted(key)), set()).add(tuple(key))
    met: set[bytes] = set()
    waiting = []
    for product, key in zip(pending, keys, strict=True):
        if met.isdisjoint(key):
            shuffled = len(orders[tuple(sorted(key))]) > 1
            free = _free(product, channels)
            if product.largest or shuffled:
                free.sort(key=lambda i, p=product: -len(p.factors[i]))
            _decide(trace, product, free[0])
        else:
            waiting.append(product)
        met.update(key)
    return waiting


def _decide(trace: Trace, product: Product, factor: int) -> None:
    for i, ids in enumerate(product.factors):
        if i != factor:
            trace.freeze(ids, f"{OTHER} at '{product.where}'")
    shape = [1] * product.whole.ndim
    shape[factor] = -1
    trace.same(product.whole, product.factors[factor].reshape(shape))
