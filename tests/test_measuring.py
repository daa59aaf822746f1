"""measure and compare on a real network in a real runtime; how fast it is is not judged."""

import numpy as np
import pytest

from edgewise.edge import benchmark
from edgewise.errors import DataError, InputError
from edgewise.measuring import compare, measure
from edgewise.record import Measurement, decode, encode

from .nets import make

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")


@pytest.fixture(autouse=True)
def _one_process_a_file(monkeypatch):
    monkeypatch.setattr(benchmark, "SITTINGS", 1)


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    """A Model, an artifact of it for two samples at a time, and 50 samples; half are right."""
    from edgewise.loading import load
    from edgewise.lowering import lower

    net, x = make("residual")
    model, x = load(net, x[:1]), x[:50].numpy()
    artifact = lower(model, "onnxruntime", tmp_path_factory.mktemp("m") / "net.onnx", batch=2)
    guesses = model(x).argmax(1)
    return model, artifact, {"evaluation": (x, np.where(np.arange(50) % 2, guesses, 9 - guesses))}


def test_an_artifact_is_measured_in_full(subjects):
    _, artifact, data = subjects
    steps = []
    m = measure(artifact, data, runs=64, threads=1, progress=lambda *at: steps.append(at))
    assert (m.metric, m.value, m.n) == ("accuracy", 0.5, 50)
    assert m.ci95[0] < 0.5 < m.ci95[1]
    assert (m.subject, m.runtime, m.device) == (str(artifact.path), "onnxruntime", "local")
    assert m.latency_ms.runs >= 64
    assert (m.latency_ms.batch, m.latency_ms.threads) == (2, 1)
    assert m.latency_ms.p50 <= m.latency_ms.p90
    assert m.latency_ms.p99 is None
    assert m.size_bytes == artifact.path.stat().st_size
    assert min(m.load_ms, m.memory_bytes) > 0
    assert m.agreement == artifact.agreement
    assert {"cpu", "cores", "architecture"} <= set(m.machine)
    assert {"onnxruntime", "numpy"} <= set(m.versions)
    assert decode(encode(m), Measurement, "here") == m
    assert steps == sorted(steps)
    assert steps[-1] == (64 + 50, 64 + 50)


def test_an_artifact_without_data_is_timed_only(subjects):
    _, artifact, _ = subjects
    m = measure(artifact.path, runs=1)
    assert (m.metric, m.value, m.n, m.ci95) == (None, None, None, None)
    assert (m.latency_ms.runs, m.latency_ms.p90) == (1, None)


def test_a_model_is_judged_only(subjects, tmp_path):
    model, _, data = subjects
    m = measure(model, data)
    assert (m.subject, m.runtime, m.value, m.n) == ("model", "torch", 0.5, 50)
    assert (m.latency_ms, m.memory_bytes, m.size_bytes, m.load_ms) == (None,) * 4
    assert "torch" in m.versions
    saved = measure(str(model.save(tmp_path / "net.pt2")), data)
    assert (saved.subject, saved.value) == (str(tmp_path / "net.pt2"), 0.5)


def test_each_is_compared_with_the_first(subjects):
    model, artifact, data = subjects
    found = compare(model, artifact, artifact, data=data, runs=40)
    assert [m.runtime for m in found.measurements] == ["torch", "onnxruntime", "onnxruntime"]
    first, *others = found.differences
    assert first is None
    assert [d.to for d in others] == ["model", "model"]
    for d in others:
        assert d.drop == 0
        assert d.drop_ci95[0] < 0 < d.drop_ci95[1]
        assert d.drop_ci95[1] < 0.1  # far narrower than the 0.13 of either accuracy by itself
        assert d.latency is None
    _, d = compare(artifact, artifact, runs=40).differences
    assert d.latency_ci95[0] <= d.latency <= d.latency_ci95[1]
    assert (d.drop, d.drop_ci95) == (None, None)
    against = compare(model, artifact, artifact, data=data, runs=1, against=[None, None, 1])
    assert [d and d.to for d in against.differences] == [None, None, str(artifact.path)]
    assert against.differences[2].latency > 0


@pytest.mark.parametrize("metric", ["f1", "top5", lambda outputs, targets: outputs.mean()])
def test_metrics_other_than_accuracy(subjects, metric):
    model, artifact, data = subjects
    found = compare(artifact, model, data=data, metric=metric, runs=1)
    of_file, of_model = found.measurements
    assert of_file.value == pytest.approx(of_model.value, abs=1e-5)
    assert found.differences[1].drop == pytest.approx(0, abs=1e-5)
    assert of_file.metric == (metric if isinstance(metric, str) else "<lambda>")


def test_what_cannot_be_measured_is_refused_in_one_sentence(subjects, tmp_path):
    model, artifact, data = subjects
    with pytest.raises(InputError, match="give data"):
        measure(model)
    with pytest.raises(InputError, match="unknown device 'moon'"):
        measure(artifact, device="moon")
    with pytest.raises(InputError, match="nothing to measure"):
        compare(data=data)
    with pytest.raises(InputError, match="no metric 'acuracy'"):
        measure(artifact, data, metric="acuracy")
    with pytest.raises(DataError, match="input 'x'"):
        measure(artifact, {"evaluation": (np.zeros((5, 7), np.float32), np.zeros(5, int))})
    with pytest.raises(DataError, match="evaluation"):
        measure(artifact, {"calibration": data["evaluation"]})
    with pytest.raises(InputError, match="does not exist"):
        measure(tmp_path / "none.onnx")
