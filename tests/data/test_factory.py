from __future__ import annotations

import sys

import numpy as np
import pytest

from edgewise.data import factory, load_data
from edgewise.errors import DataError

MODULE = """
import numpy as np
from edgewise.data import load_data
def arrays():
    return np.zeros((30, 2)), np.arange(30) % 3
def opened():
    return load_data(arrays())
def path():
    return "there is no such.npz"
def fails():
    raise KeyError("pixels")
def itself():
    return "own_data:itself"
number = 3
"""


@pytest.fixture(autouse=True)
def own_data(tmp_path, monkeypatch):
    (tmp_path / "own_data.py").write_text(MODULE)
    (tmp_path / "broken_data.py").write_text("import nothing_of_this_name")
    monkeypatch.chdir(tmp_path)
    yield
    for name in ("own_data", "broken_data"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["arrays", "opened"])
def test_a_factory_gives_any_other_source(name, takes):
    before = list(sys.path)
    data = load_data(f"own_data:{name}", takes(2, outputs=3))
    assert len(data.evaluation) == 6
    assert data.training.take(1)[0][0].dtype == np.float32
    assert sys.path == before


def test_a_factory_may_make_one_role():
    data = load_data({"training": "own_data:arrays"})
    assert (len(data.training), data.evaluation) == (30, None)


BAD = {
    "own_data:path": "there is no such.npz does not exist",
    "own_data:fails": "own_data:fails failed: KeyError: 'pixels'",
    "own_data:number": "own_data has no callable 'number'",
    "own_data:nothing": "own_data has no callable 'nothing'",
    "own_data:itself": "own_data:itself does not exist",
    "broken_data:arrays": "importing broken_data failed: ModuleNotFoundError",
    "nowhere.data:arrays": "importing nowhere.data failed: ModuleNotFoundError",
}


@pytest.mark.parametrize(("name", "sentence"), BAD.items(), ids=BAD)
def test_a_factory_that_cannot_be_used(name, sentence):
    with pytest.raises(DataError, match=sentence):
        load_data(name)


@pytest.mark.parametrize("text", ["C:\\data.npz", "a b:c", "data.npz", "https://x:y", ":f", "m:"])
def test_paths_are_no_factories(text):
    assert not factory.is_factory(text)
