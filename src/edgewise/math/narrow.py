"""Floats of 16 and 8 bits.

float16 is IEEE 754 binary16; bfloat16 the upper half of a float32; the two of 8 bits are those of
Micikevicius et al. 2022, "FP8 Formats for Deep Learning" (arXiv:2209.05433), table 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .affine import SMALLEST_SCALE, power_of_two

__all__ = ["narrow"]


def narrow(weight: Tensor, number: torch.dtype, axis: int) -> Tensor:
    """The nearest numbers of that kind, half to even; what is too large ends at the largest.

    Args:
        weight: float32.
        number: ``torch.float16``, ``bfloat16``, ``float8_e4m3fn`` or ``float8_e5m2``; for those of
            8 bits each channel along `axis` is divided by a power of two first, the least that
            brings it into range, and multiplied after.

    Returns:
        Shaped like `weight`, of dtype `number`; of bfloat16 for numbers of 8 bits, which holds
        them and their scale exactly.
    """
    most = torch.finfo(number).max
    if number.itemsize > 1:
        return weight.clamp(-most, most).to(number)
    other = [i for i in range(weight.ndim) if i != axis]
    largest = weight.double().abs().amax(other, keepdim=True)
    scale = power_of_two((largest / most).clamp(min=SMALLEST_SCALE))
    return ((weight / scale).clamp(-most, most).to(number).float() * scale).bfloat16()
