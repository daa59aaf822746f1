"""A profile as findings read it: which operators multiply, which in integers, which convert."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..edge.profilers import Operator

__all__ = ["Trace"]

XNNPACK = ("Convolution", "Fully Connected", "Deconvolution", "Batch Matrix Multiply")
# Words of each runtime for operators that multiply by weights, as they begin.
PRODUCTS = {
    "onnxruntime": ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "QGemm",
                    "QLinearConv", "QLinearMatMul", "DynamicQuantizeMatMul"),
    "litert": (*XNNPACK, "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV",
               "BATCH_MATMUL"),
    "executorch": (*XNNPACK, "convolution", "addmm", "bmm", "mm", "linear"),
    "openvino": ("Convolution", "GroupConvolution", "FullyConnected", "MatMul", "Deconvolution"),
}  # fmt: skip
CONVERSIONS = {
    "onnxruntime": ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast"),
    "litert": ("Convert", "QUANTIZE", "DEQUANTIZE"),
    "executorch": ("Convert", "quantize_per", "dequantize_per"),
    "openvino": ("Convert", "FakeQuantize"),
}
LAYOUTS = {
    "onnxruntime": ("Transpose", "ReorderInput", "ReorderOutput"),
    "litert": ("Transpose", "TRANSPOSE"),
    "executorch": ("Transpose", "permute_copy"),
    "openvino": ("Reorder", "Transpose"),
}
BYTES = ("int8", "uint8")


@dataclass(frozen=True)
class Trace:
    """One file's operators on one machine.

    Attributes:
        machine: as `edgewise.edge.machine.describe` gives it.
    """

    runtime: str
    machine: Mapping[str, Any]
    operators: tuple[Operator, ...]

    @property
    def us(self) -> float:
        """What all operators take."""
        return sum(o.us for o in self.operators)

    @cached_property
    def quantized(self) -> bool:
        """Whether any operator reads or computes in 8 bits."""
        return any(self.integer(o) or set(o.inputs) & {*BYTES, "int16"} for o in self.operators)

    @cached_property
    def products(self) -> tuple[Operator, ...]:
        """Operators that multiply by weights."""
        return tuple(o for o in self.operators if o.kind.startswith(PRODUCTS[self.runtime]))

    @cached_property
    def conversions(self) -> tuple[Operator, ...]:
        """Operators that only change the type of numbers."""
        return tuple(o for o in self.operators if o.kind.startswith(CONVERSIONS[self.runtime]))

    @cached_property
    def layouts(self) -> tuple[Operator, ...]:
        """Operators that only change the order of numbers."""
        return tuple(o for o in self.operators if o.kind.startswith(LAYOUTS[self.runtime]))

    def integer(self, operator: Operator) -> bool:
        """Whether it computes in integers."""
        if operator.kind.startswith("DynamicQuantize"):
            return True
        if operator.inputs:
            return operator.inputs[0] in (*BYTES, "int16")
        words = f"{operator.kind} {operator.kernel}".upper()
        return any(w in words for w in ("QC8", "QS8", "QU8", "QD", "X8", "_I8", "_U8"))
