"""Every operator gives what LiteRT gives, at a batch that the file was not made for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

from edgewise.loading import load
from edgewise.loading.tflite.operators import TABLE

from .files import Made, original

SAMPLES = 3
random = np.random.default_rng(0)


def real(*shape: int) -> np.ndarray:
    return random.normal(size=shape).astype(np.float32)


def ints(*values) -> np.ndarray:
    return np.array(values, np.int32)


CASES: dict[str, tuple[Callable[[Made, int], int], tuple[int, ...]]] = {}


def case(
    name: str, *shape: int, options: str = "", more: tuple = (), first: bool = False, **values
):
    """One operator on an input of this shape, then these constants (or before it)."""

    def write(net: Made, x: int) -> int:
        constants = [net.constant(c) for c in more]
        operator = name.partition("-")[0]
        inputs = [*constants, x] if first else [x, *constants]
        return net.operator(operator, inputs, options, **values)

    CASES[name] = write, shape


UNARY = """
    ABS CEIL COS EXP FLOOR HARD_SWISH LOGISTIC NEG ROUND SIGN SIN SQUARE TANH RELU RELU6 ELU
    RELU_N1_TO_1 RELU_0_TO_1 LOG_SOFTMAX
"""
for unary in UNARY.split():
    case(unary, 1, 4, 5)
case("LEAKY_RELU", 1, 5, options="LeakyReluOptions", alpha=0.3)
case("SOFTMAX", 1, 4, 5, options="SoftmaxOptions", beta=1.0)
case("SOFTMAX-beta", 1, 5, options="SoftmaxOptions", beta=0.5)
case("GELU-tanh", 1, 9, options="GeluOptions", approximate=True)
case("GELU", 1, 9, options="GeluOptions", approximate=False)
case("PRELU", 1, 4, 4, 3, more=(np.abs(real(1, 1, 3)),))
case("L2_NORMALIZATION", 1, 8, options="L2NormOptions")

PAIRS = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions"}
for binary, kind in PAIRS.items():
    case(binary, 1, 4, 3, options=kind, more=(np.abs(real(3)) + 1,), fusedActivationFunction=1)
    case(f"{binary}-first", 1, 4, 3, options=kind, more=(real(1, 4, 3),), first=True)
case("MAXIMUM", 1, 4, 3, options="MaximumMinimumOptions", more=(real(3),))
case("MINIMUM", 1, 4, 3, options="MaximumMinimumOptions", more=(real(4, 3),))
case("SQUARED_DIFFERENCE", 1, 4, 3, options="SquaredDifferenceOptions", more=(real(3),))
case("ADD_N", 1, 4, options="AddNOptions", more=(real(1, 4), real(1, 4)))

for reduction in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"):
    case(f"{reduction}-1", 1, 4, 3, options="ReducerOptions", more=(ints(1),))
    case(f"{reduction}-2", 1, 4, 4, 3, options="ReducerOptions", more=(ints(-3, 2),), keepDims=True)
case("MEAN-batch", 1, 4, 3, options="ReducerOptions", more=(ints(0, 1),), keepDims=True)

case("RESHAPE", 1, 4, 6, options="ReshapeOptions", more=(ints(1, 3, 8),))
case("RESHAPE-rest", 1, 4, 6, options="ReshapeOptions", more=(ints(1, -1),))
case("RESHAPE-joins-the-batch", 1, 4, 6, options="ReshapeOptions", more=(ints(4, 6),))
case("SQUEEZE", 1, 1, 1, 6, options="SqueezeOptions", squeezeDims=[1, 2])
case("SQUEEZE-all", 1, 1, 6, options="SqueezeOptions")
case("EXPAND_DIMS", 1, 6, options="ExpandDimsOptions", more=(ints(-1),))
case("EXPAND_DIMS-first", 1, 6, options="ExpandDimsOptions", more=(ints(0),))
case("TRANSPOSE", 1, 4, 5, 6, options="TransposeOptions", more=(ints(0, 2, 3, 1),))
case("TRANSPOSE-batch", 1, 4, 5, options="TransposeOptions", more=(ints(1, 0, 2),))
case("BROADCAST_TO", 1, 1, 5, options="BroadcastToOptions", more=(ints(1, 4, 5),))
case("BROADCAST_TO-batch", 1, 5, options="BroadcastToOptions", more=(ints(4, 5),))
case("TILE", 1, 2, 5, options="TileOptions", more=(ints(1, 3, 2),))
case("PAD", 1, 4, 5, 2, options="PadOptions", more=(ints((0, 0), (1, 2), (3, 0), (0, 0)),))
case("PADV2", 1, 4, 5, options="PadV2Options", more=(ints((0, 0), (1, 2), (3, 0)), np.float32(2)))
case("MIRROR_PAD", 1, 4, 5, 2, options="MirrorPadOptions",
     more=(ints((0, 0), (1, 2), (3, 0), (0, 0)),), mode=0)  # fmt: skip
case("REVERSE_V2", 1, 6, 5, options="ReverseV2Options", more=(ints(1),))
case("STRIDED_SLICE", 1, 6, 5, options="StridedSliceOptions",
     more=(ints(0, 1, 4), ints(1, 6, 0), ints(1, 2, -2)), beginMask=1, endMask=1)  # fmt: skip
case("STRIDED_SLICE-shrunk", 1, 6, 5, options="StridedSliceOptions",
     more=(ints(0, -1, 0), ints(1, 6, 5), ints(1, 1, 1)), shrinkAxisMask=2)  # fmt: skip
case("GATHER", 1, 4, 3, options="GatherOptions", more=(ints(2, 0),), axis=2)
case("GATHER-one", 1, 4, 3, options="GatherOptions", more=(ints(3).reshape(()),), axis=1)
case("DEPTH_TO_SPACE", 1, 3, 4, 8, options="DepthToSpaceOptions", blockSize=2)
case("SPACE_TO_DEPTH", 1, 4, 6, 3, options="SpaceToDepthOptions", blockSize=2)

WINDOW = {"options": "Conv2DOptions", "dilationWFactor": 1, "dilationHFactor": 1}
CONV = {**WINDOW, "strideH": 1, "strideW": 1}
case("CONV_2D-same", 1, 7, 6, 3, more=(real(4, 3, 3, 3), real(4)), **CONV)
case("CONV_2D-valid", 1, 7, 6, 3, more=(real(4, 3, 2, 3), real(4)), **CONV | {"padding": 1})
case("CONV_2D-stride", 1, 8, 7, 3, more=(real(4, 3, 3, 3), real(4)), fusedActivationFunction=3,
     **WINDOW, strideH=2, strideW=2)  # fmt: skip
case("CONV_2D-dilated", 1, 8, 7, 3, more=(real(4, 3, 3, 3), real(4)),
     **CONV | {"dilationHFactor": 2, "dilationWFactor": 3})  # fmt: skip
case("CONV_2D-groups", 1, 5, 5, 4, more=(real(6, 3, 3, 2), real(6)), **CONV)
DEPTHWISE = CONV | {"options": "DepthwiseConv2DOptions", "depthMultiplier": 1}
case("DEPTHWISE_CONV_2D", 1, 6, 6, 4, more=(real(1, 3, 3, 4), real(4)), **DEPTHWISE)
case("DEPTHWISE_CONV_2D-twice", 1, 6, 6, 2, more=(real(1, 3, 3, 4), real(4)),
     **DEPTHWISE | {"depthMultiplier": 2})  # fmt: skip
for name, size, padding in (("same", (1, 8, 8, 5), 0), ("valid", (1, 9, 9, 5), 1)):
    case(f"TRANSPOSE_CONV-{name}", 1, 4, 4, 3, more=(ints(*size), real(5, 3, 3, 3)), first=True,
         options="TransposeConvOptions", padding=padding, strideH=2, strideW=2)  # fmt: skip
FULL = {"options": "FullyConnectedOptions"}
case("FULLY_CONNECTED", 1, 6, more=(real(4, 6), real(4)), fusedActivationFunction=1, **FULL)
case("FULLY_CONNECTED-flat", 1, 2, 3, more=(real(4, 6), real(4)), **FULL)
case("FULLY_CONNECTED-rows", 1, 5, 6, more=(real(4, 6), real(4)), **FULL)
case("FULLY_CONNECTED-kept", 1, 5, 6, more=(real(4, 6), real(4)), keepNumDims=True, **FULL)
case("BATCH_MATMUL", 1, 4, 6, more=(real(1, 6, 5),), options="BatchMatMulOptions")
case("BATCH_MATMUL-turned", 1, 4, 6, more=(real(1, 5, 6),), options="BatchMatMulOptions", adjY=True)
for pool in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
    for k, size, stride, padding in ((2, 7, 2, 0), (3, 7, 1, 0), (4, 7, 2, 0), (3, 8, 2, 1)):
        case(f"{pool}-{k}-{stride}-{padding}", 1, size, size, 3, options="Pool2DOptions",
             filterHeight=k, filterWidth=k, strideH=stride, strideW=stride,
             padding=padding)  # fmt: skip
case("RESIZE_BILINEAR", 1, 4, 5, 3, options="ResizeBilinearOptions", more=(ints(7, 9),),
     halfPixelCenters=True)  # fmt: skip
case("RESIZE_BILINEAR-corners", 1, 4, 5, 3, options="ResizeBilinearOptions", more=(ints(7, 9),),
     alignCorners=True)  # fmt: skip
case("RESIZE_NEAREST_NEIGHBOR", 1, 4, 5, 3, options="ResizeNearestNeighborOptions",
     more=(ints(8, 10),))  # fmt: skip

# Operators on positive numbers, on several values, or on integers: written out.


def positive(name: str) -> None:
    def write(net: Made, x: int) -> int:
        return net.operator(name, [net.operator("EXP", [x])])

    CASES[name] = write, (1, 5)


for _name in ("LOG", "SQRT", "RSQRT"):
    positive(_name)


def written(*shape: int):
    def register(function):
        CASES[function.__name__] = function, shape
        return function

    return register


@written(1, 4, 3)
def CONCATENATION(net, x):  # noqa: N802
    y = net.operator("NEG", [x])
    return net.operator("CONCATENATION", [x, y], "ConcatenationOptions", axis=1)


@written(1, 6, 5)
def SLICE(net, x):  # noqa: N802
    """LiteRT wants its result to have the right shape in the file."""
    inputs = [x, net.constant(ints(0, 1, 2)), net.constant(ints(1, 3, -1))]
    return net.operator("SLICE", inputs, "SliceOptions", results=[net.tensor((1, 3, 3))])


@written(1, 4, 3)
def PACK(net, x):  # noqa: N802
    y = net.operator("NEG", [x])
    return net.operator("PACK", [x, y], "PackOptions", axis=-1, valuesCount=2)


@written(1, 4, 3)
def PACK_of_batches(net, x):  # noqa: N802
    y = net.operator("NEG", [x])
    y = net.operator("PACK", [x, y], "PackOptions", axis=0, valuesCount=2)
    return net.operator("SUM", [y, net.constant(ints(0))], "ReducerOptions")


@written(1, 3, 4)
def UNPACK(net, x):  # noqa: N802
    parts = [net.tensor((1,)) for _ in range(3)]
    net.operator("UNPACK", [x], "UnpackOptions", results=parts, num=3, axis=1)
    return net.operator("SUB", [parts[2], parts[0]], "SubOptions")


@written(1, 4, 6)
def SPLIT(net, x):  # noqa: N802
    parts = [net.tensor((1,)) for _ in range(3)]
    axis = net.constant(ints(2).reshape(()))
    net.operator("SPLIT", [axis, x], "SplitOptions", results=parts, numSplits=3)
    return net.operator("SUB", [parts[2], parts[0]], "SubOptions")


@written(1, 4, 7)
def SPLIT_V(net, x):  # noqa: N802
    parts = [net.tensor((1,)) for _ in range(3)]
    inputs = [x, net.constant(ints(3, 1, 3)), net.constant(ints(-1).reshape(()))]
    net.operator("SPLIT_V", inputs, "SplitVOptions", results=parts, numSplits=3)
    return net.operator("SUB", [parts[2], parts[0]], "SubOptions")


@written(1, 4, 6)
def SHAPE(net, x):  # noqa: N802
    """Shape arithmetic as TensorFlow 2 exports it: the batch is read from the input."""
    shape = net.operator("SHAPE", [x], "ShapeOptions", dtype="INT32", outType=2)
    ends = [net.constant(ints(n)) for n in (0, 1, 1)]
    batch = net.operator(
        "STRIDED_SLICE", [shape, *ends], "StridedSliceOptions", dtype="INT32", shrinkAxisMask=1
    )
    rest = net.constant(ints(24).reshape(()))
    sizes = net.operator("PACK", [batch, rest], "PackOptions", dtype="INT32", valuesCount=2)
    return net.operator("RESHAPE", [x, sizes], "ReshapeOptions")


@written(1, 4, 6)
def turned_without_its_batch(net, x):
    """The batch's axis dropped, another order, and back: what our own lowering writes."""
    y = net.operator("RESHAPE", [x, net.constant(ints(4, 6))], "ReshapeOptions")
    y = net.operator("TRANSPOSE", [y, net.constant(ints(1, 0))], "TransposeOptions")
    y = net.operator("ADD", [y, net.constant(real(4))], "AddOptions")
    return net.operator("RESHAPE", [y, net.constant(ints(1, 6, 4))], "ReshapeOptions")


@written(1, 6)
def SELECT_V2(net, x):  # noqa: N802
    large = net.operator("GREATER", [x, net.constant(np.float32(0.2))], dtype="BOOL")
    return net.operator("SELECT_V2", [large, x, net.constant(real(6))], "SelectV2Options")


def compared(name: str) -> None:
    def write(net: Made, x: int) -> int:
        found = net.operator(name, [x, net.constant(np.float32(0.2))], dtype="BOOL")
        low = net.operator("LESS", [x, net.constant(np.float32(-0.5))], dtype="BOOL")
        found = net.operator("LOGICAL_OR", [found, low], dtype="BOOL")
        low = net.operator("LOGICAL_NOT", [low], dtype="BOOL")
        found = net.operator("LOGICAL_AND", [found, low], dtype="BOOL")
        return net.operator("CAST", [found], "CastOptions", inDataType=6, outDataType=0)

    CASES[name] = write, (1, 50)


for _name in ("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL"):
    compared(_name)
CASES["LOGICAL_OR"] = CASES["GREATER"]


@written(1, 6)
def POW(net, x):  # noqa: N802
    y = net.operator("EXP", [x])
    return net.operator("POW", [y, net.constant(real(6))], "PowOptions")


case("FLOOR_DIV", 1, 6, options="FloorDivOptions", more=(np.abs(real(6)) + 0.1,))
case("FLOOR_MOD", 1, 6, options="FloorModOptions", more=(np.abs(real(6)) + 0.1,))
case("ZEROS_LIKE", 1, 6, options="ZerosLikeOptions")


@written(1, 6)
def RANGE(net, x):  # noqa: N802
    ends = [net.constant(np.float32(n)) for n in (1, 7, 1)]
    return net.operator("MUL", [x, net.operator("RANGE", ends, "RangeOptions")], "MulOptions")


@written(1, 6)
def ARG_MIN(net, x):  # noqa: N802
    axis = net.constant(ints(-1).reshape(()))
    y = net.operator("ARG_MIN", [x, axis], "ArgMinOptions", dtype="INT32", outputType=2)
    return net.operator("CAST", [y], "CastOptions", inDataType=2, outDataType=0)


@written(1, 6)
def CAST(net, x):  # noqa: N802
    types = {"inDataType": 0, "outDataType": 2}
    y = net.operator("CAST", [x], "CastOptions", dtype="INT32", **types)
    return net.operator("CAST", [y], "CastOptions", inDataType=2, outDataType=0)


@written(1, 6)
def ARG_MAX(net, x):  # noqa: N802
    axis = net.constant(ints(-1).reshape(()))
    y = net.operator("ARG_MAX", [x, axis], "ArgMaxOptions", dtype="INT32", outputType=2)
    return net.operator("CAST", [y], "CastOptions", inDataType=2, outDataType=0)


@written(1, 6)
def FILL(net, x):  # noqa: N802
    shape = net.constant(ints(1, 6))
    ones = net.operator("FILL", [shape, net.constant(np.float32(1.5))], "FillOptions")
    return net.operator("MUL", [x, ones], "MulOptions")


@pytest.mark.parametrize("name", CASES)
def test_gives_what_litert_gives(name, tmp_path):
    write, shape = CASES[name]
    net = Made()
    path = net.write(tmp_path / "net.tflite", write(net, net.input(*shape)))
    x = real(SAMPLES, *shape[1:])
    (want,) = original(path, x)
    have = load(path)(x)
    assert have.size == want.size, (have.shape, want.shape)
    assert np.allclose(have.reshape(want.shape), want, rtol=1e-5, atol=1e-5)


def test_what_is_tried():
    """Every row but these is tried above."""
    tried = {name.partition("-")[0] for name in CASES} | {"STRIDED_SLICE"}
    rest = {
        "LOGICAL_AND", "LOGICAL_NOT", "SELECT", "RANK", "QUANTIZE", "DEQUANTIZE", "FAKE_QUANT",
    }  # fmt: skip
    assert set(TABLE) - tried == rest
