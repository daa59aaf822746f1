"""Bundles from strangers: refused in one sentence, before anything of them is used."""

import importlib.util
import json
import os
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from edgewise.edge import runners
from edgewise.edge.bundle import container, open_bundle, signature
from edgewise.errors import EdgewiseError, InputError, ModelError

from .conftest import write_keys


@pytest.fixture(autouse=True)
def no_runtime_opens_anything(monkeypatch):
    def refuse(*_):
        raise AssertionError("a runtime was asked to open a file")

    monkeypatch.setattr(runners, "open_file", refuse)


def members(path) -> dict[str, bytes]:
    with path.open("rb") as file:
        found = container.read_members(file)
        return {name: b"".join(container.chunks(file, m)) for name, m in found.items()}


def write(path, contents):
    with path.open("wb") as file:
        container.write_members(file, contents.items())
    return path


def refused(path, key, match=None, **options):
    with pytest.raises(EdgewiseError, match=match) as found:
        open_bundle(path, key, **options)
    assert str(path) in str(found.value) and "\n" not in str(found.value)


def test_every_changed_byte_is_refused(signed, keys, tmp_path):
    data = signed.read_bytes()
    path = tmp_path / "changed.edge"
    for at in range(0, len(data), 11):
        changed = bytearray(data)
        changed[at] ^= 1 << (at % 8)
        path.write_bytes(changed)
        refused(path, keys[1])


def test_every_length_but_its_own_is_refused(signed, keys, tmp_path):
    data, path = signed.read_bytes(), tmp_path / "cut.edge"
    for size in [*range(0, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:size])
        refused(path, keys[1])
    for more in (b"\0", data):
        path.write_bytes(data + more)
        refused(path, keys[1])


def test_signatures_of_nobody_and_of_others_are_refused(signed, keys, tmp_path):
    stripped = members(signed)
    del stripped["model.sig"]
    refused(write(tmp_path / "stripped.edge", stripped), keys[1], "not signed")
    _, foreign = write_keys(tmp_path, "foreign")
    refused(signed, foreign, "another key")
    refused(signed, None, "no key")
    for key in (tmp_path / "none.pub", keys[0], signed, b"", b"\0"):
        with pytest.raises(InputError):
            open_bundle(signed, key)


def test_members_added_exchanged_or_left_out_are_refused(signed, keys, tmp_path):
    good = members(signed)
    bad = dict(good)
    bad["extra.coded"] = b"x"
    refused(write(tmp_path / "a.edge", bad), keys[1], "added or left out")
    bad = {name: data for name, data in good.items() if name != "golden.bin.coded"}
    refused(write(tmp_path / "b.edge", bad), keys[1], "added or left out")
    bad = {**good, "golden.bin.coded": good["model.onnx.coded"]}
    refused(write(tmp_path / "c.edge", bad), keys[1], "not what was signed")


NAMES = (
    "../evil",
    "/etc/evil",
    "a/b",
    "a\\b",
    "c:evil",
    ".hidden",
    "A",
    "",
    "a\0b",
    "é",
    "x" * 101,
)


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_somewhere_are_refused(signed, keys, tmp_path, name):
    bad = {**members(signed), name: b"x"}
    with zipfile.ZipFile(tmp_path / "std.edge", "w") as archive:
        for one, data in bad.items():
            archive.writestr(zipfile.ZipInfo(one or "/", (1980, 1, 1, 0, 0, 0)), data)
    refused(tmp_path / "std.edge", keys[1])
    if name.isascii():
        refused(write(tmp_path / "own.edge", bad), keys[1], "named")


def test_links_folders_and_deflated_members_are_refused(signed, keys, tmp_path):
    path = tmp_path / "zip.edge"
    link = zipfile.ZipInfo("link.coded", (1980, 1, 1, 0, 0, 0))
    link.external_attr = 0o120777 << 16
    for info, how in ((link, 0), ("folder/", 0), ("deflated.coded", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(path, "w", how) as archive:
            archive.writestr(info, b"/etc/passwd" * 20)
        refused(path, keys[1])


@pytest.mark.parametrize("size", [2**60, 2**32 - 1, 2**31, 10**30, -1])
def test_impossible_sizes_are_refused(signed, tmp_path, size):
    good = members(signed)
    manifest = json.loads(good["manifest.json"])
    manifest["files"][0]["size"] = size
    bad = {**good, "manifest.json": json.dumps(manifest).encode()}
    refused(write(tmp_path / "a.edge", bad), None, allow_unsigned=True)


def test_impossible_sizes_in_the_table_of_contents_are_refused(signed, keys, tmp_path):
    data = bytearray(signed.read_bytes())
    directory = data.rindex(b"PK\1\2")
    for at in (directory + 20, directory + 24, directory + 42, len(data) - 6, len(data) - 10):
        changed = bytearray(data)
        struct.pack_into("<I", changed, at, 0xFFFFFFFE)
        path = tmp_path / "claims.edge"
        path.write_bytes(changed)
        refused(path, keys[1])


def test_what_is_no_file_is_refused(keys, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none", tmp_path, tmp_path / "pipe"):
        refused(path, keys[1])


def change_manifest(good, **fields):
    manifest = json.loads(good["manifest.json"])
    for name, value in fields.items():
        place, *keys = manifest, *name.split("__")
        for key in keys[:-1]:
            place = place[int(key) if key.isdigit() else key]
        place[int(keys[-1]) if keys[-1].isdigit() else keys[-1]] = value
    return {**good, "manifest.json": json.dumps(manifest).encode()}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 99),
        ("name", ""),
        ("name", "x" * 10**5),
        ("version", -1),
        ("files", []),
        ("files__0__name", "../evil"),
        ("files__0__sha256", "zz"),
        ("artifacts__0__path", "../../evil.onnx"),
        ("artifacts__0__path", "/etc/evil.onnx"),
        ("artifacts__0__runtime", "pickle"),
        ("artifacts__0__batch", 0),
        ("artifacts__0__batch", 2**60),
        ("artifacts__0__layouts", {"x": "NHWC"}),
        ("artifacts__0__files", {"model.onnx": "0" * 64}),
        ("golden__inputs__0__shape", [2**60, 4]),
        ("golden__inputs__0__shape", [-4, -4]),
        ("golden__inputs__0__dtype", "object"),
        ("golden__inputs", []),
        ("golden__tolerance", []),
        ("golden__tolerance", [1e999]),
    ],
)
def test_manifests_that_lie_are_refused(signed, tmp_path, field, value):
    bad = change_manifest(members(signed), **{field: value})
    refused(write(tmp_path / "lie.edge", bad), None, allow_unsigned=True)


def test_a_file_that_decodes_to_another_is_refused(signed, tmp_path):
    good = members(signed)
    bad = change_manifest(good, files__1__sha256="0" * 64)
    with (
        open_bundle(write(tmp_path / "a.edge", bad), allow_unsigned=True) as opened,
        pytest.raises(ModelError, match="not what the manifest describes"),
    ):
        opened.extract(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_random_changes_of_coded_members_end_in_a_sentence(signed, tmp_path):
    good, generator = members(signed), np.random.default_rng(0)
    outcomes = set()
    for i in range(150):
        data = bytearray(good["model.onnx.coded"])
        for _ in range(generator.integers(1, 4)):
            data[generator.integers(len(data))] = generator.integers(256)
        path = write(tmp_path / "a.edge", {**good, "model.onnx.coded": bytes(data)})
        try:
            with open_bundle(path, allow_unsigned=True) as opened:
                opened.extract(tmp_path / f"out{i}")
            outcomes.add("whole")
        except ModelError as error:
            outcomes.add("two lines" if "\n" in str(error) else "refused")
    assert "refused" in outcomes and "two lines" not in outcomes


OFFICIAL = importlib.util.find_spec("model_signing") is not None


@pytest.mark.skipif(not OFFICIAL, reason="needs OpenSSF model-signing")
def test_model_signing_accepts_ours_and_we_accept_its(signed, keys, tmp_path):
    folder = tmp_path / "unzipped"
    with zipfile.ZipFile(signed) as archive:
        archive.extractall(folder)

    def official(verb, option, key):
        command = [sys.executable, "-m", "model_signing", verb, "key", str(folder)]
        command += [option, str(key), "--signature", str(folder / "model.sig")]
        return subprocess.run(command, capture_output=True, text=True)

    done = official("verify", "--public_key", keys[1])
    assert done.returncode == 0, done.stderr
    (folder / "model.sig").unlink()
    done = official("sign", "--private_key", keys[0])
    assert done.returncode == 0, done.stderr
    theirs = {**members(signed), "model.sig": (folder / "model.sig").read_bytes()}
    with open_bundle(write(tmp_path / "theirs.edge", theirs), keys[1]) as opened:
        assert opened.signed
    (folder / "model.onnx.coded").write_bytes(b"another")
    assert official("verify", "--public_key", keys[1]).returncode != 0


def test_a_manifest_that_changes_after_it_was_hashed_is_refused(signed, keys, monkeypatch):
    # Whoever may write to the file can also make the zip's own checksum fit.
    def change(*arguments):
        read = container.chunks
        monkeypatch.setattr(
            container, "chunks", lambda file, member: [b"".join(read(file, member)) + b" "]
        )

    monkeypatch.setattr(signature, "verify", change)
    with pytest.raises(ModelError, match="changed while it was being read"):
        open_bundle(signed, keys[1])
