import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.edge.artifact import Artifact
from edgewise.errors import InputError
from edgewise.record import (
    Agreement,
    Event,
    Latency,
    Measurement,
    Signature,
    TensorSpec,
    decode,
    encode,
)

names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)
reals = st.floats(allow_nan=False, allow_infinity=False)
specs = st.builds(
    TensorSpec,
    name=names,
    shape=st.tuples(st.none(), st.integers(1, 9)),
    dtype=st.sampled_from(["float32", "uint8"]),
    layout=st.sampled_from(["", "NC"]),
    range=st.none() | st.tuples(reals, reals),
)
signatures = st.builds(Signature, st.tuples(specs), st.tuples(specs, specs), st.tuples(names))
events = st.builds(
    Event,
    step=names,
    params=st.dictionaries(names, st.integers(-(2**53), 2**53) | names | st.lists(reals)),
    skipped=st.dictionaries(names, names),
)
artifacts = st.builds(
    Artifact,
    runtime=st.just("onnxruntime"),
    path=st.just(Path("net.onnx")),
    files=st.dictionaries(names, names),
    signature=signatures,
    layouts=st.dictionaries(names, st.just("NHWC")),
    lineage=st.tuples(events, events),
    agreement=st.none()
    | st.builds(Agreement, reals, reals, reals, reals, st.integers(0, 9), names),
)


@given(artifacts)
def test_what_is_written_is_read_and_equal_records_have_equal_bytes(artifact):
    text = encode(artifact)
    again = decode(text, Artifact, "record")
    assert again == artifact
    assert encode(again) == text


def test_what_was_not_measured_is_left_out():
    text = json.loads(encode(Measurement("net", "litert", "local", metric="accuracy", value=0.5)))
    assert text == {
        "subject": "net",
        "runtime": "litert",
        "device": "local",
        "metric": "accuracy",
        "value": 0.5,
        "machine": {},
        "versions": {},
    }
    latency = json.loads(encode(Latency(p50=1.0, runs=10, threads=2, batch=1)))
    assert set(latency) == {"p50", "runs", "threads", "batch"}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"subject": 1, "runtime": "", "device": ""}',
        b'{"subject": "a"}',
        b"[" * 100_000,
    ],
)
def test_text_that_is_no_record_is_refused(text):
    with pytest.raises(InputError, match=r"net\.json is not a valid Measurement"):
        decode(text, Measurement, "net.json")


def test_what_is_not_a_path_is_refused():
    artifact = Artifact("litert", Path("net.tflite"), {}, Signature((), ()))
    text = encode(artifact).replace(b'"net.tflite"', b"7")
    with pytest.raises(InputError, match="expected the text of a path"):
        decode(text, Artifact, "net.json")


def test_a_record_of_numbers_only_is_plain_data():
    latency = Latency(1.0, 64, 1, 1, p90=2.0)
    assert Latency(**asdict(latency)) == latency


def test_prints_what_was_measured_with_its_conditions():
    latency = Latency(p50=1.5, runs=64, threads=2, batch=1, p90=2.0)
    found = Measurement("net", "litert", "local", "accuracy", 0.5, 10, (0.2, 0.8), latency)
    assert str(found).splitlines() == [
        "net on litert (local)",
        "  accuracy 0.5 [0.2, 0.8] of 10 samples",
        "  latency p50 1.5, p90 2 ms (64 runs, 2 threads, batch 1)",
    ]
