"""The schemes by name: how wide a weight is, and when what flows between layers is quantized."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError

__all__ = ["SCHEMES", "Scheme", "scheme_of"]


@dataclass(frozen=True)
class Scheme:
    """One way to quantize.

    Attributes:
        name: as the user gives it.
        weights: their width in bits; 16 is float16.
        activations: ``"static"`` (calibrated), ``"dynamic"`` (at run time) or ``"float"``.
        grouped: whether a few inputs share one scale of the weight, not a whole output channel.
        width: of activations in bits; those of 16 are symmetric.
    """

    name: str
    weights: int
    activations: str
    grouped: bool = False
    width: int = 8


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme("int8", 8, "static"),
        Scheme("16x8", 8, "static", width=16),
        Scheme("int8-dynamic", 8, "dynamic"),
        Scheme("int4-dynamic", 4, "dynamic", grouped=True),
        Scheme("int8-weights", 8, "float"),
        Scheme("int4-weights", 4, "float", grouped=True),
        Scheme("float16", 16, "float"),
    )
}


def scheme_of(name: str) -> Scheme:
    """The scheme of that name.

    Raises:
        InputError: there is none; names those that are.
    """
    if name not in SCHEMES:
        raise InputError(f"unknown scheme '{name}': choose one of {', '.join(SCHEMES)}")
    return SCHEMES[name]
