"""Small files of the kinds that other tools write and that run slower than float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

import edgewise as ew

SHAPE = (3, 16, 16)


def net() -> nn.Module:
    """Two convolutions and a linear layer."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    ).eval()  # fmt: skip


def model() -> ew.Model:
    return ew.load(net(), example=torch.zeros(1, *SHAPE))


def samples(count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, *SHAPE)).astype(np.float32)


def by_onnxruntime(
    folder: Path, form: str, activations: str, only: list[str] | None = None
) -> Path:
    """What ONNX Runtime's own tool makes, ``form`` being ``"QDQ"`` or ``"QOperator"``."""
    from onnxruntime import quantization as tool

    source, path = folder / "float.onnx", folder / f"{form}-{activations}.onnx"
    ew.lower(model(), "onnxruntime", source)

    class Reader(tool.CalibrationDataReader):
        rest = iter(samples())

        def get_next(self):
            sample = next(self.rest, None)
            return None if sample is None else {"input": sample[None]}

    tool.quantize_static(
        source, path, Reader(), quant_format=tool.QuantFormat[form], per_channel=True,
        activation_type=tool.QuantType[activations], weight_type=tool.QuantType.QInt8,
        op_types_to_quantize=only,
    )  # fmt: skip
    return path


def with_inputs_only(folder: Path) -> Path:
    """Q/DQ before each layer and none behind it, with int8 activations, as for OpenVINO."""
    import onnx
    from onnx import helper, numpy_helper

    path = folder / "openvino-style.onnx"
    file = onnx.load(ew.lower(model(), "onnxruntime", folder / "plain.onnx").path)
    graph, nodes = file.graph, []
    graph.initializer.append(numpy_helper.from_array(np.float32(0.02), "scale"))
    graph.initializer.append(numpy_helper.from_array(np.int8(0), "zero"))
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            read, name = node.input[0], f"{node.name}-in"
            grid = ["scale", "zero"]
            nodes.append(helper.make_node("QuantizeLinear", [read, *grid], [f"{name}-q"]))
            nodes.append(helper.make_node("DequantizeLinear", [f"{name}-q", *grid], [name]))
            node.input[0] = name
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(file, path)
    return path


def at_run_time(folder: Path) -> Path:
    """Float activations and int8 weights in LiteRT's convolutions."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    path = folder / "dynamic.tflite"
    source = ew.lower(model(), "litert", folder / "float.tflite").path
    file = schema.ModelT.InitFromObj(schema.Model.GetRootAs(source.read_bytes()))
    graph = file.subgraphs[0]
    for operator in graph.operators:
        code = file.operatorCodes[operator.opcodeIndex]
        if code.builtinCode == schema.BuiltinOperator.CONV_2D:
            code.version = 5
            weight = graph.tensors[operator.inputs[1]]
            buffer = file.buffers[weight.buffer]
            values = np.asarray(buffer.data, np.uint8).view(np.float32).reshape(weight.shape)
            scale = np.abs(values).max((1, 2, 3)) / 127
            rounded = np.rint(values / scale[:, None, None, None]).astype(np.int8)
            buffer.data = rounded.view(np.uint8).ravel()
            weight.type = schema.TensorType.INT8
            weight.quantization = schema.QuantizationParametersT()
            weight.quantization.scale = scale.astype(np.float32)
            weight.quantization.zeroPoint = np.zeros(len(scale), np.int64)
    builder = flatbuffers.Builder(0)
    builder.Finish(file.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(builder.Output())
    return path
