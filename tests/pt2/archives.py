"""Taking zip files and JSON apart, and putting them together wrong."""

from __future__ import annotations

import copy
import io
import json
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from edgewise.loading.torch import load_module
from edgewise.model import Model
from edgewise.record import Event

from .nets import examples, net

__all__ = [
    "DOCUMENT", "SAMPLES", "WEIGHTS", "document", "entries", "leaves", "model", "replaced", "saved",
    "with_document", "zipped",
]  # fmt: skip

DOCUMENT, WEIGHTS, SAMPLES = "edgewise.json", "weights.safetensors", "samples.safetensors"


def entries(data: bytes) -> dict[str, bytes]:
    """Name -> content of each entry of a zip file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    """Write the entries as a zip file with right checksums."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def leaves(value: Any, path: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """Every value of a JSON document that holds no other, with the keys that lead to it."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, key))
    else:
        yield path, value


def replaced(document: Any, path: tuple, value: Any) -> Any:
    """A copy of a JSON document with another value in one place."""
    changed = copy.deepcopy(document)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


@cache
def model(name: str = "small") -> Model:
    """The net loaded, with a lineage and samples."""
    found = load_module(net(name), examples(name, 1))
    lineage = (*found.lineage, Event("prune", {"ratio": 0.5, "seeds": [1, 2]}, {"stem.0": "first"}))
    samples = tuple(x.numpy() for x in examples(name, 3))
    return replace(found, lineage=lineage, samples=samples)


@cache
def saved(name: str = "small") -> dict[str, bytes]:
    """The entries of a Model's file."""
    with tempfile.TemporaryDirectory() as folder:
        return entries(model(name).save(Path(folder) / "net.pt2").read_bytes())


def document(name: str = "small") -> dict:
    """Its ``edgewise.json``, to be changed."""
    return json.loads(saved(name)[DOCUMENT])


def with_document(path: Path, changed: Any) -> Path:
    """The small Model's file with another ``edgewise.json``."""
    return zipped(path, {**saved(), DOCUMENT: json.dumps(changed).encode()})
