"""layer_costs: what each layer takes on a runtime, in int8 and in float."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ..compress.allocate import FLOAT, layers
from ..compress.quantize import Quantize
from ..edge import runners
from ..errors import InputError
from ..graph.fold import fold
from ..lowering import lower
from ..model import Model
from . import explain

__all__ = ["layer_costs"]


def layer_costs(
    model: Model, data: Any, runtime: str, *, runs: int = 50, threads: int = 1
) -> dict[str, dict[int, float]]:
    """Lower a Model in float and in int8, and profile both.

    What stands around a layer (conversions between it and a neighbour of the other kind) is not
    among its costs: measure the file that comes of them.

    Args:
        model: the float model.
        data: to calibrate with.
        runtime: its name.

    Returns:
        layer -> {8: microseconds in int8, 32: in float}; `edgewise.allocate` takes it for ``cost``.

    Raises:
        InputError: the runtime does not name every layer in its profile: LiteRT and OpenVINO do,
            ONNX Runtime names float convolutions after what it fuses them with, ExecuTorch none.
        MissingExtra, RuntimeFailure: as of `explain`.
    """
    found: dict[str, dict[int, float]] = {name: {} for name in layers(fold(model.module()))}
    with tempfile.TemporaryDirectory(prefix="edgewise-") as folder:
        for bits, of in ((8, Quantize("int8")(model, data)), (FLOAT, model)):
            path = Path(folder) / f"net{bits}{runners.get(runtime).suffixes[0]}"
            explained = explain(lower(of, runtime, path), runs=runs, threads=threads)
            for operator in explained.operators:
                if (costs := found.get(operator.layer)) is not None:
                    costs[bits] = costs.get(bits, 0.0) + operator.us
    if lost := [name for name, costs in found.items() if len(costs) < 2]:
        raise InputError(
            f"{runtime} does not name {', '.join(lost[:3])} in its profile: measure on litert or "
            "openvino, or give costs of your own"
        )
    return found
