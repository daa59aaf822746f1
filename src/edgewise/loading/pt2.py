"""A ``.pt2`` file, edgewise's or torch's, becomes a Model; no code in it is ever run."""

from __future__ import annotations

from pathlib import Path

from ..model import Model
from ..pt2 import archive, export_archive
from ..pt2.zipped import ZipArchive
from ..record import Event

__all__ = ["load_pt2"]


def load_pt2(path: Path) -> Model:
    """Read a file that `Model.save` or `torch.export.save` wrote.

    Raises:
        ModelError: the file is damaged, hostile or of another format.
    """
    with ZipArchive(path) as found:
        ours = archive.DOCUMENT in found.names
    if ours:
        return Model(*archive.read(path))
    module, signature = export_archive.read(path)
    return Model(module, signature, (Event("load", {"source": path.name}),))
