"""Graphs as tf2onnx writes them: channels last outside, a Transpose around every layer."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgewise.loading import load

from .files import constant, made, node, value

aten = torch.ops.aten
TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


def channels_last(path, batch="n"):
    """Two convolutions with a sum of NHWC, a pool, a flatten in NHWC order and a dense layer."""
    rng = np.random.default_rng(0)
    w = {
        "first/kernel": rng.normal(size=(6, 3, 3, 3)), "first/bias": rng.normal(size=6),
        "second/kernel": rng.normal(size=(6, 6, 3, 3)) * 0.2,
        "shift": rng.normal(size=(1, 1, 1, 6)),
        "dense/kernel": rng.normal(size=(96, 5)) * 0.2, "dense/bias": rng.normal(size=5),
    }  # fmt: skip
    w = {name: array.astype(np.float32) for name, array in w.items()}
    nodes = [
        node("Transpose", ["x"], ["t0"], perm=TO_FIRST),
        node("Conv", ["t0", "first/kernel", "first/bias"], ["c0"], pads=[1, 1, 1, 1], name="first"),
        node("Relu", ["c0"], ["r0"]),
        node("Transpose", ["r0"], ["t1"], perm=TO_LAST),
        node("Add", ["t1", "shift"], ["a0"]),
        node("Transpose", ["a0"], ["t2"], perm=TO_FIRST),
        node("Conv", ["t2", "second/kernel"], ["c1"], auto_pad="SAME_UPPER", name="second"),
        node("Transpose", ["c1"], ["t3"], perm=TO_LAST),
        node("Add", ["t3", "a0"], ["a1"]),
        node("Transpose", ["a1"], ["t4"], perm=TO_FIRST),
        node("MaxPool", ["t4"], ["p0"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Transpose", ["p0"], ["t5"], perm=TO_LAST),
        node("Reshape", ["t5", "flat"], ["f0"]),
        node("MatMul", ["f0", "dense/kernel"], ["m0"], name="dense"),
        node("Add", ["m0", "dense/bias"], ["y"]),
    ]
    constants = [constant(name, array) for name, array in w.items()]
    constants.append(constant("flat", np.array([-1, 96])))
    made(path, nodes, constants, [value("x", (batch, 8, 8, 3))], [value("y", (batch, 5))])
    return {name: torch.from_numpy(array) for name, array in w.items()}


def reference(w, x):
    x = torch.from_numpy(x).permute(TO_FIRST)
    a = F.relu(F.conv2d(x, w["first/kernel"], w["first/bias"], padding=1))
    a = a + w["shift"].permute(TO_FIRST)
    y = F.max_pool2d(F.conv2d(a, w["second/kernel"], padding=1) + a, 2)
    return (y.permute(TO_LAST).flatten(1) @ w["dense/kernel"] + w["dense/bias"]).numpy()


@pytest.mark.parametrize("batch", ["n", 1])
def test_a_channels_last_graph_comes_out_clean(tmp_path, batch):
    w = channels_last(tmp_path / "net.onnx", batch)
    model = load(tmp_path / "net.onnx")
    x = np.random.default_rng(1).normal(size=(7, 8, 8, 3)).astype(np.float32)
    assert np.abs(model(x) - reference(w, x)).max() < 1e-4
    kinds = [node.target for node in model.graph.graph.nodes if node.op == "call_function"]
    assert kinds.count(aten.permute.default) <= 1  # of the input itself
    assert kinds.count(aten.conv2d.default) == 2
    (dense,) = (n for n in model.graph.graph.nodes if n.target is aten.linear.default)
    assert len(dense.args) == 3  # the addition behind it became its bias
    (given,) = model.signature.inputs
    assert (given.shape, given.layout) == ((None, 8, 8, 3), "NHWC")
