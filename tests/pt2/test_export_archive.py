"""The reader of torch.export.save: torch's own loader is the oracle, hostile files are refused."""

from __future__ import annotations

import io
import json
import pickle
import random
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgewise.errors import ModelError
from edgewise.loading.torch import load_module
from edgewise.pt2 import export_archive

from .archives import entries, leaves, replaced, zipped
from .nets import NETS, examples, exported, net


@cache
def saved(name: str, *, train: bool = False, dynamic: bool = True) -> dict[str, bytes]:
    """The entries of the file that torch.export.save writes."""
    buffer = io.BytesIO()
    torch.export.save(exported(name, train=train, dynamic=dynamic), buffer)
    return entries(buffer.getvalue())


def entry(files: dict[str, bytes], end: str) -> str:
    return next(name for name in files if name.endswith(end))


def changed(files: dict[str, bytes], end: str, change: Callable[[Any], Any]) -> dict[str, bytes]:
    """The entries with one JSON entry changed in place."""
    name = entry(files, end)
    document = json.loads(files[name])
    change(document)
    return {**files, name: json.dumps(document).encode()}


def flat(outputs: Any) -> list[torch.Tensor]:
    return torch.utils._pytree.tree_leaves(outputs)


# --- the oracle ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_gives_the_bits_of_torchs_loader(name: str, tmp_path: Path) -> None:
    path = zipped(tmp_path / "net.pt2", saved(name))
    module, signature = export_archive.read(path)
    oracle = torch.export.load(path).module()
    for batch in (2, 7):
        args = examples(name, batch, seed=batch)
        with torch.no_grad():
            wanted = flat(oracle(*args))
            found = module(*(a for a in args if a is not None))
        assert len(found) == len(wanted) == len(signature.outputs)
        for a, b, spec in zip(found, wanted, signature.outputs, strict=True):
            assert a.dtype == b.dtype == getattr(torch, spec.dtype)
            assert torch.equal(a, b)
            assert spec.shape == (None, *b.shape[1:])


@pytest.mark.parametrize("name", NETS)
def test_reads_the_same_as_loading_the_module_itself(name: str, tmp_path: Path) -> None:
    if any(make(1) is None for make in NETS[name][1]):
        pytest.skip("load_module takes no argument that is None")
    module, signature = export_archive.read(zipped(tmp_path / "net.pt2", saved(name)))
    model = load_module(net(name), examples(name, 1))
    calls = [(n.name, n.target) for n in model.graph.graph.nodes if n.op == "call_function"]
    assert [(n.name, n.target) for n in module.graph.nodes if n.op == "call_function"] == calls
    names = {n for n, _ in [*model.graph.named_parameters(), *model.graph.named_buffers()]}
    assert {n for n, _ in [*module.named_parameters(), *module.named_buffers()]} == names
    assert signature.outputs == model.signature.outputs
    args = examples(name, 3)
    with torch.no_grad():
        assert all(map(torch.equal, module(*args), model.graph(*args)))


def test_files_of_torch_2_9_are_read(tmp_path: Path) -> None:
    """Schema 8.14: nodes have no names of their own."""

    def older(document: dict) -> None:
        document["schema_version"]["minor"] = 14
        for node in document["graph_module"]["graph"]["nodes"]:
            del node["name"]

    path = zipped(tmp_path / "net.pt2", changed(saved("recurrent"), "models/model.json", older))
    module, _ = export_archive.read(path)
    x = examples("recurrent", 3)[0]
    with torch.no_grad():
        assert torch.equal(module(x)[0], net("recurrent")(x))


def test_a_net_exported_in_training_mode_comes_out_in_eval_mode(tmp_path: Path) -> None:
    module, _ = export_archive.read(
        zipped(tmp_path / "net.pt2", saved("convolutional", train=True))
    )
    x = examples("convolutional", 3)[0]
    with torch.no_grad():
        torch.testing.assert_close(module(x)[0], net("convolutional")(x))
        assert torch.equal(module(x)[0], module(x)[0])
    assert not any("num_batches_tracked" in name for name, _ in module.named_buffers())


def test_a_fixed_batch_is_taken_where_the_graph_runs_at_others(tmp_path: Path) -> None:
    module, signature = export_archive.read(
        zipped(tmp_path / "net.pt2", saved("convolutional", dynamic=False))
    )
    assert signature.inputs[0].shape == (None, 3, 8, 8)
    x = examples("convolutional", 5)[0]
    with torch.no_grad():
        assert torch.equal(module(x)[0], net("convolutional")(x))


def test_a_batch_size_that_is_part_of_the_graph_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = zipped(tmp_path / "net.pt2", saved("recurrent", dynamic=False))
    with pytest.raises(ModelError, match=r"batch of 2 only .*dynamic_shapes=\{'x': \{0:"):
        export_archive.read(path)
    assert not [r for r in caplog.records if r.levelname == "ERROR"]


# --- what is refused -------------------------------------------------------------------------


class _Cond(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,))


class _State(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.add_(x.sum(0))
        return x + self.seen


class _NoGrad(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            y = x * 2
        return y + x


@pytest.mark.parametrize(
    ("module", "says"),
    [(_Cond(), "higher_order.cond"), (_State(), "'seen' in place"), (_NoGrad(), "no_grad")],
)
def test_what_only_python_can_run_is_refused(module: nn.Module, says: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    args = (torch.randn(2, 3),)
    program = torch.export.export(module, args, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, path)
    with pytest.raises(ModelError, match=says):
        export_archive.read(path)


def test_a_dynamic_axis_that_is_not_the_batch_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    shapes = ({0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC},)
    args = (torch.randn(2, 3, 8, 8),)
    torch.export.save(torch.export.export(nn.Conv2d(3, 4, 3), args, dynamic_shapes=shapes), path)
    with pytest.raises(ModelError, match="axis 2 of the input 'input' is dynamic"):
        export_archive.read(path)


def _node(document: dict, target: str) -> dict:
    nodes = document["graph_module"]["graph"]["nodes"]
    return next(n for n in nodes if target in n["target"])


def _weight(document: dict) -> dict:
    return document["config"]["head.weight"]


# What is done to which JSON entry -> what the message says.
TAMPERED: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "pickled weight": (
        "weights_config.json",
        lambda d: _weight(d).update(use_pickle=True),
        "pickle",
    ),
    "no bytes": ("weights_config.json", lambda d: _weight(d).update(path_name="../x"), "complete"),
    "2^60 elements": (
        "weights_config.json",
        lambda d: _weight(d)["tensor_meta"].update(
            sizes=[{"as_int": 2**30}] * 2, strides=[{"as_int": 0}] * 2
        ),
        "does not fit",
    ),
    "beyond its bytes": (
        "weights_config.json",
        lambda d: _weight(d)["tensor_meta"].update(storage_offset={"as_int": 1}),
        "does not fit",
    ),
    "negative size": (
        "weights_config.json",
        lambda d: _weight(d)["tensor_meta"].update(sizes=[{"as_int": -5}, {"as_int": -8}]),
        "shape",
    ),
    "negative stride": (
        "weights_config.json",
        lambda d: _weight(d)["tensor_meta"].update(strides=[{"as_int": -8}, {"as_int": 1}]),
        "shape",
    ),
    "size as expression": (
        "weights_config.json",
        lambda d: _weight(d)["tensor_meta"].update(sizes=[{"as_expr": {"expr_str": "5"}}] * 2),
        "shape",
    ),
    "unknown dtype": (
        "weights_config.json",
        lambda d: _weight(d)["tensor_meta"].update(dtype=99),
        "unknown dtype 99",
    ),
    "missing weight": ("weights_config.json", lambda d: d["config"].pop("head.weight"), "no data"),
    "future schema": (
        "models/model.json",
        lambda d: d["schema_version"].update(major=9),
        "schema version 9",
    ),
    "dangling reference": (
        "models/model.json",
        lambda d: _node(d, "linear")["inputs"][0]["arg"]["as_tensor"].update(name="nowhere"),
        "no earlier node",
    ),
    "cycle": (
        "models/model.json",
        lambda d: _node(d, "conv2d")["inputs"][0]["arg"]["as_tensor"].update(name="linear"),
        "no earlier node",
    ),
    "two nodes of one name": (
        "models/model.json",
        lambda d: d["graph_module"]["graph"]["nodes"].append(
            d["graph_module"]["graph"]["nodes"][0]
        ),
        "two nodes",
    ),
    "missing argument": (
        "models/model.json",
        lambda d: _node(d, "conv2d")["inputs"].pop(0),
        "lacks",
    ),
    "argument twice": (
        "models/model.json",
        lambda d: _node(d, "conv2d")["inputs"].append(_node(d, "conv2d")["inputs"][0]),
        "twice",
    ),
    "unknown argument": (
        "models/model.json",
        lambda d: _node(d, "conv2d")["inputs"][0].update(name="nothing"),
        "does not take",
    ),
    "unlisted operator": (
        "models/model.json",
        lambda d: _node(d, "conv2d").update(target="torch.ops.aten.from_file.default"),
        "aten.from_file.default",
    ),
    "operator of Python": (
        "models/model.json",
        lambda d: _node(d, "conv2d").update(target="torch.hub.load"),
        "torch.hub.load",
    ),
    "custom object": (
        "models/model.json",
        lambda d: d["graph_module"]["signature"]["input_specs"].__setitem__(
            0, {"custom_obj": {"arg": {"name": "a", "class_fqn": "b"}, "custom_obj_name": "c"}}
        ),
        "custom_obj",
    ),
    "opaque argument": (
        "models/model.json",
        lambda d: _node(d, "conv2d")["inputs"][0].update(
            arg={"as_custom_obj": {"name": "a", "class_fqn": "b"}}
        ),
        "as_custom_obj",
    ),
    "no input spec": (
        "models/model.json",
        lambda d: d["graph_module"]["signature"]["input_specs"].pop(),
        "inputs and",
    ),
    "two values in one argument": (
        "models/model.json",
        lambda d: _node(d, "conv2d")["inputs"][0]["arg"].update(as_int=1),
        "one belongs",
    ),
    "cuda": (
        "models/model.json",
        lambda d: _node(d, "conv2d")["inputs"][2].update(arg={"as_device": {"type": "cuda"}}),
        "for CPUs",
    ),
    "huge input": (
        "models/model.json",
        lambda d: d["graph_module"]["graph"]["tensor_values"]["input"]["sizes"].__setitem__(
            1, {"as_int": 2**64}
        ),
        "no array has",
    ),
    "mutated buffer": (
        "models/model.json",
        lambda d: d["graph_module"]["signature"]["output_specs"].__setitem__(
            0, {"buffer_mutation": {"arg": {"name": "linear"}, "buffer_name": "norm.running_mean"}}
        ),
        "its own state",
    ),
    "no program": ("models/model.json", lambda d: d.pop("graph_module"), "not valid"),
    "in-place on an input": (
        "models/model.json",
        lambda d: _node(d, "relu_")["inputs"][0]["arg"]["as_tensor"].update(name="input"),
        "in place",
    ),
}


@pytest.mark.parametrize("attack", TAMPERED)
def test_a_tampered_archive_is_refused(attack: str, tmp_path: Path) -> None:
    end, change, says = TAMPERED[attack]
    path = zipped(tmp_path / "net.pt2", changed(saved("convolutional"), end, change))
    with pytest.raises(ModelError, match=says) as error:
        export_archive.read(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_pickles_are_never_opened(marker: Path, tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self):
            return Path.touch, (marker,)

    attack = pickle.dumps(Attack())
    files = saved("convolutional")
    # The sample inputs, and everything else that torch's loader would unpickle.
    hostile = {**files, entry(files, "sample_inputs/model.pt"): attack}
    stem = next(iter(files)).split("/")[0]
    for name in ("data/weights/model.pt", "data/constants/model.pt", "data/constants/opaque_obj_0"):
        hostile[f"{stem}/{name}"] = attack
    module, _ = export_archive.read(zipped(tmp_path / "net.pt2", hostile))
    x = examples("convolutional", 2)[0]
    with torch.no_grad():
        assert torch.equal(module(x)[0], net("convolutional")(x))

    def pickled(document: dict) -> None:
        for payload in document["config"].values():
            payload["use_pickle"] = True

    hostile = {n: attack if "/weight_" in n else data for n, data in hostile.items()}
    hostile = changed(hostile, "weights_config.json", pickled)
    with pytest.raises(ModelError, match="pickle"):
        export_archive.read(zipped(tmp_path / "weights.pt2", hostile))


def test_a_checkpoint_of_torch_save_is_named(marker: Path, tmp_path: Path) -> None:
    torch.save(net("convolutional").state_dict(), tmp_path / "net.pt2")
    with pytest.raises(ModelError, match="pickled checkpoint"):
        export_archive.read(tmp_path / "net.pt2")


def test_expressions_are_never_evaluated(marker: Path, tmp_path: Path) -> None:
    code = f"__import__('pathlib').Path('{marker}').touch()"

    def hostile(value: Any) -> None:
        if isinstance(value, dict):
            value.update({k: code for k in value if k == "expr_str"})
        for item in value.values() if isinstance(value, dict) else value:
            if isinstance(item, dict | list):
                hostile(item)

    files = changed(saved("recurrent"), "models/model.json", hostile)
    assert files[entry(files, "models/model.json")].count(b"touch()") > 10
    module, _ = export_archive.read(zipped(tmp_path / "net.pt2", files))
    x = examples("recurrent", 2)[0]
    with torch.no_grad():
        assert torch.equal(module(x)[0], net("recurrent")(x))


def test_code_in_any_string_is_not_executed(
    marker: Path, payloads: tuple[str, ...], tmp_path: Path
) -> None:
    files = saved("two_inputs")
    chosen = random.Random(0)
    for end in ("models/model.json", "weights_config.json", "constants_config.json"):
        document = json.loads(files[entry(files, end)])
        strings = [p for p, value in leaves(document) if isinstance(value, str)]
        for path in chosen.sample(strings, min(60, len(strings))):
            hostile = replaced(document, path, chosen.choice(payloads))
            file = zipped(
                tmp_path / "net.pt2", {**files, entry(files, end): json.dumps(hostile).encode()}
            )
            try:
                module, signature = export_archive.read(file)
            except ModelError:
                continue
            # What is free text (stack traces, expressions) or a name that is one: no effect.
            with torch.no_grad():
                module(*(a for a in examples("two_inputs", 2) if a is not None))
            assert all(spec.name.isprintable() for spec in signature.inputs)


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "net.pt2", saved("convolutional")).read_bytes()
    for part in range(20):
        path = tmp_path / "part.pt2"
        path.write_bytes(whole[: len(whole) * part // 20])
        with pytest.raises(ModelError):
            export_archive.read(path)


def test_changed_bytes_are_refused_or_harmless(tmp_path: Path) -> None:
    """JSON with one byte changed, its checksum made to fit, is refused or still a graph."""
    files = saved("convolutional")
    chosen = random.Random(1)
    for _ in range(80):
        end = chosen.choice(["models/model.json", "weights_config.json"])
        name = entry(files, end)
        data = bytearray(files[name])
        data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
        try:
            module, _ = export_archive.read(
                zipped(tmp_path / "net.pt2", {**files, name: bytes(data)})
            )
        except ModelError:
            continue
        assert isinstance(module, torch.fx.GraphModule)


def test_a_compressed_archive_is_read_as_well(tmp_path: Path) -> None:
    path = zipped(tmp_path / "net.pt2", saved("convolutional"), zipfile.ZIP_DEFLATED)
    assert export_archive.read(path)[1].inputs[0].name == "input"
