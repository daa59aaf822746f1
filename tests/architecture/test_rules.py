"""The rules of the house, as tests."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import edgewise

SOURCE = Path(edgewise.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
ROOT = SOURCE.parents[1]
SDKS = {
    "onnxruntime": {"edge/runners/onnxruntime.py"},
    "onnx": {"lowering/onnxruntime.py", "lowering/onnx_ops.py", "loading/onnx/file.py"},
    "openvino": {"edge/runners/openvino.py"},
    # The reader takes the schema of the file format from the package, nothing that runs.
    "ai_edge_litert": {
        "edge/runners/litert.py",
        "lowering/tflite_file.py",
        "loading/tflite/reader.py",
    },
    "flatbuffers": {"lowering/tflite_file.py"},
    "executorch": {"edge/runners/executorch.py", "lowering/executorch.py"},
    "torchao": {"lowering/executorch.py"},
}


def name(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def imports(tree: ast.AST) -> set[str]:
    """Top-level names of everything that is imported absolutely, anywhere in the file."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_are_small_and_named_by_a_noun(path):
    assert len(path.read_text().splitlines()) <= 500
    assert path.stem not in {"utils", "util", "helpers", "helper", "common", "misc"}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_user_input_is_never_checked_by_assert(path):
    tree = ast.parse(path.read_text())
    assert not [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Assert)]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_runtimes_are_imported_only_in_their_own_files(path):
    found = imports(ast.parse(path.read_text()))
    for sdk, homes in SDKS.items():
        assert sdk not in found or name(path) in homes, f"{name(path)} imports {sdk}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_all_lists_what_the_module_defines(path):
    tree = ast.parse(path.read_text())
    declared = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and "__all__"
        in ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
    ]
    if path.read_text().strip() == "" or path.stem == "__main__":
        return
    assert declared, "every module says what it offers in __all__"
    names = ast.literal_eval(declared[0])
    assert sorted(names, key=str) == sorted(set(names), key=str)


def test_every_public_name_can_be_had():
    for public in edgewise.__all__:
        assert getattr(edgewise, public) is not None
    assert set(edgewise._HOMES) == set(edgewise.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        edgewise.nothing  # noqa: B018


def test_no_file_hides_a_public_name():
    # Once imported, `edgewise.x` is the file x.py, whatever verb of that name there was.
    rooms = {path.stem for path in SOURCE.glob("*.py")} | {path.name for path in SOURCE.iterdir()}
    assert not rooms & set(edgewise.__all__)


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


HEAVY = {"torch", "onnxruntime", "openvino", "ai_edge_litert", "executorch", "scipy", "polars"}


@pytest.mark.parametrize(
    "code",
    [
        "import edgewise",
        "import edgewise.cli",
        "import edgewise.edge.artifact, edgewise.edge.benchmark, edgewise.edge.machine",
        "import edgewise.data, edgewise.metric",
    ],
)
def test_import_is_light(code):
    assert not HEAVY & modules_after(code)


def test_the_test_of_lightness_can_fail():
    assert "torch" in modules_after("import edgewise.model")


def test_imports_go_downward_only():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
