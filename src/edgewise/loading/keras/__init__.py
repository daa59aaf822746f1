"""Keras models, ``.keras`` (Keras 3) and ``.h5`` (Keras 2 and 3), without Keras or TensorFlow.

The file's configuration names layers, and each class of layer that Keras has is written down here
once in torch (`LAYERS`), so that nothing of the file is ever executed: a Lambda or a class of the
user's own is refused by name. Parameters have torch's names and order of axes under the layer's
name: ``conv2d_1.weight`` is Keras' ``conv2d_1/kernel``. What only training needs (dropout, noise,
augmentation, the optimizer's state) is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import ModelError
from ...graph.canonical import check_weights, signature_of
from ...graph.layout import channels_first
from ...model import Model
from ...pt2.bounds import check_bounds, quiet
from ...pt2.zipped import ZipArchive
from ...record import Event, Signature, TensorSpec
from .h5 import MAGIC, H5File
from .network import network
from .tracing import traced
from .weights import ByName, ByPlace, Weights

__all__ = ["load_keras"]

MAX_CONFIG, MAX_WEIGHTS = 64 << 20, 4 << 30


def load_keras(path: Path) -> Model:
    """Read a Keras model; what it is, its first bytes say, whatever its suffix.

    Inputs keep the framework's order of axes (``NHWC`` for images).

    Raises:
        MissingExtra: h5py is not installed.
        ModelError: the file is damaged, holds only weights, or holds a layer that is not known.
    """
    with path.open("rb") as file:
        magic = file.read(len(MAGIC))
    if magic == MAGIC:
        with H5File(path, str(path)) as file:
            try:
                return _legacy(file, path.name)
            except ModelError as error:
                raise _placed(path, error) from error
    if magic[:2] == b"PK":
        with ZipArchive(path) as archive:
            config = _json(archive.read("config.json", MAX_CONFIG))
            generation = _generation(archive)
            data = archive.read("model.weights.h5", MAX_WEIGHTS)
            with H5File(data, "model.weights.h5") as weights:
                return _built(config, ByPlace(weights), generation, path.name)
    raise ModelError(f"{path} is no Keras file: it begins neither as a zip nor as HDF5")


def _placed(path: Path, error: ModelError) -> ModelError:
    text = "".join(c if c.isprintable() else "?" for c in str(error))
    return ModelError(text if text.startswith(str(path)) else f"{path}: {text}")


def _legacy(file: H5File, source: str) -> Model:
    text = file.text("", "model_config")
    if text is None:
        raise ModelError("it holds weights only: save the whole model, by model.save")
    generation = 3 if (file.text("", "keras_version") or "2").startswith("3") else 2
    return _built(_json(text), ByName(file), generation, source)


def _generation(archive: ZipArchive) -> int:
    metadata = _json(archive.read("metadata.json", MAX_CONFIG))
    return 3 if str(metadata.get("keras_version", "3")).startswith("3") else 2


def _json(text: bytes | str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ModelError("its configuration is no JSON: the file is damaged") from None
    if not isinstance(found, dict):
        raise ModelError("its configuration is no model: the file is damaged")
    return found


def _built(config: Mapping[str, Any], weights: Weights, generation: int, source: str) -> Model:
    try:
        net = network(config.get("class_name"), config.get("config"), weights, generation)
    except RecursionError:
        raise ModelError("its configuration is nested too deeply") from None
    graph = traced(net.module, net.inputs)
    with quiet():
        check_bounds(graph, net.inputs)
    channels_first(graph, net.inputs)
    check_weights(graph)
    last = '"channels_first"' not in json.dumps(config)
    signature = signature_of(graph, net.inputs)
    layouts = (tuple(_with_layout(spec, last) for spec in specs)
               for specs in (net.inputs, signature.outputs))  # fmt: skip
    return Model(graph, Signature(*layouts), (Event("load", {"source": source}),))


def _with_layout(spec: TensorSpec, last: bool) -> TensorSpec:
    known = {2: "NC", 4: "NHWC" if last else "NCHW"}
    return replace(spec, layout=known.get(len(spec.shape), ""))
