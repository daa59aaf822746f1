"""Bundles written, opened, unpacked and run."""

import json
import subprocess
import sys

import numpy as np
import pytest

from edgewise.bundling import bundle
from edgewise.edge.artifact import Artifact
from edgewise.edge.bundle import Preprocessing, open_bundle, read_secret
from edgewise.errors import InputError, ModelError

from ..tiny import write_onnx

SECRET = bytes(range(32))


def test_unpacks_what_was_packed_and_runs_it(signed, keys, tmp_path):
    with open_bundle(signed, keys[1]) as opened:
        assert opened.signed and opened.manifest.version == 3
        (artifact,) = opened.extract(tmp_path / "out")
        result = opened.check(artifact)
    assert artifact.path.read_bytes() == (signed.parent / "net.onnx").read_bytes()
    assert Artifact.open(artifact.path) == artifact
    assert result.passed and result.n == 4 and result.max_abs == (0.0,)


def test_the_same_input_gives_the_same_bytes(signed, keys, tmp_path):
    source = write_onnx(tmp_path / "other.onnx")
    options = {"key": keys[0], "name": "net", "version": 3, "licences": ["MIT"]}
    options["data"] = np.linspace(-1, 1, 40, dtype=np.float32).reshape(10, 4)
    bundle(source, tmp_path / "again.edge", **options).close()
    assert (tmp_path / "again.edge").read_bytes() == signed.read_bytes()


def test_golden_outputs_catch_another_model(signed, keys, tmp_path):
    other = Artifact.open(write_onnx(tmp_path / "net.onnx", outputs=2))
    with open_bundle(signed, keys[1]) as opened:
        assert not opened.check(other).passed


def test_carries_preprocessing_licences_and_a_bill_of_materials(signed, keys, tmp_path):
    licence = tmp_path / "LICENSE"
    licence.write_text("do what you like")
    path = tmp_path / "net.edge"
    steps = {"x": Preprocessing((0.5,), (0.25,))}
    source = signed.parent / "net.onnx"
    with bundle(source, path, licences=["MIT", licence], preprocessing=steps) as made:
        assert made.manifest.preprocessing == steps
        assert made.manifest.licences == ("MIT", "LICENSE")
        made.extract(tmp_path / "out")
    assert (tmp_path / "out" / "licence-1.txt").read_text() == "do what you like"
    bom = json.loads((tmp_path / "out" / "bom.cdx.json").read_text())
    assert bom["metadata"]["component"]["type"] == "machine-learning-model"
    hashes = bom["components"][0]["hashes"]
    assert hashes == [{"alg": "SHA-256", "content": Artifact.open(source).sha256}]


@pytest.mark.parametrize(
    "change", [{"artifacts": []}, {"licences": ["none/such"]}, {"name": ""}, {"version": -1}]
)
def test_what_cannot_be_bundled_is_refused(signed, tmp_path, change):
    options = {"artifacts": signed.parent / "net.onnx", "path": tmp_path / "a.edge", **change}
    with pytest.raises(InputError):
        bundle(**options)
    assert not list(tmp_path.iterdir())


def test_two_artifacts_for_one_runtime_are_refused(signed, tmp_path):
    source = signed.parent / "net.onnx"
    with pytest.raises(InputError, match="same runtime"):
        bundle([source, source], tmp_path / "a.edge")


def test_nothing_is_unpacked_over_what_is_there(signed, keys, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with open_bundle(signed, keys[1]) as opened:
        for name in ("out", "link"):
            with pytest.raises(InputError, match="exists"):
                opened.extract(tmp_path / name)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["link", "out"]


def test_encrypted_bundles_open_with_the_secret_only(signed, keys, tmp_path):
    path, source = tmp_path / "net.edge", signed.parent / "net.onnx"
    bundle(source, path, key=keys[0], secret=SECRET).close()
    assert b"MatMul" not in path.read_bytes()
    with open_bundle(path, keys[1], secret=SECRET) as opened:
        (artifact,) = opened.extract(tmp_path / "out")
        assert opened.check(artifact).passed
    assert artifact.path.read_bytes() == source.read_bytes()
    with open_bundle(path, keys[1]) as opened, pytest.raises(InputError, match="secret"):
        opened.extract(tmp_path / "a")
    with (
        open_bundle(path, keys[1], secret=bytes(32)) as opened,
        pytest.raises(ModelError, match="cannot be decrypted"),
    ):
        opened.extract(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_secrets_come_from_files_variables_and_commands(tmp_path, monkeypatch):
    (tmp_path / "raw").write_bytes(SECRET)
    (tmp_path / "short").write_bytes(SECRET[:-1])
    monkeypatch.setenv("EDGEWISE_TEST_SECRET", SECRET.hex())
    assert read_secret(f"file:{tmp_path / 'raw'}") == SECRET
    assert read_secret("env:EDGEWISE_TEST_SECRET") == SECRET
    assert read_secret(f"command:echo {SECRET.hex()}") == SECRET
    bad = (f"file:{tmp_path / 'short'}", "env:NONE_SUCH", "command:false", "command:", "x:y", "")
    for source in bad:
        with pytest.raises(InputError, match="secret"):
            read_secret(source)


def test_reads_without_torch(signed, keys, tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from edgewise.edge.bundle import open_bundle\n"
        f"with open_bundle({str(signed)!r}, {str(keys[1])!r}) as b:\n"
        f"    print(b.check(*b.extract({str(tmp_path / 'out')!r})).passed)\n"
        "assert not {'torch', 'onnx', 'scipy'} & {k for k, v in sys.modules.items() if v}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr
