"""Files that lie: each is refused with one sentence, and nothing of it is run or followed."""

import contextlib
import json
import os
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edgewise as ew
from edgewise.errors import EdgewiseError, ModelError

from .files import DENSE, dense_model, layer, model, source, write_h5, write_keras

MARSHALLED = "4wEAAAAAAAAAAAAAAAEAAAACAAAA"


def refused(path, match):
    with pytest.raises(ModelError, match=match) as found:
        ew.load(path)
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 600


def after_input(*entries):
    return model([source(), *entries], entries[-1]["name"])


@pytest.mark.parametrize("write", [write_keras, write_h5])
@pytest.mark.parametrize(
    ("entry", "match"),
    [
        (layer("Lambda", "f", ["x"], function=[MARSHALLED, None, None]), "'f' .*never run"),
        (layer("Lambda", "f", ["x"], function={"class_name": "__lambda__"}), "never run"),
        (layer("TFOpLambda", "f", ["x"], function="io.read_file"), "never run"),
        (layer("TorchModuleWrapper", "f", ["x"], module={}), "pickled module"),
        (layer("Popen", "f", ["x"], module="subprocess", args=["true"]), "'subprocess.Popen'"),
        (layer("Dense", "f", ["x"], module="attacker.layers"), "'attacker.layers.Dense'"),
        (layer("Package>Mine", "f", ["x"]), "'Package>Mine'|Package>Mine"),
        (layer("get_file", "f", ["x"], module="keras.utils", origin="http://x"), "get_file"),
        (layer("NoSuchLayer", "f", ["x"]), "'NoSuchLayer' is no layer"),
        (layer("Activation", "f", ["x"], activation="os.system"), "no function of Keras"),
        (
            layer("Activation", "f", ["x"], activation={
                "class_name": "function", "module": "builtins", "config": "exec"}),
            "no function of Keras",
        ),
        (
            layer("Bidirectional", "f", ["x"], layer={"class_name": "Lambda", "config": {}}),
            "'Lambda' is no layer",
        ),
    ],
    ids=lambda value: value["class_name"] if isinstance(value, dict) else "",
)  # fmt: skip
def test_code_is_refused_by_name(write, entry, match, tmp_path):
    suffix = ".keras" if write is write_keras else ".h5"
    refused(write(tmp_path / f"model{suffix}", after_input(entry)), match)


def test_a_registered_class_is_refused_by_name(tmp_path):
    entry = {**layer("Mine", "m", ["x"], module="trainer.nets"), "registered_name": "shop>Mine"}
    refused(write_keras(tmp_path / "m.keras", after_input(entry)), "'m' .*shop>Mine.*not part of")


def test_a_model_of_the_users_own_class_is_refused_by_name(tmp_path):
    config = {"class_name": "Recommender", "config": {"units": 3}}
    refused(write_keras(tmp_path / "m.keras", config), "'Recommender', whose code is not in")


def test_weights_alone_are_no_model(tmp_path):
    refused(write_h5(tmp_path / "m.h5", None), "weights only")


def test_what_a_file_is_its_bytes_say(tmp_path):
    arrays = {"d": {"kernel": np.ones((4, 3), np.float32), "bias": np.zeros(3, np.float32)}}
    as_keras = write_h5(tmp_path / "m.keras", dense_model(), arrays)
    as_h5 = write_keras(tmp_path / "m.h5", dense_model(), DENSE)
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(ew.load(as_keras)(x), np.full((2, 3), 4))
    np.testing.assert_array_equal(ew.load(as_h5)(x), np.full((2, 3), 5))
    (tmp_path / "no.h5").write_bytes(b"something else")
    refused(tmp_path / "no.h5", "neither as a zip nor as HDF5")


# --- weights ------------------------------------------------------------------------------------


def test_links_out_of_the_weights_are_not_followed(tmp_path):
    import h5py

    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["a"] = np.ones((4, 3), np.float32)

    def external(file):
        file["layers/dense/vars/0"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "a")

    def soft(file):
        file["layers/dense/vars/0"] = h5py.SoftLink("/layers")

    for write in (external, soft):
        refused(write_keras(tmp_path / "m.keras", dense_model(), write), "link to elsewhere")


def test_weights_in_other_files_are_not_read(tmp_path):
    import h5py

    (tmp_path / "secret.bin").write_bytes(bytes(48))

    def external(file):
        file.create_dataset("layers/dense/vars/0", (4, 3), "f4",
                            external=[(str(tmp_path / "secret.bin"), 0, 48)])  # fmt: skip

    def virtual(file):
        layout = h5py.VirtualLayout((4, 3), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "a", (4, 3))
        file.create_virtual_dataset("layers/dense/vars/0", layout)

    for write in (external, virtual):
        refused(write_keras(tmp_path / "m.keras", dense_model(), write), "another file")


@pytest.mark.parametrize("shape", [(1 << 40, 1 << 20), (1 << 31, 4), (4, 1 << 30)])
def test_a_weight_that_claims_more_than_the_file_holds(shape, tmp_path):
    def huge(file):
        file.create_dataset("layers/dense/vars/0", shape, "f4", chunks=(1, 4), compression="gzip")

    refused(write_keras(tmp_path / "m.keras", dense_model(), huge), "claims the shape")


def test_weights_of_another_shape_or_kind(tmp_path):
    path = tmp_path / "m.keras"
    refused(write_keras(path, dense_model(), {}), "no weight")
    text = {"layers/dense/vars/0": b"text", "layers/dense/vars/1": np.ones(3, np.float32)}
    refused(write_keras(path, dense_model(), text), "no numbers")
    wide = {**DENSE, "layers/dense/vars/0": np.ones((5, 3), np.float32)}
    refused(write_keras(path, dense_model(), wide), "layer 'd' does not run")
    bad = {**DENSE, "layers/dense/vars/0": np.full((4, 3), np.nan, np.float32)}
    refused(write_keras(path, dense_model(), bad), "NaN")


# --- configurations -----------------------------------------------------------------------------


def test_graphs_that_do_not_hang_together(tmp_path):
    path = tmp_path / "m.keras"
    circle = [source(), layer("ReLU", "a", ["b"]), layer("ReLU", "b", ["a"])]
    refused(write_keras(path, model(circle, "b")), "circle")
    refused(write_keras(path, model([source(), layer("ReLU", "a", ["gone"])], "a")), "'gone'")
    twice = [source(), layer("ReLU", "a", ["x"]), layer("ReLU", "a", ["x"])]
    refused(write_keras(path, model(twice, "a")), "two layers")
    refused(write_keras(path, model([source()], "x", inputs=())), "'x' does not exist")
    refused(write_keras(path, model([source((None, 3)), layer("ReLU", "a", ["x"])], "a")), "fixed")
    refused(write_keras(path, model([source((1 << 60,)), layer("ReLU", "a", ["x"])], "a")), "more")


@pytest.mark.parametrize(
    "entry",
    [
        layer("ZeroPadding1D", "f", ["x"], padding=1 << 60),
        layer("UpSampling1D", "f", ["x"], size=1 << 40),
        layer("RepeatVector", "f", ["x"], n=1 << 50),
        layer("Reshape", "f", ["x"], target_shape=[1 << 40, -1]),
        layer("Reshape", "f", ["x"], target_shape=[0, -1]),
        layer("MaxPooling1D", "f", ["x"], pool_size=-3),
        layer("Permute", "f", ["x"], dims=[7, 7]),
        layer("Cropping1D", "f", ["x"], cropping=[9, 9]),
        layer("Concatenate", "f", ["x"], axis={"a": 1}),
        layer("Rescaling", "f", ["x"], scale="much"),
        layer("Softmax", "f", ["x"], axis=99),
    ],
    ids=lambda entry: f"{entry['class_name']}",
)
def test_numbers_that_make_no_sense(entry, tmp_path):
    path = write_keras(tmp_path / "m.keras", model([source((4, 2)), entry], "f"))
    refused(path, "'f'|elements")


def test_deep_nesting_is_refused(tmp_path):
    path = tmp_path / "m.keras"
    refused(write_keras(path, "[" * 100_000), "no JSON")
    config = dense_model()
    for depth in range(60):
        config = model([source(), {**layer("", f"n{depth}", ["x"]), **config}], f"n{depth}")
    refused(write_keras(path, config), "deep")


def test_a_zip_bomb_is_refused(tmp_path):
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", " " * (64 << 20))
    refused(path, "to 1 is refused")


def test_entries_with_paths_stay_in_the_archive(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    path = write_keras(folder / "m.keras", dense_model(), DENSE, **{"../escaped": "x"})
    before = set(os.listdir(tmp_path))
    ew.load(path)
    assert set(os.listdir(tmp_path)) == before


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_damaged_files_are_refused_or_read(tmp_path_factory, data):
    """Bits changed or the end cut off: an error of ours, or a Model that runs."""
    folder = tmp_path_factory.mktemp("damaged")
    arrays = {"d": {"kernel": np.ones((4, 3), np.float32), "bias": np.zeros(3, np.float32)}}
    if data.draw(st.booleans()):
        path = write_h5(folder / "m.h5", dense_model(), arrays)
    else:
        path = write_keras(folder / "m.keras", dense_model(), DENSE)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    path.write_bytes(content)
    with contextlib.suppress(EdgewiseError):
        ew.load(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.sampled_from(
        ["x", "d", "Dense", "ReLU", "Functional", "Sequential", "linear", "keras.layers"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["name", "config", "layers", "class_name", "inbound_nodes", "units", "axis"]), inner,
        max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_damaged_configurations_are_refused_or_read(tmp_path_factory, data):
    config = json.loads(json.dumps(after_input(layer("Dense", "d", ["x"], units=3, axis=1))))
    where, key = {"config": config}, "config"
    while data.draw(st.integers(0, 5)) and isinstance(where[key], dict | list) and where[key]:
        where = where[key]
        keys = sorted(where) if isinstance(where, dict) else list(range(len(where)))
        key = data.draw(st.sampled_from(keys))
    where[key] = data.draw(JSON)
    path = write_keras(tmp_path_factory.mktemp("odd") / "m.keras", config, DENSE)
    with contextlib.suppress(EdgewiseError):
        ew.load(path)
