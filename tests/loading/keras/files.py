"""Keras files written without Keras, so that they can lie."""

import io
import json
import zipfile

import h5py
import numpy as np


def layer(class_name, name, inbound=None, module="keras.layers", **config):
    """An entry of a functional model's list of layers; `inbound` names the layers before it."""
    refs = [[[before, 0, 0, {}] for before in inbound or []]] if inbound else []
    return {
        "class_name": class_name,
        "module": module,
        "name": name,
        "config": {"name": name, "trainable": True, **config},
        "inbound_nodes": refs,
    }


def source(shape=(4,), name="x"):
    return layer("InputLayer", name, batch_shape=[None, *shape], dtype="float32")


def model(layers, output, inputs=("x",), class_name="Functional"):
    return {
        "class_name": class_name,
        "config": {
            "name": "net",
            "layers": layers,
            "input_layers": [[name, 0, 0] for name in inputs],
            "output_layers": [[output, 0, 0]],
        },
    }


def dense_model(units=3, **config):
    return model([source(), layer("Dense", "d", ["x"], units=units, **config)], "d")


def write_keras(path, config, weights=None, **entries):
    """A ``.keras`` file; `weights` maps paths to arrays, or is a function of the open file."""
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        if callable(weights):
            weights(file)
        for name, array in ({} if callable(weights) else weights or {}).items():
            file[name] = array
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        archive.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        archive.writestr("model.weights.h5", data.getvalue())
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def write_h5(path, config, weights=None, version="2.4.0"):
    """A legacy ``.h5`` file; `weights` maps a layer's name to its arrays by name."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version
        if config is not None:
            file.attrs["model_config"] = config if isinstance(config, str) else json.dumps(config)
        for name, arrays in (weights or {}).items():
            group = file.create_group(f"model_weights/{name}")
            group.attrs["weight_names"] = [f"{name}/{leaf}:0".encode() for leaf in arrays]
            for leaf, array in arrays.items():
                group[f"{name}/{leaf}:0"] = array
    return path


DENSE = {
    "layers/dense/vars/0": np.ones((4, 3), np.float32),
    "layers/dense/vars/1": np.ones(3, np.float32),
}
