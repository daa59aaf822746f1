"""ONNX files through the torch-free runner: signature, numbers, silence and errors."""

import builtins
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgewise.edge import runners
from edgewise.edge.runners import onnxruntime as runner
from edgewise.errors import MissingExtra, ModelError, RuntimeFailure
from edgewise.record import TensorSpec

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
helper, TYPES = onnx.helper, onnx.TensorProto

SOURCE = Path(runners.__file__).parents[3]


def save(path: Path, nodes, inputs, outputs) -> Path:
    """A file with these nodes; inputs and outputs are (name, type, shape)."""
    described = [
        [helper.make_tensor_value_info(*value) for value in values] for values in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "test", *described)
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


@pytest.fixture
def sums(tmp_path) -> Path:
    """Two inputs, two outputs of different types."""
    return save(
        tmp_path / "sums.onnx",
        [helper.make_node("Add", ["a", "b"], ["sum"]),
         helper.make_node("Cast", ["sum"], ["whole"], to=TYPES.INT32)],
        [("a", TYPES.FLOAT, (2, 3)), ("b", TYPES.FLOAT, ("batch", 3))],
        [("sum", TYPES.FLOAT, (2, 3)), ("whole", TYPES.INT32, (2, 3))],
    )  # fmt: skip


def test_runs_with_inputs_and_outputs_in_the_order_of_the_file(sums):
    opened = runners.open_file("onnxruntime", sums, threads=1)
    a, b = np.full((2, 3), 1.25, np.float32), np.full((2, 3), 2.5, np.float32)
    total, whole = opened.run(a, b)
    assert np.array_equal(total, a + b)
    assert np.array_equal(whole, np.full((2, 3), 3, np.int32))
    assert opened.version == runner.probe()


def test_the_signature_is_the_file_s(sums):
    signature = runners.open_file("onnxruntime", sums).signature
    assert signature.inputs == (TensorSpec("a", (2, 3)), TensorSpec("b", (None, 3)))
    assert signature.outputs == (TensorSpec("sum", (2, 3)), TensorSpec("whole", (2, 3), "int32"))


def test_results_outlive_the_next_run(sums):
    opened = runners.open_file("onnxruntime", sums)
    ones = np.ones((2, 3), np.float32)
    first, _ = opened.run(ones, ones)
    opened.run(5 * ones, ones)
    assert np.array_equal(first, 2 * ones)


def bad_operator(path: Path) -> None:
    save(path, [helper.make_node("Nonsense", ["x"], ["y"])],
         [("x", TYPES.FLOAT, (1,))], [("y", TYPES.FLOAT, (1,))])  # fmt: skip


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not a model"),
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.unlink(),
        bad_operator,
    ],
    ids=["empty", "text", "truncated", "absent", "unknown operator"],
)
def test_what_it_cannot_read_is_one_sentence(spoil, sums):
    spoil(sums)
    with pytest.raises(ModelError) as caught:
        runners.open_file("onnxruntime", sums)
    message = str(caught.value)
    assert message.startswith(f"ONNX Runtime cannot open {sums}: ")
    assert "\n" not in message and "ONNXRuntimeError" not in message


def test_sequences_are_refused(tmp_path):
    path = tmp_path / "sequence.onnx"
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x"], ["y"])],
        "test",
        [helper.make_tensor_value_info("x", TYPES.FLOAT, (1,))],
        [helper.make_tensor_sequence_value_info("y", TYPES.FLOAT, (1,))],
    )
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    with pytest.raises(ModelError, match=r"'y' in .* takes and gives tensors"):
        runners.open_file("onnxruntime", path)


FAKE = """
import os
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1", "imported with telemetry on"
__version__ = "0"
calls = []
def disable_telemetry_events(): calls.append("telemetry off")
def set_default_logger_severity(level): calls.append(level)
"""


def python(code: str, *path: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (*path, SOURCE)))
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_telemetry_is_off_before_the_import(tmp_path):
    (tmp_path / "onnxruntime.py").write_text(FAKE)
    said = python(
        "from edgewise.edge import runners; runners.probe('onnxruntime')\n"
        "import onnxruntime; print(onnxruntime.calls)",
        tmp_path,
    )
    assert said.strip() == "['telemetry off', 3]"


def test_running_is_silent_and_needs_no_torch(sums):
    said = python(
        "import sys, numpy as np\n"
        "from edgewise.edge import runners\n"
        f"opened = runners.open_file('onnxruntime', {str(sums)!r})\n"
        "opened.run(*2 * [np.ones((2, 3), np.float32)])\n"
        "assert not {'torch', 'onnx'} & sys.modules.keys()"
    )
    assert said == ""


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (ModuleNotFoundError("No module named 'onnxruntime'"), MissingExtra, "pip install"),
        (ImportError("GLIBC_2.28 not found"), RuntimeFailure, "loaded: GLIBC_2.28 not found"),
    ],
)
def test_absence_and_failure_are_told_apart(error, expected, message, monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest):
        if name == "onnxruntime":
            raise error
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(expected, match=message):
        runner.probe()


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("x86_64", "flags : avx2 fma", True),
        ("x86_64", "flags : avx2 avx512_vnni", False),
        ("AMD64", "flags : avx2 avx_vnni", False),
        ("x86_64", None, True),
        ("aarch64", "Features : asimd asimddp", False),
    ],
)
def test_exact_sums_are_asked_for_where_int16_overflows(
    machine, flags, expected, monkeypatch, tmp_path
):
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(flags)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert runner.saturates(cpuinfo) is expected
    monkeypatch.setattr(runner, "saturates", lambda: expected)
    chosen = runner.options(1)
    if expected:
        assert chosen.get_session_config_entry("session.x64quantprecision") == "1"
    else:
        with pytest.raises(RuntimeError):
            chosen.get_session_config_entry("session.x64quantprecision")
