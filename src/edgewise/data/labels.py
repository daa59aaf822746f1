"""Classes with names: from names to indices, and into the order of the model's outputs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..errors import DataError
from ..record import Signature

__all__ = ["class_order", "encode", "order_for"]


def class_order(
    names: Iterable[str],
    classes: tuple[str, ...] | None,
    signature: Signature | None,
    where: str,
) -> tuple[str, ...]:
    """The classes in the order of their indices: as given, as the model has them, else sorted.

    Sorting is what torchvision and Keras do with folders. Names that are numbers are refused when
    their sorted place is not their value: "10" comes before "2", and both readings are common.

    Raises:
        DataError: a name that is not among `classes`, or numbers as above.
    """
    found = sorted(set(names))
    if classes is not None:
        strange = [name for name in found if name not in classes]
        if strange:
            raise DataError(
                f"{where} has the class '{strange[0]}', which is not among the classes given: "
                f"{_some(classes)}"
            )
        return classes
    if signature is not None and set(found) <= set(signature.labels):
        return signature.labels
    if all(name.isdecimal() for name in found) and [int(n) for n in found] != [*range(len(found))]:
        raise DataError(
            f"the classes of {where} are numbers whose sorted place is not their value "
            f"({_some(found)}): give classes= with all names in the order of the model's outputs"
        )
    return tuple(found)


def encode(
    columns: list[np.ndarray],
    classes: tuple[str, ...] | None,
    signature: Signature | None,
    where: str,
) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Text targets, one array a split, as int64 indices into the names that are returned."""
    columns = [np.char.decode(c, "utf-8") if c.dtype.kind == "S" else c for c in columns]
    found = {str(name) for column in columns for name in column.flat}
    names = class_order(found, classes, signature, where)
    index = {name: i for i, name in enumerate(names)}
    codes = [np.array([index[str(n)] for n in c.flat], np.int64).reshape(c.shape) for c in columns]
    return codes, names


def order_for(
    labels: tuple[str, ...], signature: Signature, where: str, *, given: bool
) -> np.ndarray | None:
    """The model's class index for each of the data's; None where they are the same.

    Args:
        given: the caller has put `labels` in the order of the model's outputs.

    Raises:
        DataError: the model does not know a class, or has another number of them.
    """
    if not labels:
        return None
    if signature.labels and not given:
        strange = [name for name in labels if name not in signature.labels]
        if strange:
            raise DataError(
                f"{where} has the class '{strange[0]}', which the model does not know; "
                f"its classes are {_some(signature.labels)}"
            )
        return np.array([signature.labels.index(name) for name in labels], np.int64)
    shape = signature.outputs[0].shape
    if len(shape) == 2 and shape[1] not in (1, len(labels)):
        raise DataError(
            f"{where} has {len(labels)} classes and the model {shape[1]} outputs: give classes= "
            "with all names in the order of the model's outputs"
        )
    return None


def _some(names: Iterable[str]) -> str:
    """The first few names."""
    names = [str(name) for name in names]
    return ", ".join(names[:8]) + (f", ... ({len(names)} in all)" if len(names) > 8 else "")
