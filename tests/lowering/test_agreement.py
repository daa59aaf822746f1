"""Disagreement is found and its layer named: a lowering made wrong on purpose is caught."""

import importlib

import numpy as np
import pytest

from edgewise import lower as verb
from edgewise.errors import Disagreement, InputError
from edgewise.loading import load
from edgewise.lowering.agreement import agree, first_disagreement, samples_for
from edgewise.record import Signature

from ..nets import loaded, make, quantized


class Wrong:
    """Stands for an artifact: runs the Model with one layer's weight changed, where it has it."""

    precision = "int8"

    def __init__(self, model, layer):
        self.module = model.module()
        self.signature: Signature = model.signature
        if any(n == f"{layer}.bias" for n, _ in self.module.named_parameters()):
            self.module.get_submodule(layer).bias.data.add_(20.0)

    def run(self, *inputs):
        import torch

        with torch.no_grad():
            return self.module(*map(torch.from_numpy, inputs))[0].numpy()


@pytest.mark.parametrize("layer", ["conv1", "conv2", "head"])
def test_the_first_wrong_layer_is_named(layer):
    model, x = quantized("residual")
    found = first_disagreement(model, lambda part, at: Wrong(part, layer), (x.numpy(),))
    assert found == layer


def test_equal_outputs_agree_and_changed_ones_do_not():
    model, x = loaded("residual")
    same = agree(model, Wrong(model, "none"), (x.numpy(),), "data")
    assert (same.top1, same.max_steps, same.n, same.source) == (1.0, 0.0, 64, "data")
    changed = agree(model, Wrong(model, "head"), (x.numpy(),), "data")
    assert changed.max_abs == pytest.approx(20, rel=1e-4)
    assert changed.mean_steps > 1


def test_samples_come_from_the_data_the_model_or_a_seed():
    model, x = loaded("perceptron")
    assert samples_for(model)[1] == "random"
    assert samples_for(model.with_samples((x.numpy(),)))[1] == "model"
    (given,), source = samples_for(model, {"calibration": x.numpy()})
    assert source == "data"
    assert len(given) == 64
    assert np.array_equal(samples_for(model)[0][0], samples_for(model)[0][0])


def test_a_file_that_disagrees_is_not_written(tmp_path, monkeypatch):
    """The real lowering of a Model whose weights change between lowering and comparing."""
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    room = importlib.import_module("edgewise.lowering")
    net, x = make("residual")
    model = load(net, x[:1]).with_samples((x.numpy(),))
    honest = room.write

    def spoiled(part, runtime, path, **options):
        part = load(part)
        module = part.module()
        if hasattr(module, "conv2"):
            module.conv2.weight.data.mul_(-1)
        return honest(type(part)(module, part.signature), runtime, path, **options)

    monkeypatch.setattr(room, "write", spoiled)
    with pytest.raises(Disagreement, match="beginning at layer"):
        verb(model, "onnxruntime", tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("runtime", "path", "word"),
    [
        ("tensorrt", "net.engine", "choose one of onnxruntime"),
        ("onnxruntime", "net.tflite", "end in .onnx"),
        ("onnxruntime", "none/net.onnx", "does not exist"),
    ],
)
def test_bad_calls_are_refused(tmp_path, runtime, path, word):
    net, x = make("perceptron")
    with pytest.raises(InputError, match=word):
        verb(load(net, x[:1]), runtime, tmp_path / path)
    assert list(tmp_path.iterdir()) == []
