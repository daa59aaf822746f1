"""Broken and hostile files: one sentence, quickly, whatever the bytes say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

from edgewise.errors import InputError, MissingExtra, ModelError
from edgewise.loading import load
from edgewise.loading.tflite import reader

from .files import Made, schema
from .test_formats import FULL, quantized

CONCAT = "ConcatenationOptions"


def sentence(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 1500
    return text


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "net.tflite"
    quantized(np.random.default_rng(0), "INT8", path)
    return path


def loads_or_says_why(path):
    said = ""
    try:
        load(path)
    except InputError as error:
        said = str(error)
    assert "\n" not in said


@settings(max_examples=60)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file(sound, share):
    data = sound.read_bytes()
    cut = sound.with_name("cut.tflite")
    cut.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ModelError) as error:
        load(cut)
    sentence(error)


@settings(max_examples=150)
@given(
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1),
    words=st.lists(
        st.tuples(
            st.floats(0, 1, exclude_max=True),
            st.sampled_from([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x10000]),
        ),
        max_size=3,
    ),
)
def test_flipped_bits_and_words(sound, flips, words):
    data = bytearray(sound.read_bytes())
    for at, bit in flips:
        data[int(at * len(data))] ^= 1 << bit
    for at, word in words:
        start = int(at * (len(data) // 4)) * 4
        data[start : start + 4] = word.to_bytes(4, "little")[: len(data) - start]
    damaged = sound.with_name("damaged.tflite")
    damaged.write_bytes(data)
    loads_or_says_why(damaged)


def test_what_is_no_tflite_file(tmp_path):
    for content in (b"", b"TFL3", b"PK\3\4" + bytes(100), b"\0\0\0\0TFL3", b"\xff" * 4 + b"TFL3"):
        (tmp_path / "net.tflite").write_bytes(content)
        with pytest.raises(ModelError) as error:
            load(tmp_path / "net.tflite")
        assert "net.tflite" in sentence(error)


# --- one thing wrong --------------------------------------------------------------------------


def dangling(net):
    net.operator("NEG", [net.tensor((1, 3))])


def cyclic(net):
    a, b = net.tensor((1, 3)), net.tensor((1, 3))
    net.operator("NEG", [a], results=[b])
    net.operator("NEG", [b], results=[a])


def written_twice(net):
    net.operator("EXP", [0], results=[net.graph.outputs[0]])


def written_over_the_input(net):
    net.operator("NEG", [0], results=[0])


def tensor_out_of_range(net):
    net.operator("NEG", [99])


def huge_constant(net):
    net.graph.tensors[1].shape = [2**30, 2**30]


def huge_input(net):
    net.graph.tensors[0].shape = [1, 2**30, 2**30]


def negative_shape(net):
    net.graph.tensors[1].shape = [-3, -3]


def many_axes(net):
    net.graph.tensors[1].shape = [1] * 100


def buffer_out_of_range(net):
    net.graph.tensors[1].buffer = 99


def half_a_buffer(net):
    net.model.buffers[1].data = net.model.buffers[1].data[:-4]


def subgraph_out_of_range(net):
    net.signature("main", 0)
    net.model.signatureDefs[0].subgraphIndex = 7


def twice_one_signature(net):
    net.signature("main", 0)
    net.signature("main", 0)


def output_that_is_an_unwritten_tensor(net):
    net.graph.outputs.append(net.tensor((1, 3)))


def output_out_of_range(net):
    net.graph.outputs.append(-1)


def no_output(net):
    net.graph.outputs.clear()


def unknown_operator(net):
    net.model.operatorCodes[0].builtinCode = 2**30


def opcode_out_of_range(net):
    net.graph.operators[0].opcodeIndex = 5


def options_of_another_operator(net):
    net.graph.operators[0].builtinOptions = schema.Pool2DOptionsT()
    net.graph.operators[0].builtinOptionsType = schema.BuiltinOptions.Pool2DOptions


def no_options(net):
    net.graph.operators[0].builtinOptionsType = 0
    net.graph.operators[0].builtinOptions = None


def scale(*values, zero_point=(0,)):
    def spoil(net):
        grid = schema.QuantizationParametersT()
        grid.scale, grid.zeroPoint = list(values), list(zero_point)
        net.graph.tensors[0].type = schema.TensorType.INT8
        net.graph.tensors[0].quantization = grid

    spoil.__name__ = f"scale_{values}_{zero_point}"
    return spoil


def not_a_number(net):
    net.model.buffers[1].data = np.full(36, 0xFF, np.uint8)


def strange_type(net):
    net.graph.tensors[1].type = schema.TensorType.RESOURCE


def sparse(net):
    net.graph.tensors[1].sparsity = schema.SparsityParametersT()


def grows_without_end(net):
    """Each operator doubles what the one before gave: 2 ** 70 numbers from a few bytes."""
    x = 0
    for _ in range(70):
        x = net.operator("CONCATENATION", [x, x], CONCAT, axis=1)


def folds_without_end(net):
    shape = net.constant(np.int32([2**15, 2**15, 2**15]))
    net.operator("FILL", [shape, net.constant(np.float32(1))], "FillOptions")


def constants_beyond_the_file(net):
    """A thousand tensors with one buffer: each is another parameter."""
    data = net.constant(np.zeros(20_000, np.float32))
    for _ in range(1000):
        net.graph.tensors.append(net.graph.tensors[data])
        net.operator("ADD", [net.constant(np.zeros(1, np.float32)), len(net.graph.tensors) - 2])


def a_module_that_a_buffer_is_named_after(net):
    weight = net.constant(np.eye(3, dtype=np.float32))
    x = net.operator("FULLY_CONNECTED", [0, weight, -1], name="head.weight_scale", **FULL)
    net.operator("FULLY_CONNECTED", [x, weight, -1], name="head", **FULL)


BROKEN = [
    dangling, cyclic, written_twice, written_over_the_input, tensor_out_of_range, huge_constant,
    huge_input, negative_shape, many_axes, buffer_out_of_range, half_a_buffer,
    subgraph_out_of_range, twice_one_signature, output_that_is_an_unwritten_tensor,
    output_out_of_range, no_output, unknown_operator, opcode_out_of_range,
    options_of_another_operator, no_options, scale(-1.0), scale(float("nan")),
    scale(0.5, 0.5), scale(*[1.0] * 9), scale(1.0, zero_point=(300,)), not_a_number, strange_type,
    sparse, grows_without_end, folds_without_end, constants_beyond_the_file,
]  # fmt: skip


def small():
    net = Made()
    x = net.input(1, 3)
    weight = net.constant(np.ones((3, 3), np.float32))
    net.graph.outputs.append(net.operator("FULLY_CONNECTED", [x, weight, -1], name="fc", **FULL))
    return net


@pytest.mark.parametrize("spoil", BROKEN, ids=lambda f: f.__name__)
def test_one_thing_wrong(spoil, tmp_path):
    net = small()
    spoil(net)
    with pytest.raises(ModelError) as error:
        load(net.write(tmp_path / "net.tflite"))
    sentence(error)


def test_what_they_were_made_from_is_sound(tmp_path):
    load(small().write(tmp_path / "net.tflite"))
    net = small()
    a_module_that_a_buffer_is_named_after(net)
    loads_or_says_why(net.write(tmp_path / "net.tflite"))


def test_names_are_shown_in_part(tmp_path):
    net = small()
    net.graph.tensors[1].name = "n" * 10**6
    strange_type(net)
    with pytest.raises(ModelError) as error:
        load(net.write(tmp_path / "net.tflite"))
    sentence(error)


def test_without_the_schema(tmp_path, monkeypatch):
    path = small().write(tmp_path / "net.tflite")
    reader._schema.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "ai_edge_litert", None)
    with pytest.raises(MissingExtra, match=r"pip install 'edgewise\[litert\]'"):
        load(path)
