"""The schemes by name: how wide a weight is, and when what flows between layers is quantized."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..errors import InputError

__all__ = ["SCHEMES", "Scheme", "scheme_of"]


@dataclass(frozen=True)
class Scheme:
    """One way to quantize.

    Attributes:
        name: as the user gives it.
        weights: their width in bits.
        activations: ``"static"`` (calibrated), ``"dynamic"`` (at run time) or ``"float"``.
        grouped: whether a few inputs share one scale of the weight, not a whole output channel.
        width: of activations in bits; those of 16 are symmetric.
        power_of_two: whether scales are powers of two: fixed-point numbers.
        number: what a weight of 16 or 8 bits is that stays a float.
        affine: whether a narrow weight's grid has a zero point, not 0 in its middle.
    """

    name: str
    weights: int
    activations: str
    grouped: bool = False
    width: int = 8
    power_of_two: bool = False
    number: torch.dtype | None = None
    affine: bool = False


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme("int8", 8, "static"),
        Scheme("int8-pow2", 8, "static", power_of_two=True),
        Scheme("16x8", 8, "static", width=16),
        Scheme("int8-dynamic", 8, "dynamic"),
        Scheme("int4-dynamic", 4, "dynamic", grouped=True),
        Scheme("int8-weights", 8, "float"),
        Scheme("int4-weights", 4, "float", grouped=True),
        Scheme("int4-affine", 4, "float", grouped=True, affine=True),
        Scheme("float16", 16, "float", number=torch.float16),
        Scheme("bfloat16", 16, "float", number=torch.bfloat16),
        Scheme("float8-e4m3", 8, "float", number=torch.float8_e4m3fn),
        Scheme("float8-e5m2", 8, "float", number=torch.float8_e5m2),
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
