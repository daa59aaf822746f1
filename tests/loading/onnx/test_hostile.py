"""Broken and hostile files: one sentence, quickly, in bounded memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgewise.errors import InputError, ModelError
from edgewise.loading import load

from .files import FLOAT, altered, constant, made, node, value


def refused(path, match):
    with pytest.raises(ModelError, match=match) as error:
        load(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


def linear(path, **options):
    weight = constant("layer.weight", np.eye(4))
    return made(path, [node("MatMul", ["x", "layer.weight"], ["y"])], [weight], **options)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    rng = np.random.default_rng(0)
    weights = [constant("w", rng.normal(size=(3, 3, 3, 3))), constant("b", rng.normal(size=3))]
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("GlobalAveragePool", ["r"], ["g"]),
        node("Flatten", ["g"], ["y"]),
    ]
    path = tmp_path_factory.mktemp("sound") / "net.onnx"
    made(path, nodes, weights, [value("x", ("n", 3, 8, 8))], [value("y", ("n", 3))])
    load(path)
    return path


def loads_or_says_why(path, data):
    path.write_bytes(data)
    said = ""
    try:
        load(path)
    except InputError as error:
        said = str(error)
    assert "\n" not in said


@settings(max_examples=25)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file(sound, share):
    data = sound.read_bytes()
    loads_or_says_why(sound.with_name("cut.onnx"), data[: int(share * len(data))])


@settings(max_examples=60)
@given(
    flips=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4
    )
)
def test_flipped_bytes(sound, flips):
    data = bytearray(sound.read_bytes())
    for place, byte in flips:
        data[int(place * len(data))] = byte
    loads_or_says_why(sound.with_name("flipped.onnx"), bytes(data))


@pytest.mark.parametrize("data", [b"", b"\0" * 64, b"PK\x03\x04" + b"x" * 60, b"\x0a" * 4096])
def test_what_is_no_onnx_file(tmp_path, data):
    path = tmp_path / "net.onnx"
    path.write_bytes(data)
    refused(path, "not an ONNX file|damaged|no graph")


def field(tag: int, content: bytes) -> bytes:
    """A field of a protobuf message: its tag, its length in groups of 7 bits, its content."""
    length, size = len(content), b""
    while length > 0x7F:
        size += bytes([length & 0x7F | 0x80])
        length >>= 7
    return bytes([tag]) + size + bytes([length]) + content


def test_a_deeply_nested_message(tmp_path):
    graph = b""
    for _ in range(1000):  # a graph in an attribute of a node of a graph ...
        graph = field(0x0A, field(0x2A, field(0x32, graph)))
    path = tmp_path / "net.onnx"
    path.write_bytes(field(0x3A, graph))
    refused(path, "damaged")


def nested(depth):
    nodes = [node("Identity", ["x"], [f"o{depth}"])]
    for level in range(depth)[::-1]:
        graph = helper.make_graph(nodes, "g", [], [value(f"o{level + 1}")])
        nodes = [node("If", ["c"], [f"o{level}"], then_branch=graph, else_branch=graph)]
    return [*nodes, node("Identity", ["o0"], ["y"])]


def test_graphs_in_graphs(tmp_path):
    truth = constant("c", np.array(True))
    assert load(made(tmp_path / "a.onnx", nested(3), [truth]))(np.ones((2, 4), np.float32)).all()
    refused(made(tmp_path / "b.onnx", nested(12), [truth]), "nested more than")


def test_functions_that_double(tmp_path):
    functions = []
    for i in range(8):
        inner = ("Relu", "") if i == 7 else (f"f{i + 1}", "local")
        nodes = [
            node(inner[0], ["a" if k == 0 else f"v{k - 1}"], [f"v{k}"], domain=inner[1])
            for k in range(40)
        ]
        functions.append(
            helper.make_function("local", f"f{i}", ["a"], ["v39"], nodes,
                                 [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)])
        )  # fmt: skip
    path = made(tmp_path / "net.onnx", [node("f0", ["x"], ["y"], domain="local")],
                functions=functions)  # fmt: skip
    refused(path, "more than 20,000 nodes")


def test_a_function_that_calls_itself(tmp_path):
    body = [node("f", ["a"], ["b"], domain="local")]
    function = helper.make_function("local", "f", ["a"], ["b"], body,
                                    [helper.make_opsetid("local", 1)])  # fmt: skip
    path = made(tmp_path / "net.onnx", [node("f", ["x"], ["y"], domain="local")],
                functions=[function])  # fmt: skip
    refused(path, "nested more than")


@pytest.mark.parametrize(
    ("nodes", "match"),
    [
        ([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]),
          node("Relu", ["b"], ["y"])], "reads 'b', which nothing before it computes"),
        ([node("Relu", ["nothing"], ["y"])], "reads 'nothing'"),
        ([node("Relu", ["x"], ["z"])], "output 'y' is computed by no node"),
        ([node("Relu", ["x"], ["y"]), node("Abs", ["x"], ["y"])], "'y' is computed twice"),
        ([node("Relu", ["x"], ["x"]), node("Abs", ["x"], ["y"])], "'x' is computed twice"),
        ([node("Magic", ["x"], ["y"])], "operator Magic at node 'y' is not known"),
        ([node("Magic", ["x"], ["y"], domain="com.acme")], "com.acme:Magic"),
        ([node("Softmax", ["x"], ["y"], axis=7)], "names axis 7"),
        ([node("Conv", ["x", "x"], ["y"])], "Conv"),
        ([node("Relu", ["x", "x", "x"], ["y"])], "Relu"),
        ([node("Relu", [], ["y"])], "Relu"),
        ([node("Transpose", ["x"], ["y"], perm=[0, 0])], "permutes"),
    ],
)  # fmt: skip
def test_graphs_that_do_not_hold_together(tmp_path, nodes, match):
    refused(made(tmp_path / "net.onnx", nodes), match)


def claim(**fields):
    def change(model):
        tensor = model.graph.initializer[0]
        for name, field in fields.items():
            if name == "dims":
                tensor.dims[:] = field
            else:
                setattr(tensor, name, field)

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (claim(dims=[2**30, 2**30]), "claims 1,152,921,504,606,846,976 elements"),
        (claim(dims=[2**60, 0, 4]), "64 of 0 bytes"),
        (claim(dims=[-1, 4]), "negative size -1"),
        (claim(dims=[4, 5]), "64 of 80 bytes"),
        (claim(data_type=TensorProto.STRING), "STRING elements"),
        (claim(data_type=TensorProto.FLOAT8E4M3FN), "FLOAT8E4M3FN elements"),
        (claim(data_type=999), "elements"),
        (claim(data_type=TensorProto.DOUBLE), "64 of 128 bytes"),
        (claim(raw_data=b""), "0 of 64 bytes"),
        (claim(name="x"), "reads 'layer.weight'"),
    ],
)
def test_tensors_that_claim_what_they_do_not_have(tmp_path, change, match):
    refused(altered(linear(tmp_path / "net.onnx"), change), match)


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((1, -4), "size -4"),
        ((1, 2**50), "size 1125899906842624"),
        ((1, 2**35), "claims samples"),
        (("n", "width"), "leaves axis 1 open"),
        ((0, 4), "batch sizes"),
        ((), "no shape with a batch axis"),
        (None, "no shape with a batch axis"),
    ],
)
def test_inputs_that_no_model_has(tmp_path, shape, match):
    refused(linear(tmp_path / "net.onnx", inputs=[value("x", shape)]), match)


@pytest.mark.parametrize(
    ("kind", "inputs", "constants"),
    [
        ("ConstantOfShape", ["s"], {"s": [2**20, 2**20]}),
        ("Expand", ["f", "s"], {"f": np.ones(1), "s": [2**20, 2**20]}),
        ("Tile", ["f", "s"], {"f": np.ones((1, 1)), "s": [2**20, 2**20]}),
        ("Range", ["a", "s", "b"], {"a": np.array(0), "s": np.array(2**40), "b": np.array(1)}),
        ("MatMul", ["f", "g"], {"f": np.ones((2**17, 1)), "g": np.ones((1, 2**17))}),
        ("Pad", ["f", "s"], {"f": np.ones(1), "s": [2**40, 0]}),
    ],
)
def test_constants_that_grow(tmp_path, kind, inputs, constants):
    nodes = [node(kind, inputs, ["big"]), node("ReduceSum", ["big"], ["r"], keepdims=0),
             node("Cast", ["r"], ["s1"], to=FLOAT), node("Add", ["x", "s1"], ["y"])]  # fmt: skip
    tensors = [constant(name, array) for name, array in constants.items()]
    refused(made(tmp_path / "net.onnx", nodes, tensors), "too many elements|cannot be loaded")


@pytest.mark.parametrize(
    ("nodes", "match"),
    [
        ([node("AveragePool", ["i"], ["p"], kernel_shape=[2, 2], pads=[0, 2**40, 0, 1])],
         "reaches over more"),
        ([node("Resize", ["i", "", "", "sizes"], ["p"])], "resizes"),
        ([node("Pad", ["i", "pads"], ["p"], mode="edge")], "pads an axis"),
        ([node("Expand", ["i", "sizes"], ["p"])], "more than 268,435,456 elements"),
        ([node("HannWindow", ["count"], ["p"])], "elements"),
    ],
)  # fmt: skip
def test_operators_that_grow(tmp_path, nodes, match):
    tensors = [
        constant("shape", np.array([0, 1, 2, 2])), constant("count", np.array(2**40)),
        constant("sizes", np.array([1, 1, 2, 2**34])),
        constant("pads", np.array([0, 0, 0, 0, 0, 0, 0, 2**40])),
    ]  # fmt: skip
    if nodes[0].op_type == "Expand":
        tensors[0] = constant("shape", np.array([0, 1, 4, 1]))
        tensors[2] = constant("sizes", np.array([1, 1, 4, 2**34]))
    after = [node("ReduceSum", ["p"], ["s"], keepdims=0), node("Add", ["x", "s"], ["y"])]
    before = [node("Reshape", ["x", "shape"], ["i"])]
    path = made(tmp_path / "net.onnx", [*before, *nodes, *after], tensors, [value("x", (1, 4))],
                [value("y", (1, 4))])  # fmt: skip
    refused(path, match)


def test_loops_in_loops(tmp_path):
    nodes, last = [node("Relu", ["a5"], ["b"])], "b"
    for level in range(5)[::-1]:
        inputs = [value(f"i{level}", (), TensorProto.INT64),
                  value(f"go{level}", (), TensorProto.BOOL), value(f"a{level + 1}")]  # fmt: skip
        outputs = [value(f"on{level}", (), TensorProto.BOOL), value(last)]
        body = helper.make_graph(
            [*nodes, node("Identity", [f"go{level}"], [f"on{level}"])], "g", inputs, outputs
        )
        source, last = "x" if level == 0 else f"a{level}", f"l{level}"
        nodes = [node("Loop", ["times", "", source], [last], body=body)]
    path = made(tmp_path / "net.onnx", [*nodes, node("Identity", [last], ["y"])],
                [constant("times", np.array(1000))])  # fmt: skip
    refused(path, "add more than 2,000 nodes")


@pytest.mark.parametrize("opset", [1, 6, 9999])
def test_operator_sets_that_are_not_known(tmp_path, opset):
    refused(linear(tmp_path / "net.onnx", opset=opset), "operator set")


def outside(location, **entries):
    def change(model):
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, text in {"location": location, **entries}.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(text)

    return change


def test_weights_beside_the_file(tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.bin").write_bytes(b"\0" * 8 + np.eye(4, dtype="<f4").tobytes())
    path = altered(linear(tmp_path / "net.onnx"), outside("weights/w.bin", offset=8, length=64))
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    assert np.array_equal(load(path)(x), x)


@pytest.mark.parametrize(
    ("location", "entries", "match"),
    [
        ("../w.bin", {}, "inside the model's folder only"),
        ("a/../../w.bin", {}, "inside the model's folder only"),
        ("..\\w.bin", {}, "inside the model's folder only"),
        ("/etc/passwd", {}, "inside the model's folder only"),
        ("C:\\w.bin", {}, "inside the model's folder only"),
        ("", {}, "inside the model's folder only"),
        ("missing.bin", {}, "is not there"),
        (".", {}, "inside the model's folder only|is not there"),
        ("w.bin", {"offset": 1}, "no 64 bytes"),
        ("w.bin", {"offset": -64}, "no 64 bytes"),
        ("w.bin", {"length": 2**60}, "no 64 bytes"),
        ("w.bin", {"offset": "many"}, "no number"),
        ("link.bin", {}, "symbolic link"),
        ("folder/w.bin", {}, "symbolic link"),
    ],
)
def test_weights_that_lie_elsewhere(tmp_path, location, entries, match):
    inside = tmp_path / "model"
    inside.mkdir()
    for folder in (tmp_path, inside):
        (folder / "w.bin").write_bytes(b"\0" * 64)
    (inside / "link.bin").symlink_to(tmp_path / "w.bin")
    (inside / "folder").symlink_to(tmp_path)
    refused(altered(linear(inside / "net.onnx"), outside(location, **entries)), match)


@pytest.mark.parametrize(
    ("nodes", "match"),
    [
        ([node("If", ["c"], ["y"], then_branch=None)], "condition is computed from data"),
        ([node("Loop", ["k", ""], ["y"])], "computed from data"),
    ],
)
def test_control_flow_that_does_not_fold_away(tmp_path, nodes, match):
    body = helper.make_graph([node("Identity", ["x"], ["o"])], "g", [], [value("o")])
    loop = helper.make_graph(
        [node("Identity", ["x"], ["o"]), node("Identity", ["go"], ["on"])], "g",
        [value("i", (), TensorProto.INT64), value("go", (), TensorProto.BOOL)],
        [value("on", (), TensorProto.BOOL), value("o")],
    )  # fmt: skip
    first = [node("ReduceSum", ["x"], ["t"], keepdims=0)]
    if nodes[0].op_type == "If":
        first += [node("Greater", ["t", "zero"], ["c"])]
        nodes = [node("If", ["c"], ["y"], then_branch=body, else_branch=body)]
    else:
        first += [node("Cast", ["t"], ["k"], to=TensorProto.INT64)]
        nodes = [node("Loop", ["k", ""], ["y"], body=loop)]
    path = made(tmp_path / "net.onnx", [*first, *nodes], [constant("zero", np.array(0.0))])
    refused(path, match)


def test_names_that_python_does_not_have(tmp_path):
    names = ["forward", "class", "a b/c:0", "état", "train"]
    nodes, last = [], "x"
    for i, name in enumerate(names):
        nodes.append(node("Add", [last, name], [f"{name}.sum"], name=name))
        last = f"{name}.sum"
        assert i < len(names)
    nodes.append(node("Identity", [last], ["y"]))
    path = made(tmp_path / "net.onnx", nodes, [constant(n, np.ones(4)) for n in names])
    x = np.zeros((2, 4), np.float32)
    assert (load(path)(x) == len(names)).all()


def test_nan_in_a_weight(tmp_path):
    weight = constant("w", np.full((4, 4), np.nan))
    refused(made(tmp_path / "net.onnx", [node("MatMul", ["x", "w"], ["y"])], [weight]), "NaN")
