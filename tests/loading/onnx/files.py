"""Small ONNX files, made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["FLOAT", "altered", "constant", "made", "node", "value"]

FLOAT = TensorProto.FLOAT
node = helper.make_node


def constant(name: str, array) -> TensorProto:
    """An initializer; floats become float32."""
    array = np.asarray(array)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    return numpy_helper.from_array(array, name)


def value(name: str, shape=("n", 4), kind: int = FLOAT):
    """An input or output of a graph."""
    return helper.make_tensor_value_info(name, kind, shape)


def made(path: Path, nodes, constants=(), inputs=None, outputs=None, opset=17, **options) -> Path:
    """Write a file; by default from ``x`` to ``y``, both (n, 4)."""
    graph = helper.make_graph(
        nodes, "made", inputs or [value("x")], outputs or [value("y")], list(constants)
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9, **options)
    path.write_bytes(model.SerializeToString())
    return path


def altered(path: Path, change) -> Path:
    """Change the message of a file in place."""
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path
