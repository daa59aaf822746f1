"""The single file that a device needs: edgewise's device side in one zip that Python runs.

It is made of our own sources, is pure Python and imports nothing but the standard library, numpy
and the runtime. ``python3 edgewise.pyz`` is a worker (`edgewise.edge.worker`).
"""

from __future__ import annotations

import io
import zipfile
from functools import cache
from pathlib import Path

from ..edge import machine

__all__ = ["NAME", "runner"]

NAME = "edgewise.pyz"
PACKAGE = Path(__file__).resolve().parents[1]
PARTS = ("errors.py", "record.py", "edge")
MAIN = "from edgewise.edge.worker import main\n\nmain()\n"
ROOT = '"""The device side of edgewise."""\n'
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same bytes every time


@cache
def runner() -> bytes:
    """The file's bytes, the same for the same sources."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        _add(archive, "__main__.py", MAIN)
        _add(archive, "edgewise/__init__.py", ROOT)
        for path in _sources():
            _add(archive, f"edgewise/{path.relative_to(PACKAGE).as_posix()}", path.read_text())
        # So that a device says which edgewise measured it.
        if version := machine.versions().get("edgewise"):
            described = f"Metadata-Version: 2.1\nName: edgewise\nVersion: {version}\n"
            _add(archive, f"edgewise-{version}.dist-info/METADATA", described)
    return made.getvalue()


def _sources() -> list[Path]:
    tops = [PACKAGE / part for part in PARTS]
    files = [top for top in tops if top.is_file()]
    return sorted(files + [path for top in tops for path in top.rglob("*.py")])


def _add(archive: zipfile.ZipFile, name: str, text: str) -> None:
    info = zipfile.ZipInfo(name, EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, text)
