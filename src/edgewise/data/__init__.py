"""Real data: what calibrates, trains and judges a model.

    load_data(source) -> Data -> .calibration | .training | .evaluation -> .batches(size)

One file is one kind of source: `arrays` (``.npz`` and memory), `images`, `table`, `torch`,
`factory`. Each opens its source as `Source`s that are read by index; `divide` makes splits of
them, and `fit` turns what is stored into what the model takes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import DataError
from ..record import Signature
from . import arrays, factory, images, table, torch
from .divide import divide
from .options import Options
from .split import ROLES, Data, Parts, Source, Split

__all__ = ["Data", "Source", "Split", "as_data", "load_data"]


@dataclass(frozen=True)
class Kind:
    """One kind of source.

    Attributes:
        accepts: whether a value is of this kind.
        open: reads it.
        options: the options that mean something for it.
    """

    accepts: Callable[[Any], bool]
    open: Callable[[Any, Options, Signature | None], Parts]
    options: tuple[str, ...]


KINDS = (
    Kind(arrays.is_npz, arrays.open_npz, ("classes",)),
    Kind(images.is_folder, images.open_folder, ("classes", "resize")),
    Kind(table.is_table, table.open_table, ("target", "classes")),
    Kind(torch.is_torch, torch.open_torch, ()),
    Kind(arrays.is_memory, arrays.open_memory, ("classes",)),
)


def load_data(
    source: Any,
    signature: Signature | None = None,
    *,
    target: str | None = None,
    classes: Iterable[object] | None = None,
    resize: int | Literal["squash"] | None = None,
    scale: float | None = None,
    normalize: tuple[Sequence[float] | float, Sequence[float] | float] | None = None,
    calibration: int = 256,
    seed: int = 0,
) -> Data:
    """Open data and divide them into splits, fitted to a model if its signature is given.

    `source` is one of:

    - an ``.npz`` file with ``x`` and ``y``, or ``x_train``, ``y_train``, ``x_test``, ``y_test``;
      a model with several inputs takes arrays by its inputs' names instead of ``x``;
    - a folder of images by class, ``folder/<class>/*.png`` or ``.jpg``, perhaps below ``train``
      and ``test`` (or ``val``); images in no class folder have no targets;
    - a ``.csv``, ``.tsv`` or ``.parquet`` table;
    - ``"package.module:factory"``, called without arguments, for any other of these;
    - arrays in memory, numpy or torch: ``x``, ``(x, y)``, ``((x, y), (x_test, y_test))``, or a
      mapping named like the ``.npz``;
    - a torch Dataset or DataLoader;
    - a mapping from ``"calibration"``, ``"training"`` or ``"evaluation"`` to any of these.

    Test samples are the evaluation split. Where there are none, 20 % are held out, drawn by class.
    Calibration samples are drawn from the training part, balanced by class, and never from the
    evaluation part. `Data.notes` says what was done.

    Args:
        signature: of the model; see `Data.fit` for what is converted and what is refused.
        target: the column of a table to be predicted; default: label, target, y or the last.
        classes: names of the classes in the order of the model's outputs, when it is not the
            signature's or the sorted one.
        resize: for images of another size than the model's. An integer scales the shorter side
            to that many pixels and cuts out the centre; "squash" scales both sides.
        scale: factor on every number; 1 gives uint8 pixels to a float model as they are.
        normalize: mean and standard deviation of pixels in 0..1, one number each or one a
            channel, as the model was trained; uint8 pixels are scaled by 1/255 first.
        calibration: the most samples to calibrate with.
        seed: of every draw.

    Raises:
        DataError: data that are missing, damaged, empty or inconsistent, or do not fit the model.
        InputError: an option that cannot be used.

    Example:
        >>> import numpy as np
        >>> data = load_data((np.zeros((10, 4), np.float32), np.arange(10) % 2))
        >>> len(data.training), len(data.evaluation)
        (8, 2)
    """
    names = None if classes is None else tuple(str(name) for name in classes)
    options = Options(target, names, resize, scale, normalize)
    if factory.is_factory(source):
        source = factory.make(source)
    if isinstance(source, Data):
        if options != Options():
            raise DataError("the data are loaded already: give the options where they are loaded")
        data = source
    else:
        data = divide(_open(source, options, signature), options, calibration, seed)
    return data if signature is None else data.fit(signature)


def as_data(source: Any, signature: Signature) -> Data:
    """`source` as Data that fit the model: Data, or anything that `load_data` takes."""
    return load_data(source, signature)


def _open(source: Any, options: Options, signature: Signature | None) -> Parts:
    """Find the kind of a source and open it."""
    if isinstance(source, Mapping) and source and set(source) <= set(ROLES):
        return _open_roles(source, options, signature)
    if isinstance(source, str | os.PathLike):
        source = Path(source)
        if not source.exists():
            raise DataError(f"{source} does not exist: {_takes()}")
    kind = next((kind for kind in KINDS if kind.accepts(source)), None)
    if kind is None:
        what = source if isinstance(source, Path) else f"a {type(source).__name__}"
        raise DataError(f"{what} is no data that can be read: {_takes()}")
    for name in ("target", "classes", "resize"):
        if getattr(options, name) is not None and name not in kind.options:
            raise DataError(f"{name}= means nothing for this kind of data: leave it out")
    parts = kind.open(source, options, signature)
    if options.classes is not None and not all(s.labels for s in parts.sources.values()):
        raise DataError("classes= names classes, and these targets have no names: leave it out")
    return parts


def _open_roles(source: Mapping[str, Any], options: Options, signature: Signature | None) -> Parts:
    """Open one source a role; each is used whole."""
    sources: dict[str, Source] = {}
    notes: list[str] = []
    for role, value in source.items():
        parts = _open(
            factory.make(value) if factory.is_factory(value) else value, options, signature
        )
        if set(parts.sources) != {"whole"}:
            raise DataError(f"the {role} data are divided into parts themselves: give one part")
        sources[role] = parts.sources["whole"]
        notes += parts.notes
    return Parts(sources, tuple(notes))


def _takes() -> str:
    return (
        "give an .npz, .csv, .tsv or .parquet file, a folder of images by class, "
        "package.module:factory, arrays, or a torch Dataset"
    )
