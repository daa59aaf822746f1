"""edgewise: compress a trained model until it fits the device, and prove it there.

    model = ew.load(net, example=torch.zeros(1, 3, 32, 32))
    small = ew.Quantize("int8")(model, data)
    artifact = ew.lower(small, "litert", "net.tflite")
    print(ew.measure(artifact, data=data))

Names are imported on first use, so that ``import edgewise`` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

# name -> module that has it
_HOMES = {
    "AWQ": "compress.smooth",
    "Artifact": "edge.artifact",
    "Cluster": "compress.cluster",
    "Condense": "compress.condense",
    "Bundle": "edge.bundle",
    "Budget": "goals",
    "Data": "data",
    "Dequantize": "compress.dequantize",
    "Distill": "train",
    "EdgewiseError": "errors",
    "Equalize": "compress.equalize",
    "Factorize": "compress.factorize",
    "Finetune": "train",
    "Fitted": "fitting",
    "Ladder": "compress.ladder",
    "Latency": "costing",
    "Measurement": "record",
    "Model": "model",
    "Optimizer": "train",
    "Prune": "compress.prune",
    "PruneRounds": "train",
    "Quantize": "compress.quantize",
    "Recalibrate": "compress.recalibrate",
    "Recipe": "step",
    "RoundWeights": "compress.round_weights",
    "Session": "train",
    "Shorten": "compress.shorten",
    "Streaming": "edge.stream",
    "Training": "train",
    "Sparsify": "compress.sparsify",
    "SmoothQuant": "compress.smooth",
    "allocate": "compress.allocate",
    "coded_size": "compress.coded_size",
    "bundle": "bundling",
    "capabilities": "lowering.capabilities",
    "compare": "measuring",
    "deploy": "deploying",
    "explain": "explaining",
    "fit": "fitting",
    "fresh": "train",
    "inspect": "inspection",
    "layer_costs": "explaining.costs",
    "load": "loading",
    "load_data": "data",
    "lower": "lowering",
    "measure": "measuring",
    "open_bundle": "edge.bundle",
    "report": "reporting",
    "sensitivity": "compress.damage",
    "write_back": "train",
}

__all__ = [
    "AWQ",
    "Artifact",
    "Budget",
    "Bundle",
    "Cluster",
    "Condense",
    "Data",
    "Dequantize",
    "Distill",
    "EdgewiseError",
    "Equalize",
    "Factorize",
    "Finetune",
    "Fitted",
    "Ladder",
    "Latency",
    "Measurement",
    "Model",
    "Optimizer",
    "Prune",
    "PruneRounds",
    "Quantize",
    "Recalibrate",
    "Recipe",
    "RoundWeights",
    "Session",
    "Shorten",
    "SmoothQuant",
    "Sparsify",
    "Streaming",
    "Training",
    "allocate",
    "bundle",
    "capabilities",
    "coded_size",
    "compare",
    "deploy",
    "explain",
    "fit",
    "fresh",
    "inspect",
    "layer_costs",
    "load",
    "load_data",
    "lower",
    "measure",
    "open_bundle",
    "report",
    "sensitivity",
    "write_back",
]

if TYPE_CHECKING:
    from .bundling import bundle
    from .compress.allocate import allocate
    from .compress.cluster import Cluster
    from .compress.coded_size import coded_size
    from .compress.condense import Condense
    from .compress.damage import sensitivity
    from .compress.dequantize import Dequantize
    from .compress.equalize import Equalize
    from .compress.factorize import Factorize
    from .compress.ladder import Ladder
    from .compress.prune import Prune
    from .compress.quantize import Quantize
    from .compress.recalibrate import Recalibrate
    from .compress.round_weights import RoundWeights
    from .compress.shorten import Shorten
    from .compress.smooth import AWQ, SmoothQuant
    from .compress.sparsify import Sparsify
    from .costing import Latency
    from .data import Data, load_data
    from .deploying import deploy
    from .edge.artifact import Artifact
    from .edge.bundle import Bundle, open_bundle
    from .edge.stream import Streaming
    from .errors import EdgewiseError
    from .explaining import explain
    from .explaining.costs import layer_costs
    from .fitting import Fitted, fit
    from .goals import Budget
    from .inspection import inspect
    from .loading import load
    from .lowering import lower
    from .lowering.capabilities import capabilities
    from .measuring import compare, measure
    from .model import Model
    from .record import Measurement
    from .reporting import report
    from .step import Recipe
    from .train import (
        Distill,
        Finetune,
        Optimizer,
        PruneRounds,
        Session,
        Training,
        fresh,
        write_back,
    )  # fmt: skip


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'edgewise' has no attribute '{name}'")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
