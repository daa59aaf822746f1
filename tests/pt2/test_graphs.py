"""Graphs from hostile files: every name and argument is refused, or means nothing."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewise.errors import ModelError
from edgewise.loading.pt2 import load_pt2
from edgewise.model import Model
from edgewise.pt2 import graphs

from .archives import DOCUMENT, WEIGHTS, document, leaves, replaced, saved, with_document, zipped
from .nets import examples


def call(d: dict, target: str) -> dict:
    return next(n for n in d["graph"]["nodes"] if target in n.get("target", ""))


def first(d: dict) -> dict:
    return d["signature"]["inputs"][0]


def ref(name: str) -> dict:
    return {"is": "node", "name": name}


def grow(d: dict) -> None:
    """Squares of squares: 2^(64 * 2^40) after forty nodes."""
    append(d, name="s0", target="aten.sym_size.int", args=[ref("input_1"), 0])
    for i in range(40):
        append(d, name=f"s{i + 1}", target="operator.mul", args=[ref(f"s{i}"), ref(f"s{i}")])


def pieces(d: dict) -> None:
    """A billion tensors of one element."""
    zeros = {"name": "z", "op": "call", "target": "aten.zeros.default", "args": [[10**9]]}
    cut = {"name": "s", "op": "call", "target": "aten.split.Tensor", "args": [ref("z"), 1]}
    d["graph"]["nodes"] += [zeros, cut]


def move(d: dict, target: str, at: int) -> None:
    nodes = d["graph"]["nodes"]
    node = call(d, target)
    nodes.remove(node)
    nodes.insert(at, node)


def append(d: dict, **node: Any) -> None:
    d["graph"]["nodes"].append({"op": "call", **node})


# What is done to the document -> what the message says.
TAMPERED: dict[str, tuple[Callable[[dict], Any], str]] = {
    "dangling": (lambda d: call(d, "linear")["args"].__setitem__(0, ref("no")), "no earlier node"),
    "cycle": (lambda d: call(d, "conv2d")["args"].__setitem__(0, ref("head_linear")), "no earlier"),
    "reads itself": (
        lambda d: append(d, name="me", target="aten.relu.default", args=[ref("me")]),
        "no earlier",
    ),
    "out of order": (lambda d: move(d, "linear", 0), "no earlier node"),
    "name twice": (lambda d: append(d, **{**call(d, "linear")}), "two nodes named"),
    "unknown output": (lambda d: d["graph"].update(outputs=["no"]), "no earlier node"),
    "no output": (lambda d: d["graph"].update(outputs=[]), "not valid"),
    "two outputs": (lambda d: d["graph"]["outputs"].append("head_linear"), "signature says"),
    "output is a size": (
        lambda d: (
            append(d, name="n", target="aten.sym_size.int", args=[ref("input_1"), 0]),
            d["graph"].update(outputs=["n"]),
        ),
        "number or a list",
    ),
    "too few arguments": (lambda d: call(d, "linear").update(args=[]), "lacks the argument"),
    "too many arguments": (lambda d: call(d, "linear")["args"].extend([0] * 9), "at most"),
    "unknown keyword": (lambda d: call(d, "linear").update(kwargs={"x": 1}), "does not take"),
    "wrong kind": (lambda d: call(d, "linear")["args"].__setitem__(1, "same"), "does not run"),
    "wrong shape": (lambda d: call(d, "flatten").update(args=[ref("input_1"), 1]), "does not run"),
    "arity of arithmetic": (
        lambda d: append(d, name="n", target="operator.mul", args=[2]),
        "takes 2 arguments",
    ),
    "arithmetic on a list": (
        lambda d: append(d, name="n", target="operator.mul", args=[[1], 2]),
        "takes numbers",
    ),
    "item by name": (
        lambda d: append(d, name="n", target="operator.getitem", args=[ref("input_1")] * 2),
        "an integer",
    ),
    "division by zero": (
        lambda d: append(d, name="n", target="operator.floordiv", args=[1, 0]),
        "does not run",
    ),
    "numbers without end": (grow, "too large to be sizes"),
    "pieces without end": (pieces, "too many pieces"),
    "absurd tensor": (
        lambda d: append(d, name="z", target="aten.zeros.default", args=[[10**6, 10**6]]),
        "1000000000000 elements",
    ),
    "impossible tensor": (
        lambda d: append(d, name="z", target="aten.zeros.default", args=[[2**62, 2**62]]),
        "does not run",
    ),
    "negative size": (
        lambda d: append(d, name="z", target="aten.zeros.default", args=[[-1]]),
        "does not run",
    ),
    "integer of 65 bits": (lambda d: call(d, "flatten")["args"].__setitem__(1, 2**64), "not valid"),
    "deep list": (lambda d: call(d, "flatten")["args"].__setitem__(1, [[1]]), "not valid"),
    "unknown constant": (
        lambda d: call(d, "flatten")["args"].__setitem__(1, {"is": "constant", "name": "os"}),
        "unknown constant",
    ),
    "operator of Python": (
        lambda d: append(d, name="z", target="operator.attrgetter", args=["a"]),
        "'operator.attrgetter' is not one",
    ),
    "file operator": (
        lambda d: append(d, name="z", target="aten.from_file.default", args=["/etc/passwd"]),
        "'aten.from_file.default' is not one",
    ),
    "in-place operator": (
        lambda d: append(d, name="z", target="aten.relu_.default", args=[ref("input_1")]),
        "'aten.relu_.default' is not one",
    ),
    "out operator": (
        lambda d: append(d, name="z", target="aten.add.out", args=[ref("input_1")] * 2),
        "'aten.add.out' is not one",
    ),
    "other namespace": (
        lambda d: append(d, name="z", target="prims.add.default", args=[ref("input_1")] * 2),
        "'prims.add.default' is not one",
    ),
    "call of a method": (lambda d: call(d, "linear").update(op="call_method"), "not valid"),
    "arguments of an input": (lambda d: d["graph"]["nodes"][-1].update(op="input"), "is no call"),
    "weight inside a weight": (
        lambda d: [
            n.update(target="head.weight.more")
            for n in d["graph"]["nodes"]
            if n.get("target") == "head.bias"
        ],
        "only one of them has",
    ),
    "unknown field": (lambda d: d.update(code="x"), "unknown field"),
    "missing field": (lambda d: d.pop("graph"), "missing required field"),
    "future format": (lambda d: d.update(format=2), "format 2"),
    "parameter that is none": (lambda d: d["parameters"].append("no.weight"), "no float tensor"),
    "huge batch": (lambda d: first(d).update(shape=[2**62, 1, 4, 4]), "no array"),
    "huge input": (lambda d: first(d).update(shape=[None, *[2**30] * 3]), "no array"),
    "name for a terminal": (lambda d: first(d).update(name="\x1b]0;x\x07"), r"x1b\]0;x"),
    "field for a terminal": (lambda d: d.update({"\x1b[2J": 1}), r"unknown field `\?\[2J`"),
    "negative shape": (lambda d: first(d).update(shape=[None, -1, 4, 4]), "no array"),
    "dtype of torch": (lambda d: first(d).update(dtype="load"), "no array"),
    "two batch axes": (lambda d: first(d).update(shape=[None, 1, None, 4]), "no array"),
    "no input": (lambda d: d["signature"].update(inputs=[]), "no input"),
    "other output shape": (
        lambda d: d["signature"]["outputs"][0].update(shape=[None, 6]),
        "signature says",
    ),
}  # fmt: skip


@pytest.mark.parametrize("attack", TAMPERED)
def test_a_tampered_document_is_refused(attack: str, tmp_path: Path) -> None:
    change, says = TAMPERED[attack]
    hostile = document()
    change(hostile)
    path = with_document(tmp_path / "net.pt2", hostile)
    with pytest.raises(ModelError, match=says) as error:
        load_pt2(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def assert_only_operators(graph: torch.fx.GraphModule) -> None:
    """The source that fx made and executed calls listed operators and nothing else."""
    tree = ast.parse(graph.code.strip())
    names = {node.name for node in graph.graph.nodes}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            assert node.id in names | {"self", "torch", "getattr", "device", "inf", "nan"}
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called in ("getattr", "device") or called.startswith("torch.ops.aten.")
            if called == "getattr":
                assert isinstance(node.args[1], ast.Constant)
        elif isinstance(node, ast.Attribute):
            assert not node.attr.startswith("__")
        assert not isinstance(node, ast.Import | ast.Lambda | ast.Global | ast.JoinedStr)


def test_code_in_any_string_is_not_executed(
    marker: Path, payloads: tuple[str, ...], tmp_path: Path
) -> None:
    whole = document()
    free = {"signature", "lineage"}  # text that only people read
    for path, value in leaves(whole):
        if not isinstance(value, str):
            continue
        for payload in payloads[:2] if path[0] in free else payloads:
            file = with_document(tmp_path / "net.pt2", replaced(whole, path, payload))
            try:
                back = load_pt2(file)
            except ModelError:
                continue
            assert path[0] in free, (path, payload)
            assert_only_operators(back.graph)
            back(examples("small", 2)[0])


def test_code_in_any_key_is_not_executed(
    marker: Path, payloads: tuple[str, ...], tmp_path: Path
) -> None:
    for payload in payloads:
        hostile = document()
        call(hostile, "linear")["kwargs"] = {payload: 1}
        with pytest.raises(ModelError):
            load_pt2(with_document(tmp_path / "net.pt2", hostile))


RESERVED = [
    "forward", "graph", "training", "training.x", "_modules", "_parameters.x", "__class__",
    "__dict__.x", "head.__class__", "head.forward", "code", "recompile", "meta.x", "state_dict",
    "head._buffers", "a..b", "", ".", "a.", "class", "a.import", 'a"b', "a\\b", "a'b", "a\nb",
    "a;b", "a(b)", "a#b", "x" * 300, ".".join("abcdefgh" * 8),
]  # fmt: skip


@pytest.mark.parametrize("name", RESERVED, ids=lambda n: repr(n)[:24])
def test_a_weight_cannot_take_the_place_of_a_method(name: str, tmp_path: Path) -> None:
    weights = safetensors.torch.load(saved()[WEIGHTS])
    weights[name] = weights.pop("head.bias")
    hostile = json.loads(json.dumps(document()).replace('"head.bias"', json.dumps(name)))
    files = {
        **saved(),
        DOCUMENT: json.dumps(hostile).encode(),
        WEIGHTS: safetensors.torch.save(weights),
    }
    with pytest.raises(ModelError, match=r"cannot be the name of a weight|modules deep"):
        load_pt2(zipped(tmp_path / "net.pt2", files))


def test_a_weight_cannot_lie_inside_another(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="lies inside the tensor 'a'"):
        graphs.build(
            graphs.Graph(
                [
                    graphs.Node("a", "attribute", "a"),
                    graphs.Node("b", "attribute", "a.b"),
                ],
                ["a"],
            ),
            {"a": torch.ones(1), "a.b": torch.ones(1)},
        )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["is", "name", "op", "target", "args", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), value=json_values)
def test_any_value_in_any_place_is_refused_or_a_model(
    data: st.DataObject, value: Any, tmp_path: Path
) -> None:
    whole = document()
    path = data.draw(st.sampled_from([p[: k + 1] for p, _ in leaves(whole) for k in range(len(p))]))
    hostile = replaced(whole, path, value)
    try:
        back = load_pt2(with_document(tmp_path / "net.pt2", hostile))
    except ModelError:
        return
    assert isinstance(back, Model)
    assert_only_operators(back.graph)
