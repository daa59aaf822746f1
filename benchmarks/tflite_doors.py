"""Every .tflite file of the data, loaded: against LiteRT's own run, and lowered to each runtime.

python -m benchmarks.tflite_doors
python -m benchmarks.tflite_doors --only kws01 --runtime litert

For each file: seconds to load; outputs of the Model, and of the file lowered back to LiteRT,
beside those of the original file in LiteRT: the share of outputs that are equal bit for bit and
the largest difference, in steps of the output's grid (int8) or as a share of the largest output
(float); the share of samples with the same top-1; accuracy where there are labels; and for each
runtime the agreement with the Model that lowering found, or why it refused.

Means of 64 integers (ic01) often end exactly between two: TFLite's own pooling rounds them away
from zero, the Model and every runtime that it is lowered for to even. From there outputs differ.

Exit code 1 if a file does not load within 10 s, if a quantized file that is lowered back gives
other bytes (ic01: another top-1 for more than 1 % of the samples), or if a runtime refuses it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import edgewise as ew
from edgewise.edge.runners import RUNTIMES
from edgewise.edge.runners.litert import sdk
from edgewise.errors import EdgewiseError

from .nets import shared

__all__ = ["main"]

SAMPLES = 64
SLOWEST = 10.0  # seconds


class File(NamedTuple):
    """A file and the real inputs for it."""

    path: Path
    inputs: np.ndarray
    labels: np.ndarray | None = None
    ties: bool = False  # whether it has operators whose results lie between two integers


def files() -> dict[str, File]:
    tiny, mobilenet = shared("mlperf_tiny"), shared("imagenet_mobilenetv2")
    rng = np.random.default_rng(0)
    kws = np.load(tiny / "kws01" / "kws01_eval_mfcc_int8.npz")
    mfcc = (0.5847029 * (kws["x"].astype(np.float32) - 83))[..., None].astype(np.float32)
    cifar = np.load(shared("cifar10", "cifar10_train20k_test10k.npz"))
    pixels, classes = cifar["x_test"][:1000].astype(np.float32), cifar["y_test"][:1000]
    people = rng.uniform(0, 1, (SAMPLES, 96, 96, 3)).astype(np.float32)
    sounds = rng.normal(0, 10, (SAMPLES, 640)).astype(np.float32)
    words = np.load(tiny / "sww01" / "calibration_samples.npz")["specs"].astype(np.float32)
    images, labels = imagenet(SAMPLES)
    return {
        "kws01-float": File(tiny / "kws01/kws_ref_model_float32.tflite", mfcc, kws["y"]),
        "kws01-int8": File(tiny / "kws01/kws_ref_model_int8.tflite", mfcc, kws["y"]),
        "ic01-float": File(tiny / "ic01/pretrainedResnet.tflite", pixels, classes),
        "ic01-int8": File(tiny / "ic01/pretrainedResnet_quant.tflite", pixels, classes, True),
        "vww01-float": File(tiny / "vww01/vww_96_float.tflite", people),
        "vww01-int8": File(tiny / "vww01/vww_96_int8.tflite", people),
        "ad01-float": File(tiny / "ad01/ad01_fp32.tflite", sounds),
        "ad01-int8": File(tiny / "ad01/ad01_int8.tflite", sounds),
        "sww01-int8": File(tiny / "sww01/str_ww_ref_model.tflite", words),
        "mobilenet_v2-ptq": File(mobilenet / "tf2_mobilenet_v2_1.0_224_ptq.tflite", images, labels),
        "mobilenet_v2-uint8": File(mobilenet / "mobilenet_v2_1.0_224_quant.tflite", images, labels),
    }


def imagenet(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images in [-1, 1] and their labels, counted from 1 as these files do."""
    from PIL import Image

    folder = shared("imagenet_val_227")
    rows = (folder / "labels.csv").read_text().splitlines()[1 : count + 1]
    images, labels = [], []
    for row in rows:
        name, label = row.split(",")[:2]
        with Image.open(next(folder.rglob(Path(name).name))) as image:
            images.append(np.asarray(image.convert("RGB"), np.float32)[1:225, 1:225])
        labels.append(int(label) + 1)
    return (np.stack(images) - 127.5) / 127.5, np.array(labels)


class Original:
    """The file in LiteRT, taking and giving real numbers.

    Attributes:
        step: of the grid of its outputs; None for floats.
    """

    def __init__(self, path: Path) -> None:
        self.interpreter = sdk()(str(path), num_threads=1)
        self.interpreter.allocate_tensors()
        (self.taken,) = self.interpreter.get_input_details()
        (self.given,) = self.interpreter.get_output_details()
        self.step = None if self.given["dtype"] is np.float32 else self.given["quantization"][0]

    def integers(self, inputs: np.ndarray) -> np.ndarray:
        scale, zero_point = self.taken["quantization"]
        limits = np.iinfo(self.taken["dtype"])
        steps = np.round(inputs / np.float32(scale)) + zero_point
        return steps.clip(limits.min, limits.max).astype(self.taken["dtype"])

    def settled(self, inputs: np.ndarray) -> np.ndarray:
        """The inputs on the grid that the file takes: nobody has to round them."""
        if self.taken["dtype"] is np.float32:
            return inputs
        return _real(self.integers(inputs), self.taken)

    def run(self, inputs: np.ndarray) -> np.ndarray:
        if self.taken["dtype"] is not np.float32:
            inputs = self.integers(inputs)
        outputs = []
        for sample in inputs:
            self.interpreter.set_tensor(self.taken["index"], sample[None])
            self.interpreter.invoke()
            outputs.append(self.interpreter.get_tensor(self.given["index"])[0])
        result = np.stack(outputs)
        return result if self.step is None else _real(result, self.given)


def _real(integers: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    return (integers.astype(np.float32) - zero_point) * np.float32(scale)


def compared(have: np.ndarray, want: np.ndarray, step: float | None) -> str:
    difference = np.abs(have - want)
    if step is None:
        return f"differs by {difference.max() / np.abs(want).max():.1e}"
    equal, most = (difference < step / 2).mean(), difference.max() / step
    return f"equal {equal:.3%}, at most {most:.0f} steps apart"


def top1(have: np.ndarray, want: np.ndarray) -> float:
    """Share of samples with the same largest output; ties count as equal."""
    chosen = np.take_along_axis(want, have.argmax(1)[:, None], 1)[:, 0]
    return float((chosen == want.max(1)).mean())


def tried(name: str, file: File, runtimes: Sequence[str], folder: Path) -> bool:
    """Print what one file gives, and whether it gives what it must."""
    start = time.perf_counter()
    model = ew.load(file.path)
    seconds = time.perf_counter() - start
    original = Original(file.path)
    inputs, step = original.settled(file.inputs), original.step
    want = original.run(inputs)
    have = np.concatenate([model(part) for part in np.array_split(inputs, 16)])
    good = seconds <= SLOWEST
    same = top1(have, want)
    line = f"{name}: loaded in {seconds:.1f} s; model {compared(have, want, step)}, "
    line += f"same top-1 {same:.2%}"
    if file.labels is not None:
        own, ours = ((x.argmax(1) == file.labels).mean() for x in (want, have))
        line += f"; accuracy {ours:.2%} (LiteRT's own run {own:.2%})"
    print(line, flush=True)
    for runtime in runtimes:
        path = folder / f"{name}{RUNTIMES[runtime].suffixes[0]}"
        try:
            artifact = ew.lower(model, runtime, path, data=inputs[:16])
        except EdgewiseError as error:
            print(f"    {runtime}: {type(error).__name__}: {error}", flush=True)
            good = False
            continue
        agreement = artifact.agreement
        line = f"    {runtime}: {agreement.mean_steps:.4f} steps from the model on average"
        if runtime == "litert":
            again = np.concatenate([artifact.run(x[None]) for x in inputs])
            line += f"; lowered back {compared(again, want, step)}, "
            line += f"same top-1 {top1(again, want):.2%}"
            if step is not None:
                good &= top1(again, want) >= 0.99 if file.ties else np.array_equal(again, want)
        print(line, flush=True)
    return good


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="files whose name begins so")
    parser.add_argument("--runtime", nargs="+", choices=RUNTIMES, default=list(RUNTIMES))
    options = parser.parse_args(arguments)
    good = True
    ew.load(next(iter(files().values())).path)  # what is imported on the way is not counted
    with tempfile.TemporaryDirectory() as folder:
        for name, file in files().items():
            if name.startswith(options.only):
                good &= tried(name, file, options.runtime, Path(folder))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
