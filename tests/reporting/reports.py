"""Reports to try the renderers on: one as the demo makes it, and any that could be."""

from __future__ import annotations

from hypothesis import strategies as st

from edgewise.record import (
    Agreement,
    Difference,
    Event,
    Latency,
    Measurement,
    Signature,
    TensorSpec,
)
from edgewise.reporting.report import Origin, Report, Row

SIGNATURE = Signature(
    (TensorSpec("image", (None, 1, 8, 8), "float32", "NCHW", (0.0, 1.0)),),
    (TensorSpec("scores", (None, 10), "float32", "NC"),),
)
MACHINE = {"cpu": "Cortex-A72", "cores": 4, "memory_bytes": 4_000_000_000, "flags": ["asimd"]}
# runtime, suffix, p50 float and int8 in ms, ratio's interval, accuracy of int8, its drop's interval
RUNS = (
    ("onnxruntime", "onnx", 0.054, 0.031, (0.55, 0.59), 0.9694, (-0.006, 0.017)),
    ("litert", "tflite", 0.048, 0.019, (0.38, 0.42), 0.9750, (-0.009, 0.009)),
    ("openvino", "xml", 0.101, 0.121, (1.15, 1.26), 0.9500, (0.007, 0.048)),
)


def demo_like() -> Report:
    """Float and int8 on three runtimes; int8 is slower on one."""
    return Report(
        "Handwritten digits",
        "2026-11-22T11:40:00+00:00",
        tuple(row for run in RUNS for row in _pair(*run)),
        "float on the same runtime",
        ("1797 images of handwritten digits.",),
        ("edgewise demo -o demo",),
    )


def _pair(runtime, suffix, slow, fast, ratio, accuracy, drop) -> tuple[Row, Row]:
    load, lower = Event("load", {"source": "Digits"}), Event("lower", {"runtime": runtime})
    quantize = Event("quantize", {"samples": 256}, {"head.softmax": "softmax has no int8 form"})
    files = [f"demo/digits-{p}-{runtime}.{suffix}" for p in ("float32", "int8")]
    return (
        Row(
            _measured(files[0], runtime, slow, 0.9750, 227_000),
            Origin("float32", "ab" * 32, SIGNATURE, (load, lower)),
        ),
        Row(
            _measured(files[1], runtime, fast, accuracy, 64_000),
            Origin("int8", "cd" * 32, SIGNATURE, (load, quantize, lower)),
            Difference(files[0], fast / slow, ratio, 0.9750 - accuracy, drop),
        ),
    )


def _measured(file: str, runtime: str, p50: float, accuracy: float, size: int) -> Measurement:
    return Measurement(
        file,
        runtime,
        "local",
        "accuracy",
        accuracy,
        360,
        (accuracy - 0.02, accuracy + 0.01),
        Latency(p50, 700, 4, 1, p90=1.2 * p50, p99=2 * p50),
        memory_bytes=1_500_000,
        size_bytes=size,
        load_ms=3.25,
        agreement=Agreement(0.996875, 2.0, 0.125, 0.01, 64, "data"),
        machine=MACHINE,
        versions={runtime: "1.2.3"},
    )


# Any report: every optional figure there or not, names as the files of strangers have them.
NAME = st.text(max_size=12)
FIGURE = st.floats(1e-6, 1e9)
SHARE = st.floats(0, 1)
INTERVAL = st.tuples(SHARE, SHARE).map(lambda ends: tuple(sorted(ends)))


def maybe(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.none() | strategy


MEASUREMENTS = st.builds(
    Measurement,
    subject=NAME,
    runtime=NAME,
    device=NAME,
    metric=st.sampled_from(["accuracy", "mse", "own<i>"]),
    value=maybe(SHARE),
    n=maybe(st.integers(1, 10**9)),
    ci95=maybe(INTERVAL),
    latency_ms=maybe(
        st.builds(Latency, FIGURE, st.integers(1), st.integers(1), st.integers(1), maybe(FIGURE))
    ),
    size_bytes=maybe(st.integers(0, 10**12)),
    load_ms=maybe(FIGURE),
    agreement=maybe(
        st.builds(Agreement, SHARE, FIGURE, FIGURE, FIGURE, st.integers(1), st.just("model"))
    ),
    machine=st.dictionaries(NAME, st.integers() | NAME | st.lists(NAME), max_size=2),
    versions=st.dictionaries(NAME, NAME, max_size=2),
)
ORIGINS = st.builds(
    Origin,
    st.sampled_from(["float32", "int8"]) | NAME,
    NAME,
    st.just(SIGNATURE),
    st.lists(
        st.builds(
            Event, NAME, st.dictionaries(NAME, NAME), st.dictionaries(NAME, NAME, max_size=2)
        ),
        max_size=2,
    ).map(tuple),
)
DIFFERENCES = st.builds(
    Difference, NAME, maybe(FIGURE), maybe(INTERVAL), maybe(SHARE), maybe(INTERVAL)
)
ROWS = st.builds(Row, MEASUREMENTS, maybe(ORIGINS), maybe(DIFFERENCES))
REPORTS = st.builds(
    Report,
    NAME,
    NAME,
    st.lists(ROWS, min_size=1, max_size=4).map(tuple),
    NAME,
    st.lists(NAME, max_size=2).map(tuple),
    st.lists(NAME, max_size=2).map(tuple),
)
