"""What a bundle says of itself: `manifest.json`, the member that is read first."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from ...errors import ModelError
from ...record import DTYPES, Measurement, TensorSpec
from ..artifact import Artifact
from ..runners import RUNTIMES
from .container import LARGEST, NAME

__all__ = ["GOLDEN", "MANIFEST", "FileEntry", "Golden", "Manifest", "Preprocessing", "check"]

MANIFEST, GOLDEN = "manifest.json", "golden.bin"
CODED = ".coded"  # suffix of the member that holds a file
FORMAT = 1
LARGEST_GOLDEN = 1 << 28  # bytes
LONGEST_TEXT = 200
# Coding cannot be asked to make more of a member than this many times its size.
MOST_TIMES = 4096
SMALL = 1 << 20
SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class FileEntry:
    """A file that the bundle holds, coded, in the member `name` + ``.coded``.

    Attributes:
        name: in the bundle and where it is unpacked.
        size: in bytes, decoded.
        sha256: of the decoded file.
        base: sha256 of the file that this one is the difference to; None when it stands alone.
        salt: of the encryption; None when the member is not encrypted.
    """

    name: str
    size: int
    sha256: str
    base: str | None = None
    salt: str | None = None


@dataclass(frozen=True)
class Golden:
    """Inputs with the outputs that the artifacts gave for them, to try on every device.

    Attributes:
        inputs: name, full shape and dtype of each array in `GOLDEN`, in this order,
        outputs: and likewise of those that follow them.
        tolerance: for each output the largest absolute difference that passes.
        source: where the inputs came from, ``"data"`` or ``"random"``.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    tolerance: tuple[float, ...]
    source: str


@dataclass(frozen=True)
class Preprocessing:
    """What is done to pixels in 0..1 before they go in: ``(pixel - mean) / std``, by channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Manifest:
    """What is in a bundle.

    Attributes:
        name: of the model.
        version: counts up with each release, so that a device can refuse an older one.
        artifacts: one a runtime; with signature, labels, lineage and agreement.
        files: every file of the bundle, those of the artifacts first.
        golden: None where no inputs were kept.
        preprocessing: by the name of the input.
        measurements: figures that were measured before it was bundled.
        licences: SPDX identifiers, or names, of what the model was made from.
    """

    name: str
    version: int
    artifacts: tuple[Artifact, ...]
    files: tuple[FileEntry, ...]
    golden: Golden | None = None
    preprocessing: dict[str, Preprocessing] = field(default_factory=dict)
    measurements: tuple[Measurement, ...] = ()
    licences: tuple[str, ...] = ()
    format: int = FORMAT

    def file(self, name: str) -> FileEntry | None:
        """The entry of that name."""
        return next((file for file in self.files if file.name == name), None)


def check(manifest: Manifest, members: dict[str, int]) -> None:
    """Hold a manifest against the members that are there, and all its numbers against bounds.

    Args:
        members: sizes of the coded files' members.

    Raises:
        ModelError: what does not fit, in one sentence.
    """
    if manifest.format != FORMAT:
        raise ModelError(
            f"it is of format {manifest.format}, this edgewise reads {FORMAT}: bundle it again, "
            "or install the version that made it"
        )
    if not 0 < len(manifest.name) <= LONGEST_TEXT or not 0 <= manifest.version < 2**53:
        raise ModelError("its name or version is out of bounds")
    if {f.name + CODED for f in manifest.files} != members.keys() or len(members) != len(
        manifest.files
    ):
        raise ModelError("its manifest lists other files than there are")
    for file in manifest.files:
        _check_file(file, members[file.name + CODED])
    if len({a.runtime for a in manifest.artifacts}) != len(manifest.artifacts):
        raise ModelError("it has two artifacts for one runtime")
    for artifact in manifest.artifacts:
        _check_artifact(artifact, manifest)
    if manifest.golden is not None:
        _check_golden(manifest)


def _check_file(file: FileEntry, coded: int) -> None:
    texts = [t for t in (file.sha256, file.base, file.salt) if t is not None]
    if not NAME.fullmatch(file.name.encode()) or not all(map(SHA256.fullmatch, texts)):
        raise ModelError("its manifest has a file whose name or hash no bundle may have")
    if not 0 <= file.size <= LARGEST or file.size > max(SMALL, MOST_TIMES * coded):
        raise ModelError(
            f"'{file.name}' would decode from {coded} to {file.size} bytes, which is refused"
        )


def _check_artifact(artifact: Artifact, manifest: Manifest) -> None:
    runtime = RUNTIMES.get(artifact.runtime)
    name = str(artifact.path)
    if runtime is None or not name.endswith(runtime.suffixes[0]) or name not in artifact.files:
        raise ModelError("its manifest has an artifact that no runtime opens")
    for file, digest in artifact.files.items():
        entry = manifest.file(file)
        if entry is None or entry.sha256 != digest or not file.endswith(runtime.suffixes):
            raise ModelError(f"its manifest has no file '{file}' as the artifact describes it")
    specs = (*artifact.signature.inputs, *artifact.signature.outputs)
    layouts = all(
        sorted(layout) == sorted(spec.layout)
        for spec in specs
        if (layout := artifact.layouts.get(spec.name)) is not None
    )
    if not 1 <= artifact.batch <= SMALL or not layouts or not artifact.signature.inputs:
        raise ModelError("its manifest has an artifact with an impossible batch or layout")


def _check_golden(manifest: Manifest) -> None:
    golden, entry = manifest.golden, manifest.file(GOLDEN)
    arrays = (*golden.inputs, *golden.outputs)
    if (
        entry is None
        or not golden.inputs
        or len(golden.tolerance) != len(golden.outputs)
        or not all(0 <= t < math.inf for t in golden.tolerance)
        or not all(spec.dtype in DTYPES and _positive(spec.shape) for spec in arrays)
        or sum(array_bytes(spec) for spec in arrays) != entry.size
        or entry.size > LARGEST_GOLDEN
    ):
        raise ModelError("its golden inputs are not as its manifest describes them")


def _positive(shape: tuple[int | None, ...]) -> bool:
    return len(shape) <= 8 and all(s is not None and 0 < s <= LARGEST_GOLDEN for s in shape)


def array_bytes(spec: TensorSpec) -> int:
    """Bytes of an array of that full shape."""
    width = 1 if spec.dtype == "bool" else int(re.sub("[a-z]*", "", spec.dtype)) // 8
    return math.prod(spec.shape) * width
