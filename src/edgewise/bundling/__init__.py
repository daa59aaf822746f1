"""bundle: artifacts become one file that a device can trust."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..edge.artifact import Artifact
from ..edge.bundle import (
    Bundle,
    Contents,
    Golden,
    Manifest,
    Preprocessing,
    open_bundle,
    write_bundle,
)
from ..edge.codec import Segment
from ..errors import InputError
from ..record import Measurement, Signature, TensorSpec
from .bom import BOM, bill_of_materials
from .segments import segments_of

if TYPE_CHECKING:
    from ..data import Data

__all__ = ["bundle"]

# The largest difference from a golden output that passes, as a share of the output's range over
# the golden inputs. Another processor adds floats in another order, and where that flips the
# rounding of an integer, some steps of 1/255 come of it.
SHARES = {"float32": 1e-3, "float16": 1e-2}
SHARE_QUANTIZED = 4 / 255

LEVELS, DRAWN = 4, 4099  # of random golden inputs; 4099 is a prime: no row is like another


def bundle(
    artifacts: Artifact | str | os.PathLike[str] | Sequence[Artifact | str | os.PathLike[str]],
    path: str | os.PathLike[str],
    *,
    key: str | os.PathLike[str] | None = None,
    name: str | None = None,
    version: int = 1,
    data: Data | Any = None,
    golden: int = 4,
    preprocessing: dict[str, Preprocessing] | None = None,
    measurements: Sequence[Measurement] = (),
    licences: Sequence[str | os.PathLike[str]] = (),
    secret: bytes | None = None,
    base: Bundle | None = None,
) -> Bundle:
    """Put artifacts into one file, signed: what it is, how good it is, and how to tell on a device.

    The same input gives the same bytes.

    Args:
        artifacts: one, or one a runtime, all of the same model; or their files.
        path: where to write, by convention ``NAME.edge``.
        key: the private key that signs: an elliptic key in a PEM file.
        name: of the model; by default of the bundle's file.
        version: counts up with each release, so that a device can refuse an older one.
        data: where the golden inputs come from (anything that `load_data` takes); by default they
            are random within the signature's range.
        golden: how many golden inputs travel with it; 0 for none.
        preprocessing: what is done to the inputs of that name before they go in.
        measurements: figures to carry along, as `measure` gives them.
        licences: SPDX identifiers, or files with the text of a licence.
        secret: 32 bytes by which it is encrypted (AES-256-GCM), see `read_secret`.
        base: the full bundle of the version that devices have: this one then holds the
            difference to it, and cannot be unpacked without it.

    Returns:
        The bundle, opened without a key.

    Raises:
        InputError: an artifact, the key or an option that cannot be used.
        MissingExtra: `cryptography` or a runtime is not installed.
    """
    given = [artifacts] if isinstance(artifacts, Artifact | str | os.PathLike) else artifacts
    opened = [a if isinstance(a, Artifact) else Artifact.open(a) for a in given]
    if not opened:
        raise InputError("nothing to bundle: give an artifact that `edgewise lower` wrote")
    if len({a.runtime for a in opened}) < len(opened):
        raise InputError("two artifacts are for the same runtime: a bundle holds one for each")
    path = Path(path)
    names, texts = _licences(licences)
    manifest = Manifest(
        name=path.stem if name is None else name,
        version=version,
        artifacts=tuple(opened),
        files=(),
        preprocessing=preprocessing or {},
        measurements=tuple(measurements),
        licences=names,
    )
    arrays: tuple[np.ndarray, ...] = ()
    if golden > 0:
        described, arrays = _golden(opened, data, golden)
        manifest = replace(manifest, golden=described)
    texts[BOM] = bill_of_materials(manifest)
    segments = {a.runtime: segments_of(a) for a in opened}
    contents = Contents(segments, arrays, texts, {} if base is None else _old_files(base))
    write_bundle(path, manifest, contents, private_key=key, secret=secret)
    return open_bundle(path, allow_unsigned=True, secret=secret)


def _old_files(base: Bundle) -> dict[str, tuple[bytes, Sequence[Segment]]]:
    """The files of a bundle, and where their tensors are."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for artifact in base.extract(Path(scratch) / "old"):
            segments = segments_of(artifact)
            for name in artifact.files:
                data = (artifact.path.parent / name).read_bytes()
                found[name] = data, segments.get(name, ())
    return found


def _golden(
    artifacts: Sequence[Artifact], data: Any, count: int
) -> tuple[Golden, tuple[np.ndarray, ...]]:
    """Golden inputs, and what the first artifact gives for them."""
    first = artifacts[0]
    if data is None:
        inputs = tuple(_random(spec, count) for spec in first.signature.inputs)
    else:
        inputs = _from_data(data, first.signature, count)
    runs = [_tuple(artifact.run(*inputs)) for artifact in artifacts]
    outputs = runs[0]
    tolerance = []
    for i, wanted in enumerate(outputs):
        # Other runtimes of the same model may differ by as much as they do here.
        apart = max(float(np.max(np.abs(_float(run[i]) - _float(wanted)))) for run in runs)
        share = max(SHARES.get(a.precision, SHARE_QUANTIZED) for a in artifacts)
        tolerance.append(apart + share * max(float(np.ptp(_float(wanted))), 1e-6))
    described = Golden(
        inputs=_specs(first.signature.inputs, inputs),
        outputs=_specs(first.signature.outputs, outputs),
        tolerance=tuple(tolerance),
        source="random" if data is None else "data",
    )
    return described, (*inputs, *outputs)


def _from_data(data: Any, signature: Signature, count: int) -> tuple[np.ndarray, ...]:
    from ..data import load_data

    given = load_data(data, signature).fit(signature)
    split = given.evaluation or given.calibration or given.training
    return tuple(np.asarray(array) for array in split.take(count)[0])


def _random(spec: TensorSpec, count: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    shape = tuple(count if s is None else s for s in spec.shape)
    # Of few levels, and again after some thousand: as good for a check, and small when coded.
    drawn = np.resize(generator.random(DRAWN), shape)
    if spec.dtype.startswith("float"):
        low, high = spec.range or (-1.0, 1.0)
        return np.linspace(low, high, LEVELS).astype(spec.dtype)[(drawn * LEVELS).astype(int)]
    low, high = spec.range or ((0, 255) if spec.dtype == "uint8" else (0, 1))
    step = max(1, (int(high) - int(low)) // (LEVELS - 1))
    return (low + (drawn * ((high - low) // step + 1)).astype(int) * step).astype(spec.dtype)


def _specs(specs: Sequence[TensorSpec], arrays: Sequence[np.ndarray]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(spec.name, array.shape, str(array.dtype), spec.layout)
        for spec, array in zip(specs, arrays, strict=True)
    )


def _licences(given: Sequence[str | os.PathLike[str]]) -> tuple[tuple[str, ...], dict[str, bytes]]:
    """Names of licences, and the files of those that are files."""
    names, texts = [], {}
    for licence in given:
        path = Path(licence)
        if path.is_file():
            texts[f"licence-{len(texts) + 1}.txt"] = path.read_bytes()
            names.append(path.name)
        elif isinstance(licence, str) and "/" not in licence:
            names.append(licence)
        else:
            raise InputError(f"the licence {licence} does not exist: give a file, or an SPDX name")
    return tuple(names), texts


def _tuple(value: Any) -> tuple[np.ndarray, ...]:
    return value if isinstance(value, tuple) else (value,)


def _float(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64)
