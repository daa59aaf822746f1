"""Bundles that are wrong in every way that chance finds, opened and unpacked.

Each begins as a right one. Its bytes are changed or cut, its members exchanged, its manifest or the
tables of its coded files changed in one value and put together again. Where a key is given, all of
them must be refused; where unsigned ones are allowed, each must be refused in one sentence or
unpack to the sizes and hashes that its manifest says. Bounded in number, in time and in memory.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgewise.edge.artifact import Artifact
from edgewise.edge.bundle import Contents, Golden, Manifest, container, open_bundle, write_bundle
from edgewise.edge.codec import Segment, general
from edgewise.edge.codec.stream import HEAD
from edgewise.errors import InputError
from edgewise.record import Signature, TensorSpec

__all__ = ["attack", "run"]

SECONDS = 5  # that one bundle may take
GROWTH_BYTES = 64_000_000
ADDRESS_SPACE = 6 << 30
VALUES = (
    0, -1, 1, 2, 7, 255, 256, 2**22, 2**31, 2**32 - 1, 2**53, 2**60, 2**64, 10**30, 0.5, -0.0,
    1e308, "", "x", "..", "/", "../../x", "a\0b", "\ud7ff", None, True, [], [[]], {}, [0] * 99,
)  # fmt: skip


@dataclass(frozen=True)
class Specimen:
    """A right bundle, its members, and the key that it is signed by."""

    data: bytes
    members: dict[str, bytes]
    key: bytes


def attack(count: int, seed: int) -> Counter[str]:
    """Try `count` bundles; how often each thing came of it.

    Raises:
        AssertionError: a bundle crashed or hung the reader, or was taken that must not be.
    """
    rng, found = random.Random(seed), Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        right = _specimen(folder)
        cases = _cases(right, rng)
        signal.signal(signal.SIGALRM, _too_long)
        for i in range(count):
            kind, data = next(cases)
            path = folder / "case.edge"
            path.write_bytes(data)
            signal.alarm(SECONDS)
            try:
                found[f"{kind}: {_try(path, right, folder / 'out')}"] += 1
            except AssertionError:
                raise
            except BaseException as error:
                kept = Path(tempfile.gettempdir()) / f"bundle-{seed}-{i}.edge"
                kept.write_bytes(data)
                raise AssertionError(f"{kind} {i}: {error!r}; kept as {kept}") from error
            finally:
                signal.alarm(0)
    return found


def run(count: int, seed: int) -> dict[str, Any]:
    """The fuzzing with its time and its growth in memory, for `benchmarks.fuzz`."""
    attack(200, seed + 1)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    before, begin, failures = _peak(), time.monotonic(), []
    found: Counter[str] = Counter()
    try:
        found = attack(count, seed)
    except AssertionError as error:
        failures.append(str(error))
    grown = _peak() - before
    if grown > GROWTH_BYTES:
        failures.append(f"the process grew by {grown} bytes")
    return {
        "bundles": sum(found.values()),
        "found": dict(sorted(found.items())),
        "grown_bytes": grown,
        "seconds": round(time.monotonic() - begin, 1),
        "failures": failures,
    }


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _too_long(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def _try(path: Path, right: Specimen, out: Path) -> str:
    """Open it with the key, which must fail unless nothing changed; then without one."""
    said = ""
    try:
        open_bundle(path, right.key).close()
        same = path.read_bytes() == right.data
        assert same, "a changed bundle was taken for a signed one"
    except InputError as error:
        said = str(error)
    try:
        with open_bundle(path, allow_unsigned=True) as opened:
            opened.extract(out)
            if opened.manifest.golden:
                opened.golden()
        outcome = "whole"
    except InputError as error:
        said, outcome = f"{said}{error}", "refused"
    finally:
        shutil.rmtree(out, ignore_errors=True)
    assert "\n" not in said, f"more than one line: {said}"
    return outcome


def _cases(right: Specimen, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    makers = (_bytes, _cut, _members, _manifest, _table, _table, _coded)
    while True:
        make = rng.choice(makers)
        yield make.__name__.strip("_"), make(right, rng)


def _bytes(right: Specimen, rng: random.Random) -> bytes:
    data = bytearray(right.data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def _cut(right: Specimen, rng: random.Random) -> bytes:
    a, b = sorted(rng.randrange(len(right.data) + 1) for _ in range(2))
    return rng.choice((right.data[:a], right.data[a:], right.data[:a] + right.data[b:]))


def _members(right: Specimen, rng: random.Random) -> bytes:
    members = dict(right.members)
    one, other = rng.choice(list(members)), rng.choice(list(members))
    how = rng.randrange(4)
    if how == 0:
        del members[one]
    elif how == 1:
        members[one] = members[other]
    elif how == 2:
        members[one] = members[one][: rng.randrange(len(members[one]) + 1)]
    else:
        members[rng.choice(("x", "x.coded", "model.bin.coded"))] = members[other]
    return _pack(members)


def _manifest(right: Specimen, rng: random.Random) -> bytes:
    manifest = json.loads(right.members["manifest.json"])
    _change(manifest, rng)
    return _pack({**right.members, "manifest.json": json.dumps(manifest).encode()})


def _table(right: Specimen, rng: random.Random) -> bytes:
    """Change the table of a coded file and pack it again, its new length in the head."""
    coded = right.members["model.onnx.coded"]
    form, lanes, size, packed, rest = HEAD.unpack(coded[: HEAD.size])
    middle = HEAD.size + packed
    table = msgspec.msgpack.decode(general.unpack(coded[HEAD.size : middle], size))
    _change(table, rng)
    try:
        text = msgspec.msgpack.encode(table)
    except (OverflowError, UnicodeEncodeError):
        text = b"\xc1"
    again = general.pack(text)
    head = HEAD.pack(form, lanes, len(text), len(again), rest)
    return _pack({**right.members, "model.onnx.coded": head + again + coded[middle:]})


def _coded(right: Specimen, rng: random.Random) -> bytes:
    coded = bytearray(right.members["model.onnx.coded"])
    for _ in range(rng.choice((1, 2, 5))):
        at = rng.randrange(HEAD.size if rng.random() < 0.3 else len(coded))
        coded[at] = rng.choice((0, 1, 127, 255, rng.randrange(256)))
    return _pack({**right.members, "model.onnx.coded": bytes(coded)})


def _change(value: Any, rng: random.Random) -> None:
    """Change one value somewhere in nested lists and maps."""
    place = value
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.85:
            place = place[key]
        else:
            place[key] = rng.choice(VALUES)
            return


def _pack(members: dict[str, bytes]) -> bytes:
    with tempfile.TemporaryFile() as file:
        container.write_members(file, members.items())
        file.seek(0)
        return file.read()


def _specimen(folder: Path) -> Specimen:
    """A bundle of a file that no runtime has to open, with a tensor of each kind."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    generator = np.random.default_rng(0)
    weights = generator.standard_normal((24, 8, 3, 3))
    tensors = (
        np.rint(weights * 3).astype(np.int8),
        weights.astype(np.float32),
        np.rint(weights).astype(np.float32),
        generator.integers(-9999, 9999, 600, dtype=np.int32),
    )
    data, segments = b"", []
    for tensor in tensors:
        data += b"a graph " * 5
        segments.append(Segment(len(data), str(tensor.dtype), tensor.shape))
        data += tensor.tobytes()
    segments.append(Segment(len(data), "int4", (1201,)))
    data += generator.bytes(601)
    (folder / "net.onnx").write_bytes(data)
    spec = TensorSpec("x", (None, 4))
    signature = Signature((spec,), (TensorSpec("y", (None, 2)),))
    artifact = Artifact.of("onnxruntime", folder / "net.onnx", signature)
    golden = Golden((TensorSpec("x", (2, 4)),), (TensorSpec("y", (2, 2)),), (0.1,), "random")
    arrays = np.ones((2, 4), np.float32), np.zeros((2, 2), np.float32)
    key = ec.derive_private_key(12345, ec.SECP256R1())
    none = form.NoEncryption()
    pem = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, none)
    (folder / "key.pem").write_bytes(pem)
    path = write_bundle(
        folder / "right.edge",
        Manifest("net", 1, (artifact,), (), golden),
        Contents({"onnxruntime": {"net.onnx": segments}}, arrays, {"licence.txt": b"free"}),
        private_key=folder / "key.pem",
    )
    with path.open("rb") as file:
        members = {
            name: b"".join(container.chunks(file, member))
            for name, member in container.read_members(file).items()
        }
    public = form.PublicFormat.SubjectPublicKeyInfo
    return Specimen(
        path.read_bytes(), members, key.public_key().public_bytes(form.Encoding.PEM, public)
    )
