"""What quantization costs: every remedy on every network, over the whole test set.

python -m benchmarks.accuracy                        weights of 8 bits
python -m benchmarks.accuracy --bits 4 --net resnet56

Each row is one way to quantize, judged on LiteRT, whose integers are the Model's. The Ladder's rows
say which rung it stopped at; its rungs are judged on a part of the same test set.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import edgewise as ew
from edgewise.model import Model

from .nets import load, shared

NETS = ("resnet20", "resnet32", "resnet56", "mobilenet_v2", "resnet8", "kws01")
CALIBRATION = 256


def subject(name: str) -> tuple[Model, np.ndarray, np.ndarray, np.ndarray]:
    """The float Model, calibration inputs, test inputs and labels."""
    if name == "resnet8":
        model = ew.load(shared("mlperf_tiny", "ic01", "pretrainedResnet.h5"))
        data = np.load(shared("cifar10", "cifar10_train20k_test10k.npz"))
        inputs = (data["x_train"][:CALIBRATION], data["x_test"])
        return model, *(x.astype(np.float32) for x in inputs), data["y_test"].astype(np.int64)
    if name == "kws01":
        # Its "float" file holds int8 weights already; its samples serve for both purposes.
        model = ew.load(shared("mlperf_tiny", "kws01", "kws_ref_model_float32.tflite"))
        data = np.load(shared("mlperf_tiny", "kws01", "kws01_eval_mfcc_int8.npz"))
        x = 0.5847029 * (data["x"].astype(np.float32) - 83)
        x = x.reshape(len(x), *model.signature.inputs[0].shape[1:])
        return ew.Dequantize()(model), x[:CALIBRATION], x, data["y"].astype(np.int64)
    net = load(name)
    return ew.load(net.module, example=net.example), net.calibration, net.inputs, net.labels


def accuracy(model: Model, x: np.ndarray, y: np.ndarray) -> float:
    """Percent right, through LiteRT."""
    with tempfile.TemporaryDirectory() as folder:
        artifact = ew.lower(model, "litert", Path(folder) / "net.tflite", data=x[:64])
        right = [artifact.run(x[i : i + 1]).argmax() == y[i] for i in range(len(x))]
    return 100 * float(np.mean(right))


def ways(bits: int, max_drop: float) -> dict[str, Callable[[Model, dict], Model]]:
    """Name of a remedy -> float Model and data to quantized Model."""

    def plain(ranges: str) -> ew.Quantize:
        return ew.Quantize("int8", weight_bits=bits, ranges=ranges)

    return {
        "min-max": lambda m, d: plain("minmax")(m, d),
        "auto": lambda m, d: plain("auto")(m, d),
        "auto, equalized": lambda m, d: plain("auto")(ew.Equalize()(m), d),
        "min-max, bias correction": lambda m, d: ew.RoundWeights("nearest")(
            plain("minmax")(m, d), d
        ),
        "auto, bias correction": lambda m, d: ew.RoundWeights("nearest")(plain("auto")(m, d), d),
        "min-max, GPTQ": lambda m, d: ew.RoundWeights()(plain("minmax")(m, d), d),
        "auto, GPTQ": lambda m, d: ew.RoundWeights()(plain("auto")(m, d), d),
        "auto, AdaRound": lambda m, d: ew.RoundWeights("adaround")(plain("auto")(m, d), d),
        f"ladder to {max_drop}": lambda m, d: climbed(ew.Ladder(max_drop, weight_bits=bits)(m, d)),
    }


def climbed(climb) -> Model:
    print(f"    {' / '.join(str(climb).splitlines())}", flush=True)
    return climb.model


def main(arguments: list[str] | None = None) -> None:
    """Print one row for each network and remedy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", nargs="+", choices=NETS, default=NETS)
    parser.add_argument("--bits", type=int, default=8, help="of the weights")
    parser.add_argument("--max-drop", type=float, default=0.1)
    parser.add_argument("--way", nargs="+", help="only these remedies")
    given = parser.parse_args(arguments)
    for name in given.net:
        model, calibration, x, y = subject(name)
        data = {"calibration": calibration, "evaluation": (x, y)}
        before = accuracy(model, x, y)
        print(f"{name}, {len(x):,} samples: float {before:.2f}", flush=True)
        for way, make in ways(given.bits, given.max_drop).items():
            if given.way is None or way in given.way:
                start = time.perf_counter()
                small = make(model, data)
                seconds = time.perf_counter() - start
                after = accuracy(small, x, y)
                print(
                    f"  {way:<25} {after:.2f} ({after - before:+.2f}), {seconds:.1f} s", flush=True
                )


if __name__ == "__main__":
    main()
