"""Groups of options that several commands share; `app.command` makes options of the fields."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from ..errors import InputError

if TYPE_CHECKING:
    from ..data import Data
    from ..model import Model
    from ..record import Signature

__all__ = ["DataOptions", "ModelOptions", "PixelOptions", "SubjectOptions", "output_file", "shares"]


@dataclass(frozen=True)
class PixelOptions:
    """What the model was trained on. Data are normalised so, or else the model does it itself."""

    mean: Annotated[
        str | None,
        Option(metavar="M,M,M", help="Mean that the model was trained with, of pixels in 0..1."),
    ] = None
    std: Annotated[str | None, Option(metavar="S,S,S", help="Standard deviation, likewise.")] = None
    uint8_input: Annotated[
        bool,
        Option(
            "--uint8-input",
            help="Put the normalisation into the model: it then takes raw uint8 pixels.",
        ),
    ] = False

    @property
    def given(self) -> tuple[list[float], list[float]] | None:
        """Mean and standard deviation, where the caller gave them."""
        if self.mean is None and self.std is None:
            return None
        if self.mean is None or self.std is None:
            raise InputError("--mean and --std belong together: give both")
        return numbers("--mean", self.mean), numbers("--std", self.std)

    @property
    def for_model(self) -> tuple[list[float], list[float]] | None:
        """What `load` puts into the model."""
        return (self.given or ([0.0], [1.0])) if self.uint8_input else None

    @property
    def for_data(self) -> tuple[list[float], list[float]] | None:
        """What `load_data` does to the numbers."""
        return None if self.uint8_input else self.given


@dataclass(frozen=True)
class ModelOptions:
    """A model, from a file or from a user's own code."""

    model: Annotated[
        str, Argument(metavar="MODEL", help="A model file, or package.module:factory.")
    ]
    weights: Annotated[
        Path | None,
        Option(metavar="FILE", help="Weights of the factory's module: .pt, .pth or .safetensors."),
    ] = None
    input: Annotated[
        list[str] | None,
        Option(
            metavar="SHAPE",
            help="Shape of one sample for the factory's module, as 3,32,32 or 128:int64; "
            "once an input.",
        ),
    ] = None
    signature: Annotated[
        str | None,
        Option(metavar="NAME", help="Of a .tflite file that has several: the one to take."),
    ] = None

    def open(self, pixels: PixelOptions | None = None) -> Model:
        """Load it."""
        from .. import load
        from .app import working

        with working(f"loading {self.model}"):
            return load(
                self.model,
                None if self.input is None else tuple(_example(text) for text in self.input),
                weights=self.weights,
                normalize=pixels and pixels.for_model,
                signature=self.signature,
            )

    @property
    def path(self) -> Path:
        """The model's file, or what it would be called."""
        return Path(self.model.rpartition(":")[2] if ":" in self.model else self.model)


@dataclass(frozen=True)
class SubjectOptions:
    """What is measured."""

    subjects: Annotated[
        list[str],
        Argument(
            metavar="MODEL|ARTIFACT...",
            help="Files that `edgewise lower` wrote; x.pt2; package.module:factory.",
        ),
    ]
    weights: Annotated[
        Path | None, Option(metavar="FILE", help="Weights of the factory's module.")
    ] = None
    input: Annotated[
        list[str] | None,
        Option(metavar="SHAPE", help="Shape of one sample for the factory's module, as 3,32,32."),
    ] = None

    def open(self, pixels: PixelOptions) -> list[Model | str]:
        """Models from factories and those that are to be normalised; paths as they are."""
        from ..data.factory import is_factory

        if (self.weights or self.input) and not any(map(is_factory, self.subjects)):
            raise InputError("--weights and --input are for package.module:factory: leave them out")
        return [
            ModelOptions(subject, self.weights, self.input).open(pixels)
            if is_factory(subject) or (pixels.uint8_input and subject.endswith(".pt2"))
            else subject
            for subject in self.subjects
        ]


@dataclass(frozen=True)
class DataOptions:
    """Real data."""

    data: Annotated[
        str | None,
        Option(
            metavar="DATA",
            help="x.npz, a folder of images by class, a .csv, .tsv or .parquet table, or "
            "package.module:factory.",
        ),
    ] = None
    target: Annotated[
        str | None, Option(metavar="COLUMN", help="The table's column to be predicted.")
    ] = None
    classes: Annotated[
        str | None,
        Option(metavar="A,B,C", help="Names of the classes in the order of the outputs."),
    ] = None
    resize: Annotated[
        str | None,
        Option(metavar="PIXELS|squash", help="Scale images' shorter side and cut, or both sides."),
    ] = None
    scale: Annotated[
        str | None, Option(metavar="FACTOR", help="Factor on every number, as 1/255 or 1.")
    ] = None
    seed: Annotated[int, Option(metavar="N", help="Seed of every draw of samples.")] = 0

    def open(
        self, signature: Signature | None, pixels: PixelOptions, calibration: int = 256
    ) -> Data | None:
        """Load them as the model takes them; None when no data are given."""
        if self.data is None:
            if pixels.for_data is not None:
                raise InputError(
                    "there are no data that --mean and --std could normalise: give --data, or "
                    "--uint8-input to put them into the model"
                )
            return None
        from .. import load_data

        return load_data(
            self.data,
            signature,
            target=self.target,
            classes=None if self.classes is None else self.classes.split(","),
            resize=int(self.resize) if (self.resize or "").isdecimal() else self.resize,
            scale=None if self.scale is None else number("--scale", self.scale),
            normalize=pixels.for_data,
            calibration=calibration,
            seed=self.seed,
        )


def number(option: str, text: str) -> float:
    """A number, or a fraction as ``1/255``.

    Raises:
        InputError: it is neither.
    """
    try:
        return float(Fraction(text.strip()))
    except (ValueError, ZeroDivisionError):
        raise InputError(f"{option} takes a number, found '{text}'") from None


def numbers(option: str, text: str) -> list[float]:
    """Numbers with commas between."""
    return [number(option, part) for part in text.split(",")]


def shares(given: list[str] | None, default: float) -> float | dict[str, float]:
    """One share (``--amount 0.3``), or shares by name (``--amount layer1.*=0.5``).

    Raises:
        InputError: both kinds, or several of the first.
    """
    if not given:
        return default
    pairs = [text.rpartition("=") for text in given]
    if all(name for name, _, _ in pairs):
        return {name: number("--amount", share) for name, _, share in pairs}
    if len(pairs) > 1:
        raise InputError("give --amount once as SHARE, or for each group as GROUP=SHARE")
    return number("--amount", given[0])


def output_file(path: Path, *inputs: str | os.PathLike[str]) -> Path:
    """A file that can be written, as far as that is known before the work begins.

    Raises:
        InputError: its folder is missing or closed, or it is one of the inputs.
    """
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist: create it first")
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a file")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"the folder {path.parent} cannot be written: choose another")
    if any(path.exists() and Path(p).exists() and path.samefile(p) for p in inputs):
        raise InputError(f"{path} is an input of this command: give another name for the output")
    return path


def _example(text: str) -> Any:
    """A tensor of zeros of the shape ``3,32,32`` or ``128:int64``, one sample in it."""
    import torch

    shape, _, dtype = text.partition(":")
    kind = getattr(torch, dtype or "float32", None)
    try:
        sizes = [int(size) for size in shape.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1 or not isinstance(kind, torch.dtype):
        raise InputError(f"--input takes sizes, as 3,32,32 or 128:int64, found '{text}'")
    return torch.zeros(1, *sizes, dtype=kind)
