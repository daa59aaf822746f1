"""Quantization-aware training: a quantized Model trains as it is."""

import dataclasses

import numpy as np
import pytest
import torch

import edgewise as ew
from edgewise.graph.canonical import FAKE_QUANTIZE
from edgewise.train.training import Optimizer, Training

from .conftest import accuracy


def scales(model) -> dict[str, torch.Tensor]:
    nodes = [n for n in model.graph.graph.nodes if n.target is FAKE_QUANTIZE]
    buffers = dict(model.graph.named_buffers())
    return {n.args[1].target: buffers[n.args[1].target] for n in nodes}


TRAINING = Training(epochs=4, batch=64, optimizer=Optimizer(rate=0.01))


@pytest.fixture(scope="module")
def narrow(teacher, digits):
    """Two bits of weights and activations, untrained: broken."""
    return ew.Quantize("int8", weight_bits=2, activation_bits=2)(teacher, digits)


@pytest.fixture(scope="module")
def trained(narrow, teacher, digits):
    return ew.Distill(teacher, alpha=1.0, training=TRAINING)(narrow, digits)


def test_two_bits_are_learned_where_they_are_broken(teacher, narrow, trained, digits):
    whole, before, after = (accuracy(m, digits) for m in (teacher, narrow, trained))
    assert before < whole - 0.1
    assert whole - after < (whole - before) / 2


def test_scales_are_learned_and_stay_buffers(narrow, trained):
    before, after = scales(narrow), scales(trained)
    assert before.keys() == after.keys()
    moved = [float(((after[k] - before[k]) / before[k]).abs().max()) for k in before]
    assert max(moved) > 0.02
    assert all(bool((scale > 0).all()) for scale in after.values())


def test_scales_stay_where_they_are_if_asked(narrow, teacher, digits):
    training = dataclasses.replace(TRAINING, epochs=1, scales=False)
    trained = ew.Distill(teacher, alpha=1.0, training=training)(narrow, digits)
    before, after = scales(narrow), scales(trained)
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=0.01, atol=0)


def test_a_runtime_computes_the_integers_that_were_trained(trained, digits, tmp_path):
    artifact = ew.lower(trained, "litert", tmp_path / "net.tflite")
    assert artifact.agreement.max_steps == 0
    x = digits[0][:200]
    np.testing.assert_allclose(artifact.run(x), trained(x), rtol=0, atol=1e-5)


def test_what_was_saved_trains_on(trained, teacher, digits, tmp_path):
    again = ew.load(trained.save(tmp_path / "net.pt2"))
    more = ew.Distill(teacher, alpha=1.0, training=dataclasses.replace(TRAINING, epochs=1))
    assert accuracy(more(again, digits), digits) > accuracy(trained, digits) - 0.05
