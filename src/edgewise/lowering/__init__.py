"""Lowering: a Model becomes the file that one runtime runs fast. One file a runtime.

`lower` is the verb. A lowering module has ``write(module, signature, batch, path, *, half)``: the
folded graph in, the runtime's file(s) at `path` out, returning the layouts that it changed.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..edge import runners
from ..edge.agreement import LIMITS
from ..edge.artifact import Artifact
from ..errors import Disagreement, InputError
from ..graph.fold import fold
from ..model import Model
from ..record import Event
from .agreement import agree, first_disagreement, precision_of, samples_for

__all__ = ["lower"]


def lower(
    model: Model,
    runtime: str,
    path: str | os.PathLike[str],
    *,
    batch: int = 1,
    data: Any = None,
    half: bool = False,
) -> Artifact:
    """Write a Model as the file that a runtime runs, run it there, and compare.

    Args:
        model: float or quantized; what is quantized in it is quantized in the file.
        runtime: ``"onnxruntime"``, ``"litert"``, ``"executorch"`` or ``"openvino"``.
        path: where to write; the suffix must be the runtime's (``.onnx``, ``.tflite``, ``.pte``,
            ``.xml``). The record is written beside it as ``<path>.json``.
        batch: the batch size that the file takes.
        data: inputs on which file and Model are compared (anything that `load_data` takes). The
            default is the samples that the Model keeps, and random ones if it keeps none.
        half: store what is float as float16.

    Returns:
        The artifact, with its agreement in the record.

    Raises:
        InputError: an unknown runtime, a wrong suffix or a folder that cannot be written.
        MissingExtra: the runtime is not installed.
        UnsupportedOperator: an operator that the runtime lacks; names it and its layer.
        Disagreement: the file computes something else than the Model; names the first layer where
            that begins. Nothing is left at `path`.
    """
    path = _target(runtime, path)
    if batch < 1:
        raise InputError(f"batch must be at least 1, found {batch}")
    runners.probe(runtime)
    samples, source = samples_for(model, data)
    # In the same folder, so that the finished files move into place at once or not at all.
    with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as scratch:
        folder = Path(scratch)
        artifact = write(model, runtime, folder / path.name, batch=batch, half=half)
        agreement = agree(model, artifact, samples, source)
        if agreement.mean_steps > LIMITS[artifact.precision]:
            where = first_disagreement(
                model,
                lambda part, at: write(part, runtime, folder / f"part{at}{path.suffix}"),
                samples,
            )
            raise Disagreement(
                f"the {runtime} file differs from the model by {agreement.mean_steps:.3g} "
                f"quantization steps on average (at most {LIMITS[artifact.precision]} may be), "
                f"beginning at layer '{where}': please report this layer; --keep-float '{where}' "
                "or another runtime may serve until then"
            )
        for file in artifact.files:
            os.replace(folder / file, path.parent / file)
    artifact = replace(artifact, path=path, agreement=agreement)
    artifact.save_record()
    return artifact


def write(
    model: Model, runtime: str, path: Path, *, batch: int = 1, half: bool = False
) -> Artifact:
    """The artifact written, not yet compared with its Model."""
    module = importlib.import_module(f".{runners.get(runtime).module}", __name__)
    precision = precision_of(model.graph)
    half = half or precision == "float16"
    layouts = module.write(fold(model.module()), model.signature, batch, path, half=half)
    if half and precision == "float32":
        precision = "float16"
    params: dict[str, Any] = {"runtime": runtime, "batch": batch} | ({"half": True} if half else {})
    return Artifact.of(
        runtime, path, model.signature,
        layouts=layouts, batch=batch, precision=precision,
        lineage=(*model.lineage, Event("lower", params)),
    )  # fmt: skip


def _target(runtime: str, path: str | os.PathLike[str]) -> Path:
    suffix = runners.get(runtime).suffixes[0]
    path = Path(path)
    if path.suffix != suffix:
        raise InputError(
            f"{runtime} files end in {suffix}, not in '{path.suffix}': "
            f"write to {path.with_suffix(suffix)}"
        )
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist: create it first")
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a file")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"the folder {path.parent} cannot be written: choose another")
    return path
