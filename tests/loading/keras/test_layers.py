"""Every layer against Keras' own, on files that Keras writes."""

import numpy as np
import pytest
import torch

import edgewise as ew

aten = torch.ops.aten


def saved(keras, model, folder, suffix):
    """The file of a model whose weights are all different from what they are made as."""
    drawn = np.random.default_rng(0)
    for variable in model.weights:
        if np.issubdtype(np.dtype(variable.dtype), np.floating):
            value = drawn.normal(0, 0.4, variable.shape)
            positive = "variance" in variable.name
            variable.assign(np.abs(value) + 0.5 if positive else value)
    path = folder / f"model{suffix}"
    model.save(path)
    return path


def inputs_of(model, batch=3):
    drawn = np.random.default_rng(1)
    arrays = []
    for tensor in model.inputs:
        shape = (batch, *tensor.shape[1:])
        whole = "int" in str(tensor.dtype)
        arrays.append(
            drawn.integers(0, 5, shape).astype(tensor.dtype)
            if whole
            else drawn.normal(0, 1, shape).astype(np.float32)
        )
    return arrays


def agrees(keras, model, folder, suffix=".keras", atol=1e-4):
    loaded = ew.load(saved(keras, model, folder, suffix))
    arrays = inputs_of(model)
    want = model(arrays if len(arrays) > 1 else arrays[0], training=False)
    have = loaded(*arrays)
    want = want if isinstance(want, list | tuple) else [want]
    have = have if isinstance(have, tuple) else (have,)
    for ours, theirs in zip(have, want, strict=True):
        theirs = theirs.detach().numpy()
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=atol)
    return loaded


def permutes(model):
    return [n for n in model.graph.graph.nodes if n.target is aten.permute.default]


IMAGE, SERIES, FLAT = (9, 8, 4), (10, 4), (6,)

LAYERS = {
    "dense": (FLAT, lambda k: k.Dense(5, "relu")),
    "dense on maps": (IMAGE, lambda k: k.Dense(5, "gelu", use_bias=False)),
    "conv1d": (SERIES, lambda k: k.Conv1D(5, 3, activation="tanh")),
    "conv1d causal": (SERIES, lambda k: k.Conv1D(5, 3, padding="causal", dilation_rate=2)),
    "conv1d same": (SERIES, lambda k: k.Conv1D(5, 4, 3, padding="same")),
    "conv2d": (IMAGE, lambda k: k.Conv2D(5, (3, 2), activation="softmax")),
    "conv2d same": (IMAGE, lambda k: k.Conv2D(5, 3, 2, padding="same", activation="relu6")),
    "conv2d even": (IMAGE, lambda k: k.Conv2D(5, 2, padding="same")),
    "conv2d groups": (IMAGE, lambda k: k.Conv2D(6, 3, groups=2, use_bias=False)),
    "conv2d dilated": (IMAGE, lambda k: k.Conv2D(6, 3, dilation_rate=2, padding="same")),
    "conv2d transpose": (IMAGE, lambda k: k.Conv2DTranspose(5, 4, 2, padding="same")),
    "conv2d transpose valid": (IMAGE, lambda k: k.Conv2DTranspose(5, 3, 2, activation="relu")),
    "conv2d transpose gaps": (IMAGE, lambda k: k.Conv2DTranspose(5, 2, 3)),
    "conv1d transpose": (SERIES, lambda k: k.Conv1DTranspose(5, 4, 2, padding="same")),
    "depthwise": (IMAGE, lambda k: k.DepthwiseConv2D(3, padding="same", activation="relu")),
    "depthwise twice": (IMAGE, lambda k: k.DepthwiseConv2D(3, 2, depth_multiplier=2)),
    "depthwise1d": (SERIES, lambda k: k.DepthwiseConv1D(3, padding="same")),
    "separable": (IMAGE, lambda k: k.SeparableConv2D(5, 3, padding="same", depth_multiplier=2)),
    "separable1d": (SERIES, lambda k: k.SeparableConv1D(5, 3, activation="elu")),
    "batch norm": (IMAGE, lambda k: k.BatchNormalization()),
    "batch norm bare": (SERIES, lambda k: k.BatchNormalization(center=False, scale=False)),
    "batch norm flat": (FLAT, lambda k: k.BatchNormalization(scale=False)),
    "layer norm": (SERIES, lambda k: k.LayerNormalization()),
    "layer norm of maps": (IMAGE, lambda k: k.LayerNormalization(axis=[-2, -1], center=False)),
    "group norm": (IMAGE, lambda k: k.GroupNormalization(2)),
    "unit norm": (SERIES, lambda k: k.UnitNormalization()),
    "max pool": (IMAGE, lambda k: k.MaxPooling2D(2)),
    "max pool same": (IMAGE, lambda k: k.MaxPooling2D(3, 2, padding="same")),
    "max pool even": (IMAGE, lambda k: k.MaxPooling2D((2, 3), 1, padding="same")),
    "max pool1d": (SERIES, lambda k: k.MaxPooling1D(3, 2, padding="same")),
    "average pool": (IMAGE, lambda k: k.AveragePooling2D((2, 3), 2)),
    "average pool same": (IMAGE, lambda k: k.AveragePooling2D(2, padding="same")),
    "average pool even": (IMAGE, lambda k: k.AveragePooling2D((2, 4), (1, 2), padding="same")),
    "average pool1d": (SERIES, lambda k: k.AveragePooling1D(3, 3, padding="same")),
    "global average": (IMAGE, lambda k: k.GlobalAveragePooling2D()),
    "global average kept": (IMAGE, lambda k: k.GlobalAveragePooling2D(keepdims=True)),
    "global average1d": (SERIES, lambda k: k.GlobalAveragePooling1D()),
    "global max": (IMAGE, lambda k: k.GlobalMaxPooling2D()),
    "global max1d": (SERIES, lambda k: k.GlobalMaxPooling1D()),
    "relu": (FLAT, lambda k: k.ReLU()),
    "relu6": (FLAT, lambda k: k.ReLU(6)),
    "relu bent": (FLAT, lambda k: k.ReLU(1.0, 0.1, 0.2)),
    "leaky relu": (FLAT, lambda k: k.LeakyReLU(0.2)),
    "elu": (FLAT, lambda k: k.ELU(0.7)),
    "prelu": (IMAGE, lambda k: k.PReLU(shared_axes=[1, 2])),
    "prelu everywhere": (IMAGE, lambda k: k.PReLU()),
    "softmax": (IMAGE, lambda k: k.Softmax()),
    "flatten": (IMAGE, lambda k: k.Flatten()),
    "reshape": (IMAGE, lambda k: k.Reshape((-1, 8))),
    "permute": (IMAGE, lambda k: k.Permute((3, 1, 2))),
    "repeat": (FLAT, lambda k: k.RepeatVector(3)),
    "zero padding": (IMAGE, lambda k: k.ZeroPadding2D(((1, 0), (2, 1)))),
    "zero padding1d": (SERIES, lambda k: k.ZeroPadding1D((2, 1))),
    "cropping": (IMAGE, lambda k: k.Cropping2D(((1, 0), (2, 1)))),
    "cropping1d": (SERIES, lambda k: k.Cropping1D(2)),
    "upsampling": (IMAGE, lambda k: k.UpSampling2D((2, 3))),
    "upsampling smooth": (IMAGE, lambda k: k.UpSampling2D(2, interpolation="bilinear")),
    "upsampling1d": (SERIES, lambda k: k.UpSampling1D(3)),
    "resizing": (IMAGE, lambda k: k.Resizing(5, 12)),
    "rescaling": (IMAGE, lambda k: k.Rescaling(1 / 127.5, -1)),
    "rescaling channels": (IMAGE, lambda k: k.Rescaling([1.0, 2.0, 3.0, 4.0], 0.5)),
    "normalization given": (FLAT, lambda k: k.Normalization(mean=[0.5] * 6, variance=[2.0] * 6)),
    "dropout": (FLAT, lambda k: k.Dropout(0.5)),
    "noise": (FLAT, lambda k: k.GaussianNoise(0.5)),
    "augmentation": (IMAGE, lambda k: k.RandomFlip()),
    "rnn": (SERIES, lambda k: k.SimpleRNN(5)),
    "lstm": (SERIES, lambda k: k.LSTM(5)),
    "lstm sequences": (SERIES, lambda k: k.LSTM(5, return_sequences=True, go_backwards=True)),
    "lstm bare": (SERIES, lambda k: k.LSTM(5, use_bias=False, unit_forget_bias=False)),
    "gru": (SERIES, lambda k: k.GRU(5, return_sequences=True)),
    "gru before": (SERIES, lambda k: k.GRU(5, reset_after=False)),
    "gru bare": (SERIES, lambda k: k.GRU(5, use_bias=False)),
    "both ways": (SERIES, lambda k: k.Bidirectional(k.LSTM(3, return_sequences=True))),
    "both ways summed": (SERIES, lambda k: k.Bidirectional(k.GRU(3), merge_mode="sum")),
    "time distributed": (IMAGE, lambda k: k.TimeDistributed(k.Conv1D(5, 3))),
}  # fmt: skip


# Uneven windows that Keras fills up on torch; TensorFlow, where such models come from, does not.
UNLIKE_TENSORFLOW = {"average pool even"}


@pytest.mark.parametrize("name", sorted(LAYERS.keys() - UNLIKE_TENSORFLOW))
def test_layers_agree_with_keras(keras, name, tmp_path):
    shape, make = LAYERS[name]
    agrees(keras, keras.Sequential([keras.layers.Input(shape), make(keras.layers)]), tmp_path)


def test_layers_agree_with_keras_from_h5_too(keras, tmp_path):
    inputs = {shape: keras.layers.Input(shape) for shape in (IMAGE, SERIES, FLAT)}
    outputs = [
        LAYERS[name][1](keras.layers)(inputs[LAYERS[name][0]])
        for name in sorted(LAYERS.keys() - UNLIKE_TENSORFLOW)
    ]
    agrees(keras, keras.Model(list(inputs.values()), outputs), tmp_path, ".h5")


@pytest.mark.parametrize(("kernel", "stride"), [((2, 4), (1, 2)), ((3, 2), (2, 1)), ((4, 5), 3)])
def test_what_lies_outside_counts_for_nothing(keras, kernel, stride, tmp_path):
    layer = keras.layers.AveragePooling2D(kernel, stride, padding="same")
    model = keras.Sequential([keras.layers.Input((9, 8, 1)), layer])
    x = np.random.default_rng(1).normal(size=(1, 9, 8, 1)).astype(np.float32)
    strides = (stride, stride) if isinstance(stride, int) else stride
    sums, counts = (_windows(v[0, ..., 0], kernel, strides) for v in (x, np.ones_like(x)))
    have = ew.load(saved(keras, model, tmp_path, ".keras"))(x)
    np.testing.assert_allclose(have[0, ..., 0], sums / counts, rtol=1e-4, atol=1e-5)


def _windows(x, kernel, stride):
    """Sums over TensorFlow's SAME windows, zeros outside."""
    starts = []
    for size, k, s in zip(x.shape, kernel, stride, strict=True):
        out = -(-size // s)
        before = max((out - 1) * s + k - size, 0) // 2
        starts.append([i * s - before for i in range(out)])
    return np.array(
        [
            [x[max(a, 0) : a + kernel[0], max(b, 0) : b + kernel[1]].sum() for b in starts[1]]
            for a in starts[0]
        ]
    )


ACTIVATIONS = [
    "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "sigmoid",
    "log_sigmoid", "hard_sigmoid", "silu", "hard_silu", "tanh", "hard_tanh", "tanh_shrink",
    "softplus", "softsign", "mish", "exponential", "softmax", "log_softmax",
]  # fmt: skip


def test_activations_agree_with_keras(keras, tmp_path):
    k = keras.layers
    x = k.Input((7,))
    outputs = [k.Activation(name)(x) for name in ACTIVATIONS]
    agrees(keras, keras.Model(x, outputs), tmp_path)


def test_merging_layers_agree_with_keras(keras, tmp_path):
    k = keras.layers
    x, y = k.Input((4, 4, 3)), k.Input((4, 4, 3))
    merged = [
        kind()([x, y])
        for kind in (k.Add, k.Subtract, k.Multiply, k.Average, k.Maximum, k.Minimum, k.Concatenate)
    ]
    agrees(keras, keras.Model([x, y], [*merged, k.Concatenate(axis=1)([x, y, x])]), tmp_path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_attention_and_embedding(keras, suffix, tmp_path):
    k = keras.layers
    x = k.Input((6,), dtype="int32")
    h = k.Embedding(5, 8)(x)
    h = k.LayerNormalization()(h + k.MultiHeadAttention(2, 4, dropout=0.1)(h, h))
    h = k.MultiHeadAttention(2, 3, value_dim=5, use_bias=False)(h, h, use_causal_mask=True)
    agrees(keras, keras.Model(x, k.Dense(3)(k.GlobalAveragePooling1D()(h))), tmp_path, suffix)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_models_in_models_and_shared_layers(keras, suffix, tmp_path):
    k = keras.layers
    x = k.Input((8, 8, 3))
    first = keras.Sequential([k.Conv2D(4, 3), k.BatchNormalization(), k.ReLU()], name="stem")
    shared = k.Conv2D(4, 3, padding="same", name="shared")
    h = shared(shared(first(x)))
    y = k.Input((6, 6, 4))
    inner = keras.Model(y, [k.Conv2D(2, 1, name="a-b")(y), k.Dense(2)(y)], name="heads")
    frozen = keras.Sequential([k.BatchNormalization(), k.Conv2D(4, 1)], name="frozen")
    frozen.trainable = False
    one, two = inner(frozen(h))
    out = k.Dense(3)(k.Flatten()(one * two + 1))
    loaded = agrees(keras, keras.Model(x, [out, h]), tmp_path, suffix)
    assert {"stem.conv2d.weight", "shared.weight"} & set(dict(loaded.graph.named_parameters()))


def test_functions_of_tensors_agree_with_keras(keras, tmp_path):
    ops, k = keras.ops, keras.layers
    x = k.Input((4, 6))
    h = ops.relu(x) * 2.0 - ops.sigmoid(x) / 3.0
    h = ops.concatenate([h, ops.maximum(x, 0.1), -ops.square(x)], axis=-1)
    outs = [ops.mean(h, axis=1), ops.max(h, axis=(1, 2)), ops.reshape(h, (-1, 3, 24)),
            ops.transpose(h, (0, 2, 1)), h[:, 1:, ::2], ops.softmax(h, axis=1)]  # fmt: skip
    agrees(keras, keras.Model(x, [*outs[:1], ops.expand_dims(outs[1], 1), *outs[2:]]), tmp_path)


def test_an_adapted_normalization_is_kept(keras, tmp_path):
    layer = keras.layers.Normalization()
    layer.adapt(np.random.default_rng(0).normal(3, 2, (50, 4)))
    model = keras.Sequential([keras.layers.Input((4,)), layer])
    path = tmp_path / "model.keras"
    model.save(path)
    x = np.random.default_rng(1).normal(3, 2, (5, 4)).astype(np.float32)
    np.testing.assert_allclose(ew.load(path)(x), model(x).detach().numpy(), rtol=1e-4, atol=1e-4)


def test_channels_first_models_have_no_permutes(keras, tmp_path):
    k = keras.layers
    first = {"data_format": "channels_first"}
    layers = [
        k.Conv2D(4, 3, padding="same", **first),
        k.BatchNormalization(axis=1),
        k.MaxPooling2D(2, **first),
        k.GlobalAveragePooling2D(**first),
        k.Dense(2),
    ]
    loaded = agrees(keras, keras.Sequential([k.Input((3, 8, 8)), *layers]), tmp_path)
    assert permutes(loaded) == []
    assert loaded.signature.inputs[0].layout == "NCHW"


def test_a_transposed_convolution_pads_as_tensorflow_does(keras, tmp_path):
    """Odd padding, where Keras on torch differs: the gradient of the convolution with SAME."""
    layer = keras.layers.Conv2DTranspose(2, 3, 2, padding="same", use_bias=False)
    model = keras.Sequential([keras.layers.Input((4, 5, 3)), layer])
    loaded = ew.load(saved(keras, model, tmp_path, ".keras"))
    x = np.random.default_rng(1).normal(size=(1, 4, 5, 3)).astype(np.float32)
    kernel = np.asarray(layer.kernel.value.detach())  # (3, 3, out, in)
    want = np.zeros((1, 9, 11, 2), np.float32)
    for i in range(4):
        for j in range(5):
            want[0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += kernel @ x[0, i, j]
    # 8 x 10 padded at the end only: nothing is cut before.
    np.testing.assert_allclose(loaded(x), want[:, :8, :10], rtol=1e-4, atol=1e-4)
