"""Whether a sparse network runs faster than a dense one on LiteRT, in turns on this machine.

    python -m benchmarks.sparse_execution --sparsity 0.8 0.9

MobileNetV2 in float, the given share of its 1x1 convolutions zero, as two files of the same
numbers: dense, as `edgewise.lower` writes it, and with those weights as sparse tensors before
DENSIFY operators, which is how a file asks XNNPACK for sparse inference. XNNPACK would then keep
activations channel by channel and multiply by non-zero weights alone (Elsen et al. 2020, "Fast
Sparse ConvNets", arXiv:1911.09723), from two thirds of zeros on, where the first convolution has 3
channels, strides of two are padded on all sides, and the end is a mean.

All of that is given here, and LiteRT 2.3 runs it dense nevertheless, as the list of kernels shows:
its XNNPACK turns 1x1 convolutions into fully connected layers before it looks for what can be
sparse, and these cannot. The file is smaller, and no faster.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

import numpy as np

import edgewise as ew
from edgewise.edge.profilers.litert import profile
from edgewise.edge.runners import litert

from .nets import load

OUT = Path(__file__).parent / "out" / "sparse_execution"
LEAST = 2 / 3  # zeros of a weight that is worth it


def sparsified(content: bytes) -> tuple[bytes, int]:
    """The file with sparse 1x1 convolutions before DENSIFY operators, and how many these are."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    graph = model.subgraphs[0]
    densify = schema.OperatorCodeT()
    densify.builtinCode = densify.deprecatedBuiltinCode = schema.BuiltinOperator.DENSIFY
    densify.version = 1
    model.operatorCodes.append(densify)
    added = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex].builtinCode
        if code == schema.BuiltinOperator.PAD:
            _pad_evenly(model, graph, operator)
        if code != schema.BuiltinOperator.CONV_2D:
            continue
        filter_at = operator.inputs[1]
        tensor = graph.tensors[filter_at]
        outputs, height, width, inputs = tensor.shape
        data = model.buffers[tensor.buffer].data
        if height * width != 1 or data is None:
            continue
        weight = np.frombuffer(bytes(data), np.float32).reshape(outputs, inputs)
        if (weight == 0).mean() < LEAST:
            continue
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(weight[weight != 0].tobytes(), np.uint8)
        model.buffers.append(buffer)
        sparse = schema.TensorT()
        sparse.shape, sparse.type, sparse.hasRank = tensor.shape, tensor.type, True
        sparse.name, sparse.buffer = tensor.name + b"_sparse", len(model.buffers) - 1
        sparse.sparsity = _rows(schema, weight != 0)
        graph.tensors.append(sparse)
        model.buffers[tensor.buffer].data = None
        tensor.buffer = 0
        step = schema.OperatorT()
        step.opcodeIndex = len(model.operatorCodes) - 1
        step.inputs, step.outputs = [len(graph.tensors) - 1], [filter_at]
        step.builtinOptionsType = schema.BuiltinOptions.DensifyOptions
        step.builtinOptions = schema.DensifyOptionsT()
        added.append(step)
    graph.operators = added + graph.operators
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output()), len(added)


def _pad_evenly(model, graph, operator) -> None:
    """A row and a column on each side, though a stride of two needs none at the end."""
    buffer = model.buffers[graph.tensors[operator.inputs[1]].buffer]
    buffer.data = np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32).view(np.uint8).reshape(-1)
    before, after = (graph.tensors[i] for i in (operator.inputs[0], operator.outputs[0]))
    after.shape = [before.shape[0], before.shape[1] + 2, before.shape[2] + 2, before.shape[3]]


def _rows(schema, stays: np.ndarray):
    """Compressed rows: outputs, height and width dense, inputs sparse."""
    found = schema.SparsityParametersT()
    found.traversalOrder, found.blockMap = [0, 1, 2, 3], []
    found.dimMetadata = []
    for size in (len(stays), 1, 1):
        dense = schema.DimensionMetadataT()
        dense.format, dense.denseSize = schema.DimensionType.DENSE, size
        found.dimMetadata.append(dense)
    last = schema.DimensionMetadataT()
    last.format, last.denseSize = schema.DimensionType.SPARSE_CSR, 0
    last.arraySegmentsType = last.arrayIndicesType = schema.SparseIndexVector.Int32Vector
    last.arraySegments, last.arrayIndices = schema.Int32VectorT(), schema.Int32VectorT()
    last.arraySegments.values = np.r_[0, stays.sum(1).cumsum()].astype(np.int32)
    last.arrayIndices.values = np.nonzero(stays)[1].astype(np.int32)
    found.dimMetadata.append(last)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.8])
    parser.add_argument("--runs", type=int, default=100)
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    net = load("mobilenet_v2")
    for layer in net.module.layers():
        if getattr(layer, "pad_end", False):
            layer.pad_end, layer.padding = False, (1, 1)
    model = ew.load(net.module, net.example)
    layers = {
        node.args[1].target.removesuffix(".weight") for node in model.graph.graph.nodes
        if node.op == "call_function" and "conv2d" in str(node.target)
        and model.graph.get_parameter(node.args[1].target).shape[2:].numel() == 1
    }  # fmt: skip
    for amount in options.sparsity:
        sparse = ew.Sparsify(dict.fromkeys(sorted(layers), amount))(model)
        dense_file, sparse_file = OUT / f"dense_{amount}.tflite", OUT / f"sparse_{amount}.tflite"
        ew.lower(sparse, "litert", dense_file)
        content, count = sparsified(dense_file.read_bytes())
        sparse_file.write_bytes(content)
        compared(dense_file, sparse_file, net.inputs[:4], amount, count, options.runs)


def compared(
    dense: Path, sparse: Path, x: np.ndarray, amount: float, count: int, runs: int
) -> None:
    """Both files on the same input, timed in turns; then the kernels that the sparse one runs."""
    runners = [litert.open(path, 1) for path in (dense, sparse)]
    shape = runners[0].signature.inputs[0].shape
    one = x[:1] if shape[1] == 3 else np.ascontiguousarray(x[:1].transpose(0, 2, 3, 1))
    a, b = (runner.run(one)[0] for runner in runners)
    seconds = np.empty((runs, 2))
    for i in range(-5, runs):
        for j, runner in enumerate(runners):
            start = time.perf_counter()
            runner.run(one)
            seconds[i, j] = time.perf_counter() - start
    ratio = np.median(seconds[:, 1] / seconds[:, 0])
    low, high = np.quantile(seconds[:, 1] / seconds[:, 0], (0.25, 0.75))
    print(
        f"{amount:.0%} zero, {count} sparse convolutions: largest difference "
        f"{np.abs(a - b).max():.2g}; sparse / dense {ratio:.2f} ({low:.2f} to {high:.2f}), dense "
        f"{1000 * np.median(seconds[:, 0]):.1f} ms; bytes {dense.stat().st_size:,} and "
        f"{sparse.stat().st_size:,}",
        flush=True,
    )
    for operators in profile(sparse, 1, iter([(one,)] * 5), 1)[:1]:
        for kind, times in Counter(operator.kind for operator in operators).most_common():
            print(f"  {times:3} x {kind}", flush=True)


if __name__ == "__main__":
    main()
