"""A Model as one ``.pt2`` file: graph as JSON, weights as safetensors, no pickle anywhere.

The file is a zip archive (stored, fixed time stamps: equal Models give equal bytes) with

- ``edgewise.json``: format, graph (see `graphs`), which tensors are parameters, signature,
  lineage;
- ``weights.safetensors``: the tensors that the graph reads, by their dotted names;
- ``samples.safetensors``: a few real inputs by the names of the inputs; may be missing.

What is read is checked in this order, each step before the next allocates anything: the zip's
table of contents, the JSON's types, the tensors' headers, every name and argument of the graph,
and last that the graph runs at two batch sizes and gives what the signature says.
"""

from __future__ import annotations

import math
import os
import secrets
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar

import msgspec
import numpy as np
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from torch import fx, nn

from ..errors import ModelError
from ..graph.canonical import check
from ..record import DTYPES, Event, Signature, TensorSpec
from . import graphs
from .bounds import check_bounds, quiet
from .zipped import ZipArchive

__all__ = ["DOCUMENT", "WEIGHT_DTYPES", "check_signature", "read", "write"]

T = TypeVar("T")

FORMAT = 1
DOCUMENT, WEIGHTS, SAMPLES = "edgewise.json", "weights.safetensors", "samples.safetensors"

MAX_DOCUMENT = 8 << 20
MAX_TENSORS = 8 << 30
MAX_HEADER = 16 << 20

WEIGHT_DTYPES = {
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.int8,
    torch.int16, torch.int32, torch.int64, torch.bool,
}  # fmt: skip


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``edgewise.json``."""

    format: Literal[1]
    graph: graphs.Graph
    parameters: tuple[str, ...]
    signature: Signature
    lineage: tuple[Event, ...]


class _Format(msgspec.Struct):
    format: int


def write(
    path: str | os.PathLike[str],
    module: fx.GraphModule,
    signature: Signature,
    lineage: tuple[Event, ...] = (),
    samples: tuple[np.ndarray, ...] | None = None,
) -> None:
    """Write a Model's parts; a file of that name is replaced only by a complete one.

    Raises:
        ModelError: the graph holds something that `read` would refuse, or the file cannot be
            written.
    """
    path = Path(path)
    tensors = _tensors(module)
    graph = graphs.describe(module)
    graphs.build(graph, tensors)  # what could not be read again is refused here
    check_signature(signature)
    parameters = tuple(
        n for n, t in tensors.items() if isinstance(t, nn.Parameter) and t.is_floating_point()
    )
    document = Document(FORMAT, graph, parameters, signature, lineage)
    entries = {
        DOCUMENT: msgspec.json.encode(document, order="sorted"),
        WEIGHTS: safetensors.torch.save(
            {
                name: t.detach().clone(memory_format=torch.contiguous_format)
                for name, t in tensors.items()
            }
        ),
    }
    if samples is not None:
        names = [spec.name for spec in signature.inputs]
        arrays = dict(zip(names, map(np.ascontiguousarray, samples), strict=False))
        _samples(arrays, signature)
        entries[SAMPLES] = safetensors.numpy.save(arrays)
    with _replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            info = zipfile.ZipInfo(name)  # dated 1980-01-01
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)


def read(
    path: str | os.PathLike[str],
) -> tuple[fx.GraphModule, Signature, tuple[Event, ...], tuple[np.ndarray, ...] | None]:
    """Read what `write` wrote. Nothing in the file is executed or unpickled.

    Returns:
        the graph in eval mode, the signature, the lineage, and one array an input or None.

    Raises:
        ModelError: the file is damaged, hostile, of another format, or its weights hold NaN or
            infinity.
    """
    with ZipArchive(path) as archive:
        unknown = set(archive.names) - {DOCUMENT, WEIGHTS, SAMPLES}
        if unknown:
            raise ModelError(f"there is an entry that does not belong there: {min(unknown)!a:.200}")
        document = _document(archive.read(DOCUMENT, MAX_DOCUMENT))
        signature = document.signature
        check_signature(signature)
        weights = _load(safetensors.torch.load, archive, WEIGHTS)
        samples = None
        if SAMPLES in archive.names:
            samples = _samples(_load(safetensors.numpy.load, archive, SAMPLES), signature)
        module = graphs.build(document.graph, _parameters(weights, document.parameters))
        count = len(module.graph.find_nodes(op="placeholder"))
        if count != len(signature.inputs):
            raise ModelError(f"the graph has {count} inputs, its signature {len(signature.inputs)}")
        with quiet():
            check_bounds(module, signature.inputs)
            check(module, signature)
    return module, signature, document.lineage, samples


def _tensors(module: fx.GraphModule) -> dict[str, torch.Tensor]:
    """What the graph reads, by dotted name."""
    held = {**dict(module.named_parameters(remove_duplicate=False)), **_buffers(module)}
    names = sorted({n.target for n in module.graph.nodes if n.op == "get_attr"})
    missing = [name for name in names if name not in held]
    if missing:
        raise ModelError(f"'{missing[0]}' is no parameter or buffer of the module")
    return {name: held[name] for name in names}


def _buffers(module: fx.GraphModule) -> dict[str, torch.Tensor]:
    return dict(module.named_buffers(remove_duplicate=False))


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` once it is complete and on disk.

    Raises:
        ModelError: it cannot be written; nothing is left behind.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        try:
            with partial.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror or error}") from None


def _document(text: bytes) -> Document:
    try:
        found = msgspec.json.decode(text, type=_Format).format
        if found != FORMAT:
            raise ModelError(
                f"of format {found}, this edgewise reads format {FORMAT}: install the edgewise "
                "that wrote it, or a newer one"
            )
        return msgspec.json.decode(text, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"{DOCUMENT} is not valid: {error}") from None


def check_signature(signature: Signature) -> None:
    """Refuse specs that no array can have, and names that a terminal would not just print.

    Raises:
        ModelError: with the name.
    """
    for spec in signature.inputs + signature.outputs:
        if not _is_sound(spec):
            raise ModelError(
                f"the signature of {spec.name!a:.200} has a name, shape or dtype that no array has"
            )
    inputs = [spec.name for spec in signature.inputs]
    if not inputs or len(set(inputs)) < len(inputs):
        raise ModelError("the signature has no input, or two of one name")
    if not all(label.isprintable() for label in signature.labels):
        raise ModelError("a class label has characters that cannot be printed")


def _is_sound(spec: TensorSpec) -> bool:
    sizes = [1 if size is None else size for size in spec.shape]
    return (
        spec.name.isprintable()
        and 0 < len(spec.name) <= 200
        and spec.dtype in (*DTYPES, "float64")
        and len(sizes) <= 16
        and all(size > 0 for size in sizes)
        and math.prod(sizes) < 2**31
        and None not in spec.shape[1:]
        and (spec.layout == "" or (spec.layout.isalnum() and len(spec.layout) == len(sizes)))
    )


def _load(parse: Callable[[bytes], dict[str, T]], archive: ZipArchive, name: str) -> dict[str, T]:
    """Parse safetensors, which checks every tensor's place against the blob's length."""
    blob = archive.read(name, MAX_TENSORS)
    header = int.from_bytes(blob[:8], "little")
    if header > min(MAX_HEADER, len(blob)):
        raise ModelError(f"{name} is damaged: a header of {header} bytes")
    try:
        return parse(blob)
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{name} is damaged: {error}") from None


def _parameters(
    weights: dict[str, torch.Tensor], names: tuple[str, ...]
) -> dict[str, torch.Tensor]:
    """The tensors, those of `names` made parameters.

    Raises:
        ModelError: a dtype that weights do not have, or a parameter that is missing or holds
            integers.
    """
    for name, tensor in weights.items():
        if tensor.dtype not in WEIGHT_DTYPES:
            raise ModelError(f"'{name:.200}' is of {tensor.dtype}, which weights are not")
    for name in names:
        if name not in weights or not weights[name].is_floating_point():
            raise ModelError(f"'{name:.200}' is listed as a parameter, but is no float tensor")
        weights[name] = nn.Parameter(weights[name])
    return weights


def _samples(arrays: dict[str, np.ndarray], signature: Signature) -> tuple[np.ndarray, ...]:
    """The sample inputs in the signature's order, checked against it."""
    found = tuple(arrays.get(spec.name) for spec in signature.inputs)
    for spec, array in zip(signature.inputs, found, strict=True):
        fits = (
            array is not None
            and array.dtype == spec.dtype
            and array.ndim == len(spec.shape)
            and all(
                want in (None, have) for want, have in zip(spec.shape, array.shape, strict=True)
            )
            and array.size > 0
        )
        if not fits or len(arrays) != len(found):
            raise ModelError(f"the samples do not fit the input '{spec.name}'")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ModelError(f"the sample of '{spec.name}' contains NaN or infinity")
    batches = zip(signature.inputs, found, strict=True)
    if len({len(array) for spec, array in batches if spec.shape[:1] == (None,)}) > 1:
        raise ModelError("the samples of the inputs differ in number")
    return found
