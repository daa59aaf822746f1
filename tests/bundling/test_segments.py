"""Tensors are found where they are, in the files of each runtime."""

import numpy as np
import pytest

from edgewise.bundling import bundle
from edgewise.bundling.segments import segments_of
from edgewise.edge.artifact import Artifact
from edgewise.lowering import lower
from edgewise.record import Signature

from ..nets import loaded

SUFFIXES = {"onnxruntime": ".onnx", "litert": ".tflite", "openvino": ".xml"}
RUNTIMES = {suffix: runtime for runtime, suffix in SUFFIXES.items()}
PACKAGES = {"onnxruntime": "onnxruntime", "litert": "ai_edge_litert", "openvino": "openvino"}


@pytest.mark.parametrize("runtime", SUFFIXES)
def test_finds_every_weight(runtime, tmp_path):
    pytest.importorskip(PACKAGES[runtime])
    model, _ = loaded("residual")
    artifact = lower(model, runtime, tmp_path / f"net{SUFFIXES[runtime]}")
    ((name, segments),) = segments_of(artifact).items()
    data = (tmp_path / name).read_bytes()
    found = [np.sort(np.frombuffer(data[s.offset : s.offset + s.size], s.dtype)) for s in segments]
    weights = [p.detach().numpy().ravel() for p in model.graph.parameters() if p.ndim >= 2]
    sizes = sorted(len(values) for values in found)
    assert {w.size for w in weights} <= set(sizes)
    assert sum(sizes) * 4 < len(data)
    with bundle(artifact, tmp_path / "net.edge") as made:
        (again,) = made.extract(tmp_path / "out")
        assert made.check(again).passed
    assert again.path.read_bytes() == artifact.path.read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES.values())
def test_what_is_not_understood_has_no_tensors(suffix, tmp_path):
    generator = np.random.default_rng(0)
    path = tmp_path / f"net{suffix}"
    path.with_suffix(".bin").write_bytes(b"")
    for size in (0, 3, 100, 1000):
        path.write_bytes(generator.bytes(size))
        found = segments_of(Artifact(RUNTIMES[suffix], path, {}, Signature((), ())))
        assert all(s.offset + s.size <= size for each in found.values() for s in each)
