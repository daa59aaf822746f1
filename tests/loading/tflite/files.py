"""TFLite files made operator by operator with the schema's own object API.

    net = Made()
    x = net.input(1, 4, 4, 3)
    y = net.operator("MEAN", [x, net.constant(np.int32([1, 2]))], "ReducerOptions", keepDims=True)
    net.write(path, y)

Shapes of what operators give may be left to LiteRT, which works them out when it opens the file;
but XNNPACK takes only what has its shape in the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

__all__ = ["Made", "original"]

VERSIONS = {"BROADCAST_TO": 2}  # of operators that were never at 1


class Made:
    """One or more subgraphs under way; operators go into the last."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.operatorCodes, self.model.subgraphs = [], []
        self.model.buffers = [schema.BufferT()]
        self.model.signatureDefs = []
        self.subgraph()

    @property
    def graph(self) -> Any:
        return self.model.subgraphs[-1]

    def subgraph(self) -> None:
        graph = schema.SubGraphT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [], []
        self.model.subgraphs.append(graph)

    def tensor(
        self,
        shape: tuple[int, ...],
        dtype: str = "FLOAT32",
        data: bytes | None = None,
        grid: tuple | None = None,
        name: str = "",
    ) -> int:
        """Args: grid: scale(s), zero point(s) and, for several, their axis."""
        tensor = schema.TensorT()
        tensor.shape, tensor.type = list(shape), getattr(schema.TensorType, dtype)
        tensor.name = name or f"t{len(self.graph.tensors)}"
        tensor.hasRank = True
        if grid is not None:
            quantization = schema.QuantizationParametersT()
            scale, zero_point, *axis = grid
            quantization.scale = [float(s) for s in np.atleast_1d(scale)]
            quantization.zeroPoint = [int(z) for z in np.atleast_1d(zero_point)]
            quantization.quantizedDimension = axis[0] if axis else 0
            tensor.quantization = quantization
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data, np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def input(self, *shape: int, dtype: str = "FLOAT32", grid: tuple | None = None) -> int:
        index = self.tensor(shape, dtype, grid=grid, name=f"input{len(self.graph.inputs)}")
        self.graph.inputs.append(index)
        return index

    def constant(self, array: Any, grid: tuple | None = None, name: str = "") -> int:
        array = np.asarray(array)
        dtype = array.dtype.name.upper()
        return self.tensor(array.shape, dtype, array.tobytes(), grid, name)

    def operator(
        self,
        operator: str,
        inputs: list[int],
        options: str = "",
        *,
        results: list[int] | None = None,
        dtype: str = "FLOAT32",
        grid: tuple | None = None,
        name: str = "",
        shape: tuple[int, ...] = (1,),
        custom: str = "",
        **values: Any,
    ) -> int:
        """Add an operator; its first result, a new tensor unless `results` are given."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, operator)
        code.deprecatedBuiltinCode, code.version = (
            min(code.builtinCode, 127),
            VERSIONS.get(operator, 1),
        )
        code.customCode = custom or None
        self.model.operatorCodes.append(code)
        added = schema.OperatorT()
        added.opcodeIndex = len(self.model.operatorCodes) - 1
        added.inputs = inputs
        added.outputs = (
            [self.tensor(shape, dtype, None, grid, name)] if results is None else results
        )
        if options:
            table = getattr(schema, f"{options}T")()
            for field, value in values.items():
                setattr(table, field, value)
            added.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            added.builtinOptions = table
        self.graph.operators.append(added)
        return added.outputs[0]

    def signature(self, key: str, subgraph: int = 0) -> None:
        found = schema.SignatureDefT()
        found.signatureKey, found.subgraphIndex, found.inputs, found.outputs = key, subgraph, [], []
        for names, tensors in (
            (found.inputs, self.model.subgraphs[subgraph].inputs),
            (found.outputs, self.model.subgraphs[subgraph].outputs),
        ):
            for i, index in enumerate(tensors):
                entry = schema.TensorMapT()
                entry.name, entry.tensorIndex = f"{key}_{i}", index
                names.append(entry)
        self.model.signatureDefs.append(found)

    def write(self, path: Path, *outputs: int) -> Path:
        self.graph.outputs.extend(outputs)
        builder = flatbuffers.Builder()
        builder.Finish(self.model.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))
        return path


def original(path: Path, *inputs: np.ndarray) -> list[np.ndarray]:
    """What LiteRT gives for each sample, as it stores it."""
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    results = []
    for sample in zip(*inputs, strict=True):
        for detail, array in zip(interpreter.get_input_details(), sample, strict=True):
            interpreter.set_tensor(detail["index"], array[None])
        interpreter.invoke()
        results.append(
            [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
        )
    return [np.stack(parts) for parts in zip(*results, strict=True)]
