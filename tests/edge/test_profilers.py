"""What every runtime's profiler gives of one file, and the reader of ExecuTorch's dumps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgewise.edge import profilers
from edgewise.edge.profilers import Operator

from .tiny import write_onnx


def test_each_operator_once_with_its_mean(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    path = write_onnx(tmp_path / "tiny.onnx")
    feeds = itertools.repeat((np.ones((1, 4), np.float32),))
    (operator,) = profilers.profile("onnxruntime", path, 1, feeds, 4)
    assert (operator.kind, operator.kernel) == ("MatMul", "CPU")
    assert operator.inputs[0] == "float"
    assert operator.us >= 0 and not operator.fallback


def test_the_slowest_quarter_is_left_out(monkeypatch):
    from edgewise.edge.profilers import onnxruntime

    runs = [[Operator("a", "Conv", "CPU", us)] for us in (1.0, 2.0, 3.0, 1000.0)]
    monkeypatch.setattr(onnxruntime, "profile", lambda *arguments: runs)
    (operator,) = profilers.profile("onnxruntime", None, 1, iter(()), 4)
    assert operator.us == 2.0


def test_operators_without_names_are_told_apart_by_their_turn(monkeypatch):
    from edgewise.edge.profilers import executorch

    runs = [[Operator("", "Conv", "XNNPACK", us) for us in (1.0, 5.0)]] * 3
    monkeypatch.setattr(executorch, "profile", lambda *arguments: runs)
    found = profilers.profile("executorch", None, 1, iter(()), 3)
    assert [o.us for o in found] == [1.0, 5.0]


def test_a_dump_is_read_as_its_schema_says():
    flatbuffers = pytest.importorskip("flatbuffers")
    from edgewise.edge.profilers.executorch import read

    events = [
        ("", "Convolution (NHWC, QC8) IGEMM #2", 1000, 4000),
        ("native_call_slice_copy.Tensor_out", "", 5000, 5500),
        ("Method::execute", "", 0, 9000),
    ]
    (run,) = read(dump(flatbuffers.Builder(0), events))
    assert [(o.kind, o.kernel, o.us, o.fallback) for o in run] == [
        ("Convolution (NHWC, QC8) IGEMM", "XNNPACK", 3.0, False),
        ("slice_copy.Tensor_out", "portable", 0.5, True),
    ]


def dump(builder, events) -> bytes:
    """An ETDump of one run: (name, delegate's name, start, end) in ticks of a nanosecond."""

    def table(fields, slots):
        builder.StartObject(slots)
        for slot, (kind, value) in fields.items():
            if kind == "offset":
                builder.PrependUOffsetTRelativeSlot(slot, value, 0)
            else:
                builder.PrependUint64Slot(slot, value, 0)
        return builder.EndObject()

    def vector(items):
        builder.StartVector(4, len(items), 4)
        for item in reversed(items):
            builder.PrependUOffsetTRelative(item)
        return builder.EndVector()

    made = []
    for name, inside, start, end in events:
        texts = {0: name, 4: inside}
        fields = {s: ("offset", builder.CreateString(t)) for s, t in texts.items() if t}
        fields |= {6: ("number", start), 7: ("number", end)}
        made.append(table({0: ("offset", table(fields, 8))}, 3))
    run = {0: ("offset", builder.CreateString("Execute")), 3: ("offset", vector(made))}
    root = table({1: ("offset", vector([table(run, 4)]))}, 2)
    builder.FinishSizePrefixed(root, b"ED00")
    return bytes(builder.Output())
