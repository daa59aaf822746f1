from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_iris

from edgewise.data import load_data
from edgewise.errors import DataError

IRIS = load_iris()
COLUMNS = ["a", "b", "c", "d"]
NAMES = np.array(IRIS.target_names)[IRIS.target]


@pytest.fixture(params=["csv", "tsv", "parquet"])
def write(request, tmp_path):
    def write(frame):
        path = tmp_path / f"table.{request.param}"
        if request.param == "parquet":
            frame.write_parquet(path)
        else:
            frame.write_csv(path, separator={"csv": ",", "tsv": "\t"}[request.param])
        return path

    return write


@pytest.fixture
def csv(tmp_path):
    def csv(text):
        (tmp_path / "table.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / "table.csv"

    return csv


@pytest.mark.parametrize("species", [IRIS.target, NAMES], ids=["numbers", "names"])
def test_iris_comes_out_as_it_went_in(write, takes, species):
    frame = pl.DataFrame(dict(zip(COLUMNS, IRIS.data.T, strict=True)) | {"species": species})
    data = load_data(write(frame), takes(4, outputs=3))
    assert data.notes[0] == "the target is column 'species'"
    assert data.labels == (tuple(IRIS.target_names) if species is NAMES else ())
    for split in data.splits.values():
        (x,), y = split.take(len(split))
        assert x.dtype == np.float32
        np.testing.assert_array_equal(x, IRIS.data[split.indices].astype(np.float32))
        np.testing.assert_array_equal(y, IRIS.target[split.indices])


@pytest.mark.parametrize(
    ("header", "option", "want"),
    [
        ("a,b,c", None, "c"),
        ("label,b,c", None, "label"),
        ("a,Target,c", None, "Target"),
        ("x,y,label", None, "label"),
        ("a,b,c", "b", "b"),
    ],
)
def test_the_target_column(csv, header, option, want):
    data = load_data(csv(f"{header}\n1,2,3\n4,5,6\n7,8,9\n"), target=option)
    at = header.split(",").index(want)
    (x,), y = data.training.take(99)
    np.testing.assert_array_equal(y % 3, (1 + at) % 3)
    assert x.shape[1] == 2
    assert f"column '{want}'" in data.notes[0]


BAD = {
    "no such column": ("a,b\n1,2\n", "has no column 'species': its columns are a, b"),
    "text": ("a,species\nred,2\n", r"column 'a' of .* holds String \('red'\): turn it into"),
    "gap": ("a,species\n1,2\n,3\n", "has nothing in column 'a' of sample 1"),
    "target gap": ("a,species\n1,2\n3,\n", "has nothing in column 'species' of sample 1"),
    "no header": ("1.5,2\n3,4\n", "begins with numbers: add a first line"),
    "one column": ("species\n1\n", "it needs a target and another one"),
    "nothing": ("", "not a readable table"),
    "no rows": ("a,species\n", "has no sample: give at least one"),
    "ragged": ("a,species\n1,2\n1,2,3\n", "not a readable table"),
    "not text": (b"a,species\n\xff\xfe\x00,1\n", "not a readable table"),
}


@pytest.mark.parametrize(("text", "sentence"), BAD.values(), ids=BAD)
def test_a_table_that_cannot_be_used(csv, text, sentence):
    with pytest.raises(DataError, match=sentence):
        load_data(csv(text), target="species")


def test_two_columns_that_might_be_the_target(csv):
    with pytest.raises(DataError, match="has the columns y, label: give target="):
        load_data(csv("y,label,c\n1,2,3\n"))


def test_a_damaged_parquet_file(tmp_path):
    (tmp_path / "table.parquet").write_bytes(b"PAR1 no parquet")
    with pytest.raises(DataError, match="not a readable table"):
        load_data(tmp_path / "table.parquet")


def test_numbers_of_every_kind_keep_their_value(tmp_path, takes):
    frame = pl.DataFrame(
        {"a": [True, False], "b": [1, 2], "c": [0.5, 1.5], "y": [0, 1]},
        schema={"a": pl.Boolean, "b": pl.UInt16, "c": pl.Float32, "y": pl.Int8},
    )
    frame.write_parquet(tmp_path / "table.parquet")
    data = load_data(tmp_path / "table.parquet", takes(3))
    np.testing.assert_array_equal(data.training.take(2)[0][0], [[1, 1, 0.5], [0, 2, 1.5]])
