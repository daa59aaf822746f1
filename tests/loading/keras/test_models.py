"""Whole models: of the data, of Keras' own collection, and as Keras 2 wrote them."""

import os

import numpy as np
import pytest
import torch

import edgewise as ew

from .files import layer, model, source, write_h5
from .test_layers import agrees, permutes

FILES = [
    "mlperf_tiny/ic01/pretrainedResnet.h5",
    "mlperf_tiny/vww01/vww_96.h5",
    "mlperf_tiny/ad01/ad01.h5",
    "mlperf_tiny/sww01/str_ww_ref_model.h5",
    "st_har/model.h5",
]


def inner(loaded):
    return [n for n in permutes(loaded) if n.args[0].op != "placeholder"]


@pytest.mark.parametrize("name", FILES, ids=os.path.basename)
def test_the_files_of_the_data_agree_with_keras(keras, shared_data, name):
    class Depthwise(keras.layers.DepthwiseConv2D):
        def __init__(self, *args, groups=1, **kwargs):  # Keras 2 wrote it, Keras 3 refuses it
            super().__init__(*args, **kwargs)

    path = shared_data / name
    loaded = ew.load(path)
    x = np.random.default_rng(0).normal(0, 1, (4, *loaded.signature.inputs[0].shape[1:]))
    theirs = keras.saving.load_model(
        path, compile=False, custom_objects={"DepthwiseConv2D": Depthwise}
    )
    want = theirs(x.astype(np.float32), training=False).detach().numpy()
    scale = max(1.0, np.abs(want).max())
    np.testing.assert_allclose(loaded(x.astype(np.float32)), want, atol=1e-4 * scale)
    assert inner(loaded) == []
    assert all(p.requires_grad for p in loaded.graph.parameters())


def test_the_resnet_of_mlperf_tiny_classifies(shared_data):
    loaded = ew.load(shared_data / FILES[0])
    with np.load(shared_data / "cifar10" / "cifar10_train20k_test10k.npz") as f:
        images, labels = f["x_test"][:500].astype(np.float32), f["y_test"][:500]
    assert np.mean(loaded(images).argmax(1) == labels) > 0.85  # 87.19 % of all 10,000
    assert loaded.signature.inputs[0].layout == "NHWC"
    assert len(permutes(loaded)) == 1


def test_a_net_of_keras_own_collection(keras, tmp_path):
    """MobileNetV2 with its inverted residuals, at a size that is quick to run."""
    net = keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, weights=None, classes=10)
    loaded = agrees(keras, net, tmp_path)
    assert inner(loaded) == []
    names = dict(loaded.graph.named_parameters())
    assert names["Conv1.weight"].shape == (16, 3, 3, 3)
    assert names["block_1_depthwise.weight"].shape == (48, 1, 3, 3)
    assert any(n.name == "Conv1_relu_relu6" for n in loaded.graph.graph.nodes)


def test_a_keras_model_goes_all_the_way(keras, tmp_path):
    """Folded, quantized, saved, and trained like one from PyTorch."""
    k = keras.layers
    x = k.Input((8, 8, 3), name="pixels")
    h = k.ReLU()(k.BatchNormalization()(k.Conv2D(8, 3, 2, padding="same", use_bias=False)(x)))
    h = k.Add()([h, k.BatchNormalization()(k.DepthwiseConv2D(3, padding="same")(h))])
    net = keras.Model(x, k.Dense(4)(k.Dropout(0.5)(k.Flatten()(h))))
    loaded = agrees(keras, net, tmp_path)
    assert [s.name for s in loaded.signature.inputs] == ["pixels"]
    data = np.random.default_rng(0).normal(0, 1, (32, 8, 8, 3)).astype(np.float32)
    quantized = ew.Quantize("int8")(loaded, {"calibration": data})
    targets = {n.target for n in quantized.graph.graph.nodes}
    assert torch.ops.aten.batch_norm.default not in targets
    assert quantized.lineage[-1].skipped == {}
    again = ew.load(quantized.save(tmp_path / "q.pt2"))
    np.testing.assert_array_equal(again(data), quantized(data))
    module = loaded.module()
    module(torch.from_numpy(data))[0].sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_a_file_of_keras_2(tmp_path):
    """Its hard sigmoid is another one; the optimizer's state is left alone."""
    entries = [
        source((4,)),
        {**layer("Dense", "d/1", ["x"], units=3, activation="hard_sigmoid"), "module": None},
    ]
    arrays = {"d/1": {"kernel": np.eye(4, 3, dtype=np.float32), "bias": np.ones(3, np.float32)}}
    path = write_h5(tmp_path / "m.h5", model(entries, "d/1"), arrays)
    x = np.array([[1, -2, -9, 0]], np.float32)
    loaded = ew.load(path)
    np.testing.assert_allclose(loaded(x), [[0.9, 0.3, 0.0]], atol=1e-6)
    assert set(dict(loaded.graph.named_parameters())) == {"d_1.weight", "d_1.bias"}
