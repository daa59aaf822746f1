"""Arrays as JSON, for the pipe between a worker and whoever asks it."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

__all__ = ["pack", "unpack"]


def pack(array: np.ndarray) -> dict[str, Any]:
    """Its dtype, its shape, and its bytes in base 64."""
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"dtype": array.dtype.str, "shape": list(array.shape), "data": data}


def unpack(packed: dict[str, Any]) -> np.ndarray:
    """The array that `pack` was given."""
    data = np.frombuffer(base64.b64decode(packed["data"]), np.dtype(packed["dtype"]))
    return data.reshape(packed["shape"])
