"""Quantized files as other tools write them that run slower than float: made from a float file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["at_run_time", "by_onnxruntime", "inputs_only", "signed"]

PER_CHANNEL = 5  # version of CONV_2D with float activations and a scale for each output channel


def signed(source: Path, path: Path, samples: np.ndarray) -> Path:
    """ONNX Runtime's own tool asked for int8 activations as QOperators (S8S8)."""
    from onnxruntime import quantization as tool

    kinds = {"activation_type": tool.QuantType.QInt8, "weight_type": tool.QuantType.QInt8}
    form = tool.QuantFormat.QOperator
    return by_onnxruntime(source, path, samples, quant_format=form, per_channel=True, **kinds)


def by_onnxruntime(source: Path, path: Path, samples: np.ndarray, **options: Any) -> Path:
    """ONNX Runtime's own tool; without options its defaults: a scale for each whole weight."""
    import onnx
    from onnxruntime import quantization as tool

    (given,) = onnx.load(source).graph.input

    class Reader(tool.CalibrationDataReader):
        rest = iter(samples)

        def get_next(self):
            sample = next(self.rest, None)
            return None if sample is None else {given.name: sample[None]}

    tool.quantize_static(source, path, Reader(), **options)
    return path


def inputs_only(source: Path, path: Path) -> Path:
    """Q/DQ before each layer and none behind it, with int8 activations, as OpenVINO fuses it."""
    import onnx
    from onnx import helper, numpy_helper

    file = onnx.load(source)
    graph, nodes = file.graph, []
    graph.initializer.append(numpy_helper.from_array(np.float32(0.02), "scale"))
    graph.initializer.append(numpy_helper.from_array(np.int8(0), "zero"))
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            name, grid = f"{node.name}-in", ["scale", "zero"]
            nodes += [
                helper.make_node("QuantizeLinear", [node.input[0], *grid], [f"{name}-q"]),
                helper.make_node("DequantizeLinear", [f"{name}-q", *grid], [name]),
            ]
            node.input[0] = name
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(file, path)
    return path


def at_run_time(source: Path, path: Path, kinds: Sequence[str] = ("CONV_2D",)) -> Path:
    """LiteRT's convolutions with int8 weights and float activations, which it quantizes itself.

    Args:
        kinds: of operators whose weights are rounded, ``"DEPTHWISE_CONV_2D"`` another.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    file = schema.ModelT.InitFromObj(schema.Model.GetRootAs(source.read_bytes()))
    graph = file.subgraphs[0]
    wanted = {getattr(schema.BuiltinOperator, kind) for kind in kinds}
    for operator in graph.operators:
        code = file.operatorCodes[operator.opcodeIndex]
        if code.builtinCode not in wanted:
            continue
        code.version = max(code.version, PER_CHANNEL)
        weight = graph.tensors[operator.inputs[1]]
        # The output channels are the last axis of a depthwise weight, the first of others.
        depthwise = code.builtinCode == schema.BuiltinOperator.DEPTHWISE_CONV_2D
        axis = 3 if depthwise else 0
        buffer = file.buffers[weight.buffer]
        values = np.asarray(buffer.data, np.uint8).view(np.float32).reshape(weight.shape)
        others = tuple(i for i in range(4) if i != axis)
        scale = np.maximum(np.abs(values).max(others, keepdims=True) / 127, 1e-9)
        buffer.data = np.rint(values / scale).astype(np.int8).view(np.uint8).ravel()
        weight.type = schema.TensorType.INT8
        weight.quantization = schema.QuantizationParametersT()
        weight.quantization.scale = scale.ravel().astype(np.float32)
        weight.quantization.zeroPoint = np.zeros(scale.size, np.int64)
        weight.quantization.quantizedDimension = axis
    builder = flatbuffers.Builder(0)
    builder.Finish(file.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(builder.Output())
    return path
