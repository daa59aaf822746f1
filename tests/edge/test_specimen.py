"""The specimens in the package: every runtime gives the integers that are written down."""

import numpy as np
import pytest

from edgewise.edge import runners, specimen
from edgewise.errors import MissingExtra, RuntimeFailure

from .specimens import make


@pytest.mark.parametrize("runtime", sorted(runners.RUNTIMES))
def test_every_runtime_computes_the_same(runtime, monkeypatch):
    try:
        specimen.try_out(runtime, specimen.path_of(runtime))
    except MissingExtra as error:
        pytest.skip(str(error))
    monkeypatch.setattr(specimen, "INTEGERS", (8, 20, 33, 253))
    with pytest.raises(RuntimeFailure, match="wrong numbers"):
        specimen.try_out(runtime, specimen.path_of(runtime))


def test_they_are_what_the_maker_makes(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    made = make(tmp_path, ("onnxruntime",))["onnxruntime"]
    (found,) = runners.open_file("onnxruntime", made, 1).run(specimen.sample())
    assert np.allclose(found.ravel() / specimen.STEP, specimen.INTEGERS, atol=0.01)
