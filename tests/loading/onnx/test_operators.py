"""Operators against ONNX Runtime in forms of older operator sets, and ONNX's own node tests."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgewise.errors import ModelError
from edgewise.loading import load

from .files import constant, made, node, value

ort = pytest.importorskip("onnxruntime")
RNG = np.random.default_rng(0)
INT64 = TensorProto.INT64


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


# name -> operator set, nodes, initializers, shape of a sample, rank of the output
OLD = {
    "softmax-of-all-behind": (11, [node("Softmax", ["x"], ["y"], axis=1)], {}, (3, 4), 3),
    "log-softmax-of-all-behind": (11, [node("LogSoftmax", ["x"], ["y"])], {}, (3, 4), 3),
    "clip": (6 + 1, [node("Clip", ["x"], ["y"], min=-0.5, max=0.25)], {}, (4,), 2),
    "slice": (9, [node("Slice", ["x"], ["y"], starts=[1, 0], ends=[9, -1], axes=[1, 2])],
              {}, (3, 4), 3),
    "squeeze": (11, [node("Squeeze", ["x"], ["y"], axes=[1])], {}, (1, 4), 2),
    "unsqueeze": (11, [node("Unsqueeze", ["x"], ["y"], axes=[1, -1])], {}, (4,), 4),
    "pad": (10, [node("Pad", ["x"], ["y"], pads=[0, 1, 0, 2], value=1.5)], {}, (4,), 2),
    "reduce-sum": (11, [node("ReduceSum", ["x"], ["y"], axes=[-1], keepdims=0)], {}, (3, 4), 2),
    "split": (11, [node("Split", ["x"], ["a", "b"], axis=1, split=[1, 3]),
                   node("Concat", ["b", "a"], ["y"], axis=1)], {}, (4,), 2),
    "gemm": (9, [node("Gemm", ["x", "w", "b"], ["y"], alpha=0.5, beta=2.0)],
             {"w": normal(4, 3), "b": normal(1, 3)}, (4,), 2),
    "dropout": (10, [node("Dropout", ["x"], ["y"], ratio=0.3)], {}, (4,), 2),
    "batch-norm": (8, [node("BatchNormalization", ["x", "g", "b", "m", "v"], ["y"])],
                   {**{k: normal(4) for k in "gbm"}, "v": normal(4) ** 2}, (4, 3), 3),
}  # fmt: skip


@pytest.mark.parametrize("name", OLD)
def test_forms_of_older_operator_sets(name, tmp_path):
    opset, nodes, constants, shape, rank = OLD[name]
    tensors = [constant(n, a) for n, a in constants.items()]
    outputs = [value("y", ["n", *[None] * (rank - 1)])]
    path = made(tmp_path / "net.onnx", nodes, tensors, [value("x", ("n", *shape))], outputs, opset)
    x = normal(5, *shape)
    want = ort.InferenceSession(path).run(None, {"x": x})[0]
    assert np.allclose(load(path)(x), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("batch", ["n", 1])
def test_recurrent_layers_with_the_batch_on_their_second_axis(kind, batch, tmp_path):
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    shapes = {"w": (1, gates * 5, 4), "r": (1, gates * 5, 5), "b": (1, 2 * gates * 5)}
    weights = {name: normal(*shape) * 0.5 for name, shape in shapes.items()}
    tensors = [constant(n, a) for n, a in weights.items()]
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node(kind, ["t", "w", "r", "b"], ["s", "h"], hidden_size=5, name="cell"),
        node("Squeeze", ["h", "zero"], ["y"]),
    ]
    tensors.append(constant("zero", np.array([0])))
    path = made(tmp_path / "net.onnx", nodes, tensors, [value("x", (batch, 6, 4))],
                [value("y", (batch, 5))])  # fmt: skip
    x = normal(3, 6, 4)
    reference = ort.InferenceSession(path)
    want = np.concatenate([reference.run(None, {"x": x[i : i + 1]})[0] for i in range(3)])
    assert np.allclose(load(path)(x), want, rtol=1e-4, atol=1e-5)


def test_arithmetic_on_shapes_leaves_nothing_in_the_graph(tmp_path):
    nodes = [
        node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["n"]),
        node("Gather", ["s", "two"], ["h"]), node("Div", ["h", "half"], ["q"]),
        node("Unsqueeze", ["n", "axis"], ["n1"]), node("Unsqueeze", ["q", "axis"], ["q1"]),
        node("Concat", ["n1", "rest", "q1"], ["t"], axis=0), node("Reshape", ["x", "t"], ["y"]),
    ]  # fmt: skip
    tensors = [constant("zero", np.array(0)), constant("two", np.array(2)),
               constant("half", np.array(2)), constant("axis", np.array([0])),
               constant("rest", np.array([-1]))]  # fmt: skip
    path = made(tmp_path / "net.onnx", nodes, tensors, [value("x", ("n", 3, 8))],
                [value("y", ("n", 6, 4))])  # fmt: skip
    model = load(path)
    x = normal(5, 3, 8)
    assert np.array_equal(model(x), x.reshape(5, 6, 4))
    assert {str(n.target) for n in model.graph.graph.nodes if n.op == "call_function"} <= {
        "aten.sym_size.int", "aten.reshape.default"
    }  # fmt: skip


def test_control_flow_that_folds_away(tmp_path):
    double = helper.make_graph([node("Add", ["x", "x"], ["o"])], "g", [], [value("o")])
    other = helper.make_graph([node("Neg", ["x"], ["p"])], "g", [], [value("p")])
    body = helper.make_graph(
        [node("Mul", ["a", "factor"], ["b"]), node("Identity", ["go"], ["on"])], "g",
        [value("i", (), INT64), value("go", (), TensorProto.BOOL), value("a")],
        [value("on", (), TensorProto.BOOL), value("b")],
    )  # fmt: skip
    nodes = [
        node("Shape", ["x"], ["s"]), node("Size", ["s"], ["rank"]),
        node("Equal", ["rank", "two"], ["c"]),
        node("If", ["c"], ["d"], then_branch=double, else_branch=other),
        node("Loop", ["times", "", "d"], ["y"], body=body),
    ]  # fmt: skip
    tensors = [constant("two", np.array(2)), constant("times", np.array(3)),
               constant("factor", np.array(0.5))]  # fmt: skip
    path = made(tmp_path / "net.onnx", nodes, tensors)
    x = normal(3, 4)
    assert np.allclose(load(path)(x), x / 4)


def test_a_batch_that_cannot_be_opened_is_refused(tmp_path):
    nodes = [node("Reshape", ["x", "t"], ["r"]), node("CumSum", ["r", "a"], ["c"]),
             node("Reshape", ["c", "u"], ["y"])]  # fmt: skip
    tensors = [constant("t", np.array([4])), constant("a", np.array(0)),
               constant("u", np.array([1, 4]))]  # fmt: skip
    path = made(tmp_path / "net.onnx", nodes, tensors, [value("x", (1, 4))], [value("y", (1, 4))])
    with pytest.raises(ModelError, match="open batch axis"):
        load(path)


@pytest.mark.slow
def test_a_sample_of_the_node_tests(tmp_path):
    onnx_nodes = pytest.importorskip("benchmarks.onnx_nodes")
    outcomes = [onnx_nodes.judge(case, tmp_path) for case in [*onnx_nodes.cases()][::40]]
    wrong = [outcome for outcome in outcomes if outcome.way == "wrong"]
    assert not wrong
    assert sum(outcome.passed for outcome in outcomes) / len(outcomes) >= 0.85
