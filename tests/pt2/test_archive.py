"""Our container: what is written is read back to the bit, what is hostile is refused."""

from __future__ import annotations

import errno
import json
import os
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from edgewise.errors import ModelError
from edgewise.loading.pt2 import load_pt2
from edgewise.loading.torch import load_module
from edgewise.model import Model
from edgewise.pt2 import archive, graphs
from edgewise.record import Signature, TensorSpec

from .archives import (
    DOCUMENT,
    SAMPLES,
    WEIGHTS,
    document,
    entries,
    model,
    saved,
    with_document,
    zipped,
)
from .nets import NETS, examples

LOADABLE = [name for name, (_, makes) in NETS.items() if all(m(1) is not None for m in makes)]


def outputs(graph: torch.fx.GraphModule, name: str, batch: int) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        return graph(*examples(name, batch, seed=batch))


def text(graph: graphs.Graph) -> bytes:
    """Equal for equal graphs; floats to the last digit."""
    return msgspec.json.encode(graph, order="sorted")


# --- round trips -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOADABLE)
def test_a_model_comes_back_to_the_bit_at_any_batch_size(name: str, tmp_path: Path) -> None:
    path = model(name).save(tmp_path / "net.pt2")
    back = load_pt2(path)
    assert graphs.describe(back.graph) == graphs.describe(model(name).graph)
    assert back.signature == model(name).signature
    assert back.lineage == model(name).lineage
    assert all(map(np.array_equal, back.samples, model(name).samples))
    for (n, a), (m, b) in zip(
        sorted(back.graph.state_dict().items()),
        sorted(model(name).graph.state_dict().items()),
        strict=True,
    ):
        assert n == m
        assert torch.equal(a, b)
        assert type(a) is type(b)
    parameters = [n for n, _ in model(name).graph.named_parameters()]
    assert sorted(n for n, _ in back.graph.named_parameters()) == sorted(parameters)
    assert not back.graph.training
    for batch in (1, 2, 7):
        pairs = zip(
            outputs(back.graph, name, batch), outputs(model(name).graph, name, batch), strict=True
        )
        assert all(torch.equal(a, b) for a, b in pairs)


def test_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    first = model().save(tmp_path / "a.pt2").read_bytes()
    second = load_pt2(tmp_path / "a.pt2").save(tmp_path / "b.pt2").read_bytes()
    assert first == second


def test_a_fake_quantized_model_comes_back(tmp_path: Path) -> None:
    module = model().module()
    first = next(n for n in module.graph.nodes if n.op == "call_function")
    module.register_buffer("act_scale", torch.tensor(0.1))
    module.register_buffer("act_zero", torch.tensor(3, dtype=torch.int32))
    with module.graph.inserting_before(first):
        scale, zero = module.graph.get_attr("act_scale"), module.graph.get_attr("act_zero")
    with module.graph.inserting_after(first):
        q = module.graph.call_function(
            torch.ops.edgewise.fake_quantize.default, (first, scale, zero, -128, 127)
        )
    first.replace_all_uses_with(q, delete_user_cb=lambda user: user is not q)
    quantized = Model.of(module, model())
    back = load_pt2(quantized.save(tmp_path / "net.pt2"))
    assert back.quantized
    x = examples("small", 2)[0]
    assert torch.equal(back(x), quantized(x))


floats = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, 1e22, 5e-324, 0.1])


@st.composite
def programs(draw: st.DrawFn) -> tuple[graphs.Graph, dict[str, torch.Tensor]]:
    """A random chain of operators on (batch, 4) with every kind of argument."""
    ref, constant = graphs.Ref, graphs.Constant
    nodes = [
        graphs.Node("x", "input"),
        graphs.Node("n", "call", "aten.sym_size.int", (ref("x"), 0)),
    ]
    tensors: dict[str, torch.Tensor] = {}
    last = "x"
    steps = st.sampled_from(["relu", "add", "clamp", "weight", "view", "split", "to", "full"])
    for i, step in enumerate(draw(st.lists(steps, min_size=1, max_size=8))):
        name, value = f"v{i}", draw(floats)
        value = value if np.isfinite(value) else constant(str(value))
        args: dict[str, tuple] = {
            "relu": ("aten.relu.default", (ref(last),), {}),
            "add": ("aten.add.Tensor", (ref(last), value), {}),
            "clamp": ("aten.clamp.default", (ref(last), None), {"max": value}),
            "weight": ("aten.mul.Tensor", (ref(last), ref(f"w{i}")), {}),
            "view": ("aten.view.default", (ref(last), [ref("n"), -1]), {}),
            "split": ("aten.split.Tensor", (ref(last), 2, 1), {}),
            "to": ("aten.to.dtype", (ref(last), constant("float32"), False, True), {}),
            "full": (
                "aten.full.default",
                ([ref("n"), 4], value),
                {"dtype": constant("float32"), "device": constant("cpu"), "layout": None},
            ),
        }
        if step == "weight":
            dotted = draw(st.sampled_from(["a.0.weight", "b-1.w", "top", "deep.er.still.x"])) + str(
                i
            )
            dtype = draw(st.sampled_from([torch.float32, torch.float16, torch.int8, torch.bool]))
            tensors[dotted] = torch.arange(4).to(dtype)
            nodes.append(graphs.Node(f"w{i}", "attribute", dotted))
        target, given_args, kwargs = args[step]
        nodes.append(graphs.Node(name, "call", target, given_args, kwargs))
        if step == "split":
            nodes += [
                graphs.Node(f"{name}_{k}", "call", "operator.getitem", (ref(name), k))
                for k in (0, 1)
            ]
            nodes.append(
                graphs.Node(
                    f"{name}_c",
                    "call",
                    "aten.cat.default",
                    ([ref(f"{name}_1"), ref(f"{name}_0")], 1),
                )
            )
            name = f"{name}_c"
        last = name
    return graphs.Graph(nodes, [last]), tensors


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(made=programs(), deflate=st.booleans())
def test_any_graph_comes_back(made: tuple, deflate: bool, tmp_path_factory) -> None:
    program, tensors = made
    module = graphs.build(program, tensors)
    folder = tmp_path_factory.mktemp("any")
    with torch.no_grad():
        dtype = str(module(torch.ones(1, 4))[0].dtype).removeprefix("torch.")
    signature = Signature(
        (TensorSpec("x", (None, 4)),), (TensorSpec("output", (None, 4), dtype, "NC"),)
    )
    archive.write(folder / "a.pt2", module, signature)
    if deflate:
        files = entries((folder / "a.pt2").read_bytes())
        zipped(folder / "a.pt2", files, zipfile.ZIP_DEFLATED)
    back, read_signature, lineage, samples = archive.read(folder / "a.pt2")
    assert (read_signature, lineage, samples) == (signature, (), None)
    assert text(graphs.describe(back)) == text(program)
    for batch in (1, 2, 7):
        x = torch.linspace(-2, 2, 4 * batch).view(batch, 4)
        with torch.no_grad():
            (found,), (wanted,) = back(x), module(x)
        assert torch.equal(found.view(torch.uint8), wanted.view(torch.uint8))


# --- writing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model().save(tmp_path / "net.pt2")
    before = path.read_bytes()

    def fail(descriptor: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    is_full = isinstance(error, OSError)
    with pytest.raises(ModelError if is_full else KeyboardInterrupt) as raised:
        model().save(path)
    assert not is_full or "cannot be written: No space left" in str(raised.value)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["net.pt2"]


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"net\.pt2 cannot be written: No such file"):
        model().save(tmp_path / "no" / "net.pt2")


class _Odd(nn.Module):
    """An operator that is not on the list, and a layer that a module has no place for."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.add_module(name, nn.Linear(4, 4))
        self.name = name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.get_submodule(self.name)(x)
        return torch.special.erfcx(y) if self.name == "odd" else y


@pytest.mark.parametrize(
    ("name", "says"), [("odd", "aten.special_erfcx.default"), ("größe", "rename that layer")]
)
def test_what_could_not_be_read_is_not_written(name: str, says: str, tmp_path: Path) -> None:
    odd = load_module(_Odd(name).eval(), torch.randn(1, 4))
    with pytest.raises(ModelError, match=says):
        odd.save(tmp_path / "net.pt2")
    assert os.listdir(tmp_path) == []


# --- hostile weights -------------------------------------------------------------------------


def safetensor(header: dict, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tampered_weights(name: str, **fields: Any) -> bytes:
    blob = saved()[WEIGHTS]
    size = struct.unpack("<Q", blob[:8])[0]
    header = json.loads(blob[8 : 8 + size])
    header[name].update(fields)
    return safetensor(header, blob[8 + size :])


@pytest.mark.parametrize(
    "fields",
    [
        {"shape": [2**60]},
        {"shape": [2**32, 2**32]},
        {"shape": [-5]},
        {"dtype": "F99"},
        {"dtype": "F64"},
        {"data_offsets": [0, 2**60]},
        {"data_offsets": [2**60, 2**60 + 20]},
        {"data_offsets": [-4, 16]},
    ],
    ids=str,
)
def test_tensors_that_do_not_fit_their_bytes_are_refused(fields: dict, tmp_path: Path) -> None:
    files = {**saved(), WEIGHTS: tampered_weights("head.bias", **fields)}
    with pytest.raises(ModelError, match=r"weights\.safetensors is damaged"):
        load_pt2(zipped(tmp_path / "net.pt2", files))


@pytest.mark.parametrize(
    "blob",
    [b"", b"\xff" * 8, struct.pack("<Q", 2**62) + b"{}", safetensor({}, b""), b"{}" * 40],
    ids=repr,
)
def test_weights_that_are_none_are_refused(blob: bytes, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        load_pt2(zipped(tmp_path / "net.pt2", {**saved(), WEIGHTS: blob}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_named(value: float, tmp_path: Path) -> None:
    module = model().module()
    with torch.no_grad():
        module.head.weight[0, 0] = value
    archive.write(tmp_path / "net.pt2", module, model().signature)
    with pytest.raises(ModelError, match=r"'head.weight' contains NaN or infinity"):
        load_pt2(tmp_path / "net.pt2")


@pytest.mark.parametrize(
    "samples",
    [
        {"x": np.zeros((2, 1, 4, 4), np.float32)},
        {"input_1": np.zeros((2, 1, 4, 5), np.float32)},
        {"input_1": np.zeros((2, 1, 4, 4), np.float64)},
        {"input_1": np.zeros((0, 1, 4, 4), np.float32)},
        {"input_1": np.full((2, 1, 4, 4), np.nan, np.float32)},
        {"input_1": np.zeros((2, 1, 4, 4), np.float32), "more": np.zeros(1)},
    ],
)
def test_samples_that_do_not_fit_are_refused(samples: dict, tmp_path: Path) -> None:
    files = {**saved(), SAMPLES: safetensors.numpy.save(samples)}
    with pytest.raises(ModelError, match="sample"):
        load_pt2(zipped(tmp_path / "net.pt2", files))


# --- damage ----------------------------------------------------------------------------------


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    whole = model().save(tmp_path / "net.pt2").read_bytes()
    for part in range(20):
        path = tmp_path / "part.pt2"
        path.write_bytes(whole[: len(whole) * part // 20])
        with pytest.raises(ModelError):
            load_pt2(path)


def test_a_flipped_bit_is_refused_or_harmless(tmp_path: Path) -> None:
    whole = model().save(tmp_path / "net.pt2").read_bytes()
    wanted = graphs.describe(model().graph)
    chosen = random.Random(0)
    # Half of them where the zip's own tables are: the rest is under checksums.
    places = [chosen.randrange(len(whole)) for _ in range(150)]
    places += [chosen.randrange(len(whole) - 250, len(whole)) for _ in range(150)]
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << chosen.randrange(8)
        path = tmp_path / "flipped.pt2"
        path.write_bytes(data)
        try:
            back = load_pt2(path)
        except ModelError:
            continue
        assert graphs.describe(back.graph) == wanted
        assert back.signature == model().signature


@pytest.mark.parametrize("name", [DOCUMENT, WEIGHTS, SAMPLES])
def test_changed_bytes_under_a_right_checksum_are_refused_or_a_model(
    name: str, tmp_path: Path
) -> None:
    chosen = random.Random(2)
    whole = saved()[name]
    # Of the tensors only their headers: any change in the numbers is another number.
    end = len(whole) if name == DOCUMENT else 8 + struct.unpack("<Q", whole[:8])[0]
    for _ in range(100):
        data = bytearray(whole)
        data[chosen.randrange(end)] ^= 1 << chosen.randrange(8)
        try:
            back = load_pt2(zipped(tmp_path / "net.pt2", {**saved(), name: bytes(data)}))
        except ModelError:
            continue
        assert back.graph.graph.nodes


def test_json_of_any_depth_or_length_is_refused(tmp_path: Path) -> None:
    deep = saved()[DOCUMENT].replace(b'"lineage":[', b'"lineage":' + b"[" * 100_000)
    params = b'"lineage":[{"step":"a","params":{"p":' + b"[" * 100_000
    deeper = saved()[DOCUMENT].replace(b'"lineage":[', params)
    for text in (deep, deeper, b"[" * 10**6, b'{"a":' * 10**6, b"", b"\xff\xfe", b"1" * 10**5):
        files = {**saved(), DOCUMENT: text}
        with pytest.raises(ModelError):
            load_pt2(zipped(tmp_path / "net.pt2", files))
    many = document()
    many["graph"]["nodes"] *= 3000
    with pytest.raises(ModelError, match="length"):
        load_pt2(with_document(tmp_path / "net.pt2", many))
