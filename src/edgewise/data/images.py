"""Folders of images by class, decoded when they are asked for."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, MissingExtra
from ..record import Signature
from .labels import class_order
from .options import Options
from .split import Batch, Parts

__all__ = ["Images", "is_folder", "open_folder"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's name by number of channels
DEEP = ("I", "F")  # modes with more than 8 bits, which Pillow would clip
MOST_PIXELS = 64_000_000  # of one image, 192 MB decoded

PARTS = {"train": "training", "val": "evaluation", "test": "evaluation"}


@dataclass(frozen=True, eq=False)
class Images:
    """Image files, read as uint8 (n, height, width, channels); classes are int64 (n,).

    Orientation tags are not applied and transparency is dropped, as torchvision does.

    Attributes:
        size: height and width that the model takes; None leaves images as they are.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA); files of another kind are converted.
    """

    name: str
    files: tuple[Path, ...]
    classes: np.ndarray | None
    labels: tuple[str, ...]
    resize: int | str | None = None
    size: tuple[int, int] | None = None
    channels: int = 3

    def __len__(self) -> int:
        return len(self.files)

    @property
    def labelled(self) -> bool:
        return self.classes is not None

    def where(self, index: int) -> str:
        return str(self.files[index])

    def read(self, indices: np.ndarray) -> Batch:
        from PIL import Image

        files = [self.files[i] for i in indices]
        with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MOST_PIXELS is less
            images = list(pool.map(self._decode, files))
        for file, image in zip(files, images, strict=True):
            if image.shape != images[0].shape:
                raise DataError(
                    f"{file} is {_size(image)} and {files[0]} is {_size(images[0])}: give the "
                    "model's signature, and resize= to bring them to its size"
                )
        targets = None if self.classes is None else self.classes[indices]
        return (np.stack(images),), targets

    def fit(self, signature: Signature) -> Images:
        spec = signature.inputs[0]
        axes = [spec.layout.find(letter) for letter in "HWC"]
        if len(signature.inputs) != 1 or min(axes) < 0 or len(spec.shape) != len(spec.layout):
            raise DataError(
                f"{self.name} holds images, and the model does not take one image (layout NCHW or "
                f"NHWC): input '{spec.name}' has layout '{spec.layout}'"
            )
        height, width, channels = (spec.shape[axis] for axis in axes)
        if channels not in MODES:
            raise DataError(
                f"{self.name} holds images, and input '{spec.name}' takes {channels} channels: "
                "images have 1, 3 or 4"
            )
        if isinstance(self.resize, int) and self.resize < max(height, width):
            raise DataError(
                f"resize={self.resize} is less than the model's {height}x{width}: give at least "
                f"{max(height, width)}"
            )
        return replace(self, size=(height, width), channels=channels)

    def _decode(self, file: Path) -> np.ndarray:
        """One image as uint8 (height, width, channels)."""
        from PIL import Image

        try:
            with Image.open(file, formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise DataError(
                        f"{file} has {image.width}x{image.height} pixels, more than "
                        f"{MOST_PIXELS // 10**6} million: scale it down or leave it out"
                    )
                if image.mode.startswith(DEEP):
                    raise DataError(
                        f"{file} has more than 8 bits a channel: convert it to 8 bits, or give "
                        "the data as .npz"
                    )
                image = self._resized(image.convert(MODES[self.channels]), file)
        except DataError:
            raise
        except Exception as error:  # Pillow's decoders raise many kinds on a damaged file
            raise DataError(f"{file} cannot be decoded as an image: {error}") from error
        pixels = np.asarray(image)
        return pixels[..., None] if pixels.ndim == 2 else pixels

    def _resized(self, image: Any, file: Path) -> Any:
        """At the model's size, bilinear and antialiased, if there is a size to come to."""
        from PIL.Image import Resampling

        if self.size is None:
            return image
        height, width = self.size
        if isinstance(self.resize, int):
            shorter = min(image.size)
            to = [int(self.resize * side / shorter) for side in image.size]
            image = image.resize(to, Resampling.BILINEAR)
            left, top = round((image.width - width) / 2), round((image.height - height) / 2)
            return image.crop((left, top, left + width, top + height))
        if image.size == (width, height):
            return image
        if self.resize == "squash":
            return image.resize((width, height), Resampling.BILINEAR)
        raise DataError(
            f"{file} is {image.height}x{image.width} and the model takes {height}x{width}: give "
            f"resize={max(height, width)} or more (shorter side scaled to it, centre cut out) or "
            "resize='squash' (both sides scaled)"
        )


def is_folder(source: Any) -> bool:
    return isinstance(source, Path) and source.is_dir()


def open_folder(folder: Path, options: Options, signature: Signature | None) -> Parts:
    """``folder/<class>/*.png``, or that in ``train`` and ``test`` (or ``val``), or bare images.

    Images that lie in no class folder have no targets. With both ``test`` and ``val``, ``test`` is
    the evaluation split and ``val`` is left alone.

    Raises:
        DataError: no image, or classes in ``test`` that ``train`` has not.
    """
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise MissingExtra("Pillow, which reads images,", "compress") from None
    given = {part: folder / part for part in PARTS if (folder / part).is_dir()}
    if "test" in given:
        given.pop("val", None)
    if len(given) < 2:  # one part alone is divided like a folder without parts
        role = "evaluation" if given and "train" not in given else "whole"
        found = {role: _by_class(next(iter(given.values()), folder))}
    else:
        found = {PARTS[part]: _by_class(path) for part, path in given.items()}
    names = {name for part in found.values() for name in part} - {""}
    if "training" in found and (strange := found["evaluation"].keys() - found["training"].keys()):
        raise DataError(
            f"{folder} has the class '{min(strange)}' for evaluation and not for training: add it "
            "there or remove it here"
        )
    labels = class_order(names, options.classes, signature, str(folder)) if names else ()
    return Parts({role: _images(folder, part, labels, options) for role, part in found.items()})


def _images(
    folder: Path, by_class: dict[str, list[Path]], labels: tuple[str, ...], options: Options
) -> Images:
    files = tuple(file for part in by_class.values() for file in part)
    classes = None
    if labels:
        index = {name: i for i, name in enumerate(labels)}
        classes = np.array([index[name] for name, part in by_class.items() for _ in part], np.int64)
    return Images(str(folder), files, classes, labels, options.resize)


def _by_class(folder: Path) -> dict[str, list[Path]]:
    """The image files of each class folder, sorted; bare images, if there is no such folder, as "".

    Folders without images are no classes, and hidden files are no images.
    """
    seen = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    found = {path.name: _files(path) for path in seen if path.is_dir()}
    found = {name: files for name, files in found.items() if files} or {"": _files(folder)}
    if not any(found.values()):
        raise DataError(f"{folder} holds no image: put them in one folder a class, as .png or .jpg")
    return found


def _files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _size(image: np.ndarray) -> str:
    return f"{image.shape[0]}x{image.shape[1]}"
