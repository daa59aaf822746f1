"""Linears with narrow weights in the patterns that XNNPACK's partitioner takes whole.

XNNPACK rounds the input of a linear at run time, each token to its own range, and multiplies it by
int8 weights with one scale a channel, or by int4 weights with one for every few inputs. With the
input left in float it takes the weights only as float, and the file then holds them so.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import fx

from ..errors import UnsupportedOperator
from .executorch_ops import Graph
from .program import Dynamic, Op, Quant

__all__ = ["linear"]

quantized_decomposed = torch.ops.quantized_decomposed
LEAST_GROUP = 32  # inputs to a scale of int4; multiples of it are taken too


def linear(graph: Graph, op: Op, x: fx.Node, bias: fx.Node | None) -> fx.Node:
    """A linear with a quantized weight whose input is rounded at run time.

    Raises:
        UnsupportedOperator: it is not, or is in another way than XNNPACK's.
    """
    weight = op.inputs[1]
    if op.attrs.get("dynamic") != Dynamic(-128, 127, -1) or not _taken(
        weight.quant, weight.shape[1]
    ):
        raise UnsupportedOperator(
            f"executorch has no kernel for the way in which layer '{op.layer}' is quantized: "
            "quantize with target=capabilities('executorch')"
        )
    integers = graph.constant(weight.data.astype(np.int8))
    real = _grouped(graph, weight.quant, integers, weight.shape)
    return graph(torch.ops.aten.linear.default, _rounded(graph, x), real, bias)


def _taken(quant: Quant, inputs: int) -> bool:
    if quant.scale.ndim == 2:
        group = inputs // quant.scale.shape[1]
        return quant.dtype == "int4" and group % LEAST_GROUP == 0
    return quant.axis == 0 and quant.dtype == "int8"


def _rounded(graph: Graph, x: fx.Node) -> fx.Node:
    grid = graph(quantized_decomposed.choose_qparams_per_token_asymmetric.default, x, torch.int8)
    scale, zero_point = (graph.part(grid, i) for i in (0, 1))
    rest = (scale, zero_point, -128, 127, torch.int8)
    integers = graph(quantized_decomposed.quantize_per_token.default, x, *rest)
    return graph(quantized_decomposed.dequantize_per_token.default, integers, *rest, torch.float32)


def _grouped(graph: Graph, quant: Quant, integers: fx.Node, shape: tuple[int, ...]) -> fx.Node:
    scale = graph.constant(quant.scale.astype(np.float32))
    if quant.scale.ndim < 2:
        zero_point = graph.constant(quant.zero_point.astype(np.int64))
        target = quantized_decomposed.dequantize_per_channel.default
        return graph(target, integers, scale, zero_point, 0, -127, 127, torch.int8)
    zero_point = graph.constant(quant.zero_point.astype(np.int32))
    block = [1, shape[1] // quant.scale.shape[1]]
    target = torch.ops.torchao.dequantize_affine.default  # of a package that ExecuTorch imports
    return graph(
        target, integers, block, scale, zero_point, torch.int8, -8, 7, output_dtype=torch.float32
    )
