"""Agreement: does the file compute what the Model computes, and if not, from which layer on?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx

from ..data import as_data
from ..edge.agreement import LIMITS, outputs_agree
from ..edge.artifact import Artifact
from ..errors import EdgewiseError
from ..graph.canonical import FAKE_QUANTIZE, layer, shapes, signature_of, sweep
from ..graph.placement import CLAMPS, FUSES_CLAMP
from ..math.affine import fake_quantize_dynamic
from ..model import Model
from ..record import Agreement, TensorSpec

__all__ = ["agree", "first_disagreement", "precision_of", "samples_for"]

SAMPLES = 64
DYNAMIC = fake_quantize_dynamic._opoverload


def precision_of(module: fx.GraphModule) -> str:
    """The name of the scheme that a graph is quantized by, ``"float32"`` if it is not."""
    fakes = [n for n in module.graph.nodes if n.target is FAKE_QUANTIZE]
    weights = [n for n in fakes if n.args[0].op == "get_attr"]
    if len(weights) < len(fakes):
        return "16x8" if any(n.args[4] > 127 for n in fakes) else "int8"
    if any(p.dtype == torch.float16 for p in module.parameters()):
        return "float16"
    weights = [n for n in weights if n.args[4] <= 127]  # wider ones are lowered as float32
    if not weights:
        return "float32"
    bits = 4 if any(n.args[4] <= 7 for n in weights) else 8
    if any(n.args[3:5] == (-8, 7) for n in weights):
        return "int4-affine"
    dynamic = any(n.target is DYNAMIC for n in module.graph.nodes)
    return f"int{bits}-{'dynamic' if dynamic else 'weights'}"


def samples_for(model: Model, data: Any = None) -> tuple[tuple[np.ndarray, ...], str]:
    """Inputs to compare on, and where they come from: the data, the Model, or random numbers."""
    if data is not None:
        given = as_data(data, signature=model.signature)
        split = given.evaluation or given.calibration or given.training
        return split.take(SAMPLES)[0], "data"
    if model.samples is not None:
        return model.samples, "model"
    return tuple(_random(spec) for spec in model.signature.inputs), "random"


def _random(spec: TensorSpec) -> np.ndarray:
    generator = np.random.default_rng(0)
    shape = tuple(8 if s is None else s for s in spec.shape)
    if spec.dtype.startswith("float"):
        low, high = spec.range or (-1.0, 1.0)
        return generator.uniform(low, high, shape).astype(spec.dtype)
    low, high = spec.range or ((0, 255) if spec.dtype == "uint8" else (0, 1))
    return generator.integers(int(low), int(high) + 1, shape).astype(spec.dtype)


def agree(
    model: Model, artifact: Artifact, samples: tuple[np.ndarray, ...], source: str
) -> Agreement:
    """Run both on the same samples and compare every output."""
    want, have = _tuple(model(*samples)), _tuple(artifact.run(*samples))
    steps = [_step(model, i) for i in range(len(want))]
    return outputs_agree(want, have, source=source, steps=steps)


def _step(model: Model, output: int) -> float | None:
    """The scale of an output that is quantized."""
    node = next(n for n in model.graph.graph.nodes if n.op == "output").args[0][output]
    if node.target is not FAKE_QUANTIZE:
        return None
    return float(getattr(model.graph, node.args[1].target))


def first_disagreement(
    model: Model, write: Callable[[Model, int], Artifact], samples: tuple[np.ndarray, ...]
) -> str:
    """The first layer whose output already differs, found by halving.

    Args:
        write: lowers a Model (the given one cut off somewhere) without comparing.
    """
    few = tuple(array[:4] for array in samples)
    cuts = _cuts(model)
    low, high = 0, len(cuts) - 1
    while low < high:
        middle = (low + high) // 2
        part = _cut(model, cuts[middle])
        try:
            artifact = write(part, middle)
            bad = agree(part, artifact, few, "model").mean_steps > LIMITS[artifact.precision]
        except EdgewiseError:
            bad = False  # a part that cannot stand alone says nothing; look further down
        low, high = (low, middle) if bad else (middle + 1, high)
    node = next(n for n in model.graph.graph.nodes if n.name == cuts[low])
    if node.target is FAKE_QUANTIZE:
        node = node.args[0]
    if node.target in CLAMPS and node.args[0].target in FUSES_CLAMP:
        node = node.args[0]  # the clamp is part of that operator
    return layer(node)


def _cuts(model: Model) -> list[str]:
    """Names of the values at which the graph can be cut: quantized ones, or all if none is."""
    known = shapes(model.graph, model.signature, 2)
    static = precision_of(model.graph) in ("int8", "16x8")
    return [
        node.name
        for node in model.graph.graph.nodes
        if node.op == "call_function"
        and isinstance(known[node], torch.Tensor)
        and known[node].is_floating_point()
        and known[node].ndim
        and known[node].shape[0] == 2
        and (not static or node.target is FAKE_QUANTIZE)
        and node.target is not DYNAMIC
    ]


def _cut(model: Model, name: str) -> Model:
    """The Model up to that value."""
    module = model.module()
    nodes = {node.name: node for node in module.graph.nodes}
    nodes["output"].args = ((nodes[name],),)
    sweep(module)
    return Model(module, signature_of(module, model.signature.inputs), model.lineage)


def _tuple(value: Any) -> tuple[np.ndarray, ...]:
    return value if isinstance(value, tuple) else (value,)
