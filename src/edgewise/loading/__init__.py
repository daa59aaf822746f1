"""Loading: a model from anywhere becomes a `Model`. One file a kind of source."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import InputError, ModelError
from ..model import Model
from .normalize import normalized

__all__ = ["load"]

TAKES = "give an nn.Module, a .pt2, .keras, .h5, .tflite or .onnx file, or package.module:factory"

# A file's suffix -> the module of this folder that reads it, by its function `load_<module>`.
DOORS = {
    ".pt2": "pt2",
    ".keras": "keras",
    ".h5": "keras",
    ".hdf5": "keras",
    ".tflite": "tflite",
    ".onnx": "onnx",
}
WITH_SIGNATURES = frozenset({"tflite"})


def load(
    source: Any,
    example: Any = None,
    *,
    weights: str | os.PathLike[str] | None = None,
    normalize: tuple[Sequence[float] | float, Sequence[float] | float] | None = None,
    labels: Sequence[str] = (),
    signature: str | None = None,
) -> Model:
    """Load a trained model.

    Args:
        source: an `nn.Module`; a ``.pt2`` file, written by edgewise or by `torch.export.save`; a
            ``.keras``, ``.h5``, ``.tflite`` or ``.onnx`` file, float or quantized;
            ``"package.module:factory"``, called without arguments, for a module; or a Model.
        example: one input tensor (or a tuple of them), batch axis first; only its shape and dtype
            matter. Needed for a module.
        weights: a file with the module's state dict (``.pt``, ``.pth``, ``.th``, read without
            running code from it, or ``.safetensors``).
        normalize: mean and standard deviation, one number each or one a channel, of pixels in
            0..1. They are put into the graph, which then takes raw uint8 pixels.
        labels: names of the outputs' classes.
        signature: which signature of a ``.tflite`` file; needed where it has several.

    Raises:
        ModelError: the source cannot be read or exported, or holds NaN or infinity.
        InputError: an option that does not fit the source.
    """
    model = _open(source, example, weights, {"signature": signature} if signature else {})
    if normalize is not None:
        model = normalized(model, *normalize)
    if labels:
        model = replace(model, signature=replace(model.signature, labels=tuple(labels)))
    return model


def _open(
    source: Any,
    example: Any,
    weights: str | os.PathLike[str] | None,
    options: dict[str, str],
) -> Model:
    import torch

    if options and not isinstance(source, str | os.PathLike):
        raise InputError("only a .tflite file has signatures to choose from: leave signature out")
    if isinstance(source, Model):
        return source
    if isinstance(source, str) and _is_factory(source):
        source = _make(source)
    if isinstance(source, torch.nn.Module):
        from .torch import load_module, load_weights

        if weights is not None:
            load_weights(source, weights)
        if example is None:
            raise InputError(
                "a module needs an example input: give example=torch.zeros(1, 3, 32, 32), "
                "or --input 3,32,32 on the command line"
            )
        return load_module(source, example)
    if not isinstance(source, str | os.PathLike):
        raise ModelError(f"a {type(source).__name__} is not a model: {TAKES}")
    path = Path(source)
    door = DOORS.get(path.suffix.lower())
    if door is None:
        raise ModelError(f"{path} cannot be loaded: {TAKES}")
    if not path.is_file():
        raise ModelError(f"{path} does not exist: {TAKES}")
    if weights is not None or example is not None:
        raise InputError(f"{path} holds weights and shapes itself: leave weights and example out")
    if options and door not in WITH_SIGNATURES:
        raise InputError(f"{path} has no signatures to choose from: leave signature out")
    return getattr(import_module(f".{door}", __name__), f"load_{door}")(path, **options)


def _is_factory(source: str) -> bool:
    from ..data.factory import is_factory

    return is_factory(source)


def _make(name: str) -> Any:
    from ..data.factory import make
    from ..errors import DataError

    try:
        return make(name)
    except DataError as error:
        raise ModelError(str(error)) from error
