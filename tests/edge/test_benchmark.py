"""Structure, order and rules of the measurements; how long anything takes is not judged."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.edge import benchmark
from edgewise.edge.artifact import Artifact
from edgewise.edge.benchmark import SITTINGS, Timing, compare, percentiles, plan
from edgewise.errors import DataError, InputError, ModelError, RuntimeFailure
from edgewise.record import Signature, TensorSpec

from .tiny import write_onnx


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    pytest.importorskip("onnx", reason="needs onnx to write a file")
    return write_onnx(tmp_path_factory.mktemp("benchmark") / "tiny.onnx")


class Watched(benchmark.Worker):
    """A worker that keeps account of what all of them are asked, in order."""

    asked: list[tuple[int, str]]  # which worker of the sitting, verb

    def ask(self, **message):
        verb = next(key for key in message if key != "longer")
        self.asked.append((self, verb))
        return super().ask(**message)


@pytest.fixture
def asked(monkeypatch):
    monkeypatch.setattr(benchmark, "Worker", Watched)
    monkeypatch.setattr(Watched, "asked", [], raising=False)
    return Watched.asked


def order_of_blocks(asked) -> list[list[int]]:
    """For each sitting, which file (0, 1 ...) each block of runs was of."""
    seats = list(dict.fromkeys(worker for worker, _ in asked))
    sittings = [seats[i : i + 3] for i in range(0, len(seats), 3)]
    runs = [worker for worker, verb in asked if verb == "run"]
    return [[seats.index(w) for w in runs if w in seats] for seats in sittings]


def timing(ns, session: int = 0) -> Timing:
    return Timing("x.onnx", "onnxruntime", "1", 1, 1, np.asarray(ns), 1.0, 1.0, 1, 1, session)


@given(st.integers(1, 5000))
def test_a_plan_has_the_runs_asked_for_and_little_more(runs):
    sittings, rounds, block = plan(runs)
    assert runs <= sittings * rounds * block < runs + SITTINGS * block
    assert sittings <= SITTINGS
    assert block <= benchmark.BLOCK


def test_the_usual_number_of_runs_comes_out_even():
    assert np.prod(plan(700)) == 700


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        (1, {"p50"}),
        (63, {"p50"}),
        (64, {"p50", "p90"}),
        (661, {"p50", "p90"}),
        (662, {"p50", "p90", "p99"}),
    ],
)
def test_no_percentile_from_too_few_runs(runs, names):
    ms = np.random.default_rng(runs).permutation(runs).astype(float)
    found = percentiles(ms)
    assert set(found) == names
    assert all(found[name] == np.percentile(ms, int(name[1:])) for name in names)


def test_measures_files_side_by_side(tiny, monkeypatch):
    monkeypatch.setattr(benchmark, "SITTINGS", 2)
    reports = []
    a, b = benchmark.benchmark(
        [tiny, str(tiny)], runs=64, threads=1, progress=lambda *at: reports.append(at)
    )
    for t in (a, b):
        assert t.ns.shape == plan(64)
        assert t.ns.min() > 0
        assert t.latency.runs == t.ns.size >= 64
        assert (t.latency.threads, t.latency.batch, t.latency.p99) == (1, 1, None)
        assert 0 < t.latency.p50 <= t.latency.p90
        assert t.load_ms > 0
        assert t.first_ms > 0
        assert 0 < t.memory_bytes < t.process_bytes
        assert (t.runtime, t.subject) == ("onnxruntime", str(tiny))
    assert reports[-1] == (a.ns.size * 2, a.ns.size * 2)
    assert [done for done, _ in reports] == sorted({done for done, _ in reports})
    ratio = compare(a, b)
    assert ratio.ci95[0] <= ratio.value <= ratio.ci95[1]
    assert ratio.rounds == a.ns.shape[0] * a.ns.shape[1]


def test_blocks_take_turns_in_an_order_drawn_from_the_seed(tiny, asked, monkeypatch):
    monkeypatch.setattr(benchmark, "SITTINGS", 2)
    timings = benchmark.benchmark([tiny] * 3, runs=160, threads=1, warmup=0.0)
    sittings, rounds, _ = timings[0].ns.shape
    orders = order_of_blocks(asked)
    assert len(orders) == sittings
    turns = [order[i : i + 3] for order in orders for i in range(0, len(order), 3)]
    assert len(turns) == sittings * rounds
    assert all(sorted(turn) == [0, 1, 2] for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1
    # Every file is open and warm before the first block of a sitting is timed.
    verbs = [verb for worker, verb in asked[: asked.index((asked[0][0], "run"))]]
    assert verbs.count("open") == verbs.count("feed") == verbs.count("warm") == 3
    asked.clear()
    benchmark.benchmark([tiny] * 3, runs=160, threads=1, warmup=0.0)
    assert order_of_blocks(asked) == orders


def test_memory_is_that_of_the_file_not_of_the_inputs_that_wait(tiny, tmp_path):
    wide = write_onnx(tmp_path / "wide.onnx", inputs=1 << 16, outputs=1)  # feeds of 16 MB
    large = write_onnx(tmp_path / "large.onnx", inputs=1 << 11, outputs=1 << 12)  # 32 MB
    small, wide, large = benchmark.benchmark([tiny, wide, large], runs=1, warmup=0.0)
    assert large.memory_bytes > 32 << 20
    assert wide.memory_bytes < small.memory_bytes + (12 << 20)


def test_a_worker_that_dies_stops_them_all_and_is_named(tiny, asked, monkeypatch):
    def kill(worker, **message):
        if "run" in message and sum(verb == "run" for _, verb in asked) == 3:
            os.kill(worker.pid, signal.SIGILL)
        return Watched.ask(worker, **message)

    monkeypatch.setattr(benchmark, "Worker", type("Killed", (Watched,), {"ask": kill}))
    with pytest.raises(RuntimeFailure, match=r"onnxruntime.*SIGILL.*tiny\.onnx"):
        benchmark.benchmark([tiny] * 2, runs=200, threads=1, warmup=0.0)
    for worker in {worker for worker, _ in asked}:
        assert not Path(f"/proc/{worker.pid}").exists()


def test_batches_of_real_inputs_are_laid_out_as_the_file_has_them(tmp_path):
    spec = TensorSpec("x", (None, 3, 2, 2), layout="NCHW")
    artifact = Artifact(
        "litert", tmp_path / "x.tflite", {}, Signature((spec,), (spec,)), {"x": "NHWC"}, batch=4
    )
    x = np.arange(10 * 12, dtype=np.float32).reshape(10, 3, 2, 2)
    (feeds,) = benchmark.feeds(artifact, (x,), seed=0)
    assert feeds.shape == (2, 4, 2, 2, 3)
    assert np.array_equal(feeds.reshape(8, 2, 2, 3), x[:8].transpose(0, 2, 3, 1))
    (feeds,) = benchmark.feeds(artifact, (x[:3],), seed=0)
    assert np.array_equal(feeds[0], x[[0, 1, 2, 0]].transpose(0, 2, 3, 1))


@given(
    dtype=st.sampled_from(["float32", "float16", "uint8", "int8", "int16", "int64", "bool"]),
    bounds=st.none() | st.tuples(st.integers(-100, 100), st.integers(0, 27)),
    seed=st.integers(0, 99),
)
def test_random_inputs_keep_to_range_and_dtype(dtype, bounds, seed):
    low_high = bounds and (max(0, bounds[0]), max(0, bounds[0]) + bounds[1])
    if dtype == "bool":
        low_high = None
    spec = TensorSpec("x", (None, 5), dtype, range=low_high)
    artifact = Artifact("onnxruntime", Path("x.onnx"), {}, Signature((spec,), ()), batch=2)
    (feeds,) = benchmark.feeds(artifact, None, seed)
    assert (feeds.shape, feeds.dtype) == ((benchmark.FEEDS, 2, 5), np.dtype(dtype))
    if low_high:
        assert low_high[0] <= feeds.min() <= feeds.max() <= low_high[1]
    assert np.array_equal(feeds, benchmark.feeds(artifact, None, seed)[0])


def test_inputs_that_do_not_fit_and_files_that_are_none(tiny, tmp_path):
    with pytest.raises(DataError, match="takes float32 of shape"):
        benchmark.benchmark([tiny], runs=1, inputs=[(np.ones((2, 5), np.float32),)])
    with pytest.raises(InputError, match="nothing to measure"):
        benchmark.benchmark([])
    with pytest.raises(InputError, match="nothing to measure"):
        benchmark.benchmark([tiny], runs=0)
    with pytest.raises(ModelError, match="does not exist"):
        benchmark.benchmark([tmp_path / "none.onnx"])
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"bad\.onnx"):
        benchmark.benchmark([tiny, tmp_path / "bad.onnx"], runs=1)


SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 20))


@given(SHAPES, st.floats(0.25, 4), st.integers(0, 99))
def test_a_ratio_does_not_see_what_a_whole_round_shares(shape, factor, seed):
    rng = np.random.default_rng(seed)
    ns = rng.integers(1000, 2000, shape) * 1.0
    drift = rng.uniform(0.2, 5, (*shape[:2], 1))
    ratio = compare(timing(ns * factor * drift), timing(ns * drift))
    assert np.allclose([ratio.value, *ratio.ci95], factor)


def test_a_ratio_of_files_that_were_not_measured_together_is_refused():
    a = timing(np.ones((1, 1, 1)), session=1)
    with pytest.raises(InputError, match="side by side"):
        compare(a, replace(a, session=2))


@pytest.mark.parametrize("between", [0.0, 0.03])
def test_the_interval_covers_the_true_ratio(between):
    """Simulated: noise of each run, of each round and of each process (`between`)."""
    rng = np.random.default_rng(0)
    sittings, rounds, block = plan(700)
    covered = 0
    for _ in range(200):
        shared = rng.lognormal(0, 0.3, (sittings, rounds, 1))
        a, b = (
            1e6
            * factor
            * shared
            * rng.lognormal(0, 0.1, (sittings, rounds, block))
            * rng.lognormal(0, between, (sittings, 1, 1))
            for factor in (1.1, 1.0)
        )
        low, high = compare(timing(a), timing(b)).ci95
        covered += low <= 1.1 <= high
    assert covered >= 170
