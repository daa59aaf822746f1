"""A TFLite file becomes a Model.

`reader` reads the file, `operators` and `spatial` have one row an operator, `network` collects
the nodes.

A quantized file becomes a float graph with fake-quantize nodes: weights are real numbers on their
grid, biases real numbers on the grid of the sums, and the inputs and outputs are the real numbers
that the file's integers stand for (``scale * (integer - zero_point)``); what lies outside of an
input's range is clamped to it, as by the quantization before the file. uint8 grids are int8's,
moved by 128. Images are taken and given as N, H, W, C, as the file has them, and computed
channels-first.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import fx

from ...errors import EdgewiseError, InputError, MissingExtra, ModelError
from ...graph.canonical import check_weights, signature_of, sweep
from ...graph.layout import channels_first
from ...model import Model
from ...record import Event, TensorSpec
from . import spatial  # noqa: F401  (adds its rows to TABLE)
from .network import MOST_NUMBERS, Network, Value, layer_name, real
from .operators import TABLE
from .reader import Entry, TfliteReader

__all__ = ["load_tflite"]

PIXELS = (0.0, 255.0)


def load_tflite(path: Path, signature: str | None = None) -> Model:
    """Read a TFLite file, float or quantized.

    Args:
        signature: which of the file's signatures, by name; may be left out where it has one.

    Raises:
        MissingExtra: the LiteRT package, whose schema of the format is used, is not installed.
        InputError: the file has several signatures and none, or one that it lacks, was chosen.
        ModelError: the file is damaged or hostile, or has an operator that no Model can hold.
    """
    file = TfliteReader(path, signature)
    g = Network((file.entry(file.inputs[0][1]).shape or (1,))[0])
    known: dict[int, Value] = {}
    specs = []
    for name, number in file.inputs:
        entry = file.entry(number)
        value = g.input(
            name, torch.empty(_batched(path, entry), dtype=_dtype(entry), device="meta")
        )
        specs.append(_spec(value, entry))
        known[number] = value if entry.grid is None else g.quantized(value, entry.grid)
    for at, operator in enumerate(file.operators()):
        for number in operator.outputs:
            if number in known:
                raise ModelError(f"{path} is damaged: tensor {number} is written twice")
        function = TABLE.get(operator.name)
        if function is None:
            raise ModelError(
                f"{path} has the operator {operator.name}, which no Model can hold: export the "
                "model without it"
            )
        inputs = [None if n is None else _read(file, g, known, n) for n in operator.inputs]
        entries = [file.entry(number) for number in operator.outputs]
        g.layer = layer_name(entries[0].name, f"layer{at}") if entries else f"layer{at}"
        g.grid = entries[0].grid if len(entries) == 1 else None
        try:
            results = function(g, operator.options, *inputs)
            results = results if isinstance(results, list) else [results]
            if len(results) != len(entries):
                raise ModelError(f"it gives {len(results)} values for {len(entries)} tensors")
            for number, entry, value in zip(operator.outputs, entries, results, strict=True):
                on_grid = entry.grid is not None and value.meta.dtype.is_floating_point
                known[number] = g.quantized(value, entry.grid) if on_grid else value
        except (InputError, MissingExtra) as error:
            raise ModelError(f"{path}: {operator.name} at '{g.layer}': {error}") from None
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"{path}: {operator.name} at '{g.layer}' cannot be read: {reason:.300}"
            ) from error
    g.layer = "output"
    g.graph.output(tuple(g.node(_read(file, g, known, n)) for _, n in file.outputs))
    return _closed(path, g, specs)


def _read(file: TfliteReader, g: Network, known: dict[int, Value], number: int) -> Value:
    """The value of a tensor; constants are known from the first use on."""
    if number not in known:
        entry = file.entry(number)
        numbers = file.constant(number)
        if numbers is None:
            raise ModelError(
                f"{file.path}: tensor '{entry.name:.200}' is read and nothing writes it before: "
                "the file is damaged, or keeps a state between runs"
            )
        if entry.grid is not None and entry.type not in ("INT32", "INT64"):
            data = real(numbers, entry.grid)
        else:
            data = torch.from_numpy(np.array(numbers))
        name = layer_name(entry.name, "constant").replace(".", "_")
        known[number] = g.constant(data, entry.grid, name)
    return known[number]


def _batched(path: Path, entry: Entry) -> tuple[int, ...]:
    if not entry.shape or min(entry.shape) < 1:
        raise ModelError(
            f"{path}: input '{entry.name:.200}' has the shape {list(entry.shape)}: a Model takes "
            "samples along a first axis"
        )
    if math.prod(entry.shape) > MOST_NUMBERS:
        raise ModelError(
            f"{path}: input '{entry.name:.200}' claims the shape {list(entry.shape)}: more numbers "
            "than any model takes"
        )
    return entry.shape


def _dtype(entry: Entry) -> torch.dtype:
    kind = "float32" if entry.grid is not None or entry.type == "FLOAT16" else entry.type.lower()
    return getattr(torch, kind)


def _spec(value: Value, entry: Entry) -> TensorSpec:
    """An input; its range is told where it is that of pixels, elsewhere it only clamps."""
    grid, span = entry.grid, None
    if grid is not None:
        ends = tuple(float(grid.scale * (n - grid.zero_point)) for n in (grid.low, grid.high))
        span = PIXELS if ends == PIXELS else None
    shape = (None, *value.shape[1:])
    dtype = str(value.meta.dtype).removeprefix("torch.")
    return TensorSpec(value.node.target, shape, dtype, _layout(shape), span)


def _layout(shape: tuple[int | None, ...]) -> str:
    return {2: "NC", 4: "NHWC"}.get(len(shape), "")


def _closed(path: Path, g: Network, specs: list[TensorSpec]) -> Model:
    try:
        module = fx.GraphModule(g.attributes, g.graph, class_name="Model").eval()
        module.graph.lint()
    except (RuntimeError, TypeError, AttributeError, KeyError) as error:
        raise ModelError(f"{path}: its tensors' names make no graph: {error}") from None
    sweep(module)
    check_weights(module)
    try:
        channels_first(module, tuple(specs))
        signature = signature_of(module, tuple(specs))
    except EdgewiseError as error:
        raise ModelError(f"{path}: {error}") from error
    outputs = tuple(replace(s, layout=_layout(s.shape)) for s in signature.outputs)
    event = Event("load", {"source": path.name})
    return Model(module, replace(signature, outputs=outputs), (event,))
