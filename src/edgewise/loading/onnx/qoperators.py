"""Operators on integers, written out: dequantize, the plain operator, quantize.

The QOperator forms of ONNX and of ONNX Runtime's own domain (its ``docs/ContribOperators.md``);
and products of dynamically quantized values, as ONNX Runtime's ``quantize_dynamic`` writes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from ...errors import ModelError
from .graph import Node

__all__ = ["dynamic_products", "written_out"]

MICROSOFT = "com.microsoft:"
VERSION = 13  # of the operators written


@dataclass(frozen=True)
class Form:
    """Where a node has its operands: each at `operands` with scale and zero point behind it.

    Attributes:
        plain: the operator on real numbers.
        result: position of the output's scale and zero point.
        axes: the channel axis of each operand, where it has a scale a channel.
        bias: position of integers with the scale of the product.
    """

    plain: str
    operands: tuple[int, ...]
    result: int
    axes: tuple[int, ...] = (1, 1)
    bias: int | None = None


FORMS = {
    "QLinearConv": Form("Conv", (0, 3), 6, (1, 0), bias=8),
    "QLinearMatMul": Form("MatMul", (0, 3), 6, (-2, -1)),
    f"{MICROSOFT}QLinearAdd": Form("Add", (0, 3), 6),
    f"{MICROSOFT}QLinearMul": Form("Mul", (0, 3), 6),
    f"{MICROSOFT}QGemm": Form("Gemm", (0, 3), 7, (1, 1), bias=6),
    f"{MICROSOFT}QLinearSigmoid": Form("Sigmoid", (0,), 3),
    f"{MICROSOFT}QLinearSoftmax": Form("Softmax", (0,), 3),
    f"{MICROSOFT}QLinearLeakyRelu": Form("LeakyRelu", (0,), 3),
    f"{MICROSOFT}QLinearGlobalAveragePool": Form("GlobalAveragePool", (0,), 3),
    f"{MICROSOFT}QLinearAveragePool": Form("AveragePool", (0,), 3),
}


def written_out(node: Node, constants: dict[str, torch.Tensor]) -> Iterator[Node]:
    """The node, or the nodes that it stands for; scales of biases are added to `constants`.

    Raises:
        ModelError: a form that real numbers cannot express.
    """
    kind = node.kind.removeprefix(MICROSOFT)
    if node.kind != kind and kind in ("QuantizeLinear", "DequantizeLinear"):
        yield replace(node, kind=kind, version=VERSION)
    elif node.kind == f"{MICROSOFT}QLinearConcat":
        yield from _concat(node)
    elif node.kind in FORMS:
        yield from _written(node, FORMS[node.kind], constants)
    else:
        yield node


def _written(node: Node, form: Form, constants: dict[str, torch.Tensor]) -> Iterator[Node]:
    if node.attributes.get("channels_last", 0):
        raise ModelError(f"node '{node.name}' ({node.kind}) lays channels last: lay them first")
    names = []
    for at, axis in zip(form.operands, form.axes, strict=False):
        names.append(f"{node.outputs[0]}\0{at}")
        yield _dequantize(node, at, names[-1], axis)
    if form.bias is not None and len(node.inputs) > form.bias and node.inputs[form.bias]:
        bias = node.inputs[form.bias]
        first, second = (_scale(node, constants, at + 1) for at in form.operands)
        scale = f"{bias}\0scale of {node.outputs[0]}"
        constants[scale] = (first.reshape(-1) * second.reshape(-1)).to(torch.float32)
        names.append(f"{node.outputs[0]}\0bias")
        yield replace(
            node, kind="DequantizeLinear", inputs=(bias, scale), outputs=(names[-1],),
            attributes={"axis": 0}, version=VERSION,
        )  # fmt: skip
    result = f"{node.outputs[0]}\0real"
    yield replace(node, kind=form.plain, inputs=tuple(names), outputs=(result,), version=VERSION)
    yield _quantize(node, result, node.inputs[form.result : form.result + 2])


def _concat(node: Node) -> Iterator[Node]:
    names = []
    for at in range(2, len(node.inputs), 3):
        names.append(f"{node.outputs[0]}\0{at}")
        yield _dequantize(node, at, names[-1], 1)
    result = f"{node.outputs[0]}\0real"
    yield replace(node, kind="Concat", inputs=tuple(names), outputs=(result,), version=VERSION)
    yield _quantize(node, result, node.inputs[:2])


def _dequantize(node: Node, at: int, output: str, axis: int) -> Node:
    return replace(
        node, kind="DequantizeLinear", inputs=node.inputs[at : at + 3], outputs=(output,),
        attributes={"axis": axis}, version=VERSION,
    )  # fmt: skip


def _quantize(node: Node, real: str, grid: tuple[str, ...]) -> Node:
    return replace(
        node, kind="QuantizeLinear", inputs=(real, *grid), attributes={}, version=VERSION
    )


def _scale(node: Node, constants: Mapping[str, torch.Tensor], at: int) -> torch.Tensor:
    if node.inputs[at] not in constants:
        raise ModelError(f"node '{node.name}' ({node.kind}) has a bias but computes its scales")
    return constants[node.inputs[at]]


INTEGER = {"MatMulInteger": "MatMul", "ConvInteger": "Conv"}


def dynamic_products(nodes: list[Node], constants: Mapping[str, torch.Tensor]) -> list[Node]:
    """Products of dynamically quantized values with constant weights, as ``quantize_dynamic``
    writes them: DynamicQuantizeLinear, MatMulInteger or ConvInteger, Cast, and a Mul by the
    product of both scales. The Mul becomes the product of real numbers."""
    producer = {name: node for node in nodes for name in node.outputs}
    result: list[Node] = []
    for node in nodes:
        result += _real_product(node, producer, constants) or [node]
    return result


def _real_product(
    node: Node, producer: Mapping[str, Node], constants: Mapping[str, torch.Tensor]
) -> list[Node] | None:
    def source(name: str, *kinds: str) -> Node | None:
        found = producer.get(name)
        return found if found is not None and found.kind in kinds else None

    if node.kind != "Mul" or len(node.inputs) != 2:
        return None
    for value, factor in (node.inputs, node.inputs[::-1]):
        cast, scales = source(value, "Cast"), source(factor, "Mul")
        product = cast and source(cast.inputs[0], *INTEGER)
        if not product or not scales or len(product.inputs) < 3:
            continue
        rounding = source(product.inputs[0], "DynamicQuantizeLinear")
        weight, zero = product.inputs[1], product.inputs[3:4]
        if rounding is None or not all(name in constants for name in (weight, *zero)):
            continue
        scale = next((s for s in scales.inputs if s != rounding.outputs[1]), "")
        known = scale in constants and rounding.outputs[1] in scales.inputs
        if not known or product.inputs[2] != rounding.outputs[2]:
            continue
        each = constants[scale]
        if each.numel() != 1 and not (each.ndim == 1 and product.kind == "MatMulInteger"):
            continue
        x, w = f"{node.outputs[0]}\0x", f"{node.outputs[0]}\0weight"
        take = replace(node, kind="DequantizeLinear", attributes={"axis": -1}, version=VERSION)
        return [
            replace(take, inputs=(product.inputs[0], *rounding.outputs[1:]), outputs=(x,)),
            replace(take, inputs=(weight, scale, *zero), outputs=(w,)),
            replace(product, kind=INTEGER[product.kind], inputs=(x, w), outputs=node.outputs),
        ]
    return None
