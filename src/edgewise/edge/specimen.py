"""A small int8 net, kept as a file for every runtime, to see whether a runtime computes here.

A runtime that can be imported may still lack the instructions that its int8 kernels use, or
compute something else with them. The files are made by ``tests/edge/specimens.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import RuntimeFailure
from . import runners

__all__ = ["FOLDER", "NAME", "path_of", "sample", "try_out"]

FOLDER = Path(__file__).parent / "specimens"
NAME = "specimen"
SHAPE = (1, 3, 6, 6)
# What comes out, on every runtime alike, and the step of its grid.
STEP = 0.000245894
INTEGERS = (8, 20, 33, 255)


def sample() -> np.ndarray:
    """The input, float32 (1, 3, 6, 6)."""
    return np.sin(np.arange(np.prod(SHAPE), dtype=np.float32)).reshape(SHAPE)


def path_of(runtime: str) -> Path:
    """The file that the runtime opens."""
    return FOLDER / f"{NAME}{runners.get(runtime).suffixes[0]}"


def try_out(runtime: str, path: Path) -> None:
    """Run the specimen that lies at `path`.

    Raises:
        MissingExtra: the runtime is not installed.
        ModelError: it cannot open the specimen.
        RuntimeFailure: what it computes differs by more than a step of the output's grid.
    """
    opened = runners.open_file(runtime, path, threads=1)
    given = sample()
    if opened.signature.inputs[0].shape != SHAPE:  # LiteRT's has the channels last
        given = np.ascontiguousarray(given.transpose(0, 2, 3, 1))
    (found,) = opened.run(given)
    off = float(np.abs(found.ravel() - STEP * np.array(INTEGERS, np.float32)).max())
    if not off <= STEP * 1.01:
        raise RuntimeFailure(
            f"{runtime} computes wrong numbers on this processor (off by {off:.3g}, at most one "
            f"step of {STEP:.3g} may be): install another version of it, or lower for another"
        )
