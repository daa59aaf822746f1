"""A Model is a Model, whichever door it came in by: every step and every runtime takes it."""

import os

import numpy as np
import pytest
import torch
from torch import nn

import edgewise as ew
from edgewise.edge.runners import RUNTIMES

DOORS = ("torch", "pt2", "onnx", "tflite", "keras", "h5")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU(),
        nn.Conv2d(16, 24, 1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(24, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    ).eval()  # fmt: skip


def keras_file(path) -> None:
    """The same layers from Keras, with random weights of its own."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="needs Keras to write its files")
    layers = keras.layers
    keras.utils.set_random_seed(0)
    keras.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, padding="same", activation="relu"),
            layers.Conv2D(24, 1, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5),
        ]
    ).save(path)


@pytest.fixture(scope="module", params=DOORS)
def model(request, tmp_path_factory) -> ew.Model:
    folder, door = tmp_path_factory.mktemp(request.param), request.param
    example = torch.zeros(1, 3, 8, 8)
    if door == "torch":
        return ew.load(network(), example=example)
    path = folder / f"net.{door}"
    if door in ("keras", "h5"):
        keras_file(path)
    elif door == "pt2":
        ew.load(network(), example=example).save(path)
    else:
        runtime = {"onnx": "onnxruntime", "tflite": "litert"}[door]
        ew.lower(ew.load(network(), example=example), runtime, path)
    return ew.load(path)


@pytest.fixture(scope="module")
def x(model) -> np.ndarray:
    shape = tuple(64 if size is None else size for size in model.signature.inputs[0].shape)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def permutes(model) -> list[str]:
    """What moves axes behind the input and before the output."""
    first = [n for n in model.graph.graph.nodes if n.op == "placeholder"]
    return [
        n.name
        for n in model.graph.graph.nodes
        if n.op == "call_function"
        and "permute" in str(n.target)
        and not (n.args[0] in first or all(u.op == "output" for u in n.users))
    ]


def test_the_graph_has_no_permutes_inside_and_any_batch(model, x):
    assert permutes(model) == []
    assert np.allclose(model(x)[:3], model(x[:3]), atol=1e-5)


def test_it_trains(model, x):
    module = model.module()
    loss = module(torch.from_numpy(x))[0].square().mean()
    loss.backward()
    weights = [p for p in module.parameters() if p.requires_grad]
    assert weights and all(torch.isfinite(p.grad).all() for p in weights if p.grad is not None)
    assert sum(p.grad is not None and bool(p.grad.any()) for p in weights) >= 6


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_it_is_pruned_quantized_and_lowered(model, x, runtime, tmp_path):
    data = {"calibration": x}
    thin = ew.Prune(0.3)(model, data)
    small = ew.Quantize("int8")(thin, data)
    assert ew.inspect(thin, []).macs < 0.75 * ew.inspect(model, []).macs
    assert small.lineage[-1].skipped == {}
    path = tmp_path / f"net{RUNTIMES[runtime].suffixes[0]}"
    agreement = ew.lower(small, runtime, path, data=x).agreement
    assert agreement.max_steps < 0.01


def test_its_quantized_form_comes_in_again(model, x, tmp_path):
    small = ew.Quantize("int8")(model, {"calibration": x})
    for runtime, name in (("onnxruntime", "net.onnx"), ("litert", "net.tflite")):
        ew.lower(small, runtime, tmp_path / name)
        again = ew.load(tmp_path / name)
        assert again.quantized
        axes = None if again.signature.inputs[0].shape[1:] == x.shape[1:] else (0, 2, 3, 1)
        given = x if axes is None else np.ascontiguousarray(x.transpose(axes))
        assert np.allclose(again(given), small(x), atol=1e-5)
