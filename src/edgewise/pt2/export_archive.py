"""Reads the ``.pt2`` files of torch.export.save (torch 2.9 and later) without torch's own loader.

torch 2.13's loader evaluates symbolic expressions with sympy and unpickles sample inputs and some
weights, so a file can run code in it. This reader takes the graph's JSON and the raw bytes of the
weights, and opens nothing else in the file. Symbolic sizes need no evaluating: the graph computes
them itself (``aten.sym_size.int``), and the shapes are found by running it.
"""

from __future__ import annotations

import math
import os
import re
from typing import TypeVar

import msgspec
import torch
from torch import fx, nn

from ..errors import ModelError
from ..graph.canonical import canonical, check_weights, layout_of, signature_of
from ..record import Signature, TensorSpec
from . import export_schema as schema
from . import graphs
from .archive import WEIGHT_DTYPES, check_signature
from .bounds import check_bounds, quiet
from .export_graph import translate
from .zipped import ZipArchive

__all__ = ["read"]

T = TypeVar("T")

MAJOR = 8
MAX_JSON = 32 << 20
MAX_TENSOR = 8 << 30


def read(path: str | os.PathLike[str]) -> tuple[fx.GraphModule, Signature]:
    """The canonical graph of an exported program, and its signature. Nothing is executed.

    A program that was exported for one batch size is taken when its graph runs at others too.

    Raises:
        ModelError: the file is damaged, hostile, of another format or version, holds something
            that can only be read by running code, or is fixed to its batch size.
    """
    with ZipArchive(path) as archive:
        files = _Files(archive)
        found = translate(files.program())
        graph = found.graph
        names = sorted({node.target for node in graph.nodes if node.op == "attribute"})
        module = graphs.build(graph, {name: files.tensor(name) for name in names}, in_place=True)
        for node in module.graph.nodes:
            if node.name in found.layers:  # canonical names nodes after their layers,
                node.meta["nn_module_stack"] = {"layer": (found.layers[node.name], "")}
            if node.name in found.dtypes:  # and looks at dtypes where operators work in place
                node.meta["val"] = torch.empty(0, dtype=getattr(torch, found.dtypes[node.name]))
        module = canonical(module)
        check_weights(module)
        signature = _signature(module, found.inputs)
        check_signature(signature)
    return module, signature


def _signature(module: fx.GraphModule, inputs: list[tuple[str, schema.TensorMeta]]) -> Signature:
    """Input specs from the file, output specs from running the graph.

    Raises:
        ModelError: an axis other than the first is dynamic, or the batch size is fixed.
    """
    shapes = {name: tuple(_size(s) for s in meta.sizes) for name, meta in inputs}
    for name, shape in shapes.items():
        if None in shape[1:]:
            raise ModelError(
                f"axis {shape.index(None, 1)} of the input '{name}' is dynamic: export it with a "
                "fixed size on every axis but the first"
            )
    fixed = [shape[0] for shape in shapes.values() if shape]
    is_dynamic = None in fixed
    if not is_dynamic:
        shapes = {n: (None, *s[1:]) if s and s[0] == fixed[0] else s for n, s in shapes.items()}
    specs = tuple(
        TensorSpec(name, shapes[name], _dtype(meta, name), layout_of(shapes[name]))
        for name, meta in inputs
    )
    check_signature(Signature(specs, ()))
    try:
        with quiet():
            check_bounds(module, specs)
            return signature_of(module, specs)
    except ModelError as error:
        if is_dynamic or not fixed:
            raise
        first = inputs[0][0]
        raise ModelError(
            f"exported for a batch of {fixed[0]} only ({error}): export it with dynamic_shapes="
            f"{{'{first}': {{0: torch.export.Dim.DYNAMIC}}}} and a batch of 2 as example"
        ) from error


def _size(size: schema.Size) -> int | None:
    kind, value = schema.only(size)
    return value if kind == "as_int" else None


def _dtype(meta: schema.TensorMeta, name: str) -> str:
    if meta.dtype not in schema.DTYPES:
        raise ModelError(f"'{name:.200}' has the unknown dtype {meta.dtype}")
    return schema.DTYPES[meta.dtype]


class _Files:
    """The entries of the archive that are read: the program, and weights one by one."""

    def __init__(self, archive: ZipArchive):
        self.archive = archive
        self.stem, self.model = self._find_model()
        self.raw: dict[str, bytearray] = {}  # entry -> bytes, which several tensors may share
        # Stored tensors may be views of one another; all together may not grow without end.
        self.budget = 4 * sum(archive.size(n) for n in archive.names) + (1 << 20)
        self.payloads = {
            name: (folder, payload)
            for folder in ("constants", "weights")
            for name, payload in self._config(folder).items()
        }

    def _find_model(self) -> tuple[str, str]:
        """The folder that everything lies in, and the model's name."""
        names = self.archive.names
        if any(n.endswith("/data.pkl") for n in names):
            raise ModelError(
                "a pickled checkpoint (of torch.save or TorchScript), which can run code when it "
                "is opened: load it in Python and give the module to edgewise.load"
            )
        models = [m for n in names if (m := re.fullmatch(r"([^/]+)/models/([^/]+)\.json", n))]
        if len(models) != 1:
            raise ModelError(
                f"holds {len(models)} exported programs where one belongs: write it with "
                "torch.export.save of torch 2.9 or later"
            )
        stem, model = models[0].groups()
        for entry, want in (("archive_format", b"pt2"), ("byteorder", b"little")):
            found = self.archive.read(f"{stem}/{entry}", 16)
            if found != want:
                raise ModelError(f"{entry} is {found!r}, expected {want!r}")
        return stem, model

    def program(self) -> schema.GraphModule:
        """The graph and its signature, the schema's version checked first."""
        entry = f"{self.stem}/models/{self.model}.json"
        text = self.archive.read(entry, MAX_JSON)
        version = _decode(text, schema.Version, entry)
        if version.schema_version.major != MAJOR:
            raise ModelError(
                f"written by torch {version.torch_version!r:.40} in schema version "
                f"{version.schema_version.major}, edgewise reads version {MAJOR}: save it again "
                "with torch 2.9 to 2.14"
            )
        return _decode(text, schema.Program, entry).graph_module

    def tensor(self, name: str) -> torch.Tensor:
        """A weight or constant from its raw bytes, contiguous.

        Raises:
            ModelError: it is missing, pickled, or larger than its bytes.
        """
        if name not in self.payloads:
            raise ModelError(f"has no data for '{name:.200}'")
        folder, payload = self.payloads[name]
        if payload.use_pickle or payload.tensor_meta is None:
            raise ModelError(
                f"'{name:.200}' is stored as a pickle, which can run code when it is opened: "
                "export the model with plain tensors"
            )
        entry = f"{self.stem}/data/{folder}/{payload.path_name}"
        if entry not in self.raw:
            self.raw[entry] = bytearray(self.archive.read(entry, MAX_TENSOR))
        tensor = self._view(self.raw[entry], payload.tensor_meta, name)
        return nn.Parameter(tensor) if payload.is_param and tensor.is_floating_point() else tensor

    def _config(self, folder: str) -> dict[str, schema.Payload]:
        entry = f"{self.stem}/data/{folder}/{self.model}_{folder}_config.json"
        return _decode(self.archive.read(entry, MAX_JSON), schema.Payloads, entry).config

    def _view(self, raw: bytearray, meta: schema.TensorMeta, name: str) -> torch.Tensor:
        dtype = getattr(torch, _dtype(meta, name))
        sizes, strides = ([_size(s) for s in sizes] for sizes in (meta.sizes, meta.strides))
        offset = _size(meta.storage_offset)
        numbers = (*sizes, *strides, offset)
        if (
            dtype not in WEIGHT_DTYPES
            or meta.layout not in schema.LAYOUTS
            or len(sizes) != len(strides)
            or len(sizes) > 16
            or not all(n is not None and 0 <= n < 2**40 for n in numbers)
        ):
            raise ModelError(f"'{name:.200}' has a dtype, layout or shape that weights do not have")
        count = math.prod(sizes)
        self.budget -= count * dtype.itemsize
        last = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
        if (
            count == 0
            or (last + 1) * dtype.itemsize > len(raw)
            or len(raw) % dtype.itemsize
            or self.budget < 0
        ):
            raise ModelError(f"'{name:.200}' of shape {sizes} does not fit its {len(raw)} bytes")
        flat = torch.frombuffer(raw, dtype=dtype)
        return flat.as_strided(sizes, strides, offset).clone(memory_format=torch.contiguous_format)


def _decode(text: bytes, kind: type[T], entry: str) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"entry '{entry}' is not valid: {error}") from None
