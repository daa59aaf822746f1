"""A ``.pt2`` file becomes a Model: one of our own, or one of torch.export.save."""

from __future__ import annotations

import os
from pathlib import Path

from ..model import Model
from ..record import Event
from . import archive, export_archive
from .zipped import ZipArchive

__all__ = ["load_pt2"]


def load_pt2(path: str | os.PathLike[str]) -> Model:
    """Read a ``.pt2`` file that may come from anyone. Nothing in it is executed or unpickled.

    Raises:
        ModelError: the file is no ``.pt2``, damaged, hostile, or holds what a Model cannot.
    """
    with ZipArchive(path) as entries:
        is_ours = archive.DOCUMENT in entries.names
    if is_ours:
        return Model(*archive.read(path))
    module, signature = export_archive.read(path)
    return Model(module, signature, (Event("load", {"source": Path(path).name}),))
