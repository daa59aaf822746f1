"""ResNet-20 and MLPerf Tiny's keyword spotting on emulated Arm cores, beside the host.

Each network, in float and in int8, through LiteRT and ONNX Runtime with their real aarch64 wheels:
how often the file puts the same class first on the Cortex-A53, -A72 or -A76 as here, how far its
outputs are off, and its accuracy on both. 200 samples of the evaluation data. Time on an emulated
core means nothing and is not given.

    python -m benchmarks.emulated [--cpu cortex-a72] [--net resnet20] [--samples 200]

The first run fetches qemu and a Debian root into the user's cache (about 250 MB).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import edgewise as ew
from edgewise.devices import connect
from edgewise.model import Model

from .nets import SHARED, load

__all__ = ["NETS", "cells", "samples"]

OUT = Path(__file__).parent / "out" / "emulated"
NETS = ("resnet20", "kws01")
CPUS = ("cortex-a72", "cortex-a76")
FILES = {"litert": "tflite", "onnxruntime": "onnx"}
LEAST = 0.999  # agreement with the host


def network(name: str) -> tuple[Model, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """A Model, inputs to calibrate on, and the evaluation inputs with their labels."""
    if name == "kws01":
        folder = SHARED / "mlperf_tiny" / "kws01"
        # Its arithmetic is float; its weights were rounded to int8 and stay those numbers.
        model = ew.Dequantize()(ew.load(folder / "kws_ref_model_float32.tflite"))
        with np.load(folder / "kws01_eval_mfcc_int8.npz") as data:
            spec = model.signature.inputs[0]
            x = (0.5847029 * (data["x"].astype(np.float32) - 83)).astype(np.float32)
            x = x.reshape(-1, *spec.shape[1:])
            return model, x[500:], (x[:500], data["y"][:500].astype(np.int64))
    net = load(name)
    model = ew.load(net.module, example=net.example)
    return model, net.calibration, (net.inputs, net.labels)


def samples(name: str, count: int) -> tuple[Model, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """`network` with so many evaluation samples."""
    model, calibration, (x, y) = network(name)
    return model, calibration, (x[:count], y[:count])


def cells(name: str, count: int) -> Iterator[tuple[ew.Artifact, dict[str, object]]]:
    """Every file of a network, with the data to judge it on."""
    model, calibration, (x, y) = samples(name, count)
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    int8 = ew.Quantize("int8")(model, {"calibration": calibration[:256]})
    for precision, made in (("float", model), ("int8", int8)):
        for runtime, suffix in FILES.items():
            artifact = ew.lower(made, runtime, folder / f"{precision}.{suffix}")
            yield artifact, {"evaluation": (x, y)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cpu", nargs="+", default=CPUS)
    parser.add_argument("--net", nargs="+", choices=NETS, default=NETS)
    parser.add_argument("--samples", type=int, default=200)
    given = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    print("| network | file | core | samples | as here | most steps | accuracy there | here |")
    print("|---|---|---|---|---|---|---|---|")
    short = 0
    with (OUT / "emulated.jsonl").open("a") as log:
        for name in given.net:
            for artifact, data in cells(name, given.samples):
                here = ew.measure(artifact, data, runs=1, threads=1)
                for cpu in given.cpu:
                    with connect(f"emulated:{cpu}") as place:
                        there = ew.measure(artifact, data, device=place, threads=1)
                    agreement = there.device_agreement
                    short += agreement.top1 < LEAST
                    print(
                        f"| {name} | {artifact.path.name} | {cpu} | {agreement.n} | "
                        f"{agreement.top1:.2%} | {agreement.max_steps:.3g} | {there.value:.2%} | "
                        f"{here.value:.2%} |",
                        flush=True,
                    )
                    row = {
                        "net": name, "file": artifact.path.name, "cpu": cpu, "n": agreement.n,
                        "top1": agreement.top1, "max_steps": agreement.max_steps,
                        "accuracy": there.value, "host": here.value,
                        "memory_bytes": there.memory_bytes, "versions": there.versions,
                    }  # fmt: skip
                    print(json.dumps(row), file=log, flush=True)
    raise SystemExit(short > 0)


if __name__ == "__main__":
    main()
