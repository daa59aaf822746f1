import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.edge.artifact import Artifact
from edgewise.edge.stream import Decider, Stream, Streaming, Windows
from edgewise.errors import DataError, InputError
from edgewise.record import Signature, TensorSpec

from .tiny import write_onnx


@given(
    shape=st.sampled_from([((5,), 0), ((5,), -1), ((5, 2), 0), ((2, 5), 1), ((1, 2, 5), -1)]),
    hop=st.integers(1, 12),
    cuts=st.lists(st.integers(0, 17), min_size=1, max_size=12),
)
def test_the_windows_are_those_of_the_whole_signal(shape, hop, cuts):
    shape, axis = shape
    windows = Windows(TensorSpec("x", (None, *shape)), hop, axis)
    total = sum(cuts)
    signal = np.random.default_rng(0).normal(size=(total, *windows.frame)).astype(np.float32)
    found, at = [], 0
    for cut in cuts:
        found += [(end, w.copy()) for end, w in windows.feed(signal[at : at + cut])]
        at += cut
    expected = [
        (end, np.moveaxis(signal[end - 5 : end], 0, axis)[None]) for end in range(5, total + 1, hop)
    ]
    assert [end for end, _ in found] == [end for end, _ in expected]
    for (_, got), (_, want) in zip(found, expected, strict=True):
        assert got.shape == (1, *shape)
        np.testing.assert_array_equal(got, want)


@given(
    scores=st.lists(st.floats(0, 1), min_size=1, max_size=30),
    smoothing=st.integers(1, 4),
    threshold=st.floats(0.4, 1),
    release=st.floats(0, 0.4),
)
def test_decisions_are_held_between_the_bounds(scores, smoothing, threshold, release):
    decider = Decider(Streaming(1, smoothing=smoothing, threshold=threshold, release=release))
    active = False
    for i, score in enumerate(scores):
        found = decider.judge(i, np.float64([[score]]))
        mean = np.mean(scores[max(0, i - smoothing + 1) : i + 1])
        assert found.scores[0] == pytest.approx(mean)
        was, active = active, found.active == (0,)
        if found.scores[0] >= threshold:
            assert active
        elif found.scores[0] < release:
            assert not active
        else:
            assert active == was
        assert (found.began, found.ended) == (
            (0,) * (active and not was), (0,) * (was and not active)
        )  # fmt: skip


def test_probabilities_are_of_the_outputs():
    found = Decider(Streaming(1, softmax=True)).judge(0, np.float32([[1000, 1000, -1000]]))
    np.testing.assert_allclose(found.scores, [0.5, 0.5, 0])
    assert found.active == ()


def test_an_artifact_listens(tmp_path):
    pytest.importorskip("onnxruntime", reason="runs an ONNX file")
    artifact = Artifact.open(write_onnx(tmp_path / "net.onnx"))
    stream = artifact.stream(Streaming(hop=2, rate=100.0))
    signal = np.arange(10, dtype=np.float32)
    assert stream.real_time_factor is None
    found = [f for chunk in np.split(signal, [3, 4]) for f in stream.feed(chunk)]
    assert [f.at for f in found] == [4, 6, 8, 10]
    for f in found:
        np.testing.assert_allclose(f.scores, artifact.run(signal[None, f.at - 4 : f.at])[0])
    assert 0 < stream.real_time_factor < 100


def test_what_does_not_fit_is_refused():
    one = Signature((TensorSpec("x", (None, 4, 2)),), (TensorSpec("y", (None, 1)),))
    stream = Stream(lambda x: x, one, Streaming(hop=1, axis=0))
    for wrong in (np.zeros((3, 3), np.float32), np.zeros((3, 2)), np.zeros(3, np.float32)):
        with pytest.raises(DataError, match="is needed, found"):
            list(stream.feed(wrong))
    with pytest.raises(InputError, match="no axis 2"):
        Stream(lambda x: x, one, Streaming(hop=1, axis=2))
    with pytest.raises(InputError, match="one input and one output"):
        Stream(lambda x: x, Signature(one.inputs * 2, one.outputs), Streaming(hop=1))
    with pytest.raises(InputError, match="at least 1"):
        Streaming(hop=0)
    with pytest.raises(InputError, match="release at the threshold"):
        Streaming(hop=1, threshold=0.5, release=0.6)
    with pytest.raises(InputError, match="release at the threshold"):
        Streaming(hop=1, release=0.6)
