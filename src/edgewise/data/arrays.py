"""Arrays: `.npz` files, and numpy arrays or torch tensors in memory."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..record import Signature
from .labels import encode
from .options import Options
from .split import Batch, Parts

__all__ = [
    "Arrays",
    "is_memory",
    "is_npz",
    "make_parts",
    "open_memory",
    "open_npz",
    "to_inputs",
    "to_targets",
]

TARGETS = ("y", "label", "labels", "target")


@dataclass(frozen=True, eq=False)
class Arrays:
    """Samples that lie in memory: one array an input, and perhaps targets."""

    name: str
    inputs: tuple[np.ndarray, ...]
    targets: np.ndarray | None = None
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.inputs[0])

    @property
    def labelled(self) -> bool:
        return self.targets is not None

    @property
    def classes(self) -> np.ndarray | None:
        y = self.targets
        return y if y is not None and y.ndim == 1 and y.dtype == np.int64 else None

    def read(self, indices: np.ndarray) -> Batch:
        targets = None if self.targets is None else self.targets[indices]
        return tuple(array[indices] for array in self.inputs), targets

    def where(self, index: int) -> str:
        return f"sample {index} of {self.name}"

    def fit(self, signature: Signature) -> Arrays:
        return self


def is_npz(source: Any) -> bool:
    return isinstance(source, Path) and source.suffix == ".npz"


def open_npz(path: Path, options: Options, signature: Signature | None) -> Parts:
    """Read the arrays of an ``.npz`` file that are inputs or targets; nothing is unpickled."""
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise DataError(f"{path} holds one bare array: save it as .npz under the name x")
        with file:
            needed = _roles(file.files, signature, path.name)
            keys = {key for inputs, target in needed.values() for key in (*inputs, target) if key}
            _refuse_too_big(path, {f"{key}.npy" for key in keys}, file.zip.infolist())
            arrays = {key: file[key] for key in keys}
    except DataError:
        raise
    except Exception as error:  # the parsers raise many kinds on a file that is damaged
        reason = str(error)
        if "pickle" in reason:
            reason = "it holds Python objects, which are never unpickled; save arrays of numbers"
        raise DataError(f"{path} cannot be read as .npz: {reason}") from error
    return make_parts(_pick(arrays, needed), options, signature, path.name)


def is_memory(source: Any) -> bool:
    return isinstance(source, tuple | Mapping) or _is_array(source)


def open_memory(source: Any, options: Options, signature: Signature | None) -> Parts:
    """Take arrays as they are: ``x``, ``(x, y)``, ``((x, y), (x_test, y_test))`` or a mapping."""
    name = "the arrays"
    if isinstance(source, Mapping):
        picked = _pick(source, _roles([*source], signature, name))
        return make_parts(picked, options, signature, name)
    if _is_array(source):
        return make_parts({"whole": ((source,), None)}, options, signature, name)
    if len(source) == 2 and all(isinstance(part, tuple) and len(part) == 2 for part in source):
        named = zip(("training", "evaluation"), source, strict=True)
        return make_parts(
            {role: (_inputs(x), y) for role, (x, y) in named}, options, signature, name
        )
    if not source:
        raise DataError("an empty tuple holds no data: give (x, y)")
    *x, y = source if len(source) > 1 else (*source, None)
    inputs = _inputs(x[0]) if len(x) == 1 else tuple(x)
    return make_parts({"whole": (inputs, y)}, options, signature, name)


def to_inputs(values: tuple[Any, ...], name: str) -> tuple[np.ndarray, ...]:
    """Each as a numpy array of numbers.

    Raises:
        DataError: an array of text or objects, or one that is no array.
    """
    arrays = tuple(_numpy(value, name) for value in values)
    for array in arrays:
        if array.dtype.kind not in "fiub":
            raise DataError(f"{name} has an input of dtype {array.dtype}: give an array of numbers")
        if array.ndim == 0:
            raise DataError(f"{name} has a bare number for an input: the first axis counts samples")
    return arrays


def to_targets(value: Any, name: str) -> np.ndarray:
    """Targets as int64 classes, float32 values, or text that is still to be encoded.

    A column of integers or text, shape (n, 1), becomes (n,), which is how classes are counted.

    Raises:
        DataError: targets of objects.
    """
    array = _numpy(value, name)
    if array.ndim == 0:
        raise DataError(f"{name} has a bare number for targets: the first axis counts samples")
    if array.dtype.kind != "f" and array.shape[1:] == (1,):
        array = array.reshape(-1)
    if array.dtype.kind in "US":
        return array
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    if array.dtype.kind not in "iub":
        raise DataError(f"{name} has targets of dtype {array.dtype}: give numbers or text")
    return array.astype(np.int64)


def _roles(
    keys: Collection[str], signature: Signature | None, name: str
) -> dict[str, tuple[tuple[str, ...], str | None]]:
    """For each role, the keys of its inputs and of its targets."""
    wanted = [("x",)]
    if signature is not None:
        wanted.insert(0, tuple(spec.name for spec in signature.inputs))
    found = {}
    for suffix in ("", "_train", "_val", "_test"):
        inputs = next((w for w in wanted if all(n + suffix in keys for n in w)), None)
        if inputs is None:
            continue
        targets = [t + suffix for t in TARGETS if t + suffix in keys and t not in inputs]
        if len(targets) > 1:
            raise DataError(f"{name} has the targets {', '.join(targets)}: keep one of them")
        found[suffix] = (tuple(n + suffix for n in inputs), targets[0] if targets else None)
    if not found:
        listed = ", ".join(sorted(keys)[:8]) or "nothing"
        also = "" if signature is None else f" or {', '.join(wanted[0])}"
        raise DataError(
            f"{name} has no input: found {listed}; name the arrays x and y{also}, or x_train, "
            "y_train, x_test, y_test"
        )
    held = found.get("_test") or found.get("_val")
    rest = found.get("_train") or found.get("")
    if held is None or rest is None:
        return {"evaluation": held} if held else {"whole": rest}
    return {"training": rest, "evaluation": held}


def make_parts(
    roles: Mapping[str, tuple[tuple[Any, ...], Any]],
    options: Options,
    signature: Signature | None,
    name: str,
) -> Parts:
    """Check the arrays and encode text targets, alike in every role."""
    inputs = {role: to_inputs(x, name) for role, (x, _) in roles.items()}
    targets = {role: to_targets(y, name) for role, (_, y) in roles.items() if y is not None}
    for role, arrays in inputs.items():
        lengths = {len(a) for a in (*arrays, *([targets[role]] if role in targets else []))}
        if len(lengths) > 1:
            raise DataError(
                f"{name} has inputs and targets of different lengths "
                f"({', '.join(map(str, sorted(lengths)))}): each sample needs one of each"
            )
    labels: tuple[str, ...] = ()
    if any(y.dtype.kind in "US" for y in targets.values()):
        codes, labels = encode([*targets.values()], options.classes, signature, name)
        targets = dict(zip(targets, codes, strict=True))
    return Parts(
        {role: Arrays(name, arrays, targets.get(role), labels) for role, arrays in inputs.items()}
    )


def _pick(
    arrays: Mapping[str, Any], needed: dict[str, tuple[tuple[str, ...], str | None]]
) -> dict[str, tuple[tuple[Any, ...], Any]]:
    return {
        role: (tuple(arrays[key] for key in keys), None if target is None else arrays[target])
        for role, (keys, target) in needed.items()
    }


def _inputs(x: Any) -> tuple[Any, ...]:
    return x if isinstance(x, tuple) else (x,)


def _is_array(value: Any) -> bool:
    """A numpy array or a torch tensor."""
    return isinstance(value, np.ndarray) or hasattr(value, "detach")


def _numpy(value: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{name} has something that is no array of numbers: {error}") from None


def _refuse_too_big(path: Path, members: set[str], directory: list[Any]) -> None:
    """Refuse arrays that do not fit in memory before a byte is unpacked."""
    size = sum(info.file_size for info in directory if info.filename in members)
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if size > memory:
            raise DataError(
                f"the arrays of {path} need {size / 1e9:.0f} GB, this machine has "
                f"{memory / 1e9:.0f} GB of memory: give a folder of images or a torch Dataset"
            )
