"""A file for a real runtime, small enough to build in a test: y = x @ w in ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_onnx(path: Path, *, batch: int = 1, inputs: int = 4, outputs: int = 3) -> Path:
    """Write ``y = x @ w``, x float32 (batch, inputs), w[i, j] = i + j."""
    from onnx import TensorProto, helper, numpy_helper, save

    weight = np.add.outer(np.arange(inputs), np.arange(outputs)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, outputs])],
        [numpy_helper.from_array(weight, "w")],
    )
    opsets = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path
