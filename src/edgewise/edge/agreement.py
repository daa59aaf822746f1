"""Agreement: do two computations of the same thing give the same, ties aside? Numpy alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..record import Agreement

__all__ = ["LIMITS", "outputs_agree"]

# Mean difference in quantization steps of the output above which a file is refused. Integer
# kernels round once where the Model rounds twice, so single steps are lost and found on the way;
# a wrong grid, a wrong axis or a wrong operator costs dozens. Narrow weights under float
# arithmetic leave nothing to round; what is rounded at run time ties as integers do.
LIMITS = {
    "float32": 0.05, "float16": 1.0, "int8": 3.0, "int8-weights": 0.05, "int4-weights": 0.05,
    "int4-affine": 0.05, "int8-dynamic": 3.0, "int4-dynamic": 3.0, "16x8": 3.0,
}  # fmt: skip
# Two outputs closer than this share of the range are a tie.
TIE = 1e-5


def outputs_agree(
    want: Sequence[np.ndarray],
    have: Sequence[np.ndarray],
    *,
    source: str,
    steps: Sequence[float | None] | None = None,
) -> Agreement:
    """Compare every output of every sample.

    Args:
        want, have: one array an output, of shape (samples, ...); the same shapes in both.
        source: where the samples came from, for the record.
        steps: each output's quantization step; None, the default, is 1/255 of its range.
    """
    top1, max_steps, mean_steps, max_abs = 1.0, 0.0, 0.0, 0.0
    for w, h, given in zip(want, have, steps or [None] * len(want), strict=True):
        w, h = w.astype(np.float64), h.astype(np.float64)
        difference = np.abs(w - h)
        # NaN compares with nothing: it must count as the largest difference there is.
        difference[~np.isfinite(difference)] = np.inf
        step = given or max(float(np.ptp(w)) / 255, np.finfo(np.float32).tiny)
        max_abs = max(max_abs, float(difference.max()))
        max_steps = max(max_steps, float(difference.max() / step))
        mean_steps = max(mean_steps, float(difference.mean() / step))
        top1 = min(top1, _top1(w, h))
    return Agreement(top1, max_steps, mean_steps, max_abs, len(want[0]), source)


def _top1(want: np.ndarray, have: np.ndarray) -> float:
    """Share of rows (last axis) whose largest entry is the same, ties aside."""
    if want.ndim < 2 or want.shape[-1] < 2:
        return 1.0
    chosen = np.take_along_axis(want, have.argmax(-1)[..., None], -1)[..., 0]
    return float(np.mean(chosen >= want.max(-1) - TIE * np.ptp(want)))
