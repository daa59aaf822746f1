"""Commands about bundles: bundle, verify, unbundle."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from .app import Answer, command, working
from .options import DataOptions, PixelOptions, output_file

if TYPE_CHECKING:
    from ..edge.bundle import Bundle, GoldenCheck

__all__ = ["bundle", "unbundle", "verify"]

SecretOption = Annotated[
    str | None,
    Option(
        metavar="SOURCE",
        help="Key of 32 bytes for AES-256-GCM, from file:PATH, env:NAME or command:LINE.",
    ),
]
BundleArgument = Annotated[Path, Argument(metavar="BUNDLE", help="What `edgewise bundle` wrote.")]


@dataclass(frozen=True)
class TrustOptions:
    """How a bundle is opened."""

    key: Annotated[
        Path | None,
        Option(metavar="PUBLIC.pem", help="Public key of who signed it, or trusted certificates."),
    ] = None
    allow_unsigned: Annotated[
        bool,
        Option("--allow-unsigned", help="Take it without a key: hashes tell accidents only."),
    ] = False
    secret: SecretOption = None

    def open(self, path: Path) -> Bundle:
        """Open it and check its signature and every hash."""
        from ..edge.bundle import open_bundle

        return open_bundle(
            path, self.key, allow_unsigned=self.allow_unsigned, secret=_secret(self.secret)
        )


@command
def bundle(
    artifacts: Annotated[
        list[Path],
        Argument(metavar="ARTIFACT...", help="Files that `edgewise lower` wrote, one a runtime."),
    ],
    data: DataOptions,
    pixels: PixelOptions,
    output: Annotated[
        Path, Option("--output", "-o", metavar="NAME.edge", help="Where the bundle goes.")
    ],
    key: Annotated[
        Path | None,
        Option(metavar="PRIVATE.pem", help="Elliptic key that signs, perhaps with certificates."),
    ] = None,
    name: Annotated[str | None, Option(help="Of the model. Default: the file's.")] = None,
    version: Annotated[
        int, Option(metavar="N", help="Counts up, so that a device can refuse an older one.")
    ] = 1,
    golden: Annotated[
        int, Option(metavar="N", help="Inputs with their outputs to try on every device.")
    ] = 4,
    licence: Annotated[
        list[str] | None,
        Option(metavar="SPDX|FILE", help="Of what the model was made from; repeatable."),
    ] = None,
    figures: Annotated[
        Path | None, Option(metavar="FILE.json", help="Figures that `measure -o` kept.")
    ] = None,
    secret: SecretOption = None,
    base: Annotated[
        Path | None,
        Option(metavar="OLD.edge", help="Hold only the difference to this full bundle."),
    ] = None,
) -> Answer:
    """Artifacts as one file, signed, for devices."""
    from .. import Artifact
    from .. import bundle as write
    from ..edge.bundle import Preprocessing, open_bundle
    from ..reporting.report import read

    output_file(output, *artifacts, *([base] if base else []))
    opened = [Artifact.open(path) for path in artifacts]
    signature = opened[0].signature
    samples = data.open(signature, pixels)
    steps = {}
    if pixels.given is not None:
        mean, std = pixels.given
        steps = {signature.inputs[0].name: Preprocessing(tuple(mean), tuple(std))}
    key_bytes = _secret(secret)
    with working("coding the weights"):
        made = write(
            opened,
            output,
            key=key,
            name=name,
            version=version,
            data=samples,
            golden=golden,
            preprocessing=steps,
            measurements=tuple(row.measurement for row in read(figures).rows) if figures else (),
            licences=licence or (),
            secret=key_bytes,
            base=open_bundle(base, allow_unsigned=True, secret=key_bytes) if base else None,
        )
    with made:
        return _answer(made)


@command
def verify(
    path: BundleArgument,
    trust: TrustOptions,
    base: Annotated[
        Path | None, Option(metavar="DIR", help="Files of the version that it is an update to.")
    ] = None,
    run: Annotated[
        bool, Option("--run", help="Also run the golden inputs through every artifact.")
    ] = False,
) -> Answer:
    """Check a bundle: signature, hashes; with --run, golden inputs.

    Exit code 1 when an artifact does not give the outputs that it should, 2 when the bundle is
    not what was signed.
    """
    with trust.open(path) as opened, tempfile.TemporaryDirectory() as scratch:
        artifacts = opened.extract(Path(scratch) / "bundle", base)
        checks = {a.runtime: opened.check(a) for a in artifacts} if run else {}
        return _answer(opened, checks)


@command
def unbundle(
    path: BundleArgument,
    trust: TrustOptions,
    output: Annotated[Path, Option("--output", "-o", metavar="DIR", help="A new folder.")],
    base: Annotated[
        Path | None, Option(metavar="DIR", help="Files of the version that it is an update to.")
    ] = None,
) -> Answer:
    """Check a bundle and write its files into a folder."""
    with trust.open(path) as opened:
        opened.extract(output, base)
        return _answer(opened)


def _secret(source: str | None) -> bytes | None:
    from ..edge.bundle import read_secret

    return None if source is None else read_secret(source)


def _answer(opened: Bundle, checks: dict[str, GoldenCheck] | None = None) -> Answer:
    from ..reporting import bundles

    manifest = opened.manifest
    found: dict[str, Any] = {
        "bundle": opened.path,
        "bytes": opened.path.stat().st_size,
        "sha256": opened.sha256,
        "verified": opened.signed,
        "name": manifest.name,
        "version": manifest.version,
        "artifacts": [
            {"runtime": a.runtime, "precision": a.precision, "sha256": a.sha256}
            for a in manifest.artifacts
        ],
        "files": {file.name: file.size for file in manifest.files},
        "golden": checks or {},
    }
    failed = any(not check.passed for check in (checks or {}).values())
    return Answer(found, lambda: bundles.bundle(found), code=1 if failed else 0)
