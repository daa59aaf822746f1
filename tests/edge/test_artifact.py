"""Artifacts through a real runtime: ONNX Runtime, or the test is skipped."""

import numpy as np
import pytest

from edgewise.edge.artifact import Artifact
from edgewise.errors import DataError, ModelError
from edgewise.lowering import lower

from ..nets import loaded

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")


@pytest.fixture(scope="module")
def lowered(tmp_path_factory):
    model, x = loaded("residual")
    path = tmp_path_factory.mktemp("artifact") / "net.onnx"
    return model, lower(model, "onnxruntime", path, batch=4), x.numpy()


@pytest.mark.parametrize("n", [1, 3, 4, 11])
def test_runs_any_number_of_samples_in_batches(lowered, n):
    model, artifact, x = lowered
    assert np.allclose(artifact.run(x[:n]), model(x[:n]), atol=1e-4)


def test_opens_again_with_its_record(lowered):
    _, artifact, _ = lowered
    again = Artifact.open(artifact.path)
    assert again == artifact
    assert again.size_bytes == artifact.path.stat().st_size
    assert [e.step for e in again.lineage] == ["load", "lower"]


def test_opens_bare_without_a_record(lowered, tmp_path):
    model, artifact, x = lowered
    bare = tmp_path / "bare.onnx"
    bare.write_bytes(artifact.path.read_bytes())
    opened = Artifact.open(bare)
    assert opened.lineage == ()
    assert np.allclose(opened.run(x[:4]), model(x[:4]), atol=1e-4)


def test_a_changed_file_is_refused(lowered, tmp_path):
    _, artifact, _ = lowered
    for file in artifact.path.parent.glob("net.onnx*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with (tmp_path / "net.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelError, match="sha256 differs"):
        Artifact.open(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("none.onnx", None, "does not exist"),
        ("net.bin", b"", "not an artifact"),
        ("net.onnx", b"not a model", "net.onnx"),
        ("net.onnx", b"", "net.onnx"),
    ],
)
def test_what_is_no_artifact_is_refused(tmp_path, name, content, word):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=word):
        Artifact.open(tmp_path / name)


@pytest.mark.parametrize(
    "x", [np.zeros((1, 3, 16, 15), np.float32), np.zeros((1, 3, 16, 16), np.float64)]
)
def test_inputs_that_do_not_fit_are_refused(lowered, x):
    with pytest.raises(DataError, match="takes float32 of shape"):
        lowered[1].run(x)
