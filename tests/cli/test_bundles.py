"""bundle, verify and unbundle, called as a user would."""

import hashlib
import json

import pytest

from edgewise.edge import codec
from edgewise.edge.bundle import container

from ..edge.bundle.conftest import write_keys
from ..edge.tiny import write_onnx

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
pytest.importorskip("cryptography", reason="signs and checks signatures")


@pytest.fixture
def made(tmp_path, run):
    private, public = write_keys(tmp_path)
    source, path = write_onnx(tmp_path / "net.onnx"), tmp_path / "net.edge"
    done = run("bundle", source, "--key", private, "--version", 2, "-o", path, "--json")
    assert done.code == 0, done.err
    assert done.json["bytes"] == path.stat().st_size
    assert not done.json["verified"] and done.json["version"] == 2
    return path, public, source


def test_bundle_verify_unbundle(made, run, tmp_path):
    path, public, source = made
    done = run("verify", path, "--key", public, "--run", "--json")
    assert done.code == 0 and done.json["verified"]
    assert done.json["golden"]["onnxruntime"]["passed"]
    assert run("unbundle", path, "--key", public, "-o", tmp_path / "out").code == 0
    assert (tmp_path / "out" / "model.onnx").read_bytes() == source.read_bytes()
    assert "signature and hashes are good" in run("verify", path, "--key", public).out


def test_what_cannot_be_trusted_ends_with_code_2(made, run, tmp_path):
    path, public, _ = made
    _, foreign = write_keys(tmp_path, "foreign")
    assert "allow" in run("verify", path).err
    assert "another key" in run("verify", path, "--key", foreign).err
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    for options in (("--key", public), ("--allow-unsigned",), ()):
        done = run("verify", path, *options)
        assert done.code == 2 and done.err.startswith("error: ") and done.err.count("\n") == 1


def test_an_update_unpacks_with_the_version_before(made, run, tmp_path):
    path, public, source = made
    private, new = tmp_path / "key.pem", tmp_path / "new.edge"
    done = run("bundle", source, "--key", private, "--base", path, "-o", new)
    assert done.code == 0, done.err
    old = tmp_path / "old"
    assert run("unbundle", path, "--key", public, "-o", old).code == 0
    assert run("unbundle", new, "--key", public, "-o", tmp_path / "a").code == 2
    empty = tmp_path / "empty"
    empty.mkdir()
    done = run("unbundle", new, "--key", public, "--base", empty, "-o", tmp_path / "a")
    assert done.code == 2 and "take the full bundle" in done.err
    done = run("unbundle", new, "--key", public, "--base", old, "-o", tmp_path / "a")
    assert done.code == 0, done.err
    assert (tmp_path / "a" / "model.onnx").read_bytes() == source.read_bytes()


def test_an_artifact_that_computes_something_else_ends_with_code_1(made, run, tmp_path):
    path, _, _ = made
    with path.open("rb") as file:
        members = {
            name: b"".join(container.chunks(file, member))
            for name, member in container.read_members(file).items()
        }
    manifest = json.loads(members["manifest.json"])
    (golden,) = (file for file in manifest["files"] if file["name"] == "golden.bin")
    other = bytes(golden["size"] - 4) + b"\0\0\0A"  # the last expected output is 8
    golden["sha256"] = hashlib.sha256(other).hexdigest()
    members["golden.bin.coded"] = codec.encode(other)
    members["manifest.json"] = json.dumps(manifest).encode()
    with path.open("wb") as file:
        container.write_members(file, members.items())
    done = run("verify", path, "--allow-unsigned", "--run")
    assert done.code == 1 and "FAILED" in done.out
