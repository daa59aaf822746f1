import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.edge.serving.limits import Refused
from edgewise.edge.serving.protocol import DATATYPES, answer, ask
from edgewise.record import DTYPES, Signature, TensorSpec


def signature(dtype="float32", shape=(None, 3)):
    return Signature((TensorSpec("x", shape, dtype),), (TensorSpec("y", shape, dtype),))


def request(data, *, datatype="FP32", shape=(2, 3), **more):
    tensor = {"name": "x", "datatype": datatype, "shape": shape, "data": data}
    return json.dumps({"inputs": [tensor], **more}).encode()


def binary(array, *, size=None, tail=b""):
    little = array.astype(array.dtype.newbyteorder("<"))
    tensor = {
        "name": "x",
        "datatype": DATATYPES[array.dtype.name],
        "shape": array.shape,
        "parameters": {"binary_data_size": array.nbytes if size is None else size},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + little.tobytes() + tail, len(head)


def refused(body, head_bytes=None, of=None, samples=8):
    with pytest.raises(Refused) as caught:
        ask(body, head_bytes, of or signature(), samples)
    assert caught.value.status == 400
    return caught.value.reason


@pytest.mark.parametrize("dtype", DTYPES)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 8))
@settings(max_examples=10)
def test_bytes_and_json_carry_the_same_numbers(dtype, seed, n):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        array = rng.normal(size=(n, 3)).astype(dtype)
    else:
        array = rng.integers(0, 2, (n, 3)).astype(dtype)
    body, length = binary(array)
    got = ask(body, length, signature(dtype), 8)
    assert got.arrays[0].dtype == dtype
    np.testing.assert_array_equal(got.arrays[0], array)
    body = request(array.tolist(), datatype=DATATYPES[dtype], shape=(n, 3))
    np.testing.assert_array_equal(ask(body, None, signature(dtype), 8).arrays[0], array)


def test_flat_and_nested_json_are_the_same():
    nested = ask(request([[1, 2, 3], [4, 5, 6]]), None, signature(), 8).arrays[0]
    flat = ask(request([1, 2, 3, 4, 5, 6]), None, signature(), 8).arrays[0]
    np.testing.assert_array_equal(nested, flat)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not a valid"),
        (b"[]", "not a valid"),
        (b"\xff\xff", "not a valid"),
        (b'{"inputs": []}', "'x' is missing"),
        (request([0] * 6, datatype="FP16"), "takes FP32"),
        (request([0] * 6, datatype="x" * 999), "takes FP32"),
        (request([0] * 6, shape=(2, 4)), "takes shape (batch, 3)"),
        (request([0] * 6, shape=(2, 3, 1)), "takes shape"),
        (request([], shape=(0, 3)), "takes shape"),
        (request([0] * 6, shape=(-2, 3)), "takes shape"),
        (request([0], shape=(10**30, 3)), "at most 8"),
        (request([0] * 27, shape=(9, 3)), "at most 8"),
        (request([0] * 5), "5 of"),
        (request([0] * 5 + [None]), "takes 6 FP32"),
        (request(["0"] * 6), "takes 6 FP32"),
        (request([True] * 6), "takes 6 FP32"),
        (request([[0, 0, 0], [0, 0]]), "takes 6 FP32"),
        (request("abcdef"), "are no list"),
        (request({"a": 1}), "are no list"),
        (request([0] * 2000), "more JSON"),
        (request(eval("[" * 90 + "]" * 90)), "takes 6 FP32"),
        (request([0] * 6, outputs=[{"name": "z"}]), "no output 'z'"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(body, says):
    assert says in refused(body)


@pytest.mark.parametrize(
    ("dtype", "data"), [("int8", [128] * 6), ("uint8", [-1] * 6), ("int64", [1.5] * 6),
                        ("int32", [2**40] * 6), ("bool", [1] * 6), ("int64", [2**70] * 6)]
)  # fmt: skip
def test_numbers_that_the_dtype_does_not_hold_are_refused(dtype, data):
    refused(request(data, datatype=DATATYPES[dtype]), of=signature(dtype))


def test_lengths_that_do_not_agree_are_refused():
    array = np.zeros((2, 3), np.float32)
    body, length = binary(array, tail=b"!")
    assert "1 bytes at the end" in refused(body, length)
    body, length = binary(array, size=23)
    assert "takes 24 bytes" in refused(body, length)
    body, length = binary(array, size=10**9)
    assert "are left" in refused(body, length)
    for wrong in (0, len(body) + 1):
        assert "Content-Length" in refused(body, wrong)


def test_a_truth_value_is_0_or_1():
    body, length = binary(np.ones((2, 3), np.uint8))
    body = body.replace(b'"UINT8"', b'"BOOL" ')
    ask(body, length, signature("bool"), 8)
    assert "other than 0 and 1" in refused(body[:-1] + b"\2", length, signature("bool"))


def test_two_inputs_need_as_many_samples_each():
    two = Signature((TensorSpec("a", (None, 1)), TensorSpec("b", (None, 1))), ())
    rows = [
        {"name": "a", "datatype": "FP32", "shape": [1, 1], "data": [0]},
        {"name": "b", "datatype": "FP32", "shape": [2, 1], "data": [0, 0]},
    ]
    assert "as many each" in refused(json.dumps({"inputs": rows}).encode(), of=two)
    assert "given twice" in refused(json.dumps({"inputs": [rows[0]] * 2}).encode(), of=two)


def test_extensions_that_change_what_is_sent_are_refused_not_ignored():
    body = request([0] * 6, outputs=[{"name": "y", "parameters": {"classification": 3}}])
    assert "classification" in refused(body)


def test_an_answer_carries_each_output_as_asked():
    two = Signature(
        signature().inputs, (TensorSpec("y", (None, 3)), TensorSpec("z", (None, 1), "int8"))
    )
    wanted = [{"name": "z"}, {"name": "y", "parameters": {"binary_data": True}}]
    asked = ask(request([0] * 6, id="seven", outputs=wanted), None, two, 8)
    y, z = np.arange(6, dtype=np.float32).reshape(2, 3), np.int8([[3], [-4]])
    parts, length = answer(asked, (y, z), two, {"model_name": "m", "model_version": "1"})
    body = b"".join(parts)
    head = json.loads(body[:length])
    assert (head["id"], head["model_version"]) == ("seven", "1")
    assert head["outputs"][0] == {"name": "z", "datatype": "INT8", "shape": [2, 1], "data": [3, -4]}
    assert head["outputs"][1]["parameters"] == {"binary_data_size": 24}
    assert body[length:] == y.tobytes()


def test_numbers_that_json_cannot_write_are_said_to_be_so():
    asked = ask(request([0] * 6), None, signature(), 8)
    with pytest.raises(Refused, match="binary"):
        answer(asked, (np.full((2, 3), math.inf, np.float32),), signature(), {})
