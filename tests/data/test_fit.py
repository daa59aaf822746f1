from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.data import load_data
from edgewise.errors import DataError, InputError
from edgewise.record import Signature, TensorSpec

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 5, 6, 3), np.uint8)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def read_all(source, signature):
    for split in load_data(source, signature).splits.values():
        yield from split.batches(7)


def only(data):
    (x,), _ = data.calibration.take(len(data.calibration))
    return x


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.sampled_from(["NCHW", "NHWC"]))
def test_channels_go_where_the_model_has_them(channels, height, width, layout):
    sizes = {"C": channels, "H": height, "W": width}
    spec = TensorSpec("x", (None, *(sizes[a] for a in layout[1:])), layout=layout)
    signature = Signature((spec,), ())
    want = RNG.normal(size=(2, *spec.shape[1:])).astype(np.float32)
    np.testing.assert_array_equal(only(load_data(want, signature)), want)
    other = np.moveaxis(want, *((1, -1) if layout == "NCHW" else (-1, 1)))
    if other.shape != want.shape:  # else it is taken as it is
        np.testing.assert_array_equal(only(load_data(other, signature)), want)
    if channels == 1:
        flat = want.reshape(2, height, width)
        np.testing.assert_array_equal(only(load_data(flat, signature)), want)


def test_axes_are_not_moved_without_a_layout(takes):
    with pytest.raises(DataError, match=r"\(batch, 3, 5, 6\), sample 0 .* of shape \(5, 6, 3\)"):
        load_data(PIXELS, takes(3, 5, 6, dtype="uint8", layout=""))


def test_pixels_for_a_float_model_are_not_guessed(takes):
    with pytest.raises(DataError, match=r"scale=1/255 .*normalize=\(mean, std\), or scale=1"):
        load_data(PIXELS, takes(3, 5, 6))
    with pytest.raises(DataError, match=r"scale=1/255"):
        load_data(PIXELS, takes(3, 5, 6, range=(0.0, 1.0)))


def test_quantized_numbers_for_a_float_model_are_not_guessed(takes):
    codes = np.arange(-8, 8, dtype=np.int8).reshape(4, 4)
    with pytest.raises(DataError, match=r"int8 numbers from -128 to 127 .* takes float32"):
        load_data(codes, takes(4))
    np.testing.assert_array_equal(only(load_data(codes, takes(4), scale=1)), codes)


def test_pixels_for_a_float_model_that_takes_0_to_255(takes):
    x = only(load_data(PIXELS, takes(3, 5, 6, range=(0.0, 255.0))))
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, np.moveaxis(PIXELS, -1, 1))


def test_scale_and_normalize_are_what_training_did(takes):
    planar = np.moveaxis(PIXELS, -1, 1).astype(np.float64) / 255
    scaled = only(load_data(PIXELS, takes(3, 5, 6, range=(0.0, 1.0)), scale=1 / 255))
    np.testing.assert_allclose(scaled, planar, rtol=1e-6)
    raw = only(load_data(PIXELS, takes(3, 5, 6), scale=1))
    np.testing.assert_array_equal(raw, np.moveaxis(PIXELS, -1, 1))
    want = (planar - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    for source in (PIXELS, np.moveaxis(planar, 1, -1)):
        x = only(load_data(source, takes(3, 5, 6), normalize=(MEAN, STD)))
        np.testing.assert_allclose(x, want, rtol=1e-5, atol=1e-6)
    last = takes(5, 6, 3, layout="NHWC")
    x = only(load_data(PIXELS, last, normalize=(MEAN, STD)))
    np.testing.assert_allclose(x, np.moveaxis(want, 1, -1), rtol=1e-5, atol=1e-6)
    x = only(load_data(PIXELS.astype(np.float32), takes(3, 5, 6), scale=1 / 255, normalize=(0, 1)))
    np.testing.assert_allclose(x, planar, rtol=1e-6)


def test_columns_of_a_table_are_standardised_one_by_one(takes):
    table = RNG.normal(3, 2, (50, 4))
    x = only(load_data(table, takes(4), normalize=(table.mean(0), table.std(0))))
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(0), 1, atol=1e-5)


def test_normalize_refuses_pixels_that_were_not_scaled(takes):
    with pytest.raises(DataError, match=r"normalize takes values in 0\.\.1: give scale= too"):
        load_data(PIXELS.astype(np.float32), takes(3, 5, 6), normalize=(MEAN, STD))


def test_normalize_of_the_wrong_length(takes):
    with pytest.raises(DataError, match=r"normalize has 2 numbers, .* has 3 channels"):
        load_data(PIXELS, takes(3, 5, 6), normalize=((0.5, 0.5), (1, 1)))


def test_a_model_that_normalises_by_itself_takes_no_scale(takes):
    with pytest.raises(DataError, match="normalises by itself"):
        load_data(PIXELS, takes(3, 5, 6, dtype="uint8"), scale=1 / 255)


@pytest.mark.parametrize(
    "option",
    [
        {"scale": 0},
        {"scale": float("nan")},
        {"normalize": (0.5, 0)},
        {"normalize": ((0.5, 0.5), (0.5,))},
        {"normalize": 0.5},
        {"normalize": ("a", "b")},
        {"resize": "crop"},
        {"resize": 0},
        {"calibration": 0},
    ],
)
def test_options_that_cannot_be_used(option):
    with pytest.raises(InputError, match=next(iter(option))):
        load_data(PIXELS, **option)


KEPT = [  # stored dtype, values, the model's dtype
    ("float64", [0.1, -3.5], "float32"),
    ("float64", [0.0, 200.0], "uint8"),
    ("int64", [-7, 2**20], "float32"),
    ("int64", [-128, 127], "int8"),
    ("bool", [0, 1], "float32"),
    ("float32", [0.5, 2.0], "float16"),
    ("int32", [0, 1], "bool"),
]


@pytest.mark.parametrize(("stored", "values", "wanted"), KEPT)
def test_numbers_that_keep_their_value_are_cast(takes, stored, values, wanted):
    x = only(load_data(np.array([values], stored), takes(2, dtype=wanted)))
    assert x.dtype == wanted
    np.testing.assert_allclose(x[0].astype(np.float64), np.array(values, np.float64), rtol=1e-6)


LOST = [
    ("float64", [0.5, 1.0], "uint8", "0.5 in input 'image', which uint8 cannot hold"),
    ("uint8", [3, 200], "int8", "200 in input 'image', which int8 cannot hold"),
    ("int64", [-1, 2], "uint8", "-1 in input"),
    ("float64", [1e9, 0], "float16", "1e"),
    ("float64", [1e300, 0], "float32", "1e"),
    ("int32", [0, 2], "bool", "2 in input"),
]


@pytest.mark.parametrize(("stored", "values", "wanted", "sentence"), LOST)
def test_numbers_that_would_change_are_refused(takes, stored, values, wanted, sentence):
    with pytest.raises(DataError, match=sentence):
        load_data(np.array([values], stored), takes(2, dtype=wanted))


@given(st.integers(0, 29), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_nan_and_infinity_name_the_sample(bad, value):
    x = np.zeros((30, 4), np.float32)
    x[bad, 2] = value
    signature = Signature((TensorSpec("image", (None, 4)),), ())
    sentence = rf"sample {bad} of .* has NaN or infinity in input 'image'"
    with pytest.raises(DataError, match=sentence):
        list(read_all(x, signature))


def test_targets_that_are_nan_name_the_sample(takes):
    y = np.zeros(30, np.float32)
    y[4] = np.nan
    with pytest.raises(DataError, match=r"sample 4 of .* has a target that is NaN"):
        list(read_all((np.zeros((30, 4)), y), takes(4)))


def test_values_outside_the_range_name_the_sample(takes):
    x = np.zeros((9, 4), np.float32)
    x[7, 1] = 3
    data = load_data(x, takes(4, range=(0.0, 1.0)))
    with pytest.raises(
        DataError, match=r"sample 7 .* has 3 where input 'image' takes 0 to 1: .*scale"
    ):
        list(data.calibration.batches(4))


def test_rounding_may_overstep_the_range(takes):
    x = np.full((3, 4), np.nextafter(np.float32(1), np.float32(2)))
    data = load_data(x, takes(4, range=(0.0, 1.0)))
    assert len(data.calibration) == 3


def test_the_number_of_inputs_must_fit():
    signature = Signature((TensorSpec("a", (None, 2)), TensorSpec("b", (None, 2))), ())
    with pytest.raises(DataError, match=r"takes 2 inputs \(a, b\), sample 0 of the arrays has 1"):
        load_data(np.zeros((5, 2), np.float32), signature)
