"""Depthwise nets that lose under default int8: what the ladder does about it, rung by rung.

    python -m benchmarks.ladder [--net vww01 kws01 mobilenet_v3 ...] [--max-drop 0.5]

The rungs are judged on one part of the data, and what is reported in the end is measured on
another. ``mobilenet_v3`` is the net of `benchmarks.mobilenet_v3`, trained beforehand;
``mobilenet_v3_uneven`` the same function with channels as folding batch norms may leave them. vww01
has no data of its own: agreement with the float model on crops of ImageNet's validation images
stands in.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import edgewise as ew
from edgewise.edge import runners
from edgewise.model import Model

from . import foreign
from .accuracy import subject
from .mobilenet_v3 import MobileNetV3, images, trained, uneven
from .nets import shared

Runs = Callable[[np.ndarray], np.ndarray]
CALIBRATION = 256
BATCH = 100


@dataclass(frozen=True)
class Subject:
    """A float Model with inputs to calibrate with, to judge rungs on and to report on.

    Attributes:
        judged, reported: inputs and the classes that are right.
        word: what the classes are: labels, or what the float model chooses.
    """

    model: Model
    calibration: np.ndarray
    judged: tuple[np.ndarray, np.ndarray]
    reported: tuple[np.ndarray, np.ndarray]
    word: str = "accuracy"


def vww01() -> Subject:
    """Person or not, of the MLPerf Tiny ``.h5``; five crops of each image."""
    model = ew.load(shared("mlperf_tiny", "vww01", "vww_96.h5"))
    files = sorted((shared("imagenet_val_227") / "images").iterdir())
    pixels = np.concatenate([crops(file) for file in files])
    order = np.random.default_rng(0).permutation(len(files))
    x = pixels.reshape(len(files), 5, 96, 96, 3)[order]
    if model.signature.inputs[0].shape[1:] != (96, 96, 3):
        x = np.ascontiguousarray(x.transpose(0, 1, 4, 2, 3))
    parts = [p.reshape(-1, *x.shape[2:]) for p in np.split(x, (52, 351))]  # of 260, 1495 and 1495
    calibration, judged, reported = parts
    pairs = [(p, choices(model, p)) for p in (judged, reported)]
    return Subject(model, calibration[:CALIBRATION], *pairs, word="agreement with float")


def crops(file) -> np.ndarray:
    """(5, 96, 96, 3) in 0..1: the whole image and its four quarters."""
    boxes = ((0, 0, 227, 227), (0, 0, 150, 150), (77, 0, 227, 150), (0, 77, 150, 227),
             (77, 77, 227, 227))  # fmt: skip
    with Image.open(file) as image:
        whole = image.convert("RGB")
        sized = [whole.resize((96, 96), Image.Resampling.BILINEAR, box) for box in boxes]
    return np.stack([np.asarray(s) for s in sized]).astype(np.float32) / 255


def kws01() -> Subject:
    """Keyword spotting of MLPerf Tiny; of its 1000 samples, every other judges."""
    model, _, x, y = subject("kws01")
    order = np.random.default_rng(0).permutation(len(x))
    half, rest = order[: len(x) // 2], order[len(x) // 2 :]
    return Subject(model, x[half][:CALIBRATION], (x[half], y[half]), (x[rest], y[rest]))


def mobilenet_v3(change: Callable[[MobileNetV3], MobileNetV3] = lambda net: net) -> Subject:
    """The narrow MobileNetV3, on CIFAR-10."""
    x, _, x_test, y_test = (part.numpy() for part in images())
    model = ew.load(change(trained()), example=torch.from_numpy(x[:1]))
    judged, reported = ((x_test[s], y_test[s]) for s in (slice(2000), slice(2000, None)))
    return Subject(model, x[:CALIBRATION], judged, reported)


SUBJECTS = {
    "vww01": vww01,
    "kws01": kws01,
    "mobilenet_v3": mobilenet_v3,
    "mobilenet_v3_uneven": partial(mobilenet_v3, uneven),
}


def by_default(found: Subject) -> Runs:
    """ONNX Runtime's own tool with its defaults, on the same calibration samples."""
    with tempfile.TemporaryDirectory() as folder:
        source = ew.lower(found.model, "onnxruntime", Path(folder) / "float.onnx").path
        path = foreign.by_onnxruntime(source, source.with_stem("int8"), found.calibration)
        runner = runners.open_file("onnxruntime", path, 1)
    return lambda x: np.concatenate([runner.run(x[i : i + 1])[0] for i in range(len(x))])


def choices(model: Runs, x: np.ndarray) -> np.ndarray:
    """The class with the largest output, of each input."""
    parts = (model(x[at : at + BATCH]) for at in range(0, len(x), BATCH))
    return np.concatenate([part.reshape(len(part), -1).argmax(1) for part in parts])


def percent(model: Runs, pairs: tuple[np.ndarray, np.ndarray]) -> float:
    return 100 * float((choices(model, pairs[0]) == pairs[1]).mean())


def main(arguments: list[str] | None = None) -> None:
    """Print the rungs of each network, and what the result loses on data it was not judged on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", nargs="+", choices=SUBJECTS, default=tuple(SUBJECTS))
    parser.add_argument("--max-drop", type=float, default=0.5)
    given = parser.parse_args(arguments)
    for name in given.net:
        found = SUBJECTS[name]()
        data = {"calibration": found.calibration, "evaluation": found.judged}
        before = percent(found.model, found.reported)
        plain = percent(ew.Quantize("int8")(found.model, data), found.reported)
        peer = percent(by_default(found), found.reported)
        print(
            f"{name}: {found.word} {before:.2f}; int8 by default {plain - before:+.2f}, "
            f"by onnxruntime's defaults {peer - before:+.2f}",
            flush=True,
        )
        climb = ew.Ladder(given.max_drop)(found.model, data)
        for line in str(climb).splitlines():
            print(f"  {line}")
        after = percent(climb.model, found.reported)
        held = "held" if climb.held else "not held"
        print(
            f"  {held}; on {len(found.reported[1])} other samples {after:.2f} "
            f"({after - before:+.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
